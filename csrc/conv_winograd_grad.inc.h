/* Gradient of a convolution, stride 1, by its weight, with Winograd's minimal filtering: the transpose of the forward
 * algorithm.
 *
 *   grad_weight = GT [ sum over tiles of (A z AT) . (BT d B) ] G
 *
 * (along one axis without AT, B and G on the right). d: input tile, z: tile of grad_output, . element by element. For
 * each point the sum over tiles is a matrix product  du[p] (K x C) = g[p]^T (K x T) * v[p] (T x C), one for each kernel
 * row where the forward algorithm sums over them, with v taken so many rows on.  Layouts: v and g as v in
 * conv_winograd.inc.h; du[p][kernel row][k][round_up(C, LANES)]. The caller goes through the tile rows in ranges and
 * adds up their products.
 */
#define GRADIENT_RUN 128 /* tiles of one chain of additions */
#define AXIS_RUN 48      /* the same along one axis, which rounds more */
#define AXIS_GROUP 1024  /* tiles along one axis whose sums are added up before they are added to others */

INLINE ptrdiff_t winograd_point_g(const cg_winograd_args *a, ptrdiff_t tiles) {
    return round_up(a->k1 - a->k0, LANES) * tiles + LANES;
}

INLINE ptrdiff_t winograd_point_du(const cg_winograd_args *a) {
    return (a->k1 - a->k0 + TILE_PIXELS_1) * round_up(a->C, LANES) + LANES;
}

/* Points of a tile of staged gradients along one axis, `step` apart. */
static void gradient_points(const cg_winograd_args *a, const REAL *stage, ptrdiff_t step, REAL *g, ptrdiff_t width) {
    vec z[7], o[8];
    for (int i = 0; i < a->m; i++)
        z[i] = v_load(stage + i * step);
    filter_spread(filter_of(a->points), z, a->m, 0, o);
    for (int i = 0; i < a->points; i++) {
        PREFETCH_WRITE(g + i * a->point_g + width);
        v_store(g + i * a->point_g, o[i]);
    }
}

KERNEL_PLAN(winograd_grad_output) {
    cg_winograd_args *a = args_;
    winograd_geometry(a);
    ptrdiff_t tiles = (a->row1 - a->row0) * a->tile_cols;
    a->point_g = winograd_point_g(a, tiles);
    a->block_rows = MIN(a->row1 - a->row0, MAX(1, 64 / a->tile_cols));
    a->task.n_blocks = ceil_div(a->row1 - a->row0, a->block_rows) * ceil_div(a->k1 - a->k0, LANES);
    a->task.scratch_bytes = input_stage_bytes(a, a->tile_cols);
    a->task.work = 1.5 * tiles * (a->k1 - a->k0) * a->points;
}

KERNEL_RUN(winograd_grad_output) {
    const cg_winograd_args *a = args_;
    REAL *stage = scratch_;
    ptrdiff_t tiles = (a->row1 - a->row0) * a->tile_cols, n_rows = ceil_div(a->row1 - a->row0, a->block_rows),
              cols = a->tile_cols * a->tile_w, K = a->k1 - a->k0, most = strip_rows(a, cols);
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t k = block / n_rows * LANES, row0 = a->row0 + block % n_rows * a->block_rows,
                  row1 = MIN(a->row1, row0 + a->block_rows);
        ptrdiff_t width, first = channel_block(K, k, &width);
        REAL *g = (REAL *)a->g + first * tiles + (k - first);
        for (ptrdiff_t row = row0, n; row < row1; row += n) {
            const panel b = panel_at(a, row);
            ptrdiff_t sample = row / a->tile_rows, i = row % a->tile_rows;
            n = MIN(MIN(row1, b.row1) - row, MIN(a->tile_rows - i, most));
            const REAL *z = (const REAL *)a->grad_output + sample * a->y_at.stride_n + (a->k0 + k) * a->y_at.stride_c;
            stage_lanes(stage, n * a->tile_h, cols, z, &a->y_at, MIN(LANES, K - k), a->OH, a->OW, i * a->tile_h, 0);
            for (ptrdiff_t r = 0; r < n; r++) {
                ptrdiff_t last, place = tile_place(a, &b, row + r, &last);
                for (ptrdiff_t j = 0; j < a->tile_cols; j++) {
                    const REAL *from = stage + (r * a->tile_h * cols + j * a->tile_w) * LANES;
                    REAL *to = g + (j < b.cols ? place + j : last) * width;
                    if (a->axis)
                        gradient_points(a, from, a->axis == 1 ? cols * LANES : LANES, to, width);
                    else if (a->m == 4)
                        gradient_tile(4, from, cols, to, a->point_g, width);
                    else
                        gradient_tile(2, from, cols, to, a->point_g, width);
                }
            }
        }
    }
}

