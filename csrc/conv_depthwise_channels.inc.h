/* Depthwise convolution of images whose channels are adjacent (NHWC): vectors over channels, nothing is copied.
 *
 * y[n, i, j, c] = activation(bias[c] + sum over taps of weight[c, tap] * x[n, i', j', c])    (see cg_phase)
 *
 * Four neighbouring pixels share the loads of the weights; taps outside the image are left out pixel by pixel. Any
 * kernel, stride and dilation; the gradient by the input has classes of output positions like that of conv_direct.
 */
#define CHANNELS_PIXELS 4

typedef struct {
    const REAL *x, *w;
} channels_tap;

/* `pixels` (at most P) pixels of y, all channels. */
INLINE void depthwise_pixels(const int P, const channels_tap *tap, ptrdiff_t n_taps, ptrdiff_t x_step, ptrdiff_t C,
                             const REAL *bias, REAL *y, ptrdiff_t y_step) {
    for (ptrdiff_t c = 0; c < C; c += LANES) {
        vec sum[CHANNELS_PIXELS];
        ptrdiff_t rest = C - c;
        vec start = v_load(bias + c); /* bias and weights are padded with zeros */
        UNROLL for (int p = 0; p < P; p++) sum[p] = start;
        if (rest >= LANES) {
            for (ptrdiff_t t = 0; t < n_taps; t++) {
                vec w = v_load(tap[t].w + c);
                UNROLL for (int p = 0; p < P; p++) sum[p] = v_fma(w, v_load(tap[t].x + p * x_step + c), sum[p]);
            }
            UNROLL for (int p = 0; p < P; p++) v_store(y + p * y_step + c, sum[p]);
        } else {
            for (ptrdiff_t t = 0; t < n_taps; t++) {
                vec w = v_load(tap[t].w + c);
                UNROLL for (int p = 0; p < P; p++) sum[p] = v_fma(w, v_load_n(tap[t].x + p * x_step + c, rest), sum[p]);
            }
            UNROLL for (int p = 0; p < P; p++) v_store_n(y + p * y_step + c, sum[p], rest);
        }
    }
}

static void depthwise_pixels_many(const channels_tap *tap, ptrdiff_t n_taps, ptrdiff_t x_step, ptrdiff_t C,
                                  const REAL *bias, REAL *y, ptrdiff_t y_step) {
    depthwise_pixels(CHANNELS_PIXELS, tap, n_taps, x_step, C, bias, y, y_step);
}

static void depthwise_pixels_one(const channels_tap *tap, ptrdiff_t n_taps, ptrdiff_t x_step, ptrdiff_t C,
                                 const REAL *bias, REAL *y, ptrdiff_t y_step) {
    depthwise_pixels(1, tap, n_taps, x_step, C, bias, y, y_step);
}

/* Takes the arguments of conv_correlate where C and K are 1 and the channels (groups) of x and y are adjacent. One
 * block is one row of y. */
KERNEL_PLAN(conv_depthwise_channels) {
    cg_conv_args *a = args_;
    ptrdiff_t taps = a->R * a->S, width = round_up(a->groups, LANES);
    a->n_taps = axis_taps(&a->rows) * axis_taps(&a->cols);
    a->stage_row = width;
    a->weight_at = 0;
    a->bias_at = a->weight_at + taps * width * sizeof(REAL);
    a->pixel_at = round_up(a->bias_at + width * sizeof(REAL), 64);
    a->task.scratch_bytes = a->pixel_at + taps * sizeof(channels_tap);
    a->n_row_blocks = 0; /* rows of y in one sample */
    for (ptrdiff_t u = 0; u < a->rows.n_phases; u++)
        a->n_row_blocks += a->rows.phase[u].count;
    a->block_n = a->block_rows = a->c_chunk = 1;
    a->block_cols = a->cols.max_count * a->cols.n_phases;
    a->k_group = 1;
    a->task.n_blocks = a->N * a->n_row_blocks;
    a->task.work = 0.25 * a->N * a->groups * a->n_row_blocks * a->cols.max_count * MAX(1, a->n_taps);
}

