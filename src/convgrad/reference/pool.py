"""Max and average pooling in two dimensions, and their gradients."""

from .. import pool_calls
from . import pool_kernels as kernels


def max_pool2d(
    x,
    kernel_size,
    *,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    return_indices=False,
    layout="NCHW",
    out=None,
):
    """Twin of `convgrad.max_pool2d`."""
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.max_pool(kernels, "max_pool2d", x, kernel_size, options, return_indices, out)


def max_pool2d_backward(
    grad_output,
    indices,
    input_shape,
    kernel_size,
    *,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    layout="NCHW",
    out=None,
):
    """Twin of `convgrad.max_pool2d_backward`."""
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.max_pool_backward(
        kernels, "max_pool2d_backward", grad_output, indices, input_shape, kernel_size, options, out
    )


def max_pool2d_plane_indices(
    indices,
    input_shape,
    kernel_size,
    *,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    layout="NCHW",
    out=None,
):
    """Twin of `convgrad.max_pool2d_plane_indices`."""
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.max_pool_plane_indices(
        kernels, "max_pool2d_plane_indices", indices, input_shape, kernel_size, options, out
    )


def avg_pool2d(
    x,
    kernel_size,
    *,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    count_include_pad=True,
    layout="NCHW",
    out=None,
):
    """Twin of `convgrad.avg_pool2d`."""
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.average_pool(kernels, "avg_pool2d", x, kernel_size, options, count_include_pad, out)


def avg_pool2d_backward(
    grad_output,
    input_shape,
    kernel_size,
    *,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    count_include_pad=True,
    layout="NCHW",
    out=None,
):
    """Twin of `convgrad.avg_pool2d_backward`."""
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.average_pool_backward(
        kernels, "avg_pool2d_backward", grad_output, input_shape, kernel_size, options, count_include_pad, out
    )
