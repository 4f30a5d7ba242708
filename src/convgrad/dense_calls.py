"""Calls of the dense kernels: arguments checked, result allocated, kernel run, result delivered.

`functional` and `reference` offer the same functions and differ only in the `kernels` they hand in here: an object with

    forward(x, weight, bias, activation_code, activation_parameter, out)
    backward(grad_output, x, weight, grad_x, grad_weight, grad_bias)

where x, grad_output and results are (rows, features), rows at least 1, and only results need to be C-contiguous; those
of `backward` are None where not wanted.
"""

import math

from ._native.memory import empty, plain
from .activations import resolve
from .call_checks import check_vectors, clear, deliver_all, outputs, wanted_shapes
from .checks import deliver, float_arrays, output

_GRADIENTS = ("grad_x", "grad_weight", "grad_bias")


def linear(kernels, function, x, weight, bias, activation, out):
    """activation(x weight^T + bias)."""
    if not plain(x, weight, bias, True):
        x, weight, bias = float_arrays(function, ("bias",), x=x, weight=weight, bias=bias)
    out_features = _features(function, x, weight)[1]
    if bias is not None and bias.shape != (out_features,):
        check_vectors(function, out_features, "output feature", bias=bias)
    code, parameter = (0, 0.0) if activation is None else resolve(function, activation)
    shape = (*x.shape[:-1], out_features)
    target = empty(shape, x.dtype, function) if out is None else output(function, out, shape, x.dtype, x, weight, bias)
    if target.size:
        kernels.forward(_rows(x), weight, bias, code, parameter, _rows(target))
    return target if out is None else deliver(target, out)


def linear_backward(kernels, function, grad_output, x, weight, input_grad, weight_grad, bias, out):
    """(grad_x, grad_weight, grad_bias), None where not asked for."""
    if not plain(grad_output, x, weight):
        grad_output, x, weight = float_arrays(function, grad_output=grad_output, x=x, weight=weight)
    out_features = _features(function, x, weight)[1]
    if grad_output.shape != (*x.shape[:-1], out_features):
        raise ValueError(
            f"{function}: grad_output has shape {grad_output.shape} but linear returns {(*x.shape[:-1], out_features)} "
            f"for x {x.shape}, weight {weight.shape}; pass a gradient of that shape"
        )
    if out is None and input_grad is True and weight_grad is True and bias is True and x.ndim == 2 and x.shape[0]:
        # the usual call, without the general way's cost
        dtype = x.dtype
        targets = empty(x.shape, dtype, function), empty(weight.shape, dtype, function), empty((out_features,), dtype)
        kernels.backward(grad_output, x, weight, *targets)
        return targets
    shapes = (x.shape, weight.shape, (out_features,))
    wanted = wanted_shapes(function, shapes, input_grad=input_grad, weight_grad=weight_grad, bias=bias)
    targets, outs = outputs(function, out, _GRADIENTS, wanted, x.dtype, grad_output, x, weight)
    if math.prod(x.shape[:-1]) == 0:
        clear(targets)
        return deliver_all(targets, outs)
    grad_x, grad_weight, grad_bias = targets
    rows = None if grad_x is None else _rows(grad_x)
    kernels.backward(_rows(grad_output), _rows(x), weight, rows, grad_weight, grad_bias)
    return deliver_all(targets, outs)


def _features(function, x, weight):
    """(in_features, out_features), once weight and x fit each other."""
    if weight.ndim != 2 or 0 in weight.shape:
        raise ValueError(
            f"{function}: weight must have shape (out_features, in_features), both at least 1; got {weight.shape}"
        )
    out_features, in_features = weight.shape
    if x.ndim < 1 or x.shape[-1] != in_features:
        raise ValueError(
            f"{function}: weight {weight.shape} expects {in_features} features in the last axis of x; got x {x.shape}"
        )
    return in_features, out_features


def _rows(array):
    """A view (rows, features) where strides allow one."""
    return array if array.ndim == 2 else array.reshape(-1, array.shape[-1])
