"""Pooling over whole planes: one number for each sample and channel."""

from __future__ import annotations

from .. import pool_calls
from ..typing import Array, Float, Layout, PlaneIndices, Shape
from . import pool_kernels as kernels


def global_avg_pool2d(x: Array[Float], *, layout: Layout = "NCHW", out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.global_avg_pool2d`."""
    return pool_calls.global_average(kernels, "global_avg_pool2d", x, layout, out)


def global_avg_pool2d_backward(
    grad_output: Array[Float], input_shape: Shape, *, layout: Layout = "NCHW", out: Array[Float] | None = None
) -> Array[Float]:
    """Twin of `convgrad.global_avg_pool2d_backward`."""
    return pool_calls.global_average_backward(
        kernels, "global_avg_pool2d_backward", grad_output, input_shape, layout, out
    )


def global_max_pool2d(
    x: Array[Float],
    *,
    return_indices: bool = False,
    layout: Layout = "NCHW",
    out: Array[Float] | tuple[Array[Float] | None, PlaneIndices | None] | None = None,
) -> Array[Float] | tuple[Array[Float], PlaneIndices]:
    """Twin of `convgrad.global_max_pool2d`."""
    return pool_calls.global_max(kernels, "global_max_pool2d", x, return_indices, layout, out)


def global_max_pool2d_backward(
    grad_output: Array[Float],
    indices: PlaneIndices,
    input_shape: Shape,
    *,
    layout: Layout = "NCHW",
    out: Array[Float] | None = None,
) -> Array[Float]:
    """Twin of `convgrad.global_max_pool2d_backward`."""
    return pool_calls.global_max_backward(
        kernels, "global_max_pool2d_backward", grad_output, indices, input_shape, layout, out
    )
