/* Losses and their gradients in one pass.
 *
 *   softmax_cross_entropy   -sum_k t[i,k] log p[i,k], p = softmax(x)    gradient p sum_k t - t, or p - 1[k = label]
 *   least_squares           1/2 sum_k (x[i,k] - t[i,k])^2               gradient x - t
 *   sigmoid_cross_entropy   max(x, 0) - x t + log(1 + e^-|x|)           gradient sigmoid(x) - t
 *
 * The gradients are multiplied by `scale` (1 / N for a mean). Totals are summed in double. All may work in place on x.
 * Source: notes, the sections on losses; the last is -t log p - (1 - t) log(1 - p) with p = sigmoid(x), written so that
 * nothing overflows or cancels.
 */

/* Softmax of a row to grad as p sum(t) - t, times scale. Returns the loss. */
INLINE double cross_entropy_target_row(const REAL *x, const REAL *t, REAL *grad, ptrdiff_t K, REAL scale) {
    const REAL max = row_max(x, K);
    const vec top = v_set1(max), zero = v_zero();
    double total = 0, weight = 0, product = 0;
    for (ptrdiff_t start = 0; start < K; start += ROW_RUN) {
        ptrdiff_t stop = MIN(start + ROW_RUN, K);
        vec sum = zero, weights = zero, products = zero;
        for (ptrdiff_t i = start; i < stop; i += LANES) {
            ptrdiff_t n = MIN(LANES, stop - i);
            vec d = (n == LANES ? v_load(x + i) : v_load_or(x + i, n, -(REAL)INFINITY)) - top, e = v_exp(d);
            vec target = v_load_some(t + i, n);
            v_store_some(grad + i, e, n);
            sum += e;
            weights += target;
            products += v_blend(v_eq(target, zero), zero, target * d); /* d may be -inf where the target is 0 */
        }
        total += v_sum(sum);
        weight += v_sum(weights);
        product += v_sum(products);
    }
    const vec factor = v_set1((REAL)(weight / total)), unit = v_set1(scale);
    for (ptrdiff_t i = 0; i < K; i += LANES) {
        ptrdiff_t n = MIN(LANES, K - i);
        v_store_some(grad + i, (v_load_some(grad + i, n) * factor - v_load_some(t + i, n)) * unit, n);
    }
    return log(total) * weight - product;
}

INLINE double cross_entropy_label_row(const REAL *x, ptrdiff_t label, REAL *grad, ptrdiff_t K, REAL scale) {
    const REAL max = row_max(x, K), chosen = x[label];
    const double total = row_exp(x, max, grad, K);
    const REAL probability = grad[label] * (REAL)(1 / total);
    const vec factor = v_set1((REAL)(scale / total));
    for (ptrdiff_t i = 0; i < K; i += LANES) {
        ptrdiff_t n = MIN(LANES, K - i);
        v_store_some(grad + i, v_load_some(grad + i, n) * factor, n);
    }
    grad[label] = (probability - 1) * scale;
    return log(total) - ((double)chosen - (double)max);
}

#define CROSS_ENTROPY_BLOCK 4096 /* elements */

KERNEL_PLAN(softmax_cross_entropy) {
    cg_loss_args *a = args_;
    a->task.n_blocks = ceil_div(a->n, ceil_div(CROSS_ENTROPY_BLOCK, a->K));
    a->task.scratch_bytes = 0;
    a->task.work = (double)a->n * a->K * 7;
}

KERNEL_RUN(softmax_cross_entropy) {
    (void)scratch_;
    const cg_loss_args *a = args_;
    const ptrdiff_t K = a->K, rows = ceil_div(CROSS_ENTROPY_BLOCK, K);
    const REAL *x = a->x, *target = a->target, scale = (REAL)a->scale;
    for (ptrdiff_t i = begin * rows; i < MIN(end * rows, a->n); i++) {
        REAL *grad = (REAL *)a->grad + i * K;
        double loss = a->labels ? cross_entropy_label_row(x + i * K, (ptrdiff_t)a->labels[i], grad, K, scale)
                                : cross_entropy_target_row(x + i * K, target + i * K, grad, K, scale);
        if (a->losses)
            ((REAL *)a->losses)[i] = (REAL)loss;
        else
            a->totals[i] = loss;
    }
}

/* grad = (x - t) scale; returns the sum of the squared differences. */
INLINE double least_squares_run(const REAL *x, const REAL *t, REAL *grad, ptrdiff_t n, vec scale) {
    double total = 0;
    for (ptrdiff_t start = 0; start < n; start += 2 * ROW_RUN) {
        ptrdiff_t i = start, stop = MIN(start + 2 * ROW_RUN, n);
        vec a = v_zero(), b = a;
        for (; i + 2 * LANES <= stop; i += 2 * LANES) {
            vec c = v_load(x + i) - v_load(t + i), d = v_load(x + i + LANES) - v_load(t + i + LANES);
            v_store(grad + i, c * scale);
            v_store(grad + i + LANES, d * scale);
            a += c * c;
            b += d * d;
        }
        for (; i < stop; i += LANES) {
            ptrdiff_t lanes = MIN(LANES, stop - i);
            vec d = v_load_some(x + i, lanes) - v_load_some(t + i, lanes);
            v_store_some(grad + i, d * scale, lanes);
            a += d * d;
        }
        total += v_sum(a + b);
    }
    return total;
}

