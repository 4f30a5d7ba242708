/* Locally connected layers: a convolution whose every output pixel has a weight of its own.
 *
 *   y[n, k, i, j] = activation(bias[i, j, k] + sum over c, r, s of weight[i, j, k, c, r, s] * x[n, c, h + r, v + s])
 *   with h = i * stride_h, v = j * stride_w
 *
 * The weights are by far the largest operand, so each pass reads them once for many samples. For a pixel (i, j) the
 * patches of a few samples are copied to scratch in the order of the weights, (c, r, s), padded with zeros to whole
 * vectors: forward       products of rows of weights with patches, LOCAL_KS x LOCAL_NS at a time, lanes added at the
 * end grad_weight   sum over n of grad_output[n, k] * patch[n], vectors over (c, r, s) grad_input    sum over k of
 * grad_output[n, k] * weight[k], vectors over (c, r, s) of a few channels, added into x's cells; a block owns these
 * channels of these samples
 */
#define LOCAL_NS 4
#if VECTOR_BYTES == 64 /* 32 registers: 16 sums */
#define LOCAL_KS 4
#else
#define LOCAL_KS 2
#endif
#define LOCAL_SUMS (LOCAL_KS * LOCAL_NS)
#define LOCAL_PATCH_BYTES (256 << 10)  /* patches staged at a time */
#define LOCAL_CHANNEL_BYTES (16 << 10) /* of one sample's plane group in grad_input */

INLINE const REAL *local_pixel(const cg_local_args *a, ptrdiff_t n, ptrdiff_t c, ptrdiff_t h, ptrdiff_t v) {
    return (const REAL *)a->x + n * a->x_at.stride_n + c * a->x_at.stride_c + h * a->x_at.stride_h +
           v * a->x_at.stride_w;
}

/* The patch of sample n that output pixel (i, j) sees, in the order (c, r, s); a->patch numbers and up to a vector
 * more. */
static void gather_patch(const cg_local_args *a, ptrdiff_t n, ptrdiff_t i, ptrdiff_t j, REAL *patch) {
    ptrdiff_t cells = a->R * a->S, size = a->C * cells;
    const REAL *x = local_pixel(a, n, 0, i * a->stride_h, j * a->stride_w),
               *end = (const REAL *)a->x + a->N * a->C * a->H * a->W;
    if (a->x_at.stride_w == 1) {
        for (ptrdiff_t c = 0; c < a->C; c++)
            for (ptrdiff_t r = 0; r < a->R; r++, patch += a->S)
                pool_copy(patch, patch + a->S + LANES, x + c * a->x_at.stride_c + r * a->x_at.stride_h, end, a->S);
    } else {
        for (ptrdiff_t r = 0; r < a->R; r++)
            for (ptrdiff_t s = 0; s < a->S; s++) {
                const REAL *pixel = x + r * a->x_at.stride_h + s * a->x_at.stride_w;
                REAL *to = patch + r * a->S + s;
                for (ptrdiff_t c = 0; c < a->C; c++)
                    to[c * cells] = pixel[c * a->x_at.stride_c];
            }
        patch += size;
    }
    pool_fill(patch, a->patch - size, 0);
}

/* result[n][k] = sum over t of weight[k][t] * patch[n][t]: rows of weights are `size` numbers, of patches a->patch.
 * Rows beyond n_k or n_n repeat the last one, so every product is computed in the same way whatever its neighbours. */
static void local_products(const cg_local_args *a, const REAL *weight, ptrdiff_t n_k, const REAL *patch, ptrdiff_t n_n,
                           REAL *result) {
    ptrdiff_t size = a->C * a->R * a->S;
    const REAL *w[LOCAL_KS], *x[LOCAL_NS];
    UNROLL for (int k = 0; k < LOCAL_KS; k++) w[k] = weight + MIN(k, n_k - 1) * size;
    UNROLL for (int n = 0; n < LOCAL_NS; n++) x[n] = patch + MIN(n, n_n - 1) * a->patch;
    vec sum[MAX(LOCAL_SUMS, LANES)];
    UNROLL for (int i = 0; i < LOCAL_SUMS; i++) sum[i] = v_zero();
    ptrdiff_t t = 0;
    for (; t + LANES <= size; t += LANES) {
        vec b[LOCAL_NS];
        UNROLL for (int n = 0; n < LOCAL_NS; n++) b[n] = v_load(x[n] + t);
        UNROLL for (int k = 0; k < LOCAL_KS; k++) {
            vec v = v_load(w[k] + t);
            UNROLL for (int n = 0; n < LOCAL_NS; n++) sum[n * LOCAL_KS + k] = v_fma(v, b[n], sum[n * LOCAL_KS + k]);
        }
    }
    if (t < size)
        UNROLL for (int k = 0; k < LOCAL_KS; k++) {
            vec v = v_load_n(w[k] + t, size - t);
            UNROLL for (int n = 0; n < LOCAL_NS; n++) sum[n * LOCAL_KS + k] =
                v_fma(v, v_load_n(x[n] + t, size - t), sum[n * LOCAL_KS + k]);
        }
    REAL lane[LOCAL_SUMS];
    UNROLL for (int i = 0; i < LOCAL_SUMS; i += LANES) v_store(lane + i, v_sums(sum + i));
    for (ptrdiff_t n = 0; n < n_n; n++)
        for (ptrdiff_t k = 0; k < n_k; k++)
            result[n * a->K + k] = lane[n * LOCAL_KS + k];
}

