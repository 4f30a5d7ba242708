/* The products of the fully connected layer and its gradients.
 *
 *   c[m, n] = activation(bias[n] + sum over k of a[m, k] * b[k, n])
 *
 * a has any strides, b has adjacent numbers along k or along n, c has them along n. Three ways, by the shape:
 *
 *   rows     Few k, or few rows of c and b adjacent along n: four rows of c at a time, b read as it lies.
 *   dot      Few rows of c, a and b adjacent along k: sums of products along k, 4 x 4 at a time.
 *   panels   A panel of b, as wide as a tile, is copied so that a tile reads it in order, and the tiles of
 *            conv_tiles.inc.h go over the rows of a.
 *
 * In "panels" a small a may take b's place, and c come out transposed: a copy of b would cost as much as the product.
 *
 * Sums along k are taken GEMM_CHAIN terms at a time, and the runs added up. A block is a range of m and a range of n;
 * way, runs and blocks depend on the shape alone, so the bits of c do not depend on the threads.
 */
#define GEMM_CHAIN 128     /* terms of a chain, and of a panel that stays in L1 */
#define GEMM_ROWS 224      /* of a block: a multiple of the tiles' rows */
#define GEMM_COLUMNS 512   /* of a block */
#define GEMM_STRETCH 512   /* columns of "rows" whose sums stay in L1 */
#define GEMM_FAR (1 << 20) /* bytes of an operand that is fetched ahead: less is in L2 anyway */
#define GEMM_DOT_RUN 1024  /* elements along k of "dot" that stay in L1 */

/* Only these tables have more than "panels": elsewhere the others would hardly be worth their size. */
#define GEMM_WIDE (LANES >= 8 && REAL_BYTES == 4)

enum { GEMM_PANELS, GEMM_ROWS_WAY, GEMM_DOT };

KERNEL_PLAN(gemm) {
    cg_gemm_args *a = args_;
    const ptrdiff_t wide = TILE_CHANNELS_MAX * LANES;
    a->way = GEMM_PANELS;
#if GEMM_WIDE
    if (a->b_n == 1 && ((a->K <= 8 && a->N > 2 * LANES) || a->M <= 8))
        a->way = GEMM_ROWS_WAY;
    else if (a->b_k == 1 && a->a_k == 1 && (a->M == 1 || (a->M <= 8 && a->K >= 64) || (a->N <= 16 && a->K >= 512)))
        a->way = GEMM_DOT;
#endif
    /* Where b lies along k and a is no larger, a takes b's place: it is the one to be copied. */
    a->swap =
        a->way == GEMM_PANELS && a->b_k == 1 && a->b_n != 1 && a->a_k == 1 && a->K >= 128 && a->N >= 128 && a->M <= 96;
    /* And where c has few columns, which would leave lanes empty, but many rows that lie along a. */
    a->swap |= a->way == GEMM_PANELS && a->a_row == 1 && a->a_k != 1 && a->b_n == 1 && a->N <= LANES &&
               a->M >= 4 * LANES && LANES > 1;
    if (a->swap) {
        const void *data = a->a;
        ptrdiff_t count = a->M, step = a->a_row, step_k = a->a_k;
        a->a = a->b, a->M = a->N, a->a_row = a->b_n, a->a_k = a->b_k;
        a->b = data, a->N = count, a->b_n = step, a->b_k = step_k;
    }
    a->block_k = ceil_div(a->K, ceil_div(a->K, GEMM_CHAIN));
    /* one block of rows, or an even number of much the same size */
    ptrdiff_t row_blocks = a->M <= GEMM_ROWS ? 1 : round_up(ceil_div(a->M, GEMM_ROWS), 2);
    a->block_m = round_up(ceil_div(a->M, row_blocks), TILE_PIXELS_4);
    /* at least four blocks, where there are columns or rows enough */
    a->block_n = a->swap ? wide : MIN(round_up(ceil_div(a->N, 4), wide), GEMM_COLUMNS);
    if (a->way == GEMM_DOT)
        a->block_n = MAX(16, round_up(ceil_div(a->N, 4), 16));
    if (a->N <= wide)
        a->block_m = MAX(56, MIN(a->block_m, round_up(ceil_div(a->M, 2), 28)));
    a->block_m = MIN(a->block_m, a->M);
    a->n_column_blocks = ceil_div(a->N, a->block_n);
    a->stage_a = a->way == GEMM_PANELS && a->a_k != 1 && a->a_row == 1;
    ptrdiff_t at = 0, results = a->swap ? (a->block_m + TILE_PIXELS_1) * wide : TILE_PIXELS_1 * wide;
    a->panel_at = at, at += round_up(a->block_k * wide * sizeof(REAL), 64) + 64;
    a->result_at = at, at += round_up(MAX(results, 4 * GEMM_STRETCH) * sizeof(REAL), 64);
    a->stage_at = at, at += a->stage_a ? round_up((a->block_k * a->block_m + LANES) * sizeof(REAL), 64) : 0;
    a->offset_at = at, at += round_up(a->block_k * sizeof(int32_t), 64);
    a->task.scratch_bytes = (size_t)at;
    a->task.n_blocks = ceil_div(a->M, a->block_m) * a->n_column_blocks;
    a->task.work = 0.25 * a->M * a->N * a->K + (double)a->M * a->N + 0.5 * (double)a->N * a->K;
}

