"""Batch and layer normalisation, with their gradients."""

from __future__ import annotations

from typing import overload

from .. import norm_calls as calls
from .._native import norm as native_kernels
from ..backends import is_native
from ..reference import norm_kernels as numpy_kernels
from ..typing import Array, Float, Layout, PartialTriple, Triple


def kernels():
    """The normalisation kernels of the backend in force."""
    return native_kernels if is_native() else numpy_kernels


@overload
def batch_norm(
    x: Array[Float],
    weight: Array[Float] | None,
    bias: Array[Float] | None,
    running_mean: Array[Float],
    running_var: Array[Float],
    *,
    training: bool = ...,
    momentum: float = ...,
    eps: float = ...,
    layout: Layout = ...,
    out: Array[Float] | tuple[Array[Float] | None, ...] | None = ...,
) -> tuple[Array[Float], Array[Float], Array[Float], Array[Float], Array[Float]]: ...
@overload
def batch_norm(
    x: Array[Float],
    weight: Array[Float] | None,
    bias: Array[Float] | None,
    running_mean: None = ...,
    running_var: None = ...,
    *,
    training: bool = ...,
    momentum: float = ...,
    eps: float = ...,
    layout: Layout = ...,
    out: Array[Float] | tuple[Array[Float] | None, ...] | None = ...,
) -> tuple[Array[Float], Array[Float], Array[Float], None, None]: ...
@overload
def batch_norm(
    x: Array[Float],
    weight: Array[Float] | None,
    bias: Array[Float] | None,
    running_mean: Array[Float] | None = ...,
    running_var: Array[Float] | None = ...,
    *,
    training: bool = ...,
    momentum: float = ...,
    eps: float = ...,
    layout: Layout = ...,
    out: Array[Float] | tuple[Array[Float] | None, ...] | None = ...,
) -> tuple[Array[Float], Array[Float], Array[Float], Array[Float] | None, Array[Float] | None]: ...
def batch_norm(
    x: Array[Float],
    weight: Array[Float] | None,
    bias: Array[Float] | None,
    running_mean: Array[Float] | None = None,
    running_var: Array[Float] | None = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    layout: Layout = "NCHW",
    out: Array[Float] | tuple[Array[Float] | None, ...] | None = None,
) -> tuple[Array[Float], Array[Float], Array[Float], Array[Float] | None, Array[Float] | None]:
    """Normalise each channel to mean 0 and variance 1 over batch and pixels, then scale and shift it.

    y = (x - mean) / sqrt(var + eps) * weight + bias, with the mean and (biased) variance of x in training and the
    running ones otherwise

    Parameters
    ----------
    x : ndarray (N, C), (N, C, W) or (N, C, H, W), channels last with layout="NHWC"; float32 or float64
    weight, bias : None or ndarray (C,), dtype of x
    running_mean, running_var : None or ndarray (C,), dtype of x; not modified. Needed with training=False
    training : bool
    momentum : float in [0, 1], the share of x in the new running statistics
    eps : float, at least 0
    layout : "NCHW" (channels on axis 1) or "NHWC" (channels last)
    out : None, ndarray for y (may be x), or a tuple of five with None where no array is given

    Returns
    -------
    y : ndarray, shape and dtype of x
    saved_mean, saved_inv_std : ndarray (C,), the mean and 1 / sqrt(var + eps) that were used, for `batch_norm_backward`
    new_running_mean, new_running_var : ndarray (C,), (1 - momentum) * running + momentum * that of x, whose variance is
        the unbiased one; copies of the running ones with training=False; None where no running statistics are given

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64 or do not fit each other; training with fewer than
        two values per channel; no running statistics with training=False

    Source: Ioffe, Szegedy (2015), arXiv 1502.03167, Algorithms 1 and 2.
    """
    return calls.batch_norm(
        kernels(), "batch_norm", x, weight, bias, running_mean, running_var, training, momentum, eps, layout, out
    )