/* Samples whose patches are staged at a time: at least a tile of them, where there are as many. */
static void plan_patches(cg_local_args *a) {
    ptrdiff_t size = a->C * a->R * a->S;
    a->patch = round_up(size, LANES);
    a->samples = MAX(LOCAL_NS, LOCAL_PATCH_BYTES / (a->patch * (ptrdiff_t)sizeof(REAL)) / LOCAL_NS * LOCAL_NS);
    a->samples = MIN(MIN(a->samples, 256), a->N);
    a->task.n_blocks = a->OH * a->OW;
    a->task.work = 2.0 * a->N * a->OH * a->OW * a->K * size;
    a->task.scratch_bytes = (a->samples * (a->patch + a->K) + 2 * LANES + 16) * sizeof(REAL);
}

KERNEL_PLAN(locally_connected2d) {
    plan_patches(args_);
}

/* One block is one output pixel. */
KERNEL_RUN(locally_connected2d) {
    const cg_local_args *a = args_;
    ptrdiff_t size = a->C * a->R * a->S, K = a->K;
    REAL *patches = scratch_, *result = patches + round_up(a->samples * a->patch + LANES, 16);
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t i = block / a->OW, j = block % a->OW;
        const REAL *weight = (const REAL *)a->weight + block * K * size;
        const REAL *bias = a->bias ? (const REAL *)a->bias + block * K : 0;
        REAL *y = (REAL *)a->out + i * a->y_at.stride_h + j * a->y_at.stride_w;
        for (ptrdiff_t n0 = 0; n0 < a->N; n0 += a->samples) {
            ptrdiff_t count = MIN(a->samples, a->N - n0);
            for (ptrdiff_t n = 0; n < count; n++)
                gather_patch(a, n0 + n, i, j, patches + n * a->patch);
            for (ptrdiff_t k = 0; k < K; k += LOCAL_KS)
                for (ptrdiff_t n = 0; n < count; n += LOCAL_NS)
                    local_products(a, weight + k * size, MIN(LOCAL_KS, K - k), patches + n * a->patch,
                                   MIN(LOCAL_NS, count - n), result + n * K + k);
            if (a->bias)
                for (ptrdiff_t n = 0; n < count; n++)
                    for (ptrdiff_t k = 0; k < K; k++)
                        result[n * K + k] += bias[k];
            if (a->activation)
                activate_run(a->activation, (REAL)a->parameter, result, count * K);
            for (ptrdiff_t n = 0; n < count; n++)
                for (ptrdiff_t k = 0; k < K; k++)
                    y[(n0 + n) * a->y_at.stride_n + k * a->y_at.stride_c] = result[n * K + k];
        }
    }
}

KERNEL_PLAN(locally_connected2d_grad_weight) {
    plan_patches(args_);
}

/* row[k][t] (+)= sum over n of g[n][k] * patch[n][t] for `n_k` <= 4 rows and two vectors of t, the last `count` numbers
 * of them */
