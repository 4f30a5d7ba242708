/* Cases of pooling, subsampling and locally connected layers: what _native/pool.pyx and _native/local.pyx do. */
#include "drive.h"

static void window_axis(drive *d, ptrdiff_t *size, ptrdiff_t *taps, ptrdiff_t *stride, ptrdiff_t *dilation,
                        ptrdiff_t *before, ptrdiff_t *after, ptrdiff_t *out) {
    *size = 1 + (below(d, 4) ? below(d, 24) : below(d, 80));
    *taps = 1 + (below(d, 12) ? below(d, 4) : below(d, 20));
    *stride = below(d, 2) ? *taps : 1 + below(d, 3);
    *dilation = PICK(d, 1, 1, 1, 2);
    ptrdiff_t span = (*taps - 1) * *dilation + 1;
    *before = below(d, 2) ? below(d, span) : 0, *after = below(d, 2) ? below(d, span) : 0;
    if (*size + *before + *after < span)
        *size = span - *before - *after;
    *out = (*size + *before + *after - span) / *stride + 1;
}

static cg_windows draw_windows(drive *d, ptrdiff_t *C) {
    cg_windows w;
    int channels_last = (int)below(d, 2);
    ptrdiff_t N = 1 + below(d, 3);
    *C = 1 + (below(d, 3) ? below(d, 10) : below(d, 40));
    w.planes = channels_last ? N : N * *C;
    w.Z = channels_last ? *C : 1;
    window_axis(d, &w.H, &w.R, &w.stride_h, &w.dilation_h, &w.top, &w.bottom, &w.OH);
    window_axis(d, &w.W, &w.S, &w.stride_w, &w.dilation_w, &w.left, &w.right, &w.OW);
    if (below(d, 4) == 0) { /* 2x2 or 3x3 next to each other, the most frequent */
        w.R = w.S = w.stride_h = w.stride_w = PICK(d, 2, 3);
        w.dilation_h = w.dilation_w = 1, w.top = w.bottom = w.left = w.right = 0;
        w.H += w.R, w.W += w.S;
        w.OH = (w.H - w.R) / w.R + 1, w.OW = (w.W - w.S) / w.S + 1;
    }
    return w;
}

static ptrdiff_t size_of(const cg_windows *w) {
    return w->planes * w->Z * w->H * w->W;
}

static ptrdiff_t size_out(const cg_windows *w) {
    return w->planes * w->Z * w->OH * w->OW;
}

static void max_pool(drive *d) {
    ptrdiff_t C;
    cg_max_pool_args a;
    memset(&a, 0, sizeof a);
    a.windows = draw_windows(d, &C);
    const cg_windows *w = &a.windows;
    const ptrdiff_t n = size_out(w);
    a.wide = w->R * w->S > 256 || below(d, 8) == 0;
    a.x = numbers(d, size_of(w));
    a.y = blank(d, n);
    if (below(d, 3))
        a.indices = piece(d, (size_t)n * (a.wide ? 4 : 1));
    launch(d, CG_KERNEL_max_pool2d, &a);
    keep(d, a.y, n, 1);
    if (!a.indices)
        return;
    for (ptrdiff_t i = 0; i < n; i++)
        keep_integer(d, a.wide ? ((int32_t *)a.indices)[i] : ((uint8_t *)a.indices)[i]);

    /* and back with these indices, or with any */
    int32_t invalid = 0;
    cg_max_pool_backward_args b;
    memset(&b, 0, sizeof b);
    b.windows = a.windows, b.wide = a.wide, b.indices = a.indices, b.invalid = &invalid;
    if (below(d, 6) == 0)
        for (ptrdiff_t i = 0; i < n; i++)
            if (below(d, 8) == 0) {
                if (a.wide)
                    ((int32_t *)a.indices)[i] = (int32_t)(below(d, 1 << 20) * 4096 - (1 << 30));
                else
                    ((uint8_t *)a.indices)[i] = (uint8_t)below(d, 256);
            }
    b.grad_output = numbers(d, n);
    b.result = blank(d, size_of(w));
    launch(d, CG_KERNEL_max_pool2d_backward, &b);
    keep_integer(d, invalid);
    if (!invalid)
        keep(d, b.result, size_of(w), (double)(w->R * w->S));
    invalid = 0;
    int64_t *places = piece(d, (size_t)n * sizeof *places);
    b.result = places;
    launch(d, CG_KERNEL_max_pool2d_plane_indices, &b);
    keep_integer(d, invalid);
    for (ptrdiff_t i = 0; i < n && !invalid; i++)
        keep_integer(d, places[i]);
}

