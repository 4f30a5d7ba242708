/* The steps of Winograd's convolution: images to points, weights to points, products of points, points to images. The
 * kernels made of them, and the layouts of u, v and m, are in conv_winograd.inc.h.
 */
static void winograd_geometry(cg_winograd_args *a) {
    a->tile_h = a->axis == 2 ? 1 : a->m;
    a->tile_w = a->axis == 1 ? 1 : a->m;
    a->tile_rows = ceil_div(a->OH, a->tile_h);
    a->tile_cols = ceil_div(a->OW, a->tile_w);
    a->sums = a->axis == 2 ? a->R : 1;
    a->v_rows = a->tile_rows + a->sums - 1;
    a->points = a->axis ? a->m + (int)(a->axis == 1 ? a->R : a->S) - 1 : (a->m + 2) * (a->m + 2);
    a->rest_h = a->axis ? 0 : (int)(a->OH % a->m);
    a->rest_w = a->axis ? 0 : (int)(a->OW % a->m);
    if (a->row1 == 0)
        a->row1 = a->N * a->tile_rows;
    if (a->k1 == 0)
        a->k1 = a->K;
}

/* Rows of v are numbered over all samples; where kernel rows are summed, output row i of a sample reads its rows i ..
 * i + sums - 1. The first row of v that tile row `row` reads: */
INLINE ptrdiff_t v_row(const cg_winograd_args *a, ptrdiff_t row) {
    return row + row / a->tile_rows * (a->sums - 1);
}

/* Rows of v that tile rows row0 .. row1-1 read. */
INLINE ptrdiff_t v_rows_of(const cg_winograd_args *a, ptrdiff_t row0, ptrdiff_t row1) {
    return v_row(a, row1 - 1) + a->sums - v_row(a, row0);
}

/* A panel: tiles of rows row0 .. row1-1 and columns col0 .. col1-1 that are multiplied together. Those of the last row
 * or column of an image may be narrow: fewer outputs, fewer points (winograd_transforms.inc.h). They are so ordered
 * that the tiles that have a point are neighbours: narrow columns in full rows, full tiles, full columns in narrow
 * rows, narrow both ways. */
typedef struct {
    ptrdiff_t row0, row1, col0, col1, cols;  /* cols: full ones */
    ptrdiff_t base, full, rows, corner, end; /* places of the first one, of the first full one, ... */
    int narrow_rows, narrow_cols;            /* whether there are any */
} panel;

INLINE panel panel_of(const cg_winograd_args *a, ptrdiff_t row0, ptrdiff_t row1, ptrdiff_t col0, ptrdiff_t col1) {
    ptrdiff_t narrow = a->rest_h ? row1 / a->tile_rows - row0 / a->tile_rows : 0, whole = row1 - row0 - narrow;
    panel b = {.row0 = row0, .row1 = row1, .col0 = col0, .col1 = col1};
    b.narrow_rows = narrow > 0;
    b.narrow_cols = a->rest_w && col1 == a->tile_cols;
    b.cols = col1 - col0 - b.narrow_cols;
    b.full = whole * b.narrow_cols;
    b.rows = b.full + whole * b.cols;
    b.corner = b.rows + narrow * b.cols;
    b.end = (row1 - row0) * (col1 - col0);
    return b;
}

/* The panel of the range row0 .. row1-1 that a row is in: ranges of the gradient by the weight are one after the other,
 * however many are taken at once. */
static panel panel_at(const cg_winograd_args *a, ptrdiff_t row) {
    ptrdiff_t rows = a->range_tiles && !a->axis ? a->range_tiles / a->tile_cols : a->row1 - a->row0;
    ptrdiff_t row0 = a->row0 + (row - a->row0) / rows * rows, base = (row0 - a->row0) * a->tile_cols;
    panel b = panel_of(a, row0, MIN(a->row1, row0 + rows), 0, a->tile_cols);
    b.base += base, b.full += base, b.rows += base, b.corner += base, b.end += base;
    return b;
}

