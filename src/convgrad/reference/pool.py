"""Max and average pooling in two dimensions, and their gradients."""

from __future__ import annotations

from .. import pool_calls
from ..typing import Array, Float, Layout, Padding, Pair, PlaneIndices, Shape, WindowIndices
from . import pool_kernels as kernels


def max_pool2d(
    x: Array[Float],
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    layout: Layout = "NCHW",
    out: Array[Float] | tuple[Array[Float] | None, WindowIndices | None] | None = None,
) -> Array[Float] | tuple[Array[Float], WindowIndices]:
    """Twin of `convgrad.max_pool2d`."""
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.max_pool(kernels, "max_pool2d", x, kernel_size, options, return_indices, out)


def max_pool2d_backward(
    grad_output: Array[Float],
    indices: WindowIndices,
    input_shape: Shape,
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    layout: Layout = "NCHW",
    out: Array[Float] | None = None,
) -> Array[Float]:
    """Twin of `convgrad.max_pool2d_backward`."""
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.max_pool_backward(
        kernels, "max_pool2d_backward", grad_output, indices, input_shape, kernel_size, options, out
    )


def max_pool2d_plane_indices(
    indices: WindowIndices,
    input_shape: Shape,
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    layout: Layout = "NCHW",
    out: PlaneIndices | None = None,
) -> PlaneIndices:
    """Twin of `convgrad.max_pool2d_plane_indices`."""
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.max_pool_plane_indices(
        kernels, "max_pool2d_plane_indices", indices, input_shape, kernel_size, options, out
    )


def avg_pool2d(
    x: Array[Float],
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
    """Twin of `convgrad.avg_pool2d`."""
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.average_pool(kernels, "avg_pool2d", x, kernel_size, options, count_include_pad, out)


def avg_pool2d_backward(
    grad_output: Array[Float],
    input_shape: Shape,
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
    """Twin of `convgrad.avg_pool2d_backward`."""
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.average_pool_backward(
        kernels, "avg_pool2d_backward", grad_output, input_shape, kernel_size, options, count_include_pad, out
    )
