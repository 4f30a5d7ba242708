"""The fully connected layer."""

from __future__ import annotations

from .. import functional
from ..checks import float_array, integer
from ..typing import Activation, FloatArray, FloatDType, Initializer, Int, Rng
from .weighted import WeightedLayer

__all__ = ["Dense"]


class Dense(WeightedLayer):
    """Fully connected layer: y = f(x weight^T + bias), x (N, in_features) or with any leading axes.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    activation : None, a name ("relu", ...) or (name, parameter)
    initializer : function of `convgrad.initializers`, with which the bias starts at zero; None starts weight and bias
        uniformly on +-1 / sqrt(in_features), as PyTorch does
    rng : numpy.random.Generator, int seed or None
    dtype : float32 or float64, of the parameters; inputs must have the same

    Attributes
    ----------
    weight : Parameter (out_features, in_features)
    bias : Parameter (out_features,), or None

    Raises
    ------
    ValueError, TypeError : sizes below 1, an unknown activation or dtype
    """

    def __init__(
        self,
        in_features: Int,
        out_features: Int,
        *,
        bias: bool = True,
        activation: Activation | None = None,
        initializer: Initializer | None = None,
        rng: Rng = None,
        dtype: FloatDType = "float32",
    ) -> None:
        self.in_features = integer("Dense", "in_features", in_features, 1)
        self.out_features = integer("Dense", "out_features", out_features, 1)
        shape = (self.out_features, self.in_features)
        super().__init__(shape, bias=bias, activation=activation, initializer=initializer, rng=rng, dtype=dtype)

    def _affine(self, x: FloatArray, activation: Activation | None) -> FloatArray:
        return functional.linear(x, self.weight.data, self._bias_data(), activation=activation)

    def _affine_backward(
        self, grad_output: FloatArray, x: FloatArray, input_grad: bool, bias_grad: bool
    ) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
        return functional.linear_backward(grad_output, x, self.weight.data, input_grad=input_grad, bias=bias_grad)

    def _activation_backward_bias(
        self, activation: Activation, grad_output: FloatArray
    ) -> tuple[FloatArray, FloatArray | None]:
        kept = self._kept
        if kept.ndim == 2:
            return functional.activation_backward_bias(activation, grad_output, kept)
        grad_output = float_array("Dense.backward", "grad_output", grad_output)
        if grad_output.shape != kept.shape:
            raise ValueError(
                f"Dense.backward: grad_output has shape {grad_output.shape} but the output had {kept.shape}; pass a "
                "gradient of that shape"
            )
        # any leading axes: one sweep over rows of features
        rows = (grad_output.reshape(-1, self.out_features), kept.reshape(-1, self.out_features))
        grad, grad_bias = functional.activation_backward_bias(activation, *rows)
        return grad.reshape(kept.shape), grad_bias

    def __repr__(self) -> str:
        return f"Dense({self.in_features}, {self.out_features}{self._tail()})"
