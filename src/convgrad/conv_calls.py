"""Calls of the convolution kernels: arguments checked, result allocated, kernel run, result delivered.

`functional` and `reference` offer the same functions and differ only in the `kernels` they hand in here: an object with

    forward(shape, x, weight, bias, activation_code, activation_parameter, out)
    grad_input(shape, grad_output, weight, bias, activation_code, activation_parameter, out)
    grad_weight(shape, grad_output, x, out)
    grad_bias(grad_output, layout, out)

where `shape` is a `ConvShape`, every array has four axes (bias one) and any strides, and `out` is C-contiguous, apart
from all inputs and to be filled completely. The results of an empty batch arrive already zeroed.

`dims` is the number of spatial axes: 2, or 1 for the functions whose arrays have three axes. Those become four-axis
views with one row; nothing is copied. `options` are those of the builder in `shapes`, in its order: stride, padding,
(output_padding for transposed convolutions,) dilation, groups, layout, algorithm.
"""

import contextlib

import numpy as np

from ._native.memory import empty, plain, recall
from .activations import resolve
from .call_checks import check_grad_output, check_vectors, clear, deliver_all, outputs, sizes, wanted_shapes
from .checks import choice, deliver, float_array, float_arrays, output
from .shapes import ConvShape, conv_shape, conv_shape_for_kernel, conv_transpose_shape, convolve_shape, grad_layout

_BIAS = ("bias",)
_GRADIENTS = ("grad_input", "grad_weight", "grad_bias")
_MODES = ("full", "same", "valid")
_MOST_KNOWN = 4096

# By number of spatial axes, {(shape of x, shape of weight, options): ConvShape} of the calls that passed every check.
_known: dict[int, dict[tuple[object, ...], ConvShape]] = {1: {}, 2: {}}


def forward(kernels, function, dims, x, weight, bias, options, activation, out):
    """Convolution of x by weight, plus bias, through the activation."""
    if not plain(x, weight, bias, True):
        x, weight, bias = float_arrays(function, _BIAS, x=x, weight=weight, bias=bias)
    shape = _shape(function, dims, x, weight, options)
    if bias is not None and bias.shape != (shape.out_channels,):
        check_vectors(function, shape.out_channels, "output channel", bias=bias)
    code, parameter = (0, 0.0) if activation is None else resolve(function, activation)
    if out is None:
        target = view = empty(shape.output_shape, x.dtype, function)
    else:
        target = view = output(function, out, shape.output_shape, x.dtype, x, weight, bias)
    if dims == 1:
        x, weight, view = _planes(shape, x), weight[:, :, None], _planes(shape, target)
    kernels.forward(shape, x, weight, bias, code, parameter, view)
    return target if out is None else deliver(target, out)


def grad_input(kernels, function, dims, grad_output, weight, input_shape, options, out):
    """Gradient of `forward` by x."""
    grad_output, weight = float_arrays(function, grad_output=grad_output, weight=weight)
    input_shape = sizes(function, "input_shape", input_shape)
    shape = conv_shape(function, "input_shape", dims, input_shape, weight.shape, *options)
    check_grad_output(function, grad_output, shape.output_shape, input_shape=input_shape, weight=weight.shape)
    target = view = output(function, out, shape.input_shape, weight.dtype, grad_output, weight)
    if dims == 1:
        grad_output, weight, view = _planes(shape, grad_output), weight[:, :, None], _planes(shape, target)
    kernels.grad_input(shape, grad_output, weight, None, 0, 0.0, view)
    return deliver(target, out)


def grad_weight(kernels, function, dims, grad_output, x, kernel_size, options, out):
    """Gradient of `forward` by weight."""
    grad_output, x = float_arrays(function, grad_output=grad_output, x=x)
    shape = conv_shape_for_kernel(function, dims, x.shape, grad_output.shape, kernel_size, *options)
    check_grad_output(function, grad_output, shape.output_shape, x=x.shape, kernel_size=shape.weight_shape[2:])
    target = view = output(function, out, shape.weight_shape, x.dtype, grad_output, x)
    if not shape.batch:
        target.fill(0)
    if dims == 1:
        grad_output, x, view = _planes(shape, grad_output), _planes(shape, x), target[:, :, None]
    kernels.grad_weight(shape, grad_output, x, view)
    return deliver(target, out)


