"""Subsampling: average pooling with a learned scale and shift for each feature map."""

from __future__ import annotations

from .. import pool_calls
from ..typing import Array, Float, Layout, Padding, Pair, PartialTriple, Triple
from .pool import kernels


def subsample2d(
    x: Array[Float],
    weight: Array[Float],
    bias: Array[Float],
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    layout: Layout = "NCHW",
    out: Array[Float] | None = None,
) -> Array[Float]:
    """Mean of every window, scaled and shifted by channel.

    y[n,c,i,j] = weight[c] * mean(window (i, j) of x[n,c]) + bias[c]

    Parameters
    ----------
    x : ndarray (N, C, H, W), or (N, H, W, C) with layout="NHWC"; float32 or float64, copied if not C-contiguous
    weight, bias : ndarray (C,), dtype of x
    kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, layout : as for `avg_pool2d`
    out : None or ndarray of the result's shape and dtype

    Returns
    -------
    y : ndarray (N, C, OH, OW) or (N, OH, OW, C), dtype of x

    Raises
    ------
    ValueError : a shape or option that does not fit
    TypeError : an array that is not float32 or float64, or arrays of different dtype

    Source: LeCun, Bottou, Bengio, Haffner (1998), section II.B; the subsampling layer of the notes.
    """
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.subsample(kernels(), "subsample2d", x, weight, bias, kernel_size, options, count_include_pad, out)


def subsample2d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    layout: Layout = "NCHW",
    out: PartialTriple[Float] | None = None,
) -> Triple[Float]:
    """Gradients of `subsample2d` with respect to x, weight and bias, in one pass over x.

    u[n,c,h,w] = sum of grad_output[n,c,i,j] / count[i,j] over the windows that see (h, w)
    grad_x = weight[c] * u;  grad_weight[c] = sum over n, h, w of u * x;  grad_bias[c] = sum over n, i, j of grad_output

    Parameters
    ----------
    grad_output : ndarray (N, C, OH, OW), or (N, OH, OW, C) with layout="NHWC"; float32 or float64
    x : ndarray (N, C, H, W) or (N, H, W, C), dtype of grad_output
    weight : ndarray (C,), dtype of grad_output
    kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, layout : as for `avg_pool2d`
    out : None or a tuple of three, each None or an ndarray of the result's shape and dtype

    Returns
    -------
    grad_x : ndarray of x's shape
    grad_weight, grad_bias : ndarray (C,)

    Raises
    ------
    ValueError : shapes or options that do not fit together
    TypeError : an array that is not float32 or float64, or arrays of different dtype

    Source: LeCun, Bottou, Bengio, Haffner (1998), section II.B; the chain rule of the notes, eq. 8.
    """
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.subsample_backward(
        kernels(), "subsample2d_backward", grad_output, x, weight, kernel_size, options, count_include_pad, out
    )
