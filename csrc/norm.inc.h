/* Normalisation by channel (batch_norm) and by row (layer_norm), forward and backward.
 *
 *   y = (x - mean) inv_std weight + bias,   inv_std = 1 / sqrt(var + eps), var the mean of (x - mean)^2
 *   grad_bias = sum g,   grad_weight = sum g xhat,   xhat = (x - mean) inv_std
 *   grad_x = weight inv_std (g - mean(g) - xhat mean(g xhat)); weight inv_std g where the statistics are constants
 *
 * For layer_norm the weight is inside the means. The variance is taken in a second pass over x, around the mean, so
 * that no digits cancel. Sums as in channel_sum: vectors over runs, totals in double. Sources: Ioffe and Szegedy
 * (2015), arXiv 1502.03167, Algorithm 1; Ba, Kiros, Hinton (2016), arXiv 1607.06450, eq. 4.
 */
/* Rows of a strip of channels that one vector adds up: they stay in the first-level cache. */
#define NORM_ROWS SUM_TERMS
#define NORM_STRIP (4 * LANES) /* channels of a block, where channels are adjacent */

/* sum of (x - mean)^2 */
static double squares_around(const REAL *x, REAL mean, ptrdiff_t n) {
    const vec middle = v_set1(mean);
    double total = 0;
    for (ptrdiff_t start = 0; start < n; start += 2 * ROW_RUN) {
        ptrdiff_t i = start, stop = MIN(start + 2 * ROW_RUN, n);
        vec a = v_zero(), b = a;
        for (; i + 2 * LANES <= stop; i += 2 * LANES) {
            vec c = v_load(x + i) - middle, d = v_load(x + i + LANES) - middle;
            a += c * c;
            b += d * d;
        }
        for (; i < stop; i += LANES) {
            vec d = v_load_or(x + i, MIN(LANES, stop - i), mean) - middle;
            a += d * d;
        }
        total += v_sum(a + b);
    }
    return total;
}

static double sum_of(const REAL *x, ptrdiff_t n) {
    double total = 0;
    for (ptrdiff_t i = 0; i < n; i += 4 * ROW_RUN)
        total += sum_run(x + i, MIN(4 * ROW_RUN, n - i));
    return total;
}

/* *sum += sum of g w, *product += sum of g w (x - mean); w is 1 where weight is NULL */
INLINE void gradient_sums(const REAL *g, const REAL *x, const REAL *weight, REAL mean, ptrdiff_t n, double *sum,
                          double *product) {
    const vec middle = v_set1(mean);
    for (ptrdiff_t start = 0; start < n; start += ROW_RUN) {
        ptrdiff_t stop = MIN(start + ROW_RUN, n);
        vec a = v_zero(), b = a;
        for (ptrdiff_t i = start; i < stop; i += LANES) {
            ptrdiff_t lanes = MIN(LANES, stop - i);
            vec v = v_load_some(g + i, lanes);
            if (weight)
                v *= v_load_some(weight + i, lanes);
            a += v;
            b += v * ((lanes == LANES ? v_load(x + i) : v_load_or(x + i, lanes, mean)) - middle);
        }
        *sum += v_sum(a);
        *product += v_sum(b);
    }
}

/* y = (x - mean) factor + bias */
INLINE void normalize_run(const REAL *x, REAL *y, REAL mean, REAL factor, REAL bias, ptrdiff_t n) {
    const vec m = v_set1(mean), f = v_set1(factor), b = v_set1(bias);
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        ptrdiff_t lanes = MIN(LANES, n - i);
        v_store_some(y + i, (v_load_some(x + i, lanes) - m) * f + b, lanes);
    }
}

/* Statistics of one channel from its sums, and the running ones. */
static void batch_norm_finish(const cg_batch_norm_args *a, ptrdiff_t c, double mean, double squares) {
    double n = (double)a->outer * a->inner;
    ((REAL *)a->mean)[c] = (REAL)mean;
    ((REAL *)a->inv_std)[c] = (REAL)(1 / sqrt(squares / n + a->eps));
    if (a->new_running_mean) {
        double kept = 1 - a->momentum;
        ((REAL *)a->new_running_mean)[c] = (REAL)(kept * ((const REAL *)a->running_mean)[c] + a->momentum * mean);
        ((REAL *)a->new_running_var)[c] =
            (REAL)(kept * ((const REAL *)a->running_var)[c] + a->momentum * (squares / (n - 1)));
    }
}

