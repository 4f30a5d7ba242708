"""The fully connected layer and its gradients."""

from __future__ import annotations

from .. import dense_calls as calls
from ..typing import Activation, Array, Float, PartialTriple
from . import dense_kernels as kernels


def linear(
    x: Array[Float],
    weight: Array[Float],
    bias: Array[Float] | None = None,
    *,
    activation: Activation | None = None,
    out: Array[Float] | None = None,
) -> Array[Float]:
    """Twin of `convgrad.linear`."""
    return calls.linear(kernels, "linear", x, weight, bias, activation, out)


def linear_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    input_grad: bool = True,
    weight_grad: bool = True,
    bias: bool = True,
    out: PartialTriple[Float] | None = None,
) -> PartialTriple[Float]:
    """Twin of `convgrad.linear_backward`."""
    return calls.linear_backward(kernels, "linear_backward", grad_output, x, weight, input_grad, weight_grad, bias, out)
