/* grad_weight[k, c, r, s] = sum over n, i, j of grad_output[n, k, i, j] * xpad[n, c, i * stride + r * dilation, ...]
 *
 * A block of the work is (group, range of k, range of terms of the weight (c, r, s) in order); it walks over all
 * samples and pixels itself, so each result has one writer and one order of summation: runs of pixels, each summed from
 * zero, added one after the other. Where the weight is small, a block takes only a range of the samples, or of the rows
 * of a few samples, and the sums of the ranges are added up at last. Two kinds of tile:
 *
 *   broadcast   Vectors over k: grad_output as [pixel][k], x broadcast from the zero-bordered planes, or from x itself
 *               where no window reaches over its border. Where a 1x1 kernel makes the two operands alike, the one with
 *               fewer channels is transposed: x and grad_output swap their roles (k is then a channel of x, and c one
 *               of grad_output).
 *   dot         Few k: sums of products along adjacent pixels. The planes are staged once for each column s of the
 *               kernel, shifted, so that the pixels of a run are adjacent across row ends and no product meets a value
 *               that is not its own.
 */
#define GRAD_PIXELS 384
#define GRAD_STAGE_BYTES (384 << 10)
#define GRAD_AHEAD_BYTES (640 << 10) /* of a run of whole planes, while the next one is fetched */
#define GRAD_SUMS_BYTES (256 << 10)  /* of sums of a block of several tiles of k */
#define GRAD_DOT_BYTES (64 << 10)    /* of sums along pixels, a vector each */
#define GRAD_RANGES 4                /* of samples or of rows, where the weight has at most as many numbers as this: */
#define GRAD_SMALL 8192

/* Whether ranges are of rows, not of samples. */
static int in_rows(const cg_conv_grad_weight_args *a) {
    return a->N < 8 && a->n_row_blocks > a->N;
}

/* Whether both operands are read as they are, in runs of adjacent pixels: then a run fetches what the next one needs.
 */
static int fetches_ahead(const cg_conv_grad_weight_args *a) {
    return a->in_place && a->R * a->S * a->stride_h * a->stride_w == 1 && a->OH == 1 && a->x_at.stride_w == 1 &&
           a->g_at.stride_w == 1 && a->x_at.stride_c > 1 && a->g_at.stride_c > 1;
}