static void batch_norm_running(const cg_batch_norm_args *a, ptrdiff_t c) {
    REAL mean = ((const REAL *)a->running_mean)[c], var = ((const REAL *)a->running_var)[c];
    ((REAL *)a->mean)[c] = mean;
    ((REAL *)a->inv_std)[c] = (REAL)(1 / sqrt(var + a->eps));
    ((REAL *)a->new_running_mean)[c] = mean;
    ((REAL *)a->new_running_var)[c] = var;
}

/* Channel c of (outer, C, inner), inner > 1. */
static void batch_norm_channel(const cg_batch_norm_args *a, ptrdiff_t c) {
    const REAL *x = (const REAL *)a->x + c * a->inner;
    REAL *y = (REAL *)a->y + c * a->inner;
    const ptrdiff_t step = a->C * a->inner;
    if (a->training) {
        double sum = 0, squares = 0;
        for (ptrdiff_t i = 0; i < a->outer; i++)
            sum += sum_of(x + i * step, a->inner);
        double mean = sum / ((double)a->outer * a->inner);
        for (ptrdiff_t i = 0; i < a->outer; i++)
            squares += squares_around(x + i * step, (REAL)mean, a->inner);
        batch_norm_finish(a, c, mean, squares);
    } else
        batch_norm_running(a, c);
    REAL mean = ((REAL *)a->mean)[c], factor = ((REAL *)a->inv_std)[c];
    if (a->weight)
        factor *= ((const REAL *)a->weight)[c];
    REAL bias = a->bias ? ((const REAL *)a->bias)[c] : 0;
    for (ptrdiff_t i = 0; i < a->outer; i++)
        normalize_run(x + i * step, y + i * step, mean, factor, bias, a->inner);
}

/* Channels c .. c + n - 1 of (outer, C), n <= LANES. */
static void batch_norm_columns(const cg_batch_norm_args *a, ptrdiff_t c, ptrdiff_t n) {
    const REAL *x = (const REAL *)a->x + c;
    REAL *y = (REAL *)a->y + c, lane[LANES];
    const ptrdiff_t outer = a->outer, C = a->C;
    if (a->training) {
        double mean[LANES] = {0}, squares[LANES] = {0};
        for (ptrdiff_t start = 0; start < outer; start += NORM_ROWS) {
            vec sum = v_zero();
            for (ptrdiff_t i = start; i < MIN(start + NORM_ROWS, outer); i++)
                sum += v_load_some(x + i * C, n);
            v_store(lane, sum);
            for (int j = 0; j < LANES; j++)
                mean[j] += lane[j];
        }
        for (int j = 0; j < LANES; j++)
            lane[j] = (REAL)(mean[j] /= (double)outer);
        const vec middle = v_load(lane);
        for (ptrdiff_t start = 0; start < outer; start += NORM_ROWS) {
            vec sum = v_zero();
            for (ptrdiff_t i = start; i < MIN(start + NORM_ROWS, outer); i++) {
                vec d = v_load_some(x + i * C, n) - middle;
                sum += d * d;
            }
            v_store(lane, sum);
            for (int j = 0; j < LANES; j++)
                squares[j] += lane[j];
        }
        for (ptrdiff_t j = 0; j < n; j++)
            batch_norm_finish(a, c + j, mean[j], squares[j]);
    } else
        for (ptrdiff_t j = 0; j < n; j++)
            batch_norm_running(a, c + j);
    vec mean = v_load_some((const REAL *)a->mean + c, n), factor = v_load_some((const REAL *)a->inv_std + c, n);
    if (a->weight)
        factor *= v_load_some((const REAL *)a->weight + c, n);
    vec bias = a->bias ? v_load_some((const REAL *)a->bias + c, n) : v_zero();
    for (ptrdiff_t i = 0; i < outer; i++)
        v_store_some(y + i * C, (v_load_some(x + i * C, n) - mean) * factor + bias, n);
}

/* A block is one channel, or NORM_STRIP adjacent ones. */
static void batch_norm_task(cg_task *task, ptrdiff_t outer, ptrdiff_t C, ptrdiff_t inner) {
    task->n_blocks = inner == 1 ? ceil_div(C, NORM_STRIP) : C;
    task->scratch_bytes = 0;
    task->work = (double)outer * C * inner * 4;
}

KERNEL_PLAN(batch_norm) {
    cg_batch_norm_args *a = args_;
    batch_norm_task(&a->task, a->outer, a->C, a->inner);
}

