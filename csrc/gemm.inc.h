/* The products of the fully connected layer and its gradients.
 *
 *   c[m, n] = activation(bias[n] + sum over k of a[m, k] * b[k, n])
 *
 * a has any strides, b has adjacent numbers along k or along n, c has them along n. Several ways, by the shape:
 *
 *   panels   A panel of b, as wide as a tile, is copied so that a tile reads it in order, and the tiles of
 *            conv_tiles.inc.h go over the rows of a.
 *   rows     Few k, or very few rows of c, and b adjacent along n: four rows of c at a time, b read as it lies.
 *   direct   Few rows of c, or few k, and b adjacent along n: the tiles of "panels" over b as it lies.
 *   narrow   At most a vector of columns, and b adjacent along n: sums stay in registers, b is read as it lies.
 *   outer    The same with very few k and many rows that lie along a: whole vectors of c, across its rows.
 *   dot      Few rows of c, a and b adjacent along k: sums of products along k, 4 x 4 at a time.
 *   columns  Few rows of c and few k, b adjacent along k: b is transposed in registers, where it is needed once.
 *
 * In "panels" a small a may take b's place, and c come out transposed: a copy of b would cost as much as the product.
 *
 * Sums along k are taken GEMM_CHAIN terms at a time, and the runs added up. A block is a range of m and a range of n;
 * way, runs and blocks depend on the shape alone, so the bits of c do not depend on the threads.
 *
 * This file has the plan and "panels", gemm_few.inc.h the rest.
 */
#define GEMM_CHAIN 128       /* terms of a chain, and of a panel that stays in L1 */
#define GEMM_ROWS 448        /* of a block: a multiple of the tiles' rows */
#define GEMM_COLUMNS 512     /* of a block */
#define GEMM_STRETCH 512     /* columns of "rows" whose sums stay in L1 */
#define GEMM_FAR (1 << 20)   /* bytes of an operand that is fetched ahead: less is in L2 anyway */
#define GEMM_DIRECT_ROWS 28  /* of c, up to which "direct" is worth it, */
#define GEMM_DIRECT_TERMS 32 /* or terms */
#define GEMM_OUTER_TERMS 4   /* of "outer" */
#define GEMM_DOT_NEAR 65536  /* elements of b that "dot" with more than 8 rows of c may read again and again */
#define GEMM_DOT_RUN 1024    /* elements along k of "dot" that stay in L1 */
#define GEMM_ALIAS 1024      /* bytes: rows a multiple of it apart compete for few sets of L1 with the panel */

/* Only these tables have more than "panels": elsewhere the others would hardly be worth their size. */
#define GEMM_WIDE (LANES >= 8 && REAL_BYTES == 4)

enum { GEMM_PANELS, GEMM_ROWS_WAY, GEMM_DOT, GEMM_DIRECT, GEMM_NARROW, GEMM_OUTER, GEMM_COLUMNS_WAY };