INLINE void local_outer(const cg_local_args *a, const REAL *g, ptrdiff_t n_k, const REAL *patch, ptrdiff_t n_n, int add,
                        REAL *row, ptrdiff_t size, ptrdiff_t count) {
    vec sum[4][2];
    for (int k = 0; k < 4; k++)
        sum[k][0] = sum[k][1] = v_zero();
    ptrdiff_t at[4];
    for (int k = 0; k < 4; k++)
        at[k] = MIN(k, n_k - 1);
    for (ptrdiff_t n = 0; n < n_n; n++) {
        vec x0 = v_load(patch + n * a->patch), x1 = v_load(patch + n * a->patch + LANES);
        UNROLL for (int k = 0; k < 4; k++) {
            vec b = v_set1(g[n * a->K + at[k]]);
            sum[k][0] = v_fma(b, x0, sum[k][0]);
            sum[k][1] = v_fma(b, x1, sum[k][1]);
        }
    }
    for (ptrdiff_t k = 0; k < n_k; k++)
        for (int v = 0; v < 2; v++) {
            ptrdiff_t m = MIN(LANES, count - v * LANES);
            REAL *to = row + k * size + v * LANES;
            if (m == LANES)
                v_store(to, add ? v_load(to) + sum[k][v] : sum[k][v]);
            else if (m > 0)
                v_store_n(to, add ? v_load_n(to, m) + sum[k][v] : sum[k][v], m);
        }
}

/* One block is one output pixel. */
KERNEL_RUN(locally_connected2d_grad_weight) {
    const cg_local_args *a = args_;
    ptrdiff_t size = a->C * a->R * a->S, K = a->K;
    REAL *patches = scratch_, *g = patches + round_up(a->samples * a->patch + LANES, 16);
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t i = block / a->OW, j = block % a->OW;
        const REAL *grad = (const REAL *)a->grad_output + i * a->y_at.stride_h + j * a->y_at.stride_w;
        REAL *to = (REAL *)a->out + block * K * size, *bias = (REAL *)a->grad_bias + block * K;
        for (ptrdiff_t n0 = 0; n0 < a->N; n0 += a->samples) {
            ptrdiff_t count = MIN(a->samples, a->N - n0);
            for (ptrdiff_t n = 0; n < count; n++)
                for (ptrdiff_t k = 0; k < K; k++)
                    g[n * K + k] = grad[(n0 + n) * a->y_at.stride_n + k * a->y_at.stride_c];
            if (a->grad_bias)
                for (ptrdiff_t k = 0; k < K; k++) {
                    REAL sum = n0 ? bias[k] : 0;
                    for (ptrdiff_t n = 0; n < count; n++)
                        sum += g[n * K + k];
                    bias[k] = sum;
                }
            if (!a->out)
                continue;
            for (ptrdiff_t n = 0; n < count; n++)
                gather_patch(a, n0 + n, i, j, patches + n * a->patch);
            for (ptrdiff_t t = 0; t < size; t += 2 * LANES)
                for (ptrdiff_t k = 0; k < K; k += 4)
                    local_outer(a, g + k, MIN(4, K - k), patches + t, count, n0 > 0, to + k * size + t, size, size - t);
        }
    }
}

/* Channels of a block: those whose planes, of one sample, fit a third of an L1 cache. */
KERNEL_PLAN(locally_connected2d_grad_input) {
    cg_local_args *a = args_;
    ptrdiff_t plane = a->H * a->W * (ptrdiff_t)sizeof(REAL), cells = a->R * a->S;
    a->channels = MIN(a->C, MAX(ceil_div(4 * LANES, cells), LOCAL_CHANNEL_BYTES / plane));
    a->channels = MAX(1, MIN(a->channels, a->C));
    a->samples = MIN(a->N, 32);
    a->patch = round_up(a->channels * cells, 2 * LANES);
    a->task.n_blocks = ceil_div(a->N, a->samples) * ceil_div(a->C, a->channels);
    a->task.work = 2.0 * a->N * a->OH * a->OW * a->K * a->C * cells;
    a->task.scratch_bytes = (a->samples * (a->patch + a->K) + a->patch + 32) * sizeof(REAL);
}

/* out[n][t] = sum over k of g[n][k] * weight[k][t], for n_n <= 4 samples and two vectors of t, of which `count` numbers
 * exist */
