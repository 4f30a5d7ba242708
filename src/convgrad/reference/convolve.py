"""Convolution and correlation with one kernel, as signal processing defines them, and their gradients."""

from __future__ import annotations

from .. import conv_calls
from ..typing import Array, Float, Mode
from . import conv_kernels as kernels


def convolve2d(
    x: Array[Float], kernel: Array[Float], mode: Mode = "full", *, out: Array[Float] | None = None
) -> Array[Float]:
    """Twin of `convgrad.convolve2d`."""
    return conv_calls.convolve(kernels, "convolve2d", True, x, kernel, mode, out)


def convolve2d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    kernel: Array[Float],
    mode: Mode = "full",
    *,
    out: tuple[Array[Float] | None, Array[Float] | None] | None = None,
) -> tuple[Array[Float], Array[Float]]:
    """Twin of `convgrad.convolve2d_backward`."""
    return conv_calls.convolve_backward(kernels, "convolve2d_backward", True, grad_output, x, kernel, mode, out)


def correlate2d(
    x: Array[Float], kernel: Array[Float], mode: Mode = "full", *, out: Array[Float] | None = None
) -> Array[Float]:
    """Twin of `convgrad.correlate2d`."""
    return conv_calls.convolve(kernels, "correlate2d", False, x, kernel, mode, out)


def correlate2d_backward(
    grad_output: Array[Float],
    x: Array[Float],
    kernel: Array[Float],
    mode: Mode = "full",
    *,
    out: tuple[Array[Float] | None, Array[Float] | None] | None = None,
) -> tuple[Array[Float], Array[Float]]:
    """Twin of `convgrad.correlate2d_backward`."""
    return conv_calls.convolve_backward(kernels, "correlate2d_backward", False, grad_output, x, kernel, mode, out)
