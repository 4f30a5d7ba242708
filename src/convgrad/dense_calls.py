"""Calls of the dense kernels: arguments checked, result allocated, kernel run, result delivered.

`functional` and `reference` offer the same functions and differ only in the `kernels` they hand in here: an object with

    forward(x, weight, bias, activation_code, activation_parameter, out)
    grad_input(grad_output, weight, out)
    grad_weight(grad_output, x, out)
    grad_bias(grad_output, out)

where x, grad_output and out are (rows, features), rows at least 1, and only `out` needs to be C-contiguous.
"""

import math

import numpy as np

from .activations import resolve
from .checks import deliver, deliver_all, float_array, float_arrays, output, outputs

_GRADIENTS = ("grad_x", "grad_weight", "grad_bias")


def linear(kernels, function, x, weight, bias, activation, out):
    """activation(x weight^T + bias)."""
    float_array(function, "x", x), float_array(function, "weight", weight)
    x, weight, bias = float_arrays(function, x=x, weight=weight, bias=bias)
    _check_weight(function, weight)
    out_features, in_features = weight.shape
    if x.ndim < 1 or x.shape[-1] != in_features:
        raise ValueError(
            f"{function}: weight {weight.shape} expects {in_features} features in the last axis of x; got x {x.shape}"
        )
    if bias is not None and bias.shape != (out_features,):
        raise ValueError(
            f"{function}: bias must have shape ({out_features},), one entry per output feature; got shape {bias.shape}"
        )
    code, parameter = resolve(function, activation)
    target = output(function, out, (*x.shape[:-1], out_features), x.dtype, x, weight, bias)
    if target.size:
        kernels.forward(_rows(x), weight, bias, code, parameter, target.reshape(-1, out_features))
    return deliver(target, out)


def linear_backward(kernels, function, grad_output, x, weight, input_grad, weight_grad, bias, out):
    """(grad_x, grad_weight, grad_bias), None where not asked for."""
    for name, array in (("grad_output", grad_output), ("x", x), ("weight", weight)):
        float_array(function, name, array)
    grad_output, x, weight = float_arrays(function, grad_output=grad_output, x=x, weight=weight)
    for name, flag in (("input_grad", input_grad), ("weight_grad", weight_grad), ("bias", bias)):
        if not isinstance(flag, (bool, np.bool_)):
            raise TypeError(f"{function}: {name} must be True or False, got {type(flag).__name__}")
    _check_weight(function, weight)
    out_features, in_features = weight.shape
    if x.ndim < 1 or x.shape[-1] != in_features:
        raise ValueError(
            f"{function}: weight {weight.shape} expects {in_features} features in the last axis of x; got x {x.shape}"
        )
    if grad_output.shape != (*x.shape[:-1], out_features):
        raise ValueError(
            f"{function}: grad_output has shape {grad_output.shape} but linear returns {(*x.shape[:-1], out_features)} "
            f"for x {x.shape}, weight {weight.shape}; pass a gradient of that shape"
        )
    shapes = (
        x.shape if input_grad else None,
        weight.shape if weight_grad else None,
        (out_features,) if bias else None,
    )
    targets, outs = outputs(function, out, _GRADIENTS, shapes, x.dtype, grad_output, x, weight)
    if math.prod(x.shape[:-1]) == 0:
        for target in targets:
            if target is not None:
                target[...] = 0
        return deliver_all(targets, outs)
    grad_x, grad_weight, grad_bias = targets
    g = _rows(grad_output)
    if input_grad:
        kernels.grad_input(g, weight, grad_x.reshape(-1, in_features))
    if weight_grad:
        kernels.grad_weight(g, _rows(x), grad_weight)
    if bias:
        kernels.grad_bias(g, grad_bias)
    return deliver_all(targets, outs)


def _check_weight(function, weight):
    if weight.ndim != 2 or 0 in weight.shape:
        raise ValueError(
            f"{function}: weight must have shape (out_features, in_features), both at least 1; got {weight.shape}"
        )


def _rows(array):
    """A view (rows, features) where strides allow one."""
    return array if array.ndim == 2 else array.reshape(-1, array.shape[-1])