/* Of the next panel: as many vectors as a tile takes, and all of the columns where c comes out transposed. */
INLINE ptrdiff_t gemm_width(const cg_gemm_args *a, ptrdiff_t columns) {
    ptrdiff_t width = channel_vectors(columns) * LANES;
    return a->swap && width < columns ? TILE_CHANNELS_MAX * LANES : width;
}

/* The panel b[k0 .. k0 + k][n0 .. n0 + n], each k in `wide` numbers, those beyond n zero. */
static void gemm_panel(const cg_gemm_args *a, ptrdiff_t k0, ptrdiff_t k, ptrdiff_t n0, ptrdiff_t n, ptrdiff_t wide,
                       REAL *panel) {
    const REAL *b = (const REAL *)a->b + k0 * a->b_k + n0 * a->b_n;
    if (a->b_n != 1) {
        transpose_block(panel, wide, b, a->b_n, n, k, 1);
        for (ptrdiff_t j = round_up(n, LANES); j < wide; j += LANES)
            for (ptrdiff_t i = 0; i < k; i++)
                v_store(panel + i * wide + j, v_zero());
        return;
    }
    for (ptrdiff_t i = 0; i < k; i++, b += a->b_k, panel += wide)
        for (ptrdiff_t j = 0; j < wide; j += LANES)
            v_store(panel + j, j + LANES <= n ? v_load(b + j) : j < n ? v_load_n(b + j, n - j) : v_zero());
}

/* Fetch the `part`-th of `parts` parts of what the panel of b at k0, n0 is copied from. */
static void gemm_panel_soon(const cg_gemm_args *a, ptrdiff_t k0, ptrdiff_t k, ptrdiff_t n0, ptrdiff_t n, ptrdiff_t part,
                            ptrdiff_t parts) {
    const REAL *b = (const REAL *)a->b + k0 * a->b_k + n0 * a->b_n;
    const ptrdiff_t runs = a->b_n == 1 ? k : n, run = a->b_n == 1 ? n : k, step = a->b_n == 1 ? a->b_k : a->b_n;
    for (ptrdiff_t i = runs * part / parts; i < runs * (part + 1) / parts; i++)
        for (ptrdiff_t j = 0; j < run; j += LANES)
            PREFETCH(b + i * step + j);
}

/* to[i] = from[i], plus what is there where `add` is set */
INLINE void add_run(REAL *to, const REAL *from, ptrdiff_t n, int add) {
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        ptrdiff_t lanes = MIN(LANES, n - i);
        vec v = v_load_some(from + i, lanes);
        v_store_some(to + i, add ? v_load_some(to + i, lanes) + v : v, lanes);
    }
}

