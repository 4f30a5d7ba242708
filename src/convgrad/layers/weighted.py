"""What `Conv2D` and `Dense` share: weight, bias, and an activation fused into the forward pass.

With z = affine(x) and y = f(z), backward needs f' at z. Most activations tell it from y, so z is never stored and f is
computed in the affine operation's last pass. Those that need z (`FROM_INPUT`) run on their own in forward. Either way
one sweep gives both the gradient by z and the bias gradient (`activation_backward_bias`).
"""

from __future__ import annotations

import math
from typing import Literal, cast, overload

import numpy as np

from .. import functional
from ..activations import DEFAULT_PARAMETERS, NAMES, resolve
from ..call_checks import flag
from ..checks import generator
from ..initializers import he_uniform, zeros
from ..typing import Activation, FloatArray, FloatDType, Initializer, Rng
from .activations import FROM_INPUT, non_negative
from .base import Layer, Parameter

__all__ = ["WeightedLayer"]


class WeightedLayer(Layer):
    """y = f(weight applied to x, plus bias); subclasses define the three methods at the end."""

    def __init__(
        self,
        weight_shape: tuple[int, ...],
        *,
        bias: bool,
        activation: Activation | None,
        initializer: Initializer | None,
        rng: Rng,
        dtype: FloatDType,
    ) -> None:
        function = type(self).__name__
        bias = flag(function, "bias", bias)
        if math.prod(weight_shape) > 2**59:
            raise MemoryError(
                f"{function}: a weight of shape {weight_shape} would be needed, more than memory can address"
            )
        self.activation = fused_activation(function, activation)
        weight, start = self._start(weight_shape, bias, initializer, generator(function, "rng", rng), dtype)
        self.weight = Parameter(weight)
        self.bias = None if start is None else Parameter(start)

    def _start(
        self,
        weight_shape: tuple[int, ...],
        bias: bool,
        initializer: Initializer | None,
        rng: np.random.Generator,
        dtype: FloatDType,
    ) -> tuple[FloatArray, FloatArray | None]:
        """Return the start values of weight and bias."""
        if initializer is not None:
            return initializer(weight_shape, rng=rng, dtype=dtype), (
                zeros(weight_shape[:1], dtype=dtype) if bias else None
            )
        # PyTorch's default start: weight and bias uniform on +-1 / sqrt(fan_in)
        weight = he_uniform(weight_shape, rng=rng, gain=math.sqrt(1 / 3), dtype=dtype)
        bound = 1 / math.sqrt(math.prod(weight_shape[1:]))
        return weight, rng.uniform(-bound, bound, weight_shape[0]).astype(dtype) if bias else None

    def forward(self, x: FloatArray) -> FloatArray:
        # What is returned is never read back from self: in evaluation mode other threads may be in here.
        if self.activation in FROM_INPUT:
            kept = self._affine(x, None)
            output = getattr(functional, self.activation)(kept)
        else:
            output = kept = self._affine(x, self.activation)
        self._x, self._kept = x, kept
        return output

    @overload
    def backward(self, grad_output: FloatArray, *, input_grad: Literal[True] = ...) -> FloatArray: ...
    @overload
    def backward(self, grad_output: FloatArray, *, input_grad: Literal[False]) -> None: ...
    @overload
    def backward(self, grad_output: FloatArray, *, input_grad: bool) -> FloatArray | None: ...
    def backward(self, grad_output: FloatArray, *, input_grad: bool = True) -> FloatArray | None:
        """Store the gradients of weight and bias; return that of the input, or None with `input_grad=False`."""
        x = self._remembered("_x")
        grad_bias = None
        if self.activation is not None:
            if self.bias is not None:
                grad_output, grad_bias = self._activation_backward_bias(self.activation, grad_output)
            else:
                name, *parameter = [self.activation] if isinstance(self.activation, str) else self.activation
                grad_output = getattr(functional, f"{name}_backward")(grad_output, self._kept, *parameter)
        needs_bias = self.bias is not None and grad_bias is None
        grad_input, self.weight.grad, plain_grad_bias = self._affine_backward(grad_output, x, input_grad, needs_bias)
        if self.bias is not None:
            self.bias.grad = plain_grad_bias if needs_bias else grad_bias
        return grad_input

    def _bias_data(self) -> FloatArray | None:
        return None if self.bias is None else self.bias.data

    def _tail(self) -> str:
        """The end of the description: what is not at its default."""
        text = "" if self.bias is not None else ", bias=False"
        if self.activation is not None:
            text += f", activation={self.activation!r}"
        return text

    def _affine(self, x: FloatArray, activation: Activation | None) -> FloatArray:
        """Return f(z), f the activation given."""
        raise NotImplementedError

    def _affine_backward(
        self, grad_output: FloatArray, x: FloatArray, input_grad: bool, bias_grad: bool
    ) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
        """Return (grad_input, grad_weight, grad_bias), the first and last None where not asked for."""
        raise NotImplementedError

    def _activation_backward_bias(
        self, activation: Activation, grad_output: FloatArray
    ) -> tuple[FloatArray, FloatArray | None]:
        """Return the gradients by z and by the bias, the latter None where `_affine_backward` shall form it."""
        raise NotImplementedError


def fused_activation(function: str, activation: Activation | None) -> Activation | None:
    """Return None, a name or (name, parameter) for the `activation` option of layer `function`."""
    code, parameter = resolve(function, activation)
    name = NAMES[code]
    if name == "identity":
        return None
    if name not in DEFAULT_PARAMETERS:
        return name
    return cast(Activation, (name, non_negative(function, f"parameter of {name!r}", parameter)))
