"""Convolution in two dimensions and its gradients."""

from .. import conv_calls
from . import conv_kernels as kernels


def conv2d(
    x,
    weight,
    bias=None,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    activation=None,
    layout="NCHW",
    algorithm="auto",
    out=None,
):
    """Twin of `convgrad.conv2d`."""
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.forward(kernels, "conv2d", 2, x, weight, bias, options, activation, out)


def conv2d_grad_input(
    grad_output,
    weight,
    input_shape,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCHW",
    algorithm="auto",
    out=None,
):
    """Twin of `convgrad.conv2d_grad_input`."""
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.grad_input(kernels, "conv2d_grad_input", 2, grad_output, weight, input_shape, options, out)


def conv2d_grad_weight(
    grad_output, x, kernel_size, *, stride=1, padding=0, dilation=1, groups=1, layout="NCHW", algorithm="auto", out=None
):
    """Twin of `convgrad.conv2d_grad_weight`."""
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.grad_weight(kernels, "conv2d_grad_weight", 2, grad_output, x, kernel_size, options, out)


def conv2d_grad_bias(grad_output, *, layout="NCHW", out=None):
    """Twin of `convgrad.conv2d_grad_bias`."""
    return conv_calls.grad_bias(kernels, "conv2d_grad_bias", 2, grad_output, layout, out)


def conv2d_backward(
    grad_output,
    x,
    weight,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCHW",
    algorithm="auto",
    input_grad=True,
    weight_grad=True,
    bias=True,
    out=None,
):
    """Twin of `convgrad.conv2d_backward`."""
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.backward(
        kernels, "conv2d_backward", 2, grad_output, x, weight, options, input_grad, weight_grad, bias, out
    )
