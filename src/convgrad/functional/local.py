"""Locally connected layers: convolutions whose every output pixel has weights of its own."""

from __future__ import annotations

from typing import Literal, overload

from .. import local_calls
from .._native import local as native_kernels
from ..backends import is_native
from ..reference import local_kernels
from ..typing import Activation, Array, Float, Layout, Pair, PartialTriple, Triple


def kernels():
    """The kernels of locally connected layers of the backend in force."""
    return native_kernels if is_native() else local_kernels


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
    """Convolution without sharing of weights: every output pixel has a kernel of its own.

    y[n,k,i,j] = f(bias[i,j,k] + sum over c, r, s of weight[i,j,k,c,r,s] * x[n, c, i*stride + r, j*stride + s])

    Parameters
    ----------
    x : ndarray (N, C, H, W), or (N, H, W, C) with layout="NHWC"; float32 or float64, copied if not C-contiguous
    weight : ndarray (OH, OW, K, C, R, S) in both layouts, dtype of x; OH = (H - R) // stride + 1, OW likewise
    bias : None or ndarray (OH, OW, K), dtype of x
    stride : int or (int, int)
    activation : None, the name f of an activation, or (name, parameter); see `convgrad.activations`
    layout : "NCHW" or "NHWC", of x and the result
    out : None or ndarray of the result's shape and dtype

    Returns
    -------
    y : ndarray (N, K, OH, OW) or (N, OH, OW, K), dtype of x

    Raises
    ------
    ValueError : shapes or options that do not fit together
    TypeError : an array that is not float32 or float64, or arrays of different dtype

    Source: notes, the section on local connectivity, before weights are shared; LeCun (1989), section 5.
    """
    return local_calls.forward(kernels(), "locally_connected2d", x, weight, bias, stride, activation, layout, out)


@overload
def locally_connected2d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    input_grad: Literal[True] = ...,
    weight_grad: Literal[True] = ...,
    bias: Literal[True] = ...,
    out: PartialTriple[Float] | None = ...,
    stride: Pair = ...,
    layout: Layout = ...,
) -> Triple[Float]: ...
@overload
def locally_connected2d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    input_grad: bool = ...,
    weight_grad: bool = ...,
    bias: bool = ...,
    out: PartialTriple[Float] | None = ...,
    stride: Pair = ...,
    layout: Layout = ...,
) -> PartialTriple[Float]: ...
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
    """Gradients of `locally_connected2d` (without activation) with respect to x, weight and bias.

    grad_weight[i,j,k,c,r,s] = sum over n of grad_output[n,k,i,j] * x[n, c, i*stride + r, j*stride + s]
    grad_bias[i,j,k] = sum over n of grad_output[n,k,i,j]
    grad_x[n,c,h,w] = sum of grad_output[n,k,i,j] * weight[i,j,k,c,r,s] over all k, i, j, r, s that read that pixel

    Parameters
    ----------
    grad_output : ndarray (N, K, OH, OW), or (N, OH, OW, K) with layout="NHWC"; float32 or float64
    x : ndarray (N, C, H, W) or (N, H, W, C), dtype of grad_output
    weight : ndarray (OH, OW, K, C, R, S), dtype of grad_output
    stride : int or (int, int)
    layout : "NCHW" or "NHWC"
    input_grad, weight_grad, bias : bool, which of the three are wanted
    out : None or a tuple of three, each None or an ndarray of the result's shape and dtype

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarrays of the shapes of x, weight and bias; None where not wanted

    Raises
    ------
    ValueError : shapes or options that do not fit together
    TypeError : an array that is not float32 or float64, or arrays of different dtype

    Source: notes, eq. 8 and 10 for the connections that exist.
    """
    return local_calls.backward(
        kernels(),
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
