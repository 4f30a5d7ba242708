"""Subsampling: average pooling with a learned scale and shift for each feature map."""

from __future__ import annotations

from .. import pool_calls
from ..typing import Array, Float, Layout, Padding, Pair, PartialTriple, Triple
from . import pool_kernels as kernels


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
    """Twin of `convgrad.subsample2d`."""
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.subsample(kernels, "subsample2d", x, weight, bias, kernel_size, options, count_include_pad, out)


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
    """Twin of `convgrad.subsample2d_backward`."""
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.subsample_backward(
        kernels, "subsample2d_backward", grad_output, x, weight, kernel_size, options, count_include_pad, out
    )