static void gemm_panels(const cg_gemm_args *a, ptrdiff_t m0, ptrdiff_t m1, ptrdiff_t n0, ptrdiff_t n1, char *scratch) {
    REAL *panel = (REAL *)(scratch + a->panel_at), *result = (REAL *)(scratch + a->result_at);
    REAL *stage = (REAL *)(scratch + a->stage_at), *c = (REAL *)a->c;
    int32_t *offset = (int32_t *)(scratch + a->offset_at);
    const ptrdiff_t a_k = a->stage_a ? m1 - m0 : a->a_k, a_row = a->stage_a ? 1 : a->a_row;
    const int far_b = a->K * a->N * (ptrdiff_t)sizeof(REAL) >= GEMM_FAR;
    const int far_c = a->M * a->N * (ptrdiff_t)sizeof(REAL) >= GEMM_FAR && a->K >= 16 && !a->swap;
    for (ptrdiff_t k = 0; k < a->block_k; k++)
        offset[k] = (int32_t)(k * a_k);
    for (ptrdiff_t k0 = 0; k0 < a->K; k0 += a->block_k) {
        const ptrdiff_t k = MIN(a->block_k, a->K - k0);
        const REAL *rows = (const REAL *)a->a + m0 * a->a_row + k0 * a->a_k;
        if (a->stage_a) {
            for (ptrdiff_t i = 0; i < k; i++)
                copy_run(stage + i * (m1 - m0), rows + i * a->a_k, m1 - m0);
            rows = stage;
        }
        for (ptrdiff_t n = n0, wide; n < n1; n += wide) {
            wide = gemm_width(a, n1 - n);
            const ptrdiff_t columns = MIN(wide, n1 - n);
            REAL init[TILE_CHANNELS_MAX * LANES] = {0};
            if (a->bias && k0 == 0 && !a->swap)
                memcpy(init, (const REAL *)a->bias + n, (size_t)columns * sizeof(REAL));
            gemm_panel(a, k0, k, n, columns, wide, panel);
            broadcast_tile tile = broadcast_tile_for((int)(wide / LANES), m1 - m0);
            const int same_k = n + wide < n1, more = far_b && (same_k || k0 + k < a->K);
            const ptrdiff_t soon_k = same_k ? k0 : k0 + k, soon_n = same_k ? n + wide : n0;
            for (ptrdiff_t m = m0; m < m1; m += tile.pixels) {
                const REAL *pixel[TILE_PIXELS_1];
                const int whole = m + tile.pixels <= m1 && columns == wide;
                if (more)
                    gemm_panel_soon(a, soon_k, MIN(a->block_k, a->K - soon_k), soon_n, MIN(wide, n1 - soon_n),
                                    (m - m0) / tile.pixels, ceil_div(m1 - m0, tile.pixels));
                for (ptrdiff_t i = m + tile.pixels; far_c && i < MIN(m + 2 * tile.pixels, m1); i++)
                    for (ptrdiff_t j = 0; j < columns; j += LANES)
                        PREFETCH_WRITE((REAL *)a->c + i * a->c_row + n + j);
                for (int i = 0; i < tile.pixels; i++)
                    pixel[i] = rows + MIN(m - m0 + i, m1 - m0 - 1) * a_row;
                if (a->swap) {
                    REAL *out = result + (m - m0) * wide;
                    tile.fn(panel, pixel, offset, k, init, k0 > 0, out, wide, out, 0);
                    continue;
                }
                REAL *out = whole ? c + m * a->c_row + n : result;
                tile.fn(panel, pixel, offset, k, init, whole && k0 > 0, out, whole ? a->c_row : wide, out, 0);
                for (ptrdiff_t i = 0; !whole && i < MIN(tile.pixels, m1 - m); i++)
                    add_run(c + (m + i) * a->c_row + n, result + i * wide, columns, k0 > 0);
            }
        }
    }
    if (a->swap) { /* one panel: c is the transpose of the result */
        const ptrdiff_t wide = gemm_width(a, n1 - n0);
        REAL *to = c + n0 * a->c_row + m0;
        transpose_block(to, a->c_row, result, wide, m1 - m0, n1 - n0, 0);
        for (ptrdiff_t n = n0; a->bias && n < n1; n++, to += a->c_row)
            add_run(to, (const REAL *)a->bias + m0, m1 - m0, 1);
    }
}

