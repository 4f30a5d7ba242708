"""The operators that change shapes, move data or make it: NumPy computes all of them.

Source: the operator documentation of ONNX (onnx/docs/Operators.md and Changelog.md), operator sets 6 to current.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from . import resize
from .graph import ModelError, check_size, element_type
from .operators import axes_of, int64, ints, is_number, operator, stored

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


@operator("Shape", dtype=int64)
def _shape(a, x):
    return np.array(x.shape[getattr(a, "start", None) : getattr(a, "end", None)], np.int64)


@operator("Size", dtype=int64)
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
    return padded if out is None else stored(padded, out)


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


def _cast_dtype(a: SimpleNamespace, dtypes: list[Any]) -> Any:
    return element_type(a.to, "Cast")


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
