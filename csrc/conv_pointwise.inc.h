/* 1x1 convolution, vectors over pixels: a product of matrices, weights (K, C) times pixels (C, pixels of a sample).
 *
 * A panel is as many pixels as a tile is wide, of as many input channels as one chain of additions has terms
 * (pointwise_run): it stays in L1 while tiles pass. Where the planes of x begin within cache lines, where there is a
 * stride, or where panels are used again, they are copied to scratch. Two orders:
 *
 *   few output channels        Panel after panel, each with all output channels.
 *   many for each input        A span of panels that L2 holds, with a tile of output channels after the other: what is
 *                              written, and the residual, are long runs, which the hardware sees coming.
 *
 * Residual and activation are applied to each tile on its way to y, or after all where terms are few.
 */

/* The offset of pixel j of the output in a plane of x. */
INLINE ptrdiff_t pointwise_pixel(const cg_conv_args *a, ptrdiff_t j) {
    ptrdiff_t cols = a->cols.max_count;
    return a->H == 1 ? j * a->cols.in_step : j / cols * a->rows.in_step * a->x_at.stride_h + j % cols * a->cols.in_step;
}

/* What the next span needs of x and, where that is read panel after panel, of the residual: pieces of one line in each
 * of `run` planes, one piece a tile, spread over the tiles of this span. */
typedef struct {
    const REAL *base[2]; /* NULL: nothing */
    ptrdiff_t step[2], lines[2], planes[2], run, pieces, tiles, due, plane, line;
    int which;
} pointwise_soon;

static void expect(pointwise_soon *s, int which, const REAL *base, ptrdiff_t step, ptrdiff_t pixels, ptrdiff_t planes) {
    s->base[which] = base, s->step[which] = step, s->planes[which] = planes;
    s->lines[which] = ceil_div(pixels, SOON_STEP) + (step % SOON_STEP != 0);
    s->pieces += base ? s->lines[which] * ceil_div(planes, s->run) : 0;
}

/* What the next tile fetches, with the step between its lines; a step of 0 fetches nothing new. */
static const REAL *next_piece(pointwise_soon *s, const REAL *nothing, ptrdiff_t *step) {
    *step = 0;
    s->due += s->pieces;
    if (s->due < s->tiles)
        return nothing;
    s->due = MIN(s->due - s->tiles, s->tiles);
    while (s->which < 2 && !s->base[s->which])
        s->which++;
    if (s->which == 2)
        return nothing;
    *step = s->step[s->which];
    const REAL *piece = s->base[s->which] + s->plane * *step + s->line * SOON_STEP;
    if (++s->line == s->lines[s->which]) {
        s->line = 0;
        s->plane += s->run;
        if (s->plane >= s->planes[s->which])
            s->plane = 0, s->which++;
    }
    return piece;
}

/* Pixels j .. j+n-1 of some channels as rows of whole vectors, with zeros at the end: arithmetic on junk can be slow.
 */
static void copy_panel(const cg_conv_args *a, const REAL *x, ptrdiff_t channels, ptrdiff_t j, ptrdiff_t n, REAL *to) {
    const ptrdiff_t pitch = TILE_ROWS_VECTORS * LANES, cols = a->cols.max_count, step = a->cols.in_step;
    int one_run = step == 1 && a->H == 1;
    if (one_run)
        x += j;
    for (ptrdiff_t c = 0; c < channels; c++, x += a->x_at.stride_c, to += pitch) {
        if (one_run && n == pitch)
            UNROLL for (int v = 0; v < TILE_ROWS_VECTORS; v++) v_store(to + v * LANES, v_load(x + v * LANES));
        else if (one_run)
            copy_run(to, x, n);
        else
            for (ptrdiff_t i = 0, count; i < n; i += count) {
                const REAL *from = x + pointwise_pixel(a, j + i);
                count = MIN(n - i, cols - (j + i) % cols);
                if (step == 1)
                    copy_run(to + i, from, count);
                else if (step == 2)
                    even_run(to + i, from, count);
                else
                    for (ptrdiff_t q = 0; q < count; q++)
                        to[i + q] = from[q * step];
            }
        fill_run(to + n, 0, round_up(n, LANES) - n);
    }
}

/* Channels k0 .. k1-1 of the pixels of a block, which begins with pixel j0. `offset` is where channels begin: in x, and
 * behind that in a panel. Sums that are not yet results, and those of a panel that ends with part of a vector, go over
 * `result`, so that y is written once and in whole lines where it has them. */