#if GEMM_WIDE
/* out[r][0 .. n-1] = the sum over k of a[r][k] * b[k][0 .. n-1], four k at a time; add: plus what is there. */
INLINE void gemm_stretch(const int R, const cg_gemm_args *a, const REAL *rows, const REAL *b, ptrdiff_t K, ptrdiff_t n,
                         REAL *out, ptrdiff_t out_step) {
    for (ptrdiff_t k = 0; k < K; k += 4) {
        const REAL *from[4];
        vec factor[16];
        UNROLL for (int i = 0; i < 4; i++) {
            from[i] = b + MIN(k + i, K - 1) * a->b_k;
            UNROLL for (int r = 0; r < R; r++) factor[i * R + r] =
                k + i < K ? v_set1(rows[r * a->a_row + (k + i) * a->a_k]) : v_zero();
        }
        for (ptrdiff_t j = 0; j < n; j += LANES) {
            const ptrdiff_t lanes = MIN(LANES, n - j);
            vec v[4];
            UNROLL for (int i = 0; i < 4; i++) v[i] = v_load_some(from[i] + j, lanes);
            UNROLL for (int r = 0; r < R; r++) {
                REAL *to = out + r * out_step + j;
                vec sum = k ? v_load_some(to, lanes) : v_zero();
                UNROLL for (int i = 0; i < 4; i++) sum = v_fma(v[i], factor[i * R + r], sum);
                v_store_some(to, sum, lanes);
            }
        }
    }
}

static void gemm_rows(const cg_gemm_args *a, ptrdiff_t m0, ptrdiff_t m1, ptrdiff_t n0, ptrdiff_t n1, char *scratch) {
    REAL *result = (REAL *)(scratch + a->result_at);
    for (ptrdiff_t n = n0; n < n1; n += GEMM_STRETCH) {
        const ptrdiff_t width = MIN(GEMM_STRETCH, n1 - n);
        for (ptrdiff_t k0 = 0; k0 < a->K; k0 += a->block_k)
            for (ptrdiff_t m = m0, R; m < m1; m += R) {
                const ptrdiff_t k = MIN(a->block_k, a->K - k0), step = k0 ? GEMM_STRETCH : a->c_row;
                const REAL *rows = (const REAL *)a->a + m * a->a_row + k0 * a->a_k;
                const REAL *b = (const REAL *)a->b + k0 * a->b_k + n;
                REAL *c = (REAL *)a->c + m * a->c_row + n, *out = k0 ? result : c;
                R = m + 4 <= m1 ? 4 : 1;
                if (R == 4)
                    gemm_stretch(4, a, rows, b, k, width, out, step);
                else
                    gemm_stretch(1, a, rows, b, k, width, out, step);
                for (ptrdiff_t r = 0; r < R; r++) {
                    if (k0)
                        add_run(c + r * a->c_row, result + r * GEMM_STRETCH, width, 1);
                    else if (a->bias)
                        add_run(c + r * a->c_row, (const REAL *)a->bias + n, width, 1);
                }
            }
    }
}

/* Sums of products along k, RM rows of a by RN of b: the lane of (r, j) is r * RN + j. */
INLINE void gemm_dot_tile(const int RM, const int RN, const REAL *const *x, const REAL *const *w, ptrdiff_t k,
                          REAL *out) {
    vec sum[16];
    UNROLL for (int i = 0; i < 16; i++) sum[i] = v_zero();
    ptrdiff_t i = 0;
    for (; i + LANES <= k; i += LANES) {
        vec b[16];
        UNROLL for (int j = 0; j < RN; j++) b[j] = v_load(w[j] + i);
        UNROLL for (int r = 0; r < RM; r++) {
            vec v = v_load(x[r] + i);
            UNROLL for (int j = 0; j < RN; j++) sum[r * RN + j] = v_fma(v, b[j], sum[r * RN + j]);
        }
    }
    if (i < k) {
        REAL rest[20][LANES]; /* copies with zeros behind: less code than so many partial loads */
        for (int j = 0; j < RN + RM; j++) {
            ONE_BY_ONE;
            v_store(rest[j], v_load_n((j < RN ? w[j] : x[j - RN]) + i, k - i));
        }
        UNROLL for (int r = 0; r < RM; r++) {
            vec v = v_load(rest[RN + r]);
            UNROLL for (int j = 0; j < RN; j++) sum[r * RN + j] = v_fma(v, v_load(rest[j]), sum[r * RN + j]);
        }
    }
    UNROLL for (int j = 0; j < 16; j += LANES) v_store(out + j, v_sums(sum + j));
}

