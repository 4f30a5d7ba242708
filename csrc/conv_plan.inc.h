/* How a direct convolution is cut into blocks; conv_direct.inc.h goes through them.
 *
 * Kind of tile, block sizes and the order of summation depend on the shape of one sample and on the options alone.
 */
#define BLOCK_PIXELS 384               /* over channels: results of one tile row of channels take 96 KB */
#define BLOCK_FLAT 1024                /* over pixels */
#define STAGE_BYTES (512 << 10)        /* of the staged input of one chunk */
#define CHUNK_TERMS 1536               /* terms added between two visits to the results */
#define CHAIN_TERMS 256                /* terms of one chain of additions: longer ones round more */
#define PANEL_BYTES (32 << 10)         /* packed weights that stay in L1 while all pixels of a block pass */
#define LATE_TERMS 12                  /* of a 1x1 kernel: fewer make tiles that cost less than what follows each */
#define FAR_BYTES (512 << 10)          /* of weights of a 1x1 kernel */
#define FEW_PIXELS 400                 /* of a 1x1 kernel with such weights */
#define PANELS_BYTES (768 << 10)       /* of the panels of a 1x1 kernel, in L2 */
#define WEIGHT_BYTES (1 << 20)         /* packed weights of one range of k */
#define SAMPLES_PIXELS 112             /* of results of a vector of samples that stay in L1 or nearly so */
#define STREAM_BYTES (4 << 20)         /* of y, from which on tiles store it past the cache */
#define STREAM_FAR (32 << 20)          /* the same where whole rows are stored at a time */
#define SOON_STEP (64 / REAL_BYTES)    /* elements of a cache line: what one fetch brings */
#define SLACK (VECTORS_NARROW * LANES) /* tile_rows reads and writes up to a tile beyond the last pixel */

static const REAL zeros[MAX(TILE_CHANNELS_MAX * LANES, TILE_ROWS_CHANNELS)];

static int is_natural(const cg_conv_args *a) {
    if (a->rows.n_phases != 1 || a->cols.n_phases != 1 || a->w_s != 1 || a->w_r != a->S || a->w_c != a->R * a->S)
        return 0;
    const cg_phase *rows = a->rows.phase, *cols = a->cols.phase;
    if (rows->n_taps != a->R || cols->n_taps != a->S)
        return 0;
    for (ptrdiff_t r = 0; r < a->R; r++)
        if (rows->tap_index[r] != r)
            return 0;
    for (ptrdiff_t s = 0; s < a->S; s++)
        if (cols->tap_index[s] != s)
            return 0;
    return 1;
}

static ptrdiff_t axis_taps(const cg_axis *axis) {
    ptrdiff_t n = 0;
    for (ptrdiff_t i = 0; i < axis->n_phases; i++)
        n += axis->phase[i].n_taps;
    return n;
}

/* A 1x1 kernel without border whose pixels are adjacent in the rows of x, and all of them in y; offsets that fit 32
 * bits. */
static int is_pointwise(const cg_conv_args *a) {
    const cg_axis *rows = &a->rows, *cols = &a->cols;
    return rows->n_phases == 1 && cols->n_phases == 1 && a->R * a->S == 1 && rows->out_step == 1 &&
           cols->out_step == 1 && rows->min_offset == 0 && cols->min_offset == 0 &&
           (rows->max_count - 1) * rows->in_step < a->H && (cols->max_count - 1) * cols->in_step < a->W &&
           a->x_at.stride_w == 1 && a->y_at.stride_w == 1 &&
           (rows->max_count == 1 || a->y_at.stride_h == cols->max_count) &&
           a->C * (double)llabs(a->x_at.stride_c) < INT32_MAX;
}

/* Tiles of channels in a range of k: full ones, and for vectors over channels what channel_vectors makes of the rest.
 */
INLINE ptrdiff_t channel_tiles(const cg_conv_args *a) {
    ptrdiff_t width = a->vectors_over_pixels ? TILE_ROWS_CHANNELS : TILE_CHANNELS_MAX * LANES;
    return ceil_div(a->k_group, width) + 2;
}

/* Terms of a chain of additions: one chain, or several whose panels leave room in L1. */
INLINE ptrdiff_t pointwise_run(const cg_conv_args *a) {
    ptrdiff_t most = MIN(CHAIN_TERMS, (24 << 10) / (TILE_ROWS_VECTORS * LANES * REAL_BYTES));
    return a->C <= CHAIN_TERMS ? a->C : ceil_div(a->C, ceil_div(a->C, most));
}

