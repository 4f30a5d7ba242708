/* The gradient of average pooling.
 *
 * The gradient by x of the average is u[h, w] = sum of grad_output[i, j] / count[i, j] over the windows that see (h,
 * w). For each row of the image the rows of grad_output that see it are summed into a line with zeros on both sides;
 * then every pixel adds up its windows. With w + left = t * stride_w + residue, tap s of that residue belongs to window
 * j = t - s * dilation_w / stride_w: contiguous in t, so each residue of columns is a sum of shifted pieces of the
 * line, and the residues are interleaved at last. Where a pixel has LANES numbers or more, vectors run over those
 * instead ("direct").
 */

/* What does not change from row to row. */
typedef struct {
    ptrdiff_t slots;               /* residues that some tap has; the residue of slot c is c * dilation_w % stride_w */
    ptrdiff_t taps;                /* at most, of one slot */
    ptrdiff_t t0, columns;         /* columns t0 .. t0 + columns - 1 of the residues hold the pixels of a row */
    ptrdiff_t before, pitch;       /* numbers before the first window in the line; numbers of a line */
    const ptrdiff_t *tap;          /* [slot][taps] */
    const ptrdiff_t *n_taps;       /* [slot] */
    const ptrdiff_t *first, *last; /* direct: windows of each column of pixels */
    const REAL *cells;             /* of a row of each window, Z times, where windows differ */
} spread_columns;

static ptrdiff_t count_slots(const cg_windows *w) {
    ptrdiff_t a = w->stride_w, b = w->dilation_w;
    while (b) { /* min(S, stride / gcd(stride, dilation)) */
        ptrdiff_t rest = a % b;
        a = b;
        b = rest;
    }
    return MIN(w->S, w->stride_w / a);
}

/* Sizes alone. */
static spread_columns measure_columns(const cg_avg_pool_args *a) {
    const cg_windows *w = &a->windows;
    spread_columns c = {0};
    ptrdiff_t reach = (w->S - 1) * w->dilation_w / w->stride_w;
    c.slots = count_slots(w);
    c.taps = ceil_div(w->S, c.slots);
    c.t0 = w->left / w->stride_w;
    c.columns = (w->W - 1 + w->left) / w->stride_w - c.t0 + 1;
    c.before = a->cut.direct ? 0 : reach * w->Z;
    c.pitch = round_up((a->cut.direct ? w->OW : MAX(w->OW, c.t0 + c.columns) + reach) * w->Z + POOL_SLACK, 16);
    return c;
}

static size_t spread_table_bytes(const cg_avg_pool_args *a, const spread_columns *c) {
    return sizeof(ptrdiff_t) * (a->cut.direct ? 2 * a->windows.W : c->slots * (c->taps + 1));
}
/* Tables, cells, the line, a line of each slot, two lines of interleaved ones. */
static size_t spread_bytes(const cg_avg_pool_args *a, const spread_columns *c) {
    ptrdiff_t lines = a->cut.direct ? 1 : c->slots == 1 && a->windows.stride_w == 1 ? 1 : 3 + c->slots;
    size_t numbers = round_up(a->windows.OW * a->windows.Z, 16) + lines * c->pitch;
    return round_up(spread_table_bytes(a, c), 64) + numbers * sizeof(REAL);
}

static spread_columns prepare_columns(const cg_avg_pool_args *a, char *scratch) {
    const cg_windows *w = &a->windows;
    spread_columns c = measure_columns(a);
    ptrdiff_t *table = (ptrdiff_t *)scratch, span = (w->S - 1) * w->dilation_w;
    REAL *cells = (REAL *)(scratch + round_up(spread_table_bytes(a, &c), 64));
    c.cells = cells;
    if (!a->count)
        for (ptrdiff_t j = 0; j < w->OW; j++)
            pool_fill(cells + j * w->Z, w->Z, (REAL)col_cells(a, j));
    if (a->cut.direct) {
        c.first = table;
        c.last = table + w->W;
        for (ptrdiff_t v = 0; v < w->W; v++) {
            table[v] = v + w->left < span ? 0 : ceil_div(v + w->left - span, w->stride_w);
            table[w->W + v] = MIN(w->OW, (v + w->left) / w->stride_w + 1);
        }
        return c;
    }
    c.n_taps = table;
    c.tap = table + c.slots;
    for (ptrdiff_t slot = 0; slot < c.slots; slot++) {
        ptrdiff_t n = 0;
        for (ptrdiff_t s = w->S - 1 - (w->S - 1 - slot) % c.slots; s >= 0;
             s -= c.slots) /* windows from left to right */
            table[c.slots + slot * c.taps + n++] = c.before + (c.t0 - s * w->dilation_w / w->stride_w) * w->Z;
        table[slot] = n;
    }
    return c;
}