KERNEL_RUN(batch_norm) {
    (void)scratch_;
    const cg_batch_norm_args *a = args_;
    if (a->inner == 1)
        for (ptrdiff_t c = begin * NORM_STRIP; c < MIN(end * NORM_STRIP, a->C); c += LANES)
            batch_norm_columns(a, c, MIN(LANES, a->C - c));
    else
        for (ptrdiff_t c = begin; c < end; c++)
            batch_norm_channel(a, c);
}

static void batch_norm_backward_channel(const cg_batch_norm_backward_args *a, ptrdiff_t c) {
    const ptrdiff_t step = a->C * a->inner;
    const REAL *g = (const REAL *)a->grad_output + c * a->inner, *x = (const REAL *)a->x + c * a->inner;
    const REAL mean = ((const REAL *)a->mean)[c], inv_std = ((const REAL *)a->inv_std)[c];
    double sum = 0, product = 0, n = (double)a->outer * a->inner;
    for (ptrdiff_t i = 0; i < a->outer; i++)
        gradient_sums(g + i * step, x + i * step, NULL, mean, a->inner, &sum, &product);
    ((REAL *)a->grad_bias)[c] = (REAL)sum;
    ((REAL *)a->grad_weight)[c] = (REAL)(product * inv_std);
    if (!a->grad_x)
        return;
    const vec factor = v_set1(inv_std * (a->weight ? ((const REAL *)a->weight)[c] : 1)), middle = v_set1(mean);
    const vec shift = v_set1(a->training ? (REAL)(sum / n) : 0);
    const vec slope = v_set1(a->training ? (REAL)(product * inv_std * inv_std / n) : 0);
    for (ptrdiff_t i = 0; i < a->outer; i++)
        for (ptrdiff_t j = 0; j < a->inner; j += LANES) {
            ptrdiff_t lanes = MIN(LANES, a->inner - j), at = i * step + j;
            vec d = v_load_some(g + at, lanes) - shift;
            if (a->training)
                d -= (v_load_some(x + at, lanes) - middle) * slope;
            v_store_some((REAL *)a->grad_x + c * a->inner + at, d * factor, lanes);
        }
}

static void batch_norm_backward_columns(const cg_batch_norm_backward_args *a, ptrdiff_t c, ptrdiff_t n) {
    const ptrdiff_t outer = a->outer, C = a->C;
    const REAL *g = (const REAL *)a->grad_output + c, *x = (const REAL *)a->x + c;
    const vec middle = v_load_some((const REAL *)a->mean + c, n);
    double sum[LANES] = {0}, product[LANES] = {0};
    REAL lane[LANES], slopes[LANES];
    for (ptrdiff_t start = 0; start < outer; start += NORM_ROWS) {
        vec s = v_zero(), p = s;
        for (ptrdiff_t i = start; i < MIN(start + NORM_ROWS, outer); i++) {
            vec v = v_load_some(g + i * C, n);
            s += v;
            p += v * (v_load_some(x + i * C, n) - middle);
        }
        v_store(lane, s);
        v_store(slopes, p);
        for (int j = 0; j < LANES; j++) {
            sum[j] += lane[j];
            product[j] += slopes[j];
        }
    }
    memset(lane, 0, sizeof lane);
    memset(slopes, 0, sizeof slopes);
    for (ptrdiff_t j = 0; j < n; j++) {
        double inv_std = ((const REAL *)a->inv_std)[c + j];
        ((REAL *)a->grad_bias)[c + j] = (REAL)sum[j];
        ((REAL *)a->grad_weight)[c + j] = (REAL)(product[j] * inv_std);
        if (a->training) {
            lane[j] = (REAL)(sum[j] / (double)outer);
            slopes[j] = (REAL)(product[j] * inv_std * inv_std / (double)outer);
        }
    }
    if (!a->grad_x)
        return;
    const vec shift = v_load(lane), slope = v_load(slopes);
    vec factor = v_load_some((const REAL *)a->inv_std + c, n);
    if (a->weight)
        factor *= v_load_some((const REAL *)a->weight + c, n);
    for (ptrdiff_t i = 0; i < outer; i++) {
        vec d = v_load_some(g + i * C, n) - shift;
        if (a->training)
            d -= (v_load_some(x + i * C, n) - middle) * slope;
        v_store_some((REAL *)a->grad_x + c + i * C, d * factor, n);
    }
}

KERNEL_PLAN(batch_norm_backward) {
    cg_batch_norm_backward_args *a = args_;
    batch_norm_task(&a->task, a->outer, a->C, a->inner);
}

