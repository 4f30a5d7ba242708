/* Pools over whole planes: the mean or the largest of all pixels of each channel. One block is one plane of `pixels` x
 * Z numbers, or a group of LANES small planes of one channel, whose vectors are reduced side by side.
 *
 * A plane is read in periods of a multiple of Z numbers that is at least four vectors where Z is small, so that the
 * same lane always meets the same channel. Means: runs of GLOBAL_RUN periods are summed in vectors, the runs in double.
 */
#define GLOBAL_RUN 256

static const REAL lowest = -(REAL)INFINITY;

/* Widths of index that the reductions write. */
enum { INDEX_U8, INDEX_I32, INDEX_I64 };

/* One step of a maximum: what wins is larger, or a NaN where there was none. */
INLINE void max_down(vec *best, ivec *which, vec x, ivec index, int indexed) {
    if (!indexed) {
        *best = v_blend(v_isnan(*best), *best, v_max(*best, x)); /* v_max gives x where one of the two is NaN */
        return;
    }
    v_mask wins = v_and(v_not(v_le(x, *best)), v_eq(*best, *best));
    *best = v_blend(wins, x, *best);
    *which = v_iblend(wins, index, *which);
}

/* A step across columns, where indices do not ascend: of equals, and of NaNs, the smaller index wins. */
INLINE void max_across(vec *best, ivec *which, vec x, ivec index, int indexed) {
    if (!indexed) {
        max_down(best, which, x, index, 0);
        return;
    }
    v_mask number = v_eq(*best, *best), nan = v_isnan(x);
    v_mask tie = v_and(v_ilt(index, *which), v_or(v_eq(x, *best), nan));
    v_mask wins = v_or(tie, v_and(v_not(v_le(x, *best)), number));
    *best = v_blend(wins, x, *best);
    *which = v_iblend(wins, index, *which);
}

INLINE ptrdiff_t global_period(ptrdiff_t Z) {
    return Z >= LANES ? Z : 4 * LANES * Z;
}
/* A small plane of one channel is read a vector at a time. */
INLINE ptrdiff_t period_of(ptrdiff_t Z, ptrdiff_t pixels) {
    return Z == 1 && pixels < 8 * LANES ? LANES : global_period(Z);
}

INLINE size_t global_scratch(ptrdiff_t Z) {
    return (size_t)global_period(Z) * (sizeof(double) + 2 * sizeof(REAL));
}

