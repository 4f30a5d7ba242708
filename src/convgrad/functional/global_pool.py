"""Pooling over whole planes: one number for each sample and channel."""

from __future__ import annotations

from typing import Literal, overload

from .. import pool_calls
from ..typing import Array, Float, Layout, PlaneIndices, Shape
from .pool import kernels


def global_avg_pool2d(x: Array[Float], *, layout: Layout = "NCHW", out: Array[Float] | None = None) -> Array[Float]:
    """Mean of every plane.

    y[n,c,0,0] = sum over h, w of x[n,c,h,w] / (H * W)

    Parameters
    ----------
    x : ndarray (N, C, H, W), or (N, H, W, C) with layout="NHWC"; float32 or float64, copied if not C-contiguous
    layout : "NCHW" or "NHWC"
    out : None or ndarray of the result's shape and dtype

    Returns
    -------
    y : ndarray (N, C, 1, 1) or (N, 1, 1, C), dtype of x

    Raises
    ------
    ValueError : a shape or option that does not fit
    TypeError : an array that is not float32 or float64

    Source: Lin, Chen, Yan (2014), arXiv 1312.4400, section 3.2.
    """
    return pool_calls.global_average(kernels(), "global_avg_pool2d", x, layout, out)


def global_avg_pool2d_backward(
    grad_output: Array[Float], input_shape: Shape, *, layout: Layout = "NCHW", out: Array[Float] | None = None
) -> Array[Float]:
    """Gradient of `global_avg_pool2d` with respect to x.

    grad_x[n,c,h,w] = grad_output[n,c,0,0] / (H * W)

    Parameters
    ----------
    grad_output : ndarray (N, C, 1, 1), or (N, 1, 1, C) with layout="NHWC"; float32 or float64
    input_shape : tuple of int, x.shape as laid out
    layout : "NCHW" or "NHWC"
    out : None or ndarray of the result's shape and dtype

    Returns
    -------
    grad_x : ndarray of shape input_shape, dtype of grad_output

    Raises
    ------
    ValueError : shapes that do not fit together
    TypeError : an array that is not float32 or float64
    """
    return pool_calls.global_average_backward(
        kernels(), "global_avg_pool2d_backward", grad_output, input_shape, layout, out
    )


@overload
def global_max_pool2d(
    x: Array[Float], *, return_indices: Literal[False] = ..., layout: Layout = ..., out: Array[Float] | None = ...
) -> Array[Float]: ...
@overload
def global_max_pool2d(
    x: Array[Float],
    *,
    return_indices: Literal[True],
    layout: Layout = ...,
    out: tuple[Array[Float] | None, PlaneIndices | None] | None = ...,
) -> tuple[Array[Float], PlaneIndices]: ...
@overload
def global_max_pool2d(
    x: Array[Float],
    *,
    return_indices: bool,
    layout: Layout = ...,
    out: Array[Float] | tuple[Array[Float] | None, PlaneIndices | None] | None = ...,
) -> Array[Float] | tuple[Array[Float], PlaneIndices]: ...
def global_max_pool2d(
    x: Array[Float],
    *,
    return_indices: bool = False,
    layout: Layout = "NCHW",
    out: Array[Float] | tuple[Array[Float] | None, PlaneIndices | None] | None = None,
) -> Array[Float] | tuple[Array[Float], PlaneIndices]:
    """Largest number of every plane, and where it is.

    y[n,c,0,0] = max over h, w of x[n,c,h,w]

    Parameters
    ----------
    x : ndarray (N, C, H, W), or (N, H, W, C) with layout="NHWC"; float32 or float64, copied if not C-contiguous
    return_indices : bool
    layout : "NCHW" or "NHWC"
    out : None or ndarray of the result's shape and dtype; with return_indices a tuple (y, indices)

    Returns
    -------
    y : ndarray (N, C, 1, 1) or (N, 1, 1, C), dtype of x
    indices : only with return_indices; int64 ndarray of y's shape, the position h * W + w of y in its plane: of the
        first NaN, else of the first among equals

    Raises
    ------
    ValueError : a shape or option that does not fit
    TypeError : an array that is not float32 or float64
    """
    return pool_calls.global_max(kernels(), "global_max_pool2d", x, return_indices, layout, out)


def global_max_pool2d_backward(
    grad_output: Array[Float],
    indices: PlaneIndices,
    input_shape: Shape,
    *,
    layout: Layout = "NCHW",
    out: Array[Float] | None = None,
) -> Array[Float]:
    """Gradient of `global_max_pool2d` with respect to x: the whole of it goes to the cell that the index names.

    grad_x[n,c,h,w] = grad_output[n,c,0,0] where indices[n,c,0,0] = h * W + w, else 0

    Parameters
    ----------
    grad_output : ndarray (N, C, 1, 1), or (N, 1, 1, C) with layout="NHWC"; float32 or float64
    indices : int64 ndarray of grad_output's shape, as `global_max_pool2d` returned them
    input_shape : tuple of int, x.shape as laid out
    layout : "NCHW" or "NHWC"
    out : None or ndarray of the result's shape and dtype; after a ValueError about indices its contents are undefined

    Returns
    -------
    grad_x : ndarray of shape input_shape, dtype of grad_output

    Raises
    ------
    ValueError : shapes that do not fit together; an index outside its plane
    TypeError : an array of the wrong dtype
    """
    return pool_calls.global_max_backward(
        kernels(), "global_max_pool2d_backward", grad_output, indices, input_shape, layout, out
    )
