"""The table of operators, and arithmetic and reductions, which NumPy computes.

An operator is a function ``run(a, *inputs, out=None)`` of the node's attributes and its arrays (None for an optional
input that is left out) that returns an array, or a tuple of them. See `Operator` for what the table says about each.

Source: the operator documentation of ONNX (onnx/docs/Operators.md and Changelog.md), operator sets 6 to current.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..._native.memory import empty
from .graph import ModelError, Node

Run = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Operator:
    """What planning needs to know about an operator."""

    run: Run
    shaping: tuple[int, ...] = ()  # inputs whose numbers, not only their shapes, decide the shapes of the results
    out: bool = False  # takes out=
    in_place: bool = False  # `out` may be an input of the same shape and dtype
    floats: bool = False  # its first input must be float32 or float64
    dtype: Callable[[SimpleNamespace, list[Any]], Any] | None = None  # of the first result; None: that of input 0
    problem: Callable[[SimpleNamespace, list[Any]], str | None] | None = None  # what of attributes or inputs it lacks


TABLE: dict[str, Operator] = {}


def operator(*names: str, **facts: Any) -> Callable[[Run], Run]:
    """Enter a function into the table under `names`."""

    def enter(run: Run) -> Run:
        TABLE.update((name, Operator(run, **facts)) for name in names)
        return run

    return enter


def _bool(a: SimpleNamespace, dtypes: list[Any]) -> Any:
    return np.dtype(bool)


def int64(a: SimpleNamespace, dtypes: list[Any]) -> Any:
    return np.dtype(np.int64)


def ints(values: Any) -> list[int]:
    """Sizes, axes and the like, from an array or an attribute."""
    return [int(value) for value in np.ravel(values)]


def axes_of(a: SimpleNamespace, given: Any, ndim: int) -> tuple[int, ...] | None:
    """Axes from the input that newer operator sets have or the attribute of older ones, counted from the front."""
    values = getattr(a, "axes", None) if given is None else given
    if values is None:
        return None
    axes = tuple(axis + ndim if axis < 0 else axis for axis in ints(values))
    if any(not 0 <= axis < ndim for axis in axes) or len(set(axes)) < len(axes):
        raise ModelError(f"axes {ints(values)} do not fit an array of {ndim} axes")
    return axes


# ---------------------------------------------------------------- arithmetic

_UNARY = {
    "Abs": np.absolute, "Neg": np.negative, "Floor": np.floor, "Ceil": np.ceil, "Round": np.rint, "Sign": np.sign,
    "Sqrt": np.sqrt, "Exp": np.exp, "Log": np.log, "Reciprocal": np.reciprocal, "Not": np.logical_not,
    "Sin": np.sin, "Cos": np.cos, "Tan": np.tan, "Asin": np.arcsin, "Acos": np.arccos, "Atan": np.arctan,
    "Sinh": np.sinh, "Cosh": np.cosh, "Asinh": np.arcsinh, "Acosh": np.arccosh, "Atanh": np.arctanh,
}  # fmt: skip
_BINARY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}  # and Div, Pow, which differ for integers
_LOGICAL = {
    "Equal": np.equal, "Less": np.less, "LessOrEqual": np.less_equal, "Greater": np.greater, "IsNaN": np.isnan,
    "GreaterOrEqual": np.greater_equal, "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
}  # fmt: skip


def _ufunc(function: np.ufunc) -> Run:
    return lambda a, *inputs, out=None: function(*inputs, out=out)


for _name, _function in {**_UNARY, **_BINARY}.items():
    operator(_name, out=True, in_place=True)(_ufunc(_function))
for _name, _function in _LOGICAL.items():
    operator(_name, out=True, dtype=_bool)(_ufunc(_function))


@operator("Sum", "Min", "Max", out=True)
def _variadic(a, *inputs, out=None):
    function = {"Sum": np.add, "Min": np.minimum, "Max": np.maximum}[a.op]
    if len(inputs) == 1:
        return inputs[0] if out is None else np.positive(inputs[0], out=out)
    result = function(inputs[0], inputs[1], out=out if len(inputs) == 2 else None)
    return reduce(lambda x, y: function(x, y, out=out), inputs[2:], result) if len(inputs) > 2 else result


@operator("Mean")
def _mean(a, *inputs):
    return (reduce(np.add, inputs) / len(inputs)).astype(inputs[0].dtype, copy=False)


@operator("Div", out=True, in_place=True)
def _divide(a, x, y, out=None):
    if x.dtype.kind == "f":
        return np.divide(x, y, out=out)
    quotient = np.floor_divide(x, y)
    return np.add(quotient, (quotient < 0) & (quotient * y != x), out=out, casting="unsafe")  # towards zero


@operator("Pow", out=True)
def _power(a, x, y, out=None):
    return np.power(x, y, out=out, casting="unsafe").astype(x.dtype, copy=False)


@operator("Mod")
def _modulo(a, x, y):
    return np.fmod(x, y) if a.fmod else np.mod(x, y)


@operator("Clip", out=True, in_place=True)
def _clip(a, x, low=None, high=None, out=None):
    low, high = getattr(a, "min", low), getattr(a, "max", high)  # attributes until operator set 10
    if low is not None:
        x = np.maximum(x, x.dtype.type(low), out=out)
    if high is not None:
        x = np.minimum(x, x.dtype.type(high), out=out)
    return x if out is None else stored(x, out)


def stored(x, out):
    """`out`, holding x."""
    if x is not out:
        np.copyto(out, x)
    return out


@operator("Where", out=True, dtype=lambda a, dtypes: dtypes[1])
def _where(a, condition, x, y, out=None):
    if out is None:
        return np.where(condition, x, y)
    np.copyto(out, y)
    np.copyto(out, x, where=condition)
    return out


# ---------------------------------------------------------------- sums over channels

_CACHED = 1 << 18  # bytes


@operator("LRN", out=True, floats=True)
def _lrn(a, x, out=None):
    """y = x / (bias + alpha / size * sum of squares of `size` channels around)^beta"""
    if x.ndim < 2:
        raise ModelError(f"axes of samples and channels are needed, got shape {x.shape}")
    out = empty(x.shape, x.dtype) if out is None else out
    if not x.size:
        return out
    n, c = x.shape[:2]
    pixels, results = x.reshape(n, c, -1), out.reshape(n, c, -1)
    step = max(16, _CACHED // (c * x.itemsize))  # columns whose sums stay in cache from pass to pass
    buffers = np.empty((2, c, min(step, pixels.shape[2])), x.dtype)
    for sample, result in zip(pixels, results, strict=True):
        for start in range(0, sample.shape[1], step):
            part = sample[:, start : start + step]
            _lrn_part(a, part, result[:, start : start + step], *buffers[:, :, : part.shape[1]])
    return out


def _lrn_part(a, x, y, squares, total):
    np.square(x, out=squares)
    squares *= x.dtype.type(a.alpha / a.size)
    np.add(squares, x.dtype.type(a.bias), out=total)
    for shift in range(1, min(a.size // 2, len(x) - 1) + 1):
        if shift <= (a.size - 1) // 2:
            total[shift:] += squares[:-shift]
        total[:-shift] += squares[shift:]
    if a.beta == 0.75:  # two square roots for a power
        root = np.sqrt(total, out=total)
        total = np.multiply(root, np.sqrt(root, out=squares), out=squares)
    elif a.beta != 1:
        np.power(total, x.dtype.type(a.beta), out=total)
    np.divide(x, total, out=y)


# ---------------------------------------------------------------- reductions


def _reduction(function: Callable[..., Any]) -> Run:
    def run(a, x, given=None):
        axes = axes_of(a, given, x.ndim)
        if not axes:
            if getattr(a, "noop_with_empty_axes", 0):
                axes = ()
            else:
                axes = None
        return np.asarray(function(x, axes, bool(a.keepdims))).astype(x.dtype, copy=False)

    return run


def _log_sum_exp(x, axes, keep):
    top = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    top[~np.isfinite(top)] = 0
    return np.log(np.sum(np.exp(x - top), axis=axes, keepdims=keep)) + (top if keep else top.reshape(
        np.sum(x, axis=axes, keepdims=keep).shape))  # fmt: skip


def _extreme(function, largest):
    """Max or min, which of nothing are the infinities, or the ends of the integers."""

    def run(x, axes, keep):
        if x.size:
            return function(x, axis=axes, keepdims=keep)
        if x.dtype.kind == "b":
            initial = not largest
        elif x.dtype.kind in "iu":
            initial = np.iinfo(x.dtype).min if largest else np.iinfo(x.dtype).max
        else:
            initial = -np.inf if largest else np.inf
        return function(x, axis=axes, keepdims=keep, initial=initial)

    return run


for _name, _function in {
    "Sum": lambda x, axes, keep: np.sum(x, axis=axes, keepdims=keep),
    "Mean": lambda x, axes, keep: np.mean(x, axis=axes, keepdims=keep),
    "Max": _extreme(np.max, True),
    "Min": _extreme(np.min, False),
    "Prod": lambda x, axes, keep: np.prod(x, axis=axes, keepdims=keep),
    "L1": lambda x, axes, keep: np.sum(np.abs(x), axis=axes, keepdims=keep),
    "L2": lambda x, axes, keep: np.sqrt(np.sum(np.square(x), axis=axes, keepdims=keep)),
    "SumSquare": lambda x, axes, keep: np.sum(np.square(x), axis=axes, keepdims=keep),
    "LogSum": lambda x, axes, keep: np.log(np.sum(x, axis=axes, keepdims=keep)),
    "LogSumExp": _log_sum_exp,
}.items():
    operator(f"Reduce{_name}", shaping=(1,))(_reduction(_function))


@operator("ArgMax", "ArgMin", dtype=int64)
def _arg_extreme(a, x):
    function = np.argmax if a.op == "ArgMax" else np.argmin
    if getattr(a, "select_last_index", 0):
        axis = a.axis % x.ndim
        found = x.shape[axis] - 1 - function(np.flip(x, axis), axis=axis, keepdims=True)
    else:
        found = function(x, axis=a.axis, keepdims=True)
    return (found if a.keepdims else np.squeeze(found, a.axis)).astype(np.int64, copy=False)


def is_number(dtype: np.dtype[Any]) -> bool:
    """Whether NumPy itself computes with the dtype: not strings, nor the types of 8 bits and less."""
    return dtype.isbuiltin == 1 and dtype.kind in "fiub"


def node_problem(node: Node, dtypes: list[Any]) -> str | None:
    """What this backend lacks for `node`, whose inputs have `dtypes` (None where not known), or None."""
    entry = TABLE.get(node.op)
    if entry is None:
        return "this operator"
    if entry.floats and dtypes[0] not in (None, np.float32, np.float64):
        return f"{dtypes[0]} (float32 and float64 are what the kernels compute)"
    foreign = sorted({str(dtype) for dtype in dtypes if dtype is not None and not is_number(dtype)})
    if foreign and node.op not in ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Shape"):
        return ", ".join(foreign)
    if node.a.version < 7 and (
        not getattr(node.a, "is_test", 1) or (node.op in (*_BINARY, "Div", "Pow") and node.a.axis is not None)
    ):
        return "training, or broadcasting from an axis on, as operator set 6 has it,"
    return entry.problem(node.a, dtypes) if entry.problem else None
