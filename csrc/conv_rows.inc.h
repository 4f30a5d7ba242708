/* Tiles over pixels that do not cross the rows of the image, and tiles over samples.
 *
 *   row by row   For small images with a wide border, as the gradient by the input has it. A row of output takes whole
 *                vectors, of which some lanes may be empty, but only the row taps that lie in the image, which is why
 *                row taps are the outermost terms. A tile takes the vectors of a row, or where a row has one, those of
 *                adjacent rows with much the same taps.
 *   by samples   For small images and at least about a vector of samples: these are the lanes, so that none is empty
 *                and all loads are of whole lines. The order of the terms and the chains are those of the way that
 *                fewer samples take, with the same bits as result.
 */

/* Where a block stands. */
typedef struct {
    ptrdiff_t part, group, k0, k1, n0, n1, i0, j0; /* part: range and share of k */
    const REAL *next; /* where the input of the next block begins, for 1x1 kernels: there every term is one channel's */
    const REAL *ahead; /* where x is not staged: weights that the next block will pack */
    wanted soon[2];    /* this block's results and the next one's input, for other kernels */
    int skips;         /* row by row: taps over the border are left out, as all weights are finite */
} conv_block;

/* Whether no weight is NaN or infinite: those must meet the zeros of the border. */
static int all_finite(const REAL *x, ptrdiff_t n) {
    vec sum = v_zero();
    for (ptrdiff_t i = 0; i < n; i += LANES)
        sum += v_load_some(x + i, MIN(LANES, n - i)) * v_zero();
    return v_sum(sum) == 0;
}

/* One tile: its terms t0 .. t1 - 1, chain by chain, the first from `bias` even if it has none. */
static void add_chains(const cg_conv_args *a, tile_rows_fn *tile, ptrdiff_t t0, ptrdiff_t t1, const REAL *w,
                       ptrdiff_t width, const REAL *x, const int32_t *offset, const REAL *bias, REAL *out,
                       ptrdiff_t out_step, ptrdiff_t step, wanted *list) {
    for (ptrdiff_t chain = 0; chain == 0 || chain < t1; chain += a->chain) {
        const ptrdiff_t from = MAX(t0, chain), n = MIN(t1, chain + a->chain) - from;
        const REAL *soon = out;
        ptrdiff_t soon_step = 0;
        if (chain && n <= 0)
            continue;
        if (list->runs + list[1].runs)
            soon = want_next(list, n, &soon_step);
        tile(w + from * width, x, offset + from, n, chain ? zeros : bias, chain ? TILE_ADD : TILE_STORE, out, out_step,
             step, soon, soon_step);
    }
}

/* Rows i0 .. i0 + n_rows - 1. skips: taps over the border are left out. */
static void add_row_by_row(const cg_conv_args *a, ptrdiff_t i0, ptrdiff_t n_rows, ptrdiff_t n_cols, const REAL *stage,
                           const REAL *w, const int32_t *offset, ptrdiff_t terms, ptrdiff_t width, const REAL *bias,
                           REAL *result, ptrdiff_t flat, int skips, wanted *list) {
    const ptrdiff_t n_taps = a->rows.phase->n_taps, of_tap = terms / n_taps, most = row_tile_vectors((int)width);
    const ptrdiff_t of_row = ceil_div(n_cols, LANES), step = of_row > 1 ? LANES : a->stage_row;
    for (ptrdiff_t i = 0, tall; i < n_rows; i += tall) {
        ptrdiff_t first = 0, end = n_taps, used, vectors = of_row;
        if (skips)
            end = taps_inside(a, i0 + i, &first);
        used = end - first;
        for (tall = 1; of_row == 1 && tall < MIN(most, n_rows - i); vectors = ++tall) {
            ptrdiff_t from = 0, to = n_taps, inside;
            if (skips)
                to = taps_inside(a, i0 + i + tall, &from);
            inside = to - from, from = MIN(from, first), to = MAX(to, end);
            if ((to - from) * (tall + 1) > used + inside + 1) /* one tap too much at most */
                break;
            first = from, end = to, used += inside;
        }
        for (ptrdiff_t v = 0, take; v < vectors; v += take) {
            const ptrdiff_t at = i * a->stage_row + v * step;
            take = ceil_div(vectors - v, ceil_div(vectors - v, most));
            add_chains(a, tiles_rows[width][take], first * of_tap, end * of_tap, w, width, stage + at, offset, bias,
                       result + at, flat, step, list);
        }
    }
}

