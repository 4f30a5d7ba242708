"""Calls of the kernels of softmax and of the losses: arguments checked, result allocated, kernel run, result delivered.

`functional` and `reference` offer the same functions and differ only in the `kernels` they hand in here: an object with

    softmax(is_log, x, sizes, out)                           out may be x; sizes is (outer, K, inner)
    softmax_backward(is_log, grad_output, y, sizes, out)     out may be grad_output or y
    softmax_cross_entropy(logits, labels, target, scale, grad, losses)    labels or target is None
    least_squares(prediction, target, n, scale, grad, losses)
    sigmoid_cross_entropy(logits, target, scale, grad, losses)
    first_bad_label(labels, n_classes), first_bad_target(target, non_negative)    flat index, or -1

where arrays are C-contiguous, the gradient is multiplied by `scale` and may be written over the logits or the
prediction, and a loss returns its sum where `losses` is None, or else writes each loss to it.
"""

import math

import numpy as np

from ._native.memory import empty, plain
from .call_checks import check_same_shape, contiguous, same_memory
from .checks import choice, deliver, float_array, float_arrays, output, plain_view, shown
from .elementwise_calls import in_place_output

_REDUCTIONS = ("mean", "sum", "none")


def softmax(kernels, function, is_log, x, axis, out):
    """softmax or log_softmax over an axis."""
    if not plain(x):
        x = float_array(function, "x", x)
    x = contiguous(x)
    sizes = _axis_sizes(function, "x", x.shape, axis)
    target = in_place_output(function, out, x)
    kernels.softmax(is_log, x, sizes, target)
    return target if out is None else deliver(target, out)


def softmax_backward(kernels, function, is_log, grad_output, y, axis, out):
    """Gradient by the input, from the output y."""
    if not plain(grad_output, y):
        grad_output, y = float_arrays(function, grad_output=grad_output, output=y)
    if grad_output.shape != y.shape:
        check_same_shape(function, grad_output=grad_output, output=y)
    sizes = _axis_sizes(function, "output", y.shape, axis)
    grad_output, y = contiguous(grad_output), contiguous(y)
    target = in_place_output(function, out, grad_output, y)
    kernels.softmax_backward(is_log, grad_output, y, sizes, target)
    return deliver(target, out)


def softmax_cross_entropy(kernels, function, logits, labels, reduction, out):
    """(loss, grad_logits)."""
    if not plain(logits):
        logits = float_array(function, "logits", logits)
    logits = contiguous(logits)
    if type(reduction) is not str or reduction != "mean":
        choice(function, "reduction", reduction, _REDUCTIONS)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(
            f"{function}: logits must have shape (N, K) with at least one class, got {logits.shape}; "
            "move the classes to the last of two axes"
        )
    labels, target = _labels(kernels, function, logits, labels)
    return _loss(
        function,
        logits,
        labels if target is None else target,
        out,
        reduction,
        logits.shape[0],
        logits.shape[:1],
        lambda scale, grad, losses: kernels.softmax_cross_entropy(logits, labels, target, scale, grad, losses),
    )


def least_squares(kernels, function, prediction, target, reduction, out):
    """(loss, grad_prediction)."""
    prediction, target = _same_shape(function, "prediction", prediction, target, reduction)
    if prediction.ndim == 0:
        raise ValueError(f"{function}: prediction must have a batch axis, got shape (); pass prediction[None]")
    n = prediction.shape[0]
    return _loss(
        function,
        prediction,
        target,
        out,
        reduction,
        n,
        (n,),
        lambda scale, grad, losses: kernels.least_squares(prediction, target, n, scale, grad, losses),
    )


def sigmoid_cross_entropy(kernels, function, logits, target, reduction, out):
    """(loss, grad_logits)."""
    logits, target = _same_shape(function, "logits", logits, target, reduction, target_name="targets")
    _check_targets(kernels, function, "targets", target, False)
    return _loss(
        function,
        logits,
        target,
        out,
        reduction,
        logits.size,
        logits.shape,
        lambda scale, grad, losses: kernels.sigmoid_cross_entropy(logits, target, scale, grad, losses),
    )