static void pointwise_block(const cg_conv_args *a, ptrdiff_t group, ptrdiff_t sample, ptrdiff_t k0, ptrdiff_t k1,
                            ptrdiff_t j0, const REAL *weight, REAL *panels, REAL *result, const int32_t *offset,
                            const REAL *bias) {
    const ptrdiff_t pitch = TILE_ROWS_VECTORS * LANES, step = a->y_at.stride_c, n_k = k1 - k0;
    ptrdiff_t pixels = a->rows.max_count * a->cols.max_count, j1 = MIN(pixels, j0 + a->block_cols);
    ptrdiff_t run = pointwise_run(a), chains = ceil_div(a->C, run), span;
    const REAL *x = (const REAL *)a->x + sample * a->x_at.stride_n + group * a->C * a->x_at.stride_c;
    REAL *y = (REAL *)a->y + sample * a->y_at.stride_n + (group * a->K + k0) * step;
    const REAL *residual = a->residual ? (const REAL *)a->residual + (y - (REAL *)a->y) : 0;
    int late = a->C < LATE_TERMS, one_run = a->cols.in_step == 1 && a->H == 1;
    for (ptrdiff_t j = j0; j < j1; j += span) {
        span = MIN(a->span, j1 - j);
        ptrdiff_t vectors = ceil_div(span, LANES), n_panels = ceil_div(vectors, TILE_ROWS_VECTORS);
        pointwise_soon soon = {.run = run,
                               .tiles = MAX(1, n_panels * chains * ceil_div(n_k, TILE_ROWS_CHANNELS) * 3 / 8)};
        if (j + span < pixels || sample + 1 < a->N) {
            ptrdiff_t next = j + span < pixels ? j + span : 0;
            expect(&soon, 0, x + (next ? 0 : a->x_at.stride_n) + pointwise_pixel(a, next), a->x_at.stride_c,
                   span * a->cols.in_step, a->C);
            if (residual && a->k_range >= n_k)
                expect(&soon, 1, residual + (next ? next : a->y_at.stride_n), step, span, n_k);
        }
        for (ptrdiff_t first = 0; first < n_k; first += a->k_range)
            for (ptrdiff_t c = 0; c < a->C; c += run)
                for (ptrdiff_t p = 0, v = 0, wide; p < n_panels; p++, v += wide) {
                    wide = ceil_div(vectors - v, n_panels - p);
                    ptrdiff_t at = j + v * LANES, n = MIN(wide * LANES, j + span - at), terms = MIN(run, a->C - c);
                    int whole = n == wide * LANES, copy = !whole || a->copies;
                    int last = c + run >= a->C, direct = whole && run == a->C && (late || !FINISHES(a));
                    REAL *panel = panels + (a->k_range < n_k ? p * a->C + c : 0) * pitch;
                    REAL *sums = run < a->C ? result + p * a->k_range * pitch : result;
                    int with_tile = copy && first == 0 && whole && one_run && n_k >= TILE_ROWS_CHANNELS;
                    if (copy && first == 0 && !with_tile)
                        copy_panel(a, x + c * a->x_at.stride_c, terms, at, n, panel);
                    for (ptrdiff_t k = first, width; k < MIN(n_k, first + a->k_range); k += width) {
                        width = MIN(TILE_ROWS_CHANNELS, n_k - k);
                        REAL *to = y + k * step + at, *out = direct ? to : sums;
                        int stream = direct && a->stream && (uintptr_t)out % 64 == 0;
                        ptrdiff_t soon_step, out_step = direct ? step : pitch;
                        const REAL *piece = next_piece(&soon, panel, &soon_step);
                        const REAL *w = weight + k * a->C + c * width, *init = c ? zeros : bias + k;
                        int how = c ? TILE_ADD : stream ? TILE_STREAM : TILE_STORE;
                        if (with_tile && k == 0)
                            tile_rows_copy(wide, w, x + at, offset + c, terms, init, how, out, out_step, piece,
                                           soon_step, panel);
                        else
                            tiles_rows[width][wide](w, copy ? panel : x + at, offset + (copy ? a->C : c), terms, init,
                                                    how, out, out_step, LANES, piece, soon_step);
                        if (last && !direct)
                            finish_rows(late ? CG_IDENTITY : a->activation, (REAL)a->parameter, out, pitch,
                                        residual && !late ? residual + k * step + at : 0, to, step, width, n);
                        sums += run < a->C ? width * pitch : 0;
                    }
                }
        for (ptrdiff_t k = 0; k < n_k && late && FINISHES(a); k++)
            FINISH(a, y + k * step + j, span);
    }
}
