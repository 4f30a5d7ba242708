"""Softmax and losses on the native kernels. Arrays arrive checked and C-contiguous.

The losses return their sum where `losses` is None, and else write each to it and return None.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

cimport numpy as cnp

from .kernels cimport (
    CG_F32, CG_F64, CG_KERNEL_least_squares, CG_KERNEL_log_softmax, CG_KERNEL_log_softmax_backward,
    CG_KERNEL_sigmoid_cross_entropy, CG_KERNEL_softmax, CG_KERNEL_softmax_backward, CG_KERNEL_softmax_cross_entropy,
    CG_LOSS_RUN, cg_loss_args, cg_softmax_args,
)
from .runtime cimport execute
from .memory import empty

import numpy as np

cnp.import_array()

cdef object FLOAT64 = np.dtype(np.float64)


cdef inline void *data_of(object x) noexcept:
    """Address of an array's first element; NULL for None."""
    return NULL if x is None else cnp.PyArray_DATA(x)


cdef inline int dtype_of(object x) noexcept:
    return CG_F32 if cnp.PyArray_ITEMSIZE(x) == 4 else CG_F64


cdef int softmax_pass(int kernel, x, y, ptrdiff_t outer, ptrdiff_t K, ptrdiff_t inner, out) except -1:
    cdef cg_softmax_args args
    if cnp.PyArray_SIZE(x) == 0:
        return 0
    args.x, args.y, args.out = data_of(x), data_of(y), data_of(out)
    args.outer, args.K, args.inner = outer, K, inner
    return execute(kernel, dtype_of(out), &args)


def softmax(bint is_log, x, tuple sizes, out):
    """(log_)softmax of x over the middle one of sizes (outer, K, inner); out may be x."""
    softmax_pass(CG_KERNEL_log_softmax if is_log else CG_KERNEL_softmax, x, None, sizes[0], sizes[1], sizes[2], out)


def softmax_backward(bint is_log, grad_output, y, tuple sizes, out):
    """Gradient of (log_)softmax by its input from its output y; out may be grad_output or y."""
    softmax_pass(
        CG_KERNEL_log_softmax_backward if is_log else CG_KERNEL_softmax_backward, grad_output, y, sizes[0], sizes[1],
        sizes[2], out,
    )


def first_bad_label(labels, int64_t n_classes):
    """Index of the first of the int64 labels that is not in 0 .. n_classes - 1, or -1."""
    cdef const int64_t *p = <const int64_t *>data_of(labels)
    cdef ptrdiff_t i
    for i in range(cnp.PyArray_SIZE(labels)):
        if not 0 <= p[i] < n_classes:
            return i
    return -1


ctypedef fused bits:
    uint32_t
    uint64_t


cdef bint is_bad(bits b, bits infinity, bint non_negative) noexcept:
    """Whether the bits are those of NaN, of an infinity or, if asked, of a number below zero."""
    cdef bits magnitude = b & (~<bits>0 >> 1)
    return magnitude >= infinity or (non_negative and b > magnitude and magnitude > 0)


cdef ptrdiff_t first_bad(const bits *p, ptrdiff_t n, bits infinity, bint non_negative) noexcept:
    cdef bits rest = ~<bits>0 >> 1, sign = ~rest, step = sign - infinity, negative = sign if non_negative else 0, flags
    cdef ptrdiff_t start = 0, i
    while start < n:
        if start + 64 <= n:
            # The sign bit of `flags` says that one of these may be bad: step carries the exponent of all ones into it.
            flags = 0
            for i in range(64):
                flags |= ((p[start + i] & rest) + step) | (p[start + i] & negative)
            if not flags & sign:
                start += 64
                continue
        for i in range(start, min(start + 64, n)):
            if is_bad[bits](p[i], infinity, non_negative):
                return i
        start += 64
    return -1


def first_bad_target(targets, bint non_negative):
    """Flat index of the first target that is NaN, infinite or, if asked, negative; or -1."""
    cdef ptrdiff_t n = cnp.PyArray_SIZE(targets)
    if cnp.PyArray_ITEMSIZE(targets) == 4:
        return first_bad[uint32_t](<const uint32_t *>data_of(targets), n, 0x7f800000, non_negative)
    return first_bad[uint64_t](<const uint64_t *>data_of(targets), n, <uint64_t>0x7ff << 52, non_negative)


cdef object loss(
    int kernel, x, labels, target, ptrdiff_t n, ptrdiff_t K, double scale, grad, losses, ptrdiff_t n_totals
):
    cdef double few[64]
    cdef double total = 0
    cdef ptrdiff_t i
    cdef cg_loss_args args
    if n == 0 or K == 0:
        if losses is None:
            return 0.0
        losses[...] = 0
        return None
    memset(&args, 0, sizeof(args))
    args.x, args.grad, args.target, args.losses = data_of(x), data_of(grad), data_of(target), data_of(losses)
    args.labels = <const int64_t *>data_of(labels)
    if losses is None:
        args.totals = few
        if n_totals > 64:
            totals = empty((n_totals,), FLOAT64)
            args.totals = <double *>data_of(totals)
    args.n = n
    args.K = K
    args.scale = scale
    execute(kernel, dtype_of(grad), &args)
    if losses is not None:
        return None
    for i in range(n_totals):
        total += args.totals[i]
    return total


def softmax_cross_entropy(logits, labels, target, double scale, grad, losses):
    """Cross-entropy of softmax(logits (n, K)) with int64 labels (n,) or, where those are None, with target (n, K)."""
    cdef ptrdiff_t n = cnp.PyArray_DIM(logits, 0), K = cnp.PyArray_DIM(logits, 1)
    return loss(CG_KERNEL_softmax_cross_entropy, logits, labels, target, n, K, scale, grad, losses, n)


def least_squares(prediction, target, ptrdiff_t n, double scale, grad, losses):
    """Half the squared distance of prediction and target, of each of the n rows or of all."""
    cdef ptrdiff_t size = cnp.PyArray_SIZE(prediction), K = size // n if n else 0
    cdef ptrdiff_t runs = (size + CG_LOSS_RUN - 1) // CG_LOSS_RUN
    return loss(CG_KERNEL_least_squares, prediction, None, target, n, K, scale, grad, losses, runs)


def sigmoid_cross_entropy(logits, target, double scale, grad, losses):
    """Cross-entropy of sigmoid(logits) with target, of each element or of all."""
    cdef ptrdiff_t size = cnp.PyArray_SIZE(logits), runs = (size + CG_LOSS_RUN - 1) // CG_LOSS_RUN
    return loss(CG_KERNEL_sigmoid_cross_entropy, logits, None, target, size, 1, scale, grad, losses, runs)
