"""Pooling over whole planes: one number for each sample and channel."""

from .. import pool_calls
from . import pool_kernels as kernels


def global_avg_pool2d(x, *, layout="NCHW", out=None):
    """Twin of `convgrad.global_avg_pool2d`."""
    return pool_calls.global_average(kernels, "global_avg_pool2d", x, layout, out)


def global_avg_pool2d_backward(grad_output, input_shape, *, layout="NCHW", out=None):
    """Twin of `convgrad.global_avg_pool2d_backward`."""
    return pool_calls.global_average_backward(
        kernels, "global_avg_pool2d_backward", grad_output, input_shape, layout, out
    )


def global_max_pool2d(x, *, return_indices=False, layout="NCHW", out=None):
    """Twin of `convgrad.global_max_pool2d`."""
    return pool_calls.global_max(kernels, "global_max_pool2d", x, return_indices, layout, out)


def global_max_pool2d_backward(grad_output, indices, input_shape, *, layout="NCHW", out=None):
    """Twin of `convgrad.global_max_pool2d_backward`."""
    return pool_calls.global_max_backward(
        kernels, "global_max_pool2d_backward", grad_output, indices, input_shape, layout, out
    )
