"""Convolution in two dimensions and its gradients."""

from __future__ import annotations

from .. import conv_calls
from ..typing import Activation, Algorithm, Array, Float, Int, Layout, Padding, Pair, PartialTriple, Shape
from . import conv_kernels as kernels


def conv2d(
    x: Array[Float],
    weight: Array[Float],
    bias: Array[Float] | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: Int = 1,
    activation: Activation | None = None,
    layout: Layout = "NCHW",
    algorithm: Algorithm = "auto",
    out: Array[Float] | None = None,
) -> Array[Float]:
    """Twin of `convgrad.conv2d`."""
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.forward(kernels, "conv2d", 2, x, weight, bias, options, activation, out)


def conv2d_grad_input(
    grad_output: Array[Float],
    weight: Array[Float],
    input_shape: Shape,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: Int = 1,
    layout: Layout = "NCHW",
    algorithm: Algorithm = "auto",
    out: Array[Float] | None = None,
) -> Array[Float]:
    """Twin of `convgrad.conv2d_grad_input`."""
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.grad_input(kernels, "conv2d_grad_input", 2, grad_output, weight, input_shape, options, out)


def conv2d_grad_weight(
    grad_output: Array[Float],
    x: Array[Float],
    kernel_size: Pair,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: Int = 1,
    layout: Layout = "NCHW",
    algorithm: Algorithm = "auto",
    out: Array[Float] | None = None,
) -> Array[Float]:
    """Twin of `convgrad.conv2d_grad_weight`."""
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.grad_weight(kernels, "conv2d_grad_weight", 2, grad_output, x, kernel_size, options, out)


def conv2d_grad_bias(
    grad_output: Array[Float], *, layout: Layout = "NCHW", out: Array[Float] | None = None
) -> Array[Float]:
    """Twin of `convgrad.conv2d_grad_bias`."""
    return conv_calls.grad_bias(kernels, "conv2d_grad_bias", 2, grad_output, layout, out)


def conv2d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: Int = 1,
    layout: Layout = "NCHW",
    algorithm: Algorithm = "auto",
    input_grad: bool = True,
    weight_grad: bool = True,
    bias: bool = True,
    out: PartialTriple[Float] | None = None,
) -> PartialTriple[Float]:
    """Twin of `convgrad.conv2d_backward`."""
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.backward(
        kernels, "conv2d_backward", 2, grad_output, x, weight, options, input_grad, weight_grad, bias, out
    )
