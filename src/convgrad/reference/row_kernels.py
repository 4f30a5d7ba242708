"""NumPy kernels of softmax and of the losses. Arguments were checked in `row_calls`, where the protocol is
described."""

import numpy as np

from .elementwise_kernels import _sigmoid, _softplus

# What overflows or is not a number goes through as in the native kernels: without a warning.
_quiet = np.errstate(all="ignore")


@_quiet
def softmax(is_log, x, sizes, out):
    """exp(x) / sum(exp(x)) over the middle axis, or its logarithm."""
    x = x.reshape(sizes)
    shifted = x - _max(x, 1)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    out[...] = (shifted - np.log(total) if is_log else e / total).reshape(out.shape)


@_quiet
def softmax_backward(is_log, grad_output, y, sizes, out):
    """y (g - sum(g y)), or g - exp(y) sum(g)."""
    g, y = grad_output.reshape(sizes), y.reshape(sizes)
    if is_log:
        result = g - np.exp(y) * g.sum(axis=1, keepdims=True)
    else:
        result = y * (g - (g * y).sum(axis=1, keepdims=True))
    out[...] = result.reshape(out.shape)


@_quiet
def softmax_cross_entropy(logits, labels, target, scale, grad, losses):
    """-sum_k t_k log p_k of each row; t is 1 at the label."""
    shifted = logits - _max(logits, 1)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    if target is None:
        target = np.zeros_like(logits)
        target[np.arange(len(labels)), labels] = 1
    weight = target.sum(axis=1, keepdims=True)
    log_p = shifted.astype(np.float64) - np.log(total)
    each = -np.where(target == 0, 0, target * log_p).sum(axis=1)
    each = np.where(np.isnan(total[:, 0]), np.nan, each)
    grad[...] = (e / total * weight - target) * grad.dtype.type(scale)
    return _reduce(each, losses)


@_quiet
def least_squares(prediction, target, n, scale, grad, losses):
    """1/2 sum (x - t)^2 of each row."""
    difference = prediction - target
    each = np.square(difference).reshape(n, -1).sum(axis=1, dtype=np.float64) / 2 if difference.size else np.zeros(n)
    grad[...] = difference * grad.dtype.type(scale)
    return _reduce(each, losses)


@_quiet
def sigmoid_cross_entropy(logits, target, scale, grad, losses):
    """softplus(x) - x t of each element."""
    each = (np.maximum(logits, 0) - logits * target) + (_softplus(-np.abs(logits)))
    grad[...] = (_sigmoid(logits) - target) * grad.dtype.type(scale)
    return _reduce(each, losses)


def first_bad_label(labels, n_classes):
    """Index of the first label that is not in 0 .. n_classes - 1, or -1."""
    return _first((labels < 0) | (labels >= n_classes))


def first_bad_target(target, non_negative):
    """Flat index of the first target that is NaN, infinite or, if asked, negative; or -1."""
    bad = ~np.isfinite(target)
    return _first(bad | (target < 0) if non_negative else bad)


def _first(bad):
    positions = np.flatnonzero(bad)
    return int(positions[0]) if positions.size else -1


def _max(x, axis):
    return x.max(axis=axis, keepdims=True) if x.size else x


def _reduce(each, losses):
    if losses is None:
        return float(each.sum(dtype=np.float64))
    losses[...] = each
    return None
