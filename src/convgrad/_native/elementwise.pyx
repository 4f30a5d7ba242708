"""Activations, their derivatives and dropout on the native kernels. Arrays arrive checked and C-contiguous."""

from libc.stdint cimport uint8_t

cimport numpy as cnp

from .kernels cimport (
    CG_F32, CG_F64, CG_KERNEL_activation, CG_KERNEL_activation_backward, CG_KERNEL_activation_backward_bias,
    CG_KERNEL_dropout, CG_KERNEL_sum_partials, cg_activation_args, cg_activation_bias_args, cg_dropout_args,
    cg_sum_partials_args,
)
from .memory cimport empty_like, give, is_plain, take
from .runtime cimport execute

cnp.import_array()

cdef inline int dtype_of(object x) noexcept:
    return CG_F32 if cnp.PyArray_ITEMSIZE(x) == 4 else CG_F64


def activation(int code, double parameter, x, out):
    """out = a(x); out may be x."""
    cdef cg_activation_args args
    args.x, args.out, args.n = cnp.PyArray_DATA(x), cnp.PyArray_DATA(out), cnp.PyArray_SIZE(x)
    args.op = code
    args.parameter = parameter
    if args.n:
        execute(CG_KERNEL_activation, dtype_of(out), &args)


def activation_backward(int code, double parameter, grad_output, x, out):
    """out = grad_output * a'(x), x the output or the input as the activation has it; out may be either."""
    cdef cg_activation_args args
    args.grad_output, args.x, args.out = cnp.PyArray_DATA(grad_output), cnp.PyArray_DATA(x), cnp.PyArray_DATA(out)
    args.n = cnp.PyArray_SIZE(x)
    args.op = code
    args.parameter = parameter
    if args.n:
        execute(CG_KERNEL_activation_backward, dtype_of(out), &args)


def fresh_activation(int code, double parameter, x):
    """a(x) as a new array, or None where x needs more checks before `activation` may have it, or memory is short."""
    if not (is_plain(x) and cnp.PyArray_IS_C_CONTIGUOUS(x)):
        return None
    try:
        out = empty_like(x)
    except MemoryError:
        return None
    activation(code, parameter, x, out)
    return out


def fresh_activation_backward(int code, double parameter, grad_output, x):
    """grad_output * a'(x) as a new array, or None where the two need more checks or do not fit each other."""
    if not (
        is_plain(x) and is_plain(grad_output) and cnp.PyArray_TYPE(x) == cnp.PyArray_TYPE(grad_output)
        and cnp.PyArray_IS_C_CONTIGUOUS(x) and cnp.PyArray_IS_C_CONTIGUOUS(grad_output)
        and cnp.PyArray_SAMESHAPE(x, grad_output)
    ):
        return None
    try:
        out = empty_like(x)
    except MemoryError:
        return None
    activation_backward(code, parameter, grad_output, x, out)
    return out


def activation_backward_bias(int code, double parameter, grad_output, x, tuple sizes, out, bias):
    """`activation_backward` for arrays of sizes (outer, C, inner), and bias = the sums of out over all but C."""
    cdef ptrdiff_t outer = sizes[0], C = sizes[1], inner = sizes[2], step, n_partials
    cdef int dtype = dtype_of(out)
    cdef cg_activation_bias_args args
    cdef cg_sum_partials_args sums
    cdef double *partial
    if cnp.PyArray_SIZE(x) == 0:
        bias[...] = 0
        return
    # A row of partial sums covers 32768 elements at least, and there are at most 64 rows.
    step = max((outer + 63) // 64, 32768 // (C * inner) + 1)
    n_partials = (outer + step - 1) // step
    partial = <double *>take(n_partials * C * sizeof(double))
    if partial == NULL:
        raise MemoryError()
    args.grad_output, args.x, args.out = cnp.PyArray_DATA(grad_output), cnp.PyArray_DATA(x), cnp.PyArray_DATA(out)
    args.partial = sums.partial = partial
    args.outer, args.C, args.inner, args.outer_step = outer, C, inner, step
    args.op = code
    args.parameter = parameter
    sums.out = cnp.PyArray_DATA(bias)
    sums.n_partials = n_partials
    sums.C = C
    try:
        execute(CG_KERNEL_activation_backward_bias, dtype, &args)
        execute(CG_KERNEL_sum_partials, dtype, &sums)
    finally:
        give(partial)


def dropout(x, mask, double scale, double shift, double fill, out):
    """out = x * scale + shift where the bytes of mask are not 0, else fill; out may be x."""
    cdef cg_dropout_args args
    args.x, args.out, args.n = cnp.PyArray_DATA(x), cnp.PyArray_DATA(out), cnp.PyArray_SIZE(x)
    args.mask = <const uint8_t *>cnp.PyArray_DATA(mask)
    args.scale, args.shift, args.fill = scale, shift, fill
    if args.n:
        execute(CG_KERNEL_dropout, dtype_of(out), &args)
