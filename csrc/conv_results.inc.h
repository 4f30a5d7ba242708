/* From the tiles' results of a direct convolution to y: which part of y a block computes, and how it is stored there.
 */

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

/* to[i * n_from + v] = from[v * step + i] for i * n_from + v < n; whole vectors of `from` are read. */
static void interleave_run(REAL *to, const REAL *from, ptrdiff_t step, ptrdiff_t n_from, ptrdiff_t n) {
    ptrdiff_t i = 0;
    if (n_from == 2) {
        for (; 2 * i < n; i += LANES) {
            vec even = v_load(from + i), odd = v_load(from + step + i);
            ptrdiff_t rest = n - 2 * i;
            if (rest >= LANES)
                v_store(to + 2 * i, v_zip_low(even, odd));
            else
                v_store_n(to + 2 * i, v_zip_low(even, odd), rest);
            if (rest >= 2 * LANES)
                v_store(to + 2 * i + LANES, v_zip_high(even, odd));
            else if (rest > LANES)
                v_store_n(to + 2 * i + LANES, v_zip_high(even, odd), rest - LANES);
        }
        return;
    }
    for (; i < n; i++)
        to[i] = from[i % n_from * step + i / n_from];
}

/* Move results to y and activate them: [pixel][width] with the classes of columns interleaved (over channels), or for
 * each class of columns [channel][row of the stage] (over pixels). */
static void store_results(const cg_conv_args *a, const conv_block *b, const conv_part *part, const REAL *result,
                          ptrdiff_t width, ptrdiff_t k0, ptrdiff_t n, ptrdiff_t flat) {
    const cg_strides at = a->y_at;
    ptrdiff_t rows = part->rows, wide = part->wide, step_h = a->rows.out_step * at.stride_h, classes = a->cols.n_phases;
    ptrdiff_t pitch = part->cols * classes * width; /* of a row of results over channels */
    /* rows are adjacent in y: one last pass over all */
    const int copies = a->vectors_over_pixels && at.stride_w == 1 && classes == 1 && !a->stream_rows;
    const int together = at.stride_w == 1 && step_h == wide && !copies;
    int stream = a->stream_rows && at.stride_w == 1 && classes == 1 && wide % (ptrdiff_t)(64 / sizeof(REAL)) == 0;
    /* finished on their way */
    const int at_once = a->vectors_over_pixels && at.stride_w == 1 && classes == 1 && FINISHES(a) &&
                        (a->activation == CG_RELU || a->activation == CG_IDENTITY);
    if (at.stride_w == 1 && step_h == wide && classes == 1 && (!a->vectors_over_pixels || a->stage_row == wide)) {
        wide *= rows; /* rows follow each other */
        rows = 1;
    }
    for (ptrdiff_t sample = b->n0; sample < b->n1; sample++, result += part->rows * pitch) {
        REAL *y = (REAL *)a->y + sample * at.stride_n + (b->group * a->K + k0) * at.stride_c +
                  part->first_h * at.stride_h + part->first_w * at.stride_w;
        for (ptrdiff_t i = 0; i < rows; i++, y += step_h) {
            if (copies) {
                finish_rows(a->activation, (REAL)a->parameter, result + i * a->stage_row, flat,
                            a->residual ? (const REAL *)a->residual + (y - (REAL *)a->y) : 0, y, at.stride_c, n, wide);
                continue;
            }
            if (a->vectors_over_pixels) {
                const REAL *from = result + i * a->stage_row;
                if (at_once) {
                    finish_rows(a->activation, 0, from, flat,
                                a->residual ? (const REAL *)a->residual + (y - (REAL *)a->y) : 0, y, at.stride_c, n,
                                wide);
                    continue;
                }
                for (ptrdiff_t k = 0; k < n; k++, from += flat) {
                    REAL *to = y + k * at.stride_c;
                    if (stream && (uintptr_t)to % 64 == 0)
                        stream_run(to, from, wide);
                    else if (at.stride_w == 1 && classes == 1)
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
            if (!FINISHES(a) || together)
                continue;
            if (at.stride_w == 1)
                for (ptrdiff_t k = 0; k < n; k++)
                    FINISH(a, y + k * at.stride_c, wide);
            else
                for (ptrdiff_t j = 0; j < wide; j++)
                    for (ptrdiff_t k = 0; k < n; k += at.stride_c == 1 ? n : 1)
                        FINISH(a, y + j * at.stride_w + k * at.stride_c, at.stride_c == 1 ? n : 1);
        }
        for (ptrdiff_t k = 0; k < n && FINISHES(a) && together && !at_once; k++)
            FINISH(a, y - rows * step_h + k * at.stride_c, rows * wide);
    }
}