#define ELEMENTWISE_LOSS_RUNS 4 /* runs a block */

/* Elements of a block: whole rows where each row has a loss of its own, else runs of CG_LOSS_RUN of the flat arrays. */
KERNEL_PLAN(least_squares) {
    cg_loss_args *a = args_;
    if (a->losses)
        a->task.n_blocks = ceil_div(a->n, ceil_div(ELEMENTWISE_LOSS_RUNS * CG_LOSS_RUN, a->K));
    else
        a->task.n_blocks = ceil_div(a->n * a->K, ELEMENTWISE_LOSS_RUNS * CG_LOSS_RUN);
    a->task.scratch_bytes = 0;
    a->task.work = (double)a->n * a->K;
}

KERNEL_RUN(least_squares) {
    (void)scratch_;
    const cg_loss_args *a = args_;
    const REAL *x = a->x, *t = a->target;
    REAL *grad = a->grad;
    const vec scale = v_set1((REAL)a->scale);
    if (a->losses) {
        ptrdiff_t rows = ceil_div(ELEMENTWISE_LOSS_RUNS * CG_LOSS_RUN, a->K);
        for (ptrdiff_t i = begin * rows; i < MIN(end * rows, a->n); i++) {
            ptrdiff_t at = i * a->K;
            ((REAL *)a->losses)[i] = (REAL)(least_squares_run(x + at, t + at, grad + at, a->K, scale) / 2);
        }
        return;
    }
    const ptrdiff_t n = a->n * a->K;
    for (ptrdiff_t run = begin * ELEMENTWISE_LOSS_RUNS; run < end * ELEMENTWISE_LOSS_RUNS; run++) {
        ptrdiff_t at = run * CG_LOSS_RUN;
        if (at < n)
            a->totals[run] = least_squares_run(x + at, t + at, grad + at, MIN(CG_LOSS_RUN, n - at), scale) / 2;
    }
}

/* The losses of one vector; *grad is sigmoid(x) - t. */
INLINE vec sigmoid_cross_entropy(vec x, vec t, vec *grad) {
    const vec one = v_set1(1), zero = v_zero();
    vec e = v_exp(-v_abs(x));
    *grad = v_blend(v_lt(x, zero), e, one) / (one + e) - t;
    return (v_max(zero, x) - x * t) + v_log1p_unit(e);
}

KERNEL_PLAN(sigmoid_cross_entropy) {
    cg_loss_args *a = args_;
    a->task.n_blocks = ceil_div(a->n * a->K, ELEMENTWISE_LOSS_RUNS * CG_LOSS_RUN);
    a->task.scratch_bytes = 0;
    a->task.work = (double)a->n * a->K * 8;
}

KERNEL_RUN(sigmoid_cross_entropy) {
    (void)scratch_;
    const cg_loss_args *a = args_;
    const REAL *x = a->x, *t = a->target;
    REAL *grad = a->grad, *losses = a->losses;
    const vec scale = v_set1((REAL)a->scale);
    const ptrdiff_t n = a->n * a->K;
    for (ptrdiff_t run = begin * ELEMENTWISE_LOSS_RUNS; run < end * ELEMENTWISE_LOSS_RUNS; run++) {
        ptrdiff_t first = run * CG_LOSS_RUN, last = MIN(first + CG_LOSS_RUN, n);
        double total = 0;
        if (first >= n)
            break;
        for (ptrdiff_t start = first; start < last; start += ROW_RUN) {
            ptrdiff_t i = start, stop = MIN(start + ROW_RUN, last);
            vec sum = v_zero(), d;
            for (; i + LANES <= stop; i += LANES) {
                vec loss = sigmoid_cross_entropy(v_load(x + i), v_load(t + i), &d);
                v_store(grad + i, d * scale);
                if (losses)
                    v_store(losses + i, loss);
                sum += loss;
            }
            if (i < stop) { /* the lanes beyond have a loss of 0 */
                vec loss = sigmoid_cross_entropy(v_load_or(x + i, stop - i, EXP_LOW), v_load_n(t + i, stop - i), &d);
                v_store_n(grad + i, d * scale, stop - i);
                if (losses)
                    v_store_n(losses + i, loss, stop - i);
                sum += loss;
            }
            total += v_sum(sum);
        }
        if (!losses)
            a->totals[run] = total;
    }
}