def _loss(function, x, target, out, reduction, count, losses_shape, run):
    """Run a loss: (float or ndarray, gradient by x). `count` is what a mean divides by."""
    if out is None:
        grad = empty(x.shape, x.dtype, function)
    else:
        grad = output(function, out, x.shape, x.dtype, *((target,) if same_memory(out, x) else (target, x)))
    losses = empty(losses_shape, x.dtype, function) if reduction == "none" else None
    total = run(1 / count if reduction == "mean" and count else 1.0, grad, losses)
    if out is not None:
        grad = deliver(grad, out)
    if reduction == "none":
        return losses, grad
    if reduction == "sum":
        return total, grad
    return (total / count if count else math.nan), grad


def _labels(kernels, function, logits, labels):
    """(labels, None) for class numbers, (None, target) for one-hot rows or probabilities."""
    n, n_classes = logits.shape
    if not isinstance(labels, np.ndarray) or isinstance(labels, np.ma.MaskedArray):
        raise TypeError(
            f"{function}: labels must be a NumPy array of integers ({n},) or of probabilities ({n}, {n_classes}), "
            f"got {type(labels).__name__}"
        )
    labels = plain_view(labels)
    kind = labels.dtype.kind
    if labels.shape == (n,) and kind in "iu":
        if labels.dtype != np.int64 or not labels.flags.c_contiguous or not labels.flags.aligned:
            labels = labels.astype(np.int64)  # what does not fit becomes negative, and is refused as such
        bad = kernels.first_bad_label(labels, n_classes)
        if bad >= 0:
            raise ValueError(
                f"{function}: labels must lie in 0 to {n_classes - 1} for {n_classes} classes; "
                f"got {labels[bad]} at index {bad}"
            )
        return labels, None
    if labels.shape != (n, n_classes):
        error = TypeError if labels.shape == (n,) else ValueError
        raise error(
            f"{function}: labels must be integers of shape ({n},) or probabilities of shape ({n}, {n_classes}) for "
            f"logits {logits.shape}; got {labels.dtype} of shape {labels.shape}"
        )
    if kind in "iub":  # one-hot
        labels = labels.astype(logits.dtype)
    target = contiguous(float_arrays(function, logits=logits, labels=labels)[1])
    _check_targets(kernels, function, "labels", target, True)
    return None, target


def _check_targets(kernels, function, name, target, non_negative):
    bad = kernels.first_bad_target(target, non_negative)
    if bad >= 0:
        position = np.unravel_index(bad, target.shape)
        must = "finite and at least 0" if non_negative else "finite"
        raise ValueError(
            f"{function}: {name} must be {must}; got {target[position]} at index {tuple(int(i) for i in position)}"
        )


def _same_shape(function, name, x, target, reduction, target_name="target"):
    if not plain(x, target):
        x, target = float_arrays(function, **{name: x, target_name: target})
    choice(function, "reduction", reduction, _REDUCTIONS)
    if x.shape != target.shape:
        check_same_shape(function, **{name: x, target_name: target})
    return contiguous(x), contiguous(target)


def _axis_sizes(function, name, shape, axis):
    """(outer, K, inner) of an array whose axis `axis` has K elements."""
    ndim = len(shape)
    if type(axis) is not int:
        if isinstance(axis, (bool, np.bool_)) or not isinstance(axis, np.integer):
            raise TypeError(f"{function}: axis must be an integer, got {shown(axis)}")
        axis = int(axis)
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"{function}: axis {shown(axis)} does not exist in {name} of shape {shape}; pass {-ndim} to {ndim - 1}"
        )
    axis %= ndim
    if shape[axis] == 0:
        raise ValueError(
            f"{function}: axis {axis} of {name} is empty, shape {shape}; there must be one element at least"
        )
    if axis == ndim - 1:
        return math.prod(shape[:-1]), shape[-1], 1
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
