/* Winograd's tiles on their way: images with channels in the lanes, tiles to points and back. What the points are for
 * is in conv_winograd.inc.h and conv_winograd_grad.inc.h.
 */
#define WINOGRAD_CHAIN 64
#define WINOGRAD_CHUNK MAX(WINOGRAD_CHAIN, WINOGRAD_WIDTH) /* channels of weights transformed at a time */
#define WEIGHTS_CHUNK 16                                   /* input channels of a block of weights kept whole */
#define WEIGHTS_SOON 6 /* channels ahead that weights are fetched for, in gradients by the input */
#ifdef V_LOAD_COLUMNS
#define WEIGHTS_GROUP(n_taps) ((n_taps) == 9 ? 1 : 36 / (n_taps)) /* channels that taps are transposed of at once */
#else
#define WEIGHTS_GROUP(n_taps) (36 / (n_taps))
#endif
#define WINOGRAD_V_BYTES (768 << 10)
#define WINOGRAD_WIDTH (TILE_CHANNELS_MAX * LANES)

/* First channel and width of the block of channels that c belongs to: full tiles, then what channel_vectors takes of
 * the rest. */
INLINE ptrdiff_t channel_block(ptrdiff_t C, ptrdiff_t c, ptrdiff_t *width) {
    ptrdiff_t first = c / WINOGRAD_WIDTH * WINOGRAD_WIDTH;
    while (first + (*width = channel_vectors(C - first) * LANES) <= c)
        first += *width;
    return first;
}

/* Rows x cols of an image from (h0, w0) on, zeros outside, as [row][col][LANES] with channels c0 .. c0+LANES-1 in the
 * lanes. */
static void stage_lanes(REAL *to, ptrdiff_t rows, ptrdiff_t cols, const REAL *x, const cg_strides *at,
                        ptrdiff_t n_channels, ptrdiff_t H, ptrdiff_t W, ptrdiff_t h0, ptrdiff_t w0) {
    ptrdiff_t j0 = w0 >= 0 ? 0 : MIN(cols, -w0), j1 = MAX(j0, MIN(cols, W - w0));
    ptrdiff_t i0 = h0 >= 0 ? 0 : MIN(rows, -h0), i1 = MAX(i0, MIN(rows, H - h0));
    fill_run(to, 0, i0 * cols * LANES);
    fill_run(to + i1 * cols * LANES, 0, (rows - i1) * cols * LANES);
    for (ptrdiff_t i = i0; i < i1; i++) {
        for (ptrdiff_t j = 0; j < j0; j++)
            v_store(to + (i * cols + j) * LANES, v_zero());
        for (ptrdiff_t j = j1; j < cols; j++)
            v_store(to + (i * cols + j) * LANES, v_zero());
    }
    if (i0 == i1 || j0 == j1)
        return;
    const REAL *from = x + (h0 + i0) * at->stride_h + (w0 + j0) * at->stride_w;
    ptrdiff_t n = j1 - j0, pixels = (i1 - i0) * n;
    if (at->stride_w == 1 && at->stride_h == n && n_channels == LANES && pixels >= LANES) {
        /* Whole rows that follow each other: one run of pixels, transposed LANES at a time across row ends, the last
         * ones overlapping. */
        ptrdiff_t i = i0, j = j0;
        for (ptrdiff_t p = 0; p < pixels;) {
            vec v[LANES];
            UNROLL for (int c = 0; c < LANES; c++) v[c] = v_load(from + p + c * at->stride_c);
            v_transpose(v);
            if (j + LANES <= j1) {
                UNROLL for (int q = 0; q < LANES; q++) v_store(to + (i * cols + j + q) * LANES, v[q]);
                j += LANES;
                if (j == j1)
                    j = j0, i++;
            } else
                for (int q = 0; q < LANES; q++) {
                    v_store(to + (i * cols + j) * LANES, v[q]);
                    if (++j == j1)
                        j = j0, i++;
                }
            p += LANES;
            if (p < pixels && p + LANES > pixels) {
                p = pixels - LANES;
                i = i0 + p / n;
                j = j0 + p % n;
            }
        }
        return;
    }
    for (ptrdiff_t i = i0; i < i1; i++, from += at->stride_h) {
        REAL *row = to + (i * cols + j0) * LANES;
        if (at->stride_c == 1)
            for (ptrdiff_t j = 0; j < n; j++)
                v_store(row + j * LANES, n_channels == LANES ? v_load(from + j * at->stride_w)
                                                             : v_load_n(from + j * at->stride_w, n_channels));
        else if (at->stride_w == 1)
            transpose_block(row, LANES, from, at->stride_c, n_channels, n, 1);
        else
            for (ptrdiff_t j = 0; j < n; j++)
                for (int c = 0; c < LANES; c++)
                    row[j * LANES + c] = c < n_channels ? from[c * at->stride_c + j * at->stride_w] : 0;
    }
}

