"""Convolution along one axis, its transpose and their gradients: the two-dimensional kernels with one row."""

from .. import conv_calls
from .conv import kernels


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
    """Convolution along one axis: `conv2d` with one row.

    Arrays have three axes, (N, C, W) with layout="NCW" and (N, W, C) with "NWC"; "NCHW" and "NHWC" are taken as other
    names of the two. `stride` and `dilation` are ints; `padding` is an int, (left, right), "valid", "same" or "full".
    weight is (K, C // groups, S), bias (K,); the result (N, K, OW) or (N, OW, K). Everything else is as for `conv2d`.
    """
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.forward(kernels(), "conv1d", 1, x, weight, bias, options, activation, out)


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
    """Gradient of `conv1d` with respect to x: `conv2d_grad_input` with one row.

    Arrays have three axes, (N, C, W) with layout="NCW" and (N, W, C) with "NWC"; "NCHW" and "NHWC" are taken as other
    names of the two. `stride` and `dilation` are ints; `padding` is an int, (left, right), "valid", "same" or "full".
    grad_output is (N, K, OW) or (N, OW, K), weight (K, C // groups, S), `input_shape` is x.shape.
    """
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.grad_input(kernels(), "conv1d_grad_input", 1, grad_output, weight, input_shape, options, out)


def conv1d_grad_weight(
    grad_output, x, kernel_size, *, stride=1, padding=0, dilation=1, groups=1, layout="NCW", algorithm="auto", out=None
):
    """Gradient of `conv1d` with respect to its weight: `conv2d_grad_weight` with one row.

    Arrays have three axes, (N, C, W) with layout="NCW" and (N, W, C) with "NWC"; "NCHW" and "NHWC" are taken as other
    names of the two. `stride` and `dilation` are ints; `padding` is an int, (left, right), "valid", "same" or "full".
    `kernel_size` is an int; the result is (K, C // groups, kernel_size).
    """
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.grad_weight(kernels(), "conv1d_grad_weight", 1, grad_output, x, kernel_size, options, out)


def conv1d_grad_bias(grad_output, *, layout="NCW", out=None):
    """Gradient of `conv1d` with respect to its bias: the sum of grad_output over samples and positions."""
    return conv_calls.grad_bias(kernels(), "conv1d_grad_bias", 1, grad_output, layout, out)


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
    """All gradients of `conv1d` (without activation) in one call: `conv2d_backward` with one row.

    Arrays have three axes, (N, C, W) with layout="NCW" and (N, W, C) with "NWC"; "NCHW" and "NHWC" are taken as other
    names of the two. `stride` and `dilation` are ints; `padding` is an int, (left, right), "valid", "same" or "full".
    Returns (grad_input, grad_weight, grad_bias), None where not wanted.
    """
    options = (stride, padding, dilation, groups, layout, algorithm)
    return conv_calls.backward(
        kernels(), "conv1d_backward", 1, grad_output, x, weight, options, input_grad, weight_grad, bias, out
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
    """Transposed convolution along one axis: `conv_transpose2d` with one row.

    Arrays have three axes, (N, C, W) with layout="NCW" and (N, W, C) with "NWC"; "NCHW" and "NHWC" are taken as other
    names of the two. `stride` and `dilation` are ints; `padding` is an int or (left, right).
    weight is (C, K // groups, S). Everything else is as for `conv_transpose2d`.
    """
    options = (stride, padding, output_padding, dilation, groups, layout, algorithm)
    return conv_calls.transpose_forward(kernels(), "conv_transpose1d", 1, x, weight, bias, options, activation, out)


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
    """All gradients of `conv_transpose1d` (without activation): `conv_transpose2d_backward` with one row.

    Arrays have three axes, (N, C, W) with layout="NCW" and (N, W, C) with "NWC"; "NCHW" and "NHWC" are taken as other
    names of the two. `stride` and `dilation` are ints; `padding` is an int or (left, right).
    Returns (grad_input, grad_weight, grad_bias), None where not wanted.
    """
    options = (stride, padding, output_padding, dilation, groups, layout, algorithm)
    return conv_calls.transpose_backward(
        kernels(), "conv_transpose1d_backward", 1, grad_output, x, weight, options, input_grad, weight_grad, bias, out
    )
