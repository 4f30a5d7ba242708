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

#define CG_ELEMENTWISE_KERNELS(X) X(activation) X(activation_backward)

#endif
