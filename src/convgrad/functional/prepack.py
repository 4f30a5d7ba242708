"""Convolution with weights packed once, and an account of how a convolution would be computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Generic, Literal, NoReturn

import numpy as np

from .. import backends
from .._native import conv_packed as _native
from .._native import conv_plan, runtime
from .._native.memory import empty
from ..activations import resolve
from ..call_checks import check_vectors, sizes
from ..checks import choice, deliver, float_array, float_arrays, output
from ..precision import get_precision
from ..reference.conv import conv2d as _conv2d_numpy
from ..reference.elementwise_kernels import activation as _activation_numpy
from ..shapes import ConvShape, conv_shape
from ..typing import (
    Activation,
    Algorithm,
    Array,
    Explanation,
    Float,
    FloatArray,
    FloatDType,
    Int,
    Layout,
    Padding,
    Pair,
    Shape,
)

DIRECTIONS = ("forward", "grad_input", "grad_weight")


class PackedConv2d(Generic[Float]):
    """`conv2d` with its own weight and bias, packed for the kernel: ``packed(x, out=None)``. See `prepack_conv2d`."""

    __slots__ = ("_activation", "_bias", "_code", "_dtype", "_options", "_packed", "_parameter", "_shape", "_weight")

    _activation: Activation | None
    _bias: Array[Float] | None
    _code: int  # of the activation, for kernels
    _dtype: np.dtype[Float]
    _options: tuple[Any, ...]  # of `shapes.conv_shape`, in its order
    _packed: Any  # for the native kernels; None where the twin computes
    _parameter: float
    _shape: ConvShape
    _weight: Array[Float]

    def __init__(
        self,
        weight: Array[Float],
        bias: Array[Float] | None,
        input_shape: tuple[int, ...],
        options: tuple[Any, ...],
        activation: Activation | None,
        own: bool = False,  # weight and bias may be kept as they are, or given up once packed
    ) -> None:
        weight, bias = float_arrays("prepack_conv2d", ("bias",), weight=weight, bias=bias)
        shape = conv_shape("prepack_conv2d", "input_shape", 2, input_shape, weight.shape, *options)
        check_vectors("prepack_conv2d", shape.out_channels, "output channel", bias=bias)
        set_ = object.__setattr__
        set_(self, "_activation", tuple(activation) if isinstance(activation, list) else activation)
        # As resolved: the caller's may be lists, which may change.
        options = (shape.stride, shape.padding, shape.dilation, shape.groups, shape.layout, shape.algorithm)
        set_(self, "_options", options)
        set_(self, "_shape", shape)
        set_(self, "_dtype", weight.dtype)
        for name, array in (("_weight", weight), ("_bias", bias)):
            if array is not None:
                # Kernels take a weight of any strides but only a contiguous bias.
                array = array.view() if own and array.flags.c_contiguous | (array.ndim > 1) else array.copy(order="C")
                array.flags.writeable = False
            set_(self, name, array)
        code, parameter = resolve("prepack_conv2d", activation)
        set_(self, "_code", code)
        set_(self, "_parameter", parameter)
        packed = None
        if backends.is_native():
            sample = conv_shape("prepack_conv2d", "input_shape", 2, (1, *shape.input_shape[1:]), weight.shape, *options)
            x, y = empty(sample.input_shape, weight.dtype), empty(sample.output_shape, weight.dtype)
            packed = _native.pack(sample, x, self._weight, y)
            if own and packed.is_whole():  # memory that is never touched is not taken: a stand-in with a shape
                set_(self, "_weight", np.empty(weight.shape, weight.dtype))
        set_(self, "_packed", packed)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"PackedConv2d is immutable: cannot set {name!r}; call prepack_conv2d for other weights")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"PackedConv2d is immutable: cannot delete {name!r}")

    def __repr__(self) -> str:
        return f"PackedConv2d(weight {self._weight.shape} {self._dtype}, x {self._shape.input_shape}, any batch size)"

    @property
    def weight(self) -> Array[Float]:
        """The weight, read-only."""
        return self._weight

    @property
    def bias(self) -> Array[Float] | None:
        """The bias, read-only, or None."""
        return self._bias

    def __call__(
        self, x: Array[Float], out: Array[Float] | None = None, residual: Array[Float] | None = None
    ) -> Array[Float]:
        """Convolve x, of the shape that was packed for in all but the batch size; see `conv2d`.

        `residual`, of the result's shape, is added before the activation: layout "NCHW" only.
        """
        x = float_array("PackedConv2d", "x", x)
        if x.dtype != self._dtype:
            raise TypeError(
                f"PackedConv2d: x is {x.dtype} but the weight was packed as {self._dtype}; pass {self._dtype}"
            )
        if x.ndim != 4 or x.shape[1:] != self._shape.input_shape[1:]:
            raise ValueError(
                f"PackedConv2d: x has shape {x.shape} but the weight was packed for {self._shape.input_shape} with any "
                "batch size; pass such an x or pack again"
            )
        shape = conv_shape("PackedConv2d", "x", 2, x.shape, self._weight.shape, *self._options)
        if residual is not None:
            residual = float_arrays("PackedConv2d", x=x, residual=residual)[1]
            if residual.shape != shape.output_shape or shape.layout != "NCHW":
                raise ValueError(
                    f"PackedConv2d: residual has shape {residual.shape} but the result {shape.output_shape} in layout "
                    f"{shape.layout}; pass one of the result's shape, and only with NCHW"
                )
        target = output("PackedConv2d", out, shape.output_shape, x.dtype, x, self._weight, self._bias, residual)
        if self._packed is None:
            stride, padding, dilation, groups, layout, algorithm = self._options
            _conv2d_numpy(
                x, self._weight, self._bias, stride=stride, padding=padding, dilation=dilation, groups=groups,
                layout=layout, algorithm=algorithm, activation=self._activation if residual is None else None,
                out=target,
            )  # fmt: skip
            if residual is not None:
                np.add(target, residual, out=target)
                _activation_numpy(self._code, self._parameter, target, target)
        else:
            x = np.ascontiguousarray(x)
            residual = None if residual is None else np.ascontiguousarray(residual)
            _native.forward_packed(
                shape, self._packed, x, self._weight, self._bias, self._code, self._parameter, target, residual
            )
        return deliver(target, out)

    def _bound(self, batch: int, activation: Activation | None, shuffle: int = 0) -> Callable[..., object] | None:
        """For `integrations`: run(x, out, residual=None) for one batch size with an activation of its own and without
        checks, on C-contiguous arrays that do not overlap; None where the twin computes. With `shuffle` x's channels
        lie in that many groups and are taken from each in turn; None where no kernel does that."""
        if self._packed is None:
            return None
        code, parameter = resolve("prepack_conv2d", activation)
        shape = conv_shape("prepack_conv2d", "x", 2, (batch, *self._shape.input_shape[1:]), self._weight.shape,
                           *self._options)  # fmt: skip
        if shuffle and not _native.may_shuffle(shape):
            return None
        forward, packed, weight, bias = _native.forward_packed, self._packed, self._weight, self._bias
        return lambda x, out, residual=None: forward(
            shape, packed, x, weight, bias, code, parameter, out, residual, shuffle
        )

    def _adds_in_place(self, batch: int) -> bool:
        """Whether the residual and `out` of `_bound` may be one array."""
        shape = self._shape
        if self._packed is None:
            return False
        x = empty((batch, *shape.input_shape[1:]), self._dtype)
        out = empty((batch, *shape.output_shape[1:]), self._dtype)
        shape = conv_shape("prepack_conv2d", "x", 2, x.shape, self._weight.shape, *self._options)
        return bool(_native.adds_in_place(shape, self._packed, x, self._weight, out))


def prepack_conv2d(
    weight: Array[Float],
    bias: Array[Float] | None = None,
    *,
    input_shape: Shape,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: Int = 1,
    activation: Activation | None = None,
    layout: Layout = "NCHW",
    algorithm: Algorithm = "auto",
) -> PackedConv2d[Float]:
    """Return an immutable callable ``packed(x, out=None)`` that computes `conv2d` with weights packed once.

    Parameters
    ----------
    weight : ndarray (K, C // groups, R, S), float32 or float64; copied
    bias : None or ndarray (K,), dtype of weight; copied
    input_shape : tuple of int, the shape of x as laid out; its batch size may differ from call to call
    stride, padding, dilation, groups, activation, layout, algorithm : as for `conv2d`

    Returns
    -------
    packed : PackedConv2d. It computes with the backend and the precision in force when it was made, and its results
        have the same bits as those of `conv2d`.

    Raises
    ------
    ValueError, TypeError : as `conv2d`
    """
    options = (stride, padding, dilation, groups, layout, algorithm)
    return PackedConv2d(weight, bias, sizes("prepack_conv2d", "input_shape", input_shape), options, activation)


def explain_conv2d(
    x: FloatArray | Shape,
    weight: FloatArray | Shape,
    *,
    dtype: FloatDType | None = None,
    direction: Literal["forward", "grad_input", "grad_weight"] = "forward",
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: Int = 1,
    layout: Layout = "NCHW",
    algorithm: Algorithm = "auto",
) -> Explanation:
    """Say how `conv2d` or one of its gradients would be computed here.

    Parameters
    ----------
    x, weight : arrays, or their shapes as tuples of int
    dtype : None (that of the arrays, float32 where both are shapes), float32 or float64
    direction : "forward", "grad_input" or "grad_weight"
    stride, padding, dilation, groups, layout, algorithm : as for `conv2d`

    Returns
    -------
    dict with
        backend, isa, precision : what is in force
        algorithm : str, with the kind of tile or the size of Winograd's
        reason : str, the rule that chose it
        blocking : str
        scratch_bytes : int, for each thread; shared_bytes : int, buffers that threads share
        threads : int
        flops : int, multiplications and additions of the direct sum
    """
    choice("explain_conv2d", "direction", direction, DIRECTIONS)
    given = {name: value if isinstance(value, np.ndarray) else None for name, value in (("x", x), ("weight", weight))}
    arrays = float_arrays("explain_conv2d", tuple(given), **given)
    x, weight = (value if array is None else array for value, array in zip((x, weight), arrays, strict=True))
    held = next((array.dtype for array in arrays if array is not None), None)
    try:
        dtype = np.dtype((held or np.float32) if dtype is None else dtype)
        known = dtype in (np.float32, np.float64)
    except (TypeError, ValueError, SyntaxError):  # NumPy's, for what is no dtype at all
        known = False
    if not known:
        raise TypeError(f"explain_conv2d: dtype must be float32 or float64, got {dtype}")
    if held is not None and held != dtype:
        raise TypeError(f"explain_conv2d: dtype is {dtype} but the arrays are {held}; leave dtype out")
    x_shape, weight_shape = (
        value.shape
        if isinstance(value, np.ndarray)
        else sizes("explain_conv2d", name, value, "an array or a tuple of integers")
        for name, value in (("x", x), ("weight", weight))
    )
    options = (stride, padding, dilation, groups, layout, algorithm)
    shape = conv_shape("explain_conv2d", "x", 2, x_shape, weight_shape, *options)
    account = Explanation(
        backend=backends.get_backend(),
        isa="numpy",
        precision=get_precision(),
        algorithm="im2col",
        reason="the NumPy backend is in force",
        blocking="none",
        scratch_bytes=0,
        shared_bytes=0,
        threads=1,
        flops=2 * math.prod(shape.weight_shape) * shape.batch * shape.out_height * shape.out_width,
    )
    if not backends.is_native():
        return account
    account["isa"] = runtime.isa()
    if not shape.batch:
        account["algorithm"], account["reason"] = "none", "the batch is empty"
        return account
    # Never read or written: memory that is not touched is not taken.
    x, weight = np.empty(shape.input_shape, dtype), np.empty(shape.weight_shape, dtype)
    y = np.empty(shape.output_shape, dtype)
    source, target = (y, x) if direction == "grad_input" else (x, y)
    account.update(_native.explain(shape, DIRECTIONS.index(direction), source, weight, target))
    account["reason"] = conv_plan.reason(
        shape, dtype == np.float32, DIRECTIONS.index(direction), get_precision() == "strict"
    )
    return account
