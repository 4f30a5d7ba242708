/* Cases of Winograd's algorithm as sequences of kernels over ranges of tiles and channels: what _native/winograd.pyx
 * does, with ranges drawn at random. */
#include "drive.h"

enum { PAD = 1024 };

static ptrdiff_t round_up(ptrdiff_t a, ptrdiff_t b) {
    return (a + b - 1) / b * b;
}

static ptrdiff_t rows_of_sample(const cg_winograd_args *a) {
    return a->axis == 2 ? a->OH : (a->OH + a->m - 1) / a->m;
}

static ptrdiff_t tile_rows(const cg_winograd_args *a) {
    return a->N * rows_of_sample(a);
}

static ptrdiff_t tile_cols(const cg_winograd_args *a) {
    return a->axis == 1 ? a->OW : (a->OW + a->m - 1) / a->m;
}

static ptrdiff_t points(const cg_winograd_args *a) {
    return a->axis ? a->m - 1 + (a->axis == 1 ? a->R : a->S) : (a->m + 2) * (a->m + 2);
}

/* Kernel rows that are summed over. */
static ptrdiff_t sums(const cg_winograd_args *a) {
    return a->axis == 2 ? a->R : 1;
}

/* Transformed inputs or gradients of so many channels and tile rows. */
static void *shared(drive *d, const cg_winograd_args *a, ptrdiff_t channels, ptrdiff_t rows) {
    ptrdiff_t samples = MIN(a->N, (rows + 2 * rows_of_sample(a) - 2) / rows_of_sample(a));
    return blank(d, points(a) * (channels * (rows + (sums(a) - 1) * samples) * tile_cols(a) + PAD));
}

static cg_winograd_args draw_args(drive *d, int axis) {
    cg_winograd_args a;
    memset(&a, 0, sizeof a);
    a.N = 1 + below(d, 3), a.C = 1 + below(d, 40), a.K = 1 + below(d, 40);
    a.H = 1 + below(d, 16), a.W = 1 + below(d, 24);
    ptrdiff_t top = below(d, 3), left = below(d, 3), bottom = below(d, 3), right = below(d, 3);
    a.axis = axis;
    a.R = a.S = 3;
    a.m = (int)PICK(d, 2, 4);
    if (a.axis) {
        ptrdiff_t taps = 3 + below(d, 5);
        a.R = a.axis == 1 ? taps : 1 + below(d, 7);
        a.S = a.axis == 1 ? 1 : taps;
        a.m = taps == 3 ? 4 : 9 - (int)taps;
    }
    if (a.H + top + bottom < a.R)
        bottom = a.R - a.H - top;
    if (a.W + left + right < a.S)
        right = a.S - a.W - left;
    a.OH = a.H + top + bottom - a.R + 1, a.OW = a.W + left + right - a.S + 1;
    a.first_h = -top, a.first_w = -left;
    return a;
}

static void correlate(drive *d, int backward) {
    cg_winograd_args a = draw_args(d, (int)below(d, 3));
    int channels_last = below(d, 3) == 0, fused = below(d, 2) == 0;
    ptrdiff_t share = 1 + below(d, 8), C = a.C, K = a.K, H = a.H, W = a.W;
    cg_strides x_at = strides(channels_last, C, H, W), y_at = strides(channels_last, K, a.OH, a.OW);
    const ptrdiff_t taps = a.R * a.S;
    a.w_s = 1, a.w_r = a.S, a.w_c = taps, a.w_k = taps * C;
    a.x_at = x_at, a.y_at = y_at;
    if (backward) {
        a.first_h = 1 - a.R - a.first_h, a.first_w = 1 - a.S - a.first_w;
        a.H = a.OH, a.W = a.OW, a.OH = H, a.OW = W, a.C = K, a.K = C;
        a.w_c = taps * C, a.w_k = taps;
        a.x_at = y_at, a.y_at = x_at;
        a.flip = 1;
    }
    a.activation = (int)below(d, 10), a.parameter = 0.25;
    a.x = numbers(d, a.N * a.C * a.H * a.W);
    a.weight = numbers(d, a.C * a.K * taps);
    a.bias = numbers_if(d, (int)below(d, 2), a.K);
    a.residual = numbers_if(d, below(d, 3) == 0 && !backward && !channels_last, a.N * a.K * a.OH * a.OW);
    a.y = blank(d, a.N * a.K * a.OH * a.OW);
    const ptrdiff_t rows = tile_rows(&a), most = (rows + share - 1) / share;
    if (fused) {
        a.u = blank(d, points(&a) * (round_up(a.K, 4 * d->table->lanes) * a.C * sums(&a) + PAD));
        launch(d, CG_KERNEL_winograd_weights, &a);
        launch(d, CG_KERNEL_winograd_fused, &a);
    } else {
        a.v = shared(d, &a, round_up(a.C, d->table->lanes), most);
        for (ptrdiff_t row = 0; row < rows; row += most) {
            a.row0 = row, a.row1 = MIN(rows, row + most);
            launch(d, CG_KERNEL_winograd_input, &a);
            launch(d, CG_KERNEL_winograd_multiply, &a);
        }
    }
    keep(d, a.y, a.N * a.K * a.OH * a.OW, (double)(a.C * taps) * 24);
}