#if LANES >= 8
/* Channels k0 .. k1 - 1 of rows i0 .. i0 + n_rows - 1 of up to LANES samples from n0 on. The stage is
 * [channel][row][column][sample], with the border. */
static void correlate_samples(const cg_conv_args *a, const conv_block *b, ptrdiff_t n_rows, const REAL *weight,
                              REAL *stage, REAL *result, const int32_t *offset, const REAL *bias) {
    const ptrdiff_t samples = b->n1 - b->n0, cols = a->cols.max_count, taps = a->rows.phase->n_taps;
    const ptrdiff_t first_h = b->i0 + a->rows.min_offset, j0 = MAX(0, -a->cols.min_offset);
    const ptrdiff_t from_w = MAX(0, a->cols.min_offset), width = MAX(0, MIN(a->W - from_w, a->stage_cols - j0));
    const ptrdiff_t n_staged = n_rows - 1 + a->rows.max_offset - a->rows.min_offset + 1, row = a->stage_row;
    wanted none[2] = {0};
    for (ptrdiff_t c = 0; c < a->C; c++)
        for (ptrdiff_t i = 0; i < n_staged; i++) {
            const ptrdiff_t h = first_h + i;
            REAL *to = stage + c * a->stage_plane + i * row;
            if (h < 0 || h >= a->H || width == 0) {
                if (!b->skips || width == 0)
                    fill_run(to, 0, row);
                continue;
            }
            fill_run(to, 0, j0 * LANES);
            transpose_block(to + j0 * LANES, LANES,
                            (const REAL *)a->x + b->n0 * a->x_at.stride_n + (b->group * a->C + c) * a->x_at.stride_c +
                                h * a->x_at.stride_h + from_w,
                            a->x_at.stride_n, samples, width, 1);
            fill_run(to + (j0 + width) * LANES, 0, row - (j0 + width) * LANES);
        }
    for (ptrdiff_t i = 0, rows; i < n_rows; i += rows) {
        rows = MIN(a->rows_at_once, n_rows - i);
        for (ptrdiff_t k = b->k0, n; k < b->k1; k += n) {
            const ptrdiff_t pixels = rows * cols;
            n = MIN(TILE_ROWS_CHANNELS, b->k1 - k);
            const int most = row_tile_vectors((int)n);
            for (ptrdiff_t q = 0; q < rows; q++) {
                ptrdiff_t first = 0, end = taps;
                if (b->skips)
                    end = taps_inside(a, b->i0 + i + q, &first);
                first *= a->C * a->n_taps / taps, end *= a->C * a->n_taps / taps;
                for (ptrdiff_t j = 0, take; j < cols; j += take) {
                    take = ceil_div(cols - j, ceil_div(cols - j, most));
                    add_chains(a, tiles_rows[n][take], first, end, weight + (k - b->k0) * a->C * a->n_taps, n,
                               stage + (i + q) * row + j * LANES, offset, bias + k - b->k0,
                               result + (q * cols + j) * LANES, pixels * LANES, LANES, none);
                }
            }
            for (ptrdiff_t q = 0; q < n; q++) {
                activate_run(a->activation, (REAL)a->parameter, result + q * pixels * LANES, pixels * LANES);
                transpose_block((REAL *)a->y + b->n0 * a->y_at.stride_n + (b->group * a->K + k + q) * a->y_at.stride_c +
                                    (b->i0 + i) * cols,
                                a->y_at.stride_n, result + q * pixels * LANES, LANES, pixels, samples, 0);
            }
        }
    }
}
#endif
