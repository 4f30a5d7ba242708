/* out[c] = sum over n, h, w of x[n, c, h, w]: the gradient of a bias.
 *
 * Rows are summed in vectors, runs of at most RUN elements at a time; the totals of the runs are added in double, so
 * the error does not grow with the batch. One block is one group of CHANNELS channels.
 */
#define SUM_RUN 4096
#define SUM_CHANNELS (4 * LANES) /* channels of a block: where channels are adjacent, four vectors */

static REAL sum_run(const REAL *x, ptrdiff_t n) {
    vec a = v_zero(), b = a, c = a, d = a;
    ptrdiff_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        a += v_load(x + i);
        b += v_load(x + i + LANES);
        c += v_load(x + i + 2 * LANES);
        d += v_load(x + i + 3 * LANES);
    }
    for (; i + LANES <= n; i += LANES)
        a += v_load(x + i);
    if (i < n)
        b += v_load_n(x + i, n - i);
    return v_sum((a + b) + (c + d));
}

KERNEL_PLAN(channel_sum) {
    cg_channel_sum_args *a = args_;
    if (a->at.stride_h == a->W * a->at.stride_w) { /* rows follow each other: one long row */
        a->W *= a->H;
        a->H = 1;
    }
    a->task.n_blocks = ceil_div(a->C, SUM_CHANNELS);
    a->task.scratch_bytes = 0;
    a->task.work = (double)a->N * a->C * a->H * a->W;
}

KERNEL_RUN(channel_sum) {
    (void)scratch_;
    const cg_channel_sum_args *a = args_;
    const cg_strides at = a->at;
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t c0 = block * SUM_CHANNELS, n_channels = MIN(SUM_CHANNELS, a->C - c0);
        double total[SUM_CHANNELS] = {0};
        for (ptrdiff_t n = 0; n < a->N; n++)
            for (ptrdiff_t h = 0; h < a->H; h++) {
                const REAL *row = (const REAL *)a->x + n * at.stride_n + c0 * at.stride_c + h * at.stride_h;
                for (ptrdiff_t w0 = 0; w0 < a->W; w0 += SUM_RUN) {
                    ptrdiff_t run = MIN(SUM_RUN, a->W - w0);
                    const REAL *x = row + w0 * at.stride_w;
                    if (at.stride_c == 1 && n_channels == SUM_CHANNELS) {
                        vec sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
                        for (ptrdiff_t w = 0; w < run; w++)
                            UNROLL for (int i = 0; i < 4; i++) sum[i] += v_load(x + w * at.stride_w + i * LANES);
                        if (a->N * a->H == 1 && run == a->W) { /* nothing to be added to */
                            UNROLL for (int i = 0; i < 4; i++) v_store((REAL *)a->out + c0 + i * LANES, sum[i]);
                            n_channels = 0;
                            continue;
                        }
                        for (int i = 0; i < 4; i++)
                            for (int j = 0; j < LANES; j++)
                                total[i * LANES + j] += v_get(sum[i], j);
                    } else if (at.stride_c == 1)
                        for (ptrdiff_t c = 0; c < n_channels; c += LANES) {
                            const ptrdiff_t lanes = MIN(LANES, n_channels - c);
                            vec sum = v_zero();
                            for (ptrdiff_t w = 0; w < run; w++)
                                sum += lanes == LANES ? v_load(x + w * at.stride_w + c)
                                                      : v_load_n(x + w * at.stride_w + c, lanes);
                            for (ptrdiff_t j = 0; j < lanes; j++)
                                total[c + j] += v_get(sum, (int)j);
                        }
                    else
                        for (ptrdiff_t c = 0; c < n_channels; c++) {
                            const REAL *p = x + c * at.stride_c;
                            if (at.stride_w == 1) {
                                total[c] += sum_run(p, run);
                                continue;
                            }
                            double sum = 0;
                            for (ptrdiff_t w = 0; w < run; w++)
                                sum += p[w * at.stride_w];
                            total[c] += sum;
                        }
                }
            }
        for (ptrdiff_t c = 0; c < n_channels; c++)
            ((REAL *)a->out)[c0 + c] = (REAL)total[c];
    }
}
