"""Activation functions and their fused derivative passes.

Every function takes an array of any shape, an empty one too, and keeps NaN. `out` may be an input itself: the pass then
works in place. `NAME_backward` multiplies grad_output by the derivative in one pass; it takes the *output* y of
sigmoid, tanh, relu, leaky_relu, elu and selu, and the *input* x of softplus, silu and gelu (`activation_from_input`),
whose output does not tell it.

Errors, in units in the last place of the exact value for the given x: SiLU at most 3; GELU at most 4 for x >= -3 and an
absolute error of at most 1e-7 below; all others at most 2.
"""

from __future__ import annotations

from .. import elementwise_calls as calls
from .._native import elementwise as native_kernels
from ..activations import CODES, finite_parameter
from ..backends import is_native
from ..reference import elementwise_kernels as numpy_kernels
from ..typing import Activation, Array, Float, Layout

_SIGMOID = CODES["sigmoid"]
_TANH = CODES["tanh"]
_RELU = CODES["relu"]
_LEAKY_RELU = CODES["leaky_relu"]
_ELU = CODES["elu"]
_SELU = CODES["selu"]


def kernels():
    """The elementwise kernels of the backend in force."""
    return native_kernels if is_native() else numpy_kernels


def sigmoid(x: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Logistic function.

    y = 1 / (1 + exp(-x))

    Parameters
    ----------
    x : ndarray of any shape, float32 or float64
    out : None or ndarray of x's shape and dtype; may be x

    Returns
    -------
    y : ndarray, shape and dtype of x

    Raises
    ------
    TypeError, ValueError : x is not an array of float32 or float64; out does not fit

    Source: notes, the section on activation functions.
    """
    return calls.value(kernels(), "sigmoid", _SIGMOID, 0.0, x, out)


def sigmoid_backward(
    grad_output: Array[Float], output: Array[Float], *, out: Array[Float] | None = None
) -> Array[Float]:
    """Gradient of `sigmoid` by its input, from its output: grad_output times the derivative.

    a'(x) = y (1 - y)

    Parameters
    ----------
    grad_output : ndarray of any shape, float32 or float64
    output : ndarray, shape and dtype of grad_output, what `sigmoid` returned (y)
    out : None or ndarray of the same shape and dtype; may be grad_output or output

    Returns
    -------
    grad_input : ndarray, shape and dtype of grad_output

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64, or that do not fit each other
    """
    return calls.backward(kernels(), "sigmoid_backward", _SIGMOID, 0.0, grad_output, output, out)


def tanh(x: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Hyperbolic tangent.

    y = tanh(x)

    Parameters
    ----------
    x : ndarray of any shape, float32 or float64
    out : None or ndarray of x's shape and dtype; may be x

    Returns
    -------
    y : ndarray, shape and dtype of x

    Raises
    ------
    TypeError, ValueError : x is not an array of float32 or float64; out does not fit

    Source: notes, the section on activation functions.
    """
    return calls.value(kernels(), "tanh", _TANH, 0.0, x, out)


def tanh_backward(grad_output: Array[Float], output: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Gradient of `tanh` by its input, from its output: grad_output times the derivative.

    a'(x) = 1 - y^2

    Parameters
    ----------
    grad_output : ndarray of any shape, float32 or float64
    output : ndarray, shape and dtype of grad_output, what `tanh` returned (y)
    out : None or ndarray of the same shape and dtype; may be grad_output or output

    Returns
    -------
    grad_input : ndarray, shape and dtype of grad_output

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64, or that do not fit each other
    """
    return calls.backward(kernels(), "tanh_backward", _TANH, 0.0, grad_output, output, out)


def relu(x: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Rectified linear unit.

    y = max(x, 0); NaN stays NaN

    Parameters
    ----------
    x : ndarray of any shape, float32 or float64
    out : None or ndarray of x's shape and dtype; may be x

    Returns
    -------
    y : ndarray, shape and dtype of x

    Raises
    ------
    TypeError, ValueError : x is not an array of float32 or float64; out does not fit

    Source: notes, the section on activation functions.
    """
    return calls.value(kernels(), "relu", _RELU, 0.0, x, out)


def relu_backward(grad_output: Array[Float], output: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Gradient of `relu` by its input, from its output: grad_output times the derivative.

    a'(x) = 1 where y > 0, else 0 (0 at x = 0)

    Parameters
    ----------
    grad_output : ndarray of any shape, float32 or float64
    output : ndarray, shape and dtype of grad_output, what `relu` returned (y)
    out : None or ndarray of the same shape and dtype; may be grad_output or output

    Returns
    -------
    grad_input : ndarray, shape and dtype of grad_output

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64, or that do not fit each other
    """
    return calls.backward(kernels(), "relu_backward", _RELU, 0.0, grad_output, output, out)


def leaky_relu(x: Array[Float], slope: float = 0.01, *, out: Array[Float] | None = None) -> Array[Float]:
    """Leaky rectified linear unit.

    y = x for x > 0, else slope * x

    Parameters
    ----------
    x : ndarray of any shape, float32 or float64
    slope : finite float, the factor for x <= 0
    out : None or ndarray of x's shape and dtype; may be x

    Returns
    -------
    y : ndarray, shape and dtype of x

    Raises
    ------
    TypeError, ValueError : x is not an array of float32 or float64; out does not fit; slope is not finite

    Source: Maas, Hannun, Ng (2013), "Rectifier nonlinearities improve neural network acoustic models".
    """
    return calls.value(kernels(), "leaky_relu", _LEAKY_RELU, finite_parameter("leaky_relu", "slope", slope), x, out)


def leaky_relu_backward(
    grad_output: Array[Float], output: Array[Float], slope: float = 0.01, *, out: Array[Float] | None = None
) -> Array[Float]:
    """Gradient of `leaky_relu` by its input, from its output: grad_output times the derivative.

    a'(x) = 1 where y > 0, else slope

    Parameters
    ----------
    grad_output : ndarray of any shape, float32 or float64
    output : ndarray, shape and dtype of grad_output, what `leaky_relu` returned (y)
    slope : finite float, at least 0: only then does the sign of y tell that of x
    out : None or ndarray of the same shape and dtype; may be grad_output or output

    Returns
    -------
    grad_input : ndarray, shape and dtype of grad_output

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64, or that do not fit each other; slope below 0
    """
    slope = calls.not_negative("leaky_relu_backward", "slope", finite_parameter("leaky_relu_backward", "slope", slope))
    return calls.backward(kernels(), "leaky_relu_backward", _LEAKY_RELU, slope, grad_output, output, out)


def elu(x: Array[Float], alpha: float = 1.0, *, out: Array[Float] | None = None) -> Array[Float]:
    """Exponential linear unit.

    y = x for x >= 0, else alpha (exp(x) - 1)

    Parameters
    ----------
    x : ndarray of any shape, float32 or float64
    alpha : finite float, -alpha is the limit for x -> -infinity
    out : None or ndarray of x's shape and dtype; may be x

    Returns
    -------
    y : ndarray, shape and dtype of x

    Raises
    ------
    TypeError, ValueError : x is not an array of float32 or float64; out does not fit; alpha is not finite

    Source: Clevert, Unterthiner, Hochreiter (2015), arXiv 1511.07289, eq. 15 and 16.
    """
    return calls.value(kernels(), "elu", _ELU, finite_parameter("elu", "alpha", alpha), x, out)


def elu_backward(
    grad_output: Array[Float], output: Array[Float], alpha: float = 1.0, *, out: Array[Float] | None = None
) -> Array[Float]:
    """Gradient of `elu` by its input, from its output: grad_output times the derivative.

    a'(x) = 1 where y >= 0 (also at x = 0), else y + alpha

    Parameters
    ----------
    grad_output : ndarray of any shape, float32 or float64
    output : ndarray, shape and dtype of grad_output, what `elu` returned (y)
    alpha : finite float, at least 0: only then does the sign of y tell that of x; with 0 the derivative at y = 0 is 0
    out : None or ndarray of the same shape and dtype; may be grad_output or output

    Returns
    -------
    grad_input : ndarray, shape and dtype of grad_output

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64, or that do not fit each other; alpha below 0
    """
    alpha = calls.not_negative("elu_backward", "alpha", finite_parameter("elu_backward", "alpha", alpha))
    return calls.backward(kernels(), "elu_backward", _ELU, alpha, grad_output, output, out)


def selu(x: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Scaled exponential linear unit.

    y = lambda x for x > 0, else lambda alpha (exp(x) - 1)

    lambda = 1.0507009873554805 and alpha = 1.6732632423543772.

    Parameters
    ----------
    x : ndarray of any shape, float32 or float64
    out : None or ndarray of x's shape and dtype; may be x

    Returns
    -------
    y : ndarray, shape and dtype of x

    Raises
    ------
    TypeError, ValueError : x is not an array of float32 or float64; out does not fit

    Source: Klambauer, Unterthiner, Mayr, Hochreiter (2017), arXiv 1706.02515, eq. 2.
    """
    return calls.value(kernels(), "selu", _SELU, 0.0, x, out)


def selu_backward(grad_output: Array[Float], output: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Gradient of `selu` by its input, from its output: grad_output times the derivative.

    a'(x) = lambda where y > 0, else y + lambda alpha (lambda alpha at x = 0)

    Parameters
    ----------
    grad_output : ndarray of any shape, float32 or float64
    output : ndarray, shape and dtype of grad_output, what `selu` returned (y)
    out : None or ndarray of the same shape and dtype; may be grad_output or output

    Returns
    -------
    grad_input : ndarray, shape and dtype of grad_output

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64, or that do not fit each other
    """
    return calls.backward(kernels(), "selu_backward", _SELU, 0.0, grad_output, output, out)


def activation_backward_bias(
    name: Activation,
    grad_output: Array[Float],
    output_or_input: Array[Float],
    *,
    layout: Layout = "NCHW",
    out: tuple[Array[Float] | None, Array[Float] | None] | None = None,
) -> tuple[Array[Float], Array[Float]]:
    """Gradients by the input of an activation and by the bias added just before it, in one sweep over memory.

    grad_preactivation = grad_output * a'(.), as the activation's own `_backward`; grad_bias[c] = the sum of
    grad_preactivation over everything but the channels

    Parameters
    ----------
    name : str or (str, float), the activation, with its slope (leaky_relu) or alpha (elu); see `convgrad.activations`
    grad_output : ndarray (N, C), (N, C, W) or (N, C, H, W), channels last with layout="NHWC"; float32 or float64
    output_or_input : ndarray, shape and dtype of grad_output: the output of sigmoid, tanh, relu, leaky_relu, elu and
        selu, the input of softplus, silu and gelu
    layout : "NCHW" (channels on axis 1) or "NHWC" (channels last)
    out : None or a tuple (grad_preactivation, grad_bias) of arrays, None where none is given; the first may be
        grad_output or output_or_input

    Returns
    -------
    grad_preactivation : ndarray, shape and dtype of grad_output
    grad_bias : ndarray (C,), same dtype; zeros for an empty batch

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64, or do not fit each other; an unknown name or layout

    Source: notes, eq. 8 (the derivative) and the sum over the batch as in eq. 20 to 22.
    """
    return calls.backward_bias(kernels(), "activation_backward_bias", name, grad_output, output_or_input, layout, out)
