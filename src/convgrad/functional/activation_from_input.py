"""Activation functions whose derivative is taken from their input: softplus, SiLU, GELU.

See `convgrad.functional.activation` for what all activations share.
"""

from __future__ import annotations

from .. import elementwise_calls as calls
from ..activations import CODES
from ..typing import Array, Float
from .activation import kernels

_SOFTPLUS = CODES["softplus"]
_SILU = CODES["silu"]
_GELU = CODES["gelu"]


def softplus(x: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Softplus.

    y = log(1 + exp(x)), for every x: there is no threshold above which it is taken for x

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

    Source: Dugas, Bengio, Belisle, Nadeau, Garcia (2001), NIPS 13.
    """
    return calls.value(kernels(), "softplus", _SOFTPLUS, 0.0, x, out)


def softplus_backward(
    grad_output: Array[Float], input: Array[Float], *, out: Array[Float] | None = None
) -> Array[Float]:
    """Gradient of `softplus` by its input, from its input: grad_output times the derivative.

    a'(x) = sigmoid(x)

    Parameters
    ----------
    grad_output : ndarray of any shape, float32 or float64
    input : ndarray, shape and dtype of grad_output, what `softplus` was given (x)
    out : None or ndarray of the same shape and dtype; may be grad_output or input

    Returns
    -------
    grad_input : ndarray, shape and dtype of grad_output

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64, or that do not fit each other
    """
    return calls.backward(kernels(), "softplus_backward", _SOFTPLUS, 0.0, grad_output, input, out)


def silu(x: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Sigmoid linear unit (swish).

    y = x sigmoid(x)

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

    Source: Elfwing, Uchibe, Doya (2017), arXiv 1702.03118, eq. 5 and 6.
    """
    return calls.value(kernels(), "silu", _SILU, 0.0, x, out)


def silu_backward(grad_output: Array[Float], input: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Gradient of `silu` by its input, from its input: grad_output times the derivative.

    a'(x) = p (1 + x (1 - p)), p = sigmoid(x)

    Parameters
    ----------
    grad_output : ndarray of any shape, float32 or float64
    input : ndarray, shape and dtype of grad_output, what `silu` was given (x)
    out : None or ndarray of the same shape and dtype; may be grad_output or input

    Returns
    -------
    grad_input : ndarray, shape and dtype of grad_output

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64, or that do not fit each other
    """
    return calls.backward(kernels(), "silu_backward", _SILU, 0.0, grad_output, input, out)


def gelu(x: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Gaussian error linear unit.

    y = x Phi(x) = x (1 + erf(x / sqrt(2))) / 2, Phi the distribution function of the standard normal

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

    Source: Hendrycks, Gimpel (2016), arXiv 1606.08415 (the exact form, not the one with tanh).
    """
    return calls.value(kernels(), "gelu", _GELU, 0.0, x, out)


def gelu_backward(grad_output: Array[Float], input: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Gradient of `gelu` by its input, from its input: grad_output times the derivative.

    a'(x) = Phi(x) + x phi(x), phi the density of the standard normal

    Parameters
    ----------
    grad_output : ndarray of any shape, float32 or float64
    input : ndarray, shape and dtype of grad_output, what `gelu` was given (x)
    out : None or ndarray of the same shape and dtype; may be grad_output or input

    Returns
    -------
    grad_input : ndarray, shape and dtype of grad_output

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64, or that do not fit each other
    """
    return calls.backward(kernels(), "gelu_backward", _GELU, 0.0, grad_output, input, out)