/* The order of a 1x1 convolution, and the scratch for its panels and sums. */
static void plan_panels(cg_conv_args *a) {
    const ptrdiff_t pitch = TILE_ROWS_VECTORS * LANES, row = pitch * (ptrdiff_t)sizeof(REAL);
    ptrdiff_t panels = 1, rows = pointwise_run(a), all = ceil_div(a->block_cols, pitch);
    int by_channels = a->K > 2 * a->C && a->K > 4 * TILE_ROWS_CHANNELS && a->C >= LATE_TERMS &&
                      a->C * row <= PANELS_BYTES && !a->stream;
    a->copies = by_channels || a->cols.in_step > 1 || a->H > 1 ||
                ((a->x_at.stride_c % SOON_STEP != 0 || (uintptr_t)a->x % 64 != 0) && a->K >= 2 * TILE_ROWS_CHANNELS);
    a->k_range = a->k_share;
    if (by_channels && a->k_share > TILE_ROWS_CHANNELS) {
        a->k_range = TILE_ROWS_CHANNELS;
        rows = a->C;
        panels = MAX(1, MIN(PANELS_BYTES / (a->C * row), all));
        panels = ceil_div(all, ceil_div(all, panels));
    } else if (a->C < LATE_TERMS)
        panels = all;
    a->span = panels * pitch;
    a->stage_sample = panels * rows * pitch;
    a->slot = (pointwise_run(a) < a->C ? panels : 1) * a->k_range * pitch;
}

/* Taps of output row i that lie in the image: from *first on; the end of those. */
static ptrdiff_t taps_inside(const cg_conv_args *a, ptrdiff_t i, ptrdiff_t *first) {
    const cg_phase *rows = a->rows.phase;
    ptrdiff_t n = rows->n_taps, r = 0;
    for (; r < n && (i + rows->tap_offset[r] < 0 || i + rows->tap_offset[r] >= a->H); r++)
        ;
    for (; n > r && (i + rows->tap_offset[n - 1] < 0 || i + rows->tap_offset[n - 1] >= a->H); n--)
        ;
    *first = MIN(r, n);
    return n;
}

/* Terms of a chain of additions. The same for narrower tiles, so that channels with equal weights have equal bits.
 * Over channels, classes of output positions have few terms each: longer runs are faster there in float32, measured. */
static ptrdiff_t terms_of_chain(const cg_conv_args *a, ptrdiff_t terms) {
    ptrdiff_t most = CHAIN_TERMS, fit = PANEL_BYTES / (TILE_CHANNELS_MAX * LANES * (ptrdiff_t)sizeof(REAL));
    if (a->row_by_row) {
        const ptrdiff_t of_tap = a->C * a->cols.phase->n_taps;
        return most / of_tap * of_tap;
    }
    if (!a->vectors_over_pixels)
        most = MIN(most, a->rows.n_phases * a->cols.n_phases > 1 && REAL_BYTES == 4 ? 2 * fit : fit);
    return ceil_div(MAX(terms, 1), ceil_div(MAX(terms, 1), most));
}

/* Whether vectors over samples can do it, all of whose input stays in L2. */
static int can_take_samples(const cg_conv_args *a) {
    const cg_axis *rows = &a->rows, *cols = &a->cols;
    const ptrdiff_t staged_rows = rows->max_count + rows->max_offset - rows->min_offset;
    const ptrdiff_t staged = a->C * staged_rows * (cols->max_count + cols->max_offset - cols->min_offset);
    return LANES >= 8 && rows->n_phases * cols->n_phases == 1 && rows->in_step * cols->in_step == 1 &&
           rows->out_step * cols->out_step == 1 && a->n_taps > 1 && !a->samples_are_pixels && !a->residual &&
           (a->vectors_over_pixels || (a->K <= LANES && !a->all_packed)) && a->x_at.stride_w == 1 &&
           a->y_at.stride_w == 1 && a->y_at.stride_h == cols->max_count &&
           staged * LANES * (ptrdiff_t)sizeof(REAL) <= STAGE_BYTES;
}

