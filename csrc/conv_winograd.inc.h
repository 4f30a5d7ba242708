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
 *
 * The steps are in conv_winograd_steps.inc.h.
 */
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
        ptrdiff_t v0 = v_row(a, row0), v_rows = v_rows_of(a, row0, row1);
        const panel tiles = panel_of(a, row0, row1, col0, col1), read = panel_of(a, v0, v0 + v_rows, col0, col1);
        for (ptrdiff_t c = 0; c < a->C; c += LANES)
            transform_input(a, c, &read, v0, v0 + v_rows, v_rows * (col1 - col0), v, a->point_v, stage);
        for (ptrdiff_t k = 0, width; k < a->K; k += width) {
            width = channel_vectors(a->K - k) * LANES;
            wanted soon[2] = {wanted_rows((const REAL *)a->y + k * a->y_at.stride_c, &a->y_at, MIN(width, a->K - k),
                                          a->OH, a->tile_h, a->tile_rows, row0, row1),
                              {0}};
            if (k + width >= a->K && block + 1 < end)
                soon[1] = wanted_rows(a->x, &a->x_at, a->C, a->H, a->tile_h, a->tile_rows, row1,
                                      MIN(a->row1, row1 + a->block_rows));
            multiply_points(a, &tiles, 0, a->C, v, a->point_v, (const REAL *)a->u + k * a->C * a->sums, a->point_u,
                            a->C * width, width, m, a->point_m, 0, soon);
            transform_output(a, k, width, &tiles, m, a->point_m, stage);
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
        for (ptrdiff_t end = MIN(rows, row + a->block_rows), next; row < end; row = next) {
            const panel b = a->axis ? panel_of(a, row0, row0 + rows, 0, a->tile_cols) : panel_at(a, row0 + row);
            next = MIN(end, b.row1 - row0);
            transform_input(a, c, &b, row0 + row, row0 + next, rows * a->tile_cols, a->v, a->point_v, scratch_);
        }
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
    const panel b = panel_at(a, a->row0);
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
                multiply_points(a, &b, c, channels, a->v, a->point_v, u, a->point_u, channels * width, width, m,
                                a->point_m, 1, soon);
            }
            transform_output(a, k, width, &b, m, a->point_m, stage);
        }
    }
}
