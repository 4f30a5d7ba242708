/* Depthwise convolution: the gradient by the weight.
 *
 * grad_weight[k, r, s] = sum over n, i, j of grad_output[n, k, i, j] * xpad[n, k / multiplier, i * stride + r, ...]
 *
 * One block is one plane of x in all samples, staged as in conv_depthwise.inc.h: a vector of sums for each tap, whose
 * lanes are added up at last. Rows of grad_output that fill less than half a vector are copied as far apart as those of
 * the staged plane, and all rows taken as one.
 */
#define DEPTHWISE_RUN 256    /* vectors of products added in one chain */
#define DEPTHWISE_SAMPLES 16 /* short planes staged at a time */
#define DEPTHWISE_FLAT 16    /* vectors of a short plane: their products make one chain */

/* sums[r * SIZE + s] += g[i][j ..] * x of its tap, for rows of g and all columns, in vectors; lanes beyond the last
 * column take no part. */
INLINE void depthwise_products(const int SIZE, const int STRIDE, const REAL *x, ptrdiff_t row, ptrdiff_t part,
                               const REAL *g, ptrdiff_t g_row, ptrdiff_t rows, ptrdiff_t cols, REAL *sums) {
    ptrdiff_t whole = cols / LANES * LANES, rest = cols - whole;
    vec sum[25];
    UNROLL for (int t = 0; t < SIZE * SIZE; t++) sum[t] = v_load(sums + t * LANES);
    for (ptrdiff_t i = 0; i < rows; i++, x += STRIDE * row, g += g_row) {
        for (ptrdiff_t j = 0; j < whole; j += LANES) {
            vec z = v_load(g + j);
            UNROLL for (int t = 0; t < SIZE * SIZE; t++) sum[t] =
                v_fma(z, v_load(x + t / SIZE * row + t % SIZE % STRIDE * part + t % SIZE / STRIDE + j), sum[t]);
        }
        if (rest) {
            vec z = v_load_n(g + whole, rest);
            UNROLL for (int t = 0; t < SIZE * SIZE; t++) sum[t] = v_fma(
                z, v_load_n(x + t / SIZE * row + t % SIZE % STRIDE * part + t % SIZE / STRIDE + whole, rest), sum[t]);
        }
    }
    UNROLL for (int t = 0; t < SIZE * SIZE; t++) v_store(sums + t * LANES, sum[t]);
}

#define DEPTHWISE(SIZE, STRIDE)                                                                                        \
    static void depthwise_products_##SIZE##_##STRIDE(const REAL *x, ptrdiff_t row, ptrdiff_t part, const REAL *g,      \
                                                     ptrdiff_t g_row, ptrdiff_t rows, ptrdiff_t cols, REAL *sums) {    \
        depthwise_products(SIZE, STRIDE, x, row, part, g, g_row, rows, cols, sums);                                    \
    }
DEPTHWISE(3, 1)
DEPTHWISE(3, 2)
DEPTHWISE(5, 1)
DEPTHWISE(5, 2)
#undef DEPTHWISE

/* The same for stride 1 and all rows as one: those of g are as far apart as those of x, and `valid` is above 0 where g
 * has a pixel. Other lanes take no part. */
INLINE void depthwise_flat_products(const int SIZE, const REAL *x, ptrdiff_t row, const REAL *g, const REAL *valid,
                                    ptrdiff_t vectors, REAL *sums) {
    vec sum[25];
    UNROLL for (int t = 0; t < SIZE * SIZE; t++) sum[t] = v_load(sums + t * LANES);
    for (ptrdiff_t v = 0; v < vectors; v++, x += LANES, g += LANES, valid += LANES) {
        const vec z = v_load(g);
        const v_mask inside = v_gt(v_load(valid), v_zero());
        UNROLL for (int t = 0; t < SIZE * SIZE; t++) sum[t] =
            v_blend(inside, v_fma(z, v_load(x + t / SIZE * row + t % SIZE), sum[t]), sum[t]);
    }
    UNROLL for (int t = 0; t < SIZE * SIZE; t++) v_store(sums + t * LANES, sum[t]);
}

