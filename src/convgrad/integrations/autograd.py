"""convgrad's functions as primitives of HIPS autograd: ``grad``, ``jacobian`` and gradients of gradients pass them.

    import autograd.numpy as np
    from autograd import grad
    from convgrad.integrations.autograd import conv2d, max_pool2d

    loss = lambda weight: np.sum(max_pool2d(conv2d(x, weight, activation="relu"), 2) ** 2)
    grad(loss)(weight)

Each gradient is made of the same primitives, so reverse mode works to any order: a convolution's gradient by x is a
transposed convolution, its gradient by weight a convolution of x with the gradient; pooling and its gradient are linear
and each other's transposes; second derivatives of activations are written in autograd.numpy.

Arguments are those of the functions of the same name in `convgrad`, without `out`; arrays are float32 or float64.

Source: notes, eq. 15 to 21; Maclaurin, Duvenaud, Adams (2015), "Autograd".
"""

from __future__ import annotations

import math
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.extend import defvjp, primitive
from autograd.tracer import getval, isbox

from .. import functional as F
from ..activations import DEFAULT_PARAMETERS, resolve
from ..checks import choice
from ..shapes import conv_transpose_shape, convolve_shape

__all__ = [
    "avg_pool2d", "conv1d", "conv2d", "conv_transpose2d", "convolve2d", "correlate2d", "elu", "gelu",
    "global_avg_pool2d", "leaky_relu", "max_pool2d", "relu", "selu", "sigmoid", "silu", "softmax",
    "softmax_cross_entropy", "softplus", "tanh",
]  # fmt: skip


def _value(x: Any) -> Any:
    """The array inside however many boxes of autograd."""
    while isbox(x):
        x = getval(x)
    return x


def _like(gradient: Any, x: Any) -> Any:
    """A gradient with the dtype of x: autograd makes float64 of some."""
    return np.asarray(gradient, x.dtype)


# ---------------------------------------------------------------- convolution

# All three are linear in both their arrays, and the gradients of each are the other two.


@primitive
def _conv(x, weight, **options):
    return F.conv2d(x, _like(weight, x), **options)


@primitive
def _grad_input(g, weight, *, input_shape, **options):
    return F.conv2d_grad_input(_like(g, weight), weight, input_shape, **options)


@primitive
def _grad_weight(g, x, *, kernel_size, **options):
    return F.conv2d_grad_weight(_like(g, x), x, kernel_size, **options)


defvjp(
    _conv,
    lambda y, x, weight, **o: lambda g: _grad_input(g, weight, input_shape=x.shape, **o),
    lambda y, x, weight, **o: lambda g: _grad_weight(g, x, kernel_size=weight.shape[2:], **o),
)
defvjp(
    _grad_input,
    lambda y, g, weight, *, input_shape, **o: lambda u: _conv(u, weight, **o),
    lambda y, g, weight, *, input_shape, **o: lambda u: _grad_weight(g, u, kernel_size=weight.shape[2:], **o),
)
defvjp(
    _grad_weight,
    lambda y, g, x, *, kernel_size, **o: lambda u: _conv(x, u, **o),
    lambda y, g, x, *, kernel_size, **o: lambda u: _grad_input(g, u, input_shape=x.shape, **o),
)


def _finished(y: Any, bias: Any, activation: Any, layout: str) -> Any:
    """activation(y + bias)"""
    if bias is not None:
        y = y + (anp.reshape(bias, (-1, 1, 1)) if layout == "NCHW" else bias)
    if activation is None:
        return y
    name, *parameter = (activation,) if isinstance(activation, str) else activation
    resolve("conv2d", activation)
    return y if name == "identity" else _activation(y, name, *parameter)


