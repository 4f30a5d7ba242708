"""Convolution along one axis, its transpose and their gradients: the two-dimensional kernels with one row."""

from __future__ import annotations

from typing import Literal, Unpack, overload

from .. import conv_calls
from ..typing import (
    Activation,
    Algorithm,
    Array,
    Conv1dOptions,
    ConvTranspose1dOptions,
    ExplicitPadding1d,
    Float,
    Int,
    Layout1d,
    Padding1d,
    PartialTriple,
    Shape,
    Triple,
)
from .conv import kernels


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
    """Convolution along one axis: `conv2d` with one row.

    Arrays have three axes, (N, C, W) with layout="NCW" and (N, W, C) with "NWC"; "NCHW" and "NHWC" are taken as other
    names of the two. `stride` and `dilation` are ints; `padding` is an int, (left, right), "valid", "same" or "full".
    weight is (K, C // groups, S), bias (K,); the result (N, K, OW) or (N, OW, K). Everything else is as for `conv2d`.
    """
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.forward(kernels(), "conv1d", 1, x, weight, bias, options, activation, out)


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
    """Gradient of `conv1d` with respect to x: `conv2d_grad_input` with one row.

    Arrays have three axes, (N, C, W) with layout="NCW" and (N, W, C) with "NWC"; "NCHW" and "NHWC" are taken as other
    names of the two. `stride` and `dilation` are ints; `padding` is an int, (left, right), "valid", "same" or "full".
    grad_output is (N, K, OW) or (N, OW, K), weight (K, C // groups, S), `input_shape` is x.shape.
    """
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.grad_input(kernels(), "conv1d_grad_input", 1, grad_output, weight, input_shape, options, out)


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
    """Gradient of `conv1d` with respect to its weight: `conv2d_grad_weight` with one row.

    Arrays have three axes, (N, C, W) with layout="NCW" and (N, W, C) with "NWC"; "NCHW" and "NHWC" are taken as other
    names of the two. `stride` and `dilation` are ints; `padding` is an int, (left, right), "valid", "same" or "full".
    `kernel_size` is an int; the result is (K, C // groups, kernel_size).
    """
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.grad_weight(kernels(), "conv1d_grad_weight", 1, grad_output, x, kernel_size, options, out)


def conv1d_grad_bias(
    grad_output: Array[Float], *, layout: Layout1d = "NCW", out: Array[Float] | None = None
) -> Array[Float]:
    """Gradient of `conv1d` with respect to its bias: the sum of grad_output over samples and positions."""
    return conv_calls.grad_bias(kernels(), "conv1d_grad_bias", 1, grad_output, layout, out)


@overload
def conv1d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    input_grad: Literal[True] = ...,
    weight_grad: Literal[True] = ...,
    bias: Literal[True] = ...,
    out: PartialTriple[Float] | None = ...,
    **options: Unpack[Conv1dOptions],
) -> Triple[Float]: ...
@overload
def conv1d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    input_grad: bool = ...,
    weight_grad: bool = ...,
    bias: bool = ...,
    out: PartialTriple[Float] | None = ...,
    **options: Unpack[Conv1dOptions],
) -> PartialTriple[Float]: ...
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
    """All gradients of `conv1d` (without activation) in one call: `conv2d_backward` with one row.

    Arrays have three axes, (N, C, W) with layout="NCW" and (N, W, C) with "NWC"; "NCHW" and "NHWC" are taken as other
    names of the two. `stride` and `dilation` are ints; `padding` is an int, (left, right), "valid", "same" or "full".
    Returns (grad_input, grad_weight, grad_bias), None where not wanted.
    """
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.backward(
        kernels(), "conv1d_backward", 1, grad_output, x, weight, options, input_grad, weight_grad, bias, out
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
    """Transposed convolution along one axis: `conv_transpose2d` with one row.

    Arrays have three axes, (N, C, W) with layout="NCW" and (N, W, C) with "NWC"; "NCHW" and "NHWC" are taken as other
    names of the two. `stride` and `dilation` are ints; `padding` is an int or (left, right).
    weight is (C, K // groups, S). Everything else is as for `conv_transpose2d`.
    """
    options = (stride, padding, output_padding, dilation, groups, layout, algorithm)
    return conv_calls.transpose_forward(kernels(), "conv_transpose1d", 1, x, weight, bias, options, activation, out)


@overload
def conv_transpose1d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    input_grad: Literal[True] = ...,
    weight_grad: Literal[True] = ...,
    bias: Literal[True] = ...,
    out: PartialTriple[Float] | None = ...,
    **options: Unpack[ConvTranspose1dOptions],
) -> Triple[Float]: ...
@overload
def conv_transpose1d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    input_grad: bool = ...,
    weight_grad: bool = ...,
    bias: bool = ...,
    out: PartialTriple[Float] | None = ...,
    **options: Unpack[ConvTranspose1dOptions],
) -> PartialTriple[Float]: ...
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
    """All gradients of `conv_transpose1d` (without activation): `conv_transpose2d_backward` with one row.

    Arrays have three axes, (N, C, W) with layout="NCW" and (N, W, C) with "NWC"; "NCHW" and "NHWC" are taken as other
    names of the two. `stride` and `dilation` are ints; `padding` is an int or (left, right).
    Returns (grad_input, grad_weight, grad_bias), None where not wanted.
    """
    options = (stride, padding, output_padding, dilation, groups, layout, algorithm)
    return conv_calls.transpose_backward(
        kernels(), "conv_transpose1d_backward", 1, grad_output, x, weight, options, input_grad, weight_grad, bias, out
    )