KERNEL_PLAN(conv_grad_weight) {
    cg_conv_grad_weight_args *a = args_;
    a->along_pixels = prefers_pointwise(a);
    a->n_ranges = 1;
    if (a->along_pixels) {
        plan_pointwise(a);
        return;
    }
    int inside = a->top == 0 && a->left == 0 && (a->OH - 1) * a->stride_h + (a->R - 1) * a->dilation_h < a->H &&
                 (a->OW - 1) * a->stride_w + (a->S - 1) * a->dilation_w < a->W;
    a->swap = inside && a->R * a->S * a->stride_h * a->stride_w == 1 && a->C * 2 >= LANES &&
              (a->C < a->K || a->K * 2 <= LANES);
    if (a->swap)
        swap_operands(a);
    ptrdiff_t RS = a->R * a->S, terms = a->C * RS, pixels = a->OH * a->OW;
    ptrdiff_t span_h = (a->R - 1) * a->dilation_h, span_w = (a->S - 1) * a->dilation_w;
    ptrdiff_t vectors = ceil_div(a->K, LANES);
    a->dot_products = !a->swap && a->K * 1.6 / LANES < (vectors > 1 ? vectors : 1.5) && LANES > 1;
    /* offsets of pixels are counted in 32 bits */
    double reach = (double)MAX(1, MAX(GRAD_PIXELS, POINTWISE_RUN) / pixels) * llabs(a->x_at.stride_n) +
                   (double)a->OH * a->stride_h * llabs(a->x_at.stride_h) +
                   (double)a->OW * a->stride_w * llabs(a->x_at.stride_w);
    a->in_place = inside && !a->dot_products && reach < INT32_MAX;
    int dot = a->dot_products, planar = dot || a->x_at.stride_c != 1 || a->C == 1;
    ptrdiff_t split_h = dot ? a->stride_h : 1;

    a->k_tile = dot ? MIN(a->K, 4 * DOT_CHANNELS) : channel_vectors(a->K) * LANES;
    /* Terms of a block: many, to pay for transposing grad_output; the runs of pixels follow from them. */
    ptrdiff_t most = dot ? MIN(1024, GRAD_DOT_BYTES / (a->k_tile * LANES * (ptrdiff_t)sizeof(REAL))) : 1024;
    a->c_block = ceil_div(terms, ceil_div(terms, most));
    a->n_c_blocks = ceil_div(terms, a->c_block);
    ptrdiff_t limit = dot ? 3 * GRAD_PIXELS : GRAD_PIXELS;
    const int ahead = fetches_ahead(a);
    /* x is read once for as many tiles of k as have room for their sums */
    const ptrdiff_t tiles = ceil_div(a->K, a->k_tile), sums = a->c_block * a->k_tile * (ptrdiff_t)sizeof(REAL);
    a->n_k_blocks = ahead ? ceil_div(tiles, MAX(1, GRAD_SUMS_BYTES / sums)) : tiles;
    if (tiles % MAX(1, a->task.threads) == 0) /* each thread transposes its own */
        a->n_k_blocks = round_up(a->n_k_blocks, MAX(1, a->task.threads));
    a->k_block = ceil_div(tiles, a->n_k_blocks) * a->k_tile;
    a->n_k_blocks = ceil_div(a->K, a->k_block);
    if (ahead) { /* whole planes, which follow each other in memory, or short runs */
        limit = MIN(POINTWISE_RUN, GRAD_AHEAD_BYTES / (a->c_block * (ptrdiff_t)sizeof(REAL)));
        limit = pixels <= limit ? limit : GRAD_PIXELS / 3;
    }
    a->n_col_blocks = ceil_div(a->OW, limit);
    a->block_cols = ceil_div(a->OW, a->n_col_blocks);
    if (ahead && a->n_col_blocks > 1)
        a->block_cols = round_up(a->block_cols, LANES);
    ptrdiff_t row_bytes =
        (span_h + 1) * (dot ? a->block_cols * a->S : (a->block_cols - 1) * a->stride_w + span_w + 1) * sizeof(REAL);
    if (a->c_block / RS * row_bytes > 2 * GRAD_STAGE_BYTES) { /* far-apart taps: fewer channels at a time */
        a->c_block = MIN(a->c_block, RS * MAX(1, GRAD_STAGE_BYTES / row_bytes));
        a->n_c_blocks = ceil_div(terms, a->c_block);
    }
    ptrdiff_t channels = MIN(a->C, (a->c_block - 1) / RS + 2);
    a->block_rows = MIN(a->OH, MAX(1, limit / a->block_cols));
    for (;;) {
        a->stage_rows = ceil_div((a->block_rows - 1) * a->stride_h + span_h + 1, split_h);
        a->stage_cols = dot ? a->block_cols : (a->block_cols - 1) * a->stride_w + span_w + 1;
        a->stage_plane = a->stage_rows * a->stage_cols * (dot ? split_h * a->S : 1);
        if (a->block_rows == 1 || a->in_place ||
            channels * a->stage_plane * (ptrdiff_t)sizeof(REAL) <= GRAD_STAGE_BYTES)
            break;
        a->block_rows = ceil_div(a->block_rows, 2);
    }
    a->n_row_blocks = ceil_div(a->OH, a->block_rows);
    if (dot) { /* no short last run */
        a->block_rows = ceil_div(a->OH, a->n_row_blocks);
        a->stage_rows = ceil_div((a->block_rows - 1) * a->stride_h + span_h + 1, split_h);
        a->stage_plane = a->stage_rows * a->stage_cols * split_h * a->S;
    }
    if (planar && !dot && a->stage_plane * sizeof(REAL) % 1024 == 0)
        a->stage_plane += LANES;
    a->stage_sample = channels * a->stage_plane;
    a->block_n = 1;
    if (!dot && a->n_row_blocks == 1 && a->n_col_blocks == 1)
        a->block_n =
            MAX(1, MIN(a->N, MIN(limit / pixels,
                                 a->in_place ? a->N : GRAD_STAGE_BYTES / (a->stage_sample * (ptrdiff_t)sizeof(REAL)))));
    if (ahead)
        a->block_n = ceil_div(a->N, ceil_div(a->N, a->block_n));
    a->run = a->block_n * a->block_rows * a->block_cols;
    if (a->groups * a->K * terms <= GRAD_SMALL)
        a->n_ranges = MAX(1, MIN(GRAD_RANGES, (in_rows(a) ? a->n_row_blocks : a->N) / 4));
    /* Fewer terms where there would be too few blocks to share out: that leaves the order of summation alone. */
    ptrdiff_t threads = MAX(1, a->task.threads), least = dot ? 8 : TILE_PIXELS_2;
    ptrdiff_t others = a->n_ranges * a->groups * a->n_k_blocks;
    while (others * a->n_c_blocks % threads && a->c_block > least && others * a->n_c_blocks < 4 * threads) {
        a->c_block = ceil_div(terms, a->n_c_blocks + 1);
        a->n_c_blocks = ceil_div(terms, a->c_block);
    }
    channels = MIN(a->C, (a->c_block - 1) / RS + 2);
    a->stage_sample = channels * a->stage_plane;

    ptrdiff_t at = 0;
    a->gradient_at = at, at += round_up(a->run * a->k_tile * sizeof(REAL), 64);
    if (!a->in_place)
        a->stage_at = at, at += round_up((a->block_n * a->stage_sample + 2 * LANES) * sizeof(REAL), 64) + 64;
    a->result_at = at, at += round_up((a->c_block + TILE_PIXELS_1) * a->k_block * sizeof(REAL) * (dot ? LANES : 1), 64);
    a->offset_at = at, at += round_up(a->run * sizeof(int32_t), 64);
    a->term_at = at, at += round_up((a->c_block + TILE_PIXELS_1) * sizeof(REAL *), 64);
    a->task.scratch_bytes = (size_t)at;
    a->task.n_blocks = others * a->n_c_blocks;
    a->task.work = 0.25 * a->N * a->groups * a->K * terms * pixels;
}

