/* The gradient of max pooling: each number of grad_output goes to the cell that its index names.
 *
 * Windows that do not overlap are written whole, a vector of windows at a time: what the index names gets grad_output,
 * the other cells get 0. Otherwise planes are cleared and the numbers added one by one, in the order of the windows.
 *
 * Indices come from the caller. Whatever they are, nothing outside grad_x is written; `invalid` tells of those out of
 * place, and the gradient of a plane that has one is not computed.
 */
enum { SPREAD_PAIRS, SPREAD_TILES, SPREAD_TABLE, SPREAD_SLOWLY };

#define MAX_TABLE 4096 /* cells of a window up to which positions are looked up */

/* By index: rows and columns from the beginning of the window, and numbers from there. */
typedef struct {
    ptrdiff_t down, right, offset;
} max_place;

static void fill_places(const cg_windows *w, max_place *place) {
    for (ptrdiff_t r = 0; r < w->R; r++)
        for (ptrdiff_t s = 0; s < w->S; s++) {
            ptrdiff_t down = r * w->dilation_h, right = s * w->dilation_w;
            *place++ = (max_place){down, right, (down * w->W + right) * w->Z};
        }
}

INLINE max_place place_of(const cg_windows *w, const max_place *place, ptrdiff_t index) {
    if (place)
        return place[index];
    ptrdiff_t r = (uint32_t)index / (uint32_t)w->S, s = (uint32_t)index % (uint32_t)w->S;
    return (max_place){r * w->dilation_h, s * w->dilation_w, 0};
}

/* Where the windows of a row that lie between the left and the right end of the image begin and end. */
static void find_inside(const cg_windows *w, ptrdiff_t *from, ptrdiff_t *to) {
    ptrdiff_t last = w->W - 1 - (w->S - 1) * w->dilation_w + w->left;
    *from = MIN(w->OW, ceil_div(w->left, w->stride_w));
    *to = last < 0 ? *from : MAX(*from, MIN(w->OW, last / w->stride_w + 1));
}

/* Whether n indices are at least `from` and below `to`. */
static int indices_in_range(const void *indices, int wide, ptrdiff_t n, ptrdiff_t from, ptrdiff_t to) {
    if (wide) {
        uint32_t least = UINT32_MAX, largest = 0;
        for (ptrdiff_t t = 0; t < n; t++) {
            uint32_t index = ((const uint32_t *)indices)[t];
            least = MIN(least, index);
            largest = MAX(largest, index);
        }
        return least >= (uint32_t)from && largest < (uint32_t)to;
    }
    uint8_t least = UINT8_MAX, largest = 0;
    for (ptrdiff_t t = 0; t < n; t++) {
        uint8_t index = ((const uint8_t *)indices)[t];
        least = MIN(least, index);
        largest = MAX(largest, index);
    }
    return least >= from && largest < to;
}

/* Whether the index of Z numbers of window (i, j) names a cell of the image. */
static int window_valid(const cg_windows *w, const max_place *place, ptrdiff_t i, ptrdiff_t j, const void *indices,
                        int wide, ptrdiff_t at) {
    ptrdiff_t h = i * w->stride_h - w->top, v = j * w->stride_w - w->left;
    for (ptrdiff_t z = 0; z < w->Z; z++) {
        max_place to = place_of(w, place, get_index(indices, wide, at + z));
        if (h + to.down < 0 || h + to.down >= w->H || v + to.right < 0 || v + to.right >= w->W)
            return window_empty(w, h, v); /* such a window has no cell to name */
    }
    return 1;
}

/* The same for windows j0 .. j1 - 1 of a row, of which only the columns are in doubt. */
INLINE int columns_valid(const cg_windows *w, const max_place *place, ptrdiff_t j0, ptrdiff_t j1, const void *indices,
                         int wide) {
    for (ptrdiff_t j = j0; j < j1; j++) {
        ptrdiff_t v = j * w->stride_w - w->left;
        for (ptrdiff_t t = j * w->Z; t < (j + 1) * w->Z; t++) {
            ptrdiff_t right = v + place_of(w, place, get_index(indices, wide, t)).right;
            if (right < 0 || right >= w->W)
                return 0;
        }
    }
    return 1;
}