static void winograd(drive *d) {
    correlate(d, 0);
}

static void winograd_by_input(drive *d) {
    correlate(d, 1);
}

static void winograd_by_weight(drive *d) {
    cg_winograd_args a = draw_args(d, (int)below(d, 3));
    int channels_last = below(d, 3) == 0, way = (int)below(d, 3);
    ptrdiff_t share = 1 + below(d, 8), parts = 1 + below(d, 3), lanes = d->table->lanes;
    a.x_at = strides(channels_last, a.C, a.H, a.W);
    a.y_at = strides(channels_last, a.K, a.OH, a.OW);
    a.x = numbers(d, a.N * a.C * a.H * a.W);
    a.grad_output = numbers(d, a.N * a.K * a.OH * a.OW);
    const ptrdiff_t taps = a.R * a.S;
    a.y = blank(d, a.K * a.C * taps);
    const ptrdiff_t C = round_up(a.C, lanes), rows = tile_rows(&a), most = (rows + share - 1) / share;
    a.range_tiles = most * tile_cols(&a);
    if (way == 1) {
        a.du = blank(d, 8 * points(&a) * sums(&a) * ((round_up(a.K, lanes) + 16) * C + PAD));
        launch(d, CG_KERNEL_winograd_grad_ranges, &a);
        launch(d, CG_KERNEL_winograd_grad_weight, &a);
        keep(d, a.y, a.K * a.C * taps, (double)(a.N * a.OH * a.OW) * 24);
        return;
    }
    if (way == 2) {
        a.v = shared(d, &a, C, rows);
        a.g = shared(d, &a, round_up(a.K, lanes), rows);
        launch(d, CG_KERNEL_winograd_input, &a);
        launch(d, CG_KERNEL_winograd_grad_output, &a);
        launch(d, CG_KERNEL_winograd_grad_fused, &a);
        keep(d, a.y, a.K * a.C * taps, (double)(a.N * a.OH * a.OW) * 24);
        return;
    }
    const ptrdiff_t k_step = MIN(round_up((a.K + parts - 1) / parts, 4 * lanes), round_up(a.K, lanes));
    a.v = shared(d, &a, C, most);
    a.g = shared(d, &a, k_step, most);
    a.du = blank(d, points(&a) * sums(&a) * ((k_step + 16) * C + PAD));
    for (ptrdiff_t k = 0; k < a.K; k += k_step) {
        a.k0 = k, a.k1 = MIN(a.K, k + k_step);
        for (ptrdiff_t row = 0; row < rows; row += most) {
            a.row0 = row, a.row1 = MIN(rows, row + most), a.add = row > 0;
            if (k == 0 || most < rows)
                launch(d, CG_KERNEL_winograd_input, &a);
            launch(d, CG_KERNEL_winograd_grad_output, &a);
            launch(d, CG_KERNEL_winograd_grad_products, &a);
        }
        launch(d, CG_KERNEL_winograd_grad_weight, &a);
    }
    keep(d, a.y, a.K * a.C * taps, (double)(a.N * a.OH * a.OW) * 24);
}

/* Groups of channels, each a block: forward, or the gradient by the weight with ranges drawn at random. */
static void winograd_by_group(drive *d) {
    cg_winograd_args a = draw_args(d, 0);
    int channels_last = below(d, 3) == 0, by_weight = (int)below(d, 2);
    a.groups = 1 + below(d, 5);
    a.w_s = 1, a.w_r = 3, a.w_c = 9, a.w_k = 9 * a.C, a.w_group = 9 * a.C * a.K;
    a.x_at = strides(channels_last, a.groups * a.C, a.H, a.W);
    a.y_at = strides(channels_last, a.groups * a.K, a.OH, a.OW);
    const ptrdiff_t outputs = a.N * a.groups * a.K * a.OH * a.OW, weights = a.groups * a.w_group;
    a.x = numbers(d, a.N * a.groups * a.C * a.H * a.W);
    if (by_weight) {
        a.range_tiles = (1 + below(d, tile_rows(&a))) * ((a.OW + a.m - 1) / a.m);
        a.n_sums = below(d, 2);
        a.grad_output = numbers(d, outputs);
        a.y = blank(d, weights);
        launch(d, CG_KERNEL_winograd_grad_groups, &a);
        keep(d, a.y, weights, (double)(a.N * a.OH * a.OW) * 24);
        return;
    }
    a.activation = (int)below(d, 10), a.parameter = 0.25;
    a.weight = numbers(d, weights);
    a.bias = numbers_if(d, (int)below(d, 2), a.groups * a.K);
    a.residual = numbers_if(d, below(d, 3) == 0 && !channels_last, outputs);
    a.y = blank(d, outputs);
    launch(d, CG_KERNEL_winograd_groups, &a);
    keep(d, a.y, outputs, (double)a.C * 9 * 24);
}

const family winograd_families[] = {{"winograd", winograd},
                                    {"winograd_by_input", winograd_by_input},
                                    {"winograd_by_weight", winograd_by_weight},
                                    {"winograd_by_group", winograd_by_group},
                                    {0}};