INLINE int is_narrow(const cg_winograd_args *a, ptrdiff_t row) {
    return a->rest_h && (row + 1) % a->tile_rows == 0;
}

/* The place of the first tile of a row; *last: that of its narrow one. */
INLINE ptrdiff_t tile_place(const cg_winograd_args *a, const panel *b, ptrdiff_t row, ptrdiff_t *last) {
    ptrdiff_t narrow = a->rest_h ? row / a->tile_rows - b->row0 / a->tile_rows : 0, i = row - b->row0 - narrow;
    *last = is_narrow(a, row) ? b->corner + narrow : b->base + i;
    return is_narrow(a, row) ? b->rows + narrow * b->cols : b->full + i * b->cols;
}

/* The places t0 .. t1-1 of the tiles that have point p. */
INLINE void places_with(const cg_winograd_args *a, const panel *b, int p, ptrdiff_t *t0, ptrdiff_t *t1) {
    const int size = a->m + 2;
    const int full_row = b->narrow_rows && !(narrow_points(a->m, a->rest_h) >> p / size & 1);
    const int full_col = b->narrow_cols && !(narrow_points(a->m, a->rest_w) >> p % size & 1);
    *t0 = full_col ? b->full : b->base;
    *t1 = full_row ? b->rows : full_col ? b->corner : b->end;
}

/* Samples that so many tile rows may belong to. */
INLINE ptrdiff_t most_samples(const cg_winograd_args *a, ptrdiff_t rows) {
    return (rows + 2 * a->tile_rows - 2) / a->tile_rows;
}

/* Pixels that tiles read beyond their own number of outputs. */
INLINE ptrdiff_t more_rows(const cg_winograd_args *a) {
    return a->axis == 2 ? 0 : a->R - 1;
}

INLINE ptrdiff_t more_cols(const cg_winograd_args *a) {
    return a->axis == 1 ? 0 : a->S - 1;
}

/* Tile rows of so many columns that keep the stage in L1. */
INLINE ptrdiff_t strip_rows(const cg_winograd_args *a, ptrdiff_t cols) {
    return MAX(1, (24 << 10) / (ptrdiff_t)(cols * a->tile_h * LANES * sizeof(REAL)));
}

/* Points of input channels c0 .. c0+LANES-1 for rows row0 .. row1-1 (of v) of a panel. The block of channels is laid
 * out for `tiles` tiles. */
static void transform_input(const cg_winograd_args *a, ptrdiff_t c0, const panel *b, ptrdiff_t row0, ptrdiff_t row1,
                            ptrdiff_t tiles, REAL *v, ptrdiff_t point, REAL *stage) {
    ptrdiff_t cols = (b->col1 - b->col0) * a->tile_w + more_cols(a), width, block = channel_block(a->C, c0, &width);
    v += block * tiles + (c0 - block);
    for (ptrdiff_t row = row0, n; row < row1; row += n) {
        /* a strip of rows of one sample */
        ptrdiff_t sample = row / a->v_rows, i = row % a->v_rows;
        n = MIN(row1 - row, MIN(a->v_rows - i, strip_rows(a, cols)));
        const REAL *x = (const REAL *)a->x + sample * a->x_at.stride_n + c0 * a->x_at.stride_c;
        stage_lanes(stage, n * a->tile_h + more_rows(a), cols, x, &a->x_at, MIN(LANES, a->C - c0), a->H, a->W,
                    i * a->tile_h + a->first_h, b->col0 * a->tile_w + a->first_w);
        for (ptrdiff_t r = 0; r < n; r++) {
            ptrdiff_t last, place = tile_place(a, b, row + r, &last);
            const int rest_h = is_narrow(a, row + r) ? a->rest_h : 0;
            for (ptrdiff_t j = 0; j < b->cols + b->narrow_cols; j++) {
                const REAL *from = stage + (r * a->tile_h * cols + j * a->tile_w) * LANES;
                REAL *to = v + (j < b->cols ? place + j : last) * width;
                const int rest_w = j < b->cols ? 0 : a->rest_w;
                ptrdiff_t step = a->axis == 1 ? cols * LANES : LANES;
                if (a->axis == 0 && a->m == 4 && own_points(rest_h, rest_w))
                    input_narrow(rest_h, rest_w, from, cols, to, point);
                else if (a->axis == 0 && a->m == 4)
                    input_tile(4, from, cols, to, point, width);
                else if (a->axis == 0)
                    input_tile(2, from, cols, to, point, width);
                else if (a->points == 6)
                    input_points(6, from, step, to, point, width);
                else
                    input_points(8, from, step, to, point, width);
            }
        }
    }
}