KERNEL_PLAN(winograd_grad_products) {
    cg_winograd_args *a = args_;
    winograd_geometry(a);
    ptrdiff_t tiles = (a->row1 - a->row0) * a->tile_cols;
    a->point_v = winograd_point_v(a);
    a->point_g = winograd_point_g(a, tiles);
    a->point_u = winograd_point_du(a);
    a->task.n_blocks = a->points * a->sums * ceil_div(a->C, WINOGRAD_WIDTH) * ceil_div(a->k1 - a->k0, WINOGRAD_WIDTH);
    a->task.scratch_bytes = 0;
    a->task.work = 0.25 * tiles * a->points * a->C * (a->k1 - a->k0);
}

/* sums[k - k0][c..c+width-1] of point p = products of `run` tiles of the gradients from t0 on, of the inputs from
 * v_tile on, `pitch` apart, or with `more` added to what is there. */
static void gradient_chain(const cg_winograd_args *a, ptrdiff_t p, ptrdiff_t c, ptrdiff_t width, ptrdiff_t k0,
                           ptrdiff_t k1, ptrdiff_t t0, ptrdiff_t v_tile, ptrdiff_t run, REAL *sums, ptrdiff_t pitch,
                           const int more, wanted *soon) {
    const ptrdiff_t tiles = (a->row1 - a->row0) * a->tile_cols;
    const ptrdiff_t v_tiles = v_rows_of(a, a->row0, a->row1) * a->tile_cols;
    const REAL *w = (const REAL *)a->v + p * a->point_v + c * v_tiles + v_tile * width;
    int32_t offset[GRADIENT_RUN];
    for (ptrdiff_t k = k0, g_width; k < k1; k += g_width) {
        g_width = channel_vectors(k1 - k) * LANES;
        ptrdiff_t n = MIN(g_width, k1 - k);
        broadcast_tile tile = broadcast_tile_for((int)(width / LANES), n);
        for (ptrdiff_t t = 0; t < run; t++)
            offset[t] = (int32_t)(t * g_width);
        const REAL *from = (const REAL *)a->g + p * a->point_g + k * tiles + t0 * g_width;
        for (ptrdiff_t q = 0; q < n; q += tile.pixels) {
            const REAL *x[14];
            if (n - q < tile.pixels) /* rows beyond the block's last would be those of another thread */
                tile = broadcast_tile_within((int)(width / LANES), n - q);
            for (int i = 0; i < tile.pixels; i++)
                x[i] = from + q + i;
            ptrdiff_t soon_step;
            const REAL *line = want_next(soon, run, &soon_step);
            tile.fn(w, x, offset, run, zeros, more, sums + (k - k0 + q) * pitch, pitch, line, soon_step);
        }
    }
}

/* The same of all tiles that have point p, in runs. Panels follow each other, so that sums are the same however many
 * are taken at once. */
static void gradient_panels(const cg_winograd_args *a, ptrdiff_t p, ptrdiff_t c, ptrdiff_t width, ptrdiff_t k0,
                            ptrdiff_t k1, REAL *sums, ptrdiff_t pitch, int more, wanted *soon) {
    for (ptrdiff_t row = a->row0; row < a->row1;) {
        const panel b = panel_at(a, row);
        ptrdiff_t t, end;
        places_with(a, &b, (int)p, &t, &end);
        for (ptrdiff_t run; t < end; t += run, more = 1) {
            run = MIN(GRADIENT_RUN, end - t);
            gradient_chain(a, p, c, width, k0, k1, t, t, run, sums, pitch, more, soon);
        }
        row = b.row1;
    }
    for (ptrdiff_t k = k0; k < k1 && !more; k++) /* no tile has it */
        fill_run(sums + (k - k0) * pitch, 0, width);
}

