/* The gradient of max pooling on planes of few pixels: a vector of pixels takes what it needs from LANES windows in a
 * row by a permutation, once for each window that a pixel can lie in, in the order of the windows. Permutations and
 * the index that names each pixel are the same for all planes: a table.
 */
#define SMALL_PIXELS 2048 /* of a plane */
#define SMALL_TAPS 4      /* windows that a pixel lies in */

#ifdef V_PERMUTE
typedef struct {
    INT lane[LANES], index[LANES]; /* which of the windows from `from` on, and what it is called there; -1: none */
    ptrdiff_t from;
} small_tap;

INLINE ptrdiff_t small_taps(const cg_windows *w) {
    return ceil_div(w->R, w->stride_h) * ceil_div(w->S, w->stride_w);
}

static size_t small_bytes(const cg_windows *w) {
    return (size_t)(ceil_div(w->H * w->W, LANES) * small_taps(w)) * sizeof(small_tap);
}

/* Whether the windows of LANES adjacent pixels, one for each pixel, always lie among LANES adjacent windows. */
static int is_small(const cg_windows *w) {
    ptrdiff_t pixels = w->H * w->W, windows = w->OW;
    if (w->W < LANES)
        windows *= ceil_div(ceil_div(LANES - 1, w->W), w->stride_h) + 1;
    return w->Z == 1 && w->dilation_h == 1 && w->dilation_w == 1 && pixels >= LANES && pixels <= SMALL_PIXELS &&
           windows <= LANES && small_taps(w) <= SMALL_TAPS && w->planes * pixels >= 16 * LANES * small_taps(w) &&
           w->planes >= 8;
}

/* Window along an axis that is the k-th to hold a position, and the place in it: -1 if there is none. */
INLINE ptrdiff_t small_window(ptrdiff_t at, ptrdiff_t before, ptrdiff_t size, ptrdiff_t stride, ptrdiff_t n,
                              ptrdiff_t k, ptrdiff_t *place) {
    ptrdiff_t i = (at + before) / stride - (ceil_div(size, stride) - 1 - k);
    *place = at + before - i * stride;
    return i >= 0 && i < n && *place < size ? i : -1;
}

static void small_table(const cg_windows *w, small_tap *tap) {
    ptrdiff_t pixels = w->H * w->W, windows = w->OH * w->OW;
    ptrdiff_t down = ceil_div(w->R, w->stride_h), right = ceil_div(w->S, w->stride_w);
    for (ptrdiff_t q0 = 0; q0 < pixels; q0 += LANES)
        for (ptrdiff_t k = 0; k < down * right; k++, tap++) {
            ptrdiff_t window[LANES], q = MIN(q0, pixels - LANES), h = q / w->W, v = q % w->W;
            tap->from = MAX(0, windows - LANES);
            for (int lane = 0; lane < LANES; lane++) {
                ptrdiff_t r, s, i = small_window(h, w->top, w->R, w->stride_h, w->OH, k / right, &r),
                                j = small_window(v, w->left, w->S, w->stride_w, w->OW, k % right, &s);
                window[lane] = i < 0 || j < 0 ? -1 : i * w->OW + j;
                tap->index[lane] = window[lane] < 0 ? -1 : (INT)(r * w->S + s);
                if (window[lane] >= 0)
                    tap->from = MIN(tap->from, window[lane]);
                if (++v == w->W)
                    v = 0, h++;
            }
            for (int lane = 0; lane < LANES; lane++)
                tap->lane[lane] = window[lane] < 0 ? 0 : (INT)(window[lane] - tap->from);
        }
}

/* Plane p; 0 if LANES windows from one of its windows on would reach beyond the last of all. */
static int gather_small(const cg_max_pool_backward_args *a, ptrdiff_t p, const small_tap *tap) {
    const cg_windows *w = &a->windows;
    ptrdiff_t pixels = w->H * w->W, windows = w->OH * w->OW, n = small_taps(w);
    if (p * windows + MAX(windows, LANES) > w->planes * windows)
        return 0;
    const REAL *grad = (const REAL *)a->grad_output + p * windows;
    const uint8_t *indices = (const uint8_t *)a->indices + p * windows;
    REAL *out = (REAL *)a->result + p * pixels;
    for (ptrdiff_t q = 0; q < pixels; q += LANES) {
        vec sum = v_zero();
        for (ptrdiff_t k = 0; k < n; k++, tap++) {
            ivec lane = v_iload(tap->lane);
            ivec index = (ivec)V_PERMUTE((vec)v_load_u8(indices + tap->from), lane);
            sum += v_blend(v_ieq(index, v_iload(tap->index)), V_PERMUTE(v_load(grad + tap->from), lane), v_zero());
        }
        v_store(out + MIN(q, pixels - LANES), sum);
    }
    return 1;
}
#else
typedef char small_tap;
#define is_small(w) 0
#define small_bytes(w) 0
#define small_table(w, tap) ((void)(tap))
#define gather_small(a, p, tap) ((void)(tap), 0)
#endif