/* y[z] = mean of the plane's pixels */
static void mean_of_plane(const REAL *x, ptrdiff_t pixels, ptrdiff_t Z, void *scratch, REAL *y) {
    ptrdiff_t n = pixels * Z, period = global_period(Z), periods = n / period;
    double *total = scratch;
    REAL *sum = (REAL *)(total + period);
    if (Z == 1) {
        double all = 0;
        for (ptrdiff_t from = 0, to; from < n; from = to) {
            vec s[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
            ptrdiff_t t = from;
            to = MIN(n, from + GLOBAL_RUN * 4 * LANES);
            for (; t + 4 * LANES <= to; t += 4 * LANES)
                UNROLL for (int i = 0; i < 4; i++) s[i] += v_load(x + t + i * LANES);
            for (; t < to; t += LANES)
                s[0] += to - t >= LANES ? v_load(x + t) : v_load_n(x + t, to - t);
            all += v_sum((s[0] + s[1]) + (s[2] + s[3]));
        }
        y[0] = (REAL)(all / (double)pixels);
        return;
    }
    /* where a pixel fills vectors and one run is all, there are no sums of sums */
    const int once = period == Z && pixels <= GLOBAL_RUN;
    const vec divisor = v_set1(once ? (REAL)pixels : 1);
    if (once)
        sum = y;
    for (ptrdiff_t t = 0; t < period && !once; t++)
        total[t] = 0;
    for (ptrdiff_t m0 = 0; m0 < periods; m0 += GLOBAL_RUN) {
        const REAL *run = x + m0 * period;
        ptrdiff_t m1 = MIN(GLOBAL_RUN, periods - m0), t = 0;
        for (; t + 4 * LANES <= period; t += 4 * LANES) {
            vec s[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
            for (ptrdiff_t m = 0; m < m1; m++)
                UNROLL for (int i = 0; i < 4; i++) s[i] += v_load(run + m * period + t + i * LANES);
            UNROLL for (int i = 0; i < 4; i++) v_store(sum + t + i * LANES, s[i] / divisor);
        }
        for (; t < period; t += LANES) {
            vec s = v_zero();
            t = MIN(t, period - LANES); /* the last vector overlaps the one before */
            for (ptrdiff_t m = 0; m < m1; m++)
                s += v_load(run + m * period + t);
            v_store(sum + t, s / divisor);
        }
        if (once)
            return;
        for (t = 0; t < period; t++)
            total[t] += sum[t];
    }
    for (ptrdiff_t t = Z; t < period; t += Z)
        for (ptrdiff_t z = 0; z < Z; z++)
            total[z] += total[t + z];
    for (ptrdiff_t t = periods * period; t < n; t += Z)
        for (ptrdiff_t z = 0; z < Z; z++)
            total[z] += x[t + z];
    for (ptrdiff_t z = 0; z < Z; z++)
        y[z] = (REAL)(total[z] / (double)pixels);
}

/* x[...] = of[z] / pixels in the whole plane */
static void share_in_plane(const REAL *of, ptrdiff_t pixels, ptrdiff_t Z, REAL *share, REAL *x) {
    ptrdiff_t n = pixels * Z, period = global_period(Z);
    for (ptrdiff_t z = 0; z < Z; z++)
        share[z] = of[z] / (REAL)pixels;
    if (Z == 1) {
        vec value = v_set1(share[0]);
        for (ptrdiff_t t = 0; t < n; t += LANES)
            pool_store(x + t, x + n, value, n - t);
        return;
    }
    for (ptrdiff_t t = Z; t < period; t++)
        share[t] = share[t - Z];
    for (ptrdiff_t t = 0; t < n; t += period)
        pool_copy(x + t, x + n, share, share + period, MIN(period, n - t));
}

/* Whether x at pixel `at` comes before the best so far: larger, or NaN, or as good and earlier. */
INLINE int comes_first(REAL x, int64_t at, REAL best, int64_t best_at) {
    if (x != x || best != best)
        return x != x && (best == best || at < best_at);
    return x > best || (x == best && at < best_at);
}

/* y[z] = the largest of the plane's pixels, index `at + z` its place, where indices are wanted. The counter of periods
 * fits a lane of INT: a plane of 2^31 periods does not fit memory. */
static void largest_of_plane(const REAL *x, ptrdiff_t pixels, ptrdiff_t Z, void *scratch, REAL *y, void *indices,
                             int width, ptrdiff_t at) {
    ptrdiff_t n = pixels * Z, period = period_of(Z, pixels), periods = n / period, t = 0, folded = periods ? period : 0;
    REAL *largest = scratch;
    INT *where = (INT *)(largest + period);
    for (; t + 4 * LANES <= folded; t += 4 * LANES) {
        vec best[4];
        ivec which[4];
        UNROLL for (int i = 0; i < 4; i++) {
            best[i] = v_load(x + t + i * LANES);
            which[i] = v_iset1(0);
        }
        for (ptrdiff_t m = 1; m < periods; m++)
            UNROLL for (int i = 0; i < 4; i++)
                max_down(&best[i], &which[i], v_load(x + m * period + t + i * LANES), v_iset1((INT)m), 1);
        UNROLL for (int i = 0; i < 4; i++) {
            v_store(largest + t + i * LANES, best[i]);
            v_istore(where + t + i * LANES, which[i]);
        }
    }
    for (; t < folded; t += LANES) {
        t = MIN(t, period - LANES); /* the last vector overlaps the one before */
        vec best = v_load(x + t);
        ivec which = v_iset1(0);
        for (ptrdiff_t m = 1; m < periods; m++)
            max_down(&best, &which, v_load(x + m * period + t), v_iset1((INT)m), 1);
        v_store(largest + t, best);
        v_istore(where + t, which);
    }
    const int whole = period == Z; /* nothing to fold: a number is the largest of its channel */
    for (ptrdiff_t z = 0; z < Z; z++) {
        REAL best = whole ? largest[z] : x[z];
        int64_t best_at = whole ? where[z] : 0;
        ptrdiff_t pixel = 0, step = period / Z;
        for (t = whole ? folded : z; t < folded; t += Z, pixel++) {
            int64_t place = (int64_t)where[t] * step + pixel;
            if (comes_first(largest[t], place, best, best_at)) {
                best = largest[t];
                best_at = place;
            }
        }
        for (pixel = periods * step; pixel < pixels; pixel++)
            if (comes_first(x[pixel * Z + z], pixel, best, best_at)) {
                best = x[pixel * Z + z];
                best_at = pixel;
            }
        y[z] = best;
        if (!indices)
            continue;
        if (width == INDEX_U8)
            ((uint8_t *)indices)[at + z] = (uint8_t)best_at;
        else if (width == INDEX_I32)
            ((int32_t *)indices)[at + z] = (int32_t)best_at;
        else
            ((int64_t *)indices)[at + z] = best_at;
    }
}

/* Planes of a block. */
INLINE ptrdiff_t global_group(ptrdiff_t Z, ptrdiff_t pixels) {
    return Z == 1 && LANES > 1 && pixels >= LANES && pixels <= 64 * LANES ? LANES : 1;
}

/* Means of n <= LANES planes of one channel. */
static void means_of_group(const REAL *x, ptrdiff_t pixels, ptrdiff_t n, REAL *y) {
    vec sum[LANES];
    for (ptrdiff_t k = 0; k < LANES; k++) {
        vec s = v_zero(), t = v_zero();
        ptrdiff_t m = 0;
        if (k < n) {
            for (; m + 2 * LANES <= pixels; m += 2 * LANES) {
                s += v_load(x + m);
                t += v_load(x + m + LANES);
            }
            if (m + LANES <= pixels) {
                s += v_load(x + m);
                m += LANES;
            }
            if (m < pixels)
                t += v_load_n(x + m, pixels - m);
            x += pixels;
        }
        sum[k] = s + t;
    }
    v_store_n(y, v_sums(sum) / v_set1((REAL)pixels), n);
}

/* The largest number of each of n <= LANES planes of one channel, and its place. */
static void largest_of_group(const REAL *x, ptrdiff_t pixels, ptrdiff_t n, REAL *y, int64_t *indices) {
    vec largest[LANES], place[LANES];
    INT lane[LANES];
    for (int k = 0; k < LANES; k++)
        lane[k] = k;
    for (ptrdiff_t k = 0; k < LANES; k++) {
        const REAL *plane = x + MIN(k, n - 1) * pixels;
        vec best = v_load(plane);
        ivec from = v_iset1(0);
        for (ptrdiff_t m = LANES; m < pixels; m += LANES) {
            m = MIN(m, pixels - LANES); /* the last vector overlaps the one before: of equals, the first stays */
            max_down(&best, &from, v_load(plane + m), v_iset1((INT)m), 1);
        }
        largest[k] = best;
        place[k] = v_from_bits(from + v_iload(lane));
    }
    v_transpose(largest);
    v_transpose(place);
    ivec which = v_bits(place[0]);
    for (int k = 1; k < LANES; k++)
        max_across(&largest[0], &which, largest[k], v_bits(place[k]), 1);
    v_store_n(y, largest[0], n);
    v_istore(lane, which);
    for (ptrdiff_t k = 0; indices && k < n; k++)
        indices[k] = lane[k];
}

static void plan_global(cg_global_pool_args *a, double work, ptrdiff_t group) {
    a->task.n_blocks = ceil_div(a->planes, group);
    a->task.work = work * a->planes * a->pixels * a->Z;
    a->task.scratch_bytes = global_scratch(a->Z);
}

KERNEL_PLAN(global_avg_pool2d) {
    cg_global_pool_args *a = args_;
    plan_global(a, 1, global_group(a->Z, a->pixels));
}
KERNEL_RUN(global_avg_pool2d) {
    const cg_global_pool_args *a = args_;
    const ptrdiff_t group = global_group(a->Z, a->pixels);
    if (group > 1) {
        for (ptrdiff_t p = begin * group; p < MIN(end * group, a->planes); p += group)
            means_of_group((const REAL *)a->x + p * a->pixels, a->pixels, MIN(group, a->planes - p), (REAL *)a->y + p);
        return;
    }
    for (ptrdiff_t p = begin; p < end; p++)
        mean_of_plane((const REAL *)a->x + p * a->pixels * a->Z, a->pixels, a->Z, scratch_, (REAL *)a->y + p * a->Z);
}

KERNEL_PLAN(global_avg_pool2d_backward) {
    plan_global(args_, 1, 1);
}
KERNEL_RUN(global_avg_pool2d_backward) {
    const cg_global_pool_args *a = args_;
    for (ptrdiff_t p = begin; p < end; p++)
        share_in_plane((const REAL *)a->x + p * a->Z, a->pixels, a->Z, scratch_, (REAL *)a->y + p * a->pixels * a->Z);
}

KERNEL_PLAN(global_max_pool2d) {
    cg_global_pool_args *a = args_;
    plan_global(a, 2, global_group(a->Z, a->pixels));
}
KERNEL_RUN(global_max_pool2d) {
    const cg_global_pool_args *a = args_;
    const ptrdiff_t group = global_group(a->Z, a->pixels);
    if (group > 1) {
        for (ptrdiff_t p = begin * group; p < MIN(end * group, a->planes); p += group)
            largest_of_group((const REAL *)a->x + p * a->pixels, a->pixels, MIN(group, a->planes - p), (REAL *)a->y + p,
                             a->indices ? a->indices + p : NULL);
        return;
    }
    for (ptrdiff_t p = begin; p < end; p++)
        largest_of_plane((const REAL *)a->x + p * a->pixels * a->Z, a->pixels, a->Z, scratch_, (REAL *)a->y + p * a->Z,
                         a->indices, INDEX_I64, p * a->Z);
}

KERNEL_PLAN(global_max_pool2d_backward) {
    plan_global(args_, 1, 1);
}

KERNEL_RUN(global_max_pool2d_backward) {
    (void)scratch_;
    const cg_global_pool_args *a = args_;
    ptrdiff_t Z = a->Z, n = a->pixels * Z;
    for (ptrdiff_t p = begin; p < end; p++) {
        REAL *y = (REAL *)a->y + p * n;
        memset(y, 0, (size_t)n * sizeof(REAL));
        for (ptrdiff_t z = 0; z < Z; z++) {
            int64_t at = a->indices[p * Z + z];
            if (at >= 0 && at < a->pixels)
                y[at * Z + z] = ((const REAL *)a->x)[p * Z + z];
            else
                RAISE_FLAG(a->invalid);
        }
    }
}
