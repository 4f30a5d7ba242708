/* Moving blocks of numbers: runs, transposes, zero-bordered copies. */

INLINE void copy_run(REAL *to, const REAL *from, ptrdiff_t n) {
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(to + i, v_load(from + i));
    if (i < n) {
        if (n >= LANES) /* overlap: no partial vector */
            v_store(to + n - LANES, v_load(from + n - LANES));
        else
            v_store_n(to, v_load_n(from, n), n);
    }
}

/* The same past the cache, to whole lines of it. */
INLINE void stream_run(REAL *to, const REAL *from, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += LANES)
        v_stream(to + i, v_load(from + i));
}

INLINE void fill_run(REAL *to, REAL value, ptrdiff_t n) {
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(to + i, v_set1(value));
    if (i < n)
        v_store_n(to + i, v_set1(value), n - i);
}

/* to[i] = from[2 * i]; nothing beyond from[2 * n - 2] is read. */
INLINE void even_run(REAL *to, const REAL *from, ptrdiff_t n) {
    ptrdiff_t i = 0;
    for (; i + LANES < n; i += LANES)
        v_store(to + i, v_even(v_load(from + 2 * i), v_load(from + 2 * i + LANES)));
    if (i < n) {
        ptrdiff_t rest = 2 * (n - i) - 1;
        vec a = rest >= LANES ? v_load(from + 2 * i) : v_load_n(from + 2 * i, rest);
        vec b = rest > LANES ? v_load_n(from + 2 * i + LANES, MIN(LANES, rest - LANES)) : v_zero();
        v_store_n(to + i, v_even(a, b), n - i);
    }
}

/* even[i] = from[2 * i] for i < n_even, odd[i] = from[2 * i + 1] for i < n_odd; no more is read. */
INLINE void split_run(REAL *even, ptrdiff_t n_even, REAL *odd, ptrdiff_t n_odd, const REAL *from) {
    ptrdiff_t n = MAX(2 * n_even - 1, 2 * n_odd);
    for (ptrdiff_t i = 0; 2 * i < n; i += LANES) {
        ptrdiff_t rest = n - 2 * i;
        vec a = rest >= LANES ? v_load(from + 2 * i) : v_load_n(from + 2 * i, rest);
        vec b = v_zero();
        if (rest > LANES)
            b = rest >= 2 * LANES ? v_load(from + 2 * i + LANES) : v_load_n(from + 2 * i + LANES, rest - LANES);
        if (n_even - i >= LANES)
            v_store(even + i, v_even(a, b));
        else if (n_even > i)
            v_store_n(even + i, v_even(a, b), n_even - i);
        if (n_odd - i >= LANES)
            v_store(odd + i, v_odd(a, b));
        else if (n_odd > i)
            v_store_n(odd + i, v_odd(a, b), n_odd - i);
    }
}

/* to[c * to_step + r] = from[r * from_step + c] for r < n_rows, c < n_cols.
 * Rows r = n_rows .. round_up(n_rows, LANES) - 1 of `to` become 0 where pad is set; else nothing beyond n_rows is
 * written. */
