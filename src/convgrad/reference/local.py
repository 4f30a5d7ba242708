"""Locally connected layers: convolutions whose every output pixel has weights of its own."""

from __future__ import annotations

from .. import local_calls
from ..typing import Activation, Array, Float, Layout, Pair, PartialTriple
from . import local_kernels as kernels


def locally_connected2d(
    x: Array[Float],
    weight: Array[Float],
    bias: Array[Float] | None = None,
    *,
    stride: Pair = 1,
    activation: Activation | None = None,
    layout: Layout = "NCHW",
    out: Array[Float] | None = None,
) -> Array[Float]:
    """Twin of `convgrad.locally_connected2d`."""
    return local_calls.forward(kernels, "locally_connected2d", x, weight, bias, stride, activation, layout, out)


def locally_connected2d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    stride: Pair = 1,
    layout: Layout = "NCHW",
    input_grad: bool = True,
    weight_grad: bool = True,
    bias: bool = True,
    out: PartialTriple[Float] | None = None,
) -> PartialTriple[Float]:
    """Twin of `convgrad.locally_connected2d_backward`."""
    return local_calls.backward(
        kernels,
        "locally_connected2d_backward",
        grad_output,
        x,
        weight,
        stride,
        layout,
        input_grad,
        weight_grad,
        bias,
        out,
    )