/* Where a run of pixels stands and which part of the weight it adds to. */
typedef struct {
    ptrdiff_t group, k0, n_k, width; /* output channels, and what their vectors take */
    ptrdiff_t t0, n_terms, c0, n_channels;
    ptrdiff_t n0, n_samples, i0, rows, j0, cols;
} gradient_run;

/* The staged planes whose first column is column first_w of x, from those of the column before. */
static void shift_planes(const cg_conv_grad_weight_args *a, const gradient_run *b, REAL *to, const REAL *from,
                         const REAL *x, ptrdiff_t first_h, ptrdiff_t first_w) {
    const ptrdiff_t w = first_w + b->cols - 1, step = a->x_at.stride_h;
    for (ptrdiff_t c = 0; c < b->n_channels; c++, to += a->stage_plane, from += a->stage_plane, x += a->x_at.stride_c) {
        copy_run(to, from + 1, a->stage_rows * b->cols - 1);
        for (ptrdiff_t i = 0; i < a->stage_rows; i++) {
            ONE_BY_ONE;
            const ptrdiff_t h = first_h + i;
            to[i * b->cols + b->cols - 1] =
                h >= 0 && h < a->H && w >= 0 && w < a->W ? x[h * step + w * a->x_at.stride_w] : 0;
        }
    }
}