def conv2d(x: Any, weight: Any, bias: Any = None, *, activation: Any = None, **options: Any) -> Any:
    """`convgrad.conv2d`, differentiable by x, weight and bias."""
    return _finished(_conv(x, weight, **options), bias, activation, options.get("layout", "NCHW"))


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    activation: Any = None,
    layout: Any = "NCHW",
    algorithm: Any = "auto",
) -> Any:
    """`convgrad.conv_transpose2d`, differentiable by x, weight and bias."""
    shape = conv_transpose_shape(
        "conv_transpose2d",
        2,
        x.shape,
        weight.shape,
        stride,
        padding,
        output_padding,
        dilation,
        groups,
        layout,
        algorithm,
    )
    options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups, layout=layout, algorithm=algorithm)
    y = _grad_input(x, weight, input_shape=shape.input_shape, **options)
    return _finished(y, bias, activation, layout)


def conv1d(
    x: Any, weight: Any, bias: Any = None, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    activation: Any = None,
) -> Any:  # fmt: skip
    """`convgrad.conv1d` of x (N, C, W) with weight (K, C / groups, S), differentiable by x, weight and bias."""
    if not isinstance(padding, str):
        padding = ((0, 0), (padding, padding) if isinstance(padding, int) else tuple(padding))
    y = conv2d(
        x[:, :, None], weight[:, :, None], bias, stride=(1, stride), padding=padding, dilation=(1, dilation),
        groups=groups, activation=activation,
    )  # fmt: skip
    return y[:, :, 0]


# The same three for one plane and one kernel, leading axes of x as the batch; `shape` is the `ConvShape`, and a true
# convolution is that of the flipped kernel.


def _weight(kernel: Any, shape: Any, flipped: bool) -> Any:
    return (kernel[::-1, ::-1] if flipped else kernel).reshape(shape.weight_shape)


@primitive
def _plane(x, kernel, shape, flipped):
    y = F.conv2d(x.reshape(shape.input_shape), _weight(_like(kernel, x), shape, flipped), padding=shape.padding)
    return y.reshape(*x.shape[:-2], *y.shape[2:])


@primitive
def _plane_grad_x(g, kernel, shape, flipped):
    planes = _like(g, kernel).reshape(shape.output_shape)
    by_x = F.conv2d_grad_input(planes, _weight(kernel, shape, flipped), shape.input_shape, padding=shape.padding)
    return by_x.reshape(*g.shape[:-2], *by_x.shape[2:])


@primitive
def _plane_grad_kernel(g, x, shape, flipped):
    planes = _like(g, x).reshape(shape.output_shape)
    by_kernel = F.conv2d_grad_weight(planes, x.reshape(shape.input_shape), shape.kernel, padding=shape.padding)[0, 0]
    return by_kernel[::-1, ::-1] if flipped else by_kernel


defvjp(
    _plane,
    lambda y, x, kernel, *o: lambda g: _plane_grad_x(g, kernel, *o),
    lambda y, x, kernel, *o: lambda g: _plane_grad_kernel(g, x, *o),
)
defvjp(
    _plane_grad_x,
    lambda y, g, kernel, *o: lambda u: _plane(u, kernel, *o),
    lambda y, g, kernel, *o: lambda u: _plane_grad_kernel(g, u, *o),
)
defvjp(
    _plane_grad_kernel,
    lambda y, g, x, *o: lambda u: _plane(x, u, *o),
    lambda y, g, x, *o: lambda u: _plane_grad_x(g, u, *o),
)


def convolve2d(x: Any, kernel: Any, mode: str = "full") -> Any:
    """`convgrad.convolve2d`: true convolution over the last two axes of x, differentiable by both."""
    return _convolve("convolve2d", x, kernel, mode, True)


def correlate2d(x: Any, kernel: Any, mode: str = "full") -> Any:
    """`convgrad.correlate2d`, differentiable by both arrays."""
    return _convolve("correlate2d", x, kernel, mode, False)


def _convolve(function: str, x: Any, kernel: Any, mode: str, flipped: bool) -> Any:
    choice(function, "mode", mode, ("full", "same", "valid"))
    return _plane(x, kernel, convolve_shape(function, x.shape, kernel.shape, mode, flipped), flipped)


# ---------------------------------------------------------------- pooling


