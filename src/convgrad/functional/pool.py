"""Max and average pooling in two dimensions, and their gradients."""

from __future__ import annotations

from typing import Literal, Unpack, overload

from .. import pool_calls
from .._native import pool as native_kernels
from ..backends import is_native
from ..reference import pool_kernels
from ..typing import Array, Float, Layout, Padding, Pair, PlaneIndices, PoolOptions, Shape, WindowIndices


def kernels():
    """The pooling kernels of the backend in force."""
    return native_kernels if is_native() else pool_kernels


@overload
def max_pool2d(
    x: Array[Float],
    kernel_size: Pair,
    *,
    return_indices: Literal[False] = ...,
    out: Array[Float] | None = ...,
    **options: Unpack[PoolOptions],
) -> Array[Float]: ...
@overload
def max_pool2d(
    x: Array[Float],
    kernel_size: Pair,
    *,
    return_indices: Literal[True],
    out: tuple[Array[Float] | None, WindowIndices | None] | None = ...,
    **options: Unpack[PoolOptions],
) -> tuple[Array[Float], WindowIndices]: ...
@overload
def max_pool2d(
    x: Array[Float],
    kernel_size: Pair,
    *,
    return_indices: bool,
    out: Array[Float] | tuple[Array[Float] | None, WindowIndices | None] | None = ...,
    **options: Unpack[PoolOptions],
) -> Array[Float] | tuple[Array[Float], WindowIndices]: ...
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
    """Largest number of every window, and where it is.

    y[n,c,i,j] = max over r, s of x[n, c, i*stride - top + r*dilation, j*stride - left + s*dilation]

    Parameters
    ----------
    x : ndarray (N, C, H, W), or (N, H, W, C) with layout="NHWC"; float32 or float64, copied if not C-contiguous
    kernel_size : int or (int, int), R and S
    stride : None (kernel_size), int or (int, int)
    padding : int, (rows, columns), ((top, bottom), (left, right)), "valid", "same" or "full"; smaller than the window's
        span on every side, and never selected
    dilation : int or (int, int)
    ceil_mode : bool, round the output size up: the last windows may hang over the image and its padding, but one that
        would begin beyond the image and the padding before it is dropped
    return_indices : bool
    layout : "NCHW" or "NHWC"
    out : None or ndarray of the result's shape and dtype; with return_indices a tuple (y, indices)

    Returns
    -------
    y : ndarray (N, C, OH, OW) or (N, OH, OW, C), dtype of x; -inf where a dilated window holds nothing but padding
    indices : only with return_indices; ndarray of y's shape, the position r * S + s of y inside its window: of the
        first NaN, else of the first among equals. uint8 where the window has at most 256 cells, else int32

    Raises
    ------
    ValueError : a shape or option that does not fit
    TypeError : an array that is not float32 or float64

    Source: notes, the section on pooling; Scherer, Müller, Behnke (2010).
    """
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.max_pool(kernels(), "max_pool2d", x, kernel_size, options, return_indices, out)


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
    """Gradient of `max_pool2d` with respect to x: each number goes to the cell that its index names.

    grad_x[n,c,h,w] = sum of grad_output[n,c,i,j] over the windows whose indices[n,c,i,j] is the position of (h, w)

    Parameters
    ----------
    grad_output : ndarray (N, C, OH, OW), or (N, OH, OW, C) with layout="NHWC"; float32 or float64
    indices : ndarray of grad_output's shape, uint8 or int32, as `max_pool2d` returned them
    input_shape : tuple of int, x.shape as laid out
    kernel_size, stride, padding, dilation, ceil_mode, layout : as for `max_pool2d`
    out : None or ndarray of the result's shape and dtype; after a ValueError about indices its contents are undefined

    Returns
    -------
    grad_x : ndarray of shape input_shape, dtype of grad_output

    Raises
    ------
    ValueError : shapes or options that do not fit together; an index outside its window or naming padding
    TypeError : an array of the wrong dtype

    Source: notes, the section on pooling (the gradient reaches only the selected cell).
    """
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.max_pool_backward(
        kernels(), "max_pool2d_backward", grad_output, indices, input_shape, kernel_size, options, out
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
    """The indices of `max_pool2d` as positions in the image, as PyTorch counts them.

    plane_indices = h * W + w with h = i*stride - top + r*dilation, w = j*stride - left + s*dilation

    Parameters
    ----------
    indices : ndarray uint8 or int32, as `max_pool2d` returned them
    input_shape : tuple of int, x.shape as laid out
    kernel_size, stride, padding, dilation, ceil_mode, layout : as for `max_pool2d`
    out : None or int64 ndarray of indices' shape; after a ValueError about indices its contents are undefined

    Returns
    -------
    plane_indices : int64 ndarray of indices' shape; -1 for a window that holds nothing but padding

    Raises
    ------
    ValueError : shapes or options that do not fit together; an index outside its window or naming padding
    TypeError : indices of the wrong dtype
    """
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.max_pool_plane_indices(
        kernels(), "max_pool2d_plane_indices", indices, input_shape, kernel_size, options, out
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
    """Mean of every window.

    y[n,c,i,j] = sum over r, s of xpad[n, c, i*stride + r*dilation, j*stride + s*dilation] / count[i,j]
    (xpad is x with its border of zeros)

    Parameters
    ----------
    x : ndarray (N, C, H, W), or (N, H, W, C) with layout="NHWC"; float32 or float64, copied if not C-contiguous
    kernel_size, stride, padding, dilation, ceil_mode, layout : as for `max_pool2d`
    count_include_pad : bool, whether count has the cells in the padding too; what hangs over it in ceil_mode never
        counts
    out : None or ndarray of the result's shape and dtype

    Returns
    -------
    y : ndarray (N, C, OH, OW) or (N, OH, OW, C), dtype of x; 0 where no cell counts

    Raises
    ------
    ValueError : a shape or option that does not fit
    TypeError : an array that is not float32 or float64

    Source: notes, the section on pooling.
    """
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.average_pool(kernels(), "avg_pool2d", x, kernel_size, options, count_include_pad, out)


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
    """Gradient of `avg_pool2d` with respect to x: each window shares its number out evenly.

    grad_x[n,c,h,w] = sum of grad_output[n,c,i,j] / count[i,j] over the windows that see (h, w)

    Parameters
    ----------
    grad_output : ndarray (N, C, OH, OW), or (N, OH, OW, C) with layout="NHWC"; float32 or float64
    input_shape : tuple of int, x.shape as laid out
    kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, layout : as for `avg_pool2d`
    out : None or ndarray of the result's shape and dtype

    Returns
    -------
    grad_x : ndarray of shape input_shape, dtype of grad_output

    Raises
    ------
    ValueError : shapes or options that do not fit together
    TypeError : an array that is not float32 or float64

    Source: notes, the section on pooling.
    """
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.average_pool_backward(
        kernels(), "avg_pool2d_backward", grad_output, input_shape, kernel_size, options, count_include_pad, out
    )
