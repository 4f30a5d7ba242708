/* The gradient of max pooling where windows overlap, pixel by pixel: a pixel adds up grad_output of those windows whose
 * index names it, in the order of the windows. Every number is written once, and nothing is cleared before.
 *
 * Where windows and pixels lie alike (Z = 1, stride 1, as many windows as pixels), the whole batch is one line: tap (r,
 * s) sees the pixel (r * dilation_h - top) * W + s * dilation_w - left further on, and a window at the end of a row
 * never names a cell beyond it, so rows and planes need nothing between them. Where a pixel has LANES numbers or more,
 * vectors run over those.
 */

/* A cell of windows as pixels see it: how far away, and four copies of the index that names it. */
typedef struct {
    ptrdiff_t at;
    int32_t index;
} max_tap;

INLINE max_tap max_tap_of(ptrdiff_t at, ptrdiff_t index) {
    return (max_tap){at, (int32_t)((uint32_t)index * 0x01010101u)};
}

/* Which of LANES bytes are equal to the index. */
INLINE v_mask named_by(const uint8_t *indices, int32_t index) {
#ifdef V_EQUAL_U8
    return V_EQUAL_U8(indices, index);
#else
    return v_ieq(v_load_u8(indices), v_iset1((INT)(index & 255)));
#endif
}

/* m vectors of pixels: four at a time, as a loop over so few taps is left by a mispredicted branch each time. */
INLINE void gather_vectors(const uint8_t *indices, const REAL *grad, const max_tap *tap, ptrdiff_t n, REAL *out,
                           int m) {
    vec sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    for (ptrdiff_t k = 0; k < n; k++)
        UNROLL for (int q = 0; q < m; q++) {
            v_mask named = named_by(indices + tap[k].at + q * LANES, tap[k].index);
            sum[q] += v_blend(named, v_load(grad + tap[k].at + q * LANES), v_zero());
        }
    UNROLL for (int q = 0; q < m; q++) v_store(out + q * LANES, sum[q]);
}

/* `length` numbers, at least LANES; the last vector overlaps the one before. */
INLINE void gather_run(const uint8_t *indices, const REAL *grad, const max_tap *tap, ptrdiff_t n, REAL *out,
                       ptrdiff_t length) {
    ptrdiff_t t = 0;
    for (; t + 4 * LANES <= length; t += 4 * LANES) {
        UNROLL for (int q = 0; q < 4; q++) PREFETCH_WRITE(out + t + STREAM_AHEAD + q * LANES);
        gather_vectors(indices + t, grad + t, tap, n, out + t, 4);
    }
    for (; t < length; t += LANES) {
        t = MIN(t, length - LANES);
        gather_vectors(indices + t, grad + t, tap, n, out + t, 1);
    }
}

static int is_flat(const cg_windows *w) {
    return w->Z == 1 && w->stride_h == 1 && w->stride_w == 1 && w->OW == w->W && w->OH == w->H;
}

/* Pixels of planes p0 .. p1 - 1. */
static void gather_flat(const cg_max_pool_backward_args *a, ptrdiff_t p0, ptrdiff_t p1, max_tap *tap) {
    const cg_windows *w = &a->windows;
    ptrdiff_t plane = w->H * w->W, total = w->planes * plane, n = 0, least = 0, most = 0;
    for (ptrdiff_t r = w->R - 1; r >= 0; r--)
        for (ptrdiff_t s = w->S - 1; s >= 0; s--, n++) {
            ptrdiff_t at = (w->top - r * w->dilation_h) * w->W + w->left - s * w->dilation_w;
            tap[n] = max_tap_of(at, r * w->S + s);
            least = MIN(least, at);
            most = MAX(most, at);
        }
    const uint8_t *indices = a->indices;
    const REAL *grad = a->grad_output;
    REAL *out = a->result;
    ptrdiff_t first = MAX(p0 * plane, -least), last = MIN(p1 * plane, total - most);
    if (last - first < LANES)
        first = last = p1 * plane;
    for (ptrdiff_t q = p0 * plane; q < p1 * plane; q = q < first ? q + 1 : MAX(q + 1, last)) {
        if (q == first && first < last) {
            gather_run(indices + q, grad + q, tap, n, out + q, last - first);
            continue;
        }
        REAL sum = 0; /* some taps lie before the first or after the last window of all */
        for (ptrdiff_t k = 0; k < n; k++) {
            ptrdiff_t from = q + tap[k].at;
            if (from >= 0 && from < total && indices[from] == (uint8_t)tap[k].index)
                sum += grad[from];
        }
        out[q] = sum;
    }
}

/* Rows h0 .. h1 - 1 of plane p, vectors over the numbers of a pixel. */
static void gather_pixels(const cg_max_pool_backward_args *a, ptrdiff_t p, ptrdiff_t h0, ptrdiff_t h1, max_tap *tap) {
    const cg_windows *w = &a->windows;
    const ptrdiff_t Z = w->Z, down = (w->R - 1) * w->dilation_h, right = (w->S - 1) * w->dilation_w;
    for (ptrdiff_t h = h0; h < h1; h++) {
        ptrdiff_t i0 = h + w->top < down ? 0 : ceil_div(h + w->top - down, w->stride_h), j0 = 0, j1 = 0;
        ptrdiff_t i1 = MIN(w->OH, (h + w->top) / w->stride_h + 1);
        REAL *out = (REAL *)a->result + (p * w->H + h) * w->W * Z;
        for (ptrdiff_t v = 0; v < w->W; v++, out += Z) {
            while (j0 * w->stride_w + right < v + w->left)
                j0++;
            while (j1 < w->OW && j1 * w->stride_w <= v + w->left)
                j1++;
            ptrdiff_t n = 0;
            for (ptrdiff_t i = i0; i < i1; i++)
                for (ptrdiff_t j = j0; j < j1; j++) {
                    ptrdiff_t r = h + w->top - i * w->stride_h, s = v + w->left - j * w->stride_w;
                    if (w->dilation_h > 1 || w->dilation_w > 1) {
                        if (r % w->dilation_h || s % w->dilation_w)
                            continue;
                        r /= w->dilation_h;
                        s /= w->dilation_w;
                    }
                    tap[n++] = max_tap_of(((p * w->OH + i) * w->OW + j) * Z, r * w->S + s);
                }
            gather_run(a->indices, a->grad_output, tap, n, out, Z);
        }
    }
}
