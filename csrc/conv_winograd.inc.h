/* Convolution, stride 1, by minimal filtering: forward and gradient by the input (the same with the kernel rotated).
 *
 * 3x3 by F(m x m, 3x3): the output is cut into tiles of m x m; a = m + 2, and for each of the a * a points p the
 * transformed inputs of T tiles times the transformed weights is a small matrix product:
 * M[p] (T x K) = V[p] (T x C) * U[p] (C x K).
 * R x 1 and R x S by F(m, R) along rows or F(m, S) along columns: tiles of m x 1 or 1 x m, m + R - 1 or m + S - 1
 * points. Along columns the R kernel rows are summed over as channels are: V has a row of tiles for each row of the
 * input, and M[p] = sum over r of (V[p], taken r rows on) * U[p][r]. Tiles are numbered along tile rows, tile rows over
 * all samples. Layouts (the stride between points is padded by one vector so that points do not share cache sets):
 *
 *   u[p][k / width][r][c][width]   width = the vectors of a tile of tile_broadcast, zeros beyond K
 *   v[p][c / width][tile][width]   zeros beyond C
 *   m[p][tile][width]
 *
 * Few channels: `winograd_weights` fills u once, `winograd_fused` takes a block of tiles through all steps inside L2.
 * Many channels: `winograd_input` fills v for all tiles, `winograd_multiply` takes ranges of k and transforms their
 * weights a chunk of c at a time, so u is never written to memory.
 *
 * Sums over c start from zero every WINOGRAD_CHAIN channels: shorter chains round less. Nothing depends on which tiles
 * share a block.
 */
