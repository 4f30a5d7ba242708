"""Calls of the kernels of locally connected layers: see `pool_calls`.

`kernels` is an object with

    forward(shape, x, weight, bias, activation_code, activation_parameter, out)     bias may be None
    grad_weight(shape, grad_output, x, out, bias_out)                               either output may be None
    grad_input(shape, grad_output, weight, out)

where `shape` is a `LocalShape` and every array is C-contiguous. The batch may be empty.
"""

from .activations import resolve
from .call_checks import check_grad_output, contiguous, deliver_all, outputs, wanted_shapes
from .checks import deliver, float_arrays, output
from .pool_shapes import local_shape

_GRADIENTS = ("grad_x", "grad_weight", "grad_bias")


def forward(kernels, function, x, weight, bias, stride, activation, layout, out):
    """Locally connected layer: weights of its own for every output pixel."""
    x, weight, bias = float_arrays(function, ("bias",), x=x, weight=weight, bias=bias)
    shape = local_shape(function, x.shape, weight.shape, stride, layout)
    if bias is not None and bias.shape != shape.weight_shape[:3]:
        raise ValueError(
            f"{function}: bias must have shape {shape.weight_shape[:3]} (OH, OW, K), the first axes of weight; got "
            f"shape {bias.shape}"
        )
    code, parameter = resolve(function, activation)
    target = output(function, out, shape.output_shape, x.dtype, x, weight, bias)
    kernels.forward(shape, contiguous(x), contiguous(weight), contiguous(bias), code, parameter, target)
    return deliver(target, out)


def backward(kernels, function, grad_output, x, weight, stride, layout, input_grad, weight_grad, bias, out):
    """The gradients of `forward` (no activation) that are wanted, None for the others."""
    arrays = float_arrays(function, grad_output=grad_output, x=x, weight=weight)
    shape = local_shape(function, arrays[1].shape, arrays[2].shape, stride, layout)
    check_grad_output(function, arrays[0], shape.output_shape, x=shape.input_shape, weight=shape.weight_shape)
    result_shapes = (shape.input_shape, shape.weight_shape, shape.weight_shape[:3])
    wanted = wanted_shapes(function, result_shapes, input_grad=input_grad, weight_grad=weight_grad, bias=bias)
    targets, outs = outputs(function, out, _GRADIENTS, wanted, arrays[0].dtype, *arrays)
    grad_output, x, weight = map(contiguous, arrays)
    if input_grad:
        kernels.grad_input(shape, grad_output, weight, targets[0])
    if weight_grad or bias:
        kernels.grad_weight(shape, grad_output, x, targets[1], targets[2])
    return deliver_all(targets, outs)
