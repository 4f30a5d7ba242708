/* Max pooling. y[i, j] is the largest number of window (i, j), index[i, j] = r * S + s its first place there; NaN
 * counts as largest. Padding is -inf with an index beyond all others, so it is never selected.
 *
 * Comparing keeps a vector of values and one of indices. Down a column what wins must be larger, or a NaN where there
 * was none; across, where indices do not ascend, also as large with a smaller index.
 */

/* Indices leave as uint8 or int32. */
INLINE void store_index(void *indices, int wide, ptrdiff_t at, ivec which, ptrdiff_t n) {
    if (wide) {
        int32_t *to = (int32_t *)indices + at, lane[LANES];
        if (LIKELY(n >= LANES))
            v_store_i32(to, which);
        else {
            v_store_i32(lane, which);
            for (int i = 0; i < LANES && i < n; i++)
                to[i] = lane[i];
        }
    } else {
        uint8_t *to = (uint8_t *)indices + at, lane[LANES];
        if (LIKELY(n >= LANES))
            v_store_u8(to, which);
        else {
            v_store_u8(lane, which);
            for (int i = 0; i < LANES && i < n; i++)
                to[i] = lane[i];
        }
    }
}

INLINE void set_index(void *indices, int wide, ptrdiff_t at, ptrdiff_t index) {
    if (wide)
        ((int32_t *)indices)[at] = (int32_t)index;
    else
        ((uint8_t *)indices)[at] = (uint8_t)index;
}
INLINE ptrdiff_t get_index(const void *indices, int wide, ptrdiff_t at) {
    return wide ? ((const int32_t *)indices)[at] : ((const uint8_t *)indices)[at];
}

/* line[t] = the largest of rows x, x + row_step, .. at t, where[t] = S times the number of its row; n numbers */
INLINE void max_rows(const REAL *x, const REAL *end, ptrdiff_t row_step, ptrdiff_t r0, ptrdiff_t r1, ptrdiff_t S,
                     ptrdiff_t n, REAL *line, INT *where, int indexed) {
    for (ptrdiff_t t = 0; t < n; t += LANES) {
        const REAL *p = x + t;
        vec best = pool_load(p, end, n - t);
        ivec which = v_iset1((INT)(r0 * S));
        for (ptrdiff_t r = r0 + 1; r < r1; r++) {
            p += row_step;
            max_down(&best, &which, pool_load(p, end, n - t), v_iset1((INT)(r * S)), indexed);
        }
        v_store(line + t, best);
        if (indexed)
            v_istore(where + t, which);
    }
}

/* The windows of LANES adjacent columns of the line. */
INLINE vec max_columns(const REAL *line, const INT *where, ptrdiff_t step, ptrdiff_t S, ivec *which, int indexed) {
    vec best = v_load(line);
    *which = indexed ? v_iload(where) : v_iset1(0);
    for (ptrdiff_t s = 1; s < S; s++) {
        ivec index = indexed ? v_iload(where + s * step) + v_iset1((INT)s) : v_iset1(0);
        max_across(&best, which, v_load(line + s * step), index, indexed);
    }
    return best;
}

INLINE ivec v_ieven(ivec a, ivec b) {
    return v_bits(v_even(v_from_bits(a), v_from_bits(b)));
}

/* A row of windows from its line; `kept` and `kept_where` are room for the windows of all columns. Results go to
 * number `at` and on, indices likewise; both may be overwritten up to number `end`. */
