/* The microkernels of direct convolution: a tile of results stays in registers while a list of terms is added.
 *
 * tile_broadcast   KV vectors of output channels x P pixels:  out[p][k] += sum over t of w[t][k] * x[p][offset[t]]
 *     w is packed [t][KV * LANES] (`gemm` has it further apart). Each pixel has a pointer of its own, so pixels may lie
 *     anywhere (rows of any stride, other samples); where they come in groups of adjacent ones, only the first of a
 *     group has, and registers are saved. The gradient by the weight is the same sum with t over pixels, p over kernel
 *     positions.
 * tile_rows        KR output channels x V vectors of pixels:  out[k][v] += sum over t of w[t][k] * x[offset[t] + v]
 * tile_dot         KR x P sums along adjacent pixels:  out[k][p] += sum over i of g[k][i] * x[p][i], where out holds a
 *                  vector for each sum, whose lanes are to be added up at last
 *
 * `soon` is what will be needed after this tile: the first two fetch soon[t * soon_step] into the cache as they go, so
 * that copying it later does not wait for memory. A step of 0 fetches nothing new. Tiles over pixels fetch into L1, as
 * few channels leave room there and little time until it is read.
 *
 * How a tile leaves its sums in `out`: stored, added to what is there (shorter chains round less), or, by tile_rows
 * only, stored past the cache: for results larger than the cache, in whole lines of it.
 *
 * Each result is one chain of multiply-adds in the order of t whatever the tile: tile sizes do not change its bits.
 */

/* Every pixel starts from the vectors `init`; add: the sum is added to what `out` holds (shorter chains round less). */
INLINE void tile_broadcast(const int KV, const int P, const int group, const REAL *w, ptrdiff_t w_step,
                           const REAL *const *x, const int32_t *offset, ptrdiff_t n, const REAL *init, int add,
                           REAL *out, ptrdiff_t out_step, const REAL *soon, ptrdiff_t soon_step) {
    vec sum[28];
    const REAL *px[14];
    UNROLL for (int p = 0; p < P; p++) {
        px[p] = x[p / group * group] + p % group;
        UNROLL for (int k = 0; k < KV; k++) sum[p * KV + k] = v_load(init + k * LANES);
    }
    for (ptrdiff_t t = 0; t < n; t++, w += w_step) {
        ptrdiff_t at = offset[t];
        vec a[4];
        PREFETCH(soon);
        soon += soon_step;
        UNROLL for (int k = 0; k < KV; k++) a[k] = v_load(w + k * LANES);
        UNROLL for (int p = 0; p < P; p++) {
            vec b = v_set1(px[p][at]);
            UNROLL for (int k = 0; k < KV; k++) sum[p * KV + k] = v_fma(a[k], b, sum[p * KV + k]);
        }
    }
    UNROLL for (int p = 0; p < P; p++) UNROLL for (int k = 0; k < KV; k++) {
        REAL *to = out + p * out_step + k * LANES;
        v_store(to, add ? v_load(to) + sum[p * KV + k] : sum[p * KV + k]);
    }
}

/* clang-format off */
typedef void tile_broadcast_fn(const REAL *, const REAL *const *, const int32_t *, ptrdiff_t, const REAL *, int, REAL *,
                               ptrdiff_t, const REAL *, ptrdiff_t);
#define TILE(KV, P)                                                                                                    \
    static void tile_broadcast_##KV##x##P(const REAL *w, const REAL *const *x, const int32_t *offset, ptrdiff_t n,     \
                                          const REAL *init, int add, REAL *out, ptrdiff_t out_step, const REAL *soon,  \
                                          ptrdiff_t soon_step) {                                                       \
        tile_broadcast(KV, P, 1, w, KV *LANES, x, offset, n, init, add, out, out_step, soon, soon_step);                  \
    }
TILE(1, 1) TILE(1, 2) TILE(1, 4) TILE(1, 8)
TILE(2, 1) TILE(2, 2) TILE(2, 3) TILE(2, 4) TILE(2, 5)
#if TILE_PIXELS_1 >= 12
TILE(1, 12)
#endif
#if TILE_PIXELS_2 >= 6
TILE(2, 6)
#endif
#if TILE_PIXELS_2 >= 12
TILE(2, 7) TILE(2, 8) TILE(2, 10) TILE(2, 12)
#endif
#if TILE_PIXELS_2 >= 14
TILE(2, 14)
#endif
#if TILE_CHANNELS_MAX >= 4
TILE(4, 1) TILE(4, 2) TILE(4, 3)
#if TILE_PIXELS_4 >= 6
TILE(4, 4) TILE(4, 5) TILE(4, 6)
#endif
#if TILE_PIXELS_4 >= 7
TILE(4, 7)
#endif
#endif
#undef TILE