/* line[t] = sum over rows i0 .. i1 - 1 of windows, those that see image row h, of grad_output / (cells in a column of
 * the window) */
static void sum_window_rows(const cg_avg_pool_args *a, ptrdiff_t p, ptrdiff_t h, ptrdiff_t i0, ptrdiff_t i1,
                            REAL *line) {
    const cg_windows *w = &a->windows;
    ptrdiff_t n = w->OW * w->Z;
    const REAL *end = (const REAL *)a->y + w->planes * w->OH * n;
    int first = 1;
    for (ptrdiff_t i = i0; i < i1; i++) {
        if (w->dilation_h > 1 && (h + w->top - i * w->stride_h) % w->dilation_h)
            continue;
        const REAL *g = (const REAL *)a->y + (p * w->OH + i) * n;
        vec cells = v_set1(a->count ? 1 : (REAL)row_cells(a, i));
        for (ptrdiff_t t = 0; t < n; t += LANES) {
            vec v = pool_load(g + t, end, n - t);
            if (!a->count)
                v = v / cells;
            v_store(line + t, first ? v : v_load(line + t) + v);
        }
        first = 0;
    }
    if (first)
        pool_fill(line, n, 0);
}

INLINE vec sum_taps(const REAL *line, const ptrdiff_t *tap, ptrdiff_t n_taps) {
    vec sum = v_load(line + tap[0]);
    for (ptrdiff_t k = 1; k < n_taps; k++)
        sum += v_load(line + tap[k]);
    return sum;
}

/* A row of the image from the line; `lines` is room for a line of each slot and two more. */
static void spread_line(const cg_windows *w, const spread_columns *c, const REAL *line, REAL *lines, pool_scale scale,
                        REAL *row, const REAL *end) {
    ptrdiff_t Z = w->Z, step = w->stride_w, n = c->columns * Z, size = w->W * Z;
    if (step == 1) { /* one slot, a column for each pixel */
        for (ptrdiff_t t = 0; t < size; t += LANES)
            pool_store(row + t, end, scaled(sum_taps(line + t, c->tap, c->n_taps[0]), scale), size - t);
        return;
    }
    if (step == 2 && Z == 1 && c->slots == 2) { /* the dilation is odd, and the residue of slot 1 is 1 */
        const int odd = w->left & 1;            /* then column 0 has residue 1, and column 1 residue 0 of the next t */
        for (ptrdiff_t t = 0; 2 * t < size; t += LANES) {
            vec first = scaled(sum_taps(line + t + odd, c->tap, c->n_taps[0]), scale);
            vec second = scaled(sum_taps(line + t, c->tap + c->taps, c->n_taps[1]), scale);
            vec even_columns = odd ? second : first, odd_columns = odd ? first : second;
            pool_store(row + 2 * t, end, v_zip_low(even_columns, odd_columns), size - 2 * t);
            if (size - 2 * t > LANES)
                pool_store(row + 2 * t + LANES, end, v_zip_high(even_columns, odd_columns), size - 2 * t - LANES);
        }
        return;
    }
    if (c->slots == step && w->dilation_w == 1 && Z <= LANES) { /* residue 0 in slot 0, and so on */
        for (ptrdiff_t slot = 0; slot < step; slot++)
            for (ptrdiff_t t = 0; t < n; t += LANES)
                v_store(lines + slot * c->pitch + t,
                        scaled(sum_taps(line + t, c->tap + slot * c->taps, c->n_taps[slot]), scale));
        /* every pixel overwrites what the one before had too much */
        ptrdiff_t slot = w->left % step, t = 0;
        for (ptrdiff_t v = 0; v < w->W; v++) {
            pool_store(row + v * Z, end, v_load(lines + slot * c->pitch + t * Z), (w->W - v) * Z);
            if (++slot == step) {
                slot = 0;
                t++;
            }
        }
        return;
    }
    if (c->slots < step)
        pool_fill(row, size, 0);
    for (ptrdiff_t slot = 0; slot < c->slots; slot++) {
        const ptrdiff_t *tap = c->tap + slot * c->taps;
        for (ptrdiff_t t = 0; t < n; t += LANES)
            v_store(lines + t, scaled(sum_taps(line + t, tap, c->n_taps[slot]), scale));
        ptrdiff_t first = c->t0 * step + slot * w->dilation_w % step - w->left;
        ptrdiff_t from = first < 0 ? 1 : 0;
        for (ptrdiff_t t = from, v = first + from * step; t < c->columns && v < w->W; t++, v += step)
            for (ptrdiff_t z = 0; z < Z; z++)
                row[v * Z + z] = lines[t * Z + z];
    }
}