static void stage_run(const cg_conv_grad_weight_args *a, const gradient_run *b, REAL *stage) {
    ptrdiff_t first_h = b->i0 * a->stride_h - a->top, first_w = b->j0 * a->stride_w - a->left;
    int dot = a->dot_products, planar = dot || a->x_at.stride_c != 1 || a->C == 1;
    for (ptrdiff_t n = 0; n < b->n_samples; n++) {
        const REAL *x =
            (const REAL *)a->x + (b->n0 + n) * a->x_at.stride_n + (b->group * a->C + b->c0) * a->x_at.stride_c;
        REAL *to = stage + n * a->stage_sample;
        if (dot)
            for (ptrdiff_t s = 0; s < a->S; s++, to += a->stage_plane / a->S) {
                if (s && a->dilation_w * a->stride_w * a->stride_h == 1)
                    shift_planes(a, b, to, to - a->stage_plane / a->S, x, first_h, first_w + s);
                else
                    stage_planes(to, a->stage_plane, b->cols, a->stage_rows, b->cols, x, &a->x_at, b->n_channels, a->H,
                                 a->W, first_h, first_w + s * a->dilation_w, a->stride_h, a->stride_w, 1);
            }
        else if (planar)
            stage_planes(to, a->stage_plane, a->stage_cols, a->stage_rows, a->stage_cols, x, &a->x_at, b->n_channels,
                         a->H, a->W, first_h, first_w, 1, 1, 1);
        else
            stage_pixels(to, a->stage_cols * b->n_channels, a->stage_rows, a->stage_cols, x, &a->x_at, b->n_channels,
                         a->H, a->W, first_h, first_w);
    }
}

/* Where the first pixel's input lies for every term of the weight; the last one is repeated to fill a tile. */
static void term_inputs(const cg_conv_grad_weight_args *a, const gradient_run *b, const REAL *stage, const REAL **x) {
    ptrdiff_t c = b->c0, r = b->t0 / a->S % a->R, s = b->t0 % a->S;
    ptrdiff_t step_c = a->stage_plane, step_h = a->stage_cols, step_w = a->dilation_w;
    if (a->in_place) {
        stage = (const REAL *)a->x + b->n0 * a->x_at.stride_n + (b->group * a->C + c) * a->x_at.stride_c +
                b->i0 * a->stride_h * a->x_at.stride_h + b->j0 * a->stride_w * a->x_at.stride_w;
        step_c = a->x_at.stride_c, step_h = a->x_at.stride_h, step_w *= a->x_at.stride_w;
    } else if (a->dot_products)
        step_w = a->stage_plane / a->S;
    else if (a->x_at.stride_c == 1 && a->C > 1)
        step_c = 1, step_h *= b->n_channels, step_w *= b->n_channels;
    for (ptrdiff_t t = 0; t < b->n_terms; r++, s = 0) {
        if (r == a->R)
            r = 0, c++;
        ptrdiff_t h = r * a->dilation_h;
        const REAL *row = stage + (c - b->c0) * step_c;
        row += a->dot_products ? (h % a->stride_h * a->stage_rows + h / a->stride_h) * b->cols : h * step_h;
        for (; s < a->S && t < b->n_terms; s++)
            x[t++] = row + s * step_w;
    }
    for (int p = 0; p < TILE_PIXELS_1; p++)
        x[b->n_terms + p] = x[b->n_terms - 1];
}

/* The tile of k from k on. */
static void take_tile(const cg_conv_grad_weight_args *a, gradient_run *b, ptrdiff_t k, ptrdiff_t k1) {
    b->k0 = k, b->n_k = MIN(a->k_tile, k1 - k);
    b->width = channel_vectors(b->n_k) * LANES;
    if (b->width < b->n_k)
        b->width = a->k_tile;
}

/* The run after this one, or of no samples; of its terms part i of n, to be fetched during tile i of n of k. */
static gradient_run next_run(const cg_conv_grad_weight_args *a, const gradient_run *b, ptrdiff_t end_n, ptrdiff_t i,
                             ptrdiff_t n) {
    gradient_run next = *b;
    next.t0 += b->n_terms * i / n;
    next.n_terms = b->n_terms * (i + 1) / n - b->n_terms * i / n;
    next.j0 += a->block_cols;
    if (next.j0 >= a->OW)
        next.j0 = 0, next.n0 += a->block_n;
    next.n_samples = fetches_ahead(a) ? MAX(0, MIN(a->block_n, end_n - next.n0)) : 0;
    next.cols = MIN(a->block_cols, a->OW - next.j0);
    return next;
}