/* One class of columns of a row of y. */
static void depthwise_channels_row(const cg_conv_args *a, const cg_phase *rows, const cg_phase *cols, const REAL *x,
                                   ptrdiff_t h0, const REAL *weight, const REAL *bias, channels_tap *tap, REAL *y) {
    ptrdiff_t x_step = a->cols.in_step * a->x_at.stride_w, y_step = a->cols.out_step * a->y_at.stride_w;
    ptrdiff_t inside0 = 0, inside1 = cols->count; /* pixels all of whose column taps are inside the image */
    for (ptrdiff_t s = 0; s < cols->n_taps; s++) {
        ptrdiff_t offset = cols->tap_offset[s], step = a->cols.in_step;
        inside0 = MAX(inside0, offset < 0 ? ceil_div(-offset, step) : 0);
        inside1 = MIN(inside1, offset >= a->W ? 0 : (a->W - 1 - offset) / step + 1);
    }
    for (ptrdiff_t j = 0, n; j < cols->count; j += n) {
        int whole = j >= inside0 && j + CHANNELS_PIXELS <= inside1;
        ptrdiff_t n_taps = 0;
        n = whole ? CHANNELS_PIXELS : 1;
        for (ptrdiff_t r = 0; r < rows->n_taps; r++) {
            ptrdiff_t h = h0 + rows->tap_offset[r];
            for (ptrdiff_t s = 0; s < cols->n_taps && h >= 0 && h < a->H; s++) {
                ptrdiff_t w = j * a->cols.in_step + cols->tap_offset[s];
                if (w < 0 || w >= a->W)
                    continue;
                tap[n_taps].x = x + h * a->x_at.stride_h + w * a->x_at.stride_w;
                tap[n_taps++].w = weight + (rows->tap_index[r] * a->S + cols->tap_index[s]) * a->stage_row;
            }
        }
        (whole ? depthwise_pixels_many : depthwise_pixels_one)(tap, n_taps, x_step, a->groups, bias, y + j * y_step,
                                                               y_step);
    }
}

KERNEL_RUN(conv_depthwise_channels) {
    const cg_conv_args *a = args_;
    char *scratch = scratch_;
    REAL *weight = (REAL *)(scratch + a->weight_at), *bias = (REAL *)(scratch + a->bias_at);
    ptrdiff_t C = a->groups, width = a->stage_row;
    for (ptrdiff_t t = 0; t < a->R * a->S; t++) {
        const REAL *from = (const REAL *)a->weight + t / a->S * a->w_r + t % a->S * a->w_s;
        for (ptrdiff_t c = 0; c < width; c++)
            weight[t * width + c] = c < C ? from[c * a->w_group] : 0;
    }
    for (ptrdiff_t c = 0; c < width; c++)
        bias[c] = a->bias && c < C ? ((const REAL *)a->bias)[c] : 0;
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t n = block / a->n_row_blocks, row = block % a->n_row_blocks;
        const cg_phase *rows = a->rows.phase;
        while (row >= rows->count)
            row -= rows++->count;
        const REAL *x = (const REAL *)a->x + n * a->x_at.stride_n;
        REAL *y = (REAL *)a->y + n * a->y_at.stride_n + (rows->out_first + row * a->rows.out_step) * a->y_at.stride_h;
        for (ptrdiff_t v = 0; v < a->cols.n_phases; v++) {
            const cg_phase *cols = a->cols.phase + v;
            depthwise_channels_row(a, rows, cols, x, row * a->rows.in_step, weight, bias,
                                   (channels_tap *)(scratch + a->pixel_at), y + cols->out_first * a->y_at.stride_w);
            for (ptrdiff_t j = 0; j < cols->count && a->activation != CG_IDENTITY; j++)
                activate_run(a->activation, (REAL)a->parameter,
                             y + (cols->out_first + j * a->cols.out_step) * a->y_at.stride_w, C);
        }
    }
}

