/* What of the memory the next tiles of a convolution fetch into the cache as they go. */

/* Memory that is wanted soon: `runs` runs of `run` elements, `stride` apart, of which the first `done` elements of the
 * first run are asked for. */
typedef struct {
    const REAL *from;
    ptrdiff_t runs, run, stride, done;
} wanted;

/* Rows row0 .. row1-1 of `tile` pixels each of `channels` planes of an image. Tile rows count over samples. */
NOINLINE wanted wanted_rows(const REAL *image, const cg_strides *at, ptrdiff_t channels, ptrdiff_t H, ptrdiff_t tile,
                            ptrdiff_t tile_rows, ptrdiff_t row0, ptrdiff_t row1) {
    ptrdiff_t sample = row0 / tile_rows, i = row0 % tile_rows, samples = ceil_div(row1, tile_rows) - sample;
    ptrdiff_t rows = MIN(H - i * tile, (row1 - row0) * tile);
    wanted w = {image + sample * at->stride_n + i * tile * at->stride_h, channels, rows * at->stride_h, at->stride_c,
                0};
    if (row1 <= row0)
        w.runs = 0;
    else if (samples > 1) /* whole samples: more than asked for at both ends */
        w.runs = samples, w.run = at->stride_c == 1 ? at->stride_n : channels * at->stride_c, w.stride = at->stride_n;
    else if (at->stride_c == 1)
        w.runs = 1;
    else if (i == 0 && rows == H && w.run == w.stride) /* planes that follow each other */
        w.runs = 1, w.run *= channels;
    return w;
}

/* `cols` columns of one row, from `from` on, of each of `channels` planes. */
static wanted wanted_columns(const REAL *from, const cg_strides *at, ptrdiff_t channels, ptrdiff_t cols) {
    return (wanted){from, at->stride_c == 1 ? 1 : channels, cols * at->stride_w, at->stride_c, 0};
}

/* The next n cache lines (at most) of a list of two; the step to give to a tile with them, 0 where nothing is left. */
INLINE const REAL *want_next(wanted *list, ptrdiff_t n, ptrdiff_t *step) {
    if (list->runs == 0)
        list++;
    if (list->runs == 0) {
        *step = 0;
        return list->from;
    }
    const REAL *p = list->from + list->done;
    ptrdiff_t rest = list->run - list->done;
    *step = MIN(LANES, rest / MAX(1, n) + 1);
    list->done += n * LANES;
    if (list->done >= list->run)
        list->done = 0, list->runs--, list->from += list->stride;
    return p;
}