static void average(drive *d, int subsample) {
    ptrdiff_t C;
    cg_avg_pool_args a;
    memset(&a, 0, sizeof a);
    a.windows = draw_windows(d, &C);
    const cg_windows *w = &a.windows;
    const ptrdiff_t N = w->planes * w->Z / C;
    a.C = C;
    a.count_include_pad = (int)below(d, 2);
    const void *x = a.x = numbers(d, size_of(w));
    a.weight = numbers_if(d, subsample, C);
    a.bias = numbers_if(d, subsample, C);
    a.y = blank(d, size_out(w));
    launch(d, subsample ? CG_KERNEL_subsample2d : CG_KERNEL_avg_pool2d, &a);
    keep(d, a.y, size_out(w), (double)(w->R * w->S));

    cg_avg_pool_args b;
    memset(&b, 0, sizeof b);
    b.windows = a.windows, b.C = C, b.count_include_pad = a.count_include_pad;
    b.y = numbers(d, size_out(w));
    b.grad_x = blank(d, size_of(w));
    if (subsample) {
        b.x = x, b.weight = a.weight;
        b.weight_sums = blank(d, N * C), b.bias_sums = blank(d, N * C);
    }
    launch(d, subsample ? CG_KERNEL_subsample2d_backward : CG_KERNEL_avg_pool2d_backward, &b);
    keep(d, b.grad_x, size_of(w), (double)(w->R * w->S));
    if (subsample) {
        keep(d, b.weight_sums, N * C, (double)(w->OH * w->OW));
        keep(d, b.bias_sums, N * C, (double)(w->OH * w->OW));
    }
}

static void avg_pool(drive *d) {
    average(d, 0);
}

static void subsample(drive *d) {
    average(d, 1);
}

static void global_pool(drive *d) {
    cg_global_pool_args a;
    memset(&a, 0, sizeof a);
    a.planes = 1 + below(d, 40), a.Z = PICK(d, 1, 1, 3, 17, 40), a.pixels = 1 + below(d, 300);
    const ptrdiff_t n = a.planes * a.Z, size = n * a.pixels;
    const void *x = a.x = numbers(d, size);
    a.y = blank(d, n);
    launch(d, CG_KERNEL_global_avg_pool2d, &a);
    keep(d, a.y, n, (double)a.pixels);
    int64_t *indices = a.indices = piece(d, (size_t)n * sizeof *indices);
    launch(d, CG_KERNEL_global_max_pool2d, &a);
    keep(d, a.y, n, 1);
    for (ptrdiff_t i = 0; i < n; i++)
        keep_integer(d, indices[i]);
    a.indices = NULL;
    a.x = x;
    launch(d, CG_KERNEL_global_max_pool2d, &a);
    keep(d, a.y, n, 1);

    int32_t invalid = 0;
    cg_global_pool_args b;
    memset(&b, 0, sizeof b);
    b.planes = a.planes, b.Z = a.Z, b.pixels = a.pixels;
    b.x = numbers(d, n);
    b.y = blank(d, size);
    launch(d, CG_KERNEL_global_avg_pool2d_backward, &b);
    keep(d, b.y, size, 1);
    b.indices = indices, b.invalid = &invalid;
    if (below(d, 6) == 0)
        indices[below(d, n)] = PICK(d, -1, a.pixels, PTRDIFF_MAX, PTRDIFF_MIN);
    launch(d, CG_KERNEL_global_max_pool2d_backward, &b);
    keep_integer(d, invalid);
    if (!invalid)
        keep(d, b.y, size, 1);
}

static void locally_connected(drive *d) {
    cg_local_args a;
    memset(&a, 0, sizeof a);
    int channels_last = (int)below(d, 2);
    a.N = 1 + (below(d, 3) ? below(d, 4) : below(d, 40)), a.C = 1 + below(d, 6), a.K = 1 + below(d, 12);
    a.R = 1 + below(d, 4), a.S = 1 + below(d, 4);
    a.H = a.R + below(d, 8), a.W = a.S + below(d, 10);
    a.stride_h = 1 + below(d, 3), a.stride_w = 1 + below(d, 3);
    a.OH = (a.H - a.R) / a.stride_h + 1, a.OW = (a.W - a.S) / a.stride_w + 1;
    a.x_at = strides(channels_last, a.C, a.H, a.W);
    a.y_at = strides(channels_last, a.K, a.OH, a.OW);
    const ptrdiff_t pixels = a.OH * a.OW, size = a.C * a.R * a.S, n_x = a.N * a.C * a.H * a.W, n_y = a.N * a.K * pixels;
    a.x = numbers(d, n_x);
    a.weight = numbers(d, pixels * a.K * size);
    a.bias = numbers_if(d, (int)below(d, 2), pixels * a.K);
    a.activation = (int)below(d, 10), a.parameter = 0.25;
    a.out = blank(d, n_y);
    launch(d, CG_KERNEL_locally_connected2d, &a);
    keep(d, a.out, n_y, (double)size * 2);

    cg_local_args b = a;
    b.bias = NULL, b.activation = 0, b.parameter = 0;
    b.grad_output = numbers(d, n_y);
    b.weight = NULL;
    b.out = blank(d, pixels * a.K * size);
    b.grad_bias = below(d, 2) ? blank(d, pixels * a.K) : NULL;
    launch(d, CG_KERNEL_locally_connected2d_grad_weight, &b);
    keep(d, b.out, pixels * a.K * size, (double)a.N);
    if (b.grad_bias)
        keep(d, b.grad_bias, pixels * a.K, (double)a.N);

    cg_local_args c = b;
    c.x = NULL, c.weight = a.weight, c.grad_bias = NULL;
    c.out = blank(d, n_x);
    launch(d, CG_KERNEL_locally_connected2d_grad_input, &c);
    keep(d, c.out, n_x, (double)(a.K * a.R * a.S));
}

const family pool_families[] = {{"max_pool", max_pool},
                                {"avg_pool", avg_pool},
                                {"subsample", subsample},
                                {"global_pool", global_pool},
                                {"locally_connected", locally_connected},
                                {0}};
