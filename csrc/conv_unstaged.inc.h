/* 1x1 kernels, vectors over channels: the tiles read x where it is, and threads share its blocks evenly.
 *
 * A tile broadcasts single values of x, so that a copy in scratch gains nothing but planes that lie well in cache; it
 * took 6 to 17 % of the time. Nothing is staged for a range of k either, which may be as short as threads like it.
 */
#define UNSTAGED_BYTES 1024 /* of a plane of x: larger ones take an address translation for each term */

/* Small planes whose lines do not crowd into a few cache sets, every pixel of the output at one of the image. */
static int reads_in_place(const cg_conv_args *a) {
    const cg_axis *rows = &a->rows, *cols = &a->cols;
    const ptrdiff_t plane = llabs(a->x_at.stride_c) * (ptrdiff_t)sizeof(REAL);
    return !a->vectors_over_pixels && a->planar && a->n_taps == 1 && rows->n_phases * cols->n_phases == 1 &&
           rows->min_offset == 0 && cols->min_offset == 0 && (rows->max_count - 1) * rows->in_step < a->H &&
           (cols->max_count - 1) * cols->in_step < a->W && a->x_at.stride_w == 1 && cols->in_step == 1 &&
           plane <= UNSTAGED_BYTES && plane % 512 != 0 && a->C * (double)plane < INT32_MAX;
}

/* About what the tiles of so many channels cost: one for each vector, a little more in narrower tiles. */
INLINE double cost_of_channels(ptrdiff_t channels) {
    const ptrdiff_t vectors = ceil_div(channels, LANES), rest = vectors % TILE_CHANNELS_MAX;
    return (double)vectors + 0.1 * (double)(rest & 2) + 0.5 * (double)(rest & 1);
}

/* Cost of the first `blocks` blocks where `uses` of them in turn take each range of k of each group. */
static double cost_of_blocks(const cg_conv_args *a, ptrdiff_t range, ptrdiff_t uses, ptrdiff_t blocks) {
    const ptrdiff_t ranges = ceil_div(a->K, range), group = blocks / (ranges * uses), left = blocks % (ranges * uses);
    const double whole = cost_of_channels(range), last = cost_of_channels(a->K - (ranges - 1) * range);
    const ptrdiff_t of_last = MAX(0, left - (ranges - 1) * uses) + group * uses;
    return whole * (double)(blocks - of_last) + last * (double)of_last;
}

/* Channels of a range of k, whose weights are packed for all blocks of its samples and rows: as many as leave the
 * thread with most to do the least. Where weights have one use, those of one tile, so that L2 holds them until then. */
static ptrdiff_t balanced_range(const cg_conv_args *a) {
    const ptrdiff_t width = TILE_CHANNELS_MAX * LANES, threads = MAX(1, a->task.threads);
    const ptrdiff_t uses = a->n_batches * a->n_row_blocks * a->n_col_blocks;
    ptrdiff_t best = uses == 1 ? MIN(a->k_group, width) : a->k_group;
    double least = INFINITY;
    for (ptrdiff_t range = best; range > 0 && threads > 1; range -= 2 * LANES) {
        const ptrdiff_t blocks = a->groups * ceil_div(a->K, range) * uses;
        double slowest = 0;
        for (ptrdiff_t t = 0; t < threads; t++)
            slowest = MAX(slowest, cost_of_blocks(a, range, uses, blocks * (t + 1) / threads) -
                                       cost_of_blocks(a, range, uses, blocks * t / threads));
        if (slowest < least)
            least = slowest, best = range;
    }
    return best;
}