/* The same along one axis, of point p / sums and kernel row p % sums: chains end where ranges of at most
 * a->range_tiles tiles would, and with samples where those leave a gap in v. */
static void gradient_axis(const cg_winograd_args *a, ptrdiff_t p, ptrdiff_t c, ptrdiff_t width, ptrdiff_t k0,
                          ptrdiff_t k1, REAL *sums, ptrdiff_t pitch, int add, wanted *soon) {
    const ptrdiff_t tiles = (a->row1 - a->row0) * a->tile_cols, sample = a->tile_rows * a->tile_cols;
    const ptrdiff_t halo = (a->sums - 1) * a->tile_cols;
    REAL apart[WINOGRAD_WIDTH * WINOGRAD_WIDTH];
    for (ptrdiff_t t0 = 0, run, group = 0; t0 < tiles; t0 += run) {
        ptrdiff_t in_range = t0 % a->range_tiles, in_group = in_range % AXIS_GROUP;
        ptrdiff_t end = MIN(tiles, t0 + MIN(a->range_tiles - in_range, AXIS_GROUP - in_group));
        if (in_group == 0)
            group = t0;
        const int aside = add || group;
        ptrdiff_t from_sample = a->row0 % a->tile_rows * a->tile_cols + t0; /* tiles since the first one's sample */
        run = MIN(AXIS_RUN, end - t0);
        if (halo)
            run = MIN(run, sample - from_sample % sample);
        gradient_chain(a, p / a->sums, c, width, k0, k1, t0,
                       t0 + p % a->sums * a->tile_cols + from_sample / sample * halo, run, aside ? apart : sums,
                       aside ? WINOGRAD_WIDTH : pitch, t0 > group, soon);
        for (ptrdiff_t k = k0; k < k1 && aside && t0 + run == end; k++)
            for (ptrdiff_t j = 0; j < width; j += LANES) {
                REAL *to = sums + (k - k0) * pitch + j;
                v_store(to, v_load(to) + v_load(apart + (k - k0) * WINOGRAD_WIDTH + j));
            }
    }
}

/* du[k - k0][c - c0] of point p / sums and kernel row p % sums, at most WINOGRAD_WIDTH channels each way, rows `row`
 * apart: products added up over the tiles of the range. Meanwhile what `soon` lists (two entries) is fetched into
 * L2. */
static void gradient_products(const cg_winograd_args *a, ptrdiff_t p, ptrdiff_t c0, ptrdiff_t c1, ptrdiff_t k0,
                              ptrdiff_t k1, REAL *du, ptrdiff_t row, int add, wanted *soon) {
    for (ptrdiff_t c = c0, width; c < c1; c += width) {
        width = channel_vectors(c1 - c) * LANES;
        if (a->axis)
            gradient_axis(a, p, c, width, k0, k1, du + c - c0, row, add, soon);
        else
            gradient_panels(a, p, c, width, k0, k1, du + c - c0, row, add, soon);
    }
}

/* What the products of point p / sums and two blocks of channels read. */
INLINE void want_operands(const cg_winograd_args *a, ptrdiff_t p, ptrdiff_t c0, ptrdiff_t k0, wanted *soon) {
    ptrdiff_t tiles = (a->row1 - a->row0) * a->tile_cols, v_tiles = v_rows_of(a, a->row0, a->row1) * a->tile_cols;
    p /= a->sums;
    soon[0] =
        (wanted){(const REAL *)a->v + p * a->point_v + c0 * v_tiles, 1, MIN(WINOGRAD_WIDTH, a->C - c0) * v_tiles, 0, 0};
    soon[1] = (wanted){(const REAL *)a->g + p * a->point_g + k0 * tiles, 1,
                       MIN(WINOGRAD_WIDTH, a->k1 - a->k0 - k0) * tiles, 0, 0};
}

/* grad_weight of n output channels from k on and the input channels c0 .. c1-1, from du[point][kernel row][k][c - c0],
 * `point` apart. */
