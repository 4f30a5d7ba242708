/* Cases of activations, dropout, softmax, losses, norms, products of matrices and optimizers: what the other Cython
 * modules do. */
#include "drive.h"

/* Sizes beside vector widths, and now and then one that makes several blocks. */
static ptrdiff_t length(drive *d) {
    return below(d, 5) ? 1 + below(d, 70) : 1 + below(d, 20000);
}

/* A copy of n numbers, or sometimes the numbers themselves: results may take the place of an argument. */
static void *out_or(drive *d, const void *x, ptrdiff_t n) {
    return below(d, 3) ? blank(d, n) : (void *)x;
}

static void activation(drive *d) {
    cg_activation_args a;
    memset(&a, 0, sizeof a);
    a.n = length(d), a.op = (int)below(d, 10), a.parameter = 0.25;
    a.x = numbers(d, a.n);
    a.out = out_or(d, a.x, a.n);
    launch(d, CG_KERNEL_activation, &a);
    keep(d, a.out, a.n, 4);
    a.x = numbers(d, a.n);
    a.grad_output = numbers(d, a.n);
    a.out = out_or(d, below(d, 2) ? a.x : a.grad_output, a.n);
    launch(d, CG_KERNEL_activation_backward, &a);
    keep(d, a.out, a.n, 4);
}

static void activation_backward_bias(drive *d) {
    cg_activation_bias_args a;
    memset(&a, 0, sizeof a);
    a.outer = 1 + below(d, 9), a.C = 1 + below(d, 40), a.inner = PICK(d, 1, 1, 7, 16, 100, 3000);
    a.outer_step = 1 + below(d, 3), a.op = (int)below(d, 10), a.parameter = 0.25;
    const ptrdiff_t n = a.outer * a.C * a.inner, n_partials = (a.outer + a.outer_step - 1) / a.outer_step;
    a.grad_output = numbers(d, n);
    a.x = numbers(d, n);
    a.out = out_or(d, below(d, 2) ? a.x : a.grad_output, n);
    a.partial = piece(d, (size_t)(n_partials * a.C) * sizeof(double));
    launch(d, CG_KERNEL_activation_backward_bias, &a);
    keep(d, a.out, n, 4);
    cg_sum_partials_args s;
    memset(&s, 0, sizeof s);
    s.partial = a.partial, s.out = blank(d, a.C), s.n_partials = n_partials, s.C = a.C;
    launch(d, CG_KERNEL_sum_partials, &s);
    keep(d, s.out, a.C, (double)(a.outer * a.inner));
}

static void dropout(drive *d) {
    cg_dropout_args a;
    memset(&a, 0, sizeof a);
    a.n = length(d), a.scale = 1.25, a.shift = 0.5, a.fill = -0.25;
    uint8_t *mask = piece(d, (size_t)a.n);
    for (ptrdiff_t i = 0; i < a.n; i++)
        mask[i] = (uint8_t)PICK(d, 0, 1, 1, 255);
    a.mask = mask;
    a.x = numbers(d, a.n);
    a.out = out_or(d, a.x, a.n);
    launch(d, CG_KERNEL_dropout, &a);
    keep(d, a.out, a.n, 1);
}

static void softmax(drive *d) {
    cg_softmax_args a;
    memset(&a, 0, sizeof a);
    int is_log = (int)below(d, 2);
    a.outer = 1 + below(d, 20), a.K = 1 + below(d, 70), a.inner = PICK(d, 1, 1, 5, 16, 33);
    if (below(d, 6) == 0)
        a.K = 1 + below(d, 3000);
    const ptrdiff_t n = a.outer * a.K * a.inner;
    a.x = numbers(d, n);
    a.out = out_or(d, a.x, n);
    launch(d, is_log ? CG_KERNEL_log_softmax : CG_KERNEL_softmax, &a);
    keep(d, a.out, n, (double)a.K);
    a.y = numbers(d, n);
    a.x = numbers(d, n);
    a.out = out_or(d, below(d, 2) ? a.x : a.y, n);
    launch(d, is_log ? CG_KERNEL_log_softmax_backward : CG_KERNEL_softmax_backward, &a);
    keep(d, a.out, n, 4.0 * (double)a.K);
}