static void plan_samples(cg_conv_args *a) {
    const ptrdiff_t rows = a->rows.max_count, cols = a->cols.max_count, vectors = ceil_div(a->N, LANES);
    const ptrdiff_t threads = MAX(1, a->task.threads);
    a->block_n = ceil_div(a->N, vectors);
    a->n_row_blocks = a->n_col_blocks = 1;
    while (vectors * a->groups * a->n_row_blocks % threads && vectors * a->groups * a->n_row_blocks < 4 * threads &&
           a->n_row_blocks * 4 < rows)
        a->n_row_blocks++;
    a->block_rows = ceil_div(rows, a->n_row_blocks);
    a->n_row_blocks = ceil_div(rows, a->block_rows);
    a->block_cols = cols;
    a->rows_at_once = MIN(a->block_rows, MAX(1, SAMPLES_PIXELS / cols));
    a->stage_rows = a->block_rows + a->rows.max_offset - a->rows.min_offset;
    a->stage_cols = cols + a->cols.max_offset - a->cols.min_offset;
    a->stage_pixel = LANES;
    a->stage_row = a->stage_cols * LANES;
    a->stage_channel = a->stage_plane = a->stage_rows * a->stage_row;
    a->stage_sample = a->C * a->stage_plane;
}

KERNEL_PLAN(conv_correlate) {
    cg_conv_args *a = args_;
    ptrdiff_t max_rows = a->rows.max_count, max_cols = a->cols.max_count, phases = a->rows.n_phases * a->cols.n_phases;
    ptrdiff_t pixels = max_rows * max_cols, terms;
    a->planar = a->x_at.stride_c != 1 || a->C == 1;
    a->n_taps = axis_taps(&a->rows) * axis_taps(&a->cols);
    terms = a->C * MAX(a->n_taps, 1);
    double least; /* cost of the cheapest way, and of that by samples */
    double samples = (double)ceil_div(a->N, LANES) * LANES / MAX(1, a->N);
    { /* Cost of either kind of tile in FMA slots; the factors are measured. */
        double vectors = (double)ceil_div(a->K, LANES);
        int pointwise = is_pointwise(a);
        /* weights that a few panels of pixels do not make up for fetching (conv_pointwise.inc.h) */
        int far = a->K <= 2 * a->C && a->C * a->K * (ptrdiff_t)sizeof(REAL) > FAR_BYTES && pixels < FEW_PIXELS;
        int near = a->planar && a->cols.in_step == 1 && tile_of_rows(max_cols).pixels;
        double alone = near ? 1.1 : 1.5; /* of one vector */
        double over_channels = vectors * pixels *
                               (terms * (vectors < 2 ? alone
                                         : pointwise ? 1.12
                                                     : 1) +
                                24.0 * phases);
        double flat = (double)max_rows * (max_cols + (a->cols.max_offset - a->cols.min_offset) / a->cols.in_step);
        double over_pixels = a->K * (pointwise ? ceil_div(pixels, LANES) : ceil(flat / LANES)) *
                             (terms * ((pointwise ? !far : terms <= 200) ? 1 : 1.3) + 4.0 * phases);
        /* Small images with a wide border: vectors of one row each, without the row taps over the border. */
        double rows = 0, inside = 0;
        for (ptrdiff_t i = 0, first; phases == 1 && i < max_rows; i++)
            inside += (double)(taps_inside(a, i, &first) - first);
        inside *= (double)a->C * a->cols.phase->n_taps;
        rows = 1.05 * a->K * ceil_div(max_cols, LANES) * (inside + 16.0 * max_rows);
        a->row_by_row = phases == 1 && a->rows.in_step * a->cols.in_step == 1 && max_rows > 1 && terms <= CHUNK_TERMS &&
                        a->n_taps > 1 && a->C * a->cols.phase->n_taps <= CHAIN_TERMS && rows < over_pixels;
        if (a->row_by_row)
            over_pixels = rows;
        if (!a->planar)
            over_pixels += (double)a->C * pixels * 2;
        a->vectors_over_pixels = !a->samples_are_pixels && over_pixels < over_channels;
        a->row_by_row &= a->vectors_over_pixels;
        least = MIN(over_pixels, over_channels);
        samples *= a->K * max_cols * (a->row_by_row ? inside : (double)terms * max_rows) / LANES;
        samples += 12.0 * (a->C * a->H * a->W + a->K * pixels) / LANES; /* transposing */
    }
    a->pointwise = a->vectors_over_pixels && is_pointwise(a);
    a->in_place = a->pointwise && a->C >= LATE_TERMS;
    if (a->pointwise)
        max_rows = 1, max_cols = pixels;
    a->unstaged = reads_in_place(a);
    a->n_chunks =
        a->pointwise || a->unstaged ? 1 : MIN(ceil_div(terms, a->n_taps == 1 ? CHUNK_TERMS / 3 : CHUNK_TERMS), a->C);
    a->c_chunk = ceil_div(a->C, a->n_chunks);
    a->n_chunks = ceil_div(a->C, a->c_chunk);

    /* how many output positions a block has */
    ptrdiff_t limit = (a->vectors_over_pixels ? BLOCK_FLAT : BLOCK_PIXELS) / MIN(4, a->cols.n_phases);
    if (a->pointwise)
        limit = (a->K > 2 * a->C ? 4 : 2) * BLOCK_FLAT / (TILE_ROWS_VECTORS * LANES) * (TILE_ROWS_VECTORS * LANES);
    else if (a->vectors_over_pixels &&
             max_rows == 1) { /* one long row: as many columns as keep the stage small, in whole tiles */
        ptrdiff_t tile = TILE_ROWS_VECTORS * LANES, fit = STAGE_BYTES / 2 / (a->c_chunk * (ptrdiff_t)sizeof(REAL));
        limit = MIN(limit, MAX(2 * tile, fit / tile * tile));
    } else if (!a->vectors_over_pixels && max_rows == 1 && a->n_taps > 1) { /* rather few columns than few channels */
        ptrdiff_t fit = STAGE_BYTES / (a->C * a->cols.in_step * (ptrdiff_t)sizeof(REAL));
        limit = MIN(limit, MAX(2 * TILE_PIXELS_2, fit / TILE_PIXELS_4 * TILE_PIXELS_4));
        a->n_chunks = 1, a->c_chunk = a->C;
    }
    a->n_col_blocks = ceil_div(max_cols, limit);
    a->block_cols = ceil_div(max_cols, a->n_col_blocks);
    if (a->pointwise) {
        const ptrdiff_t panel = TILE_ROWS_VECTORS * LANES, threads = MAX(1, a->task.threads), sets = a->N * a->groups;
        a->block_cols = round_up(a->block_cols, panel);
        a->n_col_blocks = ceil_div(max_cols, a->block_cols);
        /* Each share of k reads x again, each share of pixels the weights: those that are fewer. */
        while (a->all_packed && a->K < pixels && sets * a->n_col_blocks % threads &&
               sets * a->n_col_blocks < 4 * threads && a->block_cols > 4 * panel) {
            a->block_cols = round_up(ceil_div(max_cols, a->n_col_blocks + 1), LANES);
            a->n_col_blocks = ceil_div(max_cols, a->block_cols);
        }
    }
    a->block_rows = MIN(max_rows, MAX(1, limit / a->block_cols));
    ptrdiff_t span_h = a->rows.max_offset - a->rows.min_offset, span_w = a->cols.max_offset - a->cols.min_offset;
    ptrdiff_t split_h = a->vectors_over_pixels ? a->rows.in_step : 1,
              split_w = a->vectors_over_pixels ? a->cols.in_step : 1;
    for (;;) {
        a->stage_rows = ceil_div((a->block_rows - 1) * a->rows.in_step + span_h + 1, split_h);
        a->stage_cols = ceil_div((a->block_cols - 1) * a->cols.in_step + span_w + 1, split_w);
        a->stage_pixel = 1;
        a->stage_row = a->stage_cols;
        a->stage_plane = a->stage_rows * a->stage_row * split_h * split_w;
        if (a->block_rows == 1 || a->pointwise || a->unstaged ||
            a->c_chunk * a->stage_plane * (ptrdiff_t)sizeof(REAL) <= STAGE_BYTES)
            break;
        a->block_rows = ceil_div(a->block_rows, 2);
    }
    a->n_row_blocks = ceil_div(max_rows, a->block_rows);
    a->block_rows = ceil_div(max_rows, a->n_row_blocks);
    a->stage_rows = ceil_div((a->block_rows - 1) * a->rows.in_step + span_h + 1, split_h);
    a->stage_plane = a->stage_rows * a->stage_row * split_h * split_w;
    if (a->pointwise)
        a->stage_plane = TILE_ROWS_VECTORS * LANES; /* a panel */
    else if (a->unstaged)
        a->stage_plane = 0;
    else if (a->c_chunk * a->stage_plane * (ptrdiff_t)sizeof(REAL) >
             2 * STAGE_BYTES) { /* far-apart taps: fewer channels at a time */
        a->c_chunk = MIN(a->c_chunk, MAX(8, STAGE_BYTES / (a->stage_plane * (ptrdiff_t)sizeof(REAL))));
        a->n_chunks = ceil_div(a->C, a->c_chunk);
        a->row_by_row &= a->n_chunks == 1;
    }
    a->planar |= a->vectors_over_pixels;
    if (a->planar) {
        /* planes a multiple of 4 KB apart would share a few cache sets */
        if (a->stage_plane * sizeof(REAL) % 1024 == 0 && split_h * split_w == 1 && !a->pointwise)
            a->stage_plane += LANES;
        a->stage_channel = a->stage_plane;
        a->stage_sample = a->c_chunk * a->stage_plane;
    } else {
        a->stage_channel = 1;
        a->stage_pixel = a->c_chunk;
        a->stage_row = a->stage_cols * a->c_chunk;
        a->stage_sample = a->stage_rows * a->stage_row;
    }
    a->block_n = 1;
    a->chain = terms_of_chain(a, terms);
    a->by_samples = a->n_chunks == 1 && can_take_samples(a) && samples < 1.1 * least;
    if (a->by_samples) {
        a->vectors_over_pixels = a->planar = 1;
        plan_samples(a);
    } else if (a->row_by_row) {
        a->stage_row = MAX(a->stage_cols, round_up(a->block_cols, LANES)); /* no row of results reaches the next */
        a->stage_plane = a->stage_channel = a->stage_rows * a->stage_row;
        a->stage_sample = a->c_chunk * a->stage_plane;
    } else if (!a->vectors_over_pixels && a->n_row_blocks == 1 && a->n_col_blocks == 1) {
        ptrdiff_t by_pixels = MAX(1, BLOCK_PIXELS * 3 / 4 / pixels);
        ptrdiff_t sample = a->unstaged ? MAX(1, a->C * pixels / 2) : a->stage_sample;
        ptrdiff_t by_bytes = MAX(1, STAGE_BYTES / (sample * (ptrdiff_t)sizeof(REAL)));
        a->block_n = MAX(1, MIN(a->N, MIN(by_pixels, by_bytes)));
        a->block_n = ceil_div(a->N, ceil_div(a->N, a->block_n)); /* alike, for as many threads */
    }
    a->n_batches = ceil_div(a->N, a->block_n);

    ptrdiff_t line = 64 / sizeof(REAL);
    a->stream = a->vectors_over_pixels && a->n_chunks == 1 && !a->row_by_row && !a->by_samples &&
                terms <= CHAIN_TERMS && !FINISHES(a) && TILE_ROWS_VECTORS * LANES % line == 0 &&
                a->y_at.stride_c % line == 0 && (double)a->N * a->groups * a->K * pixels * sizeof(REAL) >= STREAM_BYTES;
    a->stream_rows = a->stream && (double)a->N * a->groups * a->K * pixels * sizeof(REAL) >= STREAM_FAR;

    /* how many output channels */
    ptrdiff_t width = a->vectors_over_pixels ? TILE_ROWS_CHANNELS : TILE_CHANNELS_MAX * LANES;
    ptrdiff_t tile_bytes = terms * width * (ptrdiff_t)sizeof(REAL);
    ptrdiff_t all_k = round_up(a->K, a->vectors_over_pixels ? width : LANES);
    a->k_group = MIN(all_k, width * MAX(1, MIN(4096, WEIGHT_BYTES / tile_bytes)));
    if (!a->vectors_over_pixels && a->all_packed)
        a->k_group = MIN(all_k, width * (a->n_chunks > 1 ? 8 : 4096));
    else if (!a->vectors_over_pixels)
        a->k_group = MIN(a->k_group, 4 * width);
    if (a->unstaged && !a->all_packed)
        a->k_group = balanced_range(a);
    else /* as even as whole tiles allow */
        a->k_group = MIN(a->k_group, round_up(ceil_div(all_k, ceil_div(a->K, a->k_group)), width));
    a->n_k_groups = ceil_div(a->K, a->k_group);

    /* Where there are too few blocks to share out, each takes a part of its range of k, in whole tiles. */
    ptrdiff_t blocks = a->groups * a->n_k_groups * a->n_batches * a->n_row_blocks * a->n_col_blocks;
    ptrdiff_t threads = MAX(1, a->task.threads), tiles = ceil_div(a->k_group, width);
    a->n_k_shares = 1;
    while (blocks * a->n_k_shares % threads && blocks * a->n_k_shares < 4 * threads && a->n_k_shares < tiles)
        a->n_k_shares++;
    a->k_share = ceil_div(tiles, a->n_k_shares) * width;
    a->n_k_shares = ceil_div(a->k_group, a->k_share);

    ptrdiff_t block_pixels = a->block_n * a->block_rows * a->block_cols;
    a->slot = (block_pixels + TILE_PIXELS_1) * TILE_CHANNELS_MAX * LANES * a->cols.n_phases;
    if (a->vectors_over_pixels)
        a->slot = TILE_ROWS_CHANNELS * (a->block_rows * a->stage_row + SLACK) * a->cols.n_phases;
    if (a->by_samples)
        a->slot = TILE_ROWS_CHANNELS * a->rows_at_once * a->block_cols * LANES;
    if (a->pointwise)
        plan_panels(a);
    a->n_slots = a->n_chunks > 1 ? channel_tiles(a) * a->rows.n_phases : 1;

    ptrdiff_t at = 0;
    a->weight_at = at, at += a->all_packed ? 0 : round_up((terms * round_up(a->k_group, LANES)) * sizeof(REAL), 64);
    a->stage_at = at, at += round_up((a->block_n * a->stage_sample + SLACK) * sizeof(REAL), 64) + 64;
    a->result_at = at, at += round_up(a->n_slots * a->slot * sizeof(REAL), 64);
    a->offset_at = at, at += round_up(a->c_chunk * MAX(a->n_taps, 1 + a->pointwise) * sizeof(int32_t), 64);
    a->bias_at = at, at += round_up(round_up(MAX(a->k_group, a->k_share), LANES) * sizeof(REAL), 64);
    a->pixel_at = at, at += round_up((block_pixels + TILE_PIXELS_1) * sizeof(REAL *), 64);
    a->temp_at = at, at += round_up(MAX(1, a->R * a->S) * TILE_CHANNELS_MAX * LANES * sizeof(REAL), 64);
    a->task.scratch_bytes = (size_t)at;
    a->task.n_blocks = blocks * a->n_k_shares;
    a->task.work = 0.25 * a->N * a->groups * a->K * pixels * phases * MAX(1, a->C * a->n_taps / phases);
}

