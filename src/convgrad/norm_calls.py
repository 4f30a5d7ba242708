"""Calls of the normalisation kernels: arguments checked, results allocated, kernel run, results delivered.

`functional` and `reference` offer the same functions and differ only in the `kernels` they hand in here: an object with

    batch_norm(x, weight, bias, running_mean, running_var, sizes, training, momentum, eps,
               y, mean, inv_std, new_running_mean, new_running_var)
    batch_norm_backward(grad_output, x, weight, mean, inv_std, sizes, training, grad_x, grad_weight, grad_bias)
    layer_norm(x, weight, bias, sizes, eps, y, mean, inv_std)
    layer_norm_backward(grad_output, x, weight, mean, inv_std, sizes, grad_x, grad_weight, grad_bias)

where arrays are C-contiguous, y and grad_x may be the input or grad_output, and sizes is (outer, channels, inner) or
(rows, columns), none of them 0.
"""

import math

import numpy as np

from .activations import finite_parameter
from .call_checks import check_same_shape, check_vectors, clear, contiguous, deliver_all, flag, outputs
from .checks import float_arrays
from .elementwise_calls import channel_sizes

_BATCH_RESULTS = ("y", "saved_mean", "saved_inv_std", "new_running_mean", "new_running_var")
_LAYER_RESULTS = ("y", "saved_mean", "saved_inv_std")
_GRADIENTS = ("grad_x", "grad_weight", "grad_bias")


def batch_norm(kernels, function, x, weight, bias, running_mean, running_var, training, momentum, eps, layout, out):
    """(y, saved_mean, saved_inv_std, new_running_mean, new_running_var)."""
    given = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    x, weight, bias, running_mean, running_var = map(contiguous, float_arrays(function, tuple(given), x=x, **given))
    training = flag(function, "training", training)
    momentum = fraction(function, momentum)
    eps = epsilon(function, eps)
    sizes = outer, channels, inner = channel_sizes(function, "x", x.shape, layout)
    by_channel = (channels,)
    vectors = zip(given, (weight, bias, running_mean, running_var), strict=True)
    check_vectors(function, channels, "channel", **dict(vectors))
    if (running_mean is None) != (running_var is None):
        missing, given = ("running_mean", "running_var") if running_mean is None else ("running_var", "running_mean")
        raise ValueError(f"{function}: {given} is given but {missing} is None; pass both or neither")
    if not training and running_mean is None:
        raise ValueError(
            f"{function}: training=False needs running_mean and running_var; pass both, or training=True to use the "
            "statistics of x"
        )
    if training and outer * inner < 2:
        raise ValueError(
            f"{function}: training needs more than one value per channel, got {outer * inner} in x {x.shape}; pass a "
            "larger batch or training=False"
        )
    running = None if running_mean is None else by_channel
    targets, outs = outputs(
        function,
        out,
        _BATCH_RESULTS,
        (x.shape, by_channel, by_channel, running, running),
        x.dtype,
        weight,
        bias,
        running_mean,
        running_var,
        in_place=(x,),
        primary=True,
    )
    if channels and outer * inner:
        kernels.batch_norm(x, weight, bias, running_mean, running_var, sizes, training, momentum, eps, *targets)
    elif channels:  # an empty batch, and the running statistics
        targets[1][...], targets[2][...] = running_mean, 1 / np.sqrt(running_var + x.dtype.type(eps))
        targets[3][...], targets[4][...] = running_mean, running_var
    return deliver_all(targets, outs)


def batch_norm_backward(kernels, function, grad_output, x, weight, saved_mean, saved_inv_std, training, layout, out):
    """(grad_x, grad_weight, grad_bias)."""
    grad_output, x, weight, saved_mean, saved_inv_std = _operands(
        function, grad_output, x, weight, saved_mean, saved_inv_std
    )
    training = flag(function, "training", training)
    sizes = outer, channels, inner = channel_sizes(function, "x", x.shape, layout)
    by_channel = (channels,)
    check_vectors(function, channels, "channel", weight=weight, saved_mean=saved_mean, saved_inv_std=saved_inv_std)
    targets, outs = outputs(
        function,
        out,
        _GRADIENTS,
        (x.shape, by_channel, by_channel),
        x.dtype,
        weight,
        saved_mean,
        saved_inv_std,
        in_place=(grad_output, x),
    )
    if outer * channels * inner:
        kernels.batch_norm_backward(grad_output, x, weight, saved_mean, saved_inv_std, sizes, training, *targets)
    else:
        clear(targets)
    return deliver_all(targets, outs)


