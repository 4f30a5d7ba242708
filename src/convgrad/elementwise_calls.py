"""Calls of the elementwise kernels: arguments checked, result allocated, kernel run, result delivered.

`functional` and `reference` offer the same functions and differ only in the `kernels` they hand in here: an object with

    activation(code, parameter, x, out)
    activation_backward(code, parameter, grad_output, x, out)
    activation_backward_bias(code, parameter, grad_output, x, sizes, out, bias)
    dropout(x, mask, scale, shift, fill, out)
    fresh_activation(code, parameter, x), fresh_activation_backward(code, parameter, grad_output, x)

where arrays are C-contiguous, of one shape, and `out` may be any of them; sizes is (outer, channels, inner). The last
two take anything: they return a new array, or None where the arguments need a conversion or are wrong.
"""

import math

import numpy as np

from ._native.memory import empty
from .activations import CODES, NAMES, finite_parameter, resolve
from .call_checks import check_same_shape, contiguous, deliver_all, flag, outputs, same_memory
from .checks import choice, deliver, float_array, float_arrays, generator, output, plain_view

# Constants of SELU, which alpha dropout shares: Klambauer et al. (2017), arXiv 1706.02515.
SELU_LAMBDA = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772

# Activations whose derivative is taken from the input; for all others it is taken from the output.
_FROM_INPUT = {CODES[name] for name in ("softplus", "silu", "gelu")}
_NOT_NEGATIVE = {"leaky_relu": "slope", "elu": "alpha"}
_BOOL = np.dtype(bool)


def value(kernels, function, code, parameter, x, out):
    """out = a(x)."""
    if out is None:
        result = kernels.fresh_activation(code, parameter, x)
        if result is not None:
            return result
    x = float_array(function, "x", x)
    if not x.flags.c_contiguous:
        x = x.copy()
    target = in_place_output(function, out, x)
    kernels.activation(code, parameter, x, target)
    return deliver(target, out)


def backward(kernels, function, code, parameter, grad_output, x, out):
    """out = grad_output * a'(.), x being the output or the input of the activation."""
    if out is None:
        result = kernels.fresh_activation_backward(code, parameter, grad_output, x)
        if result is not None:
            return result
    grad_output, x = _operands(function, code, grad_output, x)
    target = in_place_output(function, out, grad_output, x)
    kernels.activation_backward(code, parameter, grad_output, x, target)
    return deliver(target, out)


def backward_bias(kernels, function, name, grad_output, x, layout, out):
    """(grad_preactivation, grad_bias)."""
    code, parameter = resolve(function, name)
    if NAMES[code] in _NOT_NEGATIVE:
        parameter = not_negative(function, _NOT_NEGATIVE[NAMES[code]], parameter)
    grad_output, x = _operands(function, code, grad_output, x)
    sizes = channel_sizes(function, "grad_output", grad_output.shape, layout)
    (target, bias), outs = outputs(
        function,
        out,
        ("grad_preactivation", "grad_bias"),
        (x.shape, (sizes[1],)),
        x.dtype,
        in_place=(grad_output, x),
    )
    kernels.activation_backward_bias(code, parameter, grad_output, x, sizes, target, bias)
    return deliver_all((target, bias), outs)


def not_negative(function, name, parameter):
    """A parameter whose derivative pass reads the output, which tells the sign of the input only then."""
    if parameter < 0:
        raise ValueError(
            f"{function}: {name} must be at least 0, as the derivative is taken from the output; got {parameter}"
        )
    return parameter


def channel_sizes(function, name, shape, layout):
    """(outer, channels, inner) of an array with channels on axis 1 ("NCHW") or last ("NHWC")."""
    choice(function, "layout", layout, ("NCHW", "NHWC"))
    if not 2 <= len(shape) <= 4:
        raise ValueError(
            f"{function}: {name} must have 2, 3 or 4 axes, batch and channels among them; got shape {shape}"
        )
    if layout == "NCHW":
        return shape[0], shape[1], math.prod(shape[2:])
    return math.prod(shape[:-1]), shape[-1], 1