/* The same with vectors over the numbers of a pixel. */
static void spread_direct(const cg_windows *w, const spread_columns *c, const REAL *line, pool_scale scale, REAL *row) {
    for (ptrdiff_t v = 0; v < w->W; v++)
        for (ptrdiff_t z = 0; z < w->Z; z += LANES) {
            ptrdiff_t n = MIN(LANES, w->Z - z);
            if (n < LANES && w->Z >= LANES) { /* the last vector overlaps the one before */
                z = w->Z - LANES;
                n = LANES;
            }
            vec sum = v_zero();
            PREFETCH_WRITE(row + v * w->Z + z + STREAM_AHEAD);
            for (ptrdiff_t j = c->first[v]; j < c->last[v]; j++)
                if (w->dilation_w == 1 || (v + w->left - j * w->stride_w) % w->dilation_w == 0)
                    sum += v_load(line + j * w->Z + z);
            if (n == LANES)
                v_store(row + v * w->Z + z, scaled(sum, scale));
            else
                v_store_n(row + v * w->Z + z, scaled(sum, scale), n);
        }
}

/* Windows next to each other without padding, Z = 1, all of one count. */
static int windows_share(const cg_avg_pool_args *a) {
    const cg_windows *w = &a->windows;
    return w->Z == 1 && a->count && w->S == w->stride_w && w->R <= w->stride_h && w->S <= LANES && w->dilation_h == 1 &&
           w->dilation_w == 1 && !w->top && !w->left;
}

/* Rows h0 .. h1 - 1 of u for plane p of such windows: S copies of each number. A vector of them overwrites what the one
 * before had too much, up to `end`. */
static void share_rows(const cg_avg_pool_args *a, ptrdiff_t p, ptrdiff_t h0, ptrdiff_t h1, const REAL *end) {
    const cg_windows *w = &a->windows;
    const REAL *g_end = (const REAL *)a->y + w->planes * w->OH * w->OW;
    ptrdiff_t i = h0 / w->stride_h, r = h0 % w->stride_h, cells = MIN(w->OW * w->S, w->W);
    pool_scale scale = scale_of(a->count);
    REAL *row = (REAL *)a->grad_x + (p * w->H + h0) * w->W;
    for (ptrdiff_t h = h0; h < h1; h++, row += w->W) {
        const REAL *g = (const REAL *)a->y + (p * w->OH + i) * w->OW;
        const int covered = i < w->OH && r < w->R;
        if (covered && w->S == 2)
            for (ptrdiff_t t = 0; t < w->OW; t += LANES) {
                vec v = scaled(pool_load(g + t, g_end, w->OW - t), scale);
                PREFETCH_WRITE(row + 2 * t + STREAM_AHEAD);
                PREFETCH_WRITE(row + 2 * t + LANES + STREAM_AHEAD);
                pool_store(row + 2 * t, end, v_zip_low(v, v), cells - 2 * t);
                if (cells - 2 * t > LANES)
                    pool_store(row + 2 * t + LANES, end, v_zip_high(v, v), cells - 2 * t - LANES);
            }
        else if (covered)
            for (ptrdiff_t t = 0, v = 0; t < w->OW; t += LANES) {
                REAL lane[LANES];
                v_store(lane, scaled(pool_load(g + t, g_end, w->OW - t), scale));
                for (ptrdiff_t j = 0; j < MIN(LANES, w->OW - t); j++, v += w->S)
                    pool_store(row + v, end, v_set1(lane[j]), MIN(w->S, w->W - v));
            }
        if (!covered || cells < w->W)
            pool_fill(row + (covered ? cells : 0), w->W - (covered ? cells : 0), 0);
        if (++r == w->stride_h) {
            r = 0;
            i++;
        }
    }
}

