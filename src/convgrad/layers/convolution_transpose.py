"""Transposed convolution: how generators grow their images."""

from __future__ import annotations

import math

import numpy as np

from .. import functional
from ..checks import choice, integer, pair
from ..typing import (
    Activation,
    ConvTranspose2dOptions,
    ExplicitPadding,
    FloatArray,
    FloatDType,
    Initializer,
    Int,
    Layout,
    Pair,
    Rng,
)
from .weighted import WeightedLayer

__all__ = ["Conv2DTranspose"]


class Conv2DTranspose(WeightedLayer):
    """The gradient of `Conv2D` by its input, as a layer: output sizes are (H - 1) stride - padding + kernel.

    Parameters
    ----------
    in_channels, out_channels : int, both divisible by groups
    kernel_size, stride, dilation : int or (int, int)
    padding : int, (int, int) or ((top, bottom), (left, right)): that of the convolution transposed, so the result is
        smaller by it
    output_padding : int or (int, int), rows and columns added after; smaller than stride or dilation
    groups : int
    bias : bool
    activation : None, a name ("relu", ...) or (name, parameter)
    layout : "NCHW" or "NHWC"
    initializer : function of `convgrad.initializers`, called with (out_channels, in_channels / groups, rows, columns)
        as for a convolution, with which the bias starts at zero; None starts both as PyTorch does
    rng : numpy.random.Generator, int seed or None
    dtype : float32 or float64, of the parameters; inputs must have the same

    Attributes
    ----------
    weight : Parameter (in_channels, out_channels / groups, rows, columns)
    bias : Parameter (out_channels,), or None

    Source: Dumoulin, Visin (2016), arXiv 1603.07285, chapter 4; notes, eq. 21.
    """

    def __init__(
        self,
        in_channels: Int,
        out_channels: Int,
        kernel_size: Pair,
        *,
        stride: Pair = 1,
        padding: ExplicitPadding = 0,
        output_padding: Pair = 0,
        dilation: Pair = 1,
        groups: Int = 1,
        bias: bool = True,
        activation: Activation | None = None,
        layout: Layout = "NCHW",
        initializer: Initializer | None = None,
        rng: Rng = None,
        dtype: FloatDType = "float32",
    ) -> None:
        name = "Conv2DTranspose"
        self.in_channels = integer(name, "in_channels", in_channels, 1)
        self.out_channels = integer(name, "out_channels", out_channels, 1)
        self.groups = integer(name, "groups", groups, 1)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"{name}: groups={groups} must divide in_channels={in_channels}, out_channels={out_channels}"
            )
        self.kernel_size = pair(name, "kernel_size", kernel_size, 1)
        self.stride = pair(name, "stride", stride, 1)
        self.dilation = pair(name, "dilation", dilation, 1)
        self.output_padding = pair(name, "output_padding", output_padding, 0)
        self.padding = padding
        self.layout = choice(name, "layout", layout, ("NCHW", "NHWC"))
        shape = (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        super().__init__(shape, bias=bias, activation=activation, initializer=initializer, rng=rng, dtype=dtype)

    def _start(
        self,
        weight_shape: tuple[int, ...],
        bias: bool,
        initializer: Initializer | None,
        rng: np.random.Generator,
        dtype: FloatDType,
    ) -> tuple[FloatArray, FloatArray | None]:
        if initializer is None:
            weight, _ = super()._start(weight_shape, False, None, rng, dtype)
            bound = 1 / math.sqrt(math.prod(weight_shape[1:]))
            return weight, rng.uniform(-bound, bound, self.out_channels).astype(dtype) if bias else None
        groups, window = self.groups, self.kernel_size
        inputs, outputs = self.in_channels // groups, self.out_channels // groups
        weight = initializer((self.out_channels, inputs, *window), rng=rng, dtype=dtype)
        weight = weight.reshape(groups, outputs, inputs, *window).swapaxes(1, 2).reshape(weight_shape)
        return np.ascontiguousarray(weight), np.zeros(self.out_channels, dtype) if bias else None

    def _affine(self, x: FloatArray, activation: Activation | None) -> FloatArray:
        return functional.conv_transpose2d(
            x, self.weight.data, self._bias_data(), activation=activation, **self._geometry()
        )

    def _affine_backward(
        self, grad_output: FloatArray, x: FloatArray, input_grad: bool, bias_grad: bool
    ) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
        return functional.conv_transpose2d_backward(
            grad_output, x, self.weight.data, input_grad=input_grad, bias=bias_grad, **self._geometry()
        )

    def _activation_backward_bias(
        self, activation: Activation, grad_output: FloatArray
    ) -> tuple[FloatArray, FloatArray | None]:
        return functional.activation_backward_bias(activation, grad_output, self._kept, layout=self.layout)

    def _geometry(self) -> ConvTranspose2dOptions:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "output_padding": self.output_padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "layout": self.layout,
        }

    def __repr__(self) -> str:
        defaults = {"stride": (1, 1), "output_padding": (0, 0), "dilation": (1, 1), "groups": 1, "layout": "NCHW"}
        options = "".join(f", {k}={v!r}" for k, v in self._geometry().items() if v != defaults.get(k, 0))
        return f"Conv2DTranspose({self.in_channels}, {self.out_channels}, {self.kernel_size}{options}{self._tail()})"
