/* Direct convolution, its gradient by the input and the transposed convolution: one loop nest over classes of output
 * positions.
 *
 * y[n, k, h, w] = activation(bias[k] + sum over c and taps of weight[k, c, r, s] * x[n, c, h', w'])   (see cg_phase)
 *
 * A block of the work is (group of channels, range of k, samples, output rows, output columns). Its inputs are copied
 * with their zero border into scratch that stays in L2, a chunk of input channels at a time; its weights are packed
 * once for all blocks that follow with the same k. Two kinds of tile (conv_tiles.inc.h):
 *
 *   over channels   Vectors over k, pixels broadcast: no transposed input, results transposed on their way out where y
 *                   is NCHW.
 *   over pixels     Vectors over adjacent pixels of the staged rows, weights broadcast: for few channels on either
 *                   side. 1x1 kernels have a way of their own (conv_pointwise.inc.h).
 */

/* Where the first term of each output position of a part begins in the stage; the last one is repeated to fill a tile.
 */
static ptrdiff_t pixel_addresses(const cg_conv_args *a, const conv_block *b, const conv_part *part, const REAL *stage,
                                 const REAL **pixel) {
    ptrdiff_t step_h = a->rows.in_step * (a->unstaged ? a->x_at.stride_h : a->stage_row);
    ptrdiff_t step_w = a->cols.in_step * a->stage_pixel, step_n = a->unstaged ? a->x_at.stride_n : a->stage_sample;
    ptrdiff_t n = 0;
    if (a->unstaged)
        stage =
            (const REAL *)a->x + b->n0 * step_n + b->group * a->C * a->x_at.stride_c + b->i0 * step_h + b->j0 * step_w;
    for (ptrdiff_t sample = b->n0; sample < b->n1; sample++, stage += step_n)
        for (ptrdiff_t i = 0; i < part->rows; i++) {
            const REAL *row = stage + i * step_h;
            for (ptrdiff_t j = 0; j < part->cols; j++)
                pixel[n++] = row + j * step_w;
        }
    for (int p = 0; p < TILE_PIXELS_1 && n; p++)
        pixel[n + p] = pixel[n - 1];
    return n;
}

/* One chunk of input channels into the results of one class, vectors over channels. cols: pixels of a row. */
static void add_over_channels(const cg_conv_args *a, ptrdiff_t pixels, ptrdiff_t cols, const REAL *const *pixel,
                              const REAL *w, const int32_t *offset, ptrdiff_t terms, ptrdiff_t width, const REAL *bias,
                              REAL *result, ptrdiff_t result_step, int first, const REAL *next, const REAL *ahead,
                              wanted *list) {
    broadcast_tile tile = {0, 0};
    if (width == LANES && a->stage_pixel * a->cols.in_step == 1)
        tile = tile_of_rows(cols);
    if (!tile.pixels)
        tile = broadcast_tile_for((int)(width / LANES), pixels);
    const ptrdiff_t run = terms_of_chain(a, terms);
    for (ptrdiff_t t = 0; t == 0 || t < terms; t += run, first = 0) {
        ptrdiff_t n = MIN(run, terms - t), vectors = a->packed || ahead ? width / LANES : 0;
        for (ptrdiff_t done = 0; done < pixels; done += tile.pixels) {
            REAL *out = result + done * result_step;
            const REAL *soon = out;
            ptrdiff_t soon_step = 0;
            if (next && done < a->block_cols) {
                soon = next + done * a->cols.in_step + t * a->x_at.stride_c;
                soon_step = a->x_at.stride_c;
            } else if (vectors && ahead) { /* rows of weights that follow each other */
                soon = ahead + (t * width / LANES + --vectors * n) * LANES;
                soon_step = LANES;
            } else if (vectors) { /* weights packed for all are far away: the next ones, as many as these */
                soon = w + (t + 2 * n) * width - vectors-- * n * LANES;
                soon_step = LANES;
            } else if (list->runs + list[1].runs)
                soon = want_next(list, n, &soon_step);
            tile.fn(w + t * width, pixel + done, offset + t, n, first ? bias : zeros, !first, out, result_step, soon,
                    soon_step);
        }
        if (terms == 0)
            return;
    }
}

/* The same, vectors over pixels. Where y is given the results go there at once, `y_step` between channels; only the
 * last vectors, which would reach beyond its `pixels`, take the way over `result`. */
