"""Convolution with shared weights."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np

from .. import functional
from ..backends import get_backend
from ..call_checks import flag
from ..checks import choice, integer, pair
from ..functional.prepack import PackedConv2d
from ..precision import get_precision
from ..shapes import conv_shape
from ..typing import Activation, Conv2dOptions, FloatArray, FloatDType, Initializer, Int, Layout, Padding, Pair, Rng
from .base import Parameter
from .weighted import WeightedLayer

__all__ = ["Conv2D"]

_MAX_PACKS = 4
"""Input shapes for which a layer keeps packed weights at a time."""


class Conv2D(WeightedLayer):
    """2-D convolution (cross-correlation, as everywhere in machine learning) with an optional fused activation.

    In evaluation mode the weights are packed for the kernels once for each size of input, with the same bits as result.

    y_j = g_j f(bias_j + sum over i of weight_ji applied to x_i), the gains g_j only with gain=True

    Parameters
    ----------
    in_channels, out_channels : int, both divisible by groups
    kernel_size : int or (int, int)
    stride, dilation : int or (int, int)
    padding : int, (int, int), ((top, bottom), (left, right)), "valid", "same" or "full"
    groups : int
    bias : bool
    activation : None, a name ("relu", ...) or (name, parameter)
    gain : bool, learn a factor for each feature map, outside the activation, 1 at the start
    layout : "NCHW" or "NHWC", of input and output; the weight's layout is the same for both
    initializer : function of `convgrad.initializers`, with which the bias starts at zero; None starts weight and bias
        uniformly on +-1 / sqrt(fan_in), as PyTorch does
    rng : numpy.random.Generator, int seed or None
    dtype : float32 or float64, of the parameters; inputs must have the same

    Attributes
    ----------
    weight : Parameter (out_channels, in_channels / groups, rows, columns)
    bias, gain : Parameter (out_channels,), or None

    Raises
    ------
    ValueError, TypeError : sizes below 1, channels that groups does not divide, an unknown activation, layout or dtype

    Source: notes, eq. 18 and the g_j beside it.
    """

    def __init__(
        self,
        in_channels: Int,
        out_channels: Int,
        kernel_size: Pair,
        *,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: Int = 1,
        bias: bool = True,
        activation: Activation | None = None,
        gain: bool = False,
        layout: Layout = "NCHW",
        initializer: Initializer | None = None,
        rng: Rng = None,
        dtype: FloatDType = "float32",
    ) -> None:
        self.in_channels = integer("Conv2D", "in_channels", in_channels, 1)
        self.out_channels = integer("Conv2D", "out_channels", out_channels, 1)
        self.groups = integer("Conv2D", "groups", groups, 1)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"Conv2D: groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}"
            )
        self.kernel_size = pair("Conv2D", "kernel_size", kernel_size, 1)
        self.stride = pair("Conv2D", "stride", stride, 1)
        self.dilation = pair("Conv2D", "dilation", dilation, 1)
        self.padding = padding
        self.layout = choice("Conv2D", "layout", layout, ("NCHW", "NHWC"))
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self._check_padding(shape)
        super().__init__(shape, bias=bias, activation=activation, initializer=initializer, rng=rng, dtype=dtype)
        self.gain = Parameter(np.ones(self.out_channels, dtype)) if flag("Conv2D", "gain", gain) else None
        self._packs: dict[tuple[object, ...], tuple[Any, ...]] = {}

    def forward(self, x: FloatArray) -> FloatArray:
        output = super().forward(x)
        if self.gain is None:
            return output
        # A factor for each channel is learned subsampling with windows of one pixel and a bias of zero.
        self._before_gain = output
        none = np.zeros_like(self.gain.data)
        return functional.subsample2d(output, self.gain.data, none, 1, layout=self.layout)

    @overload
    def backward(self, grad_output: FloatArray, *, input_grad: Literal[True] = ...) -> FloatArray: ...
    @overload
    def backward(self, grad_output: FloatArray, *, input_grad: Literal[False]) -> None: ...
    @overload
    def backward(self, grad_output: FloatArray, *, input_grad: bool) -> FloatArray | None: ...
    def backward(self, grad_output: FloatArray, *, input_grad: bool = True) -> FloatArray | None:
        """Store the gradients of weight, bias and gain; return that of the input, or None with `input_grad=False`."""
        if self.gain is not None:
            kept = self._remembered("_before_gain")
            grad_output, self.gain.grad, _ = functional.subsample2d_backward(
                grad_output, kept, self.gain.data, 1, layout=self.layout
            )
        return super().backward(grad_output, input_grad=input_grad)

    def _check_padding(self, weight_shape: tuple[int, ...]) -> None:
        """Let a wrong padding fail here, where it was written, not at the first batch: any input that fits will do."""
        smallest = [(k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True)]
        x_shape = (0, self.in_channels, *smallest) if self.layout == "NCHW" else (0, *smallest, self.in_channels)
        options = (self.stride, self.padding, self.dilation, self.groups, self.layout, "auto")
        conv_shape("Conv2D", "x", 2, x_shape, weight_shape, *options)

    def _unlock(self) -> None:
        super()._unlock()
        self._packs.clear()

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles go without packed weights."""
        return super().__getstate__() | {"_packs": {}}

    def _pack(self, x: FloatArray, activation: Activation | None) -> PackedConv2d[Any] | None:
        """Weights packed for samples like those of x, in evaluation mode; None where x is not what can be convolved."""
        weight, bias = self.weight.data, self._bias_data()
        if self.training or not isinstance(x, np.ndarray) or x.dtype != weight.dtype:
            return None
        how = (x.shape[1:], activation, get_backend(), get_precision(), id(weight), id(bias))
        kept = self._packs.get(how)
        if kept is None:
            if len(self._packs) >= _MAX_PACKS:
                self._packs.clear()
            try:
                packed = functional.prepack_conv2d(
                    weight, bias, input_shape=x.shape, activation=activation, **self._geometry()
                )
            except (ValueError, TypeError):
                return None  # conv2d says what is wrong with x
            kept = self._packs[how] = packed, weight, bias  # which are kept, so that their ids stay theirs
        return kept[0]

    def _affine(self, x: FloatArray, activation: Activation | None) -> FloatArray:
        packed = self._pack(x, activation)
        if packed is not None:
            return packed(x)
        return functional.conv2d(x, self.weight.data, self._bias_data(), activation=activation, **self._geometry())

    def _affine_backward(
        self, grad_output: FloatArray, x: FloatArray, input_grad: bool, bias_grad: bool
    ) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
        return functional.conv2d_backward(
            grad_output, x, self.weight.data, input_grad=input_grad, bias=bias_grad, **self._geometry()
        )

    def _activation_backward_bias(
        self, activation: Activation, grad_output: FloatArray
    ) -> tuple[FloatArray, FloatArray | None]:
        return functional.activation_backward_bias(activation, grad_output, self._kept, layout=self.layout)

    def _geometry(self) -> Conv2dOptions:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "layout": self.layout,
        }

    def __repr__(self) -> str:
        defaults = {"stride": (1, 1), "padding": 0, "dilation": (1, 1), "groups": 1, "layout": "NCHW"}
        options = "".join(f", {name}={v!r}" for name, v in self._geometry().items() if v != defaults[name])
        gain = ", gain=True" if self.gain is not None else ""
        return f"Conv2D({self.in_channels}, {self.out_channels}, {self.kernel_size}{options}{self._tail()}{gain})"