/* ------------------------------------------------------------------ gradient by the weight */

#define CHANNELS_TAPS 5  /* of a kernel's row, summed side by side */
#define CHANNELS_BLOCK 8 /* vectors of channels of a block */

/* sum[s] += g[j] * x[j * step + s * dilation] over pixels, for one vector of channels. */
INLINE void depthwise_row_sums(const int TAPS, const REAL *g, ptrdiff_t g_step, const REAL *x, ptrdiff_t x_step,
                               ptrdiff_t x_tap, ptrdiff_t pixels, ptrdiff_t lanes, REAL *sums, ptrdiff_t sums_step) {
    vec sum[CHANNELS_TAPS];
    UNROLL for (int s = 0; s < TAPS; s++) sum[s] = v_zero();
    if (lanes == LANES)
        for (ptrdiff_t j = 0; j < pixels; j++, g += g_step, x += x_step) {
            vec z = v_load(g);
            UNROLL for (int s = 0; s < TAPS; s++) sum[s] = v_fma(z, v_load(x + s * x_tap), sum[s]);
        }
    else
        for (ptrdiff_t j = 0; j < pixels; j++, g += g_step, x += x_step) {
            vec z = v_load_n(g, lanes);
            UNROLL for (int s = 0; s < TAPS; s++) sum[s] = v_fma(z, v_load_n(x + s * x_tap, lanes), sum[s]);
        }
    UNROLL for (int s = 0; s < TAPS; s++) v_store(sums + s * sums_step, v_load(sums + s * sums_step) + sum[s]);
}

static void depthwise_row_sums_1(const REAL *g, ptrdiff_t g_step, const REAL *x, ptrdiff_t x_step, ptrdiff_t x_tap,
                                 ptrdiff_t pixels, ptrdiff_t lanes, REAL *sums, ptrdiff_t sums_step) {
    depthwise_row_sums(1, g, g_step, x, x_step, x_tap, pixels, lanes, sums, sums_step);
}

static void depthwise_row_sums_3(const REAL *g, ptrdiff_t g_step, const REAL *x, ptrdiff_t x_step, ptrdiff_t x_tap,
                                 ptrdiff_t pixels, ptrdiff_t lanes, REAL *sums, ptrdiff_t sums_step) {
    depthwise_row_sums(3, g, g_step, x, x_step, x_tap, pixels, lanes, sums, sums_step);
}

static void depthwise_row_sums_5(const REAL *g, ptrdiff_t g_step, const REAL *x, ptrdiff_t x_step, ptrdiff_t x_tap,
                                 ptrdiff_t pixels, ptrdiff_t lanes, REAL *sums, ptrdiff_t sums_step) {
    depthwise_row_sums(5, g, g_step, x, x_step, x_tap, pixels, lanes, sums, sums_step);
}

/* Takes the arguments of conv_grad_weight under the conditions of conv_depthwise_channels. A block is a few vectors of
 * channels, in all samples. */
KERNEL_PLAN(conv_depthwise_channels_grad) {
    cg_conv_grad_weight_args *a = args_;
    ptrdiff_t vectors = ceil_div(a->groups, LANES), threads = MAX(1, a->task.threads);
    a->k_block = LANES * MAX(1, MIN(CHANNELS_BLOCK, vectors / (2 * threads)));
    a->c_block = a->R * a->S;
    a->task.scratch_bytes = 2 * a->R * a->S * a->k_block * sizeof(REAL);
    a->task.n_blocks = ceil_div(a->groups, a->k_block);
    a->task.work = 0.25 * a->N * a->groups * a->OH * a->OW * a->R * a->S;
}