/* Add the lanes of each of n vectors to its total and clear them. */
static void flush_sums(REAL *sums, ptrdiff_t n, double *total) {
    REAL result[LANES];
    for (ptrdiff_t t = 0; t < n; t += LANES) {
        vec row[LANES];
        for (int i = 0; i < LANES; i++)
            row[i] = t + i < n ? v_load(sums + (t + i) * LANES) : v_zero();
        v_store(result, v_sums(row));
        for (int i = 0; i < LANES && t + i < n; i++)
            total[t + i] += result[i];
    }
    fill_run(sums, 0, n * LANES);
}

/* Vectors of a plane whose rows are short enough to be taken as one; 0 where they are not. */
static ptrdiff_t depthwise_flat_vectors(const cg_conv_grad_weight_args *a) {
    ptrdiff_t vectors = ceil_div((a->OH - 1) * a->stage_plane + a->OW, LANES);
    return a->stride_h == 1 && a->OW * 2 <= LANES && vectors <= DEPTHWISE_FLAT ? vectors : 0;
}

/* Takes the arguments of conv_grad_weight under the conditions of conv_depthwise. One block is one plane of x in all
 * samples. */
KERNEL_PLAN(conv_depthwise_grad) {
    cg_conv_grad_weight_args *a = args_;
    a->stage_cols = ceil_div((a->OW - 1) * a->stride_w + a->S, a->stride_w);
    a->stage_plane = a->stride_w * a->stage_cols; /* of one row */
    ptrdiff_t most = DEPTHWISE_BYTES / (a->stage_plane * (ptrdiff_t)sizeof(REAL)) - a->R + 1;
    a->n_row_blocks = ceil_div(a->OH, MAX(DEPTHWISE_ROWS, most / a->stride_h));
    a->block_rows = ceil_div(a->OH, a->n_row_blocks);
    a->stage_rows = (a->block_rows - 1) * a->stride_h + a->R;
    a->k_block = a->K;
    a->c_block = a->R * a->S;
    a->stage_sample = round_up(a->stage_rows * a->stage_plane + 2 * LANES, LANES);
    ptrdiff_t size = a->stage_sample;
    a->block_n = MIN(a->N, DEPTHWISE_SAMPLES);
    if (depthwise_flat_vectors(a)) /* planes of x and of g, then where g has pixels */
        size = a->stage_sample * (2 * a->block_n + 1);
    a->task.scratch_bytes = size * sizeof(REAL);
    a->task.n_blocks = a->groups;
    a->task.work = 0.25 * a->N * a->groups * a->K * a->OH * a->OW * a->R * a->S;
}

/* One plane of x in all samples, staged a few at a time: what was just stored in pieces would have to be waited for. */
static void depthwise_flat_plane(const cg_conv_grad_weight_args *a, ptrdiff_t group, ptrdiff_t k, REAL *stage,
                                 REAL *sums, double *total) {
    depthwise_frame frame = {1, a->stage_cols, a->stage_plane, a->top, a->left};
    const ptrdiff_t size = a->stage_sample, row = a->stage_plane, vectors = depthwise_flat_vectors(a);
    REAL *gradient = stage + a->block_n * size, *valid = gradient + a->block_n * size;
    for (ptrdiff_t n = 0; n < a->N; n += a->block_n) {
        const ptrdiff_t count = MIN(a->block_n, a->N - n);
        for (ptrdiff_t q = 0; q < count; q++) {
            const REAL *x = (const REAL *)a->x + (n + q) * a->x_at.stride_n + group * a->x_at.stride_c;
            const REAL *g =
                (const REAL *)a->grad_output + (n + q) * a->g_at.stride_n + (group * a->K + k) * a->g_at.stride_c;
            stage_frame(stage + q * size, &frame, 0, a->stage_rows, x, a->x_at.stride_h, a->H, a->W, 0);
            for (ptrdiff_t i = 0; i < a->OH; i++, g += a->g_at.stride_h) /* the next row covers what is too much */
                v_store(gradient + q * size + i * row, v_load_n(g, a->OW));
        }
        for (ptrdiff_t q = 0; q < count; q++)
            if (a->R == 3)
                depthwise_flat_products(3, stage + q * size, row, gradient + q * size, valid, vectors, sums);
            else
                depthwise_flat_products(5, stage + q * size, row, gradient + q * size, valid, vectors, sums);
        flush_sums(sums, a->R * a->S, total);
    }
}

