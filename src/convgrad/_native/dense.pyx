"""The fully connected layer and its gradients on the native kernels: matrix products with bias and activation.

x, grad_output and weight have two axes and any strides; where neither is of adjacent numbers they are copied first.
"""

from libc.string cimport memset

cimport numpy as cnp

from .kernels cimport CG_F32, CG_F64, CG_KERNEL_channel_sum, CG_KERNEL_gemm, cg_channel_sum_args, cg_gemm_args
from .runtime cimport execute

cnp.import_array()


cdef inline object adjacent(object x):
    """x, or a copy of it, with adjacent numbers along one of its two axes."""
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(x)
    if cnp.PyArray_STRIDE(x, 1) == size or cnp.PyArray_STRIDE(x, 0) == size:
        return x
    return cnp.PyArray_NewCopy(x, cnp.NPY_CORDER)


cdef int product(object a, bint a_transposed, object b, bint b_transposed, bias, int activation, double parameter, out
                 ) except -1:
    """out = activation(a b + bias), a or b read with its axes exchanged where it says so."""
    cdef cg_gemm_args args
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(out)
    cdef int k = 0 if a_transposed else 1
    b = adjacent(b)
    memset(&args, 0, sizeof(args))
    args.a, args.b, args.c = cnp.PyArray_DATA(a), cnp.PyArray_DATA(b), cnp.PyArray_DATA(out)
    if bias is not None:
        if not cnp.PyArray_IS_C_CONTIGUOUS(bias):
            bias = cnp.PyArray_NewCopy(bias, cnp.NPY_CORDER)
        args.bias = cnp.PyArray_DATA(bias)
    args.M, args.N = cnp.PyArray_DIM(out, 0), cnp.PyArray_DIM(out, 1)
    args.K = cnp.PyArray_DIM(a, k)
    args.a_row, args.a_k = cnp.PyArray_STRIDE(a, 1 - k) // size, cnp.PyArray_STRIDE(a, k) // size
    k = 1 if b_transposed else 0
    args.b_k, args.b_n = cnp.PyArray_STRIDE(b, k) // size, cnp.PyArray_STRIDE(b, 1 - k) // size
    args.c_row = args.N
    args.activation, args.parameter = activation, parameter
    return execute(CG_KERNEL_gemm, CG_F32 if size == 4 else CG_F64, &args)


def forward(x, weight, bias, int activation_code, double activation_parameter, out):
    """out = activation(x weight^T + bias)."""
    product(x, False, weight, True, bias, activation_code, activation_parameter, out)


def grad_input(grad_output, weight, out):
    """out = grad_output weight."""
    product(grad_output, False, weight, False, None, 0, 0.0, out)


def grad_weight(grad_output, x, out):
    """out = grad_output^T x."""
    product(grad_output, True, x, False, None, 0, 0.0, out)


def grad_bias(grad_output, out):
    """out = the sum of grad_output over the rows."""
    cdef cg_channel_sum_args args
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(out)
    memset(&args, 0, sizeof(args))
    args.x, args.out = cnp.PyArray_DATA(grad_output), cnp.PyArray_DATA(out)
    args.at.stride_w = cnp.PyArray_STRIDE(grad_output, 0) // size
    args.at.stride_c = cnp.PyArray_STRIDE(grad_output, 1) // size
    args.N = args.H = 1
    args.W, args.C = cnp.PyArray_DIM(grad_output, 0), cnp.PyArray_DIM(grad_output, 1)
    execute(CG_KERNEL_channel_sum, CG_F32 if size == 4 else CG_F64, &args)
