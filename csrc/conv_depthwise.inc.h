/* Depthwise convolution: every output channel reads one plane of x.
 *
 * y[n, k, i, j] = activation(bias[k] + sum over r, s of
 *                 weight[k, r, s] * xpad[n, k / multiplier, i * stride + r, j * stride + s])
 *
 * One block is one plane of x (or a range of its rows) and the planes of y that come from it. The plane is staged with
 * its zero border; a vector of each staged row is loaded once and serves every one of DEPTHWISE_ROWS output rows that
 * it reaches. Columns of a strided convolution are staged by residue, so that vectors are adjacent there too. Squares
 * of 3 and 5 with stride 1 and 2 have loops of their own, with the weights in registers where there are enough of them;
 * everything else goes through conv_direct.inc.h.
 */
#define DEPTHWISE_ROWS 4
#define DEPTHWISE_BYTES (96 << 10) /* staged at a time */
#define DEPTHWISE_LINE 2048        /* results of one class of columns */

/* ------------------------------------------------------------------ staging */

/* Where a plane is staged: rows of `step` residues of `cols` columns, column w of x being column w + left of the
 * border's frame. */
typedef struct {
    ptrdiff_t step, cols, row, top, left;
} depthwise_frame;

/* Rows first .. first+n-1 of the frame of a plane of H x W pixels. The border is zero already; rows outside x are
 * cleared where `clear`. */
static void stage_frame(REAL *stage, const depthwise_frame *frame, ptrdiff_t first, ptrdiff_t n, const REAL *x,
                        ptrdiff_t x_row, ptrdiff_t H, ptrdiff_t W, int clear) {
    ptrdiff_t skip = MAX(0, -frame->left), left = MAX(0, frame->left); /* a frame may begin inside x */
    W = MIN(W - skip, frame->step * frame->cols - left);
    ptrdiff_t i0 = MAX(0, MIN(n, frame->top - first)), i1 = MAX(i0, MIN(n, H + frame->top - first)); /* inside x */
    if (clear) {
        fill_run(stage, 0, i0 * frame->row);
        fill_run(stage + i1 * frame->row, 0, (n - i1) * frame->row);
    }
    x += (first + i0 - frame->top) * x_row + skip;
    stage += i0 * frame->row + (frame->step == 1 ? left : 0);
    ptrdiff_t even = left % 2 * frame->cols + left / 2, odd = (1 - left % 2) * frame->cols + (left + 1) / 2;
    for (ptrdiff_t i = i0; i < i1 && W > 0; i++, stage += frame->row, x += x_row)
        if (frame->step == 2)
            split_run(stage + even, (W + 1) / 2, stage + odd, W / 2, x);
        else if (W < LANES)
            v_store_n(stage, v_load_n(x, W), W);
        else
            copy_run(stage, x, W);
}

/* ------------------------------------------------------------------ forward, gradient by the input with stride 1 */

/* Output rows i .. i+ROWS-1 of a plane, all columns. x points at the staged row of output row i. */
INLINE void depthwise_rows(const int SIZE, const int STRIDE, const int ROWS, const REAL *x, ptrdiff_t row,
                           ptrdiff_t part, const REAL *w, REAL bias, REAL *y, ptrdiff_t y_row, ptrdiff_t cols,
                           int stream) {
    vec weight[25];
    UNROLL for (int i = 0; i < SIZE * SIZE; i++) weight[i] = v_set1(w[i]);
    for (ptrdiff_t j = 0;;) {
        vec sum[DEPTHWISE_ROWS];
        UNROLL for (int o = 0; o < ROWS; o++) sum[o] = v_set1(bias);
        UNROLL for (int h = 0; h < (ROWS - 1) * STRIDE + SIZE; h++) UNROLL for (int s = 0; s < SIZE; s++) {
            vec v = v_load(x + h * row + s % STRIDE * part + s / STRIDE + j);
            UNROLL for (int o = 0; o < ROWS; o++) {
                const int r = h - o * STRIDE;
                if (r >= 0 && r < SIZE)
                    sum[o] = v_fma(weight[r * SIZE + s], v, sum[o]);
            }
        }
        if (stream) {
            UNROLL for (int o = 0; o < ROWS; o++) v_stream(y + o * y_row + j, sum[o]);
        } else if (cols - j >= LANES) {
            UNROLL for (int o = 0; o < ROWS; o++) v_store(y + o * y_row + j, sum[o]);
        } else
            UNROLL for (int o = 0; o < ROWS; o++) v_store_n(y + o * y_row + j, sum[o], cols - j);
        j += LANES;
        if (j >= cols)
            return;
        if (cols - j < LANES) /* the last vector overlaps the one before: no partial store */
            j = cols - LANES;
    }
}

