"""Softmax and losses on the native kernels. Arrays arrive checked and C-contiguous.

The losses return their sum where `losses` is None, and else write each to it and return None.
"""

from libc.stdint cimport int64_t
from libc.math cimport isfinite
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

ctypedef fused real:
    float
    double

cdef object FLOAT64 = np.dtype(np.float64)


cdef inline object flat(object x):
    return x if cnp.PyArray_NDIM(x) == 1 else cnp.PyArray_Ravel(x, cnp.NPY_CORDER)


cdef int softmax_pass(real tag, int kernel, x, y, tuple sizes, out) except -1:
    cdef const real[::1] x_view = flat(x)
    cdef const real[::1] y_view
    cdef real[::1] out_view = flat(out)
    cdef cg_softmax_args args
    args.x = &x_view[0]
    args.y = NULL
    if y is not None:
        y_view = flat(y)
        args.y = &y_view[0]
    args.out = &out_view[0]
    args.outer, args.K, args.inner = sizes
    return execute(kernel, CG_F32 if real is float else CG_F64, &args)


def softmax(bint is_log, x, tuple sizes, out):
    """(log_)softmax of x over the middle one of sizes (outer, K, inner); out may be x."""
    if cnp.PyArray_SIZE(x) == 0:
        return
    cdef int kernel = CG_KERNEL_log_softmax if is_log else CG_KERNEL_softmax
    if cnp.PyArray_ITEMSIZE(out) == 4:
        softmax_pass[float](0, kernel, x, None, sizes, out)
    else:
        softmax_pass[double](0, kernel, x, None, sizes, out)


def softmax_backward(bint is_log, grad_output, y, tuple sizes, out):
    """Gradient of (log_)softmax by its input from its output y; out may be grad_output or y."""
    if cnp.PyArray_SIZE(y) == 0:
        return
    cdef int kernel = CG_KERNEL_log_softmax_backward if is_log else CG_KERNEL_softmax_backward
    if cnp.PyArray_ITEMSIZE(out) == 4:
        softmax_pass[float](0, kernel, grad_output, y, sizes, out)
    else:
        softmax_pass[double](0, kernel, grad_output, y, sizes, out)


def first_bad_label(labels, int64_t n_classes):
    """Index of the first of the int64 labels that is not in 0 .. n_classes - 1, or -1."""
    cdef const int64_t[::1] view = labels
    cdef ptrdiff_t i
    for i in range(view.shape[0]):
        if not 0 <= view[i] < n_classes:
            return i
    return -1


cdef ptrdiff_t first_bad(real tag, targets, bint non_negative) except -2:
    cdef const real[::1] view = flat(targets)
    cdef const real *p
    cdef ptrdiff_t i, n = view.shape[0]
    if n == 0:
        return -1
    p = &view[0]
    for i in range(n):
        if not isfinite(p[i]) or (non_negative and p[i] < 0):
            return i
    return -1


def first_bad_target(targets, bint non_negative):
    """Flat index of the first target that is NaN, infinite or, if asked, negative; or -1."""
    if cnp.PyArray_ITEMSIZE(targets) == 4:
        return first_bad[float](0, targets, non_negative)
    return first_bad[double](0, targets, non_negative)


cdef object loss_pass(
    real tag, int kernel, x, labels, target, ptrdiff_t n, ptrdiff_t K, double scale, grad, losses, ptrdiff_t n_totals
):
    cdef const real[::1] x_view = flat(x)
    cdef const int64_t[::1] labels_view
    cdef const real[::1] target_view
    cdef real[::1] grad_view = flat(grad)
    cdef real[::1] losses_view
    cdef double[::1] totals
    cdef double total = 0
    cdef ptrdiff_t i
    cdef cg_loss_args args
    memset(&args, 0, sizeof(args))
    args.x = &x_view[0]
    args.grad = &grad_view[0]
    if labels is not None:
        labels_view = labels
        args.labels = &labels_view[0]
    else:
        target_view = flat(target)
        args.target = &target_view[0]
    if losses is not None:
        losses_view = flat(losses)
        args.losses = &losses_view[0]
    else:
        totals = empty((n_totals,), FLOAT64)
        args.totals = &totals[0]
    args.n = n
    args.K = K
    args.scale = scale
    execute(kernel, CG_F32 if real is float else CG_F64, &args)
    if losses is not None:
        return None
    for i in range(n_totals):
        total += totals[i]
    return total


cdef object loss(
    int kernel, x, labels, target, ptrdiff_t n, ptrdiff_t K, double scale, grad, losses, ptrdiff_t n_totals
):
    if n == 0 or K == 0:
        if losses is None:
            return 0.0
        losses[...] = 0
        return None
    if cnp.PyArray_ITEMSIZE(grad) == 4:
        return loss_pass[float](0, kernel, x, labels, target, n, K, scale, grad, losses, n_totals)
    return loss_pass[double](0, kernel, x, labels, target, n, K, scale, grad, losses, n_totals)


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