static void add_over_pixels(const cg_conv_args *a, const conv_part *part, const REAL *stage, const REAL *w,
                            const int32_t *offset, ptrdiff_t terms, ptrdiff_t width, const REAL *bias, REAL *result,
                            ptrdiff_t flat, int first, const REAL *next, wanted *list, REAL *y, ptrdiff_t y_step) {
    ptrdiff_t pixels = (part->rows - 1) * a->stage_row + part->cols, vectors = ceil_div(pixels, LANES);
    const ptrdiff_t run = terms_of_chain(a, terms);
    int most = row_tile_vectors((int)width);
    for (ptrdiff_t v = 0, take; v < vectors; v += take) {
        take = ceil_div(vectors - v, ceil_div(vectors - v, most));
        int at_once = y && (v + take) * LANES <= pixels;
        REAL *out = at_once ? y + v * LANES : result + v * LANES;
        int stream = at_once && a->stream && (uintptr_t)out % 64 == 0;
        const REAL *soon = next && v * LANES < a->block_cols ? next + v * LANES * a->cols.in_step : out;
        ptrdiff_t soon_step = soon == out ? 0 : a->x_at.stride_c;
        if (list->runs + list[1].runs)
            soon = want_next(list, MIN(run, terms), &soon_step);
        for (ptrdiff_t t = 0; t == 0 || t < terms; t += run)
            tiles_rows[width][take](w + t * width, stage + v * LANES, offset + t, MIN(run, terms - t),
                                    first && t == 0 ? bias : zeros,
                                    stream            ? TILE_STREAM
                                    : !first || t > 0 ? TILE_ADD
                                                      : TILE_STORE,
                                    out, at_once ? y_step : flat, LANES, soon, soon_step);
        if (y && !at_once)
            for (ptrdiff_t k = 0; k < width; k++)
                copy_run(y + k * y_step + v * LANES, out + k * flat, pixels - v * LANES);
    }
}

static void correlate_block(const cg_conv_args *a, conv_block *b, const REAL *weight, REAL *stage, REAL *result,
                            const int32_t *offsets, const REAL *bias, const REAL **pixel) {
    ptrdiff_t flat = a->block_rows * a->stage_row + SLACK, first_h = b->i0 * a->rows.in_step + a->rows.min_offset;
    ptrdiff_t first_w = b->j0 * a->cols.in_step + a->cols.min_offset;
    for (ptrdiff_t c0 = 0; c0 < a->C; c0 += a->c_chunk) {
        ptrdiff_t chunk = MIN(a->c_chunk, a->C - c0);
        int first = c0 == 0, last = c0 + chunk == a->C;
        for (ptrdiff_t sample = b->n0; sample < b->n1 && !a->unstaged; sample++) {
            const REAL *x = (const REAL *)a->x + sample * a->x_at.stride_n + (b->group * a->C + c0) * a->x_at.stride_c;
            REAL *to = stage + (sample - b->n0) * a->stage_sample;
            if (a->vectors_over_pixels)
                stage_planes(to, a->stage_plane, a->stage_row, a->stage_rows, a->stage_cols, x, &a->x_at, chunk, a->H,
                             a->W, first_h, first_w, a->rows.in_step, a->cols.in_step, a->cols.in_step);
            else if (!a->planar && a->stage_pixel == chunk)
                stage_pixels(to, a->stage_row, a->stage_rows, a->stage_cols, x, &a->x_at, chunk, a->H, a->W, first_h,
                             first_w);
            else if (!a->planar) { /* the last chunk is narrower than its pixels' step */
                for (ptrdiff_t w = 0; w < a->stage_cols; w++)
                    stage_pixels(to + w * a->stage_pixel, a->stage_row, a->stage_rows, 1, x, &a->x_at, chunk, a->H,
                                 a->W, first_h, first_w + w);
            } else
                stage_planes(to, a->stage_plane, a->stage_row, a->stage_rows, a->stage_cols, x, &a->x_at, chunk, a->H,
                             a->W, first_h, first_w, 1, 1, 1);
        }
        const int32_t *offset = offsets;
        ptrdiff_t before = 0, slot = 0, classes = a->cols.n_phases, col_taps = axis_taps(&a->cols);
        for (ptrdiff_t u = 0; u < a->rows.n_phases; u++) {
            ptrdiff_t row_taps = a->rows.phase[u].n_taps;
            conv_part part = part_of(a, b, a->rows.phase + u);
            ptrdiff_t pixels = a->vectors_over_pixels ? 0 : pixel_addresses(a, b, &part, stage, pixel);
            for (ptrdiff_t k = b->k0, width; k < b->k1 && part.rows > 0; k += width, slot += a->n_slots > 1) {
                width = tile_width(a, b->k1 - k);
                REAL *out = result + slot * a->slot, *y = 0;
                /* the next block's input is fetched during the first tiles of channels */
                const REAL *next = b->next ? b->next + (k - b->k0) / width * SOON_STEP * a->cols.in_step : 0;
                if ((k - b->k0) / width * SOON_STEP >=
                    (a->vectors_over_pixels ? TILE_ROWS_VECTORS * LANES : TILE_PIXELS_4))
                    next = 0;
                if (a->vectors_over_pixels && a->n_chunks == 1 && !a->row_by_row && follows(a, &part))
                    y = (REAL *)a->y + b->n0 * a->y_at.stride_n + (b->group * a->K + k) * a->y_at.stride_c +
                        part.first_h * a->y_at.stride_h + part.first_w * a->y_at.stride_w;
                for (ptrdiff_t v = 0, taps_before = before; v < classes; v++) {
                    ptrdiff_t taps = row_taps * a->cols.phase[v].n_taps;
                    const REAL *w = weight + (k - b->k0) * a->C * a->n_taps + (taps_before * a->C + c0 * taps) * width;
                    const int32_t *at = offset + taps_before * a->c_chunk;
                    if (a->row_by_row)
                        add_row_by_row(a, b->i0, part.rows, part.cols, stage, w, at, chunk * taps, width,
                                       bias + k - b->k0, out, flat, b->skips, b->soon);
                    else if (a->vectors_over_pixels)
                        add_over_pixels(a, &part, stage, w, at, chunk * taps, width, bias + k - b->k0,
                                        out + v * TILE_ROWS_CHANNELS * flat, flat, first, next, b->soon, y,
                                        a->y_at.stride_c);
                    else
                        add_over_channels(a, pixels, part.cols, pixel, w, at, chunk * taps, width, bias + k - b->k0,
                                          out + v * width, classes * width, first, next,
                                          b->ahead ? b->ahead + (k - b->k0) * a->w_k : 0, b->soon);
                    taps_before += taps;
                }
                if (y)
                    for (ptrdiff_t q = 0; q < width && FINISHES(a); q++)
                        FINISH(a, y + q * a->y_at.stride_c, part.rows * part.cols);
                else if (last)
                    store_results(a, b, &part, out, width, k, MIN(width, b->k1 - k), flat);
            }
            before += row_taps * col_taps;
        }
    }
}

