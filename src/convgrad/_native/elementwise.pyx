"""Activations, their derivatives and dropout on the native kernels. Arrays arrive checked and C-contiguous."""

from libc.stdint cimport uint8_t

cimport numpy as cnp

from .kernels cimport (
    CG_F32, CG_F64, CG_KERNEL_activation, CG_KERNEL_activation_backward, CG_KERNEL_activation_backward_bias,
    CG_KERNEL_dropout, CG_KERNEL_sum_partials, cg_activation_args, cg_activation_bias_args, cg_dropout_args,
    cg_sum_partials_args,
)
from .runtime cimport execute
from .memory import empty

import numpy as np

cnp.import_array()

ctypedef fused real:
    float
    double

cdef object FLOAT64 = np.dtype(np.float64)


cdef inline object flat(object x):
    return x if cnp.PyArray_NDIM(x) == 1 else cnp.PyArray_Ravel(x, cnp.NPY_CORDER)


cdef int value_pass(real tag, int code, double parameter, x, out) except -1:
    cdef const real[::1] x_view = flat(x)
    cdef real[::1] out_view = flat(out)
    cdef cg_activation_args args
    args.x = &x_view[0]
    args.out = &out_view[0]
    args.n = x_view.shape[0]
    args.op = code
    args.parameter = parameter
    return execute(CG_KERNEL_activation, CG_F32 if real is float else CG_F64, &args)


def activation(int code, double parameter, x, out):
    """out = a(x); out may be x."""
    if cnp.PyArray_SIZE(x) == 0:
        return
    if cnp.PyArray_ITEMSIZE(out) == 4:
        value_pass[float](0, code, parameter, x, out)
    else:
        value_pass[double](0, code, parameter, x, out)


cdef int backward_pass(real tag, int code, double parameter, grad_output, x, out) except -1:
    cdef const real[::1] grad_view = flat(grad_output)
    cdef const real[::1] x_view = flat(x)
    cdef real[::1] out_view = flat(out)
    cdef cg_activation_args args
    args.grad_output = &grad_view[0]
    args.x = &x_view[0]
    args.out = &out_view[0]
    args.n = x_view.shape[0]
    args.op = code
    args.parameter = parameter
    return execute(CG_KERNEL_activation_backward, CG_F32 if real is float else CG_F64, &args)


def activation_backward(int code, double parameter, grad_output, x, out):
    """out = grad_output * a'(x), x the output or the input as the activation has it; out may be either."""
    if cnp.PyArray_SIZE(x) == 0:
        return
    if cnp.PyArray_ITEMSIZE(out) == 4:
        backward_pass[float](0, code, parameter, grad_output, x, out)
    else:
        backward_pass[double](0, code, parameter, grad_output, x, out)


cdef int bias_pass(
    real tag, int code, double parameter, grad_output, x, ptrdiff_t outer, ptrdiff_t C, ptrdiff_t inner, out, bias
) except -1:
    # A row of partial sums covers 32768 elements at least, and there are at most 64 rows.
    cdef ptrdiff_t step = max((outer + 63) // 64, 32768 // (C * inner) + 1)
    cdef ptrdiff_t n_partials = (outer + step - 1) // step
    cdef const real[::1] grad_view = flat(grad_output)
    cdef const real[::1] x_view = flat(x)
    cdef real[::1] out_view = flat(out)
    cdef real[::1] bias_view = bias
    cdef double[::1] partial = empty((n_partials * C,), FLOAT64)
    cdef cg_activation_bias_args args
    cdef cg_sum_partials_args sums
    cdef int dtype = CG_F32 if real is float else CG_F64
    args.grad_output = &grad_view[0]
    args.x = &x_view[0]
    args.out = &out_view[0]
    args.partial = &partial[0]
    args.outer, args.C, args.inner, args.outer_step = outer, C, inner, step
    args.op = code
    args.parameter = parameter
    execute(CG_KERNEL_activation_backward_bias, dtype, &args)
    sums.partial = &partial[0]
    sums.out = &bias_view[0]
    sums.n_partials = n_partials
    sums.C = C
    return execute(CG_KERNEL_sum_partials, dtype, &sums)


def activation_backward_bias(int code, double parameter, grad_output, x, tuple sizes, out, bias):
    """`activation_backward` for arrays of sizes (outer, C, inner), and bias = the sums of out over all but C."""
    if cnp.PyArray_SIZE(x) == 0:
        bias[...] = 0
        return
    if cnp.PyArray_ITEMSIZE(out) == 4:
        bias_pass[float](0, code, parameter, grad_output, x, sizes[0], sizes[1], sizes[2], out, bias)
    else:
        bias_pass[double](0, code, parameter, grad_output, x, sizes[0], sizes[1], sizes[2], out, bias)


cdef int dropout_pass(real tag, x, mask, double scale, double shift, double fill, out) except -1:
    cdef const real[::1] x_view = flat(x)
    cdef const uint8_t[::1] mask_view = flat(mask)
    cdef real[::1] out_view = flat(out)
    cdef cg_dropout_args args
    args.x = &x_view[0]
    args.mask = &mask_view[0]
    args.out = &out_view[0]
    args.n = x_view.shape[0]
    args.scale, args.shift, args.fill = scale, shift, fill
    return execute(CG_KERNEL_dropout, CG_F32 if real is float else CG_F64, &args)


def dropout(x, mask, double scale, double shift, double fill, out):
    """out = x * scale + shift where the bytes of mask are not 0, else fill; out may be x."""
    if cnp.PyArray_SIZE(x) == 0:
        return
    if cnp.PyArray_ITEMSIZE(out) == 4:
        dropout_pass[float](0, x, mask, scale, shift, fill, out)
    else:
        dropout_pass[double](0, x, mask, scale, shift, fill, out)