INLINE size_t input_stage_bytes(const cg_winograd_args *a, ptrdiff_t tile_cols) {
    ptrdiff_t cols = tile_cols * a->tile_w + more_cols(a), strip = MIN(strip_rows(a, cols), a->v_rows);
    /* the outputs of a strip may take a little more than its inputs */
    return round_up(
        MAX((ptrdiff_t)(24 << 10), (strip * a->tile_h + more_rows(a)) * cols * LANES * (ptrdiff_t)sizeof(REAL)), 64);
}

/* Points of the weights of channels k0 .. k0+n-1 and c0 .. c1-1 as u[p][kernel row][c][width], kernel rows (where they
 * are summed) `row` apart. */
static void transform_weights(const cg_winograd_args *a, ptrdiff_t k0, ptrdiff_t n, ptrdiff_t width, ptrdiff_t c0,
                              ptrdiff_t c1, REAL *u, ptrdiff_t point, ptrdiff_t row) {
    REAL taps[49 * LANES];
    const int n_taps = (int)(a->R * a->S), in_row = n_taps / (int)a->sums;
    /* several channels c at once: fewer partial vectors */
    const int adjacent = a->w_s == 1 && (a->w_r == a->S || a->R == 1);
    const ptrdiff_t group = adjacent && a->w_c == n_taps ? MAX(1, WEIGHTS_GROUP(n_taps)) : 1;
    for (ptrdiff_t kv = 0; kv < width; kv += LANES) {
        ptrdiff_t lanes = MAX(0, MIN(LANES, n - kv));
        for (ptrdiff_t c = c0, in_group = 0; c < c1; c++, in_group = in_group + 1 < group ? in_group + 1 : 0) {
            const REAL *w = (const REAL *)a->weight + (k0 + kv) * a->w_k + c * a->w_c;
            for (ptrdiff_t i = 0; a->w_k == n_taps && group == 1 && i < n_taps * LANES; i += SOON_STEP)
                PREFETCH(w + WEIGHTS_SOON * a->w_c + i); /* far apart: nothing else would fetch them */
            const REAL *from = taps + in_group * n_taps * LANES;
            if (lanes && adjacent) {
                if (group == 1 && n_taps == 9)
                    load_taps(taps, w, a->w_k, lanes);
                else if (in_group == 0)
                    transpose_block(taps, LANES, w, a->w_k, lanes, n_taps * MIN(group, c1 - c), 1);
            } else
                for (ptrdiff_t r = 0, i = 0; r < a->R; r++)
                    for (ptrdiff_t s = 0; s < a->S; s++, i += LANES)
                        for (int k = 0; k < LANES; k++)
                            taps[i + k] = k < lanes ? w[k * a->w_k + r * a->w_r + s * a->w_s] : 0;
            REAL *to = u + (c - c0) * width + kv;
            if (a->axis) {
                vec g[49];
                for (int i = 0; i < n_taps; i++)
                    g[a->flip ? n_taps - 1 - i : i] = v_load(from + i * LANES);
                for (int r = 0; r < a->sums; r++) {
                    vec o[8];
                    filter_spread(filter_of(a->points), g + r * in_row, in_row, 1, o);
                    for (int p = 0; p < a->points; p++)
                        v_store(to + r * row + p * point, o[p]);
                }
                continue;
            }
            vec g[9];
            UNROLL for (int i = 0; i < 9; i++) g[i] = v_load(from + i * LANES);
            if (a->flip)
                UNROLL for (int i = 0; i < 4; i++) {
                    vec swap = g[i];
                    g[i] = g[8 - i];
                    g[8 - i] = swap;
                }
            if (a->m == 4)
                weight_tile(4, g, to, point, width);
            else
                weight_tile(2, g, to, point, width);
        }
    }
}