#define DEPTHWISE(SIZE, STRIDE)                                                                                        \
    static void depthwise_##SIZE##_##STRIDE(const REAL *x, ptrdiff_t row, ptrdiff_t part, const REAL *w, REAL bias,    \
                                            REAL *y, ptrdiff_t y_row, ptrdiff_t rows, ptrdiff_t cols, int stream) {    \
        ptrdiff_t i = 0;                                                                                               \
        for (; i + DEPTHWISE_ROWS <= rows; i += DEPTHWISE_ROWS)                                                        \
            depthwise_rows(SIZE, STRIDE, DEPTHWISE_ROWS, x + i * STRIDE * row, row, part, w, bias, y + i * y_row,      \
                           y_row, cols, stream);                                                                       \
        if (i < rows && i > 0) /* the last rows overlap those before */                                                \
            i = rows - DEPTHWISE_ROWS, depthwise_rows(SIZE, STRIDE, DEPTHWISE_ROWS, x + i * STRIDE * row, row, part,   \
                                                      w, bias, y + i * y_row, y_row, cols, stream);                    \
        else                                                                                                           \
            for (; i < rows; i++)                                                                                      \
                depthwise_rows(SIZE, STRIDE, 1, x + i * STRIDE * row, row, part, w, bias, y + i * y_row, y_row, cols,  \
                               stream);                                                                                \
    }
DEPTHWISE(3, 1)
DEPTHWISE(3, 2)
DEPTHWISE(5, 1)
DEPTHWISE(5, 2)
#undef DEPTHWISE

/* Rows that fill less than half a vector: all staged rows as one, whose results are then put together again. */
INLINE int depthwise_is_narrow(const cg_conv_args *a) {
    return a->rows.in_step == 1 && a->cols.max_count * 2 <= LANES;
}

/* Takes the arguments of conv_correlate where both axes have one class and taps at adjacent offsets, C is 1, the kernel
 * a square of 3 or 5, the stride 1 or 2 on both axes, and rows of x and y have adjacent columns; and those of planes
 * that are scaled. */
KERNEL_PLAN(conv_depthwise) {
    cg_conv_args *a = args_;
    if (is_scale(a)) {
        plan_scale(a);
        return;
    }
    ptrdiff_t step = a->rows.in_step, span = a->R - 1;
    a->stage_cols = ceil_div((a->cols.max_count - 1) * step + span + 1, step);
    a->stage_row = step * a->stage_cols;
    ptrdiff_t most = DEPTHWISE_BYTES / (a->stage_row * (ptrdiff_t)sizeof(REAL)) - span;
    a->n_row_blocks = ceil_div(a->rows.max_count, MAX(DEPTHWISE_ROWS, most / step));
    a->block_rows = round_up(ceil_div(a->rows.max_count, a->n_row_blocks), DEPTHWISE_ROWS);
    a->n_row_blocks = ceil_div(a->rows.max_count, a->block_rows);
    a->stage_rows = (MIN(a->block_rows, a->rows.max_count) - 1) * step + span + 1;
    a->block_n = a->c_chunk = 1;
    a->block_cols = a->cols.max_count;
    a->k_group = a->K;
    a->stream = !FINISHES(a) && a->cols.max_count % LANES == 0 &&
                a->y_at.stride_h % (ptrdiff_t)(64 / sizeof(REAL)) == 0 &&
                (double)a->N * a->groups * a->K * a->rows.max_count * a->cols.max_count * sizeof(REAL) >= STREAM_FAR;
    a->result_at = round_up((a->stage_rows * a->stage_row + 2 * LANES) * sizeof(REAL), 64);
    a->slot = depthwise_is_narrow(a) ? round_up(a->block_rows * a->stage_row, LANES) + LANES : 0;
    a->task.scratch_bytes = a->result_at + a->slot * sizeof(REAL);
    a->task.n_blocks = a->N * a->groups * a->n_row_blocks;
    a->task.work = 0.25 * a->N * a->groups * a->K * a->rows.max_count * a->cols.max_count * a->R * a->S;
}