/* What `tiles` tiles of at least `least` pixels fetch of the next run, the gradient first. */
static pointwise_soon expect_run(const cg_conv_grad_weight_args *a, const gradient_run *next, ptrdiff_t t0,
                                 ptrdiff_t tiles, ptrdiff_t least) {
    pointwise_soon soon = {.run = least, .tiles = MAX(1, tiles * 7 / 8)};
    const REAL *g = (const REAL *)a->grad_output + next->n0 * a->g_at.stride_n +
                    (next->group * a->K + next->k0) * a->g_at.stride_c + next->j0;
    const REAL *x = (const REAL *)a->x + next->n0 * a->x_at.stride_n +
                    (next->group * a->C + next->t0) * a->x_at.stride_c + next->j0;
    if (next->n_samples && a->n_col_blocks > 1) {
        expect(&soon, 0, g, a->g_at.stride_c, next->cols, next->n_k);
        expect(&soon, 1, x, a->x_at.stride_c, next->cols, next->n_terms);
    } else if (next->n_samples) { /* line after line */
        const ptrdiff_t pixels = next->n_samples * next->cols;
        expect(&soon, 0, g, SOON_STEP, SOON_STEP, ceil_div(pixels * next->n_k, SOON_STEP));
        x += (pixels - a->x_at.stride_c) * (next->t0 - t0);
        expect(&soon, 1, x, SOON_STEP, SOON_STEP, ceil_div(pixels * next->n_terms, SOON_STEP));
    }
    return soon;
}

/* offset[...] from the first pixel's input to that of each pixel of a run. */
static void pixel_offsets(const cg_conv_grad_weight_args *a, const gradient_run *b, int32_t *offset) {
    ptrdiff_t step_n = a->stage_sample, step_w = a->x_at.stride_c != 1 || a->C == 1 ? 1 : b->n_channels;
    ptrdiff_t step_h = a->stage_cols * step_w;
    if (a->in_place)
        step_n = a->x_at.stride_n, step_h = a->x_at.stride_h, step_w = a->x_at.stride_w;
    for (ptrdiff_t n = 0; n < b->n_samples; n++)
        for (ptrdiff_t i = 0; i < b->rows; i++)
            for (ptrdiff_t j = 0; j < b->cols; j++)
                *offset++ = (int32_t)(n * step_n + i * a->stride_h * step_h + j * a->stride_w * step_w);
}

static void add_broadcast(const cg_conv_grad_weight_args *a, const gradient_run *b, const gradient_run *next,
                          REAL *gradient, const int32_t *offset, const REAL **x, REAL *result, int first) {
    const cg_strides at = a->g_at;
    const ptrdiff_t pixel = b->n_samples * b->rows * b->cols;
    REAL *to = gradient;
    for (ptrdiff_t n = 0; n < b->n_samples; n++)
        for (ptrdiff_t i = 0; i < b->rows; i++) {
            const REAL *g = (const REAL *)a->grad_output + (b->n0 + n) * at.stride_n +
                            (b->group * a->K + b->k0) * at.stride_c + (b->i0 + i) * at.stride_h + b->j0 * at.stride_w;
            if (at.stride_w == 1 && at.stride_c != 1) {
                if (i == 0 && at.stride_h == b->cols) /* all rows at once */
                    transpose_block(to, b->width, g, at.stride_c, b->n_k, b->rows * b->cols, 1);
                else if (at.stride_h != b->cols)
                    transpose_block(to, b->width, g, at.stride_c, b->n_k, b->cols, 1);
                to += b->cols * b->width;
                continue;
            }
            for (ptrdiff_t j = 0; j < b->cols; j++, to += b->width) {
                const REAL *q = g + j * at.stride_w;
                if (at.stride_c == 1)
                    copy_run(to, q, b->n_k);
                else
                    for (ptrdiff_t k = 0; k < b->n_k; k++)
                        to[k] = q[k * at.stride_c];
                fill_run(to + b->n_k, 0, b->width - b->n_k);
            }
        }
    /* where the taps of a kernel's row are adjacent numbers, tiles of whole rows of taps first */
    broadcast_tile near = {0, 0};
    if (b->width == LANES && b->t0 % a->S == 0 && b->n_terms > 1 && x[1] - x[0] == 1)
        near = tile_of_taps(a->S);
    const ptrdiff_t by_rows = near.pixels ? b->n_terms / near.pixels * near.pixels : 0;
    broadcast_tile rest = broadcast_tile_for((int)(b->width / LANES), MAX(1, b->n_terms - by_rows));
    ptrdiff_t most = PANEL_BYTES / (b->width * (ptrdiff_t)sizeof(REAL)), run = ceil_div(pixel, ceil_div(pixel, most));
    pointwise_soon soon = expect_run(a, next, b->t0, ceil_div(pixel, run) * ceil_div(b->n_terms, rest.pixels),
                                     pixel - (ceil_div(pixel, run) - 1) * run);
    for (ptrdiff_t begin = 0; begin < pixel; begin += run, first = 0)
        for (ptrdiff_t t = 0, n; t < b->n_terms; t += n) {
            const broadcast_tile tile = t < by_rows ? near : rest;
            ptrdiff_t soon_step;
            const REAL *piece = next_piece(&soon, gradient, &soon_step);
            n = tile.pixels;
            tile.fn(gradient + begin * b->width, x + t, offset + begin, MIN(run, pixel - begin), zeros, !first,
                    result + t * b->width, b->width, piece, soon_step);
        }
}