INLINE void max_emit(const cg_max_pool_args *a, const pool_columns *c, const REAL *line, const INT *where, REAL *kept,
                     INT *kept_where, ptrdiff_t at, ptrdiff_t end, int indexed) {
    const cg_windows *w = &a->windows;
    ptrdiff_t Z = w->Z, S = w->S, step = w->dilation_w * Z, n = c->n * Z;
    REAL *y = a->y;
    ivec which[4];
    if (w->stride_w == 1 || (Z == 1 && (w->stride_w == 2 || w->stride_w == 4))) {
        for (ptrdiff_t t = 0; t < n; t += LANES) {
            vec best;
            if (w->stride_w == 1)
                best = max_columns(line + t, where + t, step, S, which, indexed);
            else if (w->stride_w == 2) {
                const ptrdiff_t u = 2 * t;
                vec low = max_columns(line + u, where + u, step, S, which, indexed);
                best = v_even(low, max_columns(line + u + LANES, where + u + LANES, step, S, which + 1, indexed));
                which[0] = v_ieven(which[0], which[1]);
            } else {
                vec part[4];
                UNROLL for (int q = 0; q < 4; q++) part[q] =
                    max_columns(line + 4 * t + q * LANES, where + 4 * t + q * LANES, step, S, which + q, indexed);
                best = v_even(v_even(part[0], part[1]), v_even(part[2], part[3]));
                which[0] = v_ieven(v_ieven(which[0], which[1]), v_ieven(which[2], which[3]));
            }
            ptrdiff_t room = LIKELY(end - at - t >= LANES) ? LANES : MIN(LANES, n - t);
            if (LIKELY(room == LANES))
                v_store(y + at + t, best);
            else
                v_store_n(y + at + t, best, room);
            if (indexed)
                store_index(a->indices, a->wide, at + t, which[0], room);
        }
        return;
    }
    for (ptrdiff_t t = 0; t < ((c->n - 1) * w->stride_w + 1) * Z; t += LANES) {
        v_store(kept + t, max_columns(line + t, where + t, step, S, which, indexed));
        if (indexed)
            v_istore(kept_where + t, which[0]);
    }
    for (ptrdiff_t t = 0; t < c->n; t++)
        for (ptrdiff_t z = 0; z < Z; z++) {
            ptrdiff_t from = t * w->stride_w * Z + z;
            y[at + t * Z + z] = kept[from];
            if (indexed)
                set_index(a->indices, a->wide, at + t * Z + z, kept_where[from]);
        }
}

/* scratch: the line, the windows of all columns, and the same for indices */
INLINE void max_lines(const cg_max_pool_args *a, const pool_block *b, REAL *line, int indexed) {
    const cg_windows *w = &a->windows;
    ptrdiff_t Z = w->Z, row_size = w->W * Z, length = a->cut.width * Z + POOL_SLACK;
    const REAL *x_end = (const REAL *)a->x + w->planes * w->H * row_size;
    REAL *kept = line + length;
    INT *where = (INT *)(kept + length), *kept_where = where + length;
    /* beyond every index, and no overflow when S is added */
    const INT nowhere = (INT)(((uint64_t)1 << (8 * REAL_BYTES - 1)) - 1 - (uint64_t)w->S);
    for (ptrdiff_t j = 0; j < w->OW; j += a->cut.cols) {
        pool_columns c = pool_columns_at(w, &a->cut, j);
        ptrdiff_t from = c.from * Z, to = c.to * Z, all = c.width * Z;
        for (ptrdiff_t t = 0; t < from; t++) {
            line[t] = lowest;
            where[t] = nowhere;
        }
        for (ptrdiff_t t = all; indexed && t < length; t++) /* S is added to these too, and what comes of it dropped */
            where[t] = nowhere;
        for (ptrdiff_t p = b->p0; p < b->p1; p++)
            for (ptrdiff_t i = b->i0; i < b->i1; i++) {
                ptrdiff_t h = i * w->stride_h - w->top;
                ptrdiff_t r0 = taps_from(h, w->dilation_h), r1 = taps_to(h, w->dilation_h, w->R, w->H), padded = to;
                if (r0 < r1 && from < to) {
                    const REAL *x =
                        (const REAL *)a->x + (p * w->H + h + r0 * w->dilation_h) * row_size + (c.first + c.from) * Z;
                    max_rows(x, x_end, w->dilation_h * row_size, r0, r1, w->S, to - from, line + from, where + from,
                             indexed);
                } else
                    padded = from;
                for (ptrdiff_t t = padded; t < all; t++) { /* after the data, which ran over */
                    line[t] = lowest;
                    where[t] = nowhere;
                }
                ptrdiff_t at = ((p * w->OH + i) * w->OW + c.j0) * Z;
                ptrdiff_t end = c.n == w->OW ? ((b->p1 - 1) * w->OH + b->i1) * w->OW * Z : at + c.n * Z;
                max_emit(a, &c, line, where, kept, kept_where, at, end, indexed);
            }
    }
}

