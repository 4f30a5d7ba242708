"""Softmax and the losses, each loss with its gradient in the same pass.

A loss returns (loss, gradient). With reduction="mean" and "sum" the loss is a Python float, summed in double precision
whatever the dtype of the arrays; with "none" it is an array. The gradient is that of the returned loss, of the sum of
the array with "none". For an empty batch the sum is 0.0 and the mean is NaN.
"""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np

from .. import row_calls as calls
from .._native import rows as native_kernels
from ..backends import is_native
from ..reference import row_kernels as numpy_kernels
from ..typing import Array, BoolArray, Float, Int, Reduction


def kernels():
    """The kernels over rows of the backend in force."""
    return native_kernels if is_native() else numpy_kernels


def softmax(x: Array[Float], *, axis: Int = -1, out: Array[Float] | None = None) -> Array[Float]:
    """Softmax along an axis.

    y_k = exp(x_k) / sum_j exp(x_j), computed from x - max(x): any finite x is fine

    Parameters
    ----------
    x : ndarray with at least one axis, float32 or float64
    axis : int, the axis over which y sums to 1; it must not be empty
    out : None or ndarray of x's shape and dtype; may be x

    Returns
    -------
    y : ndarray, shape and dtype of x; all NaN along the axis where x has a NaN or +infinity, or -infinity alone

    Raises
    ------
    TypeError, ValueError : x is not an array of float32 or float64; an axis that does not exist or is empty

    Source: notes, the section on softmax.
    """
    return calls.softmax(kernels(), "softmax", False, x, axis, out)


def softmax_backward(
    grad_output: Array[Float], output: Array[Float], *, axis: Int = -1, out: Array[Float] | None = None
) -> Array[Float]:
    """Gradient of `softmax` by x, from its output y: y (g - sum(g y)).

    Parameters
    ----------
    grad_output : ndarray, float32 or float64
    output : ndarray, shape and dtype of grad_output, what `softmax` returned
    axis : int, as `softmax` was given it
    out : None or ndarray of the same shape and dtype; may be grad_output or output

    Returns
    -------
    grad_input : ndarray, shape and dtype of grad_output

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64 or do not fit each other; a wrong axis
    """
    return calls.softmax_backward(kernels(), "softmax_backward", False, grad_output, output, axis, out)


def log_softmax(x: Array[Float], *, axis: Int = -1, out: Array[Float] | None = None) -> Array[Float]:
    """Logarithm of `softmax`, without its underflow: y_k = x_k - max(x) - log(sum_j exp(x_j - max(x))).

    Parameters
    ----------
    x : ndarray with at least one axis, float32 or float64
    axis : int, the axis over which exp(y) sums to 1; it must not be empty
    out : None or ndarray of x's shape and dtype; may be x

    Returns
    -------
    y : ndarray, shape and dtype of x

    Raises
    ------
    TypeError, ValueError : x is not an array of float32 or float64; an axis that does not exist or is empty

    Source: notes, the section on the softmax loss.
    """
    return calls.softmax(kernels(), "log_softmax", True, x, axis, out)


def log_softmax_backward(
    grad_output: Array[Float], output: Array[Float], *, axis: Int = -1, out: Array[Float] | None = None
) -> Array[Float]:
    """Gradient of `log_softmax` by x, from its output y: g - exp(y) sum(g).

    Parameters
    ----------
    grad_output : ndarray, float32 or float64
    output : ndarray, shape and dtype of grad_output, what `log_softmax` returned
    axis : int, as `log_softmax` was given it
    out : None or ndarray of the same shape and dtype; may be grad_output or output

    Returns
    -------
    grad_input : ndarray, shape and dtype of grad_output

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64 or do not fit each other; a wrong axis
    """
    return calls.softmax_backward(kernels(), "log_softmax_backward", True, grad_output, output, axis, out)