/* The products of row i of g with row h of x, into sums of the kernel's row r, for one vector of channels. */
static void depthwise_channels_products(const cg_conv_grad_weight_args *a, const REAL *g, const REAL *x,
                                        ptrdiff_t lanes, REAL *sums) {
    ptrdiff_t x_step = a->stride_w * a->x_at.stride_w, x_tap = a->dilation_w * a->x_at.stride_w;
    for (ptrdiff_t s = 0, n; s < a->S; s += n) {
        n = a->S - s >= 5 ? 5 : a->S - s >= 3 ? 3 : 1;
        /* pixels whose columns for these taps are inside the image, and for one tap alone */
        ptrdiff_t j0[5], j1[5], all0 = 0, all1 = a->OW;
        for (ptrdiff_t q = 0; q < n; q++) {
            ptrdiff_t offset = (s + q) * a->dilation_w - a->left;
            j0[q] = MIN(a->OW, offset < 0 ? ceil_div(-offset, a->stride_w) : 0);
            j1[q] = MAX(j0[q], offset >= a->W ? 0 : MIN(a->OW, (a->W - 1 - offset) / a->stride_w + 1));
            all0 = MAX(all0, j0[q]);
            all1 = MIN(all1, j1[q]);
        }
        all1 = MAX(all0, all1);
        const REAL *from = x + (s * a->dilation_w - a->left) * a->x_at.stride_w;
        REAL *to = sums + s * LANES;
        if (all1 > all0)
            (n == 5   ? depthwise_row_sums_5
             : n == 3 ? depthwise_row_sums_3
                      : depthwise_row_sums_1)(g + all0 * a->g_at.stride_w, a->g_at.stride_w, from + all0 * x_step,
                                              x_step, x_tap, all1 - all0, lanes, to, LANES);
        for (ptrdiff_t q = 0; q < n; q++) {
            ptrdiff_t before = MIN(all0, j1[q]), after = MAX(all1, j0[q]);
            if (j0[q] < before)
                depthwise_row_sums_1(g + j0[q] * a->g_at.stride_w, a->g_at.stride_w, from + q * x_tap + j0[q] * x_step,
                                     x_step, x_tap, before - j0[q], lanes, to + q * LANES, LANES);
            if (after < j1[q])
                depthwise_row_sums_1(g + after * a->g_at.stride_w, a->g_at.stride_w, from + q * x_tap + after * x_step,
                                     x_step, x_tap, j1[q] - after, lanes, to + q * LANES, LANES);
        }
    }
}

KERNEL_RUN(conv_depthwise_channels_grad) {
    const cg_conv_grad_weight_args *a = args_;
    ptrdiff_t taps = a->R * a->S, size = taps * a->k_block;
    REAL *sums = scratch_, *total = sums + size; /* of a sample, of all: [vector of channels][tap] */
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t c0 = block * a->k_block, c1 = MIN(a->groups, c0 + a->k_block);
        fill_run(total, 0, size);
        for (ptrdiff_t n = 0; n < a->N; n++) {
            fill_run(sums, 0, size);
            for (ptrdiff_t i = 0; i < a->OH; i++)
                for (ptrdiff_t r = 0; r < a->R; r++) {
                    ptrdiff_t h = i * a->stride_h + r * a->dilation_h - a->top;
                    for (ptrdiff_t c = c0; c < c1 && h >= 0 && h < a->H; c += LANES)
                        depthwise_channels_products(
                            a, (const REAL *)a->grad_output + n * a->g_at.stride_n + i * a->g_at.stride_h + c,
                            (const REAL *)a->x + n * a->x_at.stride_n + h * a->x_at.stride_h + c, MIN(LANES, c1 - c),
                            sums + (c - c0) * taps + r * a->S * LANES);
                }
            for (ptrdiff_t t = 0; t < size; t += LANES)
                v_store(total + t, v_load(total + t) + v_load(sums + t));
        }
        for (ptrdiff_t c = c0; c < c1; c++)
            for (ptrdiff_t t = 0; t < taps; t++)
                ((REAL *)a->grad_weight)[c * taps + t] =
                    total[(c - c0) / LANES * taps * LANES + t * LANES + (c - c0) % LANES];
    }
}
