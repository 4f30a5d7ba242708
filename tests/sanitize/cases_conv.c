/* Cases of convolution, its gradients and packed weights: what _native/conv.pyx does. */
#include "drive.h"

/* A layer and its arrays' sizes. */
typedef struct {
    int channels_last;
    ptrdiff_t N, groups, C, K, H, W, R, S, OH, OW; /* C and K of one group */
    ptrdiff_t stride_h, stride_w, dilation_h, dilation_w, top, left;
} layer;

/* Sizes along one axis: padding before and after of at most a kernel, output of what the padded input allows. */
static void axis_sizes(drive *d, ptrdiff_t size, ptrdiff_t taps, ptrdiff_t stride, ptrdiff_t dilation,
                       ptrdiff_t *before, ptrdiff_t *out) {
    ptrdiff_t span = (taps - 1) * dilation + 1, after;
    *before = below(d, taps + 1);
    after = below(d, taps + 1);
    if (size + *before + after < span)
        *before = span - size - after;
    *out = (size + *before + after - span) / stride + 1;
}

static layer draw_layer(drive *d) {
    layer l = {.groups = 1};
    int kind = (int)below(d, 6); /* 0: 1x1, 1: depthwise, 2: depthwise in NHWC, 3: groups, else any */
    l.channels_last = kind == 2 || (kind != 1 && below(d, 3) == 0);
    l.N = 1 + below(d, 3);
    l.C = 1 + (below(d, 4) ? below(d, 20) : below(d, 70));
    l.K = 1 + (below(d, 4) ? below(d, 20) : below(d, 70));
    l.H = 1 + below(d, 20), l.W = 1 + (below(d, 3) ? below(d, 20) : below(d, 60));
    l.R = 1 + below(d, 4), l.S = 1 + below(d, 4);
    l.stride_h = PICK(d, 1, 1, 2, 3), l.stride_w = PICK(d, 1, 1, 2, 3);
    l.dilation_h = PICK(d, 1, 1, 1, 2), l.dilation_w = PICK(d, 1, 1, 1, 2);
    int whole = below(d, 8) == 0;
    if (kind == 0)
        l.R = l.S = l.dilation_h = l.dilation_w = 1;
    if (kind == 0 && below(d, 2))
        l.stride_h = l.stride_w = 1;
    if (kind == 1) {
        l.R = l.S = PICK(d, 3, 5), l.dilation_h = l.dilation_w = 1, l.stride_h = l.stride_w = PICK(d, 1, 2);
        l.groups = 2 + below(d, 18), l.C = 1, l.K = PICK(d, 1, 1, 1, 2);
        l.H += 1, l.W += 1;
    } else if (kind == 2)
        l.groups = 2 + below(d, 40), l.C = l.K = 1;
    else if (kind == 3)
        l.groups = 2 + below(d, 3), l.C = 1 + l.C / 4, l.K = 1 + l.K / 4;
    else if (whole) {
        l.R = l.H = 1 + l.H / 4, l.S = l.W = 1 + l.W / 4;
        l.stride_h = l.stride_w = l.dilation_h = l.dilation_w = l.OH = l.OW = 1;
        return l;
    }
    axis_sizes(d, l.H, l.R, l.stride_h, l.dilation_h, &l.top, &l.OH);
    axis_sizes(d, l.W, l.S, l.stride_w, l.dilation_w, &l.left, &l.OW);
    if (kind == 0 && below(d, 2))
        l.top = l.left = 0, l.OH = (l.H - 1) / l.stride_h + 1, l.OW = (l.W - 1) / l.stride_w + 1;
    return l;
}

static int is_depthwise(const layer *l, int backward) {
    return l->groups > 1 && (backward ? l->K : l->C) == 1 && l->R == l->S && (l->R == 3 || l->R == 5) &&
           l->dilation_h == 1 && l->dilation_w == 1 && l->stride_h == l->stride_w &&
           (l->stride_h == 1 || (l->stride_h == 2 && (!backward || l->C == 1))) &&
           MIN(MIN(l->H, l->W), MIN(l->OH, l->OW)) > 1;
}

/* Classes of output positions, as forward_axis and backward_axis of conv.pyx have them. */
static cg_axis forward_axis(drive *d, ptrdiff_t out, ptrdiff_t taps, ptrdiff_t stride, ptrdiff_t dilation,
                            ptrdiff_t before) {
    cg_phase *phase = piece(d, sizeof *phase);
    ptrdiff_t *index = piece(d, (size_t)taps * sizeof *index), *offset = piece(d, (size_t)taps * sizeof *offset);
    for (ptrdiff_t r = 0; r < taps; r++)
        index[r] = r, offset[r] = r * dilation - before;
    *phase = (cg_phase){0, out, taps, index, offset};
    return (cg_axis){phase, 1, stride, 1, out, -before, (taps - 1) * dilation - before};
}

