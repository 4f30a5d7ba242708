/* What the pools share: which cells of a window lie in the image, and how a batch is cut.
 *
 * Forward passes reduce the rows of a window first, into a line of vectors over adjacent pixels that has padding on
 * both sides, then that line across: the windows of all columns, of which every stride-th is kept. So strides and
 * dilations cost no shuffling of x, and a window of R x S cells costs R + S steps. Where a pixel has LANES numbers or
 * more, vectors run over those instead and each window is reduced by itself ("direct").
 */
#define POOL_LINE_BYTES (32 << 10)  /* longer rows are taken in pieces */
#define POOL_LINE_LIMIT (256 << 10) /* windows wider than that are reduced directly */
#define POOL_BLOCK_NUMBERS 8192     /* of x in a block */
#define POOL_SLACK (8 * LANES)      /* lines are read and written that far beyond their end */

#if defined(__GNUC__)
#define RAISE_FLAG(p) __atomic_store_n(p, 1, __ATOMIC_RELAXED) /* several threads may */
#else
#define RAISE_FLAG(p) (*(volatile int32_t *)(p) = 1)
#endif

/* First tap and end of the taps inside [0, size), of a window that starts at `start`. */
INLINE ptrdiff_t taps_from(ptrdiff_t start, ptrdiff_t dilation) {
    return start < 0 ? ceil_div(-start, dilation) : 0;
}
INLINE ptrdiff_t taps_to(ptrdiff_t start, ptrdiff_t dilation, ptrdiff_t taps, ptrdiff_t size) {
    return start + (taps - 1) * dilation < size ? taps : start >= size ? 0 : ceil_div(size - start, dilation);
}

/* A window without a cell in the image; only dilated ones can be. */
INLINE int window_empty(const cg_windows *w, ptrdiff_t h, ptrdiff_t v) {
    return taps_from(h, w->dilation_h) >= taps_to(h, w->dilation_h, w->R, w->H) ||
           taps_from(v, w->dilation_w) >= taps_to(v, w->dilation_w, w->S, w->W);
}

static int any_window_empty(const cg_windows *w) {
    int rows = 0, cols = 0;
    if (w->dilation_h > 1)
        for (ptrdiff_t i = 0; i < w->OH; i++) {
            ptrdiff_t h = i * w->stride_h - w->top;
            rows |= taps_from(h, w->dilation_h) >= taps_to(h, w->dilation_h, w->R, w->H);
        }
    if (w->dilation_w > 1)
        for (ptrdiff_t j = 0; j < w->OW; j++) {
            ptrdiff_t v = j * w->stride_w - w->left;
            cols |= taps_from(v, w->dilation_w) >= taps_to(v, w->dilation_w, w->S, w->W);
        }
    return rows || cols;
}

/* One window that is the whole plane. */
static int is_whole_plane(const cg_windows *w) {
    return w->OH == 1 && w->OW == 1 && w->R == w->H && w->S == w->W && w->dilation_h == 1 && w->dilation_w == 1 &&
           !w->top && !w->left;
}

/* Cut `rows` rows of each plane, each of `numbers` numbers of work. What a window becomes does not depend on it. */
static void pool_cut(const cg_windows *w, cg_pool_cut *cut, ptrdiff_t rows, ptrdiff_t numbers) {
    cut->rows = MIN(rows, ceil_div(POOL_BLOCK_NUMBERS, numbers));
    cut->n_row_blocks = ceil_div(rows, cut->rows);
    cut->rows = ceil_div(rows, cut->n_row_blocks);
    cut->planes = 1;
    if (cut->n_row_blocks == 1)
        cut->planes = MAX(1, MIN(POOL_BLOCK_NUMBERS / (rows * numbers), w->planes / 16));
}

static ptrdiff_t pool_blocks(const cg_windows *w, const cg_pool_cut *cut) {
    return ceil_div(w->planes, cut->planes) * cut->n_row_blocks;
}

static void pool_cut_windows(const cg_windows *w, cg_pool_cut *cut) {
    double span = (w->S - 1.0) * w->dilation_w + 1;
    pool_cut(w, cut, w->OH, MIN(w->stride_h, w->R) * w->W * w->Z);
    cut->direct = w->Z >= LANES || (63.0 * w->stride_w + span) * w->Z * sizeof(REAL) > POOL_LINE_LIMIT;
    cut->has_empty = any_window_empty(w);
    cut->cols = w->OW;
    cut->width = 0;
    if (cut->direct)
        return;
    ptrdiff_t pixels = POOL_LINE_BYTES / (w->Z * (ptrdiff_t)sizeof(REAL)) - (w->S - 1) * w->dilation_w - 1;
    cut->cols = MIN(w->OW, MAX(64, pixels / w->stride_w));
    cut->width = (cut->cols - 1) * w->stride_w + (w->S - 1) * w->dilation_w + 1;
}

/* Rows i0 .. i1 - 1 of planes p0 .. p1 - 1. */
typedef struct {
    ptrdiff_t p0, p1, i0, i1;
} pool_block;

INLINE pool_block pool_block_at(const cg_windows *w, const cg_pool_cut *cut, ptrdiff_t rows, ptrdiff_t block) {
    pool_block b;
    b.i0 = block % cut->n_row_blocks * cut->rows;
    b.i1 = MIN(b.i0 + cut->rows, rows);
    b.p0 = block / cut->n_row_blocks * cut->planes;
    b.p1 = MIN(b.p0 + cut->planes, w->planes);
    return b;
}

/* The windows j0 .. j0 + n - 1 of a row and the line under them: pixel `first` of the image is its number 0; pixels
 * from .. to - 1 of it exist, the others are padding. */
typedef struct {
    ptrdiff_t j0, n, first, width, from, to;
} pool_columns;

INLINE pool_columns pool_columns_at(const cg_windows *w, const cg_pool_cut *cut, ptrdiff_t j0) {
    pool_columns c;
    c.j0 = j0;
    c.n = MIN(cut->cols, w->OW - j0);
    c.first = j0 * w->stride_w - w->left;
    c.width = (c.n - 1) * w->stride_w + (w->S - 1) * w->dilation_w + 1;
    c.from = MIN(c.width, MAX(0, -c.first));
    c.to = MAX(c.from, MIN(c.width, w->W - c.first));
    return c;
}

INLINE void pool_fill(REAL *y, ptrdiff_t n, REAL value) {
    for (ptrdiff_t t = 0; t < n; t++)
        y[t] = value;
}

/* n numbers of p, which may be read up to `end` */
INLINE vec pool_load(const REAL *p, const REAL *end, ptrdiff_t n) {
    return LIKELY(end - p >= LANES) ? v_load(p) : v_load_n(p, MIN(LANES, n));
}
/* n numbers to p, which may be overwritten up to `end` */
INLINE void pool_store(REAL *p, const REAL *end, vec v, ptrdiff_t n) {
    if (LIKELY(end - p >= LANES))
        v_store(p, v);
    else
        v_store_n(p, v, MIN(LANES, n));
}

INLINE void pool_copy(REAL *y, const REAL *y_end, const REAL *x, const REAL *x_end, ptrdiff_t n) {
    for (ptrdiff_t t = 0; t < n; t += LANES)
        pool_store(y + t, y_end, pool_load(x + t, x_end, n - t), n - t);
}
