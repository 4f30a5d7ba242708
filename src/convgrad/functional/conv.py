"""Convolution in two dimensions and its gradients."""

from __future__ import annotations

from typing import Literal, Unpack, overload

from .. import conv_calls
from .._native import conv as native_kernels
from ..backends import is_native
from ..reference import conv_kernels as numpy_kernels
from ..typing import (
    Activation,
    Algorithm,
    Array,
    Conv2dOptions,
    Float,
    Int,
    Layout,
    Padding,
    Pair,
    PartialTriple,
    Shape,
    Triple,
)


def kernels():
    """The convolution kernels of the backend in force."""
    return native_kernels if is_native() else numpy_kernels


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
    """Convolution of x with weight (a cross-correlation: the kernel is not flipped), plus bias, through an activation.

    y[n,k,i,j] = f(bias[k] + sum_{c,r,s} weight[k,c,r,s] * xpad[n, c, i*stride + r*dilation, j*stride + s*dilation])
    (written for groups = 1; xpad is x with its zero border)

    Parameters
    ----------
    x : ndarray (N, C, H, W), or (N, H, W, C) with layout="NHWC"; float32 or float64, any strides
    weight : ndarray (K, C // groups, R, S) in both layouts, dtype of x
    bias : None or ndarray (K,), dtype of x
    stride, dilation : int or (int, int), for rows and columns
    padding : int, (rows, columns), ((top, bottom), (left, right)), "valid" (none), "same" or "full"; pixels of zero.
        "same" gives ceil(H / stride) rows, an odd zero going after (ONNX SAME_UPPER); "full" pads
        dilation * (R - 1) on each side
    groups : int, dividing C and K; group g of the output channels sees group g of the input channels
    activation : None, the name f of an activation, or (name, parameter); see `convgrad.activations`
    layout : "NCHW" or "NHWC", of x and the result
    algorithm : "auto", "direct" or "winograd"
    out : None or ndarray of the result's shape and dtype, any strides

    Returns
    -------
    y : ndarray (N, K, OH, OW) or (N, OH, OW, K), dtype of x; OH = (H + padding - dilation * (R - 1) - 1) // stride + 1

    Raises
    ------
    ValueError : shapes or options that do not fit together
    TypeError : an array that is not float32 or float64, or arrays of different dtype

    Source: notes, eq. 15 (convolution) and the section on zero padding; arithmetic of sizes: Dumoulin, Visin (2016),
    arXiv 1603.07285.
    """
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.forward(kernels(), "conv2d", 2, x, weight, bias, options, activation, out)


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
    """Gradient of `conv2d` with respect to x.

    grad_input[n,c,p,q] = sum of grad_output[n,k,i,j] * weight[k,c,r,s] over all k, i, j, r, s that read that pixel:
    i*stride + r*dilation - top = p and j*stride + s*dilation - left = q

    Parameters
    ----------
    grad_output : ndarray (N, K, OH, OW), or (N, OH, OW, K) with layout="NHWC"; float32 or float64, any strides
    weight : ndarray (K, C // groups, R, S) in both layouts, dtype of grad_output
    input_shape : tuple of int, x.shape as laid out
    stride, dilation : int or (int, int), for rows and columns
    padding : int, (int, int), ((int, int), (int, int)), "valid", "same" or "full"; pixels of zero on each side
    groups : int, dividing C and K
    layout : "NCHW" or "NHWC"
    algorithm : "auto", "direct" or "winograd"
    out : None or ndarray of the result's shape and dtype, any strides

    Returns
    -------
    grad_input : ndarray of shape input_shape, dtype of grad_output

    Raises
    ------
    ValueError : shapes or options that do not fit together; grad_output has not the shape that conv2d returns
    TypeError : an array that is not float32 or float64, or arrays of different dtype

    Source: notes, eq. 21 (the borders are those of the full convolution with the flipped weight).
    """
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.grad_input(kernels(), "conv2d_grad_input", 2, grad_output, weight, input_shape, options, out)


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
    """Gradient of `conv2d` with respect to its weight.

    grad_weight[k,c,r,s] = sum_{n,i,j} grad_output[n,k,i,j] * xpad[n, c, i*stride + r*dilation, j*stride + s*dilation]
    (written for groups = 1; xpad is x with its zero border)

    Parameters
    ----------
    grad_output : ndarray (N, K, OH, OW), or (N, OH, OW, K) with layout="NHWC"; float32 or float64, any strides
    x : ndarray (N, C, H, W), or (N, H, W, C) with layout="NHWC"; dtype of grad_output
    kernel_size : int or (R, S)
    stride, dilation : int or (int, int), for rows and columns
    padding : int, (int, int), ((int, int), (int, int)), "valid", "same" or "full"; pixels of zero on each side
    groups : int, dividing C and K
    layout : "NCHW" or "NHWC"
    algorithm : "auto", "direct" or "winograd"
    out : None or ndarray of the result's shape and dtype, any strides

    Returns
    -------
    grad_weight : ndarray (K, C // groups, R, S) in both layouts, dtype of x; zeros for an empty batch

    Raises
    ------
    ValueError : shapes or options that do not fit together; grad_output has not the shape that conv2d returns
    TypeError : an array that is not float32 or float64, or arrays of different dtype

    Source: notes, eq. 16 and 19; the sum over the batch as in eq. 20 to 22.
    """
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.grad_weight(kernels(), "conv2d_grad_weight", 2, grad_output, x, kernel_size, options, out)