/* a x a staged pixels -> a * a points. Stores that go to L2 wait for their lines unless the next tile's, `width`
 * further, are asked for now. */
INLINE void input_tile(const int m, const REAL *stage, ptrdiff_t cols, REAL *v, ptrdiff_t point, ptrdiff_t width) {
    const int a = m + 2;
    vec t[36], o[6];
    UNROLL for (int j = 0; j < a; j++) { /* BT d, column by column */
        vec d[6];
        UNROLL for (int i = 0; i < a; i++) d[i] = v_load(stage + (i * cols + j) * LANES);
        winograd_bt(m, d, 1, t + j, a);
    }
    UNROLL for (int i = 0; i < a; i++) { /* (BT d) B, row by row */
        winograd_bt(m, t + i * a, 1, o, 1);
        UNROLL for (int j = 0; j < a; j++) {
            PREFETCH_WRITE(v + (i * a + j) * point + width);
            v_store(v + (i * a + j) * point, o[j]);
        }
    }
}

/* The same for a tile that has fewer outputs, of m = 4: its points only. */
static void input_narrow(int rest_h, int rest_w, const REAL *stage, ptrdiff_t cols, REAL *v, ptrdiff_t point) {
    const int rows = narrow_points(4, rest_h), columns = narrow_points(4, rest_w);
    vec t[36], d[6], o[6];
    for (int j = 0; j < 6; j++) {
        UNROLL for (int i = 0; i < 6; i++) d[i] = v_load(stage + (i * cols + j) * LANES);
        narrow_bt(rest_h, d, t + j, 6);
    }
    for (int i = 0; i < 6; i++) {
        if (!(rows >> i & 1))
            continue;
        narrow_bt(rest_w, t + i * 6, o, 1);
        for (int j = 0; j < 6; j++)
            if (columns >> j & 1)
                v_store(v + (i * 6 + j) * point, o[j]);
    }
}

/* The same along one axis: points of staged pixels `step` apart. */
INLINE void input_points(const int points, const REAL *stage, ptrdiff_t step, REAL *v, ptrdiff_t point,
                         ptrdiff_t width) {
    vec d[8], o[8];
    UNROLL for (int i = 0; i < points; i++) d[i] = v_load(stage + i * step);
    if (points == 6)
        winograd_bt(4, d, 1, o, 1);
    else
        filter_bt(d, o);
    UNROLL for (int i = 0; i < points; i++) {
        PREFETCH_WRITE(v + i * point + width);
        v_store(v + i * point, o[i]);
    }
}

/* m x m staged gradients -> a * a points: A z AT. */
INLINE void gradient_tile(const int m, const REAL *stage, ptrdiff_t cols, REAL *g, ptrdiff_t point, ptrdiff_t width) {
    const int a = m + 2;
    vec t[24], o[6];
    UNROLL for (int j = 0; j < m; j++) {
        vec z[4];
        UNROLL for (int i = 0; i < m; i++) z[i] = v_load(stage + (i * cols + j) * LANES);
        winograd_a(m, z, 1, t + j, m);
    }
    UNROLL for (int i = 0; i < a; i++) {
        winograd_a(m, t + i * m, 1, o, 1);
        UNROLL for (int j = 0; j < a; j++) {
            PREFETCH_WRITE(g + (i * a + j) * point + width);
            v_store(g + (i * a + j) * point, o[j]);
        }
    }
}

