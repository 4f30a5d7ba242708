/* grad_weight of a 1x1 convolution whose pixels are adjacent in both operands: sums of products along the pixels.
 *
 * Neither operand is transposed: a tile holds the sums of KR channels of one operand with P of the other, a vector of
 * partial sums for each pair, and these stay vectors, in scratch that L2 holds, until all pixels have passed. The
 * operand with more channels is the "wide" one, which takes the place of grad_output (see `swap` in the plan).
 */
#define POINTWISE_RUN (3200 / (ptrdiff_t)sizeof(REAL)) /* pixels between two visits to the sums */
#define POINTWISE_SUMS (8 << 10)                       /* pairs of channels of a block: 512 KB of sums */

/* What the other way costs for a slot of FMA of this one, most of whose 64-byte loads cross lines of the cache. */
#define POINTWISE_BROADCAST (LANES * REAL_BYTES == 64 ? 0.85 : 1.2)

/* sums[k * P + p] += products of wide[k] and narrow[p] over n pixels of each of n_samples samples. While it goes it
 * fetches what lies from `soon` on, a cache line for each vector. */
INLINE void tile_pointwise(const int KR, const int P, const REAL *const *wide, ptrdiff_t wide_n,
                           const REAL *const *narrow, ptrdiff_t narrow_n, ptrdiff_t n_samples, ptrdiff_t n, int add,
                           REAL *sums, const REAL *soon) {
    vec sum[24];
    const REAL *a[4], *b[6];
    UNROLL for (int i = 0; i < KR * P; i++) sum[i] = v_zero();
    UNROLL for (int k = 0; k < KR; k++) a[k] = wide[k];
    UNROLL for (int p = 0; p < P; p++) b[p] = narrow[p];
    for (ptrdiff_t sample = 0; sample < n_samples; sample++) {
        ptrdiff_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            vec w[4];
            PREFETCH(soon + i);
            UNROLL for (int k = 0; k < KR; k++) w[k] = v_load(a[k] + i);
            UNROLL for (int p = 0; p < P; p++) {
                vec x = v_load(b[p] + i);
                UNROLL for (int k = 0; k < KR; k++) sum[k * P + p] = v_fma(w[k], x, sum[k * P + p]);
            }
        }
        if (i < n) {
            vec w[4];
            UNROLL for (int k = 0; k < KR; k++) w[k] = v_load_n(a[k] + i, n - i);
            UNROLL for (int p = 0; p < P; p++) {
                vec x = v_load_n(b[p] + i, n - i);
                UNROLL for (int k = 0; k < KR; k++) sum[k * P + p] = v_fma(w[k], x, sum[k * P + p]);
            }
        }
        UNROLL for (int k = 0; k < KR; k++) a[k] += wide_n;
        UNROLL for (int p = 0; p < P; p++) b[p] += narrow_n;
    }
    UNROLL for (int i = 0; i < KR * P; i++) v_store(sums + i * LANES, add ? v_load(sums + i * LANES) + sum[i] : sum[i]);
}

/* clang-format off */
typedef void tile_pointwise_fn(const REAL *const *, ptrdiff_t, const REAL *const *, ptrdiff_t, ptrdiff_t, ptrdiff_t, int, REAL *, const REAL *);
#define TILE(KR, P)                                                                                                    \
    static void tile_pointwise_##P(const REAL *const *wide, ptrdiff_t wide_n, const REAL *const *narrow,               \
                                   ptrdiff_t narrow_n, ptrdiff_t n_samples, ptrdiff_t n, int add, REAL *sums,          \
                                   const REAL *soon) {                                                                 \
        tile_pointwise(KR, P, wide, wide_n, narrow, narrow_n, n_samples, n, add, sums, soon);                          \
    }
#if TILE_ROWS_CHANNELS * TILE_ROWS_VECTORS >= 24
#define POINTWISE_WIDE 4
#define POINTWISE_NARROW 6
TILE(4, 1) TILE(4, 2) TILE(4, 3) TILE(4, 4) TILE(4, 5) TILE(4, 6)
static tile_pointwise_fn *const tiles_pointwise[] = {0, tile_pointwise_1, tile_pointwise_2, tile_pointwise_3, tile_pointwise_4, tile_pointwise_5, tile_pointwise_6};
#else
#define POINTWISE_WIDE 3
#define POINTWISE_NARROW 4
TILE(3, 1) TILE(3, 2) TILE(3, 3) TILE(3, 4)
static tile_pointwise_fn *const tiles_pointwise[] = {0, tile_pointwise_1, tile_pointwise_2, tile_pointwise_3, tile_pointwise_4};
#endif
#undef TILE
/* clang-format on */