KERNEL_RUN(conv_depthwise) {
    const cg_conv_args *a = args_;
    if (is_scale(a)) {
        run_scale(a, begin, end);
        return;
    }
    REAL *stage = scratch_, *line = (REAL *)((char *)scratch_ + a->result_at);
    ptrdiff_t step = a->rows.in_step, cols = a->cols.max_count;
    const cg_phase *rows = a->rows.phase, *columns = a->cols.phase;
    depthwise_frame frame = {step, a->stage_cols, a->stage_row, -a->rows.min_offset, -a->cols.min_offset};
    ptrdiff_t tap_at[25];
    for (ptrdiff_t r = 0; r < a->R; r++)
        for (ptrdiff_t s = 0; s < a->S; s++)
            tap_at[(rows->tap_offset[r] - a->rows.min_offset) * a->S + columns->tap_offset[s] - a->cols.min_offset] =
                rows->tap_index[r] * a->w_r + columns->tap_index[s] * a->w_s;
    fill_run(stage, 0, a->stage_rows * a->stage_row + 2 * LANES);
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t i = block % a->n_row_blocks * a->block_rows, group = block / a->n_row_blocks % a->groups;
        ptrdiff_t n = block / a->n_row_blocks / a->groups, count = MIN(a->block_rows, a->rows.max_count - i);
        ptrdiff_t plane = a->shuffle ? group % a->shuffle * (a->groups / a->shuffle) + group / a->shuffle : group;
        const REAL *x = (const REAL *)a->x + n * a->x_at.stride_n + plane * a->x_at.stride_c;
        stage_frame(stage, &frame, i * step, (count - 1) * step + a->R, x, a->x_at.stride_h, a->H, a->W,
                    a->n_row_blocks > 1);
        for (ptrdiff_t k = 0; k < a->K; k++) {
            REAL w[25];
            const REAL *from = (const REAL *)a->weight + group * a->w_group + k * a->w_k;
            for (ptrdiff_t t = 0; t < a->R * a->S; t++)
                w[t] = from[tap_at[t]];
            REAL bias = a->bias ? ((const REAL *)a->bias)[group * a->K + k] : 0;
            REAL *y =
                (REAL *)a->y + n * a->y_at.stride_n + (group * a->K + k) * a->y_at.stride_c + i * a->y_at.stride_h;
            ptrdiff_t y_row = a->y_at.stride_h;
            int stream = a->stream && (uintptr_t)y % 64 == 0;
            if (depthwise_is_narrow(a)) {
                ptrdiff_t flat = (count - 1) * a->stage_row + cols;
                if (a->R == 3)
                    depthwise_3_1(stage, a->stage_row, a->stage_cols, w, bias, line, 0, 1, flat, 0);
                else
                    depthwise_5_1(stage, a->stage_row, a->stage_cols, w, bias, line, 0, 1, flat, 0);
                for (ptrdiff_t h = 0; h < count; h++)
                    copy_run(y + h * y_row, line + h * a->stage_row, cols);
            } else if (a->R == 3 && step == 1)
                depthwise_3_1(stage, a->stage_row, a->stage_cols, w, bias, y, y_row, count, cols, stream);
            else if (a->R == 3)
                depthwise_3_2(stage, a->stage_row, a->stage_cols, w, bias, y, y_row, count, cols, stream);
            else if (step == 1)
                depthwise_5_1(stage, a->stage_row, a->stage_cols, w, bias, y, y_row, count, cols, stream);
            else
                depthwise_5_2(stage, a->stage_row, a->stage_cols, w, bias, y, y_row, count, cols, stream);
            if (!FINISHES(a))
                continue;
            for (ptrdiff_t h = 0; h < (y_row == cols ? 1 : count); h++)
                FINISH(a, y + h * y_row, y_row == cols ? count * cols : cols);
        }
    }
    if (a->stream)
        v_stream_end();
}

/* ------------------------------------------------------------------ gradient by the input with stride 2 */

/* y[j] = bias + sum over NR x NS taps of w[r * 3 + s] * g[row_at[r] * row + col_at[s] + j] for j < n, and for up to
 * LANES - 1 more. */
INLINE void depthwise_class(const int NR, const int NS, const REAL *g, ptrdiff_t row, const ptrdiff_t *row_at,
                            const ptrdiff_t *col_at, const REAL *w, REAL bias, REAL *y, ptrdiff_t n) {
    vec weight[9];
    const REAL *from[9];
    UNROLL for (int r = 0; r < NR; r++) UNROLL for (int s = 0; s < NS; s++) {
        weight[r * NS + s] = v_set1(w[r * 3 + s]);
        from[r * NS + s] = g + row_at[r] * row + col_at[s];
    }
    for (ptrdiff_t j = 0; j < n; j += LANES) {
        vec sum = v_set1(bias);
        UNROLL for (int t = 0; t < NR * NS; t++) sum = v_fma(weight[t], v_load(from[t] + j), sum);
        v_store(y + j, sum);
    }
}