/* Windows two columns wide, next to each other and wholly inside: no line is needed. */
static int max_in_pairs(const cg_windows *w) {
    return w->Z == 1 && w->S == 2 && w->stride_w == 2 && w->dilation_w == 1 && w->dilation_h == 1 && !w->left &&
           !w->top && 2 * w->OW <= w->W && (w->OH - 1) * w->stride_h + w->R <= w->H;
}

INLINE void max_pairs(const cg_max_pool_args *a, const pool_block *b, int indexed) {
    const cg_windows *w = &a->windows;
    const REAL *x_end = (const REAL *)a->x + w->planes * w->H * w->W;
    const ptrdiff_t end = ((b->p1 - 1) * w->OH + b->i1) * w->OW;
    for (ptrdiff_t row = b->p0 * w->OH + b->i0; row < (b->p1 - 1) * w->OH + b->i1; row++) {
        const REAL *x = (const REAL *)a->x + (row / w->OH * w->H + row % w->OH * w->stride_h) * w->W;
        for (ptrdiff_t t = 0; t < w->OW; t += LANES, x += 2 * LANES) {
            const ptrdiff_t at = row * w->OW + t, room = MIN(LANES, end - at), n = w->W - 2 * t;
            vec best = v_zero();
            ivec which = v_iset1(0);
            for (ptrdiff_t r = 0; r < w->R; r++) {
                vec low = pool_load(x + r * w->W, x_end, n), high = low, even;
                if (n > LANES)
                    high = pool_load(x + r * w->W + LANES, x_end, n - LANES);
                even = v_even(low, high);
                if (r)
                    max_down(&best, &which, even, v_iset1((INT)(2 * r)), indexed);
                else
                    best = even;
                max_down(&best, &which, v_odd(low, high), v_iset1((INT)(2 * r + 1)), indexed);
            }
            pool_store((REAL *)a->y + at, (REAL *)a->y + end, best, room);
            if (indexed)
                store_index(a->indices, a->wide, at, which, room);
        }
    }
}

/* Windows without a cell: -inf at index 0. */
static void mark_empty(const cg_max_pool_args *a, const pool_block *b) {
    const cg_windows *w = &a->windows;
    for (ptrdiff_t p = b->p0; p < b->p1; p++)
        for (ptrdiff_t i = b->i0; i < b->i1; i++)
            for (ptrdiff_t j = 0; j < w->OW; j++)
                if (window_empty(w, i * w->stride_h - w->top, j * w->stride_w - w->left))
                    for (ptrdiff_t z = 0; z < w->Z; z++)
                        set_index(a->indices, a->wide, ((p * w->OH + i) * w->OW + j) * w->Z + z, 0);
}

INLINE void max_direct(const cg_max_pool_args *a, const pool_block *b, int indexed) {
    const cg_windows *w = &a->windows;
    ptrdiff_t row_step = w->dilation_h * w->W * w->Z, col_step = w->dilation_w * w->Z;
    for (ptrdiff_t row = b->p0 * w->OH + b->i0; row < (b->p1 - 1) * w->OH + b->i1; row++) {
        ptrdiff_t p = row / w->OH, h = row % w->OH * w->stride_h - w->top;
        ptrdiff_t r0 = taps_from(h, w->dilation_h), r1 = taps_to(h, w->dilation_h, w->R, w->H);
        for (ptrdiff_t j = 0; j < w->OW; j++) {
            ptrdiff_t v = j * w->stride_w - w->left, at = (row * w->OW + j) * w->Z;
            ptrdiff_t s0 = taps_from(v, w->dilation_w), s1 = taps_to(v, w->dilation_w, w->S, w->W);
            const int empty = r0 >= r1 || s0 >= s1;
            const REAL *x = a->x;
            if (!empty)
                x += ((p * w->H + h) * w->W + v) * w->Z;
            for (ptrdiff_t z = 0; z < w->Z; z += LANES) {
                ptrdiff_t n = MIN(LANES, w->Z - z);
                if (n < LANES && w->Z >= LANES) { /* the last vector overlaps the one before */
                    z = w->Z - LANES;
                    n = LANES;
                }
                vec best = v_set1(lowest);
                ivec which = v_iset1((INT)(empty ? 0 : r0 * w->S + s0));
                if (!empty)
                    for (ptrdiff_t r = r0; r < r1; r++)
                        for (ptrdiff_t s = s0; s < s1; s++) {
                            const REAL *q = x + r * row_step + s * col_step + z;
                            max_down(&best, &which, n == LANES ? v_load(q) : v_load_n(q, n),
                                     v_iset1((INT)(r * w->S + s)), indexed);
                        }
                if (n == LANES)
                    v_store((REAL *)a->y + at + z, best);
                else
                    v_store_n((REAL *)a->y + at + z, best, n);
                if (indexed)
                    store_index(a->indices, a->wide, at + z, which, n);
            }
        }
    }
}

