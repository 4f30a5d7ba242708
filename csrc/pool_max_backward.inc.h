/* The gradient of max pooling: each number of grad_output goes to the cell that its index names.
 *
 * Windows that do not overlap are written whole, a vector of windows at a time: what the index names gets grad_output,
 * the other cells get 0. Others are gathered by pixel where that is faster (pool_max_gather.inc.h), and so are small
 * planes (pool_max_small.inc.h); else planes are cleared and the numbers added one by one, in the order of the windows.
 *
 * Indices come from the caller. Whatever they are, nothing outside grad_x is written; `invalid` tells of those out of
 * place, and the gradient of a block that has one is not computed.
 */
enum { SPREAD_PAIRS, SPREAD_TILES, SPREAD_TABLE, SPREAD_SLOWLY, GATHER_FLAT, GATHER_PIXELS, GATHER_SMALL };

/* LANES indices from number `at`, 0 beyond the last. */
INLINE ivec load_indices(const cg_max_pool_backward_args *a, ptrdiff_t at, ptrdiff_t total) {
    if (LIKELY(total - at >= LANES))
        return a->wide ? v_load_i32((const int32_t *)a->indices + at) : v_load_u8((const uint8_t *)a->indices + at);
    INT lane[LANES] = {0};
    for (ptrdiff_t t = 0; t < LANES && t < total - at; t++)
        lane[t] = (INT)get_index(a->indices, a->wide, at + t);
    return v_iload(lane);
}

/* Windows two columns wide, next to each other, Z = 1: both cells of a row of LANES windows make two vectors. `end` is
 * where the rows of all planes of the block end. */
static void spread_pairs(const cg_max_pool_backward_args *a, ptrdiff_t p, ptrdiff_t i0, ptrdiff_t i1, const REAL *end) {
    const cg_windows *w = &a->windows;
    ptrdiff_t last_row = i1 == w->OH ? w->H : i1 * w->stride_h, cells = MIN(2 * w->OW, w->W);
    ptrdiff_t total = w->planes * w->OH * w->OW;
    const REAL *g = (const REAL *)a->grad_output, *g_end = g + total;
    REAL *rows = (REAL *)a->result + (p * w->H + i0 * w->stride_h) * w->W;
    /* rows in the order of memory, or where one vector holds a row of windows, read once for all of them */
    const int once = w->OW <= LANES;
    for (ptrdiff_t i = i0; i < i1; i++) {
        ptrdiff_t at = (p * w->OH + i) * w->OW, n = (i + 1 < i1 ? w->stride_h : last_row - i * w->stride_h);
        ptrdiff_t tall = MIN(n, w->R);
        vec grad = v_zero();
        ivec index = v_iset1(0);
        for (ptrdiff_t r = 0; r < tall; r++, rows += w->W) {
            for (ptrdiff_t t = 0; t < w->OW; t += LANES) {
                if (r == 0 || !once) {
                    index = load_indices(a, at + t, total);
                    grad = v_zero() + pool_load(g + at + t, g_end, w->OW - t); /* -0 to 0, as all sums begin there */
                }
                vec first = v_blend(v_ieq(index, v_iset1((INT)(2 * r))), grad, v_zero());
                vec second = v_blend(v_ieq(index, v_iset1((INT)(2 * r + 1))), grad, v_zero());
                pool_store(rows + 2 * t, end, v_zip_low(first, second), cells - 2 * t);
                if (cells - 2 * t > LANES)
                    pool_store(rows + 2 * t + LANES, end, v_zip_high(first, second), cells - 2 * t - LANES);
            }
            if (cells < w->W)
                pool_fill(rows + cells, w->W - cells, 0);
        }
        pool_fill(rows, (n - tall) * w->W, 0); /* between the windows, and below the last */
        rows += (n - tall) * w->W;
    }
}

