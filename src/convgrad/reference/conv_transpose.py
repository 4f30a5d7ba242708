"""Transposed convolution in two dimensions and its gradients."""

from __future__ import annotations

from .. import conv_calls
from ..typing import Activation, Algorithm, Array, ExplicitPadding, Float, Int, Layout, Pair, PartialTriple
from . import conv_kernels as kernels


def conv_transpose2d(
    x: Array[Float],
    weight: Array[Float],
    bias: Array[Float] | None = None,
    *,
    stride: Pair = 1,
    padding: ExplicitPadding = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: Int = 1,
    activation: Activation | None = None,
    layout: Layout = "NCHW",
    algorithm: Algorithm = "auto",
    out: Array[Float] | None = None,
) -> Array[Float]:
    """Twin of `convgrad.conv_transpose2d`."""
    options = (stride, padding, output_padding, dilation, groups, layout, algorithm)
    return conv_calls.transpose_forward(kernels, "conv_transpose2d", 2, x, weight, bias, options, activation, out)


def conv_transpose2d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    stride: Pair = 1,
    padding: ExplicitPadding = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: Int = 1,
    layout: Layout = "NCHW",
    algorithm: Algorithm = "auto",
    input_grad: bool = True,
    weight_grad: bool = True,
    bias: bool = True,
    out: PartialTriple[Float] | None = None,
) -> PartialTriple[Float]:
    """Twin of `convgrad.conv_transpose2d_backward`."""
    options = (stride, padding, output_padding, dilation, groups, layout, algorithm)
    return conv_calls.transpose_backward(
        kernels, "conv_transpose2d_backward", 2, grad_output, x, weight, options, input_grad, weight_grad, bias, out
    )