static void losses(drive *d) {
    const int kernels[] = {CG_KERNEL_softmax_cross_entropy, CG_KERNEL_least_squares, CG_KERNEL_sigmoid_cross_entropy};
    const int which = (int)below(d, 3), by_row = (int)below(d, 2);
    cg_loss_args a;
    memset(&a, 0, sizeof a);
    a.n = 1 + below(d, 80), a.K = 1 + (below(d, 5) ? below(d, 40) : below(d, 900));
    if (which == 2)
        a.n *= a.K, a.K = 1;
    a.scale = 0.5;
    const ptrdiff_t size = a.n * a.K;
    a.x = numbers(d, size);
    if (which == 0 && below(d, 2)) {
        int64_t *labels = piece(d, (size_t)a.n * sizeof *labels);
        for (ptrdiff_t i = 0; i < a.n; i++)
            labels[i] = below(d, a.K);
        a.labels = labels;
    } else
        a.target = numbers(d, size);
    a.grad = out_or(d, a.x, size);
    ptrdiff_t n_losses = a.n, n_totals = which ? (size + CG_LOSS_RUN - 1) / CG_LOSS_RUN : a.n;
    if (by_row)
        a.losses = blank(d, n_losses);
    else
        a.totals = piece(d, (size_t)n_totals * sizeof(double));
    launch(d, kernels[which], &a);
    keep(d, a.grad, size, 4.0 * (double)a.K);
    if (by_row)
        keep(d, a.losses, n_losses, 4.0 * (double)a.K);
    else
        keep_doubles(d, a.totals, n_totals, which ? CG_LOSS_RUN : 4.0 * (double)a.K);
}

static void batch_norm(drive *d) {
    cg_batch_norm_args a;
    memset(&a, 0, sizeof a);
    a.outer = 2 + below(d, 12), a.C = 1 + below(d, 70), a.inner = PICK(d, 1, 1, 9, 64, 500);
    a.momentum = 0.1, a.eps = 1e-2;
    a.training = (int)below(d, 2);
    const ptrdiff_t n = a.outer * a.C * a.inner;
    a.x = numbers(d, n);
    a.weight = numbers_if(d, (int)below(d, 2), a.C);
    a.bias = numbers_if(d, (int)below(d, 2), a.C);
    if (!a.training || below(d, 2)) {
        void *var = numbers(d, a.C);
        for (ptrdiff_t c = 0; c < a.C; c++) /* variances are not negative */
            if (d->dtype == CG_F32)
                ((float *)var)[c] = fabsf(((float *)var)[c]);
            else
                ((double *)var)[c] = fabs(((double *)var)[c]);
        a.running_var = var;
        a.running_mean = numbers(d, a.C);
        a.new_running_mean = blank(d, a.C), a.new_running_var = blank(d, a.C);
    }
    void *x = numbers(d, n); /* the same again: y may be x */
    memcpy(x, a.x, (size_t)n * (d->dtype == CG_F32 ? 4 : 8));
    a.y = out_or(d, a.x, n);
    a.mean = blank(d, a.C), a.inv_std = blank(d, a.C);
    launch(d, CG_KERNEL_batch_norm, &a);
    const double terms = 100.0 * (double)(a.outer * a.inner); /* divided by a deviation that may be small */
    keep(d, a.y, n, terms);
    keep(d, a.mean, a.C, terms), keep(d, a.inv_std, a.C, terms);
    if (a.new_running_mean)
        keep(d, a.new_running_mean, a.C, terms), keep(d, a.new_running_var, a.C, terms);

    cg_batch_norm_backward_args b;
    memset(&b, 0, sizeof b);
    b.outer = a.outer, b.C = a.C, b.inner = a.inner, b.training = a.training;
    b.grad_output = numbers(d, n);
    b.x = x, b.weight = a.weight, b.mean = a.mean, b.inv_std = a.inv_std;
    b.grad_x = below(d, 4) ? out_or(d, below(d, 2) ? b.x : b.grad_output, n) : NULL;
    b.grad_weight = blank(d, a.C), b.grad_bias = blank(d, a.C);
    launch(d, CG_KERNEL_batch_norm_backward, &b);
    if (b.grad_x)
        keep(d, b.grad_x, n, 10 * terms);
    keep(d, b.grad_weight, a.C, 10 * terms), keep(d, b.grad_bias, a.C, terms);
}