/* Whether the sums along pixels cost less than transposing one operand for tiles that broadcast the other: costs in FMA
 * slots for each pair of channels and vector of pixels. */
static int prefers_pointwise(const cg_conv_grad_weight_args *a) {
    ptrdiff_t pixels = a->OH * a->OW, narrow = MIN(a->K, a->C);
    if (a->R * a->S * a->stride_h * a->stride_w != 1 || a->top || a->left || a->H * a->W != pixels || a->H != 1 ||
        a->x_at.stride_w != 1 || a->g_at.stride_w != 1 || a->N * (double)pixels < 8 * LANES)
        return 0;
    double vectors = (double)pixels / LANES, total = a->N * vectors;
    ptrdiff_t transposed = narrow <= LANES ? LANES : round_up(narrow, 2 * LANES);
    double along = ceil(vectors) / vectors * (1 + 10 / total) + 4.0 * LANES / POINTWISE_RUN;
    double slot = narrow <= LANES ? 1.2 : POINTWISE_BROADCAST; /* tiles of one vector wait for loads */
    double broadcast = slot * transposed / narrow + 12.0 / MAX(a->K, a->C);
    return along < broadcast;
}

/* A 1x1 kernel makes the operands alike: x takes the place of grad_output, and the other way round. */
static void swap_operands(cg_conv_grad_weight_args *a) {
    ptrdiff_t channels = a->C;
    const void *x = a->x;
    cg_strides at = a->x_at;
    a->C = a->K, a->x = a->grad_output, a->x_at = a->g_at;
    a->K = channels, a->grad_output = x, a->g_at = at;
}

static void plan_pointwise(cg_conv_grad_weight_args *a) {
    a->swap = a->C > a->K;
    if (a->swap)
        swap_operands(a);
    ptrdiff_t pixels = a->OH * a->OW, threads = MAX(1, a->task.threads);
    a->n_c_blocks = ceil_div(a->C, 21 * POINTWISE_NARROW);
    a->c_block = ceil_div(a->C, a->n_c_blocks);
    a->n_k_blocks = ceil_div(a->K, POINTWISE_SUMS / a->c_block);
    if (a->groups * a->n_c_blocks * a->n_k_blocks % threads)
        a->n_k_blocks = round_up(a->n_k_blocks, threads);
    a->k_block = round_up(ceil_div(a->K, a->n_k_blocks), POINTWISE_WIDE);
    a->n_k_blocks = ceil_div(a->K, a->k_block);
    a->n_col_blocks = ceil_div(pixels, POINTWISE_RUN);
    a->block_cols = round_up(ceil_div(pixels, a->n_col_blocks), LANES);
    a->n_col_blocks = ceil_div(pixels, a->block_cols);
    a->block_n = a->n_col_blocks == 1 ? MAX(1, MIN(a->N, POINTWISE_RUN / pixels)) : 1;
    ptrdiff_t at = 0;
    a->result_at = at, at += a->k_block * (a->c_block + POINTWISE_NARROW) * LANES * (ptrdiff_t)sizeof(REAL);
    a->task.scratch_bytes = (size_t)at;
    a->task.n_blocks = a->groups * a->n_k_blocks * a->n_c_blocks;
    a->task.work = 0.25 * a->N * a->groups * a->K * a->C * pixels;
}

