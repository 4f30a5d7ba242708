/* Average pooling, and subsampling (LeCun et al. 1998, section II.B), which scales and shifts the averages by channel.
 *
 *   y[i, j] = weight[c] * (sum of the window's cells) / count + bias[c]
 *
 * count is the number of cells in the padded image (a window of ceil_mode may hang over it), or in the image alone. A
 * window without any counts 1: its average is 0.
 */
INLINE ptrdiff_t cells_along(ptrdiff_t start, ptrdiff_t dilation, ptrdiff_t taps, ptrdiff_t size, ptrdiff_t after,
                             int with_pad) {
    ptrdiff_t from = with_pad ? 0 : taps_from(start, dilation);
    return MAX(1, taps_to(start, dilation, taps, size + (with_pad ? after : 0)) - from);
}
INLINE ptrdiff_t row_cells(const cg_avg_pool_args *a, ptrdiff_t i) {
    const cg_windows *w = &a->windows;
    return cells_along(i * w->stride_h - w->top, w->dilation_h, w->R, w->H, w->bottom, a->count_include_pad);
}
INLINE ptrdiff_t col_cells(const cg_avg_pool_args *a, ptrdiff_t j) {
    const cg_windows *w = &a->windows;
    return cells_along(j * w->stride_w - w->left, w->dilation_w, w->S, w->W, w->right, a->count_include_pad);
}

/* Cells of every window, or 0 where they differ. */
static ptrdiff_t common_count(const cg_avg_pool_args *a) {
    const cg_windows *w = &a->windows;
    for (ptrdiff_t i = 0; i < w->OH; i++)
        if (row_cells(a, i) != row_cells(a, 0))
            return 0;
    for (ptrdiff_t j = 0; j < w->OW; j++)
        if (col_cells(a, j) != col_cells(a, 0))
            return 0;
    return row_cells(a, 0) * col_cells(a, 0);
}

/* How a sum becomes an average: a product where that is exact, else a quotient. */
typedef struct {
    vec factor, inverse;
    int divide;
} pool_scale;

static pool_scale scale_of(ptrdiff_t count) {
    vec inverse = v_set1((REAL)1 / (REAL)MAX(count, 1)); /* count 0: the quotient comes later */
    if ((count & (count - 1)) == 0)
        return (pool_scale){inverse, inverse, 0};
    return (pool_scale){v_set1((REAL)count), inverse, 1};
}
INLINE vec scaled(vec sum, pool_scale scale) {
    if (!scale.divide)
        return sum * scale.factor;
#ifdef V_RECIPROCAL_14 /* where a division takes as long as thirty additions; it has FMA, so the quotient is as good   \
                        */
    vec q = sum * scale.inverse, better = q + (sum - q * scale.factor) * scale.inverse;
    return v_blend(v_isnan(better), q, better); /* infinities have no rest */
#else
    return sum / scale.factor;
#endif
}

/* y[t] = y[t] * scale[t] + shift[t] for t < n */
INLINE void scale_shift(REAL *y, const REAL *scale, const REAL *shift, ptrdiff_t n) {
    ptrdiff_t t = 0;
    for (; t + LANES <= n; t += LANES)
        v_store(y + t, v_fma(v_load(y + t), v_load(scale + t), v_load(shift + t)));
    for (; t < n; t++)
        y[t] = y[t] * scale[t] + shift[t];
}

/* line[t] = of[channel of number t], for n pixels of plane p: its Z numbers are the channels, or it is one of C */
static void spread_channels(const cg_avg_pool_args *a, const REAL *of, ptrdiff_t p, ptrdiff_t n, REAL *line) {
    ptrdiff_t Z = a->windows.Z;
    if (Z == 1)
        pool_fill(line, n, of[p % a->C]);
    else
        for (ptrdiff_t t = 0; t < n; t++)
            memcpy(line + t * Z, of, (size_t)Z * sizeof(REAL));
}

/* line[t] = sum of rows x, x + row_step, .. at t; n numbers */
INLINE void sum_rows(const REAL *x, const REAL *end, ptrdiff_t row_step, ptrdiff_t n_rows, ptrdiff_t n, REAL *line) {
    for (ptrdiff_t t = 0; t < n; t += LANES) {
        const REAL *p = x + t;
        vec sum = pool_load(p, end, n - t);
        for (ptrdiff_t r = 1; r < n_rows; r++) {
            p += row_step;
            sum += pool_load(p, end, n - t);
        }
        v_store(line + t, sum);
    }
}