static void gradient_weights(const cg_winograd_args *a, ptrdiff_t k, ptrdiff_t n, ptrdiff_t c0, ptrdiff_t c1,
                             const REAL *du, ptrdiff_t row, ptrdiff_t point) {
    const int n_taps = (int)(a->R * a->S), in_row = n_taps / (int)a->sums;
    for (ptrdiff_t left = n; left > 0; left--, k++, du += row)
        for (ptrdiff_t c = c0; c < c1; c += LANES) {
            REAL *to = (REAL *)a->y + (k * a->C + c) * n_taps, taps[49 * LANES];
            /* nothing else fetches what is only written: two vectors ahead, at the end those of the next row */
            ptrdiff_t ahead = c + 2 * LANES < c1 ? 2 * LANES : 2 * LANES + a->C - (c1 - c0);
            for (int i = 0; left > 2 && i < n_taps * LANES; i += SOON_STEP)
                PREFETCH_WRITE(to + ahead * n_taps + i);
            if (a->axis) {
                vec w[49];
                for (int r = 0; r < a->sums; r++)
                    filter_gather(filter_of(a->points), du + c - c0 + r * point, a->sums * point, in_row, 1, v_zero(),
                                  w + r * in_row);
                for (int i = 0; i < n_taps; i++)
                    v_store(taps + i * LANES, w[i]);
            } else if (a->m == 4)
                taps_tile(4, du + c - c0, point, taps);
            else
                taps_tile(2, du + c - c0, point, taps);
            if (n_taps == 9)
                store_taps(to, taps, MIN(LANES, a->C - c));
            else
                transpose_block(to, n_taps, taps, LANES, n_taps, MIN(LANES, a->C - c), 0);
        }
}

KERNEL_RUN(winograd_grad_products) {
    (void)scratch_;
    const cg_winograd_args *a = args_;
    ptrdiff_t row = round_up(a->C, LANES), K = a->k1 - a->k0;
    ptrdiff_t n_c = ceil_div(a->C, WINOGRAD_WIDTH), n_k = ceil_div(K, WINOGRAD_WIDTH);
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t p = block / (n_c * n_k), c0 = block % n_c * WINOGRAD_WIDTH, k0 = block / n_c % n_k * WINOGRAD_WIDTH;
        wanted soon[2] = {{0}, {0}};
        if (block + 1 < end)
            want_operands(a, (block + 1) / (n_c * n_k), (block + 1) % n_c * WINOGRAD_WIDTH,
                          (block + 1) / n_c % n_k * WINOGRAD_WIDTH, soon);
        gradient_products(a, p, c0, MIN(a->C, c0 + WINOGRAD_WIDTH), k0, MIN(K, k0 + WINOGRAD_WIDTH),
                          (REAL *)a->du + p * a->point_u + k0 * row + c0, row, a->add, soon);
    }
}

KERNEL_PLAN(winograd_grad_weight) {
    cg_winograd_args *a = args_;
    winograd_geometry(a);
    a->point_u = winograd_point_du(a);
    a->task.n_blocks = a->k1 - a->k0;
    a->task.scratch_bytes = 0;
    a->task.work = 1.0 * a->points * a->C * (a->k1 - a->k0);
}

KERNEL_RUN(winograd_grad_weight) {
    (void)scratch_;
    const cg_winograd_args *a = args_;
    ptrdiff_t row = round_up(a->C, LANES);
    REAL *du = (REAL *)a->du + begin * row;
    const ptrdiff_t n = a->points * a->sums;
    for (ptrdiff_t p = 0; p < n && a->n_sums > 1; p++)
        for (ptrdiff_t j = 0; j < (end - begin) * row; j += LANES) {
            REAL *to = du + p * a->point_u + j;
            vec sum = v_load(to);
            for (ptrdiff_t i = 1; i < a->n_sums; i++) /* all at once: each is read from memory, in a run of its own */
                sum += v_load(to + i * n * a->point_u);
            v_store(to, sum);
        }
    gradient_weights(a, a->k0 + begin, end - begin, 0, a->C, du, row, a->point_u);
}

/* Few channels: every thread takes ranges of tiles of its own through all steps in its L2. Range i goes into sum
 * i % n_sums of du, so the order of additions is the same for any number of threads; with no more ranges than sums it
 * is that of one range after the other. */
#define GRADIENT_SUMS 8

