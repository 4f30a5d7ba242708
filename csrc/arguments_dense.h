/* Arguments of the kernels of fully connected layers and of optimizers. */
#ifndef CONVGRAD_ARGUMENTS_DENSE_H
#define CONVGRAD_ARGUMENTS_DENSE_H

/* c[m, n] = activation(bias[n] + sum over k of a[m, k] * b[k, n]) */
typedef struct {
    cg_task task;
    const void *a;    /* IN: a[m * a_row + k * a_k] */
    const void *b;    /* IN: b[k * b_k + n * b_n], b_k or b_n being 1 */
    const void *bias; /* IN (N), or NULL */
    void *c;          /* OUT: c[m * c_row + n] */
    ptrdiff_t M, N, K, a_row, a_k, b_k, b_n, c_row;
    int activation; /* enum cg_activation */
    double parameter;
    /* filled by the plan; "_at": offsets in scratch, in bytes */
    int way, stage_a, swap; /* swap: a and b, M and N have exchanged their places */
    ptrdiff_t block_m, block_n, block_k, stage_row, n_column_blocks, panel_at, result_at, stage_at, offset_at;
} cg_gemm_args;

/* The gradients of a fully connected layer, all in one call; those whose result is NULL are left out. */
typedef struct {
    cg_task task;
    cg_gemm_args input, weight;
    cg_channel_sum_args bias;
} cg_linear_backward_args;

/* One parameter. The states, as the rule has them, and data are updated in place. */
typedef struct {
    void *data;               /* INOUT (n) */
    const void *grad;         /* IN (n) */
    void *state[3];           /* INOUT (n), or NULL */
    const double *constant;   /* IN: of this parameter's step, see optimizer.inc.h */
    ptrdiff_t n, first_block; /* blocks of the parameters before */
} cg_tensor;

enum cg_rule { CG_SGD, CG_MOMENTUM, CG_ADAM, CG_RMSPROP, CG_RMSPROP_FULL };

typedef struct {
    cg_task task;
    const cg_tensor *tensor; /* IN (n_tensors) */
    ptrdiff_t n_tensors, n_blocks, n_elements;
    int rule;                       /* enum cg_rule */
    double low, high, scale, decay; /* g = clamp(grad, low, high) * scale + decay * data */
    double *totals;                 /* OUT (n_blocks), gradient_norm only: sums of clamp(grad, low, high)^2 */
} cg_optimizer_args;

#define CG_OPTIMIZER_BLOCK 16384 /* elements */

#define CG_DENSE_KERNELS(X) X(gemm) X(linear_backward) X(optimizer_step) X(gradient_norm)

#endif
