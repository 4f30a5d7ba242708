"""Convolution and correlation with one kernel, as signal processing defines them, and their gradients."""

from __future__ import annotations

from .. import conv_calls
from ..typing import Array, Float, Mode
from .conv import kernels


def convolve2d(
    x: Array[Float], kernel: Array[Float], mode: Mode = "full", *, out: Array[Float] | None = None
) -> Array[Float]:
    """Convolution of the last two axes of x with a kernel, which is flipped; beyond its edges x is zero.

    y[i,j] = sum_{r,s} x[i - r, j - s] * kernel[r,s]; equal to `scipy.signal.convolve2d` for real two-axis arrays

    Parameters
    ----------
    x : ndarray (..., H, W), float32 or float64, any strides; leading axes are a batch
    kernel : ndarray (R, S), dtype of x
    mode : "full" (H + R - 1 rows), "same" (H rows, the centre of the full result) or "valid" (H - R + 1 rows)
    out : None or ndarray of the result's shape and dtype, any strides

    Returns
    -------
    y : ndarray (..., OH, OW), dtype of x

    Raises
    ------
    ValueError : mode="valid" and a kernel larger than x on an axis; empty rows, columns or kernel
    TypeError : an array that is not float32 or float64, or arrays of different dtype

    Source: notes, eq. 15 and 17.
    """
    return conv_calls.convolve(kernels(), "convolve2d", True, x, kernel, mode, out)


def convolve2d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    kernel: Array[Float],
    mode: Mode = "full",
    *,
    out: tuple[Array[Float] | None, Array[Float] | None] | None = None,
) -> tuple[Array[Float], Array[Float]]:
    """Gradients of `convolve2d` with respect to x and kernel.

    Parameters
    ----------
    grad_output : ndarray of the shape `convolve2d` returns, float32 or float64, any strides
    x : ndarray (..., H, W), dtype of grad_output
    kernel : ndarray (R, S), dtype of grad_output
    mode : "full", "same" or "valid", as in the forward call
    out : None or (grad_x, grad_kernel), each an ndarray or None

    Returns
    -------
    grad_x : ndarray of x's shape
    grad_kernel : ndarray (R, S), summed over the leading axes of x

    Raises
    ------
    ValueError : grad_output has not the shape that the forward call returns
    TypeError : an array that is not float32 or float64, or arrays of different dtype
    """
    return conv_calls.convolve_backward(kernels(), "convolve2d_backward", True, grad_output, x, kernel, mode, out)


def correlate2d(
    x: Array[Float], kernel: Array[Float], mode: Mode = "full", *, out: Array[Float] | None = None
) -> Array[Float]:
    """Cross-correlation of the last two axes of x with a kernel, not flipped; beyond its edges x is zero.

    y[i,j] = sum_{r,s} x[i + r, j + s] * kernel[r,s] with (i, j) from 1 - R, 1 - S in the full result; equal to
    `scipy.signal.correlate2d` for real two-axis arrays

    Parameters
    ----------
    x : ndarray (..., H, W), float32 or float64, any strides; leading axes are a batch
    kernel : ndarray (R, S), dtype of x
    mode : "full" (H + R - 1 rows), "same" (H rows, the centre of the full result) or "valid" (H - R + 1 rows)
    out : None or ndarray of the result's shape and dtype, any strides

    Returns
    -------
    y : ndarray (..., OH, OW), dtype of x

    Raises
    ------
    ValueError : mode="valid" and a kernel larger than x on an axis; empty rows, columns or kernel
    TypeError : an array that is not float32 or float64, or arrays of different dtype

    Source: notes, eq. 16 and 19.
    """
    return conv_calls.convolve(kernels(), "correlate2d", False, x, kernel, mode, out)


def correlate2d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    kernel: Array[Float],
    mode: Mode = "full",
    *,
    out: tuple[Array[Float] | None, Array[Float] | None] | None = None,
) -> tuple[Array[Float], Array[Float]]:
    """Gradients of `correlate2d` with respect to x and kernel.

    Parameters
    ----------
    grad_output : ndarray of the shape `correlate2d` returns, float32 or float64, any strides
    x : ndarray (..., H, W), dtype of grad_output
    kernel : ndarray (R, S), dtype of grad_output
    mode : "full", "same" or "valid", as in the forward call
    out : None or (grad_x, grad_kernel), each an ndarray or None

    Returns
    -------
    grad_x : ndarray of x's shape
    grad_kernel : ndarray (R, S), summed over the leading axes of x

    Raises
    ------
    ValueError : grad_output has not the shape that the forward call returns
    TypeError : an array that is not float32 or float64, or arrays of different dtype
    """
    return conv_calls.convolve_backward(kernels(), "correlate2d_backward", False, grad_output, x, kernel, mode, out)