static int rows_valid(const cg_max_pool_backward_args *a, const max_place *place, const char *indices, ptrdiff_t i0,
                      ptrdiff_t i1) {
    const cg_windows *w = &a->windows;
    ptrdiff_t Z = w->Z, n = w->OW * Z, bytes = a->wide ? 4 : 1;
    if (!indices_in_range(indices, a->wide, (i1 - i0) * n, 0, w->R * w->S))
        return 0;
    for (ptrdiff_t i = i0; i < i1; i++, indices += n * bytes) {
        if (a->cut.has_empty) {
            for (ptrdiff_t j = 0; j < w->OW; j++)
                if (!window_valid(w, place, i, j, indices, a->wide, j * Z))
                    return 0;
            continue;
        }
        /* rows of cells all at once, columns of cells in the windows that touch an end of the row */
        ptrdiff_t h = i * w->stride_h - w->top, r0 = taps_from(h, w->dilation_h),
                  r1 = taps_to(h, w->dilation_h, w->R, w->H);
        if ((r0 > 0 || r1 < w->R) && !indices_in_range(indices, a->wide, n, r0 * w->S, r1 * w->S))
            return 0;
        if (!columns_valid(w, place, 0, a->inside_from, indices, a->wide) ||
            !columns_valid(w, place, a->inside_to, w->OW, indices, a->wide))
            return 0;
    }
    return 1;
}

/* Whether the indices of rows i0 .. i1 - 1 of windows of plane p name cells of the image. Raises the flag if not. */
static int check_indices(const cg_max_pool_backward_args *a, const max_place *place, ptrdiff_t p, ptrdiff_t i0,
                         ptrdiff_t i1) {
    ptrdiff_t at = (p * a->windows.OH + i0) * a->windows.OW * a->windows.Z;
    if (rows_valid(a, place, (const char *)a->indices + at * (a->wide ? 4 : 1), i0, i1))
        return 1;
    RAISE_FLAG(a->invalid);
    return 0;
}