static void layer_norm(drive *d) {
    cg_layer_norm_args a;
    memset(&a, 0, sizeof a);
    a.n = 1 + below(d, 40), a.K = 1 + (below(d, 4) ? below(d, 70) : below(d, 2500)), a.eps = 1e-2;
    const ptrdiff_t size = a.n * a.K;
    void *x = numbers(d, size), *copy = numbers(d, size);
    memcpy(copy, x, (size_t)size * (d->dtype == CG_F32 ? 4 : 8));
    a.x = x;
    a.weight = numbers_if(d, (int)below(d, 2), a.K);
    a.bias = numbers_if(d, (int)below(d, 2), a.K);
    a.y = out_or(d, a.x, size);
    a.mean = blank(d, a.n), a.inv_std = blank(d, a.n);
    launch(d, CG_KERNEL_layer_norm, &a);
    const double terms = 100.0 * (double)a.K;
    keep(d, a.y, size, terms), keep(d, a.mean, a.n, terms), keep(d, a.inv_std, a.n, terms);

    cg_layer_norm_backward_args b;
    memset(&b, 0, sizeof b);
    b.n = a.n, b.K = a.K, b.n_step = 1 + below(d, a.n);
    const ptrdiff_t n_partials = (b.n + b.n_step - 1) / b.n_step;
    b.grad_output = numbers(d, size);
    b.x = copy, b.weight = a.weight, b.mean = a.mean, b.inv_std = a.inv_std;
    b.grad_x = out_or(d, below(d, 2) ? b.x : b.grad_output, size);
    b.partial = piece(d, (size_t)(n_partials * 2 * b.K) * sizeof(double));
    launch(d, CG_KERNEL_layer_norm_backward, &b);
    keep(d, b.grad_x, size, 10 * terms);
    keep_doubles(d, b.partial, n_partials * 2 * b.K, 100.0 * (double)b.n);
}

static void gemm(drive *d) {
    cg_gemm_args a;
    memset(&a, 0, sizeof a);
    /* few of each or many: what way a product takes depends on which of them are few */
    a.M = 1 + below(d, below(d, 3) ? 20 : 130), a.N = 1 + below(d, below(d, 3) ? 40 : 200);
    a.K = 1 + below(d, below(d, 2) ? 6 : below(d, 3) ? 40 : 700);
    const int a_transposed = (int)below(d, 2), b_transposed = (int)below(d, 2);
    a.a_row = a_transposed ? 1 : a.K, a.a_k = a_transposed ? a.M : 1;
    a.b_k = b_transposed ? 1 : a.N, a.b_n = b_transposed ? a.K : 1;
    a.c_row = a.N;
    a.a = numbers(d, a.M * a.K), a.b = numbers(d, a.K * a.N);
    a.bias = numbers_if(d, (int)below(d, 2), a.N);
    a.activation = (int)below(d, 10), a.parameter = 0.25;
    const ptrdiff_t size = a.M * a.N;
    const double terms = (double)a.K;
    a.c = blank(d, size);
    launch(d, CG_KERNEL_gemm, &a);
    keep(d, a.c, size, 2 * terms);
}