def layer_norm(kernels, function, x, weight, bias, eps, out):
    """(y, saved_mean, saved_inv_std)."""
    x, weight, bias = map(contiguous, float_arrays(function, ("weight", "bias"), x=x, weight=weight, bias=bias))
    eps = epsilon(function, eps)
    if weight is not None and bias is not None and weight.shape != bias.shape:
        raise ValueError(
            f"{function}: weight has shape {weight.shape} and bias has {bias.shape}; pass both of one shape, the last "
            f"axes of x {x.shape}"
        )
    given = weight if weight is not None else bias
    rows_shape, sizes = _row_sizes(function, x.shape, None if given is None else given.shape)
    targets, outs = outputs(
        function,
        out,
        _LAYER_RESULTS,
        (x.shape, rows_shape, rows_shape),
        x.dtype,
        weight,
        bias,
        in_place=(x,),
        primary=True,
    )
    if sizes[0]:
        kernels.layer_norm(x, weight, bias, sizes, eps, *targets)
    return deliver_all(targets, outs)


def layer_norm_backward(kernels, function, grad_output, x, weight, saved_mean, saved_inv_std, out):
    """(grad_x, grad_weight, grad_bias)."""
    grad_output, x, weight, saved_mean, saved_inv_std = _operands(
        function, grad_output, x, weight, saved_mean, saved_inv_std
    )
    if weight is None and saved_mean.ndim < x.ndim:
        normalized = x.shape[saved_mean.ndim :]
    else:
        normalized = None if weight is None else weight.shape
    rows_shape, sizes = _row_sizes(function, x.shape, normalized)
    for name, array in (("saved_mean", saved_mean), ("saved_inv_std", saved_inv_std)):
        if array.shape != rows_shape:
            raise ValueError(
                f"{function}: {name} must have shape {rows_shape}, as layer_norm returned it for x {x.shape}; "
                f"got shape {array.shape}"
            )
    columns = x.shape[len(rows_shape) :]
    targets, outs = outputs(
        function,
        out,
        _GRADIENTS,
        (x.shape, columns, columns),
        x.dtype,
        weight,
        saved_mean,
        saved_inv_std,
        in_place=(grad_output, x),
    )
    if sizes[0]:
        kernels.layer_norm_backward(grad_output, x, weight, saved_mean, saved_inv_std, sizes, *targets)
    else:
        clear(targets)
    return deliver_all(targets, outs)


def _operands(function, grad_output, x, weight, saved_mean, saved_inv_std):
    given = {"grad_output": grad_output, "x": x, "weight": weight, "saved_mean": saved_mean}
    arrays = float_arrays(function, ("weight",), **given, saved_inv_std=saved_inv_std)
    check_same_shape(function, grad_output=arrays[0], x=arrays[1])
    return map(contiguous, arrays)


def _row_sizes(function, shape, normalized):
    """(leading axes, (rows, columns)) of an array whose last axes, of shape `normalized`, are normalised together."""
    if normalized is None:
        normalized = shape[-1:]
    n_axes = len(normalized)
    if not n_axes or shape[len(shape) - n_axes :] != normalized or n_axes > len(shape):
        raise ValueError(
            f"{function}: weight and bias must have the shape of the last axes of x, which are normalised together; "
            f"got {normalized} for x {shape}"
        )
    columns = math.prod(normalized)
    if columns == 0:
        raise ValueError(f"{function}: the axes to normalise are empty, {normalized} of x {shape}")
    leading = shape[: len(shape) - n_axes]
    return leading, (math.prod(leading), columns)


def fraction(function, momentum):
    """The momentum of running statistics as a float in [0, 1]."""
    momentum = finite_parameter(function, "momentum", momentum)
    if not 0 <= momentum <= 1:
        raise ValueError(f"{function}: momentum must be at least 0 and at most 1, got {momentum}")
    return momentum


def epsilon(function, eps):
    """What is added to a variance: a finite float, at least 0."""
    eps = finite_parameter(function, "eps", eps)
    if eps < 0:
        raise ValueError(f"{function}: eps must be at least 0, got {eps}")
    return eps