def grad_bias(kernels, function, dims, grad_output, layout, out):
    """Gradient of `forward` by bias: the sum of grad_output over all but its channels."""
    grad_output = float_array(function, "grad_output", grad_output)
    layout = grad_layout(function, dims, layout, grad_output.shape)
    if dims == 1:
        grad_output = grad_output[:, :, None] if layout == "NCHW" else grad_output[:, None]
    channels = grad_output.shape[1 if layout == "NCHW" else 3]
    target = output(function, out, (channels,), grad_output.dtype, grad_output)
    if not len(grad_output):
        target.fill(0)
    kernels.grad_bias(grad_output, layout, target)
    return deliver(target, out)


def backward(kernels, function, dims, grad_output, x, weight, options, input_grad, weight_grad, bias, out):
    """The gradients of `forward` that are wanted, as (grad_input, grad_weight, grad_bias) with None for the others."""
    if not plain(grad_output, x, weight):
        grad_output, x, weight = float_arrays(function, grad_output=grad_output, x=x, weight=weight)
    shape = _shape(function, dims, x, weight, options)
    if grad_output.shape != shape.output_shape:
        check_grad_output(function, grad_output, shape.output_shape, x=x.shape, weight=weight.shape)
    wanted = wanted_shapes(
        function,
        (shape.input_shape, shape.weight_shape, (shape.out_channels,)),
        input_grad=input_grad,
        weight_grad=weight_grad,
        bias=bias,
    )
    targets, outs = outputs(function, out, _GRADIENTS, wanted, x.dtype, grad_output, x, weight)
    if dims == 1:
        grad_output, x, weight = _planes(shape, grad_output), _planes(shape, x), weight[:, :, None]
    input_view, weight_view, bias_target = _views(shape, dims, targets)
    if input_view is not None:
        kernels.grad_input(shape, grad_output, weight, None, 0, 0.0, input_view)
    if weight_view is not None:
        kernels.grad_weight(shape, grad_output, x, weight_view)
    if bias_target is not None:
        kernels.grad_bias(grad_output, shape.layout, bias_target)
    return deliver_all(targets, outs)


def transpose_forward(kernels, function, dims, x, weight, bias, options, activation, out):
    """Transposed convolution: the grad_input of a convolution, plus bias, through the activation."""
    x, weight, bias = float_arrays(function, _BIAS, x=x, weight=weight, bias=bias)
    shape = conv_transpose_shape(function, dims, x.shape, weight.shape, *options)
    if bias is not None:
        check_vectors(function, shape.in_channels, "output channel", bias=bias)
    code, parameter = resolve(function, activation)
    target = view = output(function, out, shape.input_shape, x.dtype, x, weight, bias)
    if dims == 1:
        x, weight, view = _planes(shape, x), weight[:, :, None], _planes(shape, target)
    kernels.grad_input(shape, x, weight, bias, code, parameter, view)
    return deliver(target, out)


def transpose_backward(kernels, function, dims, grad_output, x, weight, options, input_grad, weight_grad, bias, out):
    """The gradients of `transpose_forward` (no activation) that are wanted, None for the others."""
    grad_output, x, weight = float_arrays(function, grad_output=grad_output, x=x, weight=weight)
    shape = conv_transpose_shape(function, dims, x.shape, weight.shape, *options)
    check_grad_output(function, grad_output, shape.input_shape, x=x.shape, weight=weight.shape)
    wanted = wanted_shapes(
        function,
        (shape.output_shape, shape.weight_shape, (shape.in_channels,)),
        input_grad=input_grad,
        weight_grad=weight_grad,
        bias=bias,
    )
    targets, outs = outputs(function, out, _GRADIENTS, wanted, x.dtype, grad_output, x, weight)
    if dims == 1:
        grad_output, x, weight = _planes(shape, grad_output), _planes(shape, x), weight[:, :, None]
    input_view, weight_view, bias_target = _views(shape, dims, targets)
    if input_view is not None:
        kernels.forward(shape, grad_output, weight, None, 0, 0.0, input_view)
    if weight_view is not None:
        # x takes the place of the convolution's grad_output, and grad_output that of its x.
        kernels.grad_weight(shape, x, grad_output, weight_view)
    if bias_target is not None:
        kernels.grad_bias(grad_output, shape.layout, bias_target)
    return deliver_all(targets, outs)