/* m[p] += v[p] * u[p] for those tiles of a panel that have point p and the channels c0 .. c0+channels-1, of all kernel
 * rows that are summed, row_u apart in u. Meanwhile the operand of the next point that is not in L2 (v where
 * far_v is set, else u) and what `soon` lists (two entries) are fetched there. */
static void multiply_points(const cg_winograd_args *a, const panel *b, ptrdiff_t c0, ptrdiff_t channels, const REAL *v,
                            ptrdiff_t point_v, const REAL *u, ptrdiff_t point_u, ptrdiff_t row_u, ptrdiff_t width,
                            REAL *m, ptrdiff_t point_m, const int far_v, wanted *soon) {
    const ptrdiff_t cols = b->col1 - b->col0, v_tiles = v_rows_of(a, b->row0, b->row1) * cols;
    const ptrdiff_t halo = (a->sums - 1) * cols;
    int32_t offset[MAX(WINOGRAD_CHAIN, WINOGRAD_WIDTH)];
    for (ptrdiff_t r = 0; r < a->sums; r++)
        for (ptrdiff_t c = c0, n; c < c0 + channels; c += n) {
            const REAL *from_u = u + r * row_u + (c - c0) * width;
            ptrdiff_t step;
            channel_block(a->C, c, &step);
            n = MIN(step, a->C - c);
            while (step == WINOGRAD_WIDTH && n + WINOGRAD_WIDTH <= MIN(WINOGRAD_CHAIN, c0 + channels - c))
                n += WINOGRAD_WIDTH; /* several full blocks in one chain */
            for (int i = 0; i < n; i++)
                offset[i] = (int32_t)(i / WINOGRAD_WIDTH * WINOGRAD_WIDTH * v_tiles + i % WINOGRAD_WIDTH);
            for (int p = 0; p < a->points; p++) {
                ptrdiff_t t, end, left = (a->tile_rows - b->row0 % a->tile_rows) * cols; /* tiles of this sample */
                places_with(a, b, p, &t, &end);
                broadcast_tile tile = broadcast_tile_for((int)(width / LANES), MAX(1, end - t));
                const REAL *from = v + c * v_tiles + p * point_v, *at = from + (t + r * cols) * step;
                const REAL *far = far_v ? from + point_v : from_u + (p + 1) * point_u;
                wanted next[2] = {{far, p + 1 < a->points, n * (far_v ? v_tiles : width), 0, 0}, {0}};
                for (; t < end; t += tile.pixels) {
                    const REAL *x[14];
                    if (end - t < tile.pixels)
                        tile = broadcast_tile_for((int)(width / LANES), end - t);
                    for (int q = 0; q < tile.pixels; q++) {
                        x[q] = at; /* the last tile repeats its last row; those results are not read */
                        if (t + q + 1 >= end)
                            continue;
                        at += step;
                        if (halo && --left == 0)
                            left = a->tile_rows * cols, at += halo * step;
                    }
                    ptrdiff_t soon_step;
                    const REAL *line = want_next(next->runs ? next : soon, n, &soon_step);
                    tile.fn(from_u + p * point_u, x, offset, n, zeros, r > 0 || c > 0, m + p * point_m + t * width,
                            width, line, soon_step);
                }
            }
        }
}

