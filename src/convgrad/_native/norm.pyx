"""Batch and layer normalisation on the native kernels. Arrays arrive checked and C-contiguous."""

from libc.string cimport memset

cimport numpy as cnp

from .kernels cimport (
    CG_F32, CG_F64, CG_KERNEL_batch_norm, CG_KERNEL_batch_norm_backward, CG_KERNEL_layer_norm,
    CG_KERNEL_layer_norm_backward, CG_KERNEL_sum_partials, cg_batch_norm_args, cg_batch_norm_backward_args,
    cg_layer_norm_args, cg_layer_norm_backward_args, cg_sum_partials_args,
)
from .runtime cimport execute
from .memory import empty

import numpy as np

cnp.import_array()

ctypedef fused real:
    float
    double

cdef object FLOAT64 = np.dtype(np.float64)


cdef const real *read(real tag, x) except? NULL:
    """Address of the first element of a C-contiguous array that the caller keeps alive, or NULL for None."""
    cdef const real[::1] view
    if x is None:
        return NULL
    view = x if cnp.PyArray_NDIM(x) == 1 else cnp.PyArray_Ravel(x, cnp.NPY_CORDER)
    return &view[0]


cdef real *write(real tag, x) except? NULL:
    cdef real[::1] view
    if x is None:
        return NULL
    view = x if cnp.PyArray_NDIM(x) == 1 else cnp.PyArray_Ravel(x, cnp.NPY_CORDER)
    return &view[0]


cdef int batch_norm_pass(
    real tag, x, weight, bias, running_mean, running_var, tuple sizes, bint training, double momentum, double eps, y,
    mean, inv_std, new_running_mean, new_running_var
) except -1:
    cdef cg_batch_norm_args args
    memset(&args, 0, sizeof(args))
    args.x, args.weight, args.bias = read[real](0, x), read[real](0, weight), read[real](0, bias)
    args.running_mean, args.running_var = read[real](0, running_mean), read[real](0, running_var)
    args.y, args.mean, args.inv_std = write[real](0, y), write[real](0, mean), write[real](0, inv_std)
    args.new_running_mean, args.new_running_var = write[real](0, new_running_mean), write[real](0, new_running_var)
    args.outer, args.C, args.inner = sizes
    args.training = training
    args.momentum = momentum
    args.eps = eps
    return execute(CG_KERNEL_batch_norm, CG_F32 if real is float else CG_F64, &args)


def batch_norm(
    x, weight, bias, running_mean, running_var, sizes, training, momentum, eps, y, mean, inv_std, new_running_mean,
    new_running_var
):
    """Write y, mean, inv_std and, where running statistics are given, the new ones. sizes is (outer, C, inner)."""
    if cnp.PyArray_ITEMSIZE(y) == 4:
        batch_norm_pass[float](
            0, x, weight, bias, running_mean, running_var, sizes, training, momentum, eps, y, mean, inv_std,
            new_running_mean, new_running_var
        )
    else:
        batch_norm_pass[double](
            0, x, weight, bias, running_mean, running_var, sizes, training, momentum, eps, y, mean, inv_std,
            new_running_mean, new_running_var
        )


cdef int batch_norm_backward_pass(
    real tag, grad_output, x, weight, mean, inv_std, tuple sizes, bint training, grad_x, grad_weight, grad_bias
) except -1:
    cdef cg_batch_norm_backward_args args
    memset(&args, 0, sizeof(args))
    args.grad_output, args.x, args.weight = read[real](0, grad_output), read[real](0, x), read[real](0, weight)
    args.mean, args.inv_std = read[real](0, mean), read[real](0, inv_std)
    args.grad_x = write[real](0, grad_x)
    args.grad_weight, args.grad_bias = write[real](0, grad_weight), write[real](0, grad_bias)
    args.outer, args.C, args.inner = sizes
    args.training = training
    return execute(CG_KERNEL_batch_norm_backward, CG_F32 if real is float else CG_F64, &args)