/* The sums of a block, [tile of c][tile of k][k][c] vectors, into grad_weight. */
static void deliver_sums(const cg_conv_grad_weight_args *a, ptrdiff_t group, ptrdiff_t k0, ptrdiff_t n_k, ptrdiff_t c0,
                         ptrdiff_t n_c, REAL *sums) {
    ptrdiff_t step_k = a->swap ? 1 : a->C, step_c = a->swap ? a->K : 1, vectors = 0;
    REAL *out = (REAL *)a->grad_weight + group * a->K * a->C + k0 * step_k + c0 * step_c, *from = sums;
    ptrdiff_t tiles = ceil_div(n_c, POINTWISE_NARROW);
    for (ptrdiff_t i = 0; i < tiles; i++)
        vectors += ceil_div(n_k, POINTWISE_WIDE) * POINTWISE_WIDE * (n_c * (i + 1) / tiles - n_c * i / tiles);
    for (ptrdiff_t i = 0; i < vectors; i += LANES) { /* sums of LANES vectors take the place of the first ones */
        vec row[LANES];
        for (int r = 0; r < LANES; r++)
            row[r] = i + r < vectors ? v_load(from + (i + r) * LANES) : v_zero();
        v_store(sums + i, v_sums(row));
    }
    for (ptrdiff_t i = 0; i < tiles; i++) {
        ptrdiff_t c = n_c * i / tiles, width = n_c * (i + 1) / tiles - c;
        for (ptrdiff_t k = 0; k < n_k; k += POINTWISE_WIDE)
            for (int q = 0; q < POINTWISE_WIDE; q++, sums += width)
                for (ptrdiff_t p = 0; p < width && k + q < n_k; p++)
                    out[(k + q) * step_k + (c + p) * step_c] = sums[p];
    }
}

static void run_pointwise(const cg_conv_grad_weight_args *a, ptrdiff_t block, REAL *sums) {
    ptrdiff_t c0 = block % a->n_c_blocks * a->c_block, n_c = MIN(a->c_block, a->C - c0);
    ptrdiff_t k0 = block / a->n_c_blocks % a->n_k_blocks * a->k_block, n_k = MIN(a->k_block, a->K - k0);
    ptrdiff_t group = block / a->n_c_blocks / a->n_k_blocks, pixels = a->OW, tiles = ceil_div(n_c, POINTWISE_NARROW);
    ptrdiff_t wide_c = a->g_at.stride_c, wide_n = a->g_at.stride_n, narrow_c = a->x_at.stride_c,
              narrow_n = a->x_at.stride_n;
    const REAL *wide = (const REAL *)a->grad_output + (group * a->K + k0) * wide_c;
    const REAL *narrow = (const REAL *)a->x + (group * a->C + c0) * narrow_c;
    int add = 0;
    for (ptrdiff_t n = 0; n < a->N; n += a->block_n)
        for (ptrdiff_t j = 0; j < pixels; j += a->block_cols, add = 1) {
            ptrdiff_t n_samples = MIN(a->block_n, a->N - n), cols = MIN(a->block_cols, pixels - j);
            const REAL *x = narrow + n * narrow_n + j, *g = wide + n * wide_n + j;
            /* the rows of the next run, the narrow operand's first, are fetched one by one, spread over the tiles */
            int last = n + a->block_n >= a->N && j + a->block_cols >= pixels;
            ptrdiff_t count = 0, all = tiles * ceil_div(n_k, POINTWISE_WIDE), rows = n_c + n_k,
                      next = j + a->block_cols < pixels ? a->block_cols : 0;
            ptrdiff_t next_x = next ? next : a->block_n * narrow_n - j, next_g = next ? next : a->block_n * wide_n - j;
            REAL *to = sums;
            for (ptrdiff_t i = 0; i < tiles; i++) {
                ptrdiff_t c = n_c * i / tiles, width = n_c * (i + 1) / tiles - c;
                const REAL *b[6], *w[4];
                for (ptrdiff_t p = 0; p < width; p++)
                    b[p] = x + (c + p) * narrow_c;
                for (ptrdiff_t k = 0; k < n_k; k += POINTWISE_WIDE, count++) {
                    ptrdiff_t row = all <= rows ? count : count * rows / all;
                    int fresh = all <= rows || count == 0 || row != (count - 1) * rows / all;
                    for (int q = 0; q < POINTWISE_WIDE; q++) /* the last one is repeated to fill a tile */
                        w[q] = g + MIN(k + q, n_k - 1) * wide_c;
                    const REAL *soon = last || row >= rows || !fresh ? g
                                       : row < n_c                   ? x + row * narrow_c + next_x
                                                                     : g + (row - n_c) * wide_c + next_g;
                    tiles_pointwise[width](w, wide_n, b, narrow_n, n_samples, cols, add, to, soon);
                    to += POINTWISE_WIDE * width * LANES;
                }
            }
        }
    deliver_sums(a, group, k0, n_k, c0, n_c, sums);
}