def conv2d_grad_bias(
    grad_output: Array[Float], *, layout: Layout = "NCHW", out: Array[Float] | None = None
) -> Array[Float]:
    """Gradient of `conv2d` with respect to its bias: the sum of grad_output over samples, rows and columns.

    Parameters
    ----------
    grad_output : ndarray (N, K, OH, OW), or (N, OH, OW, K) with layout="NHWC"; float32 or float64, any strides
    layout : "NCHW" or "NHWC"
    out : None or ndarray (K,), dtype of grad_output

    Returns
    -------
    grad_bias : ndarray (K,), dtype of grad_output; zeros for an empty batch

    Source: notes, eq. 13, summed over every place that shares the bias.
    """
    return conv_calls.grad_bias(kernels(), "conv2d_grad_bias", 2, grad_output, layout, out)


@overload
def conv2d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    input_grad: Literal[True] = ...,
    weight_grad: Literal[True] = ...,
    bias: Literal[True] = ...,
    out: PartialTriple[Float] | None = ...,
    **options: Unpack[Conv2dOptions],
) -> Triple[Float]: ...
@overload
def conv2d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    input_grad: bool = ...,
    weight_grad: bool = ...,
    bias: bool = ...,
    out: PartialTriple[Float] | None = ...,
    **options: Unpack[Conv2dOptions],
) -> PartialTriple[Float]: ...
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
    """All gradients of `conv2d` (without activation) in one call.

    Parameters
    ----------
    grad_output : ndarray (N, K, OH, OW), or (N, OH, OW, K) with layout="NHWC"; float32 or float64, any strides
    x : ndarray (N, C, H, W), or (N, H, W, C) with layout="NHWC"; dtype of grad_output
    weight : ndarray (K, C // groups, R, S) in both layouts, dtype of grad_output
    stride, dilation : int or (int, int), for rows and columns
    padding : int, (int, int), ((int, int), (int, int)), "valid", "same" or "full"; pixels of zero on each side
    groups : int, dividing C and K
    layout : "NCHW" or "NHWC"
    algorithm : "auto", "direct" or "winograd"
    input_grad, weight_grad, bias : bool, which gradients are wanted
    out : None or (grad_input, grad_weight, grad_bias), each an ndarray or None

    Returns
    -------
    (grad_input, grad_weight, grad_bias), each an ndarray or, where not wanted, None

    Raises
    ------
    ValueError : as the three functions; or `out` has an array for a gradient not wanted
    TypeError : as the three functions; or a flag that is not a bool

    Source: notes, eq. 16, 19 to 22.
    """
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.backward(
        kernels(), "conv2d_backward", 2, grad_output, x, weight, options, input_grad, weight_grad, bias, out
    )
