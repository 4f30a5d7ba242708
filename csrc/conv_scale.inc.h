/* Depthwise convolution with a single tap, stride 1 and no border: every plane times a number of its own, plus another,
 * as batch normalisation has it once it is folded.
 *
 * y[n, c, i] = activation(residual[n, c, i] + bias[c] + weight[c] * x[n, c, i])   for the pixels i of adjacent planes
 */
#define SCALE_BLOCK 4096 /* numbers that are scaled and then activated while in the first-level cache */

INLINE int is_scale(const cg_conv_args *a) {
    return a->R == 1 && a->S == 1;
}

static void plan_scale(cg_conv_args *a) {
    ptrdiff_t pixels = a->H * a->W;
    a->k_group = a->c_chunk = 1;
    a->block_n = MAX(1, SCALE_BLOCK / pixels); /* planes of a block */
    a->block_rows = a->H;
    a->block_cols = a->W;
    a->task.scratch_bytes = 0;
    a->task.n_blocks = ceil_div(a->N * a->groups, a->block_n);
    a->task.work = 2.0 * a->N * a->groups * pixels;
}

static void run_scale(const cg_conv_args *a, ptrdiff_t begin, ptrdiff_t end) {
    ptrdiff_t pixels = a->H * a->W;
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t first = block * a->block_n, last = MIN(first + a->block_n, a->N * a->groups), c = first % a->groups;
        const REAL *x = (const REAL *)a->x + first * pixels;
        REAL *y = (REAL *)a->y + first * pixels;
        for (ptrdiff_t p = first; p < last; p++, x += pixels, y += pixels, c = c + 1 == a->groups ? 0 : c + 1) {
            const vec weight = v_set1(((const REAL *)a->weight)[c * a->w_group]);
            const vec bias = v_set1(a->bias ? ((const REAL *)a->bias)[c] : 0);
            if (pixels < LANES) {
                v_store_n(y, v_fma(weight, v_load_n(x, pixels), bias), pixels);
                continue;
            }
            for (ptrdiff_t t = 0; t < pixels; t += LANES) {
                t = MIN(t, pixels - LANES); /* the last vector overlaps the one before */
                v_store(y + t, v_fma(weight, v_load(x + t), bias));
            }
        }
        y = (REAL *)a->y + first * pixels;
        if (FINISHES(a))
            FINISH(a, y, (last - first) * pixels);
    }
}