static void depthwise_class_any(ptrdiff_t nr, ptrdiff_t ns, const REAL *g, ptrdiff_t row, const ptrdiff_t *row_at,
                                const ptrdiff_t *col_at, const REAL *w, REAL bias, REAL *y, ptrdiff_t n) {
#define CLASS(NR, NS)                                                                                                  \
    case NR * 4 + NS:                                                                                                  \
        depthwise_class(NR, NS, g, row, row_at, col_at, w, bias, y, n);                                                \
        return;
    switch (nr * 4 + ns) {
        CLASS(1, 1)
        CLASS(1, 2)
        CLASS(1, 3)
        CLASS(2, 1)
        CLASS(2, 2)
        CLASS(2, 3)
        CLASS(3, 1)
        CLASS(3, 2)
        CLASS(3, 3)
    }
#undef CLASS
}

/* Takes the arguments of conv_correlate where both axes have two classes of at most three taps, C and K are 1, and rows
 * of x and y have adjacent columns. One block is one plane. The rows of a class are computed as one, as many at a time
 * as keep the results in L1, and both classes of columns interleaved on their way to y. */
KERNEL_PLAN(conv_depthwise_strided_grad) {
    cg_conv_args *a = args_;
    ptrdiff_t counts = 0;
    for (ptrdiff_t v = 0; v < a->cols.n_phases; v++)
        counts += a->cols.phase[v].count;
    a->stage_row = a->stage_cols = a->cols.max_count + a->cols.max_offset - a->cols.min_offset;
    a->stage_rows = a->rows.max_count + a->rows.max_offset - a->rows.min_offset;
    a->result_at = round_up((a->stage_rows * a->stage_row + 2 * LANES) * sizeof(REAL), 64);
    a->block_n = a->c_chunk = a->k_group = 1;
    a->block_rows = MIN(a->rows.max_count, MAX(1, DEPTHWISE_LINE / a->stage_row));
    a->block_cols = counts; /* columns of y */
    a->slot = round_up(a->block_rows * a->stage_row, LANES) + LANES;
    a->task.scratch_bytes = a->result_at + 2 * a->slot * sizeof(REAL);
    a->task.n_blocks = a->N * a->groups;
    a->task.work = 0.25 * a->N * a->groups * a->rows.max_count * a->cols.max_count * a->R * a->S;
}

KERNEL_RUN(conv_depthwise_strided_grad) {
    const cg_conv_args *a = args_;
    REAL *stage = scratch_, *lines = (REAL *)((char *)scratch_ + a->result_at);
    depthwise_frame frame = {1, a->stage_cols, a->stage_row, -a->rows.min_offset, -a->cols.min_offset};
    fill_run(stage, 0, a->stage_rows * a->stage_row + 2 * LANES);
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t n = block / a->groups, group = block % a->groups;
        stage_frame(stage, &frame, 0, a->stage_rows,
                    (const REAL *)a->x + n * a->x_at.stride_n + group * a->x_at.stride_c, a->x_at.stride_h, a->H, a->W,
                    0);
        const REAL *from = (const REAL *)a->weight + group * a->w_group;
        REAL bias = a->bias ? ((const REAL *)a->bias)[group] : 0;
        REAL *plane = (REAL *)a->y + n * a->y_at.stride_n + group * a->y_at.stride_c;
        for (ptrdiff_t u = 0; u < a->rows.n_phases; u++) {
            const cg_phase *rows = a->rows.phase + u;
            ptrdiff_t row_at[3], col_at[3];
            REAL w[9];
            for (ptrdiff_t r = 0; r < rows->n_taps; r++)
                row_at[r] = rows->tap_offset[r] - a->rows.min_offset;
            for (ptrdiff_t i = 0; i < rows->count; i += a->block_rows) {
                ptrdiff_t count = MIN(a->block_rows, rows->count - i);
                for (ptrdiff_t v = 0; v < a->cols.n_phases; v++) {
                    const cg_phase *cols = a->cols.phase + v;
                    for (ptrdiff_t s = 0; s < cols->n_taps; s++) {
                        col_at[s] = cols->tap_offset[s] - a->cols.min_offset;
                        for (ptrdiff_t r = 0; r < rows->n_taps; r++)
                            w[r * 3 + s] = from[rows->tap_index[r] * a->w_r + cols->tap_index[s] * a->w_s];
                    }
                    depthwise_class_any(rows->n_taps, cols->n_taps, stage + i * a->stage_row, a->stage_row, row_at,
                                        col_at, w, bias, lines + v * a->slot, (count - 1) * a->stage_row + cols->count);
                }
                for (ptrdiff_t h = 0; h < count; h++) {
                    REAL *y = plane + (rows->out_first + (i + h) * a->rows.out_step) * a->y_at.stride_h;
                    interleave_run(y, lines + h * a->stage_row, a->slot, a->cols.n_phases, a->block_cols);
                    activate_run(a->activation, (REAL)a->parameter, y, a->block_cols);
                }
            }
        }
    }
}
