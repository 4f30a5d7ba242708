"""Batch and layer normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional
from ..checks import choice, integer
from ..norm_calls import epsilon, fraction
from ..typing import FloatArray, FloatDType, Int, Layout, Shape
from .base import Buffer, Layer, Parameter

__all__ = ["BatchNorm", "LayerNorm"]


class BatchNorm(Layer):
    """Every channel to mean 0 and variance 1 over the batch while training, by running statistics afterwards.

    y = (x - mean) / sqrt(var + eps) * weight + bias, for x (N, C), (N, C, W) or (N, C, H, W)

    Parameters
    ----------
    features : int, the number of channels C
    momentum : float in [0, 1], the share of each batch in the running statistics
    eps : float, at least 0
    affine : bool, learn weight and bias, 1 and 0 at the start
    layout : "NCHW" (channels on axis 1) or "NHWC" (channels last)
    dtype : float32 or float64, of the parameters; inputs must have the same

    Attributes
    ----------
    weight, bias : Parameter (features,), or None
    running_mean, running_var : Buffer (features,)
    num_batches_tracked : Buffer (), int64

    Source: Ioffe, Szegedy (2015), arXiv 1502.03167, Algorithms 1 and 2.
    """

    def __init__(
        self,
        features: Int,
        *,
        momentum: float = 0.1,
        eps: float = 1e-5,
        affine: bool = True,
        layout: Layout = "NCHW",
        dtype: FloatDType = "float32",
    ) -> None:
        self.features = integer("BatchNorm", "features", features, 1)
        self.momentum, self.eps = fraction("BatchNorm", momentum), epsilon("BatchNorm", eps)
        self.layout = choice("BatchNorm", "layout", layout, ("NCHW", "NHWC"))
        self.weight, self.bias = _affine("BatchNorm", (self.features,), affine, dtype)
        self.running_mean = Buffer(np.zeros(self.features, dtype))
        self.running_var = Buffer(np.ones(self.features, dtype))
        self.num_batches_tracked = Buffer(np.zeros((), np.int64))

    def forward(self, x: FloatArray) -> FloatArray:
        mean, var = self.running_mean.data, self.running_var.data
        output, *saved, new_mean, new_var = functional.batch_norm(
            x,
            *_data(self),
            mean,
            var,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
            layout=self.layout,
        )
        self._kept = (x, saved, self.training)
        if self.training:
            mean[...], var[...] = new_mean, new_var
            self.num_batches_tracked.data += 1
        return output

    def backward(self, grad_output: FloatArray, *, input_grad: bool = True) -> Any:
        """Store the gradients of weight and bias; return that of the input, or None with `input_grad=False`."""
        x, saved, training = self._remembered("_kept")
        grads = functional.batch_norm_backward(
            grad_output, x, _data(self)[0], *saved, training=training, layout=self.layout
        )
        return _store(self, grads, input_grad)

    def __repr__(self) -> str:
        return f"BatchNorm({self.features}{_options(self, ('momentum', 0.1), ('eps', 1e-5), ('layout', 'NCHW'))})"


class LayerNorm(Layer):
    """Every sample to mean 0 and variance 1 over its last axes.

    y = (x - mean) / sqrt(var + eps) * weight + bias, for x (..., *shape)

    Parameters
    ----------
    shape : int or tuple of int, the last axes of x
    eps : float, at least 0
    affine : bool, learn weight and bias, 1 and 0 at the start
    dtype : float32 or float64, of the parameters; inputs must have the same

    Attributes
    ----------
    weight, bias : Parameter of shape `shape`; without affine they are None and shape must be one axis

    Source: Ba, Kiros, Hinton (2016), arXiv 1607.06450, eq. 4.
    """

    def __init__(
        self, shape: Int | Shape, *, eps: float = 1e-5, affine: bool = True, dtype: FloatDType = "float32"
    ) -> None:
        axes = shape if isinstance(shape, (tuple, list)) else (shape,)
        self.shape = tuple(integer("LayerNorm", "shape", length, 1) for length in axes)
        if not self.shape or (len(self.shape) > 1 and not affine):
            raise ValueError(f"LayerNorm: shape must name one or more axes, one without affine; got {shape!r}")
        self.eps = epsilon("LayerNorm", eps)
        self.weight, self.bias = _affine("LayerNorm", self.shape, affine, dtype)

    def forward(self, x: FloatArray) -> FloatArray:
        if x.shape[-len(self.shape) :] != self.shape:
            raise ValueError(f"LayerNorm: the last axes of x must be {self.shape}, got x {x.shape}")
        output, *saved = functional.layer_norm(x, *_data(self), eps=self.eps)
        self._kept = (x, saved)
        return output

    def backward(self, grad_output: FloatArray, *, input_grad: bool = True) -> Any:
        """Store the gradients of weight and bias; return that of the input, or None with `input_grad=False`."""
        x, saved = self._remembered("_kept")
        return _store(self, functional.layer_norm_backward(grad_output, x, _data(self)[0], *saved), input_grad)

    def __repr__(self) -> str:
        return f"LayerNorm({self.shape}{_options(self, ('eps', 1e-5))})"


def _affine(
    function: str, shape: tuple[int, ...], affine: bool, dtype: FloatDType
) -> tuple[Parameter | None, Parameter | None]:
    if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"{function}: dtype must be float32 or float64, got {np.dtype(dtype)}")
    return (Parameter(np.ones(shape, dtype)), Parameter(np.zeros(shape, dtype))) if affine else (None, None)


def _data(layer: BatchNorm | LayerNorm) -> tuple[FloatArray | None, FloatArray | None]:
    if layer.weight is None or layer.bias is None:
        return None, None
    return layer.weight.data, layer.bias.data


def _store(layer: BatchNorm | LayerNorm, grads: tuple[FloatArray, ...], input_grad: bool) -> FloatArray | None:
    if layer.weight is not None and layer.bias is not None:
        layer.weight.grad, layer.bias.grad = grads[1:]
    return grads[0] if input_grad else None


def _options(layer: BatchNorm | LayerNorm, *defaults: tuple[str, Any]) -> str:
    """The end of the description: what is not at its default."""
    text = "".join(f", {name}={getattr(layer, name)!r}" for name, value in defaults if getattr(layer, name) != value)
    return text + ("" if layer.weight is not None else ", affine=False")
