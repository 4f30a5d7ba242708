"""The table of operators, and those that NumPy computes: arithmetic, reductions and whatever only moves data.

An operator is a function ``run(a, *inputs, out=None)`` of the node's attributes and its arrays (None for an optional
input that is left out) that returns an array, or a tuple of them. See `Operator` for what the table says about each.

Source: the operator documentation of ONNX (onnx/docs/Operators.md and Changelog.md), operator sets 7 to current.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from types import SimpleNamespace
from typing import Any

import numpy as np
from onnx import helper

from . import resize
from .graph import ModelError, Node, check_size

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


def _int64(a: SimpleNamespace, dtypes: list[Any]) -> Any:
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
    return x if out is None else _stored(x, out)


def _stored(x, out):
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


@operator("ArgMax", "ArgMin", dtype=_int64)
def _arg_extreme(a, x):
    function = np.argmax if a.op == "ArgMax" else np.argmin
    if getattr(a, "select_last_index", 0):
        axis = a.axis % x.ndim
        found = x.shape[axis] - 1 - function(np.flip(x, axis), axis=axis, keepdims=True)
    else:
        found = function(x, axis=a.axis, keepdims=True)
    return (found if a.keepdims else np.squeeze(found, a.axis)).astype(np.int64, copy=False)


# ---------------------------------------------------------------- shapes


@operator("Identity")
def _identity(a, x):
    return x


@operator("Reshape", shaping=(1,), out=True)
def _reshape(a, x, shape, out=None):
    wanted = ints(shape)
    if not getattr(a, "allowzero", 0):
        wanted = [x.shape[i] if size == 0 and i < x.ndim else size for i, size in enumerate(wanted)]
    if any(size < -1 for size in wanted) or wanted.count(-1) > 1:
        raise ModelError(f"shape {ints(shape)} is not one: sizes are at least 0, and -1 stands once")
    if -1 in wanted and 0 in wanted:
        raise ModelError(f"shape {ints(shape)} cannot be told from {x.shape}: it has both 0 and -1")
    return reshaped(x, tuple(wanted), out)


def reshaped(x, shape, out=None):
    """x in another shape: a view where strides allow one and no `out` is given."""
    if out is None:
        return x.reshape(shape)
    np.copyto(out.reshape(x.shape), x)
    return out


@operator("Flatten", out=True)
def _flatten(a, x, out=None):
    axis = a.axis + x.ndim if a.axis < 0 else a.axis
    return reshaped(x, (int(np.prod(x.shape[:axis], dtype=np.int64)), -1 if x.size else
                        int(np.prod(x.shape[axis:], dtype=np.int64))), out)  # fmt: skip


@operator("Squeeze", shaping=(1,), out=True)
def _squeeze(a, x, given=None, out=None):
    axes = axes_of(a, given, x.ndim)
    if axes is None:
        axes = tuple(axis for axis in range(x.ndim) if x.shape[axis] == 1)
    if any(x.shape[axis] != 1 for axis in axes):
        raise ModelError(f"axes {axes} of shape {x.shape} are not all of size 1")
    return reshaped(x, tuple(size for axis, size in enumerate(x.shape) if axis not in axes), out)


@operator("Unsqueeze", shaping=(1,), out=True)
def _unsqueeze(a, x, given=None, out=None):
    axes = axes_of(a, given, x.ndim + len(np.ravel(a.axes if given is None else given)))
    sizes = iter(x.shape)
    return reshaped(x, tuple(1 if axis in axes else next(sizes) for axis in range(x.ndim + len(axes))), out)


@operator("Transpose")
def _transpose(a, x):
    return x.transpose(a.perm)


@operator("Expand", shaping=(1,))
def _expand(a, x, shape):
    wanted = np.broadcast_shapes(x.shape, tuple(ints(shape)))
    check_size("result", wanted, x.dtype)
    return np.broadcast_to(x, wanted)


@operator("Shape", dtype=_int64)
def _shape(a, x):
    return np.array(x.shape[getattr(a, "start", None) : getattr(a, "end", None)], np.int64)


@operator("Size", dtype=_int64)
def _size(a, x):
    return np.array(x.size, np.int64)


# ---------------------------------------------------------------- moving data


@operator("Concat", out=True)
def _concat(a, *inputs, out=None):
    if out is None:
        return np.concatenate(inputs, axis=a.axis)
    axis, start = a.axis % out.ndim, 0
    for x in inputs:  # what lies in its place already is left alone: see `program`
        part = out[(slice(None),) * axis + (slice(start, start + x.shape[axis]),)]
        start += x.shape[axis]
        if part.__array_interface__["data"][0] != x.__array_interface__["data"][0]:
            part[...] = x
    return out


@operator("Split", shaping=(1,))
def _split(a, x, given=None):
    sizes = getattr(a, "split", None) if given is None else ints(given)
    length = x.shape[a.axis]
    if sizes is None:
        parts = getattr(a, "num_outputs", None) or a.outputs
        each = -(-length // parts)
        sizes = [max(0, min(each, length - i * each)) for i in range(parts)]
    if sum(sizes) != length or min(sizes) < 0 or len(sizes) != a.outputs:
        raise ModelError(f"split {list(sizes)} does not cut {length} into {a.outputs} parts")
    return tuple(np.split(x, np.cumsum(sizes[:-1]), axis=a.axis))


@operator("Slice", shaping=(1, 2, 3, 4))
def _slice(a, x, starts=None, ends=None, axes=None, steps=None):
    starts, ends = (getattr(a, "starts", starts), getattr(a, "ends", ends))  # attributes until operator set 9
    chosen = axes_of(a, axes, x.ndim) or tuple(range(len(np.ravel(starts))))
    steps = ints(steps) if steps is not None else [1] * len(chosen)
    index = [slice(None)] * x.ndim
    for axis, start, end, step in zip(chosen, ints(starts), ints(ends), steps, strict=True):
        if not step:
            raise ModelError("a step of 0")
        if step < 0:  # Python's -1 is the last, ONNX's after adding the size once is before the first
            size = x.shape[axis]
            start, end = (value + size if value < 0 else value for value in (start, end))
            start = min(start, size - 1)
            index[axis] = slice(0, 0) if start < 0 else slice(start, None if end < 0 else end, step)
        else:
            index[axis] = slice(start, end, step)
    return x[tuple(index)]


@operator(
    "Pad", shaping=(1, 3), out=True,
    problem=lambda a, _: None if a.mode in ("constant", "reflect", "edge", "wrap") else f"mode {a.mode!r}",
)  # fmt: skip
def _pad(a, x, pads=None, value=None, axes=None, out=None):
    pads = ints(a.pads if pads is None else pads)  # attributes until operator set 10
    chosen = axes_of(a, axes, x.ndim) or tuple(range(x.ndim))
    if len(pads) != 2 * len(chosen):
        raise ModelError(f"{len(pads)} pads for {len(chosen)} axes; two for each are needed")
    widths = [(0, 0)] * x.ndim
    for axis, before, after in zip(chosen, pads, pads[len(chosen) :], strict=False):
        widths[axis] = (before, after)
    shape = tuple(size + before + after for size, (before, after) in zip(x.shape, widths, strict=True))
    check_size("result", shape, x.dtype)
    x = x[tuple(slice(max(0, -before), size - max(0, -after)) for size, (before, after) in
                zip(x.shape, widths, strict=True))]  # fmt: skip
    widths = [(max(0, before), max(0, after)) for before, after in widths]
    fill = getattr(a, "value", 0.0) if value is None else np.ravel(value)[0]
    if out is not None and a.mode == "constant":
        out.fill(fill)
        out[tuple(slice(before, before + size) for size, (before, _) in zip(x.shape, widths, strict=True))] = x
        return out
    options = {"constant_values": fill} if a.mode == "constant" else {}
    padded = np.pad(x, widths, mode=a.mode, **options)
    return padded if out is None else _stored(padded, out)


@operator("Gather", out=True)
def _gather(a, x, indices, out=None):
    length = x.shape[a.axis]
    if indices.size and not (-length <= indices.min() and indices.max() < length):
        raise ModelError(f"indices from {indices.min()} to {indices.max()} for {length} entries of axis {a.axis}")
    return np.take(x, indices, axis=a.axis, out=out, mode="raise" if out is None else "wrap")


@operator("Tile", shaping=(1,))
def _tile(a, x, repeats):
    times = ints(repeats)
    if len(times) != x.ndim or any(n < 0 for n in times):
        raise ModelError(f"repeats {times} do not fit shape {x.shape}")
    check_size("result", tuple(size * n for size, n in zip(x.shape, times, strict=True)), x.dtype)
    return np.tile(x, times)


@operator("DepthToSpace", "SpaceToDepth", out=True)
def _blocks(a, x, out=None):
    b = a.blocksize
    n, c, h, w = x.shape
    if b < 1 or (c % (b * b) if a.op == "DepthToSpace" else h % b or w % b):
        raise ModelError(f"blocks of {b} do not divide shape {x.shape}")
    if a.op == "SpaceToDepth":
        order = (0, 3, 5, 1, 2, 4) if getattr(a, "mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
        moved = x.reshape(n, c, h // b, b, w // b, b).transpose(order)
        return reshaped(moved, (n, c * b * b, h // b, w // b), out)
    if getattr(a, "mode", "DCR") == "DCR":
        moved = x.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        moved = x.reshape(n, c // (b * b), b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return reshaped(moved, (n, c // (b * b), h * b, w * b), out)


# ---------------------------------------------------------------- making data


def is_number(dtype: np.dtype[Any]) -> bool:
    """Whether NumPy itself computes with the dtype: not strings, nor the types of 8 bits and less."""
    return dtype.isbuiltin == 1 and dtype.kind in "fiub"


def _cast_dtype(a: SimpleNamespace, dtypes: list[Any]) -> Any:
    return np.dtype(helper.tensor_dtype_to_np_dtype(a.to))


def _cast_problem(a: SimpleNamespace, dtypes: list[Any]) -> str | None:
    pair = [dtypes[0], _cast_dtype(a, dtypes)]
    foreign = [str(dtype) for dtype in pair if dtype is not None and not is_number(dtype)]
    return f"from or to {', '.join(foreign)}" if foreign else None


@operator("Cast", dtype=_cast_dtype, problem=_cast_problem)
def _cast(a, x):
    return x.astype(_cast_dtype(a, []))


@operator("CastLike", dtype=lambda a, dtypes: dtypes[1])
def _cast_like(a, x, like):
    return x.astype(like.dtype)


@operator(
    "Constant",
    dtype=lambda a, _: _constant(a).dtype,
    problem=lambda a, _: None if _constant(a) is not None else "a value that is not a tensor of numbers",
)
def _constant(a):
    if getattr(a, "value", None) is not None:
        return a.value
    for name, dtype in (("value_float", "f4"), ("value_floats", "f4"), ("value_int", "i8"), ("value_ints", "i8")):
        if getattr(a, name, None) is not None:
            return np.array(getattr(a, name), dtype)
    return None


@operator(
    "ConstantOfShape", shaping=(0,), dtype=lambda a, _: np.dtype(np.float32) if a.value is None else a.value.dtype
)
def _constant_of_shape(a, shape):
    value = np.zeros(1, np.float32) if a.value is None else a.value
    check_size("result", tuple(ints(shape)), value.dtype)
    return np.full(ints(shape), value.reshape(-1)[0], value.dtype)


@operator("Range", shaping=(0, 1, 2))
def _range(a, start, limit, step):
    start, limit, step = (np.ravel(value)[0] for value in (start, limit, step))
    if not step:
        raise ModelError("a step of 0")
    count = max(0, int(np.ceil((float(limit) - float(start)) / float(step))))
    check_size("result", (count,), start.dtype)
    return (np.arange(count) * step + start).astype(start.dtype)


@operator("Dropout", problem=lambda a, _: "training_mode" if a.training else None)
def _dropout(a, x, ratio=None, training=None):
    return (x, np.ones(x.shape, bool)) if a.outputs > 1 else x


@operator("Resize", "Upsample", shaping=(1, 2, 3))
def _resize(a, x, *inputs):
    return resize.apply(resize.taps(a, x, *inputs), x, getattr(a, "extrapolation_value", 0.0))


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
