/* Argument structs of the kernels. Each begins with its cg_task; pointers are to the table's dtype unless typed. */
#ifndef CONVGRAD_ARGUMENTS_H
#define CONVGRAD_ARGUMENTS_H

/* A batch of images with any strides: pixel (n, c, h, w) is at n * stride_n + c * stride_c + h * stride_h + w *
 * stride_w. */
typedef struct {
    ptrdiff_t stride_n, stride_c, stride_h, stride_w;
} cg_strides;

/* out[c] = sum over n, h, w of x[n, c, h, w] */
typedef struct {
    cg_task task;
    const void *x; /* IN */
    void *out;     /* OUT (C) */
    ptrdiff_t N, C, H, W;
    cg_strides at;
} cg_channel_sum_args;

#include "arguments_conv.h"
#include "arguments_dense.h"
#include "arguments_elementwise.h"
#include "arguments_pool.h"
#include "arguments_rows.h"

#endif