/* Windows two columns wide, next to each other, Z = 1: both cells of a row of LANES windows make two vectors. */
static void spread_pairs(const cg_max_pool_backward_args *a, ptrdiff_t p, ptrdiff_t i0, ptrdiff_t i1) {
    const cg_windows *w = &a->windows;
    ptrdiff_t last_row = i1 == w->OH ? w->H : i1 * w->stride_h, cells = 2 * w->OW;
    const REAL *g = (const REAL *)a->grad_output, *g_end = g + w->planes * w->OH * w->OW;
    REAL *rows = (REAL *)a->result + (p * w->H + i0 * w->stride_h) * w->W,
         *end = (REAL *)a->result + (p * w->H + last_row) * w->W;
    ptrdiff_t total = w->planes * w->OH * w->OW;
    for (ptrdiff_t i = i0; i < i1; i++) {
        ptrdiff_t at = (p * w->OH + i) * w->OW, h = i * w->stride_h, next = i + 1 < i1 ? h + w->stride_h : last_row;
        for (ptrdiff_t r = 0; h < next; r++, h++, rows += w->W) {
            if (r >= w->R) { /* between the windows, and below the last */
                pool_fill(rows, w->W, 0);
                continue;
            }
            for (ptrdiff_t t = 0; t < w->OW; t += LANES) {
                ivec index;
                if (LIKELY(total - at - t >= LANES))
                    index = a->wide ? v_load_i32((const int32_t *)a->indices + at + t)
                                    : v_load_u8((const uint8_t *)a->indices + at + t);
                else {
                    INT lane[LANES] = {0};
                    for (ptrdiff_t u = 0; u < LANES && u < total - at - t; u++)
                        lane[u] = (INT)get_index(a->indices, a->wide, at + t + u);
                    index = v_iload(lane);
                }
                vec grad = pool_load(g + at + t, g_end, w->OW - t);
                vec first = v_blend(v_ieq(index, v_iset1((INT)(2 * r))), grad, v_zero());
                vec second = v_blend(v_ieq(index, v_iset1((INT)(2 * r + 1))), grad, v_zero());
                ptrdiff_t room = MIN(cells, w->W) - 2 * t;
                pool_store(rows + 2 * t, end, v_zip_low(first, second), room);
                if (room > LANES)
                    pool_store(rows + 2 * t + LANES, end, v_zip_high(first, second), room - LANES);
            }
            if (cells < w->W)
                pool_fill(rows + cells, w->W - cells, 0);
        }
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
    if (apart && w->Z >= LANES)
        a->way = SPREAD_TILES;
    else if (apart && w->Z == 1 && w->S == 2 && w->stride_w == 2 && 2 * w->OW >= LANES)
        a->way = SPREAD_PAIRS;
    else
        a->way = w->R * w->S <= MAX_TABLE && !cut->has_empty ? SPREAD_TABLE : SPREAD_SLOWLY;
    pool_cut(w, cut, w->OH, MIN(w->H, w->stride_h) * w->W * w->Z);
    if (a->way == SPREAD_TABLE || a->way == SPREAD_SLOWLY) {
        cut->rows = w->OH;
        cut->n_row_blocks = 1;
        cut->planes = MAX(1, MIN(POOL_BLOCK_NUMBERS / (w->H * w->W * w->Z), w->planes / 16));
    }
    a->task.n_blocks = pool_blocks(w, cut);
    a->task.scratch_bytes = w->R * w->S <= MAX_TABLE ? w->R * w->S * sizeof(max_place) : 0;
    find_inside(w, &a->inside_from, &a->inside_to);
    a->task.work = (double)w->planes * w->Z * (w->H * w->W + 4.0 * w->OH * w->OW);
}

KERNEL_RUN(max_pool2d_backward) {
    const cg_max_pool_backward_args *a = args_;
    const cg_windows *w = &a->windows;
    max_place *place = NULL;
    ptrdiff_t plane_size = w->H * w->W * w->Z;
    if (a->task.scratch_bytes)
        fill_places(w, place = scratch_);
    for (ptrdiff_t block = begin; block < end; block++) {
        pool_block b = pool_block_at(w, &a->cut, w->OH, block);
        for (ptrdiff_t p = b.p0; p < b.p1; p++) {
            REAL *plane = (REAL *)a->result + p * plane_size;
            if (!check_indices(a, place, p, b.i0, b.i1))
                continue;
            if (a->way == SPREAD_PAIRS)
                spread_pairs(a, p, b.i0, b.i1);
            else if (a->way == SPREAD_TILES)
                spread_tiles(a, p, b.i0, b.i1);
            else {
                memset(plane, 0, (size_t)plane_size * sizeof(REAL));
                if (a->way == SPREAD_SLOWLY)
                    scatter_slowly(a, p * w->OH * w->OW * w->Z, plane);
                else if (a->wide)
                    scatter(w, place, a->grad_output, a->indices, 1, p * w->OH * w->OW * w->Z, plane, w->Z);
                else if (w->Z == 1)
                    scatter(w, place, a->grad_output, a->indices, 0, p * w->OH * w->OW, plane, 1);
                else
                    scatter(w, place, a->grad_output, a->indices, 0, p * w->OH * w->OW * w->Z, plane, w->Z);
            }
        }
    }
}

/* The indices as positions h * W + w in the plane, as PyTorch counts them; -1 for windows without a cell. */
KERNEL_PLAN(max_pool2d_plane_indices) {
    cg_max_pool_backward_args *a = args_;
    const cg_windows *w = &a->windows;
    pool_cut(w, &a->cut, w->OH, w->OW * w->Z);
    a->cut.has_empty = any_window_empty(w);
    a->task.n_blocks = pool_blocks(w, &a->cut);
    a->task.scratch_bytes = w->R * w->S <= MAX_TABLE ? w->R * w->S * sizeof(max_place) : 0;
    find_inside(w, &a->inside_from, &a->inside_to);
    a->task.work = 4.0 * w->planes * w->OH * w->OW * w->Z;
}

KERNEL_RUN(max_pool2d_plane_indices) {
    const cg_max_pool_backward_args *a = args_;
    const cg_windows *w = &a->windows;
    max_place *place = NULL;
    if (a->task.scratch_bytes)
        fill_places(w, place = scratch_);
    for (ptrdiff_t block = begin; block < end; block++) {
        pool_block b = pool_block_at(w, &a->cut, w->OH, block);
        for (ptrdiff_t p = b.p0; p < b.p1; p++) {
            if (!check_indices(a, place, p, b.i0, b.i1))
                continue;
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