/* The windows of LANES adjacent columns of the line. */
INLINE vec sum_columns(const REAL *line, ptrdiff_t step, ptrdiff_t S) {
    vec sum = v_load(line);
    for (ptrdiff_t s = 1; s < S; s++)
        sum += v_load(line + s * step);
    return sum;
}

/* A row of windows from its line, as max_emit. */
INLINE void average_emit(const cg_windows *w, const pool_columns *c, const REAL *line, REAL *kept, pool_scale scale,
                         REAL *y, const REAL *end) {
    ptrdiff_t Z = w->Z, S = w->S, step = w->dilation_w * Z, n = c->n * Z;
    if (w->stride_w == 1)
        for (ptrdiff_t t = 0; t < n; t += LANES)
            pool_store(y + t, end, scaled(sum_columns(line + t, step, S), scale), n - t);
    else if (w->stride_w == 2 && Z == 1)
        for (ptrdiff_t t = 0; t < n; t += LANES) {
            vec sum = v_even(sum_columns(line + 2 * t, step, S), sum_columns(line + 2 * t + LANES, step, S));
            pool_store(y + t, end, scaled(sum, scale), n - t);
        }
    else if (w->stride_w == 4 && Z == 1)
        for (ptrdiff_t t = 0; t < n; t += LANES) {
            vec part[4];
            UNROLL for (int q = 0; q < 4; q++) part[q] = sum_columns(line + 4 * t + q * LANES, step, S);
            vec sum = v_even(v_even(part[0], part[1]), v_even(part[2], part[3]));
            pool_store(y + t, end, scaled(sum, scale), n - t);
        }
    else {
        for (ptrdiff_t t = 0; t < ((c->n - 1) * w->stride_w + 1) * Z; t += LANES)
            v_store(kept + t, scaled(sum_columns(line + t, step, S), scale));
        for (ptrdiff_t t = 0; t < c->n; t++)
            for (ptrdiff_t z = 0; z < Z; z++)
                y[t * Z + z] = kept[t * w->stride_w * Z + z];
    }
}

/* scratch: the line, the windows of all columns, then for each window of a row its cells, weight and bias */
static void average_lines(const cg_avg_pool_args *a, const pool_block *b, REAL *line) {
    const cg_windows *w = &a->windows;
    ptrdiff_t Z = w->Z, row_size = w->W * Z, length = a->cut.width * Z + POOL_SLACK, numbers = a->cut.cols * Z;
    const REAL *x_end = (const REAL *)a->x + w->planes * w->H * row_size;
    REAL *kept = line + length, *cells = kept + length, *weight = cells + numbers, *bias = weight + numbers;
    pool_scale scale = scale_of(a->count);
    for (ptrdiff_t j = 0; j < w->OW; j += a->cut.cols) {
        pool_columns c = pool_columns_at(w, &a->cut, j);
        ptrdiff_t from = c.from * Z, to = c.to * Z, all = c.width * Z, n = c.n * Z;
        pool_fill(line, all + POOL_SLACK, 0); /* the slack too: adding denormal rubbish takes its time */
        if (!a->count)
            for (ptrdiff_t t = 0; t < c.n; t++)
                pool_fill(cells + t * Z, Z, (REAL)col_cells(a, j + t));
        for (ptrdiff_t p = b->p0; p < b->p1; p++) {
            if (a->weight && (Z == 1 || p == b->p0)) {
                spread_channels(a, a->weight, p, c.n, weight);
                spread_channels(a, a->bias, p, c.n, bias);
            }
            for (ptrdiff_t i = b->i0; i < b->i1; i++) {
                ptrdiff_t h = i * w->stride_h - w->top, padded = to;
                ptrdiff_t r0 = taps_from(h, w->dilation_h), r1 = taps_to(h, w->dilation_h, w->R, w->H);
                if (r0 < r1 && from < to)
                    sum_rows((const REAL *)a->x + (p * w->H + h + r0 * w->dilation_h) * row_size +
                                 (c.first + c.from) * Z,
                             x_end, w->dilation_h * row_size, r1 - r0, to - from, line + from);
                else
                    padded = from;
                pool_fill(line + padded, all - padded, 0); /* after the data, which ran over */
                ptrdiff_t at = ((p * w->OH + i) * w->OW + c.j0) * Z;
                ptrdiff_t end = c.n == w->OW ? ((b->p1 - 1) * w->OH + b->i1) * w->OW * Z : at + n;
                REAL *y = (REAL *)a->y + at;
                average_emit(w, &c, line, kept, scale, y, (REAL *)a->y + end);
                if (!a->count) {
                    REAL rows = (REAL)row_cells(a, i);
                    for (ptrdiff_t t = 0; t < n; t++)
                        y[t] /= rows * cells[t];
                }
                if (a->weight)
                    scale_shift(y, weight, bias, n);
            }
        }
    }
}

