"""Softmax and the losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import row_calls as calls
from ..typing import Array, BoolArray, Float, Int, Reduction
from . import row_kernels as kernels


def softmax(x: Array[Float], *, axis: Int = -1, out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.softmax`."""
    return calls.softmax(kernels, "softmax", False, x, axis, out)


def softmax_backward(
    grad_output: Array[Float], output: Array[Float], *, axis: Int = -1, out: Array[Float] | None = None
) -> Array[Float]:
    """Twin of `convgrad.softmax_backward`."""
    return calls.softmax_backward(kernels, "softmax_backward", False, grad_output, output, axis, out)


def log_softmax(x: Array[Float], *, axis: Int = -1, out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.log_softmax`."""
    return calls.softmax(kernels, "log_softmax", True, x, axis, out)


def log_softmax_backward(
    grad_output: Array[Float], output: Array[Float], *, axis: Int = -1, out: Array[Float] | None = None
) -> Array[Float]:
    """Twin of `convgrad.log_softmax_backward`."""
    return calls.softmax_backward(kernels, "log_softmax_backward", True, grad_output, output, axis, out)


def softmax_cross_entropy(
    logits: Array[Float],
    labels: Array[np.integer[Any]] | BoolArray | Array[Float],
    *,
    reduction: Reduction = "mean",
    out: Array[Float] | None = None,
) -> tuple[float | Array[Float], Array[Float]]:
    """Twin of `convgrad.softmax_cross_entropy`."""
    return calls.softmax_cross_entropy(kernels, "softmax_cross_entropy", logits, labels, reduction, out)


def least_squares(
    prediction: Array[Float], target: Array[Float], *, reduction: Reduction = "mean", out: Array[Float] | None = None
) -> tuple[float | Array[Float], Array[Float]]:
    """Twin of `convgrad.least_squares`."""
    return calls.least_squares(kernels, "least_squares", prediction, target, reduction, out)


def sigmoid_cross_entropy(
    logits: Array[Float], targets: Array[Float], *, reduction: Reduction = "mean", out: Array[Float] | None = None
) -> tuple[float | Array[Float], Array[Float]]:
    """Twin of `convgrad.sigmoid_cross_entropy`."""
    return calls.sigmoid_cross_entropy(kernels, "sigmoid_cross_entropy", logits, targets, reduction, out)
