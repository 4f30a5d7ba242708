/* Arguments of the kernels for pooling, subsampling, locally connected layers. */
#ifndef CONVGRAD_ARGUMENTS_POOL_H
#define CONVGRAD_ARGUMENTS_POOL_H

#define CG_POOL_KERNELS(X)                                                                                             \
    X(max_pool2d)                                                                                                      \
    X(max_pool2d_backward)                                                                                             \
    X(max_pool2d_plane_indices)                                                                                        \
    X(avg_pool2d)                                                                                                      \
    X(avg_pool2d_backward)                                                                                             \
    X(subsample2d)                                                                                                     \
    X(subsample2d_backward)                                                                                            \
    X(global_avg_pool2d)                                                                                               \
    X(global_avg_pool2d_backward)                                                                                      \
    X(global_max_pool2d)                                                                                               \
    X(global_max_pool2d_backward)                                                                                      \
    X(locally_connected2d)                                                                                             \
    X(locally_connected2d_grad_weight)                                                                                 \
    X(locally_connected2d_grad_input)

/* A batch is `planes` images of H x W pixels of Z adjacent numbers: NCHW has planes = N * C and Z = 1, NHWC planes = N
 * and Z = C. Output pixel (i, j) looks at the pixels (i * stride_h - top + r * dilation_h, j * stride_w - left + s *
 * dilation_w). */
typedef struct {
    ptrdiff_t planes, Z, H, W, R, S, OH, OW;
    ptrdiff_t stride_h, stride_w, dilation_h, dilation_w;
    ptrdiff_t top, bottom, left, right;
} cg_windows;

/* How a plan cuts a batch into blocks: planes, and rows of one plane. */
typedef struct {
    int direct;             /* vectors over the Z numbers of a pixel, nothing staged (see pool_windows.inc.h) */
    int has_empty;          /* some windows hold nothing but padding */
    ptrdiff_t planes, rows; /* of a block */
    ptrdiff_t n_row_blocks;
    ptrdiff_t cols, width; /* windows of a row taken at a time, and the pixels that they span */
} cg_pool_cut;

typedef struct {
    cg_task task;
    const void *x; /* IN */
    void *y;       /* OUT */
    void *indices; /* OUT or NULL: uint8_t, or int32_t where `wide` */
    int wide;
    cg_windows windows;
    cg_pool_cut cut;
} cg_max_pool_args;

typedef struct {
    cg_task task;
    const void *grad_output; /* IN; not used by plane_indices */
    const void *indices;     /* IN: uint8_t, or int32_t where `wide` */
    void *result;            /* OUT: the gradient, or the plane indices as int64_t */
    int32_t *invalid;        /* OUT: set to 1 where an index points outside its window or into padding */
    int wide;
    cg_windows windows;
    cg_pool_cut cut;
    /* filled by the plan */
    int way;                                    /* how grad_output is spread */
    ptrdiff_t inside_from, inside_to;           /* windows of a row that touch neither end of it */
    ptrdiff_t rows_inside_from, rows_inside_to; /* the same for rows of windows */
    int all_inside;
} cg_max_pool_backward_args;

/* Averages, and subsampling where weight is not NULL: y = weight[c] * mean + bias[c]. */
typedef struct {
    cg_task task;
    const void *x;      /* IN; backward: of subsampling only */
    const void *weight; /* IN or NULL */
    const void *bias;   /* IN or NULL */
    void *y;            /* OUT; backward: IN grad_output */
    void *grad_x;       /* backward: OUT */
    void *weight_sums;  /* backward of subsampling: OUT (N, C), the gradients of weight and bias by sample */
    void *bias_sums;
    ptrdiff_t C;
    int count_include_pad;
    cg_windows windows;
    cg_pool_cut cut;
    ptrdiff_t count; /* filled by the plan: cells of every window, 0 where windows differ */
} cg_avg_pool_args;

/* Pools over whole planes: x has planes x pixels x Z numbers, y planes x Z. */
typedef struct {
    cg_task task;
    const void *x;    /* IN; backward: grad_output */
    void *y;          /* OUT; backward: grad_x */
    int64_t *indices; /* max: OUT or NULL; backward: IN */
    int32_t *invalid; /* backward of max: OUT */
    ptrdiff_t planes, pixels, Z;
} cg_global_pool_args;

/* y[n, k, i, j] = activation(bias[i, j, k] + sum over c, r, s of weight[i, j, k, c, r, s] * x[n, c, i * stride_h + r,
 * ...]) */
typedef struct {
    cg_task task;
    const void *x;           /* IN (or not used) */
    const void *weight;      /* IN (or not used): (OH, OW, K, C, R, S) */
    const void *bias;        /* IN or NULL: (OH, OW, K) */
    const void *grad_output; /* IN, backward only */
    void *out;               /* OUT: y, or the gradient of weight, or that of x */
    void *grad_bias;         /* OUT or NULL: (OH, OW, K) */
    ptrdiff_t N, C, H, W, K, R, S, OH, OW, stride_h, stride_w;
    cg_strides x_at, y_at;
    int activation;
    double parameter;
    /* filled by the plan */
    ptrdiff_t samples, channels, patch; /* of a block; numbers of a staged patch, with padding */
} cg_local_args;

#endif
