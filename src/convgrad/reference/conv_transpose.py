"""Transposed convolution in two dimensions and its gradients."""

from .. import conv_calls
from . import conv_kernels as kernels


def conv_transpose2d(
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
    layout="NCHW",
    algorithm="auto",
    out=None,
):
    """Twin of `convgrad.conv_transpose2d`."""
    options = (stride, padding, output_padding, dilation, groups, layout, algorithm)
    return conv_calls.transpose_forward(kernels, "conv_transpose2d", 2, x, weight, bias, options, activation, out)


def conv_transpose2d_backward(
    grad_output,
    x,
    weight,
    *,
    stride=1,
    padding=0,
    output_padding=0,
    dilation=1,
    groups=1,
    layout="NCHW",
    algorithm="auto",
    input_grad=True,
    weight_grad=True,
    bias=True,
    out=None,
):
    """Twin of `convgrad.conv_transpose2d_backward`."""
    options = (stride, padding, output_padding, dilation, groups, layout, algorithm)
    return conv_calls.transpose_backward(
        kernels, "conv_transpose2d_backward", 2, grad_output, x, weight, options, input_grad, weight_grad, bias, out
    )
