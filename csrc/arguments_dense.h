/* Arguments of the kernels of optimizers. */
#ifndef CONVGRAD_ARGUMENTS_DENSE_H
#define CONVGRAD_ARGUMENTS_DENSE_H

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

#define CG_DENSE_KERNELS(X) X(optimizer_step) X(gradient_norm)

#endif