typedef struct {
    int pixels;
    tile_broadcast_fn *fn;
} broadcast_tile;
#define TILE(KV, P) {P, tile_broadcast_##KV##x##P},
static const broadcast_tile tiles_1[] = {TILE(1, 1) TILE(1, 2) TILE(1, 4) TILE(1, 8)
#if TILE_PIXELS_1 >= 12
                                             TILE(1, 12)
#endif
};
static const broadcast_tile tiles_2[] = {TILE(2, 1) TILE(2, 2) TILE(2, 3) TILE(2, 4) TILE(2, 5)
#if TILE_PIXELS_2 >= 6
                                             TILE(2, 6)
#endif
#if TILE_PIXELS_2 >= 12
                                                 TILE(2, 7) TILE(2, 8) TILE(2, 10) TILE(2, 12)
#endif
#if TILE_PIXELS_2 >= 14
                                                     TILE(2, 14)
#endif
};
#if TILE_CHANNELS_MAX >= 4
static const broadcast_tile tiles_4[] = {TILE(4, 1) TILE(4, 2) TILE(4, 3)
#if TILE_PIXELS_4 >= 6
                                             TILE(4, 4) TILE(4, 5) TILE(4, 6)
#endif
#if TILE_PIXELS_4 >= 7
                                                 TILE(4, 7)
#endif
};
#endif
#undef TILE

/* clang-format on */

/* Tiles of one vector over groups of adjacent pixels. */
#if LANES >= 8 && REAL_BYTES == 4
/* clang-format off */
#define TILE(G, P)                                                                                                     \
    static void tile_near_##G##x##P(const REAL *w, const REAL *const *x, const int32_t *offset, ptrdiff_t n,           \
                                    const REAL *init, int add, REAL *out, ptrdiff_t out_step, const REAL *soon,        \
                                    ptrdiff_t soon_step) {                                                             \
        tile_broadcast(1, P, G, w, LANES, x, offset, n, init, add, out, out_step, soon, soon_step);                    \
    }
TILE(5, 10) TILE(8, 8) TILE(10, 10) TILE(14, 14)
#undef TILE
#define TILE(G, P) {P, tile_near_##G##x##P},
static const broadcast_tile tiles_of_row[] = {TILE(14, 14) TILE(10, 10) TILE(8, 8)};
#undef TILE
/* clang-format on */
static const broadcast_tile tile_of_5 = {10, tile_near_5x10};
#endif

/* The largest of these tiles that rows of n pixels are made of, or one of no pixels. */
static broadcast_tile tile_of_rows(ptrdiff_t n) {
#if LANES >= 8 && REAL_BYTES == 4
    for (int i = 0; i < (int)(sizeof tiles_of_row / sizeof *tiles_of_row); i++)
        if (n % tiles_of_row[i].pixels == 0)
            return tiles_of_row[i];
#endif
    (void)n;
    return (broadcast_tile){0, 0};
}

/* The one for several rows of S taps each, or one of no pixels. */
static broadcast_tile tile_of_taps(ptrdiff_t S) {
#if LANES >= 8 && REAL_BYTES == 4
    if (S == 5)
        return tile_of_5;
#endif
    (void)S;
    return (broadcast_tile){0, 0};
}

INLINE const broadcast_tile *broadcast_tiles(int kv, int *n_tiles) {
#if TILE_CHANNELS_MAX >= 4
    if (kv == 4) {
        *n_tiles = (int)(sizeof tiles_4 / sizeof *tiles_4);
        return tiles_4;
    }
#endif
    *n_tiles = kv == 2 ? (int)(sizeof tiles_2 / sizeof *tiles_2) : (int)(sizeof tiles_1 / sizeof *tiles_1);
    return kv == 2 ? tiles_2 : tiles_1;
}

/* The smallest tile of kv vectors that does n pixels in as few passes as the largest one. */
static broadcast_tile broadcast_tile_for(int kv, ptrdiff_t n) {
    int n_tiles;
    const broadcast_tile *tiles = broadcast_tiles(kv, &n_tiles);
    ptrdiff_t passes = ceil_div(n, tiles[n_tiles - 1].pixels), wanted = ceil_div(n, passes);
    int i = 0;
    while (tiles[i].pixels < wanted)
        i++;
    return tiles[i];
}