def batch_norm_backward(grad_output, x, weight, mean, inv_std, sizes, training, grad_x, grad_weight, grad_bias):
    """Write the three gradients of batch_norm."""
    if cnp.PyArray_ITEMSIZE(grad_x) == 4:
        batch_norm_backward_pass[float](
            0, grad_output, x, weight, mean, inv_std, sizes, training, grad_x, grad_weight, grad_bias
        )
    else:
        batch_norm_backward_pass[double](
            0, grad_output, x, weight, mean, inv_std, sizes, training, grad_x, grad_weight, grad_bias
        )


cdef int layer_norm_pass(real tag, x, weight, bias, tuple sizes, double eps, y, mean, inv_std) except -1:
    cdef cg_layer_norm_args args
    memset(&args, 0, sizeof(args))
    args.x, args.weight, args.bias = read[real](0, x), read[real](0, weight), read[real](0, bias)
    args.y, args.mean, args.inv_std = write[real](0, y), write[real](0, mean), write[real](0, inv_std)
    args.n, args.K = sizes
    args.eps = eps
    return execute(CG_KERNEL_layer_norm, CG_F32 if real is float else CG_F64, &args)


def layer_norm(x, weight, bias, sizes, eps, y, mean, inv_std):
    """Write y, mean and inv_std of the rows of x, whose sizes are (n, K)."""
    if cnp.PyArray_ITEMSIZE(y) == 4:
        layer_norm_pass[float](0, x, weight, bias, sizes, eps, y, mean, inv_std)
    else:
        layer_norm_pass[double](0, x, weight, bias, sizes, eps, y, mean, inv_std)


cdef int layer_norm_backward_pass(
    real tag, grad_output, x, weight, mean, inv_std, ptrdiff_t n, ptrdiff_t K, grad_x, grad_weight, grad_bias
) except -1:
    # A pair of rows of partial sums covers 16384 elements at least, and there are at most 32 pairs.
    cdef ptrdiff_t step = max((n + 31) // 32, 16384 // K + 1)
    cdef ptrdiff_t n_partials = (n + step - 1) // step
    cdef double[::1] partial = empty((n_partials * 2 * K,), FLOAT64)
    both = empty((2 * K,), grad_x.dtype)
    cdef cg_layer_norm_backward_args args
    cdef cg_sum_partials_args sums
    cdef int dtype = CG_F32 if real is float else CG_F64
    memset(&args, 0, sizeof(args))
    args.grad_output, args.x, args.weight = read[real](0, grad_output), read[real](0, x), read[real](0, weight)
    args.mean, args.inv_std = read[real](0, mean), read[real](0, inv_std)
    args.grad_x = write[real](0, grad_x)
    args.partial = &partial[0]
    args.n, args.K, args.n_step = n, K, step
    execute(CG_KERNEL_layer_norm_backward, dtype, &args)
    sums.partial = &partial[0]
    sums.out = write[real](0, both)
    sums.n_partials = n_partials
    sums.C = 2 * K
    execute(CG_KERNEL_sum_partials, dtype, &sums)
    grad_weight[...] = both[:K].reshape(grad_weight.shape)
    grad_bias[...] = both[K:].reshape(grad_bias.shape)
    return 0


def layer_norm_backward(grad_output, x, weight, mean, inv_std, sizes, grad_x, grad_weight, grad_bias):
    """Write the three gradients of layer_norm. sizes is (n, K)."""
    if cnp.PyArray_ITEMSIZE(grad_x) == 4:
        layer_norm_backward_pass[float](
            0, grad_output, x, weight, mean, inv_std, sizes[0], sizes[1], grad_x, grad_weight, grad_bias
        )
    else:
        layer_norm_backward_pass[double](
            0, grad_output, x, weight, mean, inv_std, sizes[0], sizes[1], grad_x, grad_weight, grad_bias
        )