INLINE void local_spread(const cg_local_args *a, const REAL *g, ptrdiff_t n_n, const REAL *weight, ptrdiff_t size,
                         ptrdiff_t count, REAL *out) {
    vec sum[4][2];
    ptrdiff_t at[4], first = MIN(LANES, count), second = MAX(0, MIN(LANES, count - LANES));
    for (int n = 0; n < 4; n++) {
        sum[n][0] = sum[n][1] = v_zero();
        at[n] = MIN(n, n_n - 1) * a->K;
    }
    for (ptrdiff_t k = 0; k < a->K; k++) {
        const REAL *w = weight + k * size;
        vec w0, w1;
        if (LIKELY(count >= 2 * LANES)) {
            w0 = v_load(w);
            w1 = v_load(w + LANES);
        } else {
            w0 = v_load_n(w, first);
            w1 = second ? v_load_n(w + LANES, second) : v_zero();
        }
        UNROLL for (int n = 0; n < 4; n++) {
            vec b = v_set1(g[at[n] + k]);
            sum[n][0] = v_fma(b, w0, sum[n][0]);
            sum[n][1] = v_fma(b, w1, sum[n][1]);
        }
    }
    for (ptrdiff_t n = 0; n < n_n; n++) {
        v_store(out + n * a->patch, sum[n][0]);
        v_store(out + n * a->patch + LANES, sum[n][1]);
    }
}

/* x[...] += patch for `channels` channels; the patch is in the order (c, r, s) */
static void add_patch(const cg_local_args *a, const REAL *patch, REAL *x, ptrdiff_t channels) {
    ptrdiff_t cells = a->R * a->S;
    if (a->x_at.stride_w != 1) {
        for (ptrdiff_t r = 0; r < a->R; r++)
            for (ptrdiff_t s = 0; s < a->S; s++)
                for (ptrdiff_t c = 0; c < channels; c++)
                    x[r * a->x_at.stride_h + s * a->x_at.stride_w + c * a->x_at.stride_c] +=
                        patch[c * cells + r * a->S + s];
        return;
    }
    for (ptrdiff_t c = 0; c < channels; c++)
        for (ptrdiff_t r = 0; r < a->R; r++, patch += a->S) {
            REAL *row = x + c * a->x_at.stride_c + r * a->x_at.stride_h;
            ptrdiff_t s = 0;
            for (; s + LANES <= a->S; s += LANES)
                v_store(row + s, v_load(row + s) + v_load(patch + s));
            for (; s < a->S; s++)
                row[s] += patch[s];
        }
}

static void clear_channels(const cg_local_args *a, ptrdiff_t n0, ptrdiff_t count, ptrdiff_t c0, ptrdiff_t channels) {
    ptrdiff_t pixels = a->H * a->W;
    for (ptrdiff_t n = n0; n < n0 + count; n++) {
        REAL *x = (REAL *)a->out + n * a->x_at.stride_n + c0 * a->x_at.stride_c;
        if (a->x_at.stride_w == 1)
            memset(x, 0, (size_t)(channels * pixels) * sizeof(REAL));
        else
            for (ptrdiff_t pixel = 0; pixel < pixels; pixel++)
                memset(x + pixel * a->C, 0, (size_t)channels * sizeof(REAL));
    }
}

KERNEL_RUN(locally_connected2d_grad_input) {
    const cg_local_args *a = args_;
    ptrdiff_t size = a->C * a->R * a->S, cells = a->R * a->S, channel_blocks = ceil_div(a->C, a->channels);
    REAL *g = scratch_, *patches = g + round_up(a->samples * a->K, 16);
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t n0 = block / channel_blocks * a->samples, c0 = block % channel_blocks * a->channels;
        ptrdiff_t count = MIN(a->samples, a->N - n0), channels = MIN(a->channels, a->C - c0), run = channels * cells;
        clear_channels(a, n0, count, c0, channels);
        for (ptrdiff_t at = 0; at < a->OH * a->OW; at++) {
            ptrdiff_t i = at / a->OW, j = at % a->OW;
            const REAL *grad = (const REAL *)a->grad_output + i * a->y_at.stride_h + j * a->y_at.stride_w;
            for (ptrdiff_t n = 0; n < count; n++)
                for (ptrdiff_t k = 0; k < a->K; k++)
                    g[n * a->K + k] = grad[(n0 + n) * a->y_at.stride_n + k * a->y_at.stride_c];
            const REAL *weight = (const REAL *)a->weight + at * a->K * size + c0 * cells;
            for (ptrdiff_t t = 0; t < run; t += 2 * LANES)
                for (ptrdiff_t n = 0; n < count; n += 4)
                    local_spread(a, g + n * a->K, MIN(4, count - n), weight + t, size, run - t,
                                 patches + n * a->patch + t);
            for (ptrdiff_t n = 0; n < count; n++)
                add_patch(a, patches + n * a->patch,
                          (REAL *)a->out + (n0 + n) * a->x_at.stride_n + c0 * a->x_at.stride_c +
                              i * a->stride_h * a->x_at.stride_h + j * a->stride_w * a->x_at.stride_w,
                          channels);
        }
    }
}
