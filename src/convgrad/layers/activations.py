"""Activation layers, and the choice of a fused activation that `Conv2D` and `Dense` share.

The derivative of some activations is taken from their output, of others from their input (functional.activation);
the layers remember whichever it is.
"""

from __future__ import annotations

from .. import functional
from ..activations import finite_parameter
from ..typing import FloatArray, Int
from .base import Layer

__all__ = ["ELU", "GELU", "SELU", "LeakyReLU", "ReLU", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh"]

FROM_INPUT = ("softplus", "silu", "gelu")
"""Activations whose derivative is taken from the input; for all others it is taken from the output."""


class _Activation(Layer):
    """y = f(x), element by element; subclasses name f."""

    _name: str
    _options: tuple[float, ...] = ()

    def forward(self, x: FloatArray) -> FloatArray:
        output = getattr(functional, self._name)(x, *self._options)
        self._kept = x if self._name in FROM_INPUT else output
        return output

    def backward(self, grad_output: FloatArray) -> FloatArray:
        return getattr(functional, f"{self._name}_backward")(grad_output, self._remembered("_kept"), *self._options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._options))})"


class Sigmoid(_Activation):
    """y = 1 / (1 + exp(-x))."""

    _name = "sigmoid"


class Tanh(_Activation):
    """y = tanh(x)."""

    _name = "tanh"


class ReLU(_Activation):
    """y = max(x, 0)."""

    _name = "relu"


class LeakyReLU(_Activation):
    """y = x for x > 0, else negative_slope * x; negative_slope at least 0.

    Source: Maas, Hannun, Ng (2013), "Rectifier nonlinearities improve neural network acoustic models".
    """

    _name = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01) -> None:
        self._options = (non_negative("LeakyReLU", "negative_slope", negative_slope),)


class ELU(_Activation):
    """y = x for x >= 0, else alpha (exp(x) - 1); alpha at least 0.

    Source: Clevert, Unterthiner, Hochreiter (2015), arXiv 1511.07289, eq. 15.
    """

    _name = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        self._options = (non_negative("ELU", "alpha", alpha),)


class SELU(_Activation):
    """y = scale * elu(x, alpha) with the constants that keep mean 0 and variance 1.

    Source: Klambauer, Unterthiner, Mayr, Hochreiter (2017), arXiv 1706.02515, eq. 2.
    """

    _name = "selu"


class Softplus(_Activation):
    """y = log(1 + exp(x))."""

    _name = "softplus"


class SiLU(_Activation):
    """y = x * sigmoid(x).

    Source: Elfwing, Uchibe, Doya (2017), arXiv 1702.03118, eq. 5.
    """

    _name = "silu"


class GELU(_Activation):
    """y = x * Phi(x), Phi the distribution function of the standard normal (the form with erf).

    Source: Hendrycks and Gimpel (2016), arXiv 1606.08415.
    """

    _name = "gelu"


class Softmax(Layer):
    """y = exp(x) / sum(exp(x)) along `axis`.

    For training, leave it out: the softmax_cross_entropy loss takes logits and contains it.
    """

    def __init__(self, axis: Int = -1) -> None:
        self.axis = axis

    def forward(self, x: FloatArray) -> FloatArray:
        output = self._output = functional.softmax(x, axis=self.axis)
        return output

    def backward(self, grad_output: FloatArray) -> FloatArray:
        return functional.softmax_backward(grad_output, self._remembered("_output"), axis=self.axis)

    def __repr__(self) -> str:
        return f"Softmax(axis={self.axis})"


def non_negative(layer: str, name: str, value: float) -> float:
    value = finite_parameter(layer, name, value)
    if not value >= 0:
        raise ValueError(f"{layer}: {name} must be at least 0, as the derivative is taken from the output; got {value}")
    return value