def in_place_output(function, out, *inputs):
    """An output of the inputs' shape and dtype that may be one of them, exactly in place."""
    first = inputs[0]
    if out is None:
        return empty(first.shape, first.dtype, function)
    others = [array for array in inputs if not same_memory(out, array)]
    return output(function, out, first.shape, first.dtype, *others)


def _operands(function, code, grad_output, x):
    """grad_output and x checked against each other, C-contiguous."""
    name = "input" if code in _FROM_INPUT else "output"
    grad_output = float_array(function, "grad_output", grad_output)
    x = float_array(function, name, x)
    # Small arrays are common here, and each of these calls would cost as much as the kernel.
    if grad_output.dtype != x.dtype:
        float_arrays(function, grad_output=grad_output, **{name: x})
    if grad_output.shape != x.shape:
        check_same_shape(function, grad_output=grad_output, **{name: x})
    return contiguous(grad_output), contiguous(x)


# ---------------------------------------------------------------- dropout


def dropout_constants(p, training):
    """(scale, shift, fill) of dropout."""
    return (1.0, 0.0, 0.0) if not training else (1 / (1 - p) if p < 1 else 0.0, 0.0, 0.0)


def alpha_dropout_constants(p, training):
    """(scale, shift, fill) of alpha dropout: a x + b where kept, a (-lambda alpha) + b where dropped."""
    if not training or p == 0:
        return 1.0, 0.0, 0.0
    if p == 1:
        return 0.0, 0.0, 0.0
    dropped = -SELU_LAMBDA * SELU_ALPHA
    keep = 1 - p
    a = (keep + dropped**2 * keep * p) ** -0.5
    b = -a * p * dropped
    return a, b, a * dropped + b


def drop(kernels, function, constants, x, p, training, rng, out):
    """(y, mask)."""
    x = float_array(function, "x", x)
    p = probability(function, p)
    training = flag(function, "training", training)
    rng = generator(function, "rng", rng) if training and p > 0 else None
    x = contiguous(x)
    (y, mask), outs = outputs(
        function, out, ("y", "mask"), (x.shape, x.shape), (x.dtype, _BOOL), in_place=(x,), primary=True
    )
    if rng is None:
        mask[...] = True
    else:
        np.greater_equal(rng.random(x.shape, np.float32), p, out=mask)
    kernels.dropout(x, mask.view(np.uint8), *constants(p, training), y)
    return deliver_all((y, mask), outs)


def drop_backward(kernels, function, constants, grad_output, mask, p, out):
    """Gradient by x where the mask is set, times the scale of the forward pass."""
    grad_output = float_array(function, "grad_output", grad_output)
    p = probability(function, p)
    is_array = isinstance(mask, np.ndarray) and not isinstance(mask, np.ma.MaskedArray)
    mask = plain_view(mask) if is_array else mask
    if not is_array or mask.dtype not in (np.bool_, np.uint8):
        got = mask.dtype if is_array else type(mask).__name__
        raise TypeError(
            f"{function}: mask must be an array of bool or uint8, as the forward pass returns it; got {got}"
        )
    check_same_shape(function, grad_output=grad_output, mask=mask)
    grad_output = contiguous(grad_output)
    mask = contiguous(mask).view(np.uint8)
    others = (mask,) if out is None or same_memory(out, grad_output) else (mask, grad_output)
    target = output(function, out, grad_output.shape, grad_output.dtype, *others)
    kernels.dropout(grad_output, mask, constants(p, True)[0], 0.0, 0.0, target)
    return deliver(target, out)


def probability(function, p):
    """The probability of dropping as a float in [0, 1]."""
    p = finite_parameter(function, "p", p)
    if not 0 <= p <= 1:
        raise ValueError(f"{function}: p must be a probability, at least 0 and at most 1; got {p}")
    return p
