/* The derivative of an activation and the gradient of the bias before it, in one sweep.
 *
 * Pieces of at most BIAS_PIECE elements go through the derivative and are summed while they are in the first-level
 * cache. A block owns its row of `partial`, whose rows sum_partials adds; their number depends on the shape alone, so
 * the bits of the sum do not depend on the threads.
 */
#define BIAS_PIECE 2048

/* sum[c] += the sum of column c of x (n, C) */
static void add_columns(const REAL *x, ptrdiff_t n, ptrdiff_t C, double *sum) {
    for (ptrdiff_t c = 0; c < C; c += LANES) {
        ptrdiff_t lanes = MIN(LANES, C - c);
        vec total = v_zero();
        REAL lane[LANES];
        if (lanes == LANES)
            for (ptrdiff_t i = 0; i < n; i++)
                total += v_load(x + i * C + c);
        else
            for (ptrdiff_t i = 0; i < n; i++)
                total += v_load_n(x + i * C + c, lanes);
        v_store(lane, total);
        for (ptrdiff_t j = 0; j < lanes; j++)
            sum[c + j] += lane[j];
    }
}

KERNEL_PLAN(activation_backward_bias) {
    cg_activation_bias_args *a = args_;
    a->task.n_blocks = ceil_div(a->outer, a->outer_step);
    a->task.scratch_bytes = 0;
    a->task.work = (double)a->outer * a->C * a->inner * 4;
}

KERNEL_RUN(activation_backward_bias) {
    (void)scratch_;
    const cg_activation_bias_args *a = args_;
    const ptrdiff_t C = a->C, inner = a->inner;
    const REAL parameter = (REAL)a->parameter, *grad = a->grad_output, *x = a->x;
    REAL *out = a->out;
    for (ptrdiff_t block = begin; block < end; block++) {
        double *sum = a->partial + block * C;
        memset(sum, 0, (size_t)C * sizeof(double));
        ptrdiff_t first = block * a->outer_step, last = MIN(first + a->outer_step, a->outer);
        if (inner == 1) { /* channels are adjacent: pieces of whole rows, or of one row where that is long */
            ptrdiff_t rows = MAX(1, BIAS_PIECE / C), width = rows > 1 ? C : BIAS_PIECE;
            for (ptrdiff_t i = first; i < last; i += rows)
                for (ptrdiff_t c = 0; c < C; c += width) {
                    ptrdiff_t n = MIN(rows, last - i), columns = MIN(width, C - c), at = i * C + c;
                    activation_gradient_run(a->op, parameter, grad + at, x + at, out + at, n * columns);
                    add_columns(out + at, n, columns, sum + c);
                }
            continue;
        }
        ptrdiff_t channels = MAX(1, BIAS_PIECE / inner), width = channels > 1 ? inner : BIAS_PIECE;
        for (ptrdiff_t i = first; i < last; i++)
            for (ptrdiff_t c = 0; c < C; c += channels)
                for (ptrdiff_t w = 0; w < inner; w += width) {
                    ptrdiff_t n = MIN(channels, C - c), length = MIN(width, inner - w), at = (i * C + c) * inner + w;
                    activation_gradient_run(a->op, parameter, grad + at, x + at, out + at, n * length);
                    for (ptrdiff_t j = 0; j < n; j++)
                        sum[c + j] += sum_run(out + at + j * inner, length);
                }
    }
}

#define PARTIALS_BLOCK 1024 /* channels */

KERNEL_PLAN(sum_partials) {
    cg_sum_partials_args *a = args_;
    a->task.n_blocks = ceil_div(a->C, PARTIALS_BLOCK);
    a->task.scratch_bytes = 0;
    a->task.work = (double)a->C * a->n_partials;
}

KERNEL_RUN(sum_partials) {
    (void)scratch_;
    const cg_sum_partials_args *a = args_;
    for (ptrdiff_t block = begin; block < end; block++) {
        double sum[PARTIALS_BLOCK] = {0};
        ptrdiff_t first = block * PARTIALS_BLOCK, n = MIN(PARTIALS_BLOCK, a->C - first);
        for (ptrdiff_t p = 0; p < a->n_partials; p++)
            for (ptrdiff_t c = 0; c < n; c++)
                sum[c] += a->partial[p * a->C + first + c];
        for (ptrdiff_t c = 0; c < n; c++)
            ((REAL *)a->out)[first + c] = (REAL)sum[c];
    }
}