#ifdef V_LOAD_WHERE
/* scratch: a row of -0, which takes the place of rows that a window lacks and changes no sum, and for each window of a
 * row its cells and one over the cells of the whole window */
INLINE void average_quick(const cg_avg_pool_args *a, const pool_block *b, REAL *nothing, const int SIZE,
                          const int STRIDE) {
    const cg_windows *w = &a->windows;
    const REAL *y_end = (const REAL *)a->y + ((b->p1 - 1) * w->OH + b->i1) * w->OW;
    REAL *cells = nothing + w->W, *inverse = cells + round_up(w->OW, LANES);
    pool_scale scale = scale_of(a->count);
    ptrdiff_t rows = 0; /* that `inverse` is for */
    for (ptrdiff_t p = b->p0; p < b->p1; p++)
        for (ptrdiff_t i = b->i0; i < b->i1; i++) {
            const REAL *row[3];
            UNROLL for (int r = 0; r < SIZE; r++) {
                ptrdiff_t h = i * w->stride_h - w->top + r;
                row[r] = h < 0 || h >= w->H ? nothing : (const REAL *)a->x + (p * w->H + h) * w->W;
            }
            if (!a->count && rows != row_cells(a, i)) {
                rows = row_cells(a, i);
                for (ptrdiff_t t = 0; t < w->OW; t += LANES)
                    v_store(inverse + t, v_set1(1) / (v_set1((REAL)rows) * v_load(cells + t)));
            }
            REAL *y = (REAL *)a->y + (p * w->OH + i) * w->OW;
            vec cur = quick_down(row, SIZE, 0, -w->left, w->W);
            for (ptrdiff_t t = 0; t < w->OW; t += LANES) {
                vec sum = quick_across(row, SIZE, STRIDE, 0, t * STRIDE - w->left, w->W, &cur);
                if (!a->count)
                    scale = (pool_scale){v_set1((REAL)rows) * v_load(cells + t), v_load(inverse + t), 1};
                pool_store(y + t, y_end, scaled(sum, scale), w->OW - t);
            }
        }
}
static void average_quickly(const cg_avg_pool_args *a, const pool_block *b, REAL *scratch) {
    const cg_windows *w = &a->windows;
    REAL *cells = scratch + w->W;
    pool_fill(scratch, w->W, (REAL)-0.0);
    for (ptrdiff_t j = 0; j < round_up(w->OW, LANES); j++)
        cells[j] = (REAL)col_cells(a, MIN(j, w->OW - 1));
    if (w->S == 2)
        average_quick(a, b, scratch, 2, 2);
    else if (w->stride_w == 1)
        average_quick(a, b, scratch, 3, 1);
    else
        average_quick(a, b, scratch, 3, 2);
}
#else
#define average_quickly(a, b, scratch) ((void)0)
#endif

