"""Subsampling: average pooling with a learned scale and shift for each feature map."""

from .. import pool_calls
from . import pool_kernels as kernels


def subsample2d(
    x,
    weight,
    bias,
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
    """Twin of `convgrad.subsample2d`."""
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.subsample(kernels, "subsample2d", x, weight, bias, kernel_size, options, count_include_pad, out)


def subsample2d_backward(
    grad_output,
    x,
    weight,
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
    """Twin of `convgrad.subsample2d_backward`."""
    options = (stride, padding, dilation, ceil_mode, layout)
    return pool_calls.subsample_backward(
        kernels, "subsample2d_backward", grad_output, x, weight, kernel_size, options, count_include_pad, out
    )
