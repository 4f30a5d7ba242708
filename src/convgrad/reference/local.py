"""Locally connected layers: convolutions whose every output pixel has weights of its own."""

from .. import local_calls
from . import local_kernels as kernels


def locally_connected2d(x, weight, bias=None, *, stride=1, activation=None, layout="NCHW", out=None):
    """Twin of `convgrad.locally_connected2d`."""
    return local_calls.forward(kernels, "locally_connected2d", x, weight, bias, stride, activation, layout, out)


def locally_connected2d_backward(
    grad_output, x, weight, *, stride=1, layout="NCHW", input_grad=True, weight_grad=True, bias=True, out=None
):
    """Twin of `convgrad.locally_connected2d_backward`."""
    return local_calls.backward(
        kernels,
        "locally_connected2d_backward",
        grad_output,
        x,
        weight,
        stride,
        layout,
        input_grad,
        weight_grad,
        bias,
        out,
    )
