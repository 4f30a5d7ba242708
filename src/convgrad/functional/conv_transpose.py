"""Transposed convolution in two dimensions and its gradients."""

from __future__ import annotations

from typing import Literal, Unpack, overload

from .. import conv_calls
from ..typing import (
    Activation,
    Algorithm,
    Array,
    ConvTranspose2dOptions,
    ExplicitPadding,
    Float,
    Int,
    Layout,
    Pair,
    PartialTriple,
    Triple,
)
from .conv import kernels


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
    """Transposed convolution: the gradient of `conv2d` by its input, as a layer of its own; plus bias, activation.

    Every x[n,c,i,j] * weight[c,k,r,s] is added to y[n, k, i*stride + r*dilation - top, j*stride + s*dilation - left];
    then bias[k] is added and the activation applied.

    Parameters
    ----------
    x : ndarray (N, C, H, W), or (N, H, W, C) with layout="NHWC"; float32 or float64, any strides
    weight : ndarray (C, K // groups, R, S) in both layouts, dtype of x
    bias : None or ndarray (K,), dtype of x
    stride, dilation : int or (int, int), for rows and columns
    padding : int, (rows, columns) or ((top, bottom), (left, right)): that of the convolution transposed, so the
        result is smaller by it
    output_padding : int or (int, int), rows and columns added after; smaller than stride or dilation
    groups : int, dividing C
    activation : None, a name or (name, parameter); see `convgrad.activations`
    layout : "NCHW" or "NHWC"
    algorithm : "auto", "direct" or "winograd"
    out : None or ndarray of the result's shape and dtype, any strides

    Returns
    -------
    y : ndarray (N, K, OH, OW) or (N, OH, OW, K), dtype of x;
        OH = (H - 1) * stride - top - bottom + dilation * (R - 1) + 1 + output_padding

    Raises
    ------
    ValueError : shapes or options that do not fit together
    TypeError : an array that is not float32 or float64, or arrays of different dtype

    Source: Dumoulin, Visin (2016), arXiv 1603.07285, chapter 4; notes, eq. 21.
    """
    options = (stride, padding, output_padding, dilation, groups, layout, algorithm)
    return conv_calls.transpose_forward(kernels(), "conv_transpose2d", 2, x, weight, bias, options, activation, out)


@overload
def conv_transpose2d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    input_grad: Literal[True] = ...,
    weight_grad: Literal[True] = ...,
    bias: Literal[True] = ...,
    out: PartialTriple[Float] | None = ...,
    **options: Unpack[ConvTranspose2dOptions],
) -> Triple[Float]: ...
@overload
def conv_transpose2d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    input_grad: bool = ...,
    weight_grad: bool = ...,
    bias: bool = ...,
    out: PartialTriple[Float] | None = ...,
    **options: Unpack[ConvTranspose2dOptions],
) -> PartialTriple[Float]: ...
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
    """All gradients of `conv_transpose2d` (without activation) in one call.

    grad_input is `conv2d` of grad_output by weight; grad_weight is `conv2d_grad_weight` with x and grad_output in each
    other's place.

    Parameters
    ----------
    grad_output : ndarray of the shape `conv_transpose2d` returns; float32 or float64, any strides
    x : ndarray (N, C, H, W), or (N, H, W, C) with layout="NHWC"; dtype of grad_output
    weight : ndarray (C, K // groups, R, S) in both layouts, dtype of grad_output
    stride, padding, output_padding, dilation, groups, layout, algorithm : as for `conv_transpose2d`
    input_grad, weight_grad, bias : bool, which gradients are wanted
    out : None or (grad_input, grad_weight, grad_bias), each an ndarray or None

    Returns
    -------
    (grad_input, grad_weight, grad_bias), each an ndarray or, where not wanted, None

    Raises
    ------
    ValueError : shapes or options that do not fit together; `out` has an array for a gradient not wanted
    TypeError : wrong dtypes, or a flag that is not a bool
    """
    options = (stride, padding, output_padding, dilation, groups, layout, algorithm)
    return conv_calls.transpose_backward(
        kernels(), "conv_transpose2d_backward", 2, grad_output, x, weight, options, input_grad, weight_grad, bias, out
    )