/* Tiles of a panel -> y, with bias and activation, for `width` channels from k0 on. */
static void transform_output(const cg_winograd_args *a, ptrdiff_t k0, ptrdiff_t width, const panel *b, const REAL *m,
                             ptrdiff_t point, REAL *stage) {
    const cg_strides at = a->y_at;
    const ptrdiff_t tile_h = a->tile_h, tile_w = a->tile_w;
    ptrdiff_t w0 = b->col0 * tile_w, cols = MIN(a->OW, b->col1 * tile_w) - w0, k1 = MIN(a->K, k0 + width);
    for (ptrdiff_t k = k0; k < k1; k += LANES) {
        ptrdiff_t lanes = MIN(LANES, k1 - k), n;
        vec bias = v_zero();
        if (a->bias)
            bias = lanes == LANES ? v_load((const REAL *)a->bias + k) : v_load_n((const REAL *)a->bias + k, lanes);
        for (ptrdiff_t row = b->row0; row < b->row1; row += n) {
            ptrdiff_t sample = row / a->tile_rows, i = row % a->tile_rows, h0 = i * tile_h;
            n = MIN(b->row1 - row, MIN(a->tile_rows - i, strip_rows(a, cols)));
            ptrdiff_t rows = MIN(a->OH, (i + n) * tile_h) - h0;
            for (ptrdiff_t r = 0; r < n; r++) {
                ptrdiff_t last, place = tile_place(a, b, row + r, &last);
                const int rest_h = is_narrow(a, row + r) ? a->rest_h : 0;
                for (ptrdiff_t j = 0; j < b->cols + b->narrow_cols; j++) {
                    vec y[16];
                    const REAL *from = m + (j < b->cols ? place + j : last) * width + (k - k0);
                    const int rest_w = j < b->cols ? 0 : a->rest_w;
                    if (a->axis == 0 && a->m == 4 && own_points(rest_h, rest_w))
                        output_narrow(rest_h, rest_w, from, point, bias, y);
                    else if (a->axis)
                        filter_gather(filter_of(a->points), from, point, a->m, 0, bias, y);
                    else if (a->m == 4)
                        output_tile(4, from, point, bias, y);
                    else
                        output_tile(2, from, point, bias, y);
                    ptrdiff_t most_i = MIN(tile_h, rows - r * tile_h), most_j = MIN(tile_w, cols - j * tile_w);
                    REAL *to = stage + (r * tile_h * cols + j * tile_w) * LANES;
                    if (LIKELY(tile_h * tile_w == 16 && most_i == 4 && most_j == 4)) {
                        UNROLL for (int q = 0; q < 16; q++) v_store(to + (q / 4 * cols + q % 4) * LANES, y[q]);
                    } else
                        for (ptrdiff_t p = 0; p < most_i; p++)
                            for (ptrdiff_t q = 0; q < most_j; q++)
                                v_store(to + (p * cols + q) * LANES, y[p * tile_w + q]);
                }
            }
            REAL *y = (REAL *)a->y + sample * at.stride_n + k * at.stride_c + h0 * at.stride_h + w0 * at.stride_w;
            if (at.stride_w == 1 && (at.stride_h == cols || rows == 1)) {
                transpose_block(y, at.stride_c, stage, LANES, rows * cols, lanes, 0);
                for (ptrdiff_t q = 0; q < lanes && FINISHES(a); q++)
                    FINISH(a, y + q * at.stride_c, rows * cols);
                continue;
            }
            for (ptrdiff_t p = 0; p < rows; p++, y += at.stride_h) {
                REAL *from = stage + p * cols * LANES;
                if (at.stride_w == 1) {
                    transpose_block(y, at.stride_c, from, LANES, cols, lanes, 0);
                    for (ptrdiff_t q = 0; q < lanes && FINISHES(a); q++)
                        FINISH(a, y + q * at.stride_c, cols);
                } else {
                    activate_run(a->activation, (REAL)a->parameter, from, cols * LANES);
                    for (ptrdiff_t q = 0; q < cols; q++)
                        for (ptrdiff_t c = 0; c < lanes; c++)
                            y[q * at.stride_w + c * at.stride_c] = from[q * LANES + c];
                }
            }
        }
    }
}