static void gemm_dot(const cg_gemm_args *a, ptrdiff_t m0, ptrdiff_t m1, ptrdiff_t n0, ptrdiff_t n1) {
    const int RM = m1 - m0 == 1 ? 1 : 4, RN = RM == 1 ? 16 : 4, by_rows = m1 - m0 > n1 - n0;
    const ptrdiff_t most = RM == 1 ? GEMM_CHAIN * LANES : GEMM_DOT_RUN;
    const ptrdiff_t outer0 = by_rows ? m0 : n0, outer1 = by_rows ? m1 : n1, outer_step = by_rows ? RM : RN;
    const ptrdiff_t inner0 = by_rows ? n0 : m0, inner1 = by_rows ? n1 : m1, inner_step = by_rows ? RN : RM;
    for (ptrdiff_t i = outer0; i < outer1; i += outer_step)
        for (ptrdiff_t k0 = 0; k0 < a->K; k0 += most)
            for (ptrdiff_t j = inner0; j < inner1; j += inner_step) {
                const ptrdiff_t m = by_rows ? i : j, n = by_rows ? j : i, columns = MIN(RN, n1 - n);
                const REAL *w[16], *x[4];
                REAL sum[16];
                for (int q = 0; q < RN; q++) {
                    ONE_BY_ONE;
                    w[q] = (const REAL *)a->b + MIN(n + q, n1 - 1) * a->b_n + k0;
                }
                for (int r = 0; r < RM; r++) {
                    ONE_BY_ONE;
                    x[r] = (const REAL *)a->a + MIN(m + r, m1 - 1) * a->a_row + k0;
                }
                if (RM == 1)
                    gemm_dot_tile(1, 16, x, w, MIN(most, a->K - k0), sum);
                else
                    gemm_dot_tile(4, 4, x, w, MIN(most, a->K - k0), sum);
                for (ptrdiff_t r = 0; r < MIN(RM, m1 - m); r++) {
                    REAL *to = (REAL *)a->c + (m + r) * a->c_row + n;
                    const REAL *more = k0 ? to : a->bias ? (const REAL *)a->bias + n : zeros;
                    for (ptrdiff_t q = 0; q < columns; q++) {
                        ONE_BY_ONE;
                        to[q] = sum[r * RN + q] + more[q];
                    }
                }
            }
}
#endif

KERNEL_RUN(gemm) {
    const cg_gemm_args *a = args_;
    for (ptrdiff_t block = begin; block < end; block++) {
        const ptrdiff_t m0 = block / a->n_column_blocks * a->block_m, m1 = MIN(a->M, m0 + a->block_m);
        const ptrdiff_t n0 = block % a->n_column_blocks * a->block_n, n1 = MIN(a->N, n0 + a->block_n);
        if (a->way == GEMM_PANELS)
            gemm_panels(a, m0, m1, n0, n1, scratch_);
#if GEMM_WIDE
        else if (a->way == GEMM_DOT)
            gemm_dot(a, m0, m1, n0, n1);
        else
            gemm_rows(a, m0, m1, n0, n1, scratch_);
#endif
        const ptrdiff_t row = a->swap ? n0 : m0, end_row = a->swap ? n1 : m1;
        const ptrdiff_t column = a->swap ? m0 : n0, width = a->swap ? m1 - m0 : n1 - n0;
        for (ptrdiff_t i = row; a->activation != CG_IDENTITY && i < end_row; i++)
            activate_run(a->activation, (REAL)a->parameter, (REAL *)a->c + i * a->c_row + column, width);
    }
}