static void average_direct(const cg_avg_pool_args *a, const pool_block *b) {
    const cg_windows *w = &a->windows;
    ptrdiff_t row_step = w->dilation_h * w->W * w->Z, col_step = w->dilation_w * w->Z;
    pool_scale scale = scale_of(a->count);
    for (ptrdiff_t row = b->p0 * w->OH + b->i0; row < (b->p1 - 1) * w->OH + b->i1; row++) {
        ptrdiff_t p = row / w->OH, i = row % w->OH, h = i * w->stride_h - w->top;
        ptrdiff_t r0 = taps_from(h, w->dilation_h), r1 = taps_to(h, w->dilation_h, w->R, w->H);
        for (ptrdiff_t j = 0; j < w->OW; j++) {
            ptrdiff_t v = j * w->stride_w - w->left;
            ptrdiff_t s0 = taps_from(v, w->dilation_w), s1 = taps_to(v, w->dilation_w, w->S, w->W);
            const REAL *x = (const REAL *)a->x + ((p * w->H + h) * w->W + v) * w->Z;
            REAL *y = (REAL *)a->y + (row * w->OW + j) * w->Z;
            vec count = a->count ? scale.factor : v_set1((REAL)(row_cells(a, i) * col_cells(a, j)));
            for (ptrdiff_t z = 0; z < w->Z; z += LANES) {
                ptrdiff_t n = MIN(LANES, w->Z - z);
                if (n < LANES && w->Z >= LANES) { /* the last vector overlaps the one before */
                    z = w->Z - LANES;
                    n = LANES;
                }
                vec sum = v_zero();
                for (ptrdiff_t r = r0; r < r1; r++)
                    for (ptrdiff_t s = s0; s < s1; s++) {
                        const REAL *q = x + r * row_step + s * col_step + z;
                        sum += n == LANES ? v_load(q) : v_load_n(q, n);
                    }
                sum = a->count ? scaled(sum, scale) : sum / count;
                if (a->weight) {
                    ptrdiff_t c = w->Z == 1 ? p % a->C : z;
                    const REAL *weight = (const REAL *)a->weight + c, *bias = (const REAL *)a->bias + c;
                    sum = n == LANES ? v_fma(sum, v_load(weight), v_load(bias))
                                     : v_fma(sum, v_load_n(weight, n), v_load_n(bias, n));
                }
                if (n == LANES)
                    v_store(y + z, sum);
                else
                    v_store_n(y + z, sum, n);
            }
        }
    }
}

static void plan_average(cg_avg_pool_args *a) {
    const cg_windows *w = &a->windows;
    a->task.work = (double)w->planes * w->Z * (2.0 * w->H * w->W + 1.0 * w->OH * w->OW * (w->R + w->S));
    pool_cut_windows(w, &a->cut);
    a->count = common_count(a);
    a->task.n_blocks = pool_blocks(w, &a->cut);
    a->task.scratch_bytes =
        a->cut.direct ? 0 : (2 * (a->cut.width * w->Z + POOL_SLACK) + 3 * a->cut.cols * w->Z) * sizeof(REAL);
    if (is_whole_plane(w))
        a->task.scratch_bytes = MAX(a->task.scratch_bytes, global_scratch(w->Z));
    else if (!a->weight && pool_is_quick(w))
        a->task.scratch_bytes = (w->W + 2 * round_up(w->OW, LANES)) * sizeof(REAL);
}

static void run_average(const cg_avg_pool_args *a, ptrdiff_t begin, ptrdiff_t end, void *scratch) {
    const cg_windows *w = &a->windows;
    const int whole = is_whole_plane(w);
    for (ptrdiff_t block = begin; block < end; block++) {
        pool_block b = pool_block_at(w, &a->cut, w->OH, block);
        if (whole)
            for (ptrdiff_t p = b.p0; p < b.p1; p++) {
                REAL *y = (REAL *)a->y + p * w->Z;
                mean_of_plane((const REAL *)a->x + p * w->H * w->W * w->Z, w->H * w->W, w->Z, scratch, y);
                if (a->weight) {
                    ptrdiff_t c = w->Z == 1 ? p % a->C : 0;
                    scale_shift(y, (const REAL *)a->weight + c, (const REAL *)a->bias + c, w->Z);
                }
            }
        else if (!a->weight && pool_is_quick(w))
            average_quickly(a, &b, scratch);
        else if (a->cut.direct)
            average_direct(a, &b);
        else
            average_lines(a, &b, scratch);
    }
}

KERNEL_PLAN(avg_pool2d) {
    plan_average(args_);
}
KERNEL_RUN(avg_pool2d) {
    run_average(args_, begin, end, scratch_);
}
KERNEL_PLAN(subsample2d) {
    plan_average(args_);
}
KERNEL_RUN(subsample2d) {
    run_average(args_, begin, end, scratch_);
}
