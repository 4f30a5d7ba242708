/* Direct convolution, its gradient by the input and the transposed convolution: one loop nest over classes of output
 * positions.
 *
 * y[n, k, h, w] = activation(bias[k] + sum over c and taps of weight[k, c, r, s] * x[n, c, h', w'])   (see cg_phase)
 *
 * A block of the work is (group of channels, range of k, samples, output rows, output columns). Its inputs are copied
 * with their zero border into scratch that stays in L2, a chunk of input channels at a time; its weights are packed
 * once for all blocks that follow with the same k. Two kinds of tile (conv_tiles.inc.h): over channels   vectors over
 * k, pixels broadcast: no transposed input, results transposed on their way out where y is NCHW over pixels     vectors
 * over adjacent pixels of the staged rows, weights broadcast: for few channels on either side
 */
#define BLOCK_PIXELS 256               /* over channels: results of one tile row of channels take 64 KB */
#define BLOCK_FLAT 1024                /* over pixels */
#define STAGE_BYTES (512 << 10)        /* of the staged input of one chunk */
#define CHUNK_TERMS 1536               /* terms added between two visits to the results */
#define CHAIN_TERMS 256                /* terms of one chain of additions: longer ones round more */
#define PANEL_BYTES (32 << 10)         /* packed weights that stay in L1 while all pixels of a block pass */
#define WEIGHT_BYTES (1 << 20)         /* packed weights of one range of k */
#define SOON_STEP 16                   /* elements of a cache line: what one fetch brings */
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

/* A 1x1 kernel whose pixels are adjacent in x and in y: rows laid end to end, no border, offsets that fit 32 bits. */
static int is_pointwise(const cg_conv_args *a) {
    return a->rows.n_phases == 1 && a->cols.n_phases == 1 && a->R * a->S == 1 && a->cols.in_step == 1 &&
           a->cols.out_step == 1 && a->rows.max_count == 1 && a->H == 1 && a->cols.max_count == a->W &&
           a->cols.min_offset == 0 && a->rows.min_offset == 0 && a->x_at.stride_w == 1 && a->y_at.stride_w == 1 &&
           a->C * (double)llabs(a->x_at.stride_c) < INT32_MAX;
}

/* Tiles of channels in a range of k: full ones, and for vectors over channels what channel_vectors makes of the rest.
 */
INLINE ptrdiff_t channel_tiles(const cg_conv_args *a) {
    ptrdiff_t width = a->vectors_over_pixels ? TILE_ROWS_CHANNELS : TILE_CHANNELS_MAX * LANES;
    return ceil_div(a->k_group, width) + 2;
}

