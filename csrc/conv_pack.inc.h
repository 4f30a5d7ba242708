/* The form that a direct convolution reads its weights in: tile by tile of output channels, in the order of the sums.
 */

/* Whether each pair of channels has one weight, of a 1x1 kernel: of larger ones a class may take only the last tap. */
static int one_adjacent(const cg_conv_args *a) {
    return a->w_k == 1 && a->n_taps == 1 && a->R * a->S == 1;
}

/* Weights of channels k0 .. k0+n-1 of a group as [classes][c][row tap][column tap][width], zeros where n < width; or
 * where tiles go row by row, as [row tap][c][column tap][width]. */
static void pack_tile(const cg_conv_args *a, const REAL *weight, ptrdiff_t k0, ptrdiff_t n, ptrdiff_t width, REAL *to,
                      REAL *temp) {
    const REAL *w = weight + k0 * a->w_k;
    int vectors = width % LANES == 0;
    if (is_natural(a) && !a->row_by_row) {
        transpose_block(to, width, w, a->w_k, n, a->C * a->R * a->S, vectors);
        return;
    }
    if (!vectors && one_adjacent(a)) {
        for (ptrdiff_t c = 0; c < a->C; c++, w += a->w_c, to += width) {
            PREFETCH(w + 16 * a->w_c); /* rows that hardware does not see coming */
            copy_run(to, w, n);
        }
        return;
    }
    int adjacent = vectors && a->w_k == 1, square = vectors && a->w_s == 1 && a->w_r == a->S;
    for (ptrdiff_t c = 0; c < a->C; c++, w += a->w_c) {
        if (square && !adjacent)
            transpose_block(temp, width, w, a->w_k, n, a->R * a->S, 1);
        REAL *base = to;
        for (ptrdiff_t u = 0; u < a->rows.n_phases; u++)
            for (ptrdiff_t v = 0; v < a->cols.n_phases; v++) {
                const cg_phase *rows = a->rows.phase + u, *cols = a->cols.phase + v;
                ptrdiff_t taps = rows->n_taps * cols->n_taps;
                REAL *p = base + c * (a->row_by_row ? cols->n_taps : taps) * width;
                base += a->C * taps * width;
                for (ptrdiff_t i = 0; i < rows->n_taps; i++, p += a->row_by_row ? (a->C - 1) * cols->n_taps * width : 0)
                    for (ptrdiff_t j = 0; j < cols->n_taps; j++, p += width) {
                        ptrdiff_t r = rows->tap_index[i], s = cols->tap_index[j];
                        if (adjacent) {
                            copy_run(p, w + r * a->w_r + s * a->w_s, n);
                            fill_run(p + n, 0, width - n);
                        } else if (square)
                            copy_run(p, temp + (r * a->S + s) * width, width);
                        else {
                            const REAL *q = w + r * a->w_r + s * a->w_s;
                            for (ptrdiff_t k = 0; k < n; k++)
                                p[k] = q[k * a->w_k];
                            for (ptrdiff_t k = n; k < width; k++)
                                p[k] = 0;
                        }
                    }
            }
    }
}

INLINE ptrdiff_t tile_width(const cg_conv_args *a, ptrdiff_t channels_left) {
    return a->vectors_over_pixels ? MIN(TILE_ROWS_CHANNELS, channels_left) : channel_vectors(channels_left) * LANES;
}

/* Weights of channels k0 .. k1-1 of one group, as correlate_block takes them. */
static void pack_range(const cg_conv_args *a, ptrdiff_t group, ptrdiff_t k0, ptrdiff_t k1, REAL *to, REAL *temp) {
    const REAL *w = (const REAL *)a->weight + group * a->w_group;
    if (a->vectors_over_pixels && one_adjacent(a)) /* several tiles read each cache line */
        for (ptrdiff_t n; k0 + TILE_ROWS_CHANNELS <= k1; k0 += n, to += n * a->C) {
            n = MIN(4, (k1 - k0) / TILE_ROWS_CHANNELS) * TILE_ROWS_CHANNELS;
            for (ptrdiff_t c = 0; c < a->C; c++) {
                const REAL *from = w + k0 + c * a->w_c;
                PREFETCH(from + 16 * a->w_c); /* rows that hardware does not see coming */
                PREFETCH(from + 16 * a->w_c + n - 1);
                for (ptrdiff_t k = 0; k < n; k += TILE_ROWS_CHANNELS)
                    memcpy(to + k * a->C + c * TILE_ROWS_CHANNELS, from + k, TILE_ROWS_CHANNELS * sizeof(REAL));
            }
        }
    for (ptrdiff_t k = k0, width; k < k1; k += width) {
        width = tile_width(a, k1 - k);
        pack_tile(a, w, k, MIN(width, k1 - k), width, to + (k - k0) * a->C * a->n_taps, temp);
    }
}

INLINE ptrdiff_t packed_range(const cg_conv_args *a) { /* elements of a range of k */
    return a->C * a->n_taps * round_up(a->k_group, LANES);
}

/* A block is one tile of channels. */
KERNEL_PLAN(conv_pack) {
    cg_conv_args *a = args_;
    CG_JOIN(conv_correlate_plan__, CG_SUFFIX)(args_);
    a->packed_bytes = a->groups * a->n_k_groups * packed_range(a) * sizeof(REAL);
    a->task.n_blocks = a->groups * a->n_k_groups * ceil_div(a->k_group, tile_width(a, a->k_group));
    a->task.work = 0.25 * a->groups * a->K * a->C * a->n_taps;
}

KERNEL_RUN(conv_pack) {
    const cg_conv_args *a = args_;
    ptrdiff_t step = tile_width(a, a->k_group), tiles = ceil_div(a->k_group, step);
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t range = block / tiles, part = block % tiles * step;
        ptrdiff_t k0 = range % a->n_k_groups * a->k_group, k1 = MIN(MIN(a->K, k0 + a->k_group), k0 + part + step);
        if (k0 + part < k1)
            pack_range(a, range / a->n_k_groups, k0 + part, k1,
                       (REAL *)a->packed + range * packed_range(a) + part * a->C * a->n_taps,
                       (REAL *)((char *)scratch_ + a->temp_at));
    }
}
