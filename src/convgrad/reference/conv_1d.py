"""Convolution along one axis, its transpose and their gradients: the two-dimensional kernels with one row."""

from __future__ import annotations

from .. import conv_calls
from ..typing import (
    Activation,
    Algorithm,
    Array,
    ExplicitPadding1d,
    Float,
    Int,
    Layout1d,
    Padding1d,
    PartialTriple,
    Shape,
)
from . import conv_kernels as kernels


def conv1d(
    x: Array[Float],
    weight: Array[Float],
    bias: Array[Float] | None = None,
    *,
    stride: Int = 1,
    padding: Padding1d = 0,
    dilation: Int = 1,
    groups: Int = 1,
    activation: Activation | None = None,
    layout: Layout1d = "NCW",
    algorithm: Algorithm = "auto",
    out: Array[Float] | None = None,
) -> Array[Float]:
    """Twin of `convgrad.conv1d`."""
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.forward(kernels, "conv1d", 1, x, weight, bias, options, activation, out)


def conv1d_grad_input(
    grad_output: Array[Float],
    weight: Array[Float],
    input_shape: Shape,
    *,
    stride: Int = 1,
    padding: Padding1d = 0,
    dilation: Int = 1,
    groups: Int = 1,
    layout: Layout1d = "NCW",
    algorithm: Algorithm = "auto",
    out: Array[Float] | None = None,
) -> Array[Float]:
    """Twin of `convgrad.conv1d_grad_input`."""
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.grad_input(kernels, "conv1d_grad_input", 1, grad_output, weight, input_shape, options, out)


def conv1d_grad_weight(
    grad_output: Array[Float],
    x: Array[Float],
    kernel_size: Int,
    *,
    stride: Int = 1,
    padding: Padding1d = 0,
    dilation: Int = 1,
    groups: Int = 1,
    layout: Layout1d = "NCW",
    algorithm: Algorithm = "auto",
    out: Array[Float] | None = None,
) -> Array[Float]:
    """Twin of `convgrad.conv1d_grad_weight`."""
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.grad_weight(kernels, "conv1d_grad_weight", 1, grad_output, x, kernel_size, options, out)


def conv1d_grad_bias(
    grad_output: Array[Float], *, layout: Layout1d = "NCW", out: Array[Float] | None = None
) -> Array[Float]:
    """Twin of `convgrad.conv1d_grad_bias`."""
    return conv_calls.grad_bias(kernels, "conv1d_grad_bias", 1, grad_output, layout, out)


def conv1d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    stride: Int = 1,
    padding: Padding1d = 0,
    dilation: Int = 1,
    groups: Int = 1,
    layout: Layout1d = "NCW",
    algorithm: Algorithm = "auto",
    input_grad: bool = True,
    weight_grad: bool = True,
    bias: bool = True,
    out: PartialTriple[Float] | None = None,
) -> PartialTriple[Float]:
    """Twin of `convgrad.conv1d_backward`."""
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.backward(
        kernels, "conv1d_backward", 1, grad_output, x, weight, options, input_grad, weight_grad, bias, out
    )


def conv_transpose1d(
    x: Array[Float],
    weight: Array[Float],
    bias: Array[Float] | None = None,
    *,
    stride: Int = 1,
    padding: ExplicitPadding1d = 0,
    output_padding: Int = 0,
    dilation: Int = 1,
    groups: Int = 1,
    activation: Activation | None = None,
    layout: Layout1d = "NCW",
    algorithm: Algorithm = "auto",
    out: Array[Float] | None = None,
) -> Array[Float]:
    """Twin of `convgrad.conv_transpose1d`."""
    options = (stride, padding, output_padding, dilation, groups, layout, algorithm)
    return conv_calls.transpose_forward(kernels, "conv_transpose1d", 1, x, weight, bias, options, activation, out)


def conv_transpose1d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    stride: Int = 1,
    padding: ExplicitPadding1d = 0,
    output_padding: Int = 0,
    dilation: Int = 1,
    groups: Int = 1,
    layout: Layout1d = "NCW",
    algorithm: Algorithm = "auto",
    input_grad: bool = True,
    weight_grad: bool = True,
    bias: bool = True,
    out: PartialTriple[Float] | None = None,
) -> PartialTriple[Float]:
    """Twin of `convgrad.conv_transpose1d_backward`."""
    options = (stride, padding, output_padding, dilation, groups, layout, algorithm)
    return conv_calls.transpose_backward(
        kernels, "conv_transpose1d_backward", 1, grad_output, x, weight, options, input_grad, weight_grad, bias, out
    )
