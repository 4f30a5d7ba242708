"""NumPy kernels of the elementwise functions: each formula as it is written down, none that overflows for a finite x.

Arguments were checked in `elementwise_calls`, where the protocol is described.
"""

import numpy as np

from ..activations import NAMES
from ..elementwise_calls import SELU_ALPHA, SELU_LAMBDA
from .normal import erfc

# What overflows or is not a number goes through as in the native kernels: without a warning.
_quiet = np.errstate(all="ignore")


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _elu(x, alpha):
    return np.where(x >= 0, x, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0)))


def _selu(x):
    return np.where(x >= 0, SELU_LAMBDA * x, SELU_LAMBDA * SELU_ALPHA * np.expm1(np.minimum(x, 0)))


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _silu(x):
    x = np.maximum(x.astype(np.float64, copy=False), -800)  # the value at -infinity is the limit, 0
    return np.where(x < 0, x * np.exp(np.minimum(x, 0)), x) / (1 + np.exp(-np.abs(x)))


def _gelu(x):
    x = np.maximum(x.astype(np.float64, copy=False), -40)  # as above
    return x * (erfc(x / -np.sqrt(2.0)) / 2)


_VALUES = {
    "identity": lambda x, _: x,
    "sigmoid": lambda x, _: _sigmoid(x),
    "tanh": lambda x, _: np.tanh(x),
    "relu": lambda x, _: np.maximum(x, 0),
    "leaky_relu": lambda x, slope: np.where(x > 0, x, x.dtype.type(slope) * x),
    "elu": _elu,
    "selu": lambda x, _: _selu(x),
    "softplus": lambda x, _: _softplus(x),
    "silu": lambda x, _: _silu(x),
    "gelu": lambda x, _: _gelu(x),
}


def _silu_derivative(x):
    x = np.clip(x, -800, 800)  # beyond, the derivative is 0 or 1; inf * 0 would be NaN
    p = _sigmoid(x)
    return p * (1 + x * _sigmoid(-x))


def _gelu_derivative(x):
    x = np.clip(x.astype(np.float64, copy=False), -40, 40)
    return erfc(x / -np.sqrt(2.0)) / 2 + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def _elu_derivative(y, alpha):
    # From an output of 0 with alpha = 0 the input cannot be told; its derivative is then that of relu.
    return np.where(y >= 0 if alpha > 0 else y > 0, 1, y + y.dtype.type(alpha))


# Of the output y, or for the last three of the input x. relu's keeps the gradient where y is NaN.
_DERIVATIVES = {
    "identity": lambda y, _: 1.0,
    "sigmoid": lambda y, _: y * (1 - y),
    "tanh": lambda y, _: (1 - y) * (1 + y),
    "relu": lambda y, _: ~(y <= 0),
    "leaky_relu": lambda y, slope: np.where(y > 0, 1, y.dtype.type(slope)),
    "elu": _elu_derivative,
    "selu": lambda y, _: np.where(y > 0, SELU_LAMBDA, y + SELU_LAMBDA * SELU_ALPHA),
    "softplus": lambda x, _: _sigmoid(x),
    "silu": lambda x, _: _silu_derivative(x),
    "gelu": lambda x, _: _gelu_derivative(x),
}


@_quiet
def activation(code, parameter, x, out):
    """out = a(x)."""
    out[...] = _VALUES[NAMES[code]](x, parameter)


@_quiet
def activation_backward(code, parameter, grad_output, x, out):
    """out = grad_output * a'(.), x being the output or the input."""
    derivative = _DERIVATIVES[NAMES[code]](x, parameter)
    out[...] = np.where(derivative, grad_output, 0) if NAMES[code] == "relu" else grad_output * derivative


@_quiet
def activation_backward_bias(code, parameter, grad_output, x, sizes, out, bias):
    """The same, and bias = the sums of out over all but the middle of sizes (outer, channels, inner)."""
    activation_backward(code, parameter, grad_output, x, out)
    bias[...] = out.reshape(sizes).sum(axis=(0, 2), dtype=np.float64)


@_quiet
def dropout(x, mask, scale, shift, fill, out):
    """out = x * scale + shift where mask is set, else fill."""
    out[...] = np.where(mask, x * x.dtype.type(scale) + x.dtype.type(shift), x.dtype.type(fill))


def fresh_activation(code, parameter, x):
    """None: every call takes the long way here."""
    return


def fresh_activation_backward(code, parameter, grad_output, x):
    """None: every call takes the long way here."""
    return