/* Block `index` of the work; k0 >= k1 where its share of the channels is empty. */
static conv_block block_at(const cg_conv_args *a, ptrdiff_t index) {
    conv_block b = {0};
    b.j0 = index % a->n_col_blocks * a->block_cols, index /= a->n_col_blocks;
    b.i0 = index % a->n_row_blocks * a->block_rows, index /= a->n_row_blocks;
    b.n0 = index % a->n_batches * a->block_n, index /= a->n_batches;
    b.n1 = MIN(a->N, b.n0 + a->block_n);
    b.part = index;
    ptrdiff_t share = index % a->n_k_shares * a->k_share, range = index / a->n_k_shares;
    b.group = range / a->n_k_groups;
    b.k0 = range % a->n_k_groups * a->k_group;
    b.k1 = MIN(MIN(a->K, b.k0 + a->k_group), b.k0 + share + a->k_share);
    b.k0 += share;
    return b;
}

/* Lists what the tiles of a block fetch as they go, where blocks are parts of a row: its results, and the input of the
 * next block. */
static void want_columns(const cg_conv_args *a, conv_block *b, const conv_block *next) {
    const conv_part part = part_of(a, b, a->rows.phase);
    b->soon[0] =
        wanted_columns((const REAL *)a->y + b->n0 * a->y_at.stride_n + (b->group * a->K + b->k0) * a->y_at.stride_c +
                           part.first_h * a->y_at.stride_h + part.first_w * a->y_at.stride_w,
                       &a->y_at, b->k1 - b->k0, part.wide);
    if (!next)
        return;
    ptrdiff_t h = next->i0 * a->rows.in_step + a->rows.min_offset;
    ptrdiff_t w = MAX(0, next->j0 * a->cols.in_step + a->cols.min_offset);
    if (h >= 0 && h < a->H && w < a->W)
        b->soon[1] =
            wanted_columns((const REAL *)a->x + next->n0 * a->x_at.stride_n + next->group * a->C * a->x_at.stride_c +
                               h * a->x_at.stride_h + w * a->x_at.stride_w,
                           &a->x_at, a->C, MIN(a->stage_cols, a->W - w));
}