@primitive
def _pick(x, indices, known, kernel_size, options):
    """The cells of x that `indices` of a max pooling name; `known` is what they hold, if that has been computed."""
    if known is not None:
        return known
    planes = F.max_pool2d_plane_indices(indices, x.shape, kernel_size, **options)
    if options.get("layout", "NCHW") == "NCHW":
        picked = np.take_along_axis(x.reshape(*x.shape[:2], -1), planes.reshape(*planes.shape[:2], -1), 2)
    else:
        n, c = len(x), x.shape[3]
        picked = np.take_along_axis(x.reshape(n, -1, c), planes.reshape(n, -1, c), 1)
    return picked.reshape(planes.shape)


@primitive
def _scatter(g, indices, input_shape, kernel_size, options):
    return F.max_pool2d_backward(g, indices, input_shape, kernel_size, **options)


defvjp(
    _pick,
    lambda y, x, indices, known, *o: lambda g: _scatter(g, indices, x.shape, *o),
    argnums=(0,),
)
defvjp(
    _scatter,
    lambda y, g, indices, input_shape, *o: lambda u: _pick(u, indices, None, *o),
    argnums=(0,),
)


def max_pool2d(x: Any, kernel_size: Any, **options: Any) -> Any:
    """`convgrad.max_pool2d`, differentiable by x; of equal maxima the first gets the gradient."""
    if "return_indices" in options or "out" in options:
        raise TypeError("max_pool2d: return_indices and out are not for differentiable calls; use convgrad.max_pool2d")
    known, indices = F.max_pool2d(_value(x), kernel_size, return_indices=True, **options)
    return _pick(x, indices, known, kernel_size, options)


@primitive
def _average(x, kernel_size, options):
    return F.avg_pool2d(x, kernel_size, **options)


@primitive
def _average_backward(g, input_shape, kernel_size, options):
    return F.avg_pool2d_backward(g, input_shape, kernel_size, **options)


defvjp(_average, lambda y, x, *o: lambda g: _average_backward(g, x.shape, *o), argnums=(0,))
defvjp(_average_backward, lambda y, g, input_shape, *o: lambda u: _average(u, *o), argnums=(0,))


def avg_pool2d(x: Any, kernel_size: Any, **options: Any) -> Any:
    """`convgrad.avg_pool2d`, differentiable by x."""
    return _average(x, kernel_size, options)


def global_avg_pool2d(x: Any, *, layout: str = "NCHW") -> Any:
    """`convgrad.global_avg_pool2d`, differentiable by x."""
    return _average(x, x.shape[2:] if layout == "NCHW" else x.shape[1:3], {"layout": layout})


# ---------------------------------------------------------------- activations

_FROM_INPUT = ("softplus", "silu", "gelu")  # their derivative passes take the input, the others' the output


def _second(name: str, x: Any, parameter: tuple[float, ...]) -> Any:
    """The second derivative by x, from autograd's own operations and the primitives here."""
    if name in ("relu", "leaky_relu"):
        return anp.zeros_like(x)
    if name in ("elu", "selu"):
        alpha, scale = (1.6732632423543772, 1.0507009873554805) if name == "selu" else (*parameter, 1.0)[:2]
        return anp.where(x < 0, scale * alpha * anp.exp(anp.minimum(x, 0)), 0 * x)
    if name == "tanh":
        t = tanh(x)
        return -2 * t * (1 - t**2)
    if name == "gelu":
        return anp.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * (2 - x**2)
    s = sigmoid(x)
    if name == "sigmoid":
        return s * (1 - s) * (1 - 2 * s)
    return s * (1 - s) * (1 if name == "softplus" else 2 + x * (1 - 2 * s))


@primitive
def _activation(x, name, *parameter):
    return getattr(F, name)(x, *parameter)


@primitive
def _activation_backward(g, x, y, name, *parameter):
    """g times the derivative at x; y is the activation there, a constant to autograd."""
    backward = getattr(F, f"{name}_backward")
    return backward(_like(g, x), x if name in _FROM_INPUT else y, *parameter)