#ifdef V_LOAD_WHERE
/* Rows that a window lacks are the nearest ones that it has: to them it makes no difference. */
INLINE void max_quick(const cg_max_pool_args *a, const pool_block *b, const int SIZE, const int STRIDE) {
    const cg_windows *w = &a->windows;
    const REAL *y_end = (const REAL *)a->y + ((b->p1 - 1) * w->OH + b->i1) * w->OW;
    for (ptrdiff_t p = b->p0; p < b->p1; p++)
        for (ptrdiff_t i = b->i0; i < b->i1; i++) {
            const REAL *row[3];
            UNROLL for (int r = 0; r < SIZE; r++) row[r] =
                (const REAL *)a->x + (p * w->H + MIN(MAX(i * w->stride_h - w->top + r, 0), w->H - 1)) * w->W;
            REAL *y = (REAL *)a->y + (p * w->OH + i) * w->OW;
            vec cur = quick_down(row, SIZE, 1, -w->left, w->W);
            for (ptrdiff_t t = 0; t < w->OW; t += LANES)
                pool_store(y + t, y_end, quick_across(row, SIZE, STRIDE, 1, t * STRIDE - w->left, w->W, &cur),
                           w->OW - t);
        }
}
static void max_quickly(const cg_max_pool_args *a, const pool_block *b) {
    if (a->windows.S == 2)
        max_quick(a, b, 2, 2);
    else if (a->windows.stride_w == 1)
        max_quick(a, b, 3, 1);
    else
        max_quick(a, b, 3, 2);
}
#else
#define max_quickly(a, b) ((void)0)
#endif

KERNEL_PLAN(max_pool2d) {
    cg_max_pool_args *a = args_;
    const cg_windows *w = &a->windows;
    a->task.work = (double)w->planes * w->Z * (2.0 * w->H * w->W + 2.0 * w->OH * w->OW * (w->R + w->S));
    pool_cut_windows(w, &a->cut);
    a->task.n_blocks = pool_blocks(w, &a->cut);
    a->task.scratch_bytes = a->cut.direct ? 0 : 4 * (a->cut.width * w->Z + POOL_SLACK) * sizeof(REAL);
    if (is_whole_plane(w))
        a->task.scratch_bytes = MAX(a->task.scratch_bytes, global_scratch(w->Z));
}

KERNEL_RUN(max_pool2d) {
    const cg_max_pool_args *a = args_;
    const cg_windows *w = &a->windows;
    const int whole = is_whole_plane(w);
    for (ptrdiff_t block = begin; block < end; block++) {
        pool_block b = pool_block_at(w, &a->cut, w->OH, block);
        if (whole) {
            for (ptrdiff_t p = b.p0; p < b.p1; p++)
                largest_of_plane((const REAL *)a->x + p * w->H * w->W * w->Z, w->H * w->W, w->Z, scratch_,
                                 (REAL *)a->y + p * w->Z, a->indices, a->wide ? INDEX_I32 : INDEX_U8, p * w->Z);
            continue;
        }
        if (!a->indices && pool_is_quick(w))
            max_quickly(a, &b);
        else if (a->cut.direct) {
            if (a->indices)
                max_direct(a, &b, 1);
            else
                max_direct(a, &b, 0);
        } else if (max_in_pairs(w)) {
            if (a->indices)
                max_pairs(a, &b, 1);
            else
                max_pairs(a, &b, 0);
        } else if (a->indices)
            max_lines(a, &b, scratch_, 1);
        else
            max_lines(a, &b, scratch_, 0);
        if (a->indices && a->cut.has_empty)
            mark_empty(a, &b);
    }
}