KERNEL_PLAN(winograd_grad_ranges) {
    cg_winograd_args *a = args_;
    winograd_geometry(a);
    ptrdiff_t lanes = round_up(a->C, LANES) + round_up(a->K, LANES), rows = a->range_tiles / a->tile_cols, at = 0;
    ptrdiff_t v_tiles = (rows + (a->sums - 1) * most_samples(a, rows)) * a->tile_cols;
    a->n_sums = MIN(GRADIENT_SUMS, ceil_div(a->row1 - a->row0, rows));
    a->v_at = at, at += round_up(a->points * (round_up(a->C, LANES) * v_tiles + LANES) * sizeof(REAL), 64);
    a->m_at = at, at += round_up(a->points * (round_up(a->K, LANES) * a->range_tiles + LANES) * sizeof(REAL), 64);
    a->stage_at = at, at += input_stage_bytes(a, a->tile_cols);
    a->task.n_blocks = a->n_sums;
    a->task.scratch_bytes = (size_t)at;
    a->task.work = (a->row1 - a->row0) * a->tile_cols * a->points * (1.5 * lanes + 0.25 * a->sums * a->C * a->K);
}

/* All blocks of another of these kernels. */
#define WHOLE(kernel, args, scratch)                                                                                   \
    (CG_JOIN(kernel##_plan__, CG_SUFFIX)(args),                                                                        \
     CG_JOIN(kernel##_run__, CG_SUFFIX)(args, 0, (args)->task.n_blocks, scratch))

KERNEL_RUN(winograd_grad_ranges) {
    const cg_winograd_args *a = args_;
    char *scratch = scratch_;
    ptrdiff_t rows = a->range_tiles / a->tile_cols;
    for (ptrdiff_t block = begin; block < end; block++) {
        cg_winograd_args range = *a;
        ptrdiff_t i = block % 2 ? a->n_sums - 1 - block / 2 : block / 2; /* the first sums have a range more: spread */
        range.v = scratch + a->v_at, range.g = scratch + a->m_at, range.add = 0;
        range.du = (REAL *)a->du + i * a->points * a->sums * winograd_point_du(a);
        for (ptrdiff_t row = a->row0 + i * rows; row < a->row1; row += a->n_sums * rows) {
            range.row0 = row, range.row1 = MIN(a->row1, row + rows);
            WHOLE(winograd_input, &range, scratch + a->stage_at);
            WHOLE(winograd_grad_output, &range, scratch + a->stage_at);
            WHOLE(winograd_grad_products, &range, scratch + a->stage_at);
            range.add = 1;
        }
    }
}

/* Few tiles: v and g hold all of them. Blocks of channels by channels go through all points and back to the taps while
 * their products are in L2. */
KERNEL_PLAN(winograd_grad_fused) {
    cg_winograd_args *a = args_;
    winograd_geometry(a);
    ptrdiff_t tiles = (a->row1 - a->row0) * a->tile_cols;
    a->point_v = winograd_point_v(a);
    a->point_g = winograd_point_g(a, tiles);
    a->point_u = WINOGRAD_WIDTH * WINOGRAD_WIDTH + LANES;
    a->task.n_blocks = ceil_div(a->C, WINOGRAD_WIDTH) * ceil_div(a->k1 - a->k0, WINOGRAD_WIDTH);
    a->task.scratch_bytes = (size_t)a->point_u * a->points * a->sums * sizeof(REAL);
    a->task.work = 0.25 * tiles * a->points * a->C * (a->k1 - a->k0);
}

KERNEL_RUN(winograd_grad_fused) {
    const cg_winograd_args *a = args_;
    REAL *du = scratch_;
    ptrdiff_t K = a->k1 - a->k0, n_c = ceil_div(a->C, WINOGRAD_WIDTH);
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t c0 = block % n_c * WINOGRAD_WIDTH, c1 = MIN(a->C, c0 + WINOGRAD_WIDTH);
        ptrdiff_t k0 = block / n_c * WINOGRAD_WIDTH, k1 = MIN(K, k0 + WINOGRAD_WIDTH);
        for (ptrdiff_t p = 0; p < a->points * a->sums; p++) {
            wanted soon[2] = {{0}, {0}};
            if (p + 1 < a->points * a->sums)
                want_operands(a, p + 1, c0, k0, soon);
            gradient_products(a, p, c0, c1, k0, k1, du + p * a->point_u, WINOGRAD_WIDTH, 0, soon);
        }
        gradient_weights(a, a->k0 + k0, k1 - k0, c0, c1, du, WINOGRAD_WIDTH, a->point_u);
    }
}
