"""Pooling layers, and the two that change shapes around them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import functional
from ..call_checks import flag
from ..checks import choice, integer
from ..options import exact_padding, per_axis, plain_layout
from ..typing import FloatArray, FloatDType, Int, Layout, Padding, Pair, Shape
from .base import Layer, Parameter

__all__ = ["AvgPool2D", "Flatten", "GlobalAvgPool2D", "GlobalMaxPool2D", "MaxPool2D", "Reshape", "Subsample2D"]


class _Pool(Layer):
    def __init__(self, kernel_size: Pair, options: dict[str, Any]) -> None:
        function = type(self).__name__
        for name, value in [("kernel_size", kernel_size), *options.items()]:
            if name == "padding":
                exact_padding(function, 2, value)
            elif name == "layout":
                plain_layout(function, 2, value)
            elif name in ("ceil_mode", "count_include_pad"):
                flag(function, name, value)
            elif not (name == "stride" and value is None):
                per_axis(function, name, 2, value, 1)
        self.kernel_size = kernel_size
        self._options = options

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kernel_size}, {', '.join(f'{k}={v!r}' for k, v in self._options.items())})"


class MaxPool2D(_Pool):
    """The largest value of every window.

    Parameters
    ----------
    kernel_size, stride, padding, dilation : int or (int, int); stride defaults to kernel_size
    ceil_mode : bool, round the output size up
    layout : "NCHW" or "NHWC"
    """

    def __init__(
        self,
        kernel_size: Pair,
        *,
        stride: Pair | None = None,
        padding: Padding = 0,
        dilation: Pair = 1,
        ceil_mode: bool = False,
        layout: Layout = "NCHW",
    ) -> None:
        options = dict(stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode, layout=layout)
        super().__init__(kernel_size, options)

    def forward(self, x: FloatArray) -> FloatArray:
        output, self._indices = functional.max_pool2d(x, self.kernel_size, return_indices=True, **self._options)
        self._input_shape = x.shape
        return output

    def backward(self, grad_output: FloatArray) -> FloatArray:
        indices = self._remembered("_indices")
        shape = self._input_shape
        return functional.max_pool2d_backward(grad_output, indices, shape, self.kernel_size, **self._options)


class AvgPool2D(_Pool):
    """The mean of every window.

    Parameters
    ----------
    kernel_size, stride, padding : int or (int, int); stride defaults to kernel_size
    ceil_mode : bool, round the output size up
    count_include_pad : bool, divide by the whole window where it covers padding, not by the cells inside the input
    layout : "NCHW" or "NHWC"
    """

    def __init__(
        self,
        kernel_size: Pair,
        *,
        stride: Pair | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        layout: Layout = "NCHW",
    ) -> None:
        options = dict(
            stride=stride, padding=padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad, layout=layout
        )
        super().__init__(kernel_size, options)

    def forward(self, x: FloatArray) -> FloatArray:
        output = functional.avg_pool2d(x, self.kernel_size, **self._options)
        self._input_shape = x.shape
        return output

    def backward(self, grad_output: FloatArray) -> FloatArray:
        input_shape = self._remembered("_input_shape")
        return functional.avg_pool2d_backward(grad_output, input_shape, self.kernel_size, **self._options)


class Subsample2D(_Pool):
    """The mean of every window, with a learned factor and bias for each feature map.

    y_c = weight_c mean(window of x_c) + bias_c; 1 and 0 at the start

    Parameters
    ----------
    channels : int
    kernel_size, stride, padding : int or (int, int); stride defaults to kernel_size
    ceil_mode, count_include_pad : bool, as for `AvgPool2D`
    layout : "NCHW" or "NHWC"
    dtype : float32 or float64, of the parameters; inputs must have the same

    Attributes
    ----------
    weight, bias : Parameter (channels,)

    Source: notes, the section on subsampling; LeCun, Bottou, Bengio, Haffner (1998), section II.B.
    """

    def __init__(
        self,
        channels: Int,
        kernel_size: Pair,
        *,
        stride: Pair | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        layout: Layout = "NCHW",
        dtype: FloatDType = "float32",
    ) -> None:
        options = dict(
            stride=stride, padding=padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad, layout=layout
        )
        super().__init__(kernel_size, options)
        self.channels = integer("Subsample2D", "channels", channels, 1)
        self.weight = Parameter(np.ones(self.channels, dtype))
        self.bias = Parameter(np.zeros(self.channels, dtype))

    def forward(self, x: FloatArray) -> FloatArray:
        self._x = x
        return functional.subsample2d(x, self.weight.data, self.bias.data, self.kernel_size, **self._options)

    def backward(self, grad_output: FloatArray, *, input_grad: bool = True) -> Any:
        """Store the gradients of weight and bias; return that of the input, or None with `input_grad=False`."""
        x = self._remembered("_x")
        grad_x, self.weight.grad, self.bias.grad = functional.subsample2d_backward(
            grad_output, x, self.weight.data, self.kernel_size, **self._options
        )
        return grad_x if input_grad else None

    def __repr__(self) -> str:
        return super().__repr__().replace("(", f"({self.channels}, ", 1)


class GlobalAvgPool2D(Layer):
    """The mean of every feature map, (N, C, 1, 1) or with layout="NHWC" (N, 1, 1, C).

    Source: Lin, Chen, Yan (2014), arXiv 1312.4400, section 3.2.
    """

    def __init__(self, *, layout: Layout = "NCHW") -> None:
        self.layout = choice("GlobalAvgPool2D", "layout", layout, ("NCHW", "NHWC"))

    def forward(self, x: FloatArray) -> FloatArray:
        self._input_shape = x.shape
        return functional.global_avg_pool2d(x, layout=self.layout)

    def backward(self, grad_output: FloatArray) -> FloatArray:
        shape = self._remembered("_input_shape")
        return functional.global_avg_pool2d_backward(grad_output, shape, layout=self.layout)

    def __repr__(self) -> str:
        return f"GlobalAvgPool2D(layout={self.layout!r})"


class GlobalMaxPool2D(Layer):
    """The largest value of every feature map, (N, C, 1, 1) or with layout="NHWC" (N, 1, 1, C)."""

    def __init__(self, *, layout: Layout = "NCHW") -> None:
        self.layout = choice("GlobalMaxPool2D", "layout", layout, ("NCHW", "NHWC"))

    def forward(self, x: FloatArray) -> FloatArray:
        self._input_shape = x.shape
        output, self._indices = functional.global_max_pool2d(x, return_indices=True, layout=self.layout)
        return output

    def backward(self, grad_output: FloatArray) -> FloatArray:
        indices, shape = self._remembered("_indices"), self._input_shape
        return functional.global_max_pool2d_backward(grad_output, indices, shape, layout=self.layout)

    def __repr__(self) -> str:
        return f"GlobalMaxPool2D(layout={self.layout!r})"


class Reshape(Layer):
    """(N, ...) to (N, *shape), in C order: from a `Dense` layer's features to feature maps.

    Parameters
    ----------
    shape : tuple of int, each at least 1, of one sample
    """

    def __init__(self, shape: Shape) -> None:
        if not isinstance(shape, (tuple, list)):
            raise TypeError(f"Reshape: shape must be a tuple of integers, got {type(shape).__name__}")
        self.shape = tuple(integer("Reshape", "shape", length, 1) for length in shape)

    def forward(self, x: FloatArray) -> FloatArray:
        if x.ndim < 1 or math.prod(x.shape[1:]) != math.prod(self.shape):
            raise ValueError(
                f"Reshape: a sample of shape {self.shape} has {math.prod(self.shape)} values, got x {x.shape}"
            )
        self._input_shape = x.shape
        return x.reshape(len(x), *self.shape)

    def backward(self, grad_output: FloatArray) -> FloatArray:
        shape = self._remembered("_input_shape")
        if grad_output.shape != (shape[0], *self.shape):
            raise ValueError(f"Reshape: grad_output has shape {grad_output.shape}, expected {(shape[0], *self.shape)}")
        return grad_output.reshape(shape)

    def __repr__(self) -> str:
        return f"Reshape({self.shape})"


class Flatten(Layer):
    """(N, C, H, W), or any (N, ...), to (N, features).

    Features are in NCHW order in both layouts, so that the `Dense` weights behind it are the same (and PyTorch's).

    Parameters
    ----------
    layout : "NCHW" or "NHWC"; with "NHWC" the input must be (N, H, W, C)
    """

    def __init__(self, *, layout: Layout = "NCHW") -> None:
        self.layout = choice("Flatten", "layout", layout, ("NCHW", "NHWC"))

    def forward(self, x: FloatArray) -> FloatArray:
        if x.ndim < 2 or (self.layout == "NHWC" and x.ndim != 4):
            wanted = "(N, H, W, C)" if self.layout == "NHWC" else "at least two axes"
            raise ValueError(f"Flatten: expected x with {wanted} for layout={self.layout!r}, got {x.shape}")
        if self.layout == "NHWC":
            x = x.transpose(0, 3, 1, 2)
        self._unflat_shape = x.shape
        return x.reshape(len(x), math.prod(x.shape[1:]))

    def backward(self, grad_output: FloatArray) -> FloatArray:
        shape = self._remembered("_unflat_shape")
        if grad_output.shape != (shape[0], math.prod(shape[1:])):
            raise ValueError(
                f"Flatten: grad_output has shape {grad_output.shape}, expected {(shape[0], math.prod(shape[1:]))}"
            )
        grad_input = grad_output.reshape(shape)
        return grad_input.transpose(0, 2, 3, 1) if self.layout == "NHWC" else grad_input

    def __repr__(self) -> str:
        return "Flatten()" if self.layout == "NCHW" else f"Flatten(layout={self.layout!r})"
