/* Whether the indices that the gradient of max pooling gets name cells of the image, and which.
 *
 * All must be below R * S, which is one pass; windows that touch an end of the image are then looked at again: rows of
 * cells row by row, columns of cells in the windows concerned.
 */
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

/* Few enough for a table of them in cache. */
static int windows_few(const cg_windows *w) {
    return w->Z == 1 && w->OH * w->OW <= 2048;
}

/* Scratch begins with the table of places, where there is one, and what the check of the indices needs. */
static size_t place_bytes(const cg_windows *w) {
    return w->R * w->S <= MAX_TABLE ? round_up(w->R * w->S * (ptrdiff_t)sizeof(max_place), 64) : 0;
}
static size_t tables_bytes(const cg_windows *w) {
    ptrdiff_t bits = w->OH + w->OW + (windows_few(w) ? w->OH * w->OW : 0);
    return place_bytes(w) + round_up(bits * (ptrdiff_t)sizeof(uint32_t), 64);
}
static const max_place *places_of(const cg_windows *w, const void *tables) {
    return w->R * w->S <= MAX_TABLE ? tables : NULL;
}

INLINE max_place place_of(const cg_windows *w, const max_place *place, ptrdiff_t index) {
    if (place)
        return place[index];
    ptrdiff_t r = (uint32_t)index / (uint32_t)w->S, s = (uint32_t)index % (uint32_t)w->S;
    return (max_place){r * w->dilation_h, s * w->dilation_w, 0};
}

/* The first of n windows along an axis that touch neither end of the image, and the end of those. */
static void inside_along(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t span, ptrdiff_t before, ptrdiff_t size,
                         ptrdiff_t *from, ptrdiff_t *to) {
    ptrdiff_t last = size - 1 - span + before;
    *from = MIN(n, ceil_div(before, stride));
    *to = last < 0 ? *from : MAX(*from, MIN(n, last / stride + 1));
}