@overload
def softmax_cross_entropy(
    logits: Array[Float],
    labels: Array[np.integer[Any]] | BoolArray | Array[Float],
    *,
    reduction: Literal["mean", "sum"] = ...,
    out: Array[Float] | None = ...,
) -> tuple[float, Array[Float]]: ...
@overload
def softmax_cross_entropy(
    logits: Array[Float],
    labels: Array[np.integer[Any]] | BoolArray | Array[Float],
    *,
    reduction: Literal["none"],
    out: Array[Float] | None = ...,
) -> tuple[Array[Float], Array[Float]]: ...
def softmax_cross_entropy(
    logits: Array[Float],
    labels: Array[np.integer[Any]] | BoolArray | Array[Float],
    *,
    reduction: Reduction = "mean",
    out: Array[Float] | None = None,
) -> tuple[float | Array[Float], Array[Float]]:
    """Cross-entropy of softmax(logits) with the labels, and its gradient.

    loss_i = -sum_k t[i,k] log p[i,k], p = softmax(logits), which for a label is log(sum_j exp(x_j)) - x_label;
    gradient p sum_k t - t, which for a label is p - 1[k = label]

    Parameters
    ----------
    logits : ndarray (N, K), float32 or float64, any finite values; K at least 1
    labels : ndarray of integers (N,) in 0 .. K - 1, of probabilities (N, K) in the dtype of logits, or one-hot rows (N,
        K) of any integer dtype or bool. Rows of probabilities are finite and not negative; they need not sum to 1
    reduction : "mean" (divides by N), "sum" or "none"
    out : None or ndarray (N, K) for the gradient; may be logits

    Returns
    -------
    loss : float, or ndarray (N,) in the dtype of logits with reduction="none"
    grad_logits : ndarray (N, K), dtype of logits

    Raises
    ------
    TypeError, ValueError : arrays of another dtype or shape; labels out of range, NaN or negative; nothing is written
        then

    Source: notes, the section on the softmax loss: gradient p - 1[k = y].
    """
    return calls.softmax_cross_entropy(kernels(), "softmax_cross_entropy", logits, labels, reduction, out)


@overload
def least_squares(
    prediction: Array[Float],
    target: Array[Float],
    *,
    reduction: Literal["mean", "sum"] = ...,
    out: Array[Float] | None = ...,
) -> tuple[float, Array[Float]]: ...
@overload
def least_squares(
    prediction: Array[Float], target: Array[Float], *, reduction: Literal["none"], out: Array[Float] | None = ...
) -> tuple[Array[Float], Array[Float]]: ...
def least_squares(
    prediction: Array[Float], target: Array[Float], *, reduction: Reduction = "mean", out: Array[Float] | None = None
) -> tuple[float | Array[Float], Array[Float]]:
    """Half the squared distance of prediction and target, and its gradient.

    loss_i = 1/2 sum (prediction_i - target_i)^2 over all axes but the first; gradient prediction - target

    Parameters
    ----------
    prediction : ndarray (N, ...), float32 or float64
    target : ndarray, shape and dtype of prediction
    reduction : "mean" (divides by N), "sum" or "none"
    out : None or ndarray of prediction's shape for the gradient; may be prediction

    Returns
    -------
    loss : float, or ndarray (N,) in the dtype of prediction with reduction="none"
    grad_prediction : ndarray, shape and dtype of prediction

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64 or do not fit each other; no batch axis

    Source: notes, the least-squares loss of the section on backpropagation.
    """
    return calls.least_squares(kernels(), "least_squares", prediction, target, reduction, out)


@overload
def sigmoid_cross_entropy(
    logits: Array[Float],
    targets: Array[Float],
    *,
    reduction: Literal["mean", "sum"] = ...,
    out: Array[Float] | None = ...,
) -> tuple[float, Array[Float]]: ...
@overload
def sigmoid_cross_entropy(
    logits: Array[Float], targets: Array[Float], *, reduction: Literal["none"], out: Array[Float] | None = ...
) -> tuple[Array[Float], Array[Float]]: ...
def sigmoid_cross_entropy(
    logits: Array[Float], targets: Array[Float], *, reduction: Reduction = "mean", out: Array[Float] | None = None
) -> tuple[float | Array[Float], Array[Float]]:
    """Cross-entropy of sigmoid(logits) with the targets, element by element, and its gradient.

    loss = -t log p - (1 - t) log(1 - p) = max(x, 0) - x t + log(1 + exp(-|x|)), p = sigmoid(x); gradient p - t

    Parameters
    ----------
    logits : ndarray of any shape, float32 or float64, any finite values
    targets : ndarray, shape and dtype of logits, finite; 0 and 1, or probabilities between
    reduction : "mean" (divides by the number of elements), "sum" or "none"
    out : None or ndarray of logits' shape for the gradient; may be logits

    Returns
    -------
    loss : float, or ndarray of the shape and dtype of logits with reduction="none"
    grad_logits : ndarray, shape and dtype of logits

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64 or do not fit each other; targets that are not finite

    Source: notes, the losses of generative adversarial networks, written in the logits.
    """
    return calls.sigmoid_cross_entropy(kernels(), "sigmoid_cross_entropy", logits, targets, reduction, out)