/* The same for whole rows; nothing of the next block (0: none) where that has the same input. */
static void want_rows(const cg_conv_args *a, conv_block *b, const conv_block *next) {
    ptrdiff_t all_rows = 0;
    for (ptrdiff_t u = 0; u < a->rows.n_phases; u++)
        all_rows += a->rows.phase[u].count;
    ptrdiff_t i1 = MIN(all_rows, (b->i0 + a->block_rows) * a->rows.out_step), i0 = b->i0 * a->rows.out_step;
    b->soon[0] = wanted_rows((REAL *)a->y + (b->group * a->K + b->k0) * a->y_at.stride_c, &a->y_at, b->k1 - b->k0,
                             all_rows, 1, all_rows, b->n0 * all_rows + i0, (b->n1 - 1) * all_rows + i1);
    if (!next || (next->i0 + next->n0 == 0 && next->group == b->group))
        return;
    ptrdiff_t h0 = MAX(0, next->i0 * a->rows.in_step + a->rows.min_offset);
    ptrdiff_t h1 = MIN(a->H, (next->i0 + a->block_rows - 1) * a->rows.in_step + a->rows.max_offset + 1);
    b->soon[1] = wanted_rows((const REAL *)a->x + next->group * a->C * a->x_at.stride_c, &a->x_at, a->C, a->H, 1, a->H,
                             next->n0 * a->H + h0, (next->n1 - 1) * a->H + h1);
}

KERNEL_RUN(conv_correlate) {
    const cg_conv_args *a = args_;
    char *scratch = scratch_;
    REAL *weight = (REAL *)(scratch + a->weight_at), *bias = (REAL *)(scratch + a->bias_at);
    int32_t *offset = (int32_t *)(scratch + a->offset_at);
    ptrdiff_t packed = -1; /* range and share of k whose weights are in scratch */
    int skips = 0;         /* see conv_block */
    fill_offsets(a, offset);
    if (a->vectors_over_pixels && !a->pointwise &&
        !a->by_samples) { /* vectors reach into what no staging writes: slow if denormal */
        ptrdiff_t used = a->stage_rows * a->stage_row * a->rows.in_step * a->cols.in_step;
        REAL *stage = (REAL *)(scratch + a->stage_at);
        if (a->row_by_row)
            fill_run(stage, 0, a->stage_sample);
        for (ptrdiff_t c = 0; c < a->c_chunk && used < a->stage_plane; c++)
            fill_run(stage + c * a->stage_plane + used, 0, a->stage_plane - used);
        fill_run(stage + a->stage_sample, 0, SLACK);
    }
    for (ptrdiff_t block = begin; block < end; block++) {
        conv_block b = block_at(a, block);
        if (b.k0 >= b.k1)
            continue;
        if (b.part != packed) {
            if (a->packed)
                weight = (REAL *)a->packed + b.part / a->n_k_shares * packed_range(a) +
                         b.part % a->n_k_shares * a->k_share * a->C * a->n_taps;
            else
                pack_range(a, b.group, b.k0, b.k1, weight, (REAL *)(scratch + a->temp_at));
            for (ptrdiff_t k = 0; k < round_up(a->k_share, LANES); k++)
                bias[k] = a->bias && b.k0 + k < b.k1 ? ((const REAL *)a->bias)[b.group * a->K + b.k0 + k] : 0;
            skips = a->row_by_row && all_finite(weight, (b.k1 - b.k0) * a->C * a->n_taps);
            packed = b.part;
        }
        b.skips = skips;
        if (a->pointwise) {
            pointwise_block(a, b.group, b.n0, b.k0, b.k1, b.j0, weight, (REAL *)(scratch + a->stage_at),
                            (REAL *)(scratch + a->result_at), offset, bias);
            continue;
        }
#if LANES >= 8
        if (a->by_samples) {
            correlate_samples(a, &b, MIN(a->block_rows, a->rows.max_count - b.i0), weight,
                              (REAL *)(scratch + a->stage_at), (REAL *)(scratch + a->result_at), offset, bias);
            continue;
        }
#endif
        const conv_block next = block_at(a, MIN(block + 1, end - 1)), *after = block + 1 < end ? &next : 0;
        if (a->unstaged && after && next.part != b.part && !a->packed && a->w_c == 1 && a->w_k == a->C)
            b.ahead = (const REAL *)a->weight + next.group * a->w_group + next.k0 * a->w_k;
        if (!a->unstaged && a->n_taps == 1 && a->n_chunks == 1 && a->x_at.stride_w == 1 && after)
            b.next = (const REAL *)a->x + next.n0 * a->x_at.stride_n + next.group * a->C * a->x_at.stride_c +
                     next.i0 * a->rows.in_step * a->x_at.stride_h + next.j0 * a->cols.in_step;
        if ((a->n_taps > 1 || a->unstaged) && a->n_chunks == 1 && !a->stream) {
            if (a->n_col_blocks == 1)
                want_rows(a, &b, after);
            else if (a->stage_rows == 1 && a->rows.n_phases == 1)
                want_columns(a, &b, after);
        }
        correlate_block(a, &b, weight, (REAL *)(scratch + a->stage_at), (REAL *)(scratch + a->result_at), offset, bias,
                        (const REAL **)(scratch + a->pixel_at));
    }
    if (a->stream)
        v_stream_end();
}