static void winograd_geometry(cg_winograd_args *a) {
    a->tile_h = a->axis == 2 ? 1 : a->m;
    a->tile_w = a->axis == 1 ? 1 : a->m;
    a->tile_rows = ceil_div(a->OH, a->tile_h);
    a->tile_cols = ceil_div(a->OW, a->tile_w);
    a->sums = a->axis == 2 ? a->R : 1;
    a->v_rows = a->tile_rows + a->sums - 1;
    a->points = a->axis ? a->m + (int)(a->axis == 1 ? a->R : a->S) - 1 : (a->m + 2) * (a->m + 2);
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

/* Points of input channels c0 .. c0+LANES-1 for rows row0 .. row1-1 of v, tile columns col0 .. col1-1. The block of
 * channels is laid out for `tiles` tiles, of which these are the ones from `first` on. */
static void transform_input(const cg_winograd_args *a, ptrdiff_t c0, ptrdiff_t row0, ptrdiff_t row1, ptrdiff_t col0,
                            ptrdiff_t col1, ptrdiff_t tiles, ptrdiff_t first, REAL *v, ptrdiff_t point, REAL *stage) {
    ptrdiff_t cols = (col1 - col0) * a->tile_w + more_cols(a), width, block = channel_block(a->C, c0, &width);
    v += block * tiles + first * width + (c0 - block);
    for (ptrdiff_t row = row0, n; row < row1; row += n) {
        /* a strip of rows of one sample */
        ptrdiff_t sample = row / a->v_rows, i = row % a->v_rows;
        n = MIN(row1 - row, MIN(a->v_rows - i, strip_rows(a, cols)));
        const REAL *x = (const REAL *)a->x + sample * a->x_at.stride_n + c0 * a->x_at.stride_c;
        stage_lanes(stage, n * a->tile_h + more_rows(a), cols, x, &a->x_at, MIN(LANES, a->C - c0), a->H, a->W,
                    i * a->tile_h + a->first_h, col0 * a->tile_w + a->first_w);
        for (ptrdiff_t r = 0; r < n; r++)
            for (ptrdiff_t j = 0; j < col1 - col0; j++, v += width) {
                const REAL *from = stage + (r * a->tile_h * cols + j * a->tile_w) * LANES;
                ptrdiff_t step = a->axis == 1 ? cols * LANES : LANES;
                if (a->axis == 0 && a->m == 4)
                    input_tile(4, from, cols, v, point, width);
                else if (a->axis == 0)
                    input_tile(2, from, cols, v, point, width);
                else if (a->points == 6)
                    input_points(6, from, step, v, point, width);
                else
                    input_points(8, from, step, v, point, width);
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
    const ptrdiff_t group = adjacent && a->w_c == n_taps ? MAX(1, 36 / n_taps) : 1;
    for (ptrdiff_t kv = 0; kv < width; kv += LANES) {
        ptrdiff_t lanes = MAX(0, MIN(LANES, n - kv));
        for (ptrdiff_t c = c0, in_group = 0; c < c1; c++, in_group = in_group + 1 < group ? in_group + 1 : 0) {
            const REAL *w = (const REAL *)a->weight + (k0 + kv) * a->w_k + c * a->w_c;
            for (ptrdiff_t i = 0; a->w_k == n_taps && group == 1 && i < n_taps * LANES; i += SOON_STEP)
                PREFETCH(w + WEIGHTS_SOON * a->w_c + i); /* far apart: nothing else would fetch them */
            const REAL *from = taps + in_group * n_taps * LANES;
            if (lanes && adjacent) {
                if (group == 1 && n_taps == 9) /* a number that the compiler sees is faster by a tenth */
                    transpose_block(taps, LANES, w, a->w_k, lanes, 9, 1);
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

/* m[p] += v[p] * u[p] for the tiles of rows row0 .. row1-1 of `cols` columns and the channels c0 .. c0+channels-1, of
 * all kernel rows that are summed, row_u apart in u. Meanwhile the operand of the next point that is not in L2 (v where
 * far_v is set, else u) and what `soon` lists (two entries) are fetched there. */
static void multiply_points(const cg_winograd_args *a, ptrdiff_t row0, ptrdiff_t row1, ptrdiff_t cols, ptrdiff_t c0,
                            ptrdiff_t channels, const REAL *v, ptrdiff_t point_v, const REAL *u, ptrdiff_t point_u,
                            ptrdiff_t row_u, ptrdiff_t width, REAL *m, ptrdiff_t point_m, const int far_v,
                            wanted *soon) {
    ptrdiff_t tiles = (row1 - row0) * cols, v_tiles = v_rows_of(a, row0, row1) * cols;
    broadcast_tile tile = broadcast_tile_for((int)(width / LANES), tiles);
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
                const REAL *from = v + c * v_tiles + p * point_v, *at = from + r * cols * step;
                const REAL *far = far_v ? from + point_v : from_u + (p + 1) * point_u;
                wanted next[2] = {{far, p + 1 < a->points, n * (far_v ? v_tiles : width), 0, 0}, {0}};
                ptrdiff_t left = (a->tile_rows - row0 % a->tile_rows) * cols; /* tiles of this sample */
                for (ptrdiff_t t = 0; t < tiles; t += tile.pixels) {
                    const REAL *x[14];
                    for (int q = 0; q < tile.pixels; q++) {
                        x[q] = at; /* the last tile repeats its last row; those results are not read */
                        if (t + q + 1 >= tiles)
                            continue;
                        at += step;
                        if (--left == 0)
                            left = a->tile_rows * cols, at += (a->sums - 1) * cols * step;
                    }
                    ptrdiff_t soon_step;
                    const REAL *line = want_next(next->runs ? next : soon, n, &soon_step);
                    tile.fn(from_u + p * point_u, x, offset, n, zeros, r > 0 || c > 0, m + p * point_m + t * width,
                            width, line, soon_step);
                }
            }
        }
}

/* Tiles of one block -> y, with bias and activation, for `width` channels from k0 on. */
static void transform_output(const cg_winograd_args *a, ptrdiff_t k0, ptrdiff_t width, ptrdiff_t row0, ptrdiff_t row1,
                             ptrdiff_t col0, ptrdiff_t col1, const REAL *m, ptrdiff_t point, REAL *stage) {
    const cg_strides at = a->y_at;
    const ptrdiff_t tile_h = a->tile_h, tile_w = a->tile_w;
    ptrdiff_t w0 = col0 * tile_w, cols = MIN(a->OW, col1 * tile_w) - w0, k1 = MIN(a->K, k0 + width);
    for (ptrdiff_t k = k0; k < k1; k += LANES) {
        ptrdiff_t lanes = MIN(LANES, k1 - k), tile = 0, n;
        vec bias = v_zero();
        if (a->bias)
            bias = lanes == LANES ? v_load((const REAL *)a->bias + k) : v_load_n((const REAL *)a->bias + k, lanes);
        for (ptrdiff_t row = row0; row < row1; row += n) {
            ptrdiff_t sample = row / a->tile_rows, i = row % a->tile_rows, h0 = i * tile_h;
            n = MIN(row1 - row, MIN(a->tile_rows - i, strip_rows(a, cols)));
            ptrdiff_t rows = MIN(a->OH, (i + n) * tile_h) - h0;
            for (ptrdiff_t r = 0; r < n; r++)
                for (ptrdiff_t j = 0; j < col1 - col0; j++, tile++) {
                    vec y[16];
                    const REAL *from = m + tile * width + (k - k0);
                    if (a->axis)
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

/* ------------------------------------------------------------------ few channels: u in memory, blocks of tiles */

INLINE ptrdiff_t winograd_point_u(const cg_winograd_args *a) {
    return round_up(a->K, WINOGRAD_WIDTH) * a->C * a->sums + LANES;
}

KERNEL_PLAN(winograd_weights) {
    cg_winograd_args *a = args_;
    winograd_geometry(a);
    a->point_u = winograd_point_u(a);
    a->task.n_blocks = ceil_div(a->K, WINOGRAD_WIDTH) * ceil_div(a->C, WEIGHTS_CHUNK);
    a->task.scratch_bytes = 0;
    a->task.work = 1.5 * a->K * a->C * a->points;
}

KERNEL_RUN(winograd_weights) {
    (void)scratch_;
    const cg_winograd_args *a = args_;
    ptrdiff_t n_chunks = ceil_div(a->C, WEIGHTS_CHUNK);
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t k0 = block / n_chunks * WINOGRAD_WIDTH, c0 = block % n_chunks * WEIGHTS_CHUNK;
        ptrdiff_t width = channel_vectors(a->K - k0) * LANES;
        for (ptrdiff_t k = k0; k < MIN(a->K, k0 + WINOGRAD_WIDTH); k += width) {
            width = channel_vectors(a->K - k) * LANES;
            transform_weights(a, k, MIN(width, a->K - k), width, c0, MIN(a->C, c0 + WEIGHTS_CHUNK),
                              (REAL *)a->u + k * a->C * a->sums + c0 * width, a->point_u, a->C * width);
        }
    }
}

KERNEL_PLAN(winograd_fused) {
    cg_winograd_args *a = args_;
    winograd_geometry(a);
    ptrdiff_t channels = round_up(a->C, LANES);
    /* tiles whose points fit, a multiple of whole tile rows near a multiple of the microkernel's rows */
    ptrdiff_t tiles = WINOGRAD_V_BYTES / (channels * a->points * (ptrdiff_t)sizeof(REAL));
    tiles = MAX(TILE_PIXELS_4, MIN(tiles, 2016 / a->points));
    a->n_col_blocks = ceil_div(a->tile_cols, tiles);
    a->block_cols = ceil_div(a->tile_cols, a->n_col_blocks);
    a->block_rows = MAX(1, tiles / a->block_cols);
    ptrdiff_t rows = a->row1 - a->row0, row_blocks = ceil_div(rows, a->block_rows);
    if (row_blocks * a->n_col_blocks < 4 * a->task.threads) /* few blocks: as many for each thread */
        a->block_rows = MAX(1, ceil_div(rows, round_up(row_blocks, a->task.threads)));
    a->block_tiles = (a->block_rows + (a->sums - 1) * most_samples(a, a->block_rows)) * a->block_cols;
    a->point_u = winograd_point_u(a);
    a->point_v = channels * a->block_tiles + LANES;
    a->point_m = (a->block_rows * a->block_cols + TILE_PIXELS_1) * WINOGRAD_WIDTH + LANES;
    ptrdiff_t at = 0;
    a->v_at = at, at += round_up(a->point_v * a->points * sizeof(REAL), 64);
    a->m_at = at, at += round_up(a->point_m * a->points * sizeof(REAL), 64);
    a->stage_at = at, at += input_stage_bytes(a, a->block_cols);
    a->task.scratch_bytes = (size_t)at;
    a->task.n_blocks = ceil_div(a->row1 - a->row0, a->block_rows) * a->n_col_blocks;
    a->task.work = 0.25 * (a->row1 - a->row0) * a->tile_cols * a->points * a->C * a->K;
}

KERNEL_RUN(winograd_fused) {
    const cg_winograd_args *a = args_;
    char *scratch = scratch_;
    REAL *v = (REAL *)(scratch + a->v_at), *m = (REAL *)(scratch + a->m_at), *stage = (REAL *)(scratch + a->stage_at);
    ptrdiff_t rows = a->row1 - a->row0, n = a->task.n_blocks / a->n_col_blocks;
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t i = block / a->n_col_blocks, row0 = a->row0 + rows * i / n, row1 = a->row0 + rows * (i + 1) / n;
        ptrdiff_t col0 = block % a->n_col_blocks * a->block_cols, col1 = MIN(a->tile_cols, col0 + a->block_cols);
        ptrdiff_t v0 = v_row(a, row0), v_rows = v_rows_of(a, row0, row1), cols = col1 - col0;
        for (ptrdiff_t c = 0; c < a->C; c += LANES)
            transform_input(a, c, v0, v0 + v_rows, col0, col1, v_rows * cols, 0, v, a->point_v, stage);
        for (ptrdiff_t k = 0, width; k < a->K; k += width) {
            width = channel_vectors(a->K - k) * LANES;
            wanted soon[2] = {wanted_rows((const REAL *)a->y + k * a->y_at.stride_c, &a->y_at, MIN(width, a->K - k),
                                          a->OH, a->tile_h, a->tile_rows, row0, row1),
                              {0}};
            if (k + width >= a->K && block + 1 < end)
                soon[1] = wanted_rows(a->x, &a->x_at, a->C, a->H, a->tile_h, a->tile_rows, row1,
                                      MIN(a->row1, row1 + a->block_rows));
            multiply_points(a, row0, row1, cols, 0, a->C, v, a->point_v, (const REAL *)a->u + k * a->C * a->sums,
                            a->point_u, a->C * width, width, m, a->point_m, 0, soon);
            transform_output(a, k, width, row0, row1, col0, col1, m, a->point_m, stage);
        }
    }
}

/* ------------------------------------------------------------------ many channels: v in memory, ranges of k */

INLINE ptrdiff_t winograd_point_v(const cg_winograd_args *a) {
    return round_up(a->C, LANES) * v_rows_of(a, a->row0, a->row1) * a->tile_cols + LANES;
}

KERNEL_PLAN(winograd_input) {
    cg_winograd_args *a = args_;
    winograd_geometry(a);
    ptrdiff_t rows = v_rows_of(a, a->row0, a->row1);
    a->point_v = winograd_point_v(a);
    a->block_rows = MIN(rows, MAX(1, 64 / a->tile_cols));
    a->task.n_blocks = ceil_div(rows, a->block_rows) * ceil_div(a->C, LANES);
    a->task.scratch_bytes = input_stage_bytes(a, a->tile_cols);
    a->task.work = 1.5 * rows * a->tile_cols * a->C * a->points;
}

KERNEL_RUN(winograd_input) {
    const cg_winograd_args *a = args_;
    ptrdiff_t row0 = v_row(a, a->row0), rows = v_rows_of(a, a->row0, a->row1), n_rows = ceil_div(rows, a->block_rows);
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t c = block / n_rows * LANES, row = block % n_rows * a->block_rows;
        transform_input(a, c, row0 + row, row0 + MIN(rows, row + a->block_rows), 0, a->tile_cols, rows * a->tile_cols,
                        row * a->tile_cols, a->v, a->point_v, scratch_);
    }
}

KERNEL_PLAN(winograd_multiply) {
    cg_winograd_args *a = args_;
    winograd_geometry(a);
    ptrdiff_t tiles = (a->row1 - a->row0) * a->tile_cols;
    a->point_v = winograd_point_v(a);
    a->point_u = WINOGRAD_CHUNK * WINOGRAD_WIDTH * a->sums + LANES;
    a->point_m = (tiles + TILE_PIXELS_1) * WINOGRAD_WIDTH + LANES;
    ptrdiff_t at = 0;
    a->u_at = at, at += round_up(a->point_u * a->points * sizeof(REAL), 64);
    a->m_at = at, at += round_up(a->point_m * a->points * sizeof(REAL), 64);
    a->stage_at = at, at += input_stage_bytes(a, a->tile_cols);
    a->task.scratch_bytes = (size_t)at;
    a->task.n_blocks = ceil_div(a->K, WINOGRAD_WIDTH);
    a->task.work = 0.25 * tiles * a->points * a->C * a->K;
}

KERNEL_RUN(winograd_multiply) {
    const cg_winograd_args *a = args_;
    char *scratch = scratch_;
    REAL *u = (REAL *)(scratch + a->u_at), *m = (REAL *)(scratch + a->m_at), *stage = (REAL *)(scratch + a->stage_at);
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t k1 = MIN(a->K, (block + 1) * WINOGRAD_WIDTH);
        for (ptrdiff_t k = block * WINOGRAD_WIDTH, width; k < k1; k += width) {
            width = channel_vectors(k1 - k) * LANES;
            for (ptrdiff_t c = 0; c < a->C; c += WINOGRAD_CHUNK) {
                ptrdiff_t channels = MIN(WINOGRAD_CHUNK, a->C - c);
                wanted soon[2] = {{0}, {0}};
                if (c + channels == a->C)
                    soon[1] = wanted_rows((const REAL *)a->y + k * a->y_at.stride_c, &a->y_at, MIN(width, k1 - k),
                                          a->OH, a->tile_h, a->tile_rows, a->row0, a->row1);
                transform_weights(a, k, MIN(width, k1 - k), width, c, c + channels, u, a->point_u, channels * width);
                multiply_points(a, a->row0, a->row1, a->tile_cols, c, channels, a->v, a->point_v, u, a->point_u,
                                channels * width, width, m, a->point_m, 1, soon);
            }
            transform_output(a, k, width, a->row0, a->row1, 0, a->tile_cols, m, a->point_m, stage);
        }
    }
}