KERNEL_RUN(batch_norm_backward) {
    (void)scratch_;
    const cg_batch_norm_backward_args *a = args_;
    if (a->inner == 1)
        for (ptrdiff_t c = begin * NORM_STRIP; c < MIN(end * NORM_STRIP, a->C); c += LANES)
            batch_norm_backward_columns(a, c, MIN(LANES, a->C - c));
    else
        for (ptrdiff_t c = begin; c < end; c++)
            batch_norm_backward_channel(a, c);
}

#define LAYER_NORM_BLOCK 8192 /* elements */

KERNEL_PLAN(layer_norm) {
    cg_layer_norm_args *a = args_;
    a->task.n_blocks = ceil_div(a->n, ceil_div(LAYER_NORM_BLOCK, a->K));
    a->task.scratch_bytes = 0;
    a->task.work = (double)a->n * a->K * 4;
}

KERNEL_RUN(layer_norm) {
    (void)scratch_;
    const cg_layer_norm_args *a = args_;
    const ptrdiff_t K = a->K, rows = ceil_div(LAYER_NORM_BLOCK, K);
    const REAL *weight = a->weight, *bias = a->bias;
    for (ptrdiff_t i = begin * rows; i < MIN(end * rows, a->n); i++) {
        const REAL *x = (const REAL *)a->x + i * K;
        REAL *y = (REAL *)a->y + i * K, mean = (REAL)(sum_of(x, K) / (double)K);
        REAL inv_std = (REAL)(1 / sqrt(squares_around(x, mean, K) / (double)K + a->eps));
        ((REAL *)a->mean)[i] = mean;
        ((REAL *)a->inv_std)[i] = inv_std;
        const vec m = v_set1(mean), f = v_set1(inv_std);
        for (ptrdiff_t k = 0; k < K; k += LANES) {
            ptrdiff_t lanes = MIN(LANES, K - k);
            vec v = (v_load_some(x + k, lanes) - m) * f;
            if (weight)
                v *= v_load_some(weight + k, lanes);
            if (bias)
                v += v_load_some(bias + k, lanes);
            v_store_some(y + k, v, lanes);
        }
    }
}

/* The sums over rows are kept in REAL for at most NORM_ROWS rows, in scratch, before they are added to those in double.
 */
KERNEL_PLAN(layer_norm_backward) {
    cg_layer_norm_backward_args *a = args_;
    a->task.n_blocks = ceil_div(a->n, a->n_step);
    a->task.scratch_bytes = 2 * (size_t)a->K * sizeof(REAL);
    a->task.work = (double)a->n * a->K * 6;
}

KERNEL_RUN(layer_norm_backward) {
    const cg_layer_norm_backward_args *a = args_;
    const ptrdiff_t K = a->K;
    const REAL *weight = a->weight;
    REAL *by_weight = scratch_, *by_bias = by_weight + K;
    for (ptrdiff_t block = begin; block < end; block++) {
        double *total = a->partial + block * 2 * K;
        ptrdiff_t first = block * a->n_step, last = MIN(first + a->n_step, a->n);
        memset(total, 0, 2 * (size_t)K * sizeof(double));
        memset(by_weight, 0, 2 * (size_t)K * sizeof(REAL));
        for (ptrdiff_t i = first; i < last; i++) {
            const REAL *g = (const REAL *)a->grad_output + i * K, *x = (const REAL *)a->x + i * K;
            REAL *out = (REAL *)a->grad_x + i * K;
            const REAL mean = ((const REAL *)a->mean)[i], inv_std = ((const REAL *)a->inv_std)[i];
            double sum = 0, product = 0;
            gradient_sums(g, x, weight, mean, K, &sum, &product);
            const vec middle = v_set1(mean), factor = v_set1(inv_std), shift = v_set1((REAL)(sum / (double)K));
            const vec slope = v_set1((REAL)(product * inv_std / (double)K));
            for (ptrdiff_t k = 0; k < K; k += LANES) {
                ptrdiff_t lanes = MIN(LANES, K - k);
                vec v = v_load_some(g + k, lanes), unit = (v_load_some(x + k, lanes) - middle) * factor;
                v_store_some(by_weight + k, v_load_some(by_weight + k, lanes) + v * unit, lanes);
                v_store_some(by_bias + k, v_load_some(by_bias + k, lanes) + v, lanes);
                if (weight)
                    v *= v_load_some(weight + k, lanes);
                v_store_some(out + k, ((v - shift) - unit * slope) * factor, lanes);
            }
            if ((i - first) % NORM_ROWS == NORM_ROWS - 1 || i == last - 1)
                for (ptrdiff_t k = 0; k < 2 * K; k++) {
                    total[k] += by_weight[k];
                    by_weight[k] = 0;
                }
        }
    }
}
