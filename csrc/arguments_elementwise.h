/* Arguments of the kernels for activations, dropout, and other passes over flat arrays. */
#ifndef CONVGRAD_ARGUMENTS_ELEMENTWISE_H
#define CONVGRAD_ARGUMENTS_ELEMENTWISE_H

/* The codes of convgrad.activations.NAMES. */
enum cg_activation {
    CG_IDENTITY,
    CG_SIGMOID,
    CG_TANH,
    CG_RELU,
    CG_LEAKY_RELU,
    CG_ELU,
    CG_SELU,
    CG_SOFTPLUS,
    CG_SILU,
    CG_GELU
};

/* out = a(x), or grad_output * a'(x) where x is the output or the input as each activation has it. */
typedef struct {
    cg_task task;
    const void *grad_output; /* IN (n), backward only */
    const void *x;           /* IN (n) */
    void *out;               /* OUT (n); may be grad_output or x */
    ptrdiff_t n;
    int op;           /* enum cg_activation */
    double parameter; /* slope of leaky_relu, alpha of elu */
} cg_activation_args;

/* The same for grad_output (outer, C, inner), and the sums of the results: partial[p][c] is the sum over inner and over
 * the outer indices p * outer_step to (p + 1) * outer_step - 1. sum_partials adds them up. */
typedef struct {
    cg_task task;
    const void *grad_output; /* IN (outer, C, inner) */
    const void *x;           /* IN (outer, C, inner) */
    void *out;               /* OUT (outer, C, inner); may be grad_output or x */
    double *partial;         /* OUT (ceil(outer / outer_step), C) */
    ptrdiff_t outer, C, inner, outer_step;
    int op;
    double parameter;
} cg_activation_bias_args;

/* out[c] = sum over p of partial[p][c] */
typedef struct {
    cg_task task;
    const double *partial; /* IN (n_partials, C) */
    void *out;             /* OUT (C) */
    ptrdiff_t n_partials, C;
} cg_sum_partials_args;

/* out = mask ? x * scale + shift : fill */
typedef struct {
    cg_task task;
    const void *x;       /* IN (n) */
    const uint8_t *mask; /* IN (n) */
    void *out;           /* OUT (n); may be x */
    ptrdiff_t n;
    double scale, shift, fill;
} cg_dropout_args;

#define CG_ELEMENTWISE_KERNELS(X)                                                                                      \
    X(activation) X(activation_backward) X(activation_backward_bias) X(sum_partials) X(dropout)

#endif