static UNUSED void transpose_block(REAL *to, ptrdiff_t to_step, const REAL *from, ptrdiff_t from_step, ptrdiff_t n_rows,
                                   ptrdiff_t n_cols, int pad) {
    for (ptrdiff_t r = 0; r < n_rows; r += LANES) {
        ptrdiff_t rows = MIN(LANES, n_rows - r);
        for (ptrdiff_t c = 0; c < n_cols; c += LANES) {
            ptrdiff_t cols = MIN(LANES, n_cols - c);
            vec v[LANES];
            const REAL *p = from + r * from_step + c;
            if (LIKELY(rows == LANES && cols == LANES)) {
                UNROLL for (int i = 0; i < LANES; i++) {
                    v[i] = v_load(p + i * from_step);
                    PREFETCH(p + i * from_step + 4 * LANES); /* many rows at once are more than hardware follows */
                }
            } else if (LANES >= 8 && rows == LANES) {
                UNROLL for (int i = 0; i < LANES; i++) v[i] = v_load_n(p + i * from_step, cols);
            } else
                for (int i = 0; i < LANES; i++)
                    v[i] = i < rows ? (cols == LANES ? v_load(p + i * from_step) : v_load_n(p + i * from_step, cols))
                                    : v_zero();
            v_transpose(v);
            REAL *q = to + c * to_step + r;
            if (LIKELY(rows == LANES || pad)) {
                UNROLL for (int i = 0; i < LANES; i++) if (LIKELY(i < cols)) v_store(q + i * to_step, v[i]);
            } else
                for (int i = 0; i < cols; i++)
                    v_store_n(q + i * to_step, v[i], rows);
        }
    }
}

/* First and end of the columns (or rows) j < n for which w0 + j * step lies in the image. */
NOINLINE void inside(ptrdiff_t w0, ptrdiff_t step, ptrdiff_t n, ptrdiff_t W, ptrdiff_t *j0, ptrdiff_t *j1) {
    *j0 = w0 >= 0 ? 0 : MIN(n, ceil_div(-w0, step));
    *j1 = w0 >= W ? *j0 : MAX(*j0, MIN(n, ceil_div(W - w0, step)));
}

/* stage_planes for step_w = parts_w = 2 and stride_w = 1: one pass for both classes of columns. */
static void stage_split(REAL *to, ptrdiff_t plane, ptrdiff_t row, ptrdiff_t n_rows, ptrdiff_t n_cols, const REAL *x,
                        const cg_strides *at, ptrdiff_t C, ptrdiff_t H, ptrdiff_t W, ptrdiff_t first_h,
                        ptrdiff_t first_w, ptrdiff_t step_h) {
    const int e = first_w < 0 && first_w % 2; /* the class of the first column that is read */
    ptrdiff_t j0[2], j1[2];
    for (int b = 0; b < 2; b++)
        inside(first_w + b, 2, n_cols, W, j0 + b, j1 + b);
    for (ptrdiff_t c = 0; c < C; c++)
        for (ptrdiff_t a = 0; a < step_h; a++) {
            REAL *p[2] = {to + c * plane + 2 * a * n_rows * row, to + c * plane + (2 * a + 1) * n_rows * row};
            for (ptrdiff_t i = 0; i < n_rows; i++, p[0] += row, p[1] += row) {
                ptrdiff_t h = first_h + i * step_h + a;
                const int within = h >= 0 && h < H;
                for (int b = 0; b < 2; b++) {
                    for (ptrdiff_t j = 0; j < j0[b] && within; j++)
                        p[b][j] = 0;
                    fill_run(p[b] + (within ? j1[b] : 0), 0, n_cols - (within ? j1[b] : 0));
                }
                if (within)
                    split_run(p[e] + j0[e], j1[e] - j0[e], p[!e] + j0[!e], j1[!e] - j0[!e],
                              x + c * at->stride_c + h * at->stride_h + MAX(0, first_w));
            }
        }
}

/* A block of an image with zeros around it, one plane a channel, split into residue classes:
 * to[c * plane + (a * parts_w + b) * (n_rows * row) + i * row + j] = x[c, first_h + i * step_h + a, first_w + j *
 * step_w + b] for i < n_rows, j < n_cols, a < step_h, b < parts_w (step_w, or 1 for the first class of columns only); 0
 * outside the image. */