KERNEL_PLAN(gemm) {
    cg_gemm_args *a = args_;
    const ptrdiff_t wide = TILE_CHANNELS_MAX * LANES;
    a->way = GEMM_PANELS;
#if GEMM_WIDE
    if (a->b_n == 1 && a->a_row == 1 && a->c_row == a->N && a->N <= LANES && a->K <= GEMM_OUTER_TERMS &&
        a->M >= 4 * LANES && !a->bias)
        a->way = GEMM_OUTER;
    else if (a->b_n == 1 && a->b_k > 0 && a->a_k == 1 && a->N <= LANES && a->K >= 4 * LANES)
        a->way = GEMM_NARROW;
    else if (a->b_n == 1 && ((a->K <= 8 && a->N > 2 * LANES) || a->M <= 8))
        a->way = GEMM_ROWS_WAY;
    else if (a->b_n == 1 && a->N >= wide && wide == 4 * LANES &&
             (a->M <= GEMM_DIRECT_ROWS || a->K <= GEMM_DIRECT_TERMS))
        a->way = GEMM_DIRECT;
    else if (a->b_k == 1 && a->a_k == 1 &&
             ((a->M == 1 && a->K >= 2 * LANES) || (a->M <= 8 && a->K >= 64) || (a->N <= 16 && a->K >= 512) ||
              (a->M <= 16 && a->K >= 64 && a->K * a->N <= GEMM_DOT_NEAR)))
        a->way = GEMM_DOT;
#ifdef V_LOAD_COLUMNS
    else if (a->b_k == 1 && a->b_n >= 4 && a->M <= 8 && a->K < 64 && a->N >= 4 * LANES)
        a->way = GEMM_COLUMNS_WAY;
#endif
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
    /* at least four blocks, where there are columns or rows enough, and about as many columns in either half of them */
    a->block_n = wide;
    ptrdiff_t worst = a->N;
    for (ptrdiff_t parts = 4; parts <= 8 && !a->swap; parts++) {
        const ptrdiff_t width = MIN(round_up(ceil_div(a->N, parts), wide), GEMM_COLUMNS);
        const ptrdiff_t half = ceil_div(a->N, width) / 2 * width, most = MAX(half, a->N - half);
        if (most < worst || parts == 4)
            worst = most, a->block_n = width;
    }
    if (a->way == GEMM_ROWS_WAY && a->K > 8) /* longer runs of b, which lies in far memory */
        a->block_n = MAX(a->block_n, MIN(GEMM_COLUMNS, round_up(ceil_div(a->N, 2), wide)));
    if (a->way == GEMM_DOT)
        a->block_n = MAX(16, round_up(ceil_div(a->N, 4), 16));
    if (a->N <= wide && a->way != GEMM_DIRECT)
        a->block_m = MAX(56, MIN(a->block_m, round_up(ceil_div(a->M, 2), 28)));
    if (a->way == GEMM_DIRECT && a->M > GEMM_DIRECT_ROWS) /* whole rows of c; at least five, also in the last block */
        a->block_n = a->N, a->block_m = ceil_div(a->M, 4);
    if (a->way == GEMM_OUTER) /* each block prepares as much */
        a->block_m = round_up(ceil_div(a->M, a->M * a->N * a->K < 200000 ? 1 : 4), LANES);
    a->block_m = MIN(a->block_m, a->M);
    a->n_column_blocks = ceil_div(a->N, a->block_n);
    a->stage_a = a->way == GEMM_PANELS && a->a_k != 1 && a->a_row == 1;
    /* rows that alias are copied next to each other, where a few panels pay for it */
    const int aliased = a->a_row * (ptrdiff_t)sizeof(REAL) % GEMM_ALIAS == 0 && a->a_row != 0;
    a->stage_row = 0;
    if (a->way == GEMM_PANELS && a->a_k == 1 && aliased && !a->swap && a->block_k >= 64 &&
        MIN(a->block_n, a->N) >= 2 * wide)
        a->stage_row = round_up(a->block_k, LANES) + 64 / (ptrdiff_t)sizeof(REAL);
    ptrdiff_t at = 0, results = a->swap ? (a->block_m + TILE_PIXELS_1) * wide : TILE_PIXELS_1 * wide;
    const ptrdiff_t panel = a->way == GEMM_OUTER ? GEMM_OUTER_TERMS * a->N * LANES : a->block_k * wide;
    a->panel_at = at, at += round_up(panel * sizeof(REAL), 64) + 64;
    a->result_at = at, at += round_up(MAX(results, 4 * GEMM_STRETCH) * sizeof(REAL), 64);
    const ptrdiff_t stage_step = a->stage_a ? a->block_k : a->stage_row;
    a->stage_at = at, at += stage_step ? round_up((stage_step * a->block_m + LANES) * sizeof(REAL), 64) : 0;
    a->offset_at = at, at += round_up(a->block_k * sizeof(int32_t), 64);
    a->task.scratch_bytes = (size_t)at;
    a->task.n_blocks = ceil_div(a->M, a->block_m) * a->n_column_blocks;
    /* twice the usual for a product: two threads are faster from some 12 us on */
    a->task.work = 0.5 * a->M * a->N * a->K + (double)a->M * a->N + 0.5 * (double)a->N * a->K;
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

/* Tiles over n rows: as few as the largest tile takes, of two sizes, so that none does rows twice where it can be
 * helped. */
typedef struct {
    broadcast_tile large, small;
    ptrdiff_t n_large; /* the first ones */
} gemm_split;

static gemm_split gemm_split_for(int kv, ptrdiff_t n) {
    gemm_split split;
    split.large = split.small = broadcast_tile_for(kv, n);
    const ptrdiff_t passes = ceil_div(n, split.large.pixels);
    split.n_large = passes;
    if (split.large.pixels > 1) {
        broadcast_tile less = broadcast_tile_for(kv, split.large.pixels - 1);
        if (less.pixels < split.large.pixels) { /* how many tiles may be smaller */
            split.small = less;
            split.n_large = MAX(0, passes - (passes * split.large.pixels - n) / (split.large.pixels - less.pixels));
        }
    }
    return split;
}

static void gemm_panels(const cg_gemm_args *a, ptrdiff_t m0, ptrdiff_t m1, ptrdiff_t n0, ptrdiff_t n1, char *scratch) {
    REAL *panel = (REAL *)(scratch + a->panel_at), *result = (REAL *)(scratch + a->result_at);
    REAL *stage = (REAL *)(scratch + a->stage_at), *c = (REAL *)a->c;
    int32_t *offset = (int32_t *)(scratch + a->offset_at);
    const ptrdiff_t a_k = a->stage_a ? m1 - m0 : a->a_k;
    const ptrdiff_t a_row = a->stage_a ? 1 : a->stage_row ? a->stage_row : a->a_row;
    gemm_split split;
    ptrdiff_t split_wide = 0;
    const int far_b = a->K * a->N * (ptrdiff_t)sizeof(REAL) >= GEMM_FAR;
    const int far_a = a->M * a->K * (ptrdiff_t)sizeof(REAL) >= GEMM_FAR; /* of a that took b's place */
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
        if (a->stage_row) {
            for (ptrdiff_t i = 0; i < m1 - m0; i++)
                copy_run(stage + i * a->stage_row, rows + i * a->a_row, k);
            rows = stage;
        }
        for (ptrdiff_t n = n0, wide; n < n1; n += wide) {
            wide = gemm_width(a, n1 - n);
            const ptrdiff_t columns = MIN(wide, n1 - n);
            REAL init[TILE_CHANNELS_MAX * LANES] = {0};
            if (a->bias && k0 == 0 && !a->swap)
                memcpy(init, (const REAL *)a->bias + n, (size_t)columns * sizeof(REAL));
            gemm_panel(a, k0, k, n, columns, wide, panel);
            if (wide != split_wide)
                split = gemm_split_for((int)(wide / LANES), m1 - m0), split_wide = wide;
            broadcast_tile tile = split.large;
            const int same_k = n + wide < n1, more = far_b && (same_k || k0 + k < a->K);
            const ptrdiff_t soon_k = same_k ? k0 : k0 + k, soon_n = same_k ? n + wide : n0;
            for (ptrdiff_t m = m0, passes = 0; m < m1; m += tile.pixels) {
                const REAL *pixel[TILE_PIXELS_1];
                tile = passes++ < split.n_large ? split.large : split.small;
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
                    for (ptrdiff_t i = tile.pixels; far_a && i < MIN(2 * tile.pixels, m1 - m); i++)
                        for (ptrdiff_t j = 0; j < k; j += 64 / (ptrdiff_t)sizeof(REAL))
                            PREFETCH(rows + (m - m0 + i) * a_row + j);
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