KERNEL_RUN(conv_depthwise_grad) {
    const cg_conv_grad_weight_args *a = args_;
    REAL *stage = scratch_;
    const int flat = depthwise_flat_vectors(a) > 0;
    depthwise_frame frame = {a->stride_w, a->stage_cols, a->stage_plane, a->top, a->left};
    fill_run(stage, 0, (ptrdiff_t)(a->task.scratch_bytes / sizeof(REAL)));
    for (ptrdiff_t i = 0; i < a->OH && flat; i++)
        fill_run(stage + 2 * a->block_n * a->stage_sample + i * a->stage_plane, 1, a->OW);
    for (ptrdiff_t group = begin; group < end; group++)
        for (ptrdiff_t k = 0; k < a->K; k++) {
            double total[25] = {0};
            REAL sums[25 * LANES];
            ptrdiff_t taps = a->R * a->S, added = 0, most = MAX(1, DEPTHWISE_RUN / ceil_div(a->OW, LANES));
            fill_run(sums, 0, taps * LANES);
            if (flat)
                depthwise_flat_plane(a, group, k, stage, sums, total);
            for (ptrdiff_t n = 0; n < a->N && !flat; n++)
                for (ptrdiff_t i = 0; i < a->OH; i += a->block_rows) {
                    ptrdiff_t rows = MIN(a->block_rows, a->OH - i);
                    const REAL *x = (const REAL *)a->x + n * a->x_at.stride_n + group * a->x_at.stride_c;
                    const REAL *g = (const REAL *)a->grad_output + n * a->g_at.stride_n +
                                    (group * a->K + k) * a->g_at.stride_c + i * a->g_at.stride_h;
                    stage_frame(stage, &frame, i * a->stride_h, (rows - 1) * a->stride_h + a->R, x, a->x_at.stride_h,
                                a->H, a->W, a->n_row_blocks > 1);
                    for (ptrdiff_t h = 0, count; h < rows; h += count) {
                        count = MIN(most - added, rows - h);
                        const REAL *p = stage + h * a->stride_h * a->stage_plane, *q = g + h * a->g_at.stride_h;
                        if (a->R == 3 && a->stride_h == 1)
                            depthwise_products_3_1(p, a->stage_plane, a->stage_cols, q, a->g_at.stride_h, count, a->OW,
                                                   sums);
                        else if (a->R == 3)
                            depthwise_products_3_2(p, a->stage_plane, a->stage_cols, q, a->g_at.stride_h, count, a->OW,
                                                   sums);
                        else if (a->stride_h == 1)
                            depthwise_products_5_1(p, a->stage_plane, a->stage_cols, q, a->g_at.stride_h, count, a->OW,
                                                   sums);
                        else
                            depthwise_products_5_2(p, a->stage_plane, a->stage_cols, q, a->g_at.stride_h, count, a->OW,
                                                   sums);
                        added += count;
                        if (added == most || (n == a->N - 1 && i + h + count == a->OH)) {
                            flush_sums(sums, taps, total);
                            added = 0;
                        }
                    }
                }
            REAL *out = (REAL *)a->grad_weight + (group * a->K + k) * taps;
            for (ptrdiff_t t = 0; t < taps; t++)
                out[t] = (REAL)total[t];
        }
}