static void stage_planes(REAL *to, ptrdiff_t plane, ptrdiff_t row, ptrdiff_t n_rows, ptrdiff_t n_cols, const REAL *x,
                         const cg_strides *at, ptrdiff_t C, ptrdiff_t H, ptrdiff_t W, ptrdiff_t first_h,
                         ptrdiff_t first_w, ptrdiff_t step_h, ptrdiff_t step_w, ptrdiff_t parts_w) {
    if (step_w == 2 && parts_w == 2 && at->stride_w == 1) {
        stage_split(to, plane, row, n_rows, n_cols, x, at, C, H, W, first_h, first_w, step_h);
        return;
    }
    for (ptrdiff_t c = 0; c < C; c++)
        for (ptrdiff_t a = 0; a < step_h; a++)
            for (ptrdiff_t b = 0; b < parts_w; b++) {
                REAL *p = to + c * plane + (a * parts_w + b) * n_rows * row;
                /* columns j0 .. j1-1 are inside the image */
                ptrdiff_t w0 = first_w + b, j0, j1;
                inside(w0, step_w, n_cols, W, &j0, &j1);
                /* rows i0 .. i1-1 as well */
                ptrdiff_t h0 = first_h + a, i0, i1;
                inside(h0, step_h, n_rows, H, &i0, &i1);
                const ptrdiff_t step = step_w * at->stride_w, down = step_h * at->stride_h;
                const REAL *q =
                    x + c * at->stride_c + (h0 + i0 * step_h) * at->stride_h + (w0 + j0 * step_w) * at->stride_w;
                const int border = j1 - j0 < n_cols || i1 - i0 < n_rows, at_once = n_cols <= 4 * LANES;
                if (step == 1 && !border && row == n_cols && down == row) { /* rows follow each other */
                    copy_run(p, q, n_rows * row);
                    continue;
                }
                if (border && at_once) /* faster than short runs of zeros in every row */
                    for (ptrdiff_t i = 0; i < (row == n_cols ? 1 : n_rows); i++)
                        fill_run(p + i * row, 0, row == n_cols ? n_rows * row : n_cols);
                for (ptrdiff_t i = 0; i < n_rows; i++, p += row) {
                    if (i < i0 || i >= i1) {
                        if (!at_once)
                            fill_run(p, 0, n_cols);
                        continue;
                    }
                    for (ptrdiff_t j = 0; j < n_cols - (j1 - j0) && !at_once; j++) {
                        ONE_BY_ONE;
                        p[j < j0 ? j : j1 + j - j0] = 0;
                    }
                    if (step == 1)
                        copy_run(p + j0, q, j1 - j0);
                    else if (step == 2)
                        even_run(p + j0, q, j1 - j0);
                    else
                        for (ptrdiff_t j = j0; j < j1; j++)
                            p[j] = q[(j - j0) * step];
                    q += down;
                }
            }
}

/* The same block with the channels of a pixel adjacent: to[i * row + j * C + c] = x[c, first_h + i, first_w + j]. Needs
 * stride_c = 1. */
static void stage_pixels(REAL *to, ptrdiff_t row, ptrdiff_t n_rows, ptrdiff_t n_cols, const REAL *x,
                         const cg_strides *at, ptrdiff_t C, ptrdiff_t H, ptrdiff_t W, ptrdiff_t first_h,
                         ptrdiff_t first_w) {
    ptrdiff_t j0 = first_w >= 0 ? 0 : MIN(n_cols, -first_w), j1 = MAX(j0, MIN(n_cols, W - first_w));
    for (ptrdiff_t i = 0; i < n_rows; i++, to += row) {
        ptrdiff_t h = first_h + i;
        if (h < 0 || h >= H) {
            fill_run(to, 0, n_cols * C);
            continue;
        }
        const REAL *q = x + h * at->stride_h + (first_w + j0) * at->stride_w;
        fill_run(to, 0, j0 * C);
        if (at->stride_w == C)
            copy_run(to + j0 * C, q, (j1 - j0) * C);
        else
            for (ptrdiff_t j = j0; j < j1; j++, q += at->stride_w)
                copy_run(to + j * C, q, C);
        fill_run(to + j1 * C, 0, (n_cols - j1) * C);
    }
}
