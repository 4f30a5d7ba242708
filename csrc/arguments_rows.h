/* Arguments of the kernels for softmax, losses and normalisation: reductions over rows. */
#ifndef CONVGRAD_ARGUMENTS_ROWS_H
#define CONVGRAD_ARGUMENTS_ROWS_H

/* softmax and log_softmax over K, and their derivatives. */
typedef struct {
    cg_task task;
    const void *x; /* IN (outer, K, inner): the input, or grad_output */
    const void *y; /* IN (outer, K, inner): the output, backward only */
    void *out;     /* OUT (outer, K, inner); may be x or y */
    ptrdiff_t outer, K, inner;
} cg_softmax_args;

/* Losses with their gradients. Either losses (in the table's dtype) or totals (sums, in double) is given. */
typedef struct {
    cg_task task;
    const void *x;         /* IN (n, K): logits or prediction */
    const int64_t *labels; /* IN (n) class of each row, or NULL: softmax_cross_entropy only */
    const void *target;    /* IN (n, K) where labels is NULL */
    void *grad;            /* OUT (n, K), multiplied by scale; may be x */
    void *losses;          /* OUT (n), or (n, K) for sigmoid_cross_entropy; or NULL */
    double *totals;        /* OUT (n), or (ceil(n K / CG_LOSS_RUN)) for the elementwise losses; or NULL */
    ptrdiff_t n, K;
    double scale;
} cg_loss_args;

#define CG_LOSS_RUN 4096 /* elements that one total of an elementwise loss covers */

/* y = (x - mean) * inv_std * weight + bias, by channels of x (outer, C, inner) */
typedef struct {
    cg_task task;
    const void *x;                            /* IN (outer, C, inner) */
    const void *weight, *bias;                /* IN (C), or NULL */
    const void *running_mean, *running_var;   /* IN (C), or NULL */
    void *y;                                  /* OUT (outer, C, inner); may be x */
    void *mean, *inv_std;                     /* OUT (C) */
    void *new_running_mean, *new_running_var; /* OUT (C), or NULL */
    ptrdiff_t outer, C, inner;
    double momentum, eps;
    int training; /* statistics of x, not the running ones */
} cg_batch_norm_args;

typedef struct {
    cg_task task;
    const void *grad_output, *x;   /* IN (outer, C, inner) */
    const void *weight;            /* IN (C), or NULL */
    const void *mean, *inv_std;    /* IN (C) */
    void *grad_x;                  /* OUT (outer, C, inner), may be grad_output or x; or NULL */
    void *grad_weight, *grad_bias; /* OUT (C) */
    ptrdiff_t outer, C, inner;
    int training;
} cg_batch_norm_backward_args;

/* y = (x - mean) * inv_std * weight + bias, by rows */
typedef struct {
    cg_task task;
    const void *x;             /* IN (n, K) */
    const void *weight, *bias; /* IN (K), or NULL */
    void *y;                   /* OUT (n, K); may be x */
    void *mean, *inv_std;      /* OUT (n) */
    ptrdiff_t n, K;
    double eps;
} cg_layer_norm_args;

/* Sums of the columns as in cg_activation_bias_args: partial[p] holds grad_weight, then grad_bias. */
typedef struct {
    cg_task task;
    const void *grad_output, *x; /* IN (n, K) */
    const void *weight;          /* IN (K), or NULL */
    const void *mean, *inv_std;  /* IN (n) */
    void *grad_x;                /* OUT (n, K); may be grad_output or x */
    double *partial;             /* OUT (ceil(n / n_step), 2, K) */
    ptrdiff_t n, K, n_step;
} cg_layer_norm_backward_args;

/* clang-format off */
#define CG_ROW_KERNELS(X)                                                                                              \
    X(softmax) X(log_softmax) X(softmax_backward) X(log_softmax_backward)                                              \
    X(softmax_cross_entropy) X(least_squares) X(sigmoid_cross_entropy)                                                 \
    X(batch_norm) X(batch_norm_backward) X(layer_norm) X(layer_norm_backward)
/* clang-format on */

#endif