/* offset[...] from a pixel of the staged input to each term, for every pair of classes, then channel, then row tap,
 * column tap; or where tiles go row by row, row tap, channel, column tap */
static void fill_offsets(const cg_conv_args *a, int32_t *offset) {
    if (a->pointwise) {
        for (ptrdiff_t c = 0; c < a->C; c++) {
            offset[c] = (int32_t)(c * a->x_at.stride_c);
            offset[a->C + c] = (int32_t)(c * a->stage_plane);
        }
        return;
    }
    for (ptrdiff_t c = 0; c < a->C && a->unstaged; c++)
        offset[c] = (int32_t)(c * a->x_at.stride_c);
    if (a->unstaged)
        return;
    ptrdiff_t split_h = a->vectors_over_pixels ? a->rows.in_step : 1,
              split_w = a->vectors_over_pixels ? a->cols.in_step : 1;
    ptrdiff_t part = a->stage_rows * a->stage_row;
    for (ptrdiff_t u = 0; u < a->rows.n_phases; u++)
        for (ptrdiff_t v = 0; v < a->cols.n_phases; v++) {
            const cg_phase *rows = a->rows.phase + u, *cols = a->cols.phase + v;
            const ptrdiff_t n = a->c_chunk, inner = a->row_by_row ? n : rows->n_taps;
            for (ptrdiff_t t = 0; t < n * rows->n_taps; t++) {
                const ptrdiff_t c = a->row_by_row ? t % inner : t / inner, i = a->row_by_row ? t / inner : t % inner;
                ptrdiff_t h = rows->tap_offset[i] - a->rows.min_offset;
                for (ptrdiff_t j = 0; j < cols->n_taps; j++) {
                    ptrdiff_t w = cols->tap_offset[j] - a->cols.min_offset;
                    *offset++ = (int32_t)(c * a->stage_channel + (h % split_h * split_w + w % split_w) * part +
                                          h / split_h * a->stage_row + w / split_w * a->stage_pixel);
                }
            }
        }
}