static void find_inside(cg_max_pool_backward_args *a) {
    const cg_windows *w = &a->windows;
    inside_along(w->OW, w->stride_w, (w->S - 1) * w->dilation_w, w->left, w->W, &a->inside_from, &a->inside_to);
    inside_along(w->OH, w->stride_h, (w->R - 1) * w->dilation_h, w->top, w->H, &a->rows_inside_from,
                 &a->rows_inside_to);
    a->all_inside = !a->inside_from && a->inside_to == w->OW && !a->rows_inside_from && a->rows_inside_to == w->OH;
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
    ptrdiff_t t = 0;
    if (from == 0 && to <= 128) { /* eight at a time: a sum reaches 128 where a byte is `to` or more */
        const uint64_t each = 0x0101010101010101u, low = 127 * each;
        uint64_t seen = 0, word;
        for (; t + 8 <= n; t += 8) {
            memcpy(&word, (const uint8_t *)indices + t, 8);
            seen |= word | ((word & low) + (uint64_t)(128 - to) * each);
        }
        if (seen & ~low)
            return 0;
    }
    for (; t < n; t++) {
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

/* Windows of up to 32 cells: a bit for each cell of rows i of windows, then of columns j, that lies outside the image;
 * then, for planes of few windows, the same for each window. */
static int windows_small(const cg_max_pool_backward_args *a) {
    return !a->wide && !a->cut.has_empty && a->windows.R * a->windows.S <= 32;
}

static void fill_outside(const cg_windows *w, uint32_t *outside) {
    for (ptrdiff_t k = 0; k < w->OH + w->OW; k++) {
        outside[k] = 0;
        for (ptrdiff_t r = 0; r < w->R; r++)
            for (ptrdiff_t s = 0; s < w->S; s++) {
                ptrdiff_t h = k * w->stride_h - w->top + r * w->dilation_h;
                ptrdiff_t v = (k - w->OH) * w->stride_w - w->left + s * w->dilation_w;
                if (k < w->OH ? h < 0 || h >= w->H : v < 0 || v >= w->W)
                    outside[k] |= (uint32_t)1 << (r * w->S + s);
            }
    }
    uint32_t *of_window = outside + w->OH + w->OW;
    if (windows_few(w))
        for (ptrdiff_t i = 0; i < w->OH; i++)
            for (ptrdiff_t j = 0; j < w->OW; j++)
                *of_window++ = outside[i] | outside[w->OH + j];
}

typedef uint8_t eight_bytes __attribute__((vector_size(8)));
typedef uint32_t eight_words __attribute__((vector_size(32)));

/* Whether none of n indices is one of the bits: bits[0] for all of them where step is 0, bits[t] where it is 1. */
INLINE int none_outside(const uint8_t *indices, ptrdiff_t n, const uint32_t *bits, const int step) {
    eight_words found = {0}, words = found + bits[0];
    uint32_t any = 0;
    ptrdiff_t t = 0;
    for (; t + 8 <= n; t += 8) {
        eight_bytes bytes;
        memcpy(&bytes, indices + t, 8);
        if (step)
            memcpy(&words, bits + t, 32);
        found |= words >> __builtin_convertvector(bytes, eight_words);
    }
    for (; t < n; t++)
        any |= bits[t * step] >> indices[t];
    UNROLL for (int k = 0; k < 8; k++) any |= found[k];
    return !(any & 1);
}

static int small_windows_valid(const cg_max_pool_backward_args *a, const uint32_t *outside, const uint8_t *indices,
                               ptrdiff_t i0, ptrdiff_t i1) {
    const cg_windows *w = &a->windows;
    const uint32_t *columns = outside + w->OH;
    ptrdiff_t Z = w->Z;
    int valid = 1;
    if (windows_few(w))
        return none_outside(indices, (i1 - i0) * w->OW, columns + w->OW + i0 * w->OW, 1);
    for (ptrdiff_t i = i0; i < i1; i++, indices += w->OW * Z) {
        if (outside[i])
            valid &= none_outside(indices, w->OW * Z, outside + i, 0);
        for (ptrdiff_t j = 0; j < a->inside_from; j++)
            valid &= none_outside(indices + j * Z, Z, columns + j, 0);
        for (ptrdiff_t j = a->inside_to; j < w->OW; j++)
            valid &= none_outside(indices + j * Z, Z, columns + j, 0);
    }
    return valid;
}

/* Windows of rows i0 .. i1 - 1 of one plane, whose indices are below R * S. */
static int rows_valid(const cg_max_pool_backward_args *a, const max_place *place, const char *indices, ptrdiff_t i0,
                      ptrdiff_t i1) {
    const cg_windows *w = &a->windows;
    ptrdiff_t Z = w->Z, n = w->OW * Z, bytes = a->wide ? 4 : 1;
    for (ptrdiff_t i = i0; i < i1; i++, indices += n * bytes) {
        if (a->cut.has_empty) {
            for (ptrdiff_t j = 0; j < w->OW; j++)
                if (!window_valid(w, place, i, j, indices, a->wide, j * Z))
                    return 0;
            continue;
        }
        /* rows of cells all at once, columns of cells in the windows that touch an end of the row */
        if (i < a->rows_inside_from || i >= a->rows_inside_to) {
            ptrdiff_t h = i * w->stride_h - w->top;
            ptrdiff_t r0 = taps_from(h, w->dilation_h), r1 = taps_to(h, w->dilation_h, w->R, w->H);
            if (!indices_in_range(indices, a->wide, n, r0 * w->S, r1 * w->S))
                return 0;
        }
        if (!columns_valid(w, place, 0, a->inside_from, indices, a->wide) ||
            !columns_valid(w, place, a->inside_to, w->OW, indices, a->wide))
            return 0;
    }
    return 1;
}

static const max_place *fill_tables(const cg_max_pool_backward_args *a, void *tables) {
    const cg_windows *w = &a->windows;
    if (places_of(w, tables))
        fill_places(w, tables);
    if (windows_small(a) && !a->all_inside)
        fill_outside(w, (uint32_t *)((char *)tables + place_bytes(w)));
    return places_of(w, tables);
}

/* Whether the indices of rows i0 .. i1 - 1 of windows of planes p0 .. p1 - 1 (all rows where there are several) name
 * cells of the image. Raises the flag if not. */
static int check_indices(const cg_max_pool_backward_args *a, const void *tables, ptrdiff_t p0, ptrdiff_t p1,
                         ptrdiff_t i0, ptrdiff_t i1) {
    const cg_windows *w = &a->windows;
    ptrdiff_t bytes = a->wide ? 4 : 1, row = w->OW * w->Z;
    const char *indices = (const char *)a->indices + (p0 * w->OH + i0) * row * bytes;
    const max_place *place = places_of(w, tables);
    const uint32_t *outside = (const uint32_t *)((const char *)tables + place_bytes(w));
    int valid = indices_in_range(indices, a->wide, ((p1 - p0 - 1) * w->OH + i1 - i0) * row, 0, w->R * w->S);
    if (!a->all_inside)
        for (ptrdiff_t p = p0; valid && p < p1; p++, indices += w->OH * row * bytes)
            valid = windows_small(a) ? small_windows_valid(a, outside, (const uint8_t *)indices, i0, i1)
                                     : rows_valid(a, place, indices, i0, i1);
    if (!valid)
        RAISE_FLAG(a->invalid);
    return valid;
}
