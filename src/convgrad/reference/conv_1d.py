"""Convolution along one axis, its transpose and their gradients: the two-dimensional kernels with one row."""

from .. import conv_calls
from . import conv_kernels as kernels


def conv1d(
    x,
    weight,
    bias=None,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    activation=None,
    layout="NCW",
    algorithm="auto",
    out=None,
):
    """Twin of `convgrad.conv1d`."""
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.forward(kernels, "conv1d", 1, x, weight, bias, options, activation, out)


def conv1d_grad_input(
    grad_output,
    weight,
    input_shape,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCW",
    algorithm="auto",
    out=None,
):
    """Twin of `convgrad.conv1d_grad_input`."""
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.grad_input(kernels, "conv1d_grad_input", 1, grad_output, weight, input_shape, options, out)


def conv1d_grad_weight(
    grad_output, x, kernel_size, *, stride=1, padding=0, dilation=1, groups=1, layout="NCW", algorithm="auto", out=None
):
    """Twin of `convgrad.conv1d_grad_weight`."""
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.grad_weight(kernels, "conv1d_grad_weight", 1, grad_output, x, kernel_size, options, out)


def conv1d_grad_bias(grad_output, *, layout="NCW", out=None):
    """Twin of `convgrad.conv1d_grad_bias`."""
    return conv_calls.grad_bias(kernels, "conv1d_grad_bias", 1, grad_output, layout, out)


def conv1d_backward(
    grad_output,
    x,
    weight,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCW",
    algorithm="auto",
    input_grad=True,
    weight_grad=True,
    bias=True,
    out=None,
):
    """Twin of `convgrad.conv1d_backward`."""
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.backward(
        kernels, "conv1d_backward", 1, grad_output, x, weight, options, input_grad, weight_grad, bias, out
    )


def conv_transpose1d(
    x,
    weight,
    bias=None,
    *,
    stride=1,
    padding=0,
    output_padding=0,
    dilation=1,
    groups=1,
    activation=None,
    layout="NCW",
    algorithm="auto",
    out=None,
):
    """Twin of `convgrad.conv_transpose1d`."""
    options = (stride, padding, output_padding, dilation, groups, layout, algorithm)
    return conv_calls.transpose_forward(kernels, "conv_transpose1d", 1, x, weight, bias, options, activation, out)


def conv_transpose1d_backward(
    grad_output,
    x,
    weight,
    *,
    stride=1,
    padding=0,
    output_padding=0,
    dilation=1,
    groups=1,
    layout="NCW",
    algorithm="auto",
    input_grad=True,
    weight_grad=True,
    bias=True,
    out=None,
):
    """Twin of `convgrad.conv_transpose1d_backward`."""
    options = (stride, padding, output_padding, dilation, groups, layout, algorithm)
    return conv_calls.transpose_backward(
        kernels, "conv_transpose1d_backward", 1, grad_output, x, weight, options, input_grad, weight_grad, bias, out
    )
