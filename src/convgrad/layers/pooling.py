"""Pooling layers, and `Flatten`, which follows them."""

from __future__ import annotations

import math
from typing import Any

from .. import functional
from ..checks import choice
from ..typing import FloatArray, Layout, Padding, Pair
from .base import Layer

__all__ = ["AvgPool2D", "Flatten", "MaxPool2D"]


class _Pool(Layer):
    def __init__(self, kernel_size: Pair, options: dict[str, Any]) -> None:
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