/* Windows next to each other without padding, Z >= LANES: each pixel of each window is written whole. */
static void spread_tiles(const cg_max_pool_backward_args *a, ptrdiff_t p, ptrdiff_t i0, ptrdiff_t i1) {
    const cg_windows *w = &a->windows;
    ptrdiff_t Z = w->Z, last_row = i1 == w->OH ? w->H : i1 * w->stride_h;
    REAL *plane = (REAL *)a->result + p * w->H * w->W * Z;
    int tiled = w->stride_h == w->R && w->stride_w == w->S && w->OH * w->R >= w->H && w->OW * w->S >= w->W;
    if (!tiled)
        memset(plane + i0 * w->stride_h * w->W * Z, 0,
               (size_t)((last_row - i0 * w->stride_h) * w->W * Z) * sizeof(REAL));
    for (ptrdiff_t i = i0; i < i1; i++)
        for (ptrdiff_t j = 0; j < w->OW; j++) {
            ptrdiff_t at = ((p * w->OH + i) * w->OW + j) * Z, h = i * w->stride_h, v = j * w->stride_w;
            ptrdiff_t rows = MIN(w->R, w->H - h), cols = MIN(w->S, w->W - v);
            const REAL *g = (const REAL *)a->grad_output + at;
            REAL *to = plane + (h * w->W + v) * Z;
            for (ptrdiff_t z = 0; z < Z; z += LANES) {
                z = MIN(z, Z - LANES); /* the last vector overlaps the one before */
                vec grad = v_load(g + z);
                ivec index = a->wide ? v_load_i32((const int32_t *)a->indices + at + z)
                                     : v_load_u8((const uint8_t *)a->indices + at + z);
                for (ptrdiff_t r = 0; r < rows; r++)
                    for (ptrdiff_t s = 0; s < cols; s++)
                        v_store(to + (r * w->W + s) * Z + z,
                                v_blend(v_ieq(index, v_iset1((INT)(r * w->S + s))), grad, v_zero()));
            }
        }
}

/* Every index was checked to name a cell of the image. */
INLINE void scatter(const cg_windows *w, const max_place *place, const REAL *g, const void *indices, int wide,
                    ptrdiff_t at, REAL *plane, ptrdiff_t Z) {
    for (ptrdiff_t i = 0; i < w->OH; i++) {
        REAL *to = plane + ((i * w->stride_h - w->top) * w->W - w->left) * Z;
        for (ptrdiff_t j = 0; j < w->OW; j++, at += Z, to += w->stride_w * Z)
            for (ptrdiff_t z = 0; z < Z; z++)
                to[place[get_index(indices, wide, at + z)].offset + z] += g[at + z];
    }
}

static void scatter_slowly(const cg_max_pool_backward_args *a, ptrdiff_t at, REAL *plane) {
    const cg_windows *w = &a->windows;
    for (ptrdiff_t i = 0; i < w->OH; i++)
        for (ptrdiff_t j = 0; j < w->OW; j++)
            for (ptrdiff_t z = 0; z < w->Z; z++, at++) {
                max_place to = place_of(w, NULL, get_index(a->indices, a->wide, at));
                ptrdiff_t h = i * w->stride_h - w->top + to.down, v = j * w->stride_w - w->left + to.right;
                if (h >= 0 && h < w->H && v >= 0 && v < w->W) /* windows without a cell name none */
                    plane[(h * w->W + v) * w->Z + z] += ((const REAL *)a->grad_output)[at];
            }
}

KERNEL_PLAN(max_pool2d_backward) {
    cg_max_pool_backward_args *a = args_;
    const cg_windows *w = &a->windows;
    cg_pool_cut *cut = &a->cut;
    int apart =
        w->dilation_h == 1 && w->dilation_w == 1 && w->stride_h >= w->R && w->stride_w >= w->S && !w->top && !w->left;
    cut->has_empty = any_window_empty(w);
    int gather = !a->wide && !cut->has_empty && w->R * w->S <= 3 * LANES;
    const int small = !a->wide && !cut->has_empty && is_small(w);
    if (small && !(gather && is_flat(w)))
        a->way = GATHER_SMALL;
    else if (apart && w->Z >= LANES)
        a->way = SPREAD_TILES;
    else if (apart && w->Z == 1 && w->S == 2 && w->stride_w == 2)
        a->way = SPREAD_PAIRS;
    else if (gather && is_flat(w))
        a->way = GATHER_FLAT;
    else if (gather && w->Z >= LANES)
        a->way = GATHER_PIXELS;
    else
        a->way = w->R * w->S <= MAX_TABLE && !cut->has_empty ? SPREAD_TABLE : SPREAD_SLOWLY;
    if (a->way == GATHER_PIXELS)
        pool_cut(w, cut, w->H, w->W * w->Z);
    else
        pool_cut(w, cut, w->OH, MIN(w->H, w->stride_h) * w->W * w->Z);
    if (a->way != SPREAD_PAIRS && a->way != SPREAD_TILES && a->way != GATHER_PIXELS) {
        cut->rows = w->OH;
        cut->n_row_blocks = 1;
        cut->planes = MAX(1, MIN(POOL_BLOCK_NUMBERS / (w->H * w->W * w->Z), w->planes / 16));
    }
    a->task.n_blocks = pool_blocks(w, cut);
    a->task.scratch_bytes = tables_bytes(w);
    if (a->way == GATHER_FLAT || a->way == GATHER_PIXELS)
        a->task.scratch_bytes += (size_t)(w->R * w->S) * sizeof(max_tap);
    if (small)
        a->task.scratch_bytes += small_bytes(w);
    find_inside(a);
    a->task.work = (double)w->planes * w->Z * (2.0 * w->H * w->W + 8.0 * w->OH * w->OW);
}