defvjp(
    _activation,
    lambda y, x, *o: lambda g: _activation_backward(g, x, _value(y), *o),
    argnums=(0,),
)
defvjp(
    _activation_backward,
    lambda z, g, x, y, *o: lambda u: _activation_backward(u, x, y, *o),
    lambda z, g, x, y, name, *p: lambda u: u * g * _second(name, x, p),
    argnums=(0, 1),
)


def sigmoid(x: Any) -> Any:
    """`convgrad.sigmoid`, differentiable."""
    return _activation(x, "sigmoid")


def tanh(x: Any) -> Any:
    """`convgrad.tanh`, differentiable."""
    return _activation(x, "tanh")


def relu(x: Any) -> Any:
    """`convgrad.relu`, differentiable; 0 at 0."""
    return _activation(x, "relu")


def leaky_relu(x: Any, slope: float = DEFAULT_PARAMETERS["leaky_relu"]) -> Any:
    """`convgrad.leaky_relu` with a slope of at least 0, differentiable by x; the slope at 0."""
    return _activation(x, "leaky_relu", slope)


def elu(x: Any, alpha: float = DEFAULT_PARAMETERS["elu"]) -> Any:
    """`convgrad.elu` with an alpha of at least 0, differentiable by x."""
    return _activation(x, "elu", alpha)


def selu(x: Any) -> Any:
    """`convgrad.selu`, differentiable."""
    return _activation(x, "selu")


def softplus(x: Any) -> Any:
    """`convgrad.softplus`, differentiable."""
    return _activation(x, "softplus")


def silu(x: Any) -> Any:
    """`convgrad.silu`, differentiable."""
    return _activation(x, "silu")


def gelu(x: Any) -> Any:
    """`convgrad.gelu`, differentiable."""
    return _activation(x, "gelu")


# ---------------------------------------------------------------- softmax and cross-entropy


@primitive
def _softmax(x, axis):
    return F.softmax(x, axis=axis)


@primitive
def _softmax_backward(g, y, axis):
    return F.softmax_backward(_like(g, y), y, axis=axis)


def _along(a: Any, b: Any, axis: int) -> Any:
    return anp.sum(a * b, axis=axis, keepdims=True)


defvjp(_softmax, lambda y, x, axis: lambda g: _softmax_backward(g, y, axis), argnums=(0,))
defvjp(  # y (g - <g, y>): its matrix is symmetric in g
    _softmax_backward,
    lambda z, g, y, axis: lambda u: _softmax_backward(u, y, axis),
    lambda z, g, y, axis: lambda u: u * (g - _along(g, y, axis)) - g * _along(u, y, axis),
    argnums=(0, 1),
)


def softmax(x: Any, axis: int = -1) -> Any:
    """`convgrad.softmax`, differentiable."""
    return _softmax(x, axis)


@primitive
def _cross_entropy(logits, labels, reduction):
    return F.softmax_cross_entropy(logits, labels, reduction=reduction)[0]


@primitive
def _cross_entropy_grad(logits, labels, reduction):
    return F.softmax_cross_entropy(logits, labels, reduction=reduction)[1]


defvjp(
    _cross_entropy,
    lambda loss, logits, labels, reduction: lambda g: g * _cross_entropy_grad(logits, labels, reduction),
    argnums=(0,),
)
defvjp(  # softmax - labels, over N for the mean
    _cross_entropy_grad,
    lambda z, logits, labels, reduction: (
        lambda u: _softmax_backward(u, softmax(logits), -1) / (len(logits) if reduction == "mean" else 1)
    ),
    argnums=(0,),
)


def softmax_cross_entropy(logits: Any, labels: Any, *, reduction: str = "mean") -> Any:
    """The loss of `convgrad.softmax_cross_entropy` for logits (N, classes), differentiable by the logits.

    labels : ndarray (N,) of int, or (N, classes) of probabilities, constants to autograd
    reduction : "mean" (over N) or "sum"
    """
    choice("softmax_cross_entropy", "reduction", reduction, ("mean", "sum"))
    return _cross_entropy(logits, labels, reduction)
