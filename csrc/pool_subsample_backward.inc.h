/* The gradients of subsampling: grad_x = weight[c] * u, where u is the gradient of the average, and without the
 * averages being kept grad_weight[c] = sum of u * x, a few rows at a time while u is in the cache.
 */

/* out[z] = sum over pixels of line[pixel * Z + z]; whole vectors of the line are read */
static void fold_line(const REAL *line, ptrdiff_t pixels, ptrdiff_t Z, REAL *out) {
    for (ptrdiff_t z = 0; z < Z; z += LANES) {
        vec sum = v_zero();
        for (ptrdiff_t t = 0; t < pixels; t++)
            sum += v_load(line + t * Z + z);
        v_store_n(out + z, sum, MIN(LANES, Z - z));
    }
}

INLINE vec load_rest(const REAL *x, ptrdiff_t rest) {
    return rest >= LANES ? v_load(x) : v_load_n(x, rest);
}

INLINE void store_rest(REAL *y, vec v, ptrdiff_t rest) {
    if (rest >= LANES)
        v_store(y, v);
    else
        v_store_n(y, v, rest);
}

/* line[t] += x[t]; whole vectors of the line are written */
static void add_to_line(REAL *line, const REAL *x, ptrdiff_t n) {
    for (ptrdiff_t t = 0; t < n; t += LANES)
        v_store(line + t, v_load(line + t) + load_rest(x + t, n - t));
}

/* line[t] += u[t] * x[t], then u[t] *= weight[t] */
static void weigh_row(REAL *u, const REAL *x, const REAL *weight, ptrdiff_t n, REAL *line) {
    for (ptrdiff_t t = 0; t < n; t += LANES) {
        vec v = load_rest(u + t, n - t);
        v_store(line + t, v_fma(v, load_rest(x + t, n - t), v_load(line + t)));
        store_rest(u + t, v * v_load(weight + t), n - t);
    }
}

/* The sum of n numbers of one channel, or with x of u * x, after which u *= weight. */
static double sum_channel(REAL *u, const REAL *x, REAL weight, ptrdiff_t n) {
    double total = 0;
    for (ptrdiff_t from = 0, to; from < n; from = to) { /* long chains of additions round more */
        vec sum = v_zero();
        to = MIN(n, from + POOL_BLOCK_NUMBERS / 2);
        for (ptrdiff_t t = from; t < to; t += LANES) {
            vec v = load_rest(u + t, to - t);
            if (x) {
                sum = v_fma(v, load_rest(x + t, to - t), sum);
                store_rest(u + t, v * v_set1(weight), to - t);
            } else
                sum += v;
        }
        total += v_sum(sum);
    }
    return total;
}

INLINE ptrdiff_t line_numbers(ptrdiff_t n) {
    return round_up(n, LANES) + LANES;
}

/* One block is one plane: a sample, or a channel of it; weight_sums and bias_sums take its share of the gradients. */
KERNEL_PLAN(subsample2d_backward) {
    cg_avg_pool_args *a = args_;
    const cg_windows *w = &a->windows;
    plan_spread(a);
    a->task.n_blocks = w->planes;
    if (w->Z > 1)
        a->task.scratch_bytes = round_up(a->task.scratch_bytes, 64) +
                                (2 * line_numbers(w->W * w->Z) + line_numbers(w->OW * w->Z)) * sizeof(REAL);
    a->task.work += 2.0 * w->planes * w->H * w->W * w->Z;
}

KERNEL_RUN(subsample2d_backward) {
    const cg_avg_pool_args *a = args_;
    const cg_windows *w = &a->windows;
    ptrdiff_t n = w->W * w->Z, n_out = w->OW * w->Z;
    spread_columns c = prepare_columns(a, scratch_);
    REAL *of_weight = (REAL *)((char *)scratch_ + round_up(spread_bytes(a, &c), 64));
    REAL *of_bias = of_weight + line_numbers(n), *weight = of_bias + line_numbers(n_out);
    if (w->Z > 1 && begin < end) {
        pool_fill(weight, line_numbers(n), 0);
        spread_channels(a, a->weight, 0, w->W, weight);
    }
    for (ptrdiff_t p = begin; p < end; p++) {
        const REAL *g = (const REAL *)a->y + p * w->OH * n_out, factor = ((const REAL *)a->weight)[p % a->C];
        double by_weight = 0;
        if (w->Z > 1) {
            pool_fill(of_weight, line_numbers(n), 0);
            pool_fill(of_bias, line_numbers(n_out), 0);
            for (ptrdiff_t i = 0; i < w->OH; i++)
                add_to_line(of_bias, g + i * n_out, n_out);
        }
        for (ptrdiff_t h0 = 0; h0 < w->H; h0 += a->cut.rows) {
            ptrdiff_t h1 = MIN(h0 + a->cut.rows, w->H);
            const REAL *x = (const REAL *)a->x + (p * w->H + h0) * n;
            REAL *u = (REAL *)a->grad_x + (p * w->H + h0) * n;
            spread_rows(a, &c, p, h0, h1);
            if (w->Z == 1)
                by_weight += sum_channel(u, x, factor, (h1 - h0) * n);
            for (ptrdiff_t h = h0; h < h1 && w->Z > 1; h++, u += n, x += n)
                weigh_row(u, x, weight, n, of_weight);
        }
        if (w->Z == 1) {
            ((REAL *)a->weight_sums)[p] = (REAL)by_weight;
            ((REAL *)a->bias_sums)[p] = (REAL)sum_channel((REAL *)g, NULL, 1, w->OH * n_out);
            continue;
        }
        fold_line(of_weight, w->W, w->Z, (REAL *)a->weight_sums + p * w->Z);
        fold_line(of_bias, w->OW, w->Z, (REAL *)a->bias_sums + p * w->Z);
    }
}