/* The largest one of at most n pixels. */
static broadcast_tile broadcast_tile_within(int kv, ptrdiff_t n) {
    int n_tiles;
    const broadcast_tile *tiles = broadcast_tiles(kv, &n_tiles);
    while (tiles[n_tiles - 1].pixels > n)
        n_tiles--;
    return tiles[n_tiles - 1];
}

/* Vectors of output channels that the next tile takes of those left. */
INLINE int channel_vectors(ptrdiff_t channels_left) {
    ptrdiff_t vectors = ceil_div(channels_left, LANES);
    return vectors >= TILE_CHANNELS_MAX ? TILE_CHANNELS_MAX : vectors >= 2 ? 2 : 1;
}

enum { TILE_STORE, TILE_ADD, TILE_STREAM };

/* init[k] is what the sums of channel k start from; `step` lies between the vectors, in x and in out. Where `copy` is
 * given it takes the vectors of each term of x. */
INLINE void tile_rows(const int KR, const int V, const REAL *w, const REAL *x, const int32_t *offset, ptrdiff_t n,
                      const REAL *init, int how, REAL *out, ptrdiff_t out_step, ptrdiff_t step, const REAL *soon,
                      ptrdiff_t soon_step, REAL *copy) {
    vec sum[24];
    UNROLL for (int k = 0; k < KR; k++) UNROLL for (int v = 0; v < V; v++) sum[k * V + v] = v_set1(init[k]);
    for (ptrdiff_t t = 0; t < n; t++, w += KR) {
        const REAL *p = x + offset[t];
        vec b[6];
        PREFETCH_READ(soon);
        soon += soon_step;
        UNROLL for (int v = 0; v < V; v++) b[v] = v_load(p + v * step);
        if (copy) {
            UNROLL for (int v = 0; v < V; v++) v_store(copy + v * LANES, b[v]);
            copy += TILE_ROWS_VECTORS * LANES;
        }
        UNROLL for (int k = 0; k < KR; k++) {
            vec a = v_set1(w[k]);
            UNROLL for (int v = 0; v < V; v++) sum[k * V + v] = v_fma(a, b[v], sum[k * V + v]);
        }
    }
    UNROLL for (int k = 0; k < KR; k++) UNROLL for (int v = 0; v < V; v++) {
        REAL *to = out + k * out_step + v * step;
        if (how == TILE_STREAM)
            v_stream(to, sum[k * V + v]);
        else
            v_store(to, how == TILE_ADD ? v_load(to) + sum[k * V + v] : sum[k * V + v]);
    }
}

/* clang-format off */
typedef void tile_rows_fn(const REAL *, const REAL *, const int32_t *, ptrdiff_t, const REAL *, int, REAL *, ptrdiff_t,
                          ptrdiff_t, const REAL *, ptrdiff_t);
#define TILE(KR, V)                                                                                                    \
    static void tile_rows_##KR##x##V(const REAL *w, const REAL *x, const int32_t *offset, ptrdiff_t n, const REAL *init, \
                                     int how, REAL *out, ptrdiff_t out_step, ptrdiff_t step, const REAL *soon,         \
                                     ptrdiff_t soon_step) {                                                            \
        tile_rows(KR, V, w, x, offset, n, init, how, out, out_step, step, soon, soon_step, 0);                           \
    }
#if TILE_ROWS_VECTORS == 3
#define TILES(KR) TILE(KR, 1) TILE(KR, 2) TILE(KR, 3)
#define TILES_NARROW(KR) TILES(KR) TILE(KR, 4) TILE(KR, 5) TILE(KR, 6)
#define VECTORS_NARROW 6
#define CHANNELS_NARROW (TILE_ROWS_CHANNELS / 2) /* that tiles of so many vectors have */
#else
#define TILES(KR) TILE(KR, 1) TILE(KR, 2)
#define TILES_NARROW(KR) TILES(KR) TILE(KR, 3) TILE(KR, 4)
#define VECTORS_NARROW 4
#define CHANNELS_NARROW 2
#endif
#if TILE_ROWS_CHANNELS == 8
#define EACH_TILE TILES_NARROW(1) TILES_NARROW(2) TILES_NARROW(3) TILES_NARROW(4) TILES(5) TILES(6) TILES(7) TILES(8)
#elif TILE_ROWS_CHANNELS == 6
#define EACH_TILE TILES_NARROW(1) TILES_NARROW(2) TILES(3) TILES(4) TILES(5) TILES(6)
#elif TILE_ROWS_CHANNELS == 5
#define EACH_TILE TILES_NARROW(1) TILES_NARROW(2) TILES(3) TILES(4) TILES(5)
#else
#define EACH_TILE TILES_NARROW(1) TILES_NARROW(2) TILES(3) TILES(4)
#endif
EACH_TILE
#undef TILE
#define TILE(KR, V) [KR][V] = tile_rows_##KR##x##V,
static tile_rows_fn *const tiles_rows[TILE_ROWS_CHANNELS + 1][VECTORS_NARROW + 1] = {EACH_TILE};
#undef TILE

