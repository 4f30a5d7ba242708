"""Local connectivity without sharing of weights."""

from __future__ import annotations

import numpy as np

from .. import functional
from ..checks import choice, integer, pair
from ..typing import Activation, FloatArray, FloatDType, Initializer, Int, Layout, Pair, Rng
from .weighted import WeightedLayer

__all__ = ["LocallyConnected2D"]


class LocallyConnected2D(WeightedLayer):
    """Every output pixel looks at its own window with its own weights.

    y[n,k,i,j] = f(bias[i,j,k] + sum over c, r, s of weight[i,j,k,c,r,s] x[n, c, i stride + r, j stride + s])

    Parameters
    ----------
    in_channels, out_channels : int
    input_size : int or (int, int), rows and columns of the input: the weights depend on it
    kernel_size, stride : int or (int, int)
    bias : bool
    activation : None, a name ("relu", ...) or (name, parameter)
    layout : "NCHW" or "NHWC"
    initializer : function of `convgrad.initializers`, called once for each output pixel with (out_channels,
        in_channels, rows, columns), with which the bias starts at zero; None starts both uniformly on
        +-1 / sqrt(in_channels rows columns)
    rng : numpy.random.Generator, int seed or None
    dtype : float32 or float64, of the parameters; inputs must have the same

    Attributes
    ----------
    weight : Parameter (OH, OW, out_channels, in_channels, rows, columns)
    bias : Parameter (OH, OW, out_channels), or None

    Raises
    ------
    ValueError, TypeError : sizes below 1, a kernel larger than the input, an unknown activation, layout or dtype

    Source: notes, the section on local connectivity; LeCun (1989), "Generalization and network design strategies".
    """

    def __init__(
        self,
        in_channels: Int,
        out_channels: Int,
        input_size: Pair,
        kernel_size: Pair,
        *,
        stride: Pair = 1,
        bias: bool = True,
        activation: Activation | None = None,
        layout: Layout = "NCHW",
        initializer: Initializer | None = None,
        rng: Rng = None,
        dtype: FloatDType = "float32",
    ) -> None:
        name = "LocallyConnected2D"
        self.in_channels = integer(name, "in_channels", in_channels, 1)
        self.out_channels = integer(name, "out_channels", out_channels, 1)
        self.input_size = pair(name, "input_size", input_size, 1)
        self.kernel_size = pair(name, "kernel_size", kernel_size, 1)
        self.stride = pair(name, "stride", stride, 1)
        self.layout = choice(name, "layout", layout, ("NCHW", "NHWC"))
        if any(k > size for k, size in zip(self.kernel_size, self.input_size, strict=True)):
            raise ValueError(f"{name}: kernel_size={self.kernel_size} is larger than input_size={self.input_size}")
        self.output_size = tuple(
            (size - k) // s + 1 for size, k, s in zip(self.input_size, self.kernel_size, self.stride, strict=True)
        )
        shape = (self.out_channels, self.in_channels, *self.kernel_size)
        super().__init__(shape, bias=bias, activation=activation, initializer=initializer, rng=rng, dtype=dtype)

    def _start(
        self,
        weight_shape: tuple[int, ...],
        bias: bool,
        initializer: Initializer | None,
        rng: np.random.Generator,
        dtype: FloatDType,
    ) -> tuple[FloatArray, FloatArray | None]:
        rows, columns = self.output_size
        weight = np.empty((rows, columns, *weight_shape), dtype)
        start = np.empty((rows, columns, self.out_channels), dtype) if bias else None
        for place in np.ndindex(rows, columns):
            weight[place], here = super()._start(weight_shape, bias, initializer, rng, dtype)
            if start is not None:
                start[place] = here
        return weight, start

    def _affine(self, x: FloatArray, activation: Activation | None) -> FloatArray:
        rows_and_columns = x.shape[2:] if self.layout == "NCHW" else x.shape[1:3]
        if rows_and_columns != self.input_size:
            raise ValueError(
                f"LocallyConnected2D: made for inputs of {self.input_size} rows and columns, got x {x.shape} "
                f"in {self.layout}"
            )
        return functional.locally_connected2d(
            x, self.weight.data, self._bias_data(), stride=self.stride, activation=activation, layout=self.layout
        )

    def _affine_backward(
        self, grad_output: FloatArray, x: FloatArray, input_grad: bool, bias_grad: bool
    ) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
        return functional.locally_connected2d_backward(
            grad_output,
            x,
            self.weight.data,
            stride=self.stride,
            layout=self.layout,
            input_grad=input_grad,
            bias=bias_grad,
        )

    def _activation_backward_bias(
        self, activation: Activation, grad_output: FloatArray
    ) -> tuple[FloatArray, FloatArray | None]:
        name, *parameter = [activation] if isinstance(activation, str) else activation
        return getattr(functional, f"{name}_backward")(grad_output, self._kept, *parameter), None

    def __repr__(self) -> str:
        options = f", stride={self.stride}" if self.stride != (1, 1) else ""
        options += f", layout={self.layout!r}" if self.layout != "NCHW" else ""
        sizes = f"{self.in_channels}, {self.out_channels}, {self.input_size}, {self.kernel_size}"
        return f"LocallyConnected2D({sizes}{options}{self._tail()})"