static ptrdiff_t floor_div(ptrdiff_t a, ptrdiff_t b) {
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

static cg_axis backward_axis(drive *d, ptrdiff_t size, ptrdiff_t taps, ptrdiff_t stride, ptrdiff_t dilation,
                             ptrdiff_t before) {
    ptrdiff_t n = MIN(stride, size);
    cg_phase *phase = piece(d, (size_t)n * sizeof *phase);
    cg_axis axis = {phase, n, 1, stride, 0, 0, 0};
    int any = 0;
    for (ptrdiff_t first = 0; first < n; first++) {
        ptrdiff_t *index = piece(d, (size_t)taps * sizeof *index), *offset = piece(d, (size_t)taps * sizeof *offset);
        ptrdiff_t u = (first + before) / stride, a = (first + before) % stride, count = 0;
        for (ptrdiff_t r = 0; r < taps; r++)
            if (r * dilation % stride == a) {
                ptrdiff_t o = u + floor_div(a - r * dilation, stride);
                index[count] = r, offset[count++] = o;
                axis.min_offset = any ? MIN(axis.min_offset, o) : o;
                axis.max_offset = any ? MAX(axis.max_offset, o) : o;
                any = 1;
            }
        phase[first] = (cg_phase){first, (size - 1 - first) / stride + 1, count, index, offset};
        axis.max_count = MAX(axis.max_count, phase[first].count);
    }
    return axis;
}

static void run_correlation(drive *d, int kernel, cg_conv_args *a, int packed) {
    if (packed && kernel == CG_KERNEL_conv_correlate) {
        a->all_packed = 1;
        plan(d, CG_KERNEL_conv_pack, a);
        a->packed = a->packed_bytes ? piece(d, a->packed_bytes) : NULL;
        if (a->packed)
            launch(d, CG_KERNEL_conv_pack, a);
        a->all_packed = a->packed != NULL;
    }
    launch(d, kernel, a);
}

static void correlate(drive *d, int backward) {
    layer l = draw_layer(d);
    ptrdiff_t groups = l.groups, n_w = groups * l.K * l.C * l.R * l.S, n_x, n_y;
    cg_conv_args a;
    memset(&a, 0, sizeof a);
    n_x = l.N * groups * l.C * l.H * l.W;
    n_y = l.N * groups * l.K * l.OH * l.OW;
    a.N = l.N, a.groups = groups, a.R = l.R, a.S = l.S;
    a.w_s = 1, a.w_r = l.S, a.w_group = l.K * l.C * l.R * l.S;
    cg_strides x_at = strides(l.channels_last, groups * l.C, l.H, l.W),
               y_at = strides(l.channels_last, groups * l.K, l.OH, l.OW);
    a.x = numbers(d, backward ? n_y : n_x);
    a.weight = numbers(d, n_w);
    a.bias = numbers_if(d, (int)below(d, 2), groups * (backward ? l.C : l.K));
    a.activation = (int)below(d, 10), a.parameter = 0.25;
    int packed = below(d, 4) > 0, residual = (int)below(d, 3) == 0;
    if (backward) {
        n_y = n_x;
        a.C = l.K, a.K = l.C, a.H = l.OH, a.W = l.OW;
        a.w_k = l.R * l.S, a.w_c = l.C * l.R * l.S;
        a.x_at = y_at, a.y_at = x_at;
        a.rows = backward_axis(d, l.H, l.R, l.stride_h, l.dilation_h, l.top);
        a.cols = backward_axis(d, l.W, l.S, l.stride_w, l.dilation_w, l.left);
    } else {
        a.C = l.C, a.K = l.K, a.H = l.H, a.W = l.W;
        a.w_c = l.R * l.S, a.w_k = l.C * l.R * l.S;
        a.x_at = x_at, a.y_at = y_at;
        a.rows = forward_axis(d, l.OH, l.R, l.stride_h, l.dilation_h, l.top);
        a.cols = forward_axis(d, l.OW, l.S, l.stride_w, l.dilation_w, l.left);
        a.residual = numbers_if(d, residual && !l.channels_last, n_y);
    }
    a.y = blank(d, n_y);
    int kernel = CG_KERNEL_conv_correlate;
    if (is_depthwise(&l, backward) && a.x_at.stride_w == 1 && a.y_at.stride_w == 1)
        kernel = a.cols.out_step == 1 ? CG_KERNEL_conv_depthwise : CG_KERNEL_conv_depthwise_strided_grad;
    else if (groups > 1 && l.C == 1 && l.K == 1 && l.channels_last)
        kernel = CG_KERNEL_conv_depthwise_channels;
    else if (l.R == l.H && l.S == l.W && l.OH == 1 && l.OW == 1 && !l.top && !l.left && l.R * l.S > 1 &&
             !l.channels_last && groups == 1 && !(backward && a.bias) && l.dilation_h == 1 && l.dilation_w == 1) {
        /* one row, whose pixels are the samples */
        if (backward)
            a.K *= l.R * l.S, a.w_k = 1;
        else
            a.C *= l.R * l.S, a.w_c = a.x_at.stride_c = 1;
        a.x_at.stride_w = a.x_at.stride_n, a.x_at.stride_h = 0;
        a.y_at.stride_w = a.y_at.stride_n, a.y_at.stride_c = 1, a.y_at.stride_h = 0;
        a.H = 1, a.W = a.N, a.N = a.R = a.S = 1, a.w_r = a.w_s = 0;
        a.rows = forward_axis(d, 1, 1, 1, 1, 0), a.cols = forward_axis(d, a.W, 1, 1, 1, 0);
        a.samples_are_pixels = 1;
        packed = residual = 0;
        a.residual = NULL;
    } else if (l.R == 1 && l.S == 1 && l.OH == l.H && l.OW == l.W && !l.top && !l.left && l.stride_h == 1 &&
               l.stride_w == 1) {
        a.W *= a.H, a.H = 1;
        a.rows = forward_axis(d, 1, 1, 1, 1, 0), a.cols = forward_axis(d, a.W, 1, 1, 1, 0);
    }
    run_correlation(d, kernel, &a, packed && !backward);
    keep(d, a.y, n_y, (double)(a.C * l.R * l.S) * 2);
}

static void convolution(drive *d) {
    correlate(d, 0);
}

static void gradient_by_input(drive *d) {
    correlate(d, 1);
}

static void gradient_by_weight(drive *d) {
    layer l = draw_layer(d);
    cg_conv_grad_weight_args a;
    memset(&a, 0, sizeof a);
    a.N = l.N, a.groups = l.groups, a.C = l.C, a.K = l.K, a.H = l.H, a.W = l.W, a.OH = l.OH, a.OW = l.OW;
    a.R = l.R, a.S = l.S, a.stride_h = l.stride_h, a.stride_w = l.stride_w;
    a.dilation_h = l.dilation_h, a.dilation_w = l.dilation_w, a.top = l.top, a.left = l.left;
    a.x_at = strides(l.channels_last, l.groups * l.C, l.H, l.W);
    a.g_at = strides(l.channels_last, l.groups * l.K, l.OH, l.OW);
    a.x = numbers(d, l.N * l.groups * l.C * l.H * l.W);
    a.grad_output = numbers(d, l.N * l.groups * l.K * l.OH * l.OW);
    ptrdiff_t n_w = l.groups * l.K * l.C * l.R * l.S;
    a.grad_weight = blank(d, n_w);
    int kernel = CG_KERNEL_conv_grad_weight;
    if (is_depthwise(&l, 0) && !l.channels_last)
        kernel = CG_KERNEL_conv_depthwise_grad;
    else if (l.groups > 1 && l.C == 1 && l.K == 1 && l.channels_last)
        kernel = CG_KERNEL_conv_depthwise_channels_grad;
    else if (l.R == 1 && l.S == 1 && l.OH == l.H && l.OW == l.W && !l.top && !l.left && l.stride_h == 1 &&
             l.stride_w == 1)
        a.W *= a.H, a.OW = a.W, a.H = a.OH = 1;
    launch(d, kernel, &a);
    keep(d, a.grad_weight, n_w, (double)(l.N * l.OH * l.OW));
}

static void channel_sum(drive *d) {
    cg_channel_sum_args a;
    memset(&a, 0, sizeof a);
    a.N = 1 + below(d, 3), a.C = 1 + below(d, 150), a.H = 1 + below(d, 8), a.W = 1 + below(d, 40);
    a.at = strides((int)below(d, 2), a.C, a.H, a.W);
    a.x = numbers(d, a.N * a.C * a.H * a.W);
    a.out = blank(d, a.C);
    double terms = (double)(a.N * a.H * a.W);
    launch(d, CG_KERNEL_channel_sum, &a);
    keep(d, a.out, a.C, terms);
}

const family conv_families[] = {{"convolution", convolution},
                                {"gradient_by_input", gradient_by_input},
                                {"gradient_by_weight", gradient_by_weight},
                                {"channel_sum", channel_sum},
                                {0}};
