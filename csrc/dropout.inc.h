/* out = mask ? x * scale + shift : fill: dropout (shift and fill 0), alpha dropout, and the derivatives of both.
 *
 * Where the mask is 0 the value of x does not matter, be it NaN or infinite. A plain loop: compilers turn the choice
 * into a blend and widen the bytes of the mask in registers, which the vocabulary has no word for.
 */
#define DROPOUT_BLOCK 16384

KERNEL_PLAN(dropout) {
    cg_dropout_args *a = args_;
    a->task.n_blocks = ceil_div(a->n, DROPOUT_BLOCK);
    a->task.scratch_bytes = 0;
    a->task.work = (double)a->n;
}

KERNEL_RUN(dropout) {
    (void)scratch_;
    const cg_dropout_args *a = args_;
    const REAL *x = a->x, scale = (REAL)a->scale, shift = (REAL)a->shift, fill = (REAL)a->fill;
    const uint8_t *mask = a->mask;
    REAL *out = a->out;
    for (ptrdiff_t i = begin * DROPOUT_BLOCK, n = MIN(end * DROPOUT_BLOCK, a->n); i < n; i++) {
        REAL kept = x[i] * scale + shift;
        out[i] = mask[i] ? kept : fill;
    }
}
