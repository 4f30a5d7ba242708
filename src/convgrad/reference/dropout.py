"""Dropout and alpha dropout."""

from __future__ import annotations

import numpy as np

from .. import elementwise_calls as calls
from ..typing import Array, BoolArray, Float, Rng
from . import elementwise_kernels as kernels


def dropout(
    x: Array[Float],
    p: float = 0.5,
    *,
    training: bool = True,
    rng: Rng = None,
    out: Array[Float] | tuple[Array[Float] | None, BoolArray | None] | None = None,
) -> tuple[Array[Float], BoolArray]:
    """Twin of `convgrad.dropout`."""
    return calls.drop(kernels, "dropout", calls.dropout_constants, x, p, training, rng, out)


def dropout_backward(
    grad_output: Array[Float], mask: BoolArray | Array[np.uint8], p: float, *, out: Array[Float] | None = None
) -> Array[Float]:
    """Twin of `convgrad.dropout_backward`."""
    return calls.drop_backward(kernels, "dropout_backward", calls.dropout_constants, grad_output, mask, p, out)


def alpha_dropout(
    x: Array[Float],
    p: float = 0.5,
    *,
    training: bool = True,
    rng: Rng = None,
    out: Array[Float] | tuple[Array[Float] | None, BoolArray | None] | None = None,
) -> tuple[Array[Float], BoolArray]:
    """Twin of `convgrad.alpha_dropout`."""
    return calls.drop(kernels, "alpha_dropout", calls.alpha_dropout_constants, x, p, training, rng, out)


def alpha_dropout_backward(
    grad_output: Array[Float], mask: BoolArray | Array[np.uint8], p: float, *, out: Array[Float] | None = None
) -> Array[Float]:
    """Twin of `convgrad.alpha_dropout_backward`."""
    return calls.drop_backward(
        kernels, "alpha_dropout_backward", calls.alpha_dropout_constants, grad_output, mask, p, out
    )
