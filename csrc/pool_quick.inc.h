/* Pools with square windows of 2 or 3 cells, one number to a pixel and columns strided by 1 or 2, where vectors can be
 * loaded in part: the rows of a window are reduced in registers and those then across, by permutations. Results have
 * the bits of pool_windows.inc.h: the same steps in the same order.
 */
#ifdef V_LOAD_WHERE
static int pool_is_quick(const cg_windows *w) {
    return w->Z == 1 && w->R == w->S && w->dilation_h == 1 && w->dilation_w == 1 && w->stride_w <= 2 &&
           (w->S == 3 || (w->S == 2 && w->stride_w == 2));
}

INLINE vec quick_step(vec a, vec b, const int is_max) {
    if (!is_max)
        return a + b;
    ivec none = v_iset1(0);
    max_down(&a, &none, b, none, 0);
    return a;
}

/* Columns v .. v + LANES - 1 of SIZE rows; v > -LANES. */
INLINE vec quick_down(const REAL *const *row, const int SIZE, const int is_max, ptrdiff_t v, ptrdiff_t W) {
    const vec outside = v_set1(is_max ? lowest : 0);
    if (LIKELY(v >= 0 && v + LANES <= W)) {
        vec a = v_load(row[0] + v);
        UNROLL for (int r = 1; r < SIZE; r++) a = quick_step(a, v_load(row[r] + v), is_max);
        return a;
    }
    if (v >= W)
        return outside;
    const ivec lane = {LANE_NUMBERS};
    const v_mask inside =
        v_and(v_not(v_ilt(lane, v_iset1((INT)MAX(-v, 0)))), v_ilt(lane, v_iset1((INT)MIN(W - v, LANES))));
    vec a = V_LOAD_WHERE(inside, row[0] + v, outside);
    UNROLL for (int r = 1; r < SIZE; r++) a = quick_step(a, V_LOAD_WHERE(inside, row[r] + v, outside), is_max);
    return a;
}

/* LANES windows from column v on; *cur are the rows reduced at v, and from STRIDE * LANES columns on afterwards. */
INLINE vec quick_across(const REAL *const *row, const int SIZE, const int STRIDE, const int is_max, ptrdiff_t v,
                        ptrdiff_t W, vec *cur) {
    vec a = *cur, b = quick_down(row, SIZE, is_max, v + LANES, W);
    if (STRIDE == 1) {
        *cur = b;
        return quick_step(quick_step(a, v_slide_1(a, b), is_max), v_slide_2(a, b), is_max);
    }
    vec first = v_even(a, b), result = quick_step(first, v_odd(a, b), is_max);
    *cur = quick_down(row, SIZE, is_max, v + 2 * LANES, W);
    return SIZE == 2 ? result : quick_step(result, v_slide_1(first, *cur), is_max);
}
#else
#define pool_is_quick(w) 0
#endif