/* a * a points -> m x m outputs: AT p A. */
INLINE void output_tile(const int m, const REAL *p, ptrdiff_t point, vec bias, vec *y) {
    const int a = m + 2;
    vec t[24];
    UNROLL for (int j = 0; j < a; j++) {
        vec c[6];
        UNROLL for (int i = 0; i < a; i++) c[i] = v_load(p + (i * a + j) * point);
        winograd_at(m, c, 1, t + j, a);
    }
    UNROLL for (int i = 0; i < m; i++) {
        winograd_at(m, t + i * a, 1, y + i * m, 1);
        UNROLL for (int j = 0; j < m; j++) y[i * m + j] += bias;
    }
}

/* The same from a tile that has fewer points, of m = 4: rest_h x rest_w of the outputs are right. */
static void output_narrow(int rest_h, int rest_w, const REAL *p, ptrdiff_t point, vec bias, vec *y) {
    const int rows = narrow_points(4, rest_h), columns = narrow_points(4, rest_w);
    vec t[24], c[6];
    for (int j = 0; j < 6; j++) {
        const int some = columns >> j & 1 ? rows : 0;
        for (int i = 0; i < 6; i++)
            c[i] = some >> i & 1 ? v_load(p + (i * 6 + j) * point) : v_zero();
        winograd_at(4, c, 1, t + j, 6);
    }
    for (int i = 0; i < 4; i++) {
        winograd_at(4, t + i * 6, 1, y + i * 4, 1);
        for (int j = 0; j < 4; j++)
            y[i * 4 + j] += bias;
    }
}

/* Loops over rows and columns of points stay loops in these two: unrolled, with an address for each of the points, they
 * take a third longer. */

/* a * a points -> 3x3 taps: GT p G. */
INLINE void taps_tile(const int m, const REAL *p, ptrdiff_t point, REAL *taps) {
    const int a = m + 2;
    vec t[18], w[3];
    for (int j = 0; j < a; j++) {
        vec c[6];
        UNROLL for (int i = 0; i < a; i++) c[i] = v_load(p + (i * a + j) * point);
        winograd_gt(m, c, 1, t + j, a);
    }
    for (int i = 0; i < 3; i++) {
        winograd_gt(m, t + i * a, 1, w, 1);
        UNROLL for (int j = 0; j < 3; j++) v_store(taps + (i * 3 + j) * LANES, w[j]);
    }
}

/* 3x3 weights of LANES channels k -> a * a points. */
INLINE void weight_tile(const int m, const vec *w, REAL *u, ptrdiff_t point, ptrdiff_t width) {
    const int a = m + 2;
    vec t[18], o[6];
    UNROLL for (int s = 0; s < 3; s++) winograd_g(m, w + s, 3, t + s, 3);
    for (int i = 0; i < a; i++) {
        winograd_g(m, t + i * 3, 1, o, 1);
        UNROLL for (int j = 0; j < a; j++) {
            PREFETCH_WRITE(u + (i * a + j) * point + width);
            v_store(u + (i * a + j) * point, o[j]);
        }
    }
}

/* taps[i][k] = w[k * step + i] of nine taps and n channels, zeros beyond n; and back, nine apart. */
static void load_taps(REAL *taps, const REAL *w, ptrdiff_t step, ptrdiff_t n) {
#ifdef V_LOAD_COLUMNS
    if (n == LANES) { /* four at a time, the last ones overlapping */
        UNROLL for (int i = 0; i < 9; i += 4) {
            vec v[4];
            v_load_columns(w + MIN(i, 5), step, v);
            UNROLL for (int j = 0; j < 4; j++) v_store(taps + (MIN(i, 5) + j) * LANES, v[j]);
        }
        return;
    }
#endif
    transpose_block(taps, LANES, w, step, n, 9, 1);
}

static void store_taps(REAL *w, const REAL *taps, ptrdiff_t n) {
#ifdef V_LOAD_COLUMNS
    if (n == LANES) {
        UNROLL for (int i = 0; i < 9; i += 4) {
            vec v[4];
            UNROLL for (int j = 0; j < 4; j++) v[j] = v_load(taps + (MIN(i, 5) + j) * LANES);
            v_store_columns(w + MIN(i, 5), 9, v);
        }
        return;
    }
#endif
    transpose_block(w, 9, taps, LANES, 9, n, 0);
}