def batch_norm_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float] | None,
    saved_mean: Array[Float],
    saved_inv_std: Array[Float],
    *,
    training: bool = True,
    layout: Layout = "NCHW",
    out: PartialTriple[Float] | None = None,
) -> Triple[Float]:
    """Gradients of `batch_norm` by x, weight and bias.

    With xhat = (x - mean) inv_std and means over batch and pixels: grad_bias = sum g, grad_weight = sum g xhat,
    grad_x = weight inv_std (g - mean(g) - xhat mean(g xhat)); weight inv_std g with training=False, whose statistics
    are constants

    Parameters
    ----------
    grad_output : ndarray (N, C), (N, C, W) or (N, C, H, W), channels last with layout="NHWC"; float32 or float64
    x : ndarray, shape and dtype of grad_output, what `batch_norm` was given
    weight : None or ndarray (C,), what `batch_norm` was given
    saved_mean, saved_inv_std : ndarray (C,), what `batch_norm` returned
    training : bool, as `batch_norm` was given it
    layout : "NCHW" or "NHWC"
    out : None or a tuple (grad_x, grad_weight, grad_bias) with None where no array is given; grad_x may be grad_output
        or x

    Returns
    -------
    grad_x : ndarray, shape and dtype of x
    grad_weight, grad_bias : ndarray (C,), also where weight is None (the gradients by a weight of 1 and a bias of 0)

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64 or do not fit each other

    Source: Ioffe, Szegedy (2015), arXiv 1502.03167, section 3.
    """
    return calls.batch_norm_backward(
        kernels(), "batch_norm_backward", grad_output, x, weight, saved_mean, saved_inv_std, training, layout, out
    )


def layer_norm(
    x: Array[Float],
    weight: Array[Float] | None,
    bias: Array[Float] | None,
    *,
    eps: float = 1e-5,
    out: Array[Float] | PartialTriple[Float] | None = None,
) -> Triple[Float]:
    """Normalise over the last axes, those that weight has, to mean 0 and variance 1, then scale and shift.

    y = (x - mean) / sqrt(var + eps) * weight + bias, mean and (biased) variance over weight's axes

    Parameters
    ----------
    x : ndarray (..., *weight.shape), float32 or float64
    weight, bias : None or ndarray of the shape of x's last axes, dtype of x; the last axis alone where both are None
    eps : float, at least 0
    out : None, ndarray for y (may be x), or a tuple (y, saved_mean, saved_inv_std) with None where no array is given

    Returns
    -------
    y : ndarray, shape and dtype of x
    saved_mean, saved_inv_std : ndarray of x's leading axes, for `layer_norm_backward`

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64 or do not fit each other; empty axes to normalise

    Source: Ba, Kiros, Hinton (2016), arXiv 1607.06450, eq. 4.
    """
    return calls.layer_norm(kernels(), "layer_norm", x, weight, bias, eps, out)


def layer_norm_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float] | None,
    saved_mean: Array[Float],
    saved_inv_std: Array[Float],
    *,
    out: PartialTriple[Float] | None = None,
) -> Triple[Float]:
    """Gradients of `layer_norm` by x, weight and bias.

    With xhat = (x - mean) inv_std and h = weight g: grad_x = inv_std (h - mean(h) - xhat mean(h xhat)), means over
    weight's axes; grad_weight = sum g xhat and grad_bias = sum g over the leading axes

    Parameters
    ----------
    grad_output : ndarray (..., *weight.shape), float32 or float64
    x : ndarray, shape and dtype of grad_output, what `layer_norm` was given
    weight : None or ndarray, what `layer_norm` was given
    saved_mean, saved_inv_std : ndarray of x's leading axes, what `layer_norm` returned
    out : None or a tuple (grad_x, grad_weight, grad_bias) with None where no array is given; grad_x may be grad_output
        or x

    Returns
    -------
    grad_x : ndarray, shape and dtype of x
    grad_weight, grad_bias : ndarray of the shape of the normalised axes

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64 or do not fit each other

    Source: Ba, Kiros, Hinton (2016), arXiv 1607.06450, the derivative of eq. 4.
    """
    return calls.layer_norm_backward(
        kernels(), "layer_norm_backward", grad_output, x, weight, saved_mean, saved_inv_std, out
    )