static void scatter_plane(const cg_max_pool_backward_args *a, const max_place *place, ptrdiff_t p) {
    const cg_windows *w = &a->windows;
    ptrdiff_t plane_size = w->H * w->W * w->Z, at = p * w->OH * w->OW * w->Z;
    REAL *plane = (REAL *)a->result + p * plane_size;
    memset(plane, 0, (size_t)plane_size * sizeof(REAL));
    if (a->way == SPREAD_SLOWLY)
        scatter_slowly(a, at, plane);
    else if (a->wide)
        scatter(w, place, a->grad_output, a->indices, 1, at, plane, w->Z);
    else if (w->Z == 1)
        scatter(w, place, a->grad_output, a->indices, 0, at, plane, 1);
    else
        scatter(w, place, a->grad_output, a->indices, 0, at, plane, w->Z);
}

KERNEL_RUN(max_pool2d_backward) {
    const cg_max_pool_backward_args *a = args_;
    const cg_windows *w = &a->windows;
    void *room = (char *)scratch_ + tables_bytes(w);
    const ptrdiff_t rows = a->way == GATHER_PIXELS ? w->H : w->OH;
    const max_place *place = fill_tables(a, scratch_);
    if (a->way == GATHER_SMALL)
        small_table(w, room);
    for (ptrdiff_t block = begin; block < end; block++) {
        pool_block b = pool_block_at(w, &a->cut, rows, block);
        /* a block of rows of pixels checks its share of the rows of windows */
        if (!check_indices(a, scratch_, b.p0, b.p1, b.i0 * w->OH / rows, b.i1 * w->OH / rows))
            continue;
        const REAL *pairs_end =
            (const REAL *)a->result + (b.i1 == w->OH ? b.p1 * w->H : b.p0 * w->H + b.i1 * w->stride_h) * w->W;
        if (a->way == GATHER_FLAT)
            gather_flat(a, b.p0, b.p1, room);
        else
            for (ptrdiff_t p = b.p0; p < b.p1; p++)
                if (a->way == GATHER_SMALL && gather_small(a, p, room))
                    continue;
                else if (a->way == GATHER_PIXELS)
                    gather_pixels(a, p, b.i0, b.i1, room);
                else if (a->way == SPREAD_PAIRS)
                    spread_pairs(a, p, b.i0, b.i1, pairs_end);
                else if (a->way == SPREAD_TILES)
                    spread_tiles(a, p, b.i0, b.i1);
                else
                    scatter_plane(a, place, p);
    }
}

/* The indices as positions h * W + w in the plane, as PyTorch counts them; -1 for windows without a cell. */
KERNEL_PLAN(max_pool2d_plane_indices) {
    cg_max_pool_backward_args *a = args_;
    const cg_windows *w = &a->windows;
    pool_cut(w, &a->cut, w->OH, w->OW * w->Z);
    a->cut.has_empty = any_window_empty(w);
    a->task.n_blocks = pool_blocks(w, &a->cut);
    a->task.scratch_bytes = tables_bytes(w);
    find_inside(a);
    a->task.work = 4.0 * w->planes * w->OH * w->OW * w->Z;
}

KERNEL_RUN(max_pool2d_plane_indices) {
    const cg_max_pool_backward_args *a = args_;
    const cg_windows *w = &a->windows;
    const max_place *place = fill_tables(a, scratch_);
    for (ptrdiff_t block = begin; block < end; block++) {
        pool_block b = pool_block_at(w, &a->cut, w->OH, block);
        if (!check_indices(a, scratch_, b.p0, b.p1, b.i0, b.i1))
            continue;
        for (ptrdiff_t p = b.p0; p < b.p1; p++) {
            for (ptrdiff_t i = b.i0; i < b.i1; i++)
                for (ptrdiff_t j = 0; j < w->OW; j++) {
                    ptrdiff_t h = i * w->stride_h - w->top, v = j * w->stride_w - w->left,
                              at = ((p * w->OH + i) * w->OW + j) * w->Z;
                    int empty = window_empty(w, h, v);
                    for (ptrdiff_t z = 0; z < w->Z; z++, at++) {
                        max_place to = place_of(w, place, get_index(a->indices, a->wide, at));
                        ((int64_t *)a->result)[at] = empty ? -1 : (h + to.down) * w->W + v + to.right;
                    }
                }
        }
    }
}