static void linear_backward(drive *d) {
    cg_linear_backward_args a;
    memset(&a, 0, sizeof a);
    const ptrdiff_t n = 1 + below(d, below(d, 3) ? 6 : 40), in = 1 + below(d, below(d, 2) ? 16 : 200);
    const ptrdiff_t outs = 1 + below(d, below(d, 2) ? 16 : 200);
    const void *x = numbers(d, n * in), *weight = numbers(d, outs * in), *g = numbers(d, n * outs);
    if (below(d, 4)) {
        a.input.a = g, a.input.a_row = outs, a.input.a_k = 1;
        a.input.b = weight, a.input.b_k = in, a.input.b_n = 1;
        a.input.M = n, a.input.N = a.input.c_row = in, a.input.K = outs;
        a.input.c = blank(d, n * in);
    }
    if (below(d, 4)) {
        a.weight.a = g, a.weight.a_row = 1, a.weight.a_k = outs;
        a.weight.b = x, a.weight.b_k = in, a.weight.b_n = 1;
        a.weight.M = outs, a.weight.N = a.weight.c_row = in, a.weight.K = n;
        a.weight.c = blank(d, outs * in);
    }
    if (below(d, 4)) {
        a.bias.x = g, a.bias.out = blank(d, outs);
        a.bias.N = a.bias.H = 1, a.bias.W = n, a.bias.C = outs;
        a.bias.at.stride_w = outs, a.bias.at.stride_c = 1;
    }
    launch(d, CG_KERNEL_linear_backward, &a);
    if (a.input.c)
        keep(d, a.input.c, n * in, 2.0 * (double)outs);
    if (a.weight.c)
        keep(d, a.weight.c, outs * in, 2.0 * (double)n);
    if (a.bias.out)
        keep(d, a.bias.out, outs, 2.0 * (double)n);
}

static void optimizer(drive *d) {
    enum { MOST = 4 };
    const int n_states[] = {0, 1, 2, 1, 3};
    cg_optimizer_args a;
    cg_tensor tensor[MOST];
    double constant[7] = {0.9, 0.1, 0.01, 0.99, 0.001, 1.5, 1e-2};
    memset(&a, 0, sizeof a);
    memset(tensor, 0, sizeof tensor);
    a.rule = (int)below(d, 5);
    a.n_tensors = 1 + below(d, MOST);
    for (ptrdiff_t i = 0; i < a.n_tensors; i++) {
        cg_tensor *t = tensor + i;
        t->n = below(d, 4) ? below(d, 50) : below(d, 40000);
        t->data = numbers(d, t->n), t->grad = numbers(d, t->n), t->constant = constant;
        for (int s = 0; s < n_states[a.rule]; s++) {
            t->state[s] = numbers(d, t->n);
            for (ptrdiff_t j = 0; j < t->n; j++) /* roots are taken of some */
                if (d->dtype == CG_F32)
                    ((float *)t->state[s])[j] = fabsf(((float *)t->state[s])[j]);
                else
                    ((double *)t->state[s])[j] = fabs(((double *)t->state[s])[j]);
        }
        t->first_block = a.n_blocks;
        a.n_blocks += (t->n + CG_OPTIMIZER_BLOCK - 1) / CG_OPTIMIZER_BLOCK;
        a.n_elements += t->n;
    }
    a.tensor = tensor;
    a.low = -0.5, a.high = 0.5, a.scale = 1, a.decay = 0.01;
    a.totals = piece(d, (size_t)a.n_blocks * sizeof(double));
    launch(d, CG_KERNEL_gradient_norm, &a);
    keep_doubles(d, a.totals, a.n_blocks, CG_OPTIMIZER_BLOCK);
    a.scale = 0.5;
    launch(d, CG_KERNEL_optimizer_step, &a);
    for (ptrdiff_t i = 0; i < a.n_tensors; i++) {
        keep(d, tensor[i].data, tensor[i].n, 100);
        for (int s = 0; s < n_states[a.rule]; s++)
            keep(d, tensor[i].state[s], tensor[i].n, 100);
    }
}

const family row_families[] = {{"activation", activation},
                               {"activation_backward_bias", activation_backward_bias},
                               {"dropout", dropout},
                               {"softmax", softmax},
                               {"losses", losses},
                               {"batch_norm", batch_norm},
                               {"layer_norm", layer_norm},
                               {"gemm", gemm},
                               {"linear_backward", linear_backward},
                               {"optimizer", optimizer},
                               {0}};