def convolve(kernels, function, flipped, x, kernel, mode, out):
    """Convolution (`flipped`) or correlation of the last two axes of x with one kernel."""
    x, kernel = float_arrays(function, x=x, kernel=kernel)
    shape = convolve_shape(function, x.shape, kernel.shape, choice(function, "mode", mode, _MODES), flipped)
    target = output(function, out, (*x.shape[:-2], shape.out_height, shape.out_width), x.dtype, x, kernel)
    weight = _kernel_as_weight(kernel, flipped)
    kernels.forward(shape, x.reshape(shape.input_shape), weight, None, 0, 0.0, target.reshape(shape.output_shape))
    return deliver(target, out)


def convolve_backward(kernels, function, flipped, grad_output, x, kernel, mode, out):
    """Gradients of `convolve`: (grad_x, grad_kernel)."""
    grad_output, x, kernel = float_arrays(function, grad_output=grad_output, x=x, kernel=kernel)
    shape = convolve_shape(function, x.shape, kernel.shape, choice(function, "mode", mode, _MODES), flipped)
    expected = (*x.shape[:-2], shape.out_height, shape.out_width)
    check_grad_output(function, grad_output, expected, x=x.shape, kernel=kernel.shape)
    names = ("grad_x", "grad_kernel")
    targets, outs = outputs(function, out, names, (x.shape, kernel.shape), x.dtype, grad_output, x, kernel)
    grad_output = grad_output.reshape(shape.output_shape)
    weight = _kernel_as_weight(kernel, flipped)
    kernels.grad_input(shape, grad_output, weight, None, 0, 0.0, targets[0].reshape(shape.input_shape))
    if flipped:
        # The kernels write C order only: the gradient of the flipped kernel goes through an array of its own.
        weight_target = np.zeros(shape.weight_shape, x.dtype)
    else:
        weight_target = targets[1].reshape(shape.weight_shape)
        weight_target.fill(0)
    kernels.grad_weight(shape, grad_output, x.reshape(shape.input_shape), weight_target)
    if flipped:
        targets[1][...] = weight_target[0, 0, ::-1, ::-1]
    return deliver_all(targets, outs)


def _shape(function, dims, x, weight, options):
    """The `ConvShape` of x, weight and options, worked out and checked once for each."""
    known = _known[dims]
    shape = recall(known, x, weight, options)
    if shape is None:
        shape = conv_shape(function, "x", dims, x.shape, weight.shape, *options)
        if len(known) >= _MOST_KNOWN:
            known.clear()
        with contextlib.suppress(TypeError):  # lists cannot be looked up
            known[x.shape, weight.shape, options] = shape
    return shape


def _planes(shape, array):
    """A three-axis array as four axes, the rows being one."""
    return array[:, :, None] if shape.layout == "NCHW" else array[:, None]


def _views(shape, dims, targets):
    """The three targets of a backward call as kernels take them; those of an empty batch are zeroed."""
    if not shape.batch:
        clear(targets)
    if dims == 2:
        return targets
    input_target, weight_target, bias_target = targets
    if input_target is not None:
        input_target = _planes(shape, input_target)
    if weight_target is not None:
        weight_target = weight_target[:, :, None]
    return input_target, weight_target, bias_target


def _kernel_as_weight(kernel, flipped):
    return kernel[None, None, ::-1, ::-1] if flipped else kernel[None, None]
