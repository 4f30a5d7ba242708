/* softmax, log_softmax and their derivatives over the middle axis of (outer, K, inner).
 *
 *   softmax       y = e / sum(e), e = exp(x - max x)          backward   y (g - sum(g y))
 *   log_softmax   y = (x - max x) - log(sum(e))               backward   g - exp(y) sum(g)
 *
 * Where inner is 1 vectors run along a row; otherwise along inner, one column a lane. Sums of a row are taken in
 * vectors, a run of SUM_TERMS at a time, and the totals of the runs in double: the error does not grow with K.
 */
#define SOFTMAX_BLOCK 4096 /* elements */
#define SHORT_ROW 32       /* elements of rows that are taken several at a time */
#define SUM_TERMS 128      /* that one lane adds up */
#define ROW_RUN (SUM_TERMS * LANES)
#define ROW_AHEAD (4096 / (ptrdiff_t)sizeof(REAL)) /* at most, that a pass over a row asks memory for what comes */

static const REAL lane_number[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* p[0 .. n-1]; the lanes beyond hold fill. */
INLINE vec v_load_or(const REAL *p, ptrdiff_t n, REAL fill) {
    return v_blend(v_lt(v_load(lane_number), v_set1((REAL)n)), v_load_n(p, n), v_set1(fill));
}

INLINE vec v_load_some(const REAL *p, ptrdiff_t n) { /* n <= LANES */
    return n == LANES ? v_load(p) : v_load_n(p, n);
}

INLINE void v_store_some(REAL *p, vec v, ptrdiff_t n) {
    if (n == LANES)
        v_store(p, v);
    else
        v_store_n(p, v, n);
}

/* The logarithm of each lane. */
INLINE vec v_log_lanes(vec v) {
    REAL lane[LANES];
    v_store(lane, v);
    for (int i = 0; i < LANES; i++)
        lane[i] = (REAL)log((double)lane[i]);
    return v_load(lane);
}

/* The largest element of a row; NaN counts or not, as what is computed from such a row is NaN anyway. */
static REAL row_max(const REAL *x, ptrdiff_t n) {
    vec m[4];
    UNROLL for (int j = 0; j < 4; j++) m[j] = v_set1(-(REAL)INFINITY);
    ptrdiff_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        UNROLL for (int j = 0; j < 4; j++) m[j] = v_max(m[j], v_load(x + i + j * LANES));
    for (; i < n; i += LANES)
        m[0] = v_max(m[0], n - i < LANES ? v_load_or(x + i, n - i, -(REAL)INFINITY) : v_load(x + i));
    REAL lane[LANES];
    v_store(lane, v_max(v_max(m[0], m[1]), v_max(m[2], m[3])));
    for (int half = LANES / 2; half; half /= 2)
        for (int j = 0; j < half; j++)
            lane[j] = lane[j] > lane[j + half] ? lane[j] : lane[j + half];
    return lane[0];
}

/* e^x for x <= 0: what v_exp does, without what only larger x need. */
INLINE vec v_exp_negative(vec x) {
    const vec magic = v_set1(ROUND_MAGIC);
    x = v_max(v_set1(EXP_LOW), x);
    vec n = (x * v_set1(LOG2_E) + magic) - magic, r = (x - n * v_set1(LN2_HIGH)) - n * v_set1(LN2_LOW);
    return v_scale(v_set1(1) + (r * r * v_polynomial(r, exp_q, COUNT(exp_q)) + r), v_power_of(n));
}

/* Sum of exp(x - max) over a row; the terms go to y where that is not NULL. What is read next, the next row where rows
 * are short, is asked for meanwhile: the sweep for the maximum does not compute enough to wait for memory. */
NOINLINE double row_exp(const REAL *x, REAL max, REAL *y, ptrdiff_t n) {
    const vec top = v_set1(max);
    const ptrdiff_t ahead = MIN(n, ROW_AHEAD);
    double total = 0;
    for (ptrdiff_t start = 0; start < n; start += ROW_RUN) {
        ptrdiff_t i = start, stop = MIN(start + ROW_RUN, n);
        vec sum = v_zero();
        for (; i + LANES <= stop; i += LANES) {
            vec e = v_exp_negative(v_load(x + i) - top);
            PREFETCH_READ(x + i + ahead);
            if (y) {
                PREFETCH_WRITE(y + i + STREAM_AHEAD);
                v_store(y + i, e);
            }
            sum += e;
        }
        if (i < stop) {
            vec e = v_exp_negative(v_load_or(x + i, stop - i, -(REAL)INFINITY) - top);
            if (y)
                v_store_n(y + i, e, stop - i);
            /* where max is infinite the lanes beyond are NaN, as is the row */
            sum += e;
        }
        total += v_sum(sum);
    }
    return total;
}

static void softmax_row(int is_log, const REAL *x, REAL *y, ptrdiff_t K) {
    REAL max = row_max(x, K);
    double total = row_exp(x, max, is_log ? NULL : y, K);
    vec top = v_set1(max), factor = v_set1((REAL)(1 / total)), shift = v_set1(is_log ? (REAL)log(total) : 0);
    ptrdiff_t i = 0;
    for (; i + LANES <= K; i += LANES)
        v_store(y + i, is_log ? (v_load(x + i) - top) - shift : v_load(y + i) * factor);
    if (i < K)
        v_store_n(y + i, is_log ? (v_load_n(x + i, K - i) - top) - shift : v_load_n(y + i, K - i) * factor, K - i);
}

/* One column a lane: n columns of K elements, `step` apart. */
NOINLINE void softmax_columns(int is_log, const REAL *x, REAL *y, ptrdiff_t K, ptrdiff_t step, ptrdiff_t n) {
    vec max = v_load_some(x, n), total = v_zero();
    for (ptrdiff_t k = 1; k < K; k++)
        max = v_max(max, v_load_some(x + k * step, n));
    for (ptrdiff_t start = 0; start < K; start += SUM_TERMS) { /* sums of sums: the error grows with neither */
        vec sum = v_zero();
        for (ptrdiff_t k = start; k < MIN(start + SUM_TERMS, K); k++) {
            vec e = v_exp_negative(v_load_some(x + k * step, n) - max);
            if (!is_log)
                v_store_some(y + k * step, e, n);
            sum += e;
        }
        total += sum;
    }
    vec shift = is_log ? v_log_lanes(total) : v_set1(1) / total;
    for (ptrdiff_t k = 0; k < K; k++) {
        vec v = is_log ? (v_load_some(x + k * step, n) - max) - shift : v_load_some(y + k * step, n) * shift;
        v_store_some(y + k * step, v, n);
    }
}

static void softmax_gradient_row(int is_log, const REAL *g, const REAL *y, REAL *out, ptrdiff_t K) {
    double total = 0;
    for (ptrdiff_t start = 0; start < K; start += ROW_RUN) {
        ptrdiff_t stop = MIN(start + ROW_RUN, K);
        vec sum = v_zero(), more = sum;
        ptrdiff_t i = start;
        for (; i + 2 * LANES <= stop; i += 2 * LANES) {
            vec v = v_load(g + i), w = v_load(g + i + LANES);
            sum += is_log ? v : v * v_load(y + i);
            more += is_log ? w : w * v_load(y + i + LANES);
        }
        for (; i < stop; i += LANES) {
            ptrdiff_t n = MIN(LANES, stop - i);
            vec v = v_load_some(g + i, n);
            sum += is_log ? v : v * v_load_some(y + i, n);
        }
        total += v_sum(sum + more);
    }
    vec sum = v_set1((REAL)total);
    ptrdiff_t i = 0;
    for (; i + LANES <= K; i += LANES) {
        vec v = v_load(g + i), w = v_load(y + i);
        v_store(out + i, is_log ? v - v_exp(w) * sum : w * (v - sum));
    }
    if (i < K) {
        vec v = v_load_n(g + i, K - i), w = v_load_n(y + i, K - i);
        v_store_n(out + i, is_log ? v - v_exp(w) * sum : w * (v - sum), K - i);
    }
}

NOINLINE void softmax_gradient_columns(int is_log, const REAL *g, const REAL *y, REAL *out, ptrdiff_t K, ptrdiff_t step,
                                       ptrdiff_t n) {
    vec total = v_zero();
    for (ptrdiff_t start = 0; start < K; start += SUM_TERMS) {
        vec sum = v_zero();
        for (ptrdiff_t k = start; k < MIN(start + SUM_TERMS, K); k++) {
            vec v = v_load_some(g + k * step, n);
            sum += is_log ? v : v * v_load_some(y + k * step, n);
        }
        total += sum;
    }
    for (ptrdiff_t k = 0; k < K; k++) {
        vec v = v_load_some(g + k * step, n), w = v_load_some(y + k * step, n);
        v_store_some(out + k * step, is_log ? v - v_exp(w) * total : w * (v - total), n);
    }
}

NOINLINE void transpose_small(REAL *to, ptrdiff_t to_step, const REAL *from, ptrdiff_t from_step, ptrdiff_t n_rows,
                              ptrdiff_t n_cols) {
    transpose_block(to, to_step, from, from_step, n_rows, n_cols, 0);
}

/* Blocks are groups of rows, or strips of LANES columns. */
static void softmax_plan(cg_softmax_args *a, double cost) {
    a->task.n_blocks =
        a->inner == 1 ? ceil_div(a->outer, ceil_div(SOFTMAX_BLOCK, a->K)) : a->outer * ceil_div(a->inner, LANES);
    a->task.scratch_bytes = 0;
    a->task.work = (double)a->outer * a->K * a->inner * cost;
}

NOINLINE void softmax_blocks(int is_log, int is_backward, const cg_softmax_args *a, ptrdiff_t begin, ptrdiff_t end) {
    const REAL *x = a->x, *y = a->y;
    REAL *out = a->out;
    if (a->inner == 1) {
        const ptrdiff_t rows = ceil_div(SOFTMAX_BLOCK, a->K), first = begin * rows, last = MIN(end * rows, a->outer);
        for (ptrdiff_t i = first; i < last; i++) {
            /* Backward begins with the rows that forward wrote last, which the cache still holds. */
            ptrdiff_t at = (is_backward && a->K > SHORT_ROW ? last - 1 - (i - first) : i) * a->K;
            if (LANES > 1 && a->K <= SHORT_ROW && last - i >= LANES) { /* a row a lane, on the transpose */
                REAL columns[2][SHORT_ROW * LANES];
                for (int operand = 0; operand <= is_backward; operand++)
                    transpose_small(columns[operand], LANES, (operand ? y : x) + at, a->K, LANES, a->K);
                if (is_backward)
                    softmax_gradient_columns(is_log, columns[0], columns[1], columns[0], a->K, LANES, LANES);
                else
                    softmax_columns(is_log, columns[0], columns[0], a->K, LANES, LANES);
                transpose_small(out + at, a->K, columns[0], LANES, a->K, LANES);
                i += LANES - 1;
                continue;
            }
            if (is_backward)
                softmax_gradient_row(is_log, x + at, y + at, out + at, a->K);
            else
                softmax_row(is_log, x + at, out + at, a->K);
        }
        return;
    }
    ptrdiff_t strips = ceil_div(a->inner, LANES);
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t column = block % strips * LANES, at = block / strips * a->K * a->inner + column;
        ptrdiff_t n = MIN(LANES, a->inner - column);
        if (is_backward)
            softmax_gradient_columns(is_log, x + at, y + at, out + at, a->K, a->inner, n);
        else
            softmax_columns(is_log, x + at, out + at, a->K, a->inner, n);
    }
}

#define SOFTMAX_KERNEL(name, is_log, is_backward, cost)                                                                \
    KERNEL_PLAN(name) {                                                                                                \
        softmax_plan(args_, cost);                                                                                     \
    }                                                                                                                  \
    KERNEL_RUN(name) {                                                                                                 \
        (void)scratch_;                                                                                                \
        softmax_blocks(is_log, is_backward, args_, begin, end);                                                        \
    }

SOFTMAX_KERNEL(softmax, 0, 0, 6)
SOFTMAX_KERNEL(log_softmax, 1, 0, 6)
SOFTMAX_KERNEL(softmax_backward, 0, 1, 2)
SOFTMAX_KERNEL(log_softmax_backward, 1, 1, 6)