static void add_dot(const cg_conv_grad_weight_args *a, const gradient_run *b, REAL *gradient, const REAL **x,
                    REAL *result) {
    const cg_strides at = a->g_at;
    ptrdiff_t run = b->rows * b->cols;
    const REAL *from = (const REAL *)a->grad_output + b->n0 * at.stride_n + (b->group * a->K + b->k0) * at.stride_c +
                       b->i0 * at.stride_h + b->j0 * at.stride_w;
    const int adjacent = at.stride_w == 1 && (b->rows == 1 || at.stride_h == b->cols); /* read where they are */
    for (ptrdiff_t k = 0; k < b->n_k && !adjacent; k++) {
        const REAL *g = from + k * at.stride_c;
        REAL *to = gradient + k * a->run;
        for (ptrdiff_t i = 0; i < b->rows; i++, to += b->cols, g += at.stride_h)
            if (at.stride_w == 1)
                copy_run(to, g, b->cols);
            else
                for (ptrdiff_t j = 0; j < b->cols; j++)
                    to[j] = g[j * at.stride_w];
    }
    const ptrdiff_t step = adjacent ? at.stride_c : a->run;
    if (!adjacent)
        from = gradient;
    for (ptrdiff_t t = 0; t < b->n_terms; t += 4) {
        int n = (int)MIN(4, b->n_terms - t);
        for (ptrdiff_t k = 0; k < b->n_k; k += DOT_CHANNELS)
            tiles_dot[MIN(DOT_CHANNELS, b->n_k - k)][n](from + k * step, step, x + t, run,
                                                        result + (k * a->c_block + t) * LANES, a->c_block);
    }
}

/* to[i] = the sum of the lanes of vector i */
static void add_lanes(REAL *to, const REAL *from, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        vec v[LANES];
        for (ptrdiff_t j = 0; j < LANES; j++)
            v[j] = i + j < n ? v_load(from + (i + j) * LANES) : v_zero();
        v_store_some(to + i, v_sums(v), MIN(LANES, n - i));
    }
}