KERNEL_PLAN(conv_correlate) {
    cg_conv_args *a = args_;
    ptrdiff_t max_rows = a->rows.max_count, max_cols = a->cols.max_count, phases = a->rows.n_phases * a->cols.n_phases;
    ptrdiff_t pixels = max_rows * max_cols, terms;
    a->planar = a->x_at.stride_c != 1 || a->C == 1;
    a->n_taps = axis_taps(&a->rows) * axis_taps(&a->cols);
    terms = a->C * MAX(a->n_taps, 1);
    { /* Cost of either kind of tile in FMA slots; the factors are measured. */
        double vectors = (double)ceil_div(a->K, LANES);
        double over_channels = vectors * pixels * (terms * (vectors >= 2 ? 1 : 1.5) + 24.0 * phases);
        double flat = (double)max_rows * (max_cols + (a->cols.max_offset - a->cols.min_offset) / a->cols.in_step);
        int adjacent = is_pointwise(a);
        double over_pixels = a->K * ceil(flat / LANES) *
                             (terms * (adjacent       ? 1.0
                                       : terms <= 200 ? 1
                                                      : 1.3) +
                              4.0 * phases);
        if (!a->planar)
            over_pixels += (double)a->C * pixels * 2;
        a->vectors_over_pixels = over_pixels < over_channels;
    }
    a->in_place = a->vectors_over_pixels && is_pointwise(a);
    a->n_chunks = a->in_place ? 1 : MIN(ceil_div(terms, a->n_taps == 1 ? CHUNK_TERMS / 3 : CHUNK_TERMS), a->C);
    a->c_chunk = ceil_div(a->C, a->n_chunks);
    a->n_chunks = ceil_div(a->C, a->c_chunk);

    /* how many output positions a block has */
    ptrdiff_t limit = (a->vectors_over_pixels ? BLOCK_FLAT : BLOCK_PIXELS) / MIN(4, a->cols.n_phases);
    if (a->in_place)
        limit = 2 * BLOCK_FLAT / (TILE_ROWS_VECTORS * LANES) * (TILE_ROWS_VECTORS * LANES);
    else if (a->vectors_over_pixels &&
             max_rows == 1) { /* one long row: as many columns as keep the stage small, in whole tiles */
        ptrdiff_t tile = TILE_ROWS_VECTORS * LANES, fit = STAGE_BYTES / 2 / (a->c_chunk * (ptrdiff_t)sizeof(REAL));
        limit = MIN(limit, MAX(2 * tile, fit / tile * tile));
    }
    a->n_col_blocks = ceil_div(max_cols, limit);
    a->block_cols = ceil_div(max_cols, a->n_col_blocks);
    if (a->in_place) {
        a->block_cols = round_up(a->block_cols, TILE_ROWS_VECTORS * LANES);
        a->n_col_blocks = ceil_div(max_cols, a->block_cols);
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
        if (a->block_rows == 1 || a->in_place || a->c_chunk * a->stage_plane * (ptrdiff_t)sizeof(REAL) <= STAGE_BYTES)
            break;
        a->block_rows = ceil_div(a->block_rows, 2);
    }
    a->n_row_blocks = ceil_div(max_rows, a->block_rows);
    a->block_rows = ceil_div(max_rows, a->n_row_blocks);
    a->stage_rows = ceil_div((a->block_rows - 1) * a->rows.in_step + span_h + 1, split_h);
    a->stage_plane = a->stage_rows * a->stage_row * split_h * split_w;
    if (a->in_place)
        a->stage_plane = TILE_ROWS_VECTORS * LANES; /* only the last tile of a row */
    else if (a->c_chunk * a->stage_plane * (ptrdiff_t)sizeof(REAL) >
             2 * STAGE_BYTES) { /* far-apart taps: fewer channels at a time */
        a->c_chunk = MIN(a->c_chunk, MAX(8, STAGE_BYTES / (a->stage_plane * (ptrdiff_t)sizeof(REAL))));
        a->n_chunks = ceil_div(a->C, a->c_chunk);
    }
    a->planar |= a->vectors_over_pixels;
    if (a->planar) {
        /* planes a multiple of 4 KB apart would share a few cache sets */
        if (a->stage_plane * sizeof(REAL) % 1024 == 0 && split_h * split_w == 1 && !a->in_place)
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
    if (!a->vectors_over_pixels && a->n_row_blocks == 1 && a->n_col_blocks == 1) {
        ptrdiff_t by_pixels = MAX(1, BLOCK_PIXELS * 3 / 4 / pixels);
        ptrdiff_t by_bytes = MAX(1, STAGE_BYTES / (a->stage_sample * (ptrdiff_t)sizeof(REAL)));
        a->block_n = MAX(1, MIN(a->N, MIN(by_pixels, by_bytes)));
    }
    a->n_batches = ceil_div(a->N, a->block_n);

    /* how many output channels */
    ptrdiff_t width = a->vectors_over_pixels ? TILE_ROWS_CHANNELS : TILE_CHANNELS_MAX * LANES;
    ptrdiff_t tile_bytes = terms * width * (ptrdiff_t)sizeof(REAL);
    a->k_group = MIN(round_up(a->K, width), width * MAX(1, MIN(4096, WEIGHT_BYTES / tile_bytes)));
    if (!a->vectors_over_pixels)
        a->k_group = MIN(a->k_group, 4 * width);
    a->n_k_groups = ceil_div(a->K, a->k_group);

    ptrdiff_t block_pixels = a->block_n * a->block_rows * a->block_cols;
    ptrdiff_t flat = a->in_place ? a->stage_plane : a->block_rows * a->stage_row + SLACK;
    a->slot =
        a->vectors_over_pixels ? TILE_ROWS_CHANNELS * flat : (block_pixels + TILE_PIXELS_1) * TILE_CHANNELS_MAX * LANES;
    a->slot *= a->cols.n_phases;
    a->n_slots = a->n_chunks > 1 ? channel_tiles(a) * a->rows.n_phases : 1;

    ptrdiff_t at = 0;
    a->weight_at = at, at += round_up((terms * round_up(a->k_group, LANES)) * sizeof(REAL), 64);
    a->stage_at = at, at += round_up((a->block_n * a->stage_sample + SLACK) * sizeof(REAL), 64) + 64;
    a->result_at = at, at += round_up(a->n_slots * a->slot * sizeof(REAL), 64);
    a->offset_at = at, at += round_up(a->c_chunk * MAX(a->n_taps, 1) * sizeof(int32_t), 64);
    a->bias_at = at, at += round_up(round_up(a->k_group, LANES) * sizeof(REAL), 64);
    a->pixel_at = at, at += round_up(MAX(block_pixels + TILE_PIXELS_1, a->C) * sizeof(REAL *), 64);
    a->temp_at = at, at += round_up(MAX(1, a->R * a->S) * TILE_CHANNELS_MAX * LANES * sizeof(REAL), 64);
    a->task.scratch_bytes = (size_t)at;
    a->task.n_blocks = a->groups * a->n_k_groups * a->n_batches * a->n_row_blocks * a->n_col_blocks;
    a->task.work = 0.25 * a->N * a->groups * a->K * pixels * phases * MAX(1, a->C * a->n_taps / phases);
}

/* offset[...] from a pixel of the staged input to each term, for every pair of classes, then channel, then row tap,
 * then column tap */
static void fill_offsets(const cg_conv_args *a, int32_t *offset) {
    if (a->in_place) {
        for (ptrdiff_t c = 0; c < a->C; c++)
            offset[c] = (int32_t)(c * a->x_at.stride_c);
        return;
    }
    ptrdiff_t split_h = a->vectors_over_pixels ? a->rows.in_step : 1,
              split_w = a->vectors_over_pixels ? a->cols.in_step : 1;
    ptrdiff_t part = a->stage_rows * a->stage_row;
    for (ptrdiff_t u = 0; u < a->rows.n_phases; u++)
        for (ptrdiff_t v = 0; v < a->cols.n_phases; v++) {
            const cg_phase *rows = a->rows.phase + u, *cols = a->cols.phase + v;
            for (ptrdiff_t c = 0; c < a->c_chunk; c++)
                for (ptrdiff_t i = 0; i < rows->n_taps; i++) {
                    ptrdiff_t h = rows->tap_offset[i] - a->rows.min_offset;
                    for (ptrdiff_t j = 0; j < cols->n_taps; j++) {
                        ptrdiff_t w = cols->tap_offset[j] - a->cols.min_offset;
                        *offset++ = (int32_t)(c * a->stage_channel + (h % split_h * split_w + w % split_w) * part +
                                              h / split_h * a->stage_row + w / split_w * a->stage_pixel);
                    }
                }
        }
}

/* Weights of channels k0 .. k0+n-1 of a group as [classes][c][row tap][column tap][width], zeros where n < width. */
static void pack_tile(const cg_conv_args *a, const REAL *weight, ptrdiff_t k0, ptrdiff_t n, ptrdiff_t width, REAL *to,
                      REAL *temp) {
    const REAL *w = weight + k0 * a->w_k;
    int vectors = width % LANES == 0;
    if (vectors && is_natural(a)) {
        transpose_block(to, width, w, a->w_k, n, a->C * a->R * a->S, 1);
        return;
    }
    int adjacent = vectors && a->w_k == 1, square = vectors && a->w_s == 1 && a->w_r == a->S;
    for (ptrdiff_t c = 0; c < a->C; c++, w += a->w_c) {
        if (square && !adjacent)
            transpose_block(temp, width, w, a->w_k, n, a->R * a->S, 1);
        REAL *base = to;
        for (ptrdiff_t u = 0; u < a->rows.n_phases; u++)
            for (ptrdiff_t v = 0; v < a->cols.n_phases; v++) {
                const cg_phase *rows = a->rows.phase + u, *cols = a->cols.phase + v;
                ptrdiff_t taps = rows->n_taps * cols->n_taps;
                REAL *p = base + c * taps * width;
                base += a->C * taps * width;
                for (ptrdiff_t i = 0; i < rows->n_taps; i++)
                    for (ptrdiff_t j = 0; j < cols->n_taps; j++, p += width) {
                        ptrdiff_t r = rows->tap_index[i], s = cols->tap_index[j];
                        if (adjacent) {
                            copy_run(p, w + r * a->w_r + s * a->w_s, n);
                            fill_run(p + n, 0, width - n);
                        } else if (square)
                            copy_run(p, temp + (r * a->S + s) * width, width);
                        else {
                            const REAL *q = w + r * a->w_r + s * a->w_s;
                            for (ptrdiff_t k = 0; k < n; k++)
                                p[k] = q[k * a->w_k];
                            for (ptrdiff_t k = n; k < width; k++)
                                p[k] = 0;
                        }
                    }
            }
    }
}

INLINE ptrdiff_t tile_width(const cg_conv_args *a, ptrdiff_t channels_left) {
    return a->vectors_over_pixels ? MIN(TILE_ROWS_CHANNELS, channels_left) : channel_vectors(channels_left) * LANES;
}

/* Where a block stands. */
typedef struct {
    ptrdiff_t group, k0, k1, n0, n1, i0, j0;
    const REAL *next; /* where the input of the next block begins, for 1x1 kernels: there every term is one channel's */
} conv_block;

/* The output rows of one class that lie in a block, and all columns of the block. The classes of columns are computed
 * with as many columns each (one may be too many) and interleaved on their way to y. */
typedef struct {
    ptrdiff_t rows, cols;       /* rows of the class; columns of each class of columns */
    ptrdiff_t first_h, first_w; /* in y */
    ptrdiff_t wide;             /* columns in y */
} conv_part;

static conv_part part_of(const cg_conv_args *a, const conv_block *b, const cg_phase *rows) {
    ptrdiff_t columns = 0;
    for (ptrdiff_t v = 0; v < a->cols.n_phases; v++)
        columns += a->cols.phase[v].count;
    conv_part part;
    part.rows = MAX(0, MIN(a->block_rows, rows->count - b->i0));
    part.cols = MIN(a->block_cols, a->cols.max_count - b->j0);
    part.first_h = rows->out_first + b->i0 * a->rows.out_step;
    part.first_w = b->j0 * a->cols.n_phases;
    part.wide = MIN(part.cols * a->cols.n_phases, columns - part.first_w);
    return part;
}

/* Whether the flattened rows of a part, as tiles over pixels compute them, are adjacent in y too. */
INLINE int follows(const cg_conv_args *a, const conv_part *part) {
    return a->cols.n_phases == 1 && a->y_at.stride_w == 1 &&
           (part->rows == 1 || (a->rows.out_step * a->y_at.stride_h == part->cols && a->stage_row == part->cols));
}

/* to[i * n_from + v] = from[v * step + i] for i * n_from + v < n. */
static void interleave_run(REAL *to, const REAL *from, ptrdiff_t step, ptrdiff_t n_from, ptrdiff_t n) {
    ptrdiff_t i = 0;
    if (n_from == 2)
        for (; 2 * (i + LANES) <= n; i += LANES) {
            vec even = v_load(from + i), odd = v_load(from + step + i);
            v_store(to + 2 * i, v_zip_low(even, odd));
            v_store(to + 2 * i + LANES, v_zip_high(even, odd));
        }
    for (i *= n_from; i < n; i++)
        to[i] = from[i % n_from * step + i / n_from];
}

/* Move results to y and activate them: [pixel][width] with the classes of columns interleaved (over channels), or for
 * each class of columns [channel][row of the stage] (over pixels). */
static void store_results(const cg_conv_args *a, const conv_block *b, const conv_part *part, const REAL *result,
                          ptrdiff_t width, ptrdiff_t k0, ptrdiff_t n, ptrdiff_t flat) {
    const cg_strides at = a->y_at;
    ptrdiff_t rows = part->rows, wide = part->wide, step_h = a->rows.out_step * at.stride_h, classes = a->cols.n_phases;
    ptrdiff_t pitch = part->cols * classes * width; /* of a row of results over channels */
    if (at.stride_w == 1 && step_h == wide && classes == 1 && (!a->vectors_over_pixels || a->stage_row == wide)) {
        wide *= rows; /* rows follow each other */
        rows = 1;
    }
    for (ptrdiff_t sample = b->n0; sample < b->n1; sample++, result += part->rows * pitch) {
        REAL *y = (REAL *)a->y + sample * at.stride_n + (b->group * a->K + k0) * at.stride_c +
                  part->first_h * at.stride_h + part->first_w * at.stride_w;
        for (ptrdiff_t i = 0; i < rows; i++, y += step_h) {
            if (a->vectors_over_pixels) {
                const REAL *from = result + i * a->stage_row;
                for (ptrdiff_t k = 0; k < n; k++, from += flat) {
                    REAL *to = y + k * at.stride_c;
                    if (at.stride_w == 1 && classes == 1)
                        copy_run(to, from, wide);
                    else if (at.stride_w == 1)
                        interleave_run(to, from, TILE_ROWS_CHANNELS * flat, classes, wide);
                    else
                        for (ptrdiff_t j = 0; j < wide; j++)
                            to[j * at.stride_w] = from[j % classes * TILE_ROWS_CHANNELS * flat + j / classes];
                }
            } else if (at.stride_w == 1)
                transpose_block(y, at.stride_c, result + i * pitch, width, wide, n, 0);
            else
                for (ptrdiff_t j = 0; j < wide; j++) {
                    if (at.stride_c == 1)
                        copy_run(y + j * at.stride_w, result + i * pitch + j * width, n);
                    else
                        for (ptrdiff_t k = 0; k < n; k++)
                            y[j * at.stride_w + k * at.stride_c] = result[i * pitch + j * width + k];
                }
            if (a->activation == CG_IDENTITY)
                continue;
            if (at.stride_w == 1)
                for (ptrdiff_t k = 0; k < n; k++)
                    activate_run(a->activation, (REAL)a->parameter, y + k * at.stride_c, wide);
            else
                for (ptrdiff_t j = 0; j < wide; j++)
                    for (ptrdiff_t k = 0; k < n; k += at.stride_c == 1 ? n : 1)
                        activate_run(a->activation, (REAL)a->parameter, y + j * at.stride_w + k * at.stride_c,
                                     at.stride_c == 1 ? n : 1);
        }
    }
}

/* Where the first term of each output position of a part begins in the stage; the last one is repeated to fill a tile.
 */
static ptrdiff_t pixel_addresses(const cg_conv_args *a, ptrdiff_t samples, const conv_part *part, const REAL *stage,
                                 const REAL **pixel) {
    ptrdiff_t step_h = a->rows.in_step * a->stage_row, step_w = a->cols.in_step * a->stage_pixel, n = 0;
    for (ptrdiff_t sample = 0; sample < samples; sample++)
        for (ptrdiff_t i = 0; i < part->rows; i++) {
            const REAL *row = stage + sample * a->stage_sample + i * step_h;
            for (ptrdiff_t j = 0; j < part->cols; j++)
                pixel[n++] = row + j * step_w;
        }
    for (int p = 0; p < TILE_PIXELS_1 && n; p++)
        pixel[n + p] = pixel[n - 1];
    return n;
}

/* One chunk of input channels into the results of one class, vectors over channels. */
static void add_over_channels(const cg_conv_args *a, ptrdiff_t pixels, const REAL *const *pixel, const REAL *w,
                              const int32_t *offset, ptrdiff_t terms, ptrdiff_t width, const REAL *bias, REAL *result,
                              ptrdiff_t result_step, int first, const REAL *next) {
    broadcast_tile tile = broadcast_tile_for((int)(width / LANES), pixels);
    ptrdiff_t most = MIN(CHAIN_TERMS, PANEL_BYTES / (width * (ptrdiff_t)sizeof(REAL)));
    ptrdiff_t passes = ceil_div(MAX(terms, 1), most), run = ceil_div(terms, passes);
    for (ptrdiff_t t = 0; t == 0 || t < terms; t += run, first = 0) {
        ptrdiff_t n = MIN(run, terms - t);
        for (ptrdiff_t done = 0; done < pixels; done += tile.pixels) {
            REAL *out = result + done * result_step;
            const REAL *soon =
                next && done < a->block_cols ? next + done * a->cols.in_step + t * a->x_at.stride_c : out;
            tile.fn(w + t * width, pixel + done, offset + t, n, first ? bias : zeros, !first, out, result_step, soon,
                    soon == out ? 0 : a->x_at.stride_c);
        }
        if (terms == 0)
            return;
    }
}

/* The same, vectors over pixels. Where y is given the results go there at once, `y_step` between channels; only the
 * last vectors, which would reach beyond its `pixels`, take the way over `result`. */
static void add_over_pixels(const cg_conv_args *a, const conv_part *part, const REAL *stage, const REAL *w,
                            const int32_t *offset, ptrdiff_t terms, ptrdiff_t width, const REAL *bias, REAL *result,
                            ptrdiff_t flat, int first, const REAL *next, REAL *y, ptrdiff_t y_step) {
    ptrdiff_t pixels = (part->rows - 1) * a->stage_row + part->cols, vectors = ceil_div(pixels, LANES);
    ptrdiff_t run = ceil_div(MAX(terms, 1), ceil_div(MAX(terms, 1), CHAIN_TERMS));
    int most = row_tile_vectors((int)width);
    for (ptrdiff_t v = 0, take; v < vectors; v += take) {
        take = ceil_div(vectors - v, ceil_div(vectors - v, most));
        int at_once = y && (v + take) * LANES <= pixels;
        REAL *out = at_once ? y + v * LANES : result + v * LANES;
        const REAL *soon = next && v * LANES < a->block_cols ? next + v * LANES * a->cols.in_step : out;
        for (ptrdiff_t t = 0; t == 0 || t < terms; t += run)
            tiles_rows[width][take](w + t * width, stage + v * LANES, offset + t, MIN(run, terms - t),
                                    first && t == 0 ? bias : zeros, !first || t > 0, out, at_once ? y_step : flat, soon,
                                    soon == out ? 0 : a->x_at.stride_c);
        if (y && !at_once)
            for (ptrdiff_t k = 0; k < width; k++)
                copy_run(y + k * y_step + v * LANES, out + k * flat, pixels - v * LANES);
    }
}

/* A block of a 1x1 convolution straight from x to y, tile after tile of pixels with all channels each. The pixels
 * beyond the last whole tile are copied first, so that nothing beyond the planes is read, and take the way over
 * `result`. */
static void pointwise_block(const cg_conv_args *a, const conv_block *b, const REAL *weight, REAL *stage, REAL *result,
                            const int32_t *offset, int32_t *stage_offset, const REAL *bias) {
    const ptrdiff_t tile = TILE_ROWS_VECTORS * LANES, step = a->y_at.stride_c;
    ptrdiff_t j1 = MIN(a->W, b->j0 + a->block_cols), run = ceil_div(a->C, ceil_div(a->C, CHAIN_TERMS));
    const REAL *x = (const REAL *)a->x + b->n0 * a->x_at.stride_n + b->group * a->C * a->x_at.stride_c;
    REAL *y = (REAL *)a->y + b->n0 * a->y_at.stride_n + (b->group * a->K + b->k0) * step;
    for (ptrdiff_t j = b->j0; j < j1; j += tile) {
        ptrdiff_t n = MIN(tile, j1 - j);
        const REAL *from = x + j;
        const int32_t *at = offset;
        if (n < tile) {
            for (ptrdiff_t c = 0; c < a->C; c++) {
                copy_run(stage + c * tile, x + c * a->x_at.stride_c + j, n);
                stage_offset[c] = (int32_t)(c * tile);
            }
            from = stage;
            at = stage_offset;
        }
        ptrdiff_t vectors = ceil_div(n, LANES);
        for (ptrdiff_t k = 0, width; k < b->k1 - b->k0; k += width) {
            width = tile_width(a, b->k1 - b->k0 - k);
            REAL *out = n == tile ? y + k * step + j : result;
            /* the first tiles of channels fetch a line each of the next pixels of every plane */
            const REAL *soon = k < 3 * width && j + tile < j1 ? x + j + tile + k / width * SOON_STEP : stage;
            for (ptrdiff_t c = 0; c < a->C; c += run)
                tiles_rows[width][vectors](weight + k * a->C + c * width, from, at + c, MIN(run, a->C - c),
                                           c ? zeros : bias + k, c > 0, out, n == tile ? step : tile,
                                           soon == stage ? stage : soon + c * a->x_at.stride_c,
                                           soon == stage ? 0 : a->x_at.stride_c);
            if (n < tile)
                for (ptrdiff_t q = 0; q < width; q++)
                    copy_run(y + (k + q) * step + j, result + q * tile, n);
        }
    }
    for (ptrdiff_t k = 0; k < b->k1 - b->k0 && a->activation != CG_IDENTITY; k++)
        activate_run(a->activation, (REAL)a->parameter, y + k * step + b->j0, j1 - b->j0);
}

static void correlate_block(const cg_conv_args *a, const conv_block *b, const REAL *weight, REAL *stage, REAL *result,
                            const int32_t *offsets, const REAL *bias, const REAL **pixel) {
    ptrdiff_t flat = a->block_rows * a->stage_row + SLACK, first_h = b->i0 * a->rows.in_step + a->rows.min_offset;
    ptrdiff_t first_w = b->j0 * a->cols.in_step + a->cols.min_offset;
    for (ptrdiff_t c0 = 0; c0 < a->C; c0 += a->c_chunk) {
        ptrdiff_t chunk = MIN(a->c_chunk, a->C - c0);
        int first = c0 == 0, last = c0 + chunk == a->C;
        for (ptrdiff_t sample = b->n0; sample < b->n1; sample++) {
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
            ptrdiff_t pixels = a->vectors_over_pixels ? 0 : pixel_addresses(a, b->n1 - b->n0, &part, stage, pixel);
            for (ptrdiff_t k = b->k0, width; k < b->k1 && part.rows > 0; k += width, slot += a->n_slots > 1) {
                width = tile_width(a, b->k1 - k);
                REAL *out = result + slot * a->slot, *y = 0;
                /* the next block's input is fetched during the first tiles of channels */
                const REAL *next = b->next ? b->next + (k - b->k0) / width * SOON_STEP * a->cols.in_step : 0;
                if ((k - b->k0) / width * SOON_STEP >=
                    (a->vectors_over_pixels ? TILE_ROWS_VECTORS * LANES : TILE_PIXELS_4))
                    next = 0;
                if (a->vectors_over_pixels && a->n_chunks == 1 && follows(a, &part))
                    y = (REAL *)a->y + b->n0 * a->y_at.stride_n + (b->group * a->K + k) * a->y_at.stride_c +
                        part.first_h * a->y_at.stride_h + part.first_w * a->y_at.stride_w;
                for (ptrdiff_t v = 0, taps_before = before; v < classes; v++) {
                    ptrdiff_t taps = row_taps * a->cols.phase[v].n_taps;
                    const REAL *w = weight + (k - b->k0) * a->C * a->n_taps + (taps_before * a->C + c0 * taps) * width;
                    const int32_t *at = offset + taps_before * a->c_chunk;
                    if (a->vectors_over_pixels)
                        add_over_pixels(a, &part, stage, w, at, chunk * taps, width, bias + k - b->k0,
                                        out + v * TILE_ROWS_CHANNELS * flat, flat, first, next, y, a->y_at.stride_c);
                    else
                        add_over_channels(a, pixels, pixel, w, at, chunk * taps, width, bias + k - b->k0,
                                          out + v * width, classes * width, first, next);
                    taps_before += taps;
                }
                if (y)
                    for (ptrdiff_t q = 0; q < width && a->activation != CG_IDENTITY; q++)
                        activate_run(a->activation, (REAL)a->parameter, y + q * a->y_at.stride_c,
                                     part.rows * part.cols);
                else if (last)
                    store_results(a, b, &part, out, width, k, MIN(width, b->k1 - k), flat);
            }
            before += row_taps * col_taps;
        }
    }
}

/* Weights of one range of k of one group, as correlate_block takes them. */
static void pack_range(const cg_conv_args *a, ptrdiff_t range, REAL *to, REAL *temp) {
    ptrdiff_t k0 = range % a->n_k_groups * a->k_group, k1 = MIN(a->K, k0 + a->k_group);
    const REAL *w = (const REAL *)a->weight + range / a->n_k_groups * a->w_group;
    for (ptrdiff_t k = k0, width; k < k1; k += width) {
        width = tile_width(a, k1 - k);
        pack_tile(a, w, k, MIN(width, k1 - k), width, to + (k - k0) * a->C * a->n_taps, temp);
    }
}

INLINE ptrdiff_t packed_range(const cg_conv_args *a) { /* elements of a range of k */
    return a->C * a->n_taps * round_up(a->k_group, LANES);
}

KERNEL_PLAN(conv_pack) {
    cg_conv_args *a = args_;
    CG_JOIN(conv_correlate_plan__, CG_SUFFIX)(args_);
    a->packed_bytes = a->groups * a->n_k_groups * packed_range(a) * sizeof(REAL);
    a->task.n_blocks = a->groups * a->n_k_groups;
    a->task.work = 0.25 * a->groups * a->K * a->C * a->n_taps;
}

KERNEL_RUN(conv_pack) {
    const cg_conv_args *a = args_;
    for (ptrdiff_t range = begin; range < end; range++)
        pack_range(a, range, (REAL *)a->packed + range * packed_range(a), (REAL *)((char *)scratch_ + a->temp_at));
}

KERNEL_RUN(conv_correlate) {
    const cg_conv_args *a = args_;
    char *scratch = scratch_;
    REAL *weight = (REAL *)(scratch + a->weight_at), *bias = (REAL *)(scratch + a->bias_at);
    int32_t *offset = (int32_t *)(scratch + a->offset_at);
    ptrdiff_t packed = -1;
    fill_offsets(a, offset);
    for (ptrdiff_t block = begin; block < end; block++) {
        conv_block b;
        ptrdiff_t rest = block;
        b.j0 = rest % a->n_col_blocks * a->block_cols, rest /= a->n_col_blocks;
        b.i0 = rest % a->n_row_blocks * a->block_rows, rest /= a->n_row_blocks;
        b.n0 = rest % a->n_batches * a->block_n, rest /= a->n_batches;
        b.n1 = MIN(a->N, b.n0 + a->block_n);
        b.group = rest / a->n_k_groups;
        b.k0 = rest % a->n_k_groups * a->k_group;
        b.k1 = MIN(a->K, b.k0 + a->k_group);
        if (rest != packed) {
            if (a->packed)
                weight = (REAL *)a->packed + rest * packed_range(a);
            else
                pack_range(a, rest, weight, (REAL *)(scratch + a->temp_at));
            for (ptrdiff_t k = 0; k < round_up(a->k_group, LANES); k++)
                bias[k] = a->bias && b.k0 + k < b.k1 ? ((const REAL *)a->bias)[b.group * a->K + b.k0 + k] : 0;
            packed = rest;
        }
        if (a->in_place) {
            pointwise_block(a, &b, weight, (REAL *)(scratch + a->stage_at), (REAL *)(scratch + a->result_at), offset,
                            (int32_t *)(scratch + a->pixel_at), bias);
            continue;
        }
        b.next = 0;
        if (a->n_taps == 1 && a->n_chunks == 1 && a->x_at.stride_w == 1 && block + 1 < end) {
            ptrdiff_t j = (block + 1) % a->n_col_blocks * a->block_cols,
                      i = (block + 1) / a->n_col_blocks % a->n_row_blocks * a->block_rows;
            ptrdiff_t n = i + j ? b.n0 : MIN(a->N - 1, b.n1);
            b.next = (const REAL *)a->x + n * a->x_at.stride_n + b.group * a->C * a->x_at.stride_c +
                     i * a->rows.in_step * a->x_at.stride_h + j * a->cols.in_step;
        }
        correlate_block(a, &b, weight, (REAL *)(scratch + a->stage_at), (REAL *)(scratch + a->result_at), offset, bias,
                        (const REAL **)(scratch + a->pixel_at));
    }
}