/* The largest ones, which copy x on the way. */
NOINLINE void tile_rows_copy(ptrdiff_t V, const REAL *w, const REAL *x, const int32_t *offset, ptrdiff_t n,
                                    const REAL *init, int how, REAL *out, ptrdiff_t out_step, const REAL *soon,
                                    ptrdiff_t soon_step, REAL *copy) {
#define TILE(V)                                                                                                        \
    case V:                                                                                                            \
        tile_rows(TILE_ROWS_CHANNELS, V, w, x, offset, n, init, how, out, out_step, LANES, soon, soon_step, copy);     \
        break;
    switch (V) {
        TILE(1)
        TILE(2)
#if TILE_ROWS_VECTORS == 3
        TILE(3)
#endif
    }
#undef TILE
}

/* clang-format on */

INLINE int row_tile_vectors(int channels) {
    return channels <= CHANNELS_NARROW ? VECTORS_NARROW : TILE_ROWS_VECTORS;
}

INLINE void tile_dot(const int KR, const int P, const REAL *g, ptrdiff_t g_step, const REAL *const *x, ptrdiff_t n,
                     REAL *out, ptrdiff_t out_step) {
    vec sum[12], a[3];
    const REAL *px[4];
    UNROLL for (int p = 0; p < P; p++) px[p] = x[p];
    UNROLL for (int i = 0; i < KR * P; i++) sum[i] = v_zero();
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        UNROLL for (int k = 0; k < KR; k++) a[k] = v_load(g + k * g_step + i);
        UNROLL for (int p = 0; p < P; p++) {
            vec b = v_load(px[p] + i);
            IN_REGISTER(b);
            UNROLL for (int k = 0; k < KR; k++) sum[k * P + p] = v_fma(a[k], b, sum[k * P + p]);
        }
    }
    if (i < n) {
        UNROLL for (int k = 0; k < KR; k++) a[k] = v_load_n(g + k * g_step + i, n - i);
        UNROLL for (int p = 0; p < P; p++) {
            vec b = v_load_n(px[p] + i, n - i);
            UNROLL for (int k = 0; k < KR; k++) sum[k * P + p] = v_fma(a[k], b, sum[k * P + p]);
        }
    }
    UNROLL for (int k = 0; k < KR; k++) UNROLL for (int p = 0; p < P; p++) {
        REAL *to = out + (k * out_step + p) * LANES;
        v_store(to, v_load(to) + sum[k * P + p]);
    }
}

/* clang-format off */
typedef void tile_dot_fn(const REAL *, ptrdiff_t, const REAL *const *, ptrdiff_t, REAL *, ptrdiff_t);
#define TILE(KR, P)                                                                                                    \
    static void tile_dot_##KR##x##P(const REAL *g, ptrdiff_t g_step, const REAL *const *x, ptrdiff_t n, REAL *out,      \
                                    ptrdiff_t out_step) {                                                              \
        tile_dot(KR, P, g, g_step, x, n, out, out_step);                                                               \
    }
#define DOT_CHANNELS 3
#define EACH_DOT TILE(1, 1) TILE(1, 2) TILE(1, 3) TILE(1, 4) TILE(2, 1) TILE(2, 2) TILE(2, 3) TILE(2, 4) TILE(3, 1) TILE(3, 2) TILE(3, 3) TILE(3, 4)
EACH_DOT
#undef TILE
#define TILE(KR, P) [KR][P] = tile_dot_##KR##x##P,
static tile_dot_fn *const tiles_dot[DOT_CHANNELS + 1][5] = {EACH_DOT};
#undef TILE
/* clang-format on */