KERNEL_RUN(conv_grad_weight) {
    const cg_conv_grad_weight_args *a = args_;
    char *scratch = scratch_;
    REAL *gradient = (REAL *)(scratch + a->gradient_at), *stage = (REAL *)(scratch + a->stage_at);
    REAL *result = (REAL *)(scratch + a->result_at);
    int32_t *offset = (int32_t *)(scratch + a->offset_at);
    const REAL **x = (const REAL **)(scratch + a->term_at);
    ptrdiff_t terms = a->C * a->R * a->S;
    for (ptrdiff_t block = begin; block < end && a->along_pixels; block++)
        run_pointwise(a, block, (REAL *)(scratch + a->result_at));
    for (ptrdiff_t block = begin; block < end && !a->along_pixels; block++) {
        gradient_run b;
        const ptrdiff_t range = block / (a->groups * a->n_k_blocks * a->n_c_blocks), n_ranges = a->n_ranges;
        const ptrdiff_t n = in_rows(a) ? a->n_row_blocks : a->N;
        const ptrdiff_t begins = n * range / n_ranges, ends = n * (range + 1) / n_ranges;
        const ptrdiff_t first_n = in_rows(a) ? 0 : begins, end_n = in_rows(a) ? a->N : ends;
        const ptrdiff_t first_i = in_rows(a) ? begins * a->block_rows : 0;
        const ptrdiff_t end_i = in_rows(a) ? MIN(a->OH, ends * a->block_rows) : a->OH;
        REAL *grad_weight =
            n_ranges > 1 ? (REAL *)a->partial + range * a->groups * a->K * terms : (REAL *)a->grad_weight;
        b.t0 = block % a->n_c_blocks * a->c_block;
        b.n_terms = MIN(a->c_block, terms - b.t0);
        const ptrdiff_t k0 = block / a->n_c_blocks % a->n_k_blocks * a->k_block, k1 = MIN(a->K, k0 + a->k_block);
        const ptrdiff_t of_tile = (a->c_block + TILE_PIXELS_1) * a->k_tile; /* numbers of its sums */
        take_tile(a, &b, k0, k1);
        b.group = block / a->n_c_blocks / a->n_k_blocks % a->groups;
        b.c0 = b.t0 / (a->R * a->S);
        b.n_channels = (b.t0 + b.n_terms - 1) / (a->R * a->S) + 1 - b.c0;
        if (a->dot_products)
            fill_run(result, 0, a->k_block * a->c_block * LANES);
        int first = 1;
        for (b.n0 = first_n; b.n0 < end_n; b.n0 += a->block_n)
            for (b.i0 = first_i; b.i0 < end_i; b.i0 += a->block_rows)
                for (b.j0 = 0; b.j0 < a->OW; b.j0 += a->block_cols) {
                    b.n_samples = MIN(a->block_n, end_n - b.n0);
                    b.rows = MIN(a->block_rows, end_i - b.i0);
                    b.cols = MIN(a->block_cols, a->OW - b.j0);
                    if (!a->in_place)
                        stage_run(a, &b, stage);
                    term_inputs(a, &b, stage, x);
                    if (a->dot_products)
                        add_dot(a, &b, gradient, x, result);
                    else
                        pixel_offsets(a, &b, offset);
                    for (ptrdiff_t k = k0, i = 0; k < k1 && !a->dot_products; k += a->k_tile, i++) {
                        take_tile(a, &b, k, k1);
                        const gradient_run next = next_run(a, &b, end_n, i, ceil_div(k1 - k0, a->k_tile));
                        add_broadcast(a, &b, &next, gradient, offset, x, result + i * of_tile, first);
                    }
                    first = 0;
                }
        REAL *sums = result;
        for (ptrdiff_t k = k0; k < k1; k += a->k_tile, sums += of_tile) {
            take_tile(a, &b, k, k1);
            if (a->swap) { /* sums[k][c] of the swapped roles is grad_weight as it is wanted */
                REAL *out = grad_weight + (b.group * a->C + b.t0) * a->K + k;
                for (ptrdiff_t t = 0; t < b.n_terms; t++)
                    copy_run(out + t * a->K, sums + t * b.width, b.n_k);
                continue;
            }
            REAL *out = grad_weight + (b.group * a->K + k) * terms + b.t0;
            if (a->dot_products)
                for (ptrdiff_t q = 0; q < b.n_k; q++)
                    add_lanes(out + q * terms, sums + q * a->c_block * LANES, b.n_terms);
            else
                transpose_block(out, terms, sums, b.width, b.n_terms, b.n_k, 0);
        }
    }
}