/* Rows h0 .. h1 - 1 of u for plane p. The lines lie behind the cells. */
static void spread_rows(const cg_avg_pool_args *a, const spread_columns *c, ptrdiff_t p, ptrdiff_t h0, ptrdiff_t h1) {
    const cg_windows *w = &a->windows;
    ptrdiff_t row_size = w->W * w->Z, n = w->OW * w->Z, span = (w->R - 1) * w->dilation_h, i0 = 0, i1 = 0, before0 = -1,
              before1 = -1;
    REAL *line = (REAL *)c->cells + round_up(n, 16), *sums = line + c->before;
    REAL *end = (REAL *)a->grad_x + (p * w->H + h1) * row_size;
    pool_scale scale = scale_of(a->count);
    if (windows_share(a)) {
        share_rows(a, p, h0, h1, end);
        return;
    }
    if (!a->cut.direct)
        pool_fill(line, c->pitch, 0);
    for (ptrdiff_t h = h0; h < h1; h++) {
        REAL *row = (REAL *)a->grad_x + (p * w->H + h) * row_size;
        if (h == h0) {
            i0 = h + w->top < span ? 0 : ceil_div(h + w->top - span, w->stride_h);
            i1 = MIN(w->OH, (h + w->top) / w->stride_h + 1);
        } else { /* on to the next row without a division */
            i0 += i0 * w->stride_h + span < h + w->top;
            i1 += i1 < w->OH && i1 * w->stride_h <= h + w->top;
        }
        if (h > h0 && i0 == before0 && i1 == before1 && w->dilation_h == 1) { /* seen by the windows of the row above */
            if (a->cut.direct)                                                /* the line is smaller */
                spread_direct(w, c, sums, scale, row);
            else
                pool_copy(row, end, row - row_size, row, row_size);
            continue;
        }
        before0 = i0;
        before1 = i1;
        sum_window_rows(a, p, h, i0, i1, sums);
        if (!a->count)
            for (ptrdiff_t t = 0; t < n; t++)
                sums[t] /= c->cells[t];
        if (a->cut.direct) {
            spread_direct(w, c, sums, scale, row);
            continue;
        }
        pool_fill(sums + n, LANES, 0); /* after the data, which ran over */
        spread_line(w, c, line, line + c->pitch, scale, row, end);
    }
}

static void plan_spread(cg_avg_pool_args *a) {
    const cg_windows *w = &a->windows;
    a->count = common_count(a);
    double taps = MIN((w->R - 1) * w->dilation_h / w->stride_h, w->OH) +
                  (double)MIN((w->S - 1) * w->dilation_w / w->stride_w, w->OW) + 2;
    a->task.work = (double)w->planes * w->H * w->W * w->Z * taps;
    pool_cut(w, &a->cut, w->H, w->W * w->Z);
    double reach = (w->S - 1.0) * w->dilation_w / w->stride_w, width = MAX(w->OW, w->W + w->left) + reach;
    a->cut.direct = w->Z >= LANES || reach * w->Z * sizeof(REAL) > POOL_LINE_LIMIT ||
                    width * w->Z * (4.0 + count_slots(w)) * sizeof(REAL) > (double)(64 << 20);
    spread_columns c = measure_columns(a);
    a->task.scratch_bytes = spread_bytes(a, &c);
    if (is_whole_plane(w))
        a->task.scratch_bytes = MAX(a->task.scratch_bytes, global_scratch(w->Z));
}

KERNEL_PLAN(avg_pool2d_backward) {
    cg_avg_pool_args *a = args_;
    plan_spread(a);
    a->task.n_blocks = pool_blocks(&a->windows, &a->cut);
}

KERNEL_RUN(avg_pool2d_backward) {
    const cg_avg_pool_args *a = args_;
    const cg_windows *w = &a->windows;
    const int whole = is_whole_plane(w);
    spread_columns c = {0};
    if (!whole)
        c = prepare_columns(a, scratch_);
    for (ptrdiff_t block = begin; block < end; block++) {
        pool_block b = pool_block_at(w, &a->cut, w->H, block);
        for (ptrdiff_t p = b.p0; p < b.p1; p++) {
            if (!whole)
                spread_rows(a, &c, p, b.i0, b.i1);
            else if (b.i0 == 0) /* rows were cut for the other ways */
                share_in_plane((const REAL *)a->y + p * w->Z, w->H * w->W, w->Z, scratch_,
                               (REAL *)a->grad_x + p * w->H * w->W * w->Z);
        }
    }
}
