"""Steps of a settled run without the checks that the first run made: kernels called with what they need, and no more.

Between two steps a large model has gone through megabytes of weights, so that all the Python on the way to a kernel
comes from far memory: it costs several times what it does in a loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ... import activations
from ..._native import elementwise, pool, rows
from ...backends import is_native
from ...pool_shapes import global_pool_shape, pool_shape
from .fusion import bound_affine
from .graph import Node, Value
from .kernels import ACTIVATIONS, activation_of, bound, bound_matrix, pool_options

Run = Callable[..., object]  # run(x, out, *others): C-contiguous x and out of known shapes, in the kernels' dtypes


def _conv(a, x):
    return bound(a, x.shape, a.activation)


def _matrix(a, x):
    return bound_matrix(a, x.shape) if a.fixed_weight is not None and x.ndim > 1 else None


def _pool(a, x):
    if a.outputs > 1 or x.ndim != 4 or 0 in x.shape:
        return None
    kernel, options = pool_options(a, x)
    dilation = options["dilation"]
    shape = pool_shape(
        a.op, "x", x.shape, kernel, options["stride"], options["padding"], dilation, options["ceil_mode"], "NCHW"
    )
    if a.op == "MaxPool":
        return lambda x, out: pool.max_forward(shape, x, out, None)
    return partial(pool.average, shape, bool(getattr(a, "count_include_pad", 0))) if dilation == (1, 1) else None


def _global_pool(a, x):
    if x.ndim != 4 or 0 in x.shape:
        return None
    shape = global_pool_shape(a.op, "x", x.shape, "NCHW")
    if a.op == "GlobalAveragePool":
        return partial(pool.global_average, shape)
    return lambda x, out: pool.global_max(shape, x, out, None)


def _activation(a, x):
    code, parameter = activations.resolve(a.op, activation_of(a))
    return partial(elementwise.activation, code, parameter)


def _softmax(a, x):
    axis = a.axis + x.ndim if a.axis < 0 else a.axis
    after = axis + 1 if a.version >= 13 else x.ndim  # before, all axes from `axis` on were one
    if 0 in x.shape:
        return None
    sizes = tuple(math.prod(part) for part in (x.shape[:axis], x.shape[axis:after], x.shape[after:]))
    is_log = a.op == "LogSoftmax"
    return lambda x, out: rows.softmax(is_log, x, sizes, out)


_KERNELS: dict[str, Callable[..., Run | None]] = {
    "Conv": _conv, "Gemm": _matrix, "MatMul": _matrix, "MaxPool": _pool, "AveragePool": _pool,
    "GlobalAveragePool": _global_pool, "GlobalMaxPool": _global_pool, "Softmax": _softmax, "LogSoftmax": _softmax,
    "(scale, shift, activation)": bound_affine, **dict.fromkeys(ACTIVATIONS, _activation),
}  # fmt: skip


def kernel_of(node: Node, x: Value) -> Run | None:
    """run(x, out, *others) of a node that has run before with an array like x; None where there is none."""
    if node.op not in _KERNELS or x.dtype not in (np.float32, np.float64) or not is_native():
        return None
    return _KERNELS[node.op](node.a, x)


def copies_of(node: Node, given: Sequence[Value | None], out: Value) -> list[tuple[Value, Value]] | None:
    """[(target, source)] of a node that only moves its inputs to `out`, without what lies in its place already; None
    where it does more."""
    x = given[0]
    if node.op == "Reshape" and x is not None:
        return [(out.reshape(x.shape), x)]
    if node.op != "Concat":
        return None
    axis, start, copies = node.a.axis % out.ndim, 0, []
    for x in given:
        part = out[(slice(None),) * axis + (slice(start, start + x.shape[axis]),)]  # type: ignore[union-attr]
        start += x.shape[axis]  # type: ignore[union-attr]
        if part.ctypes.data != x.ctypes.data:  # type: ignore[union-attr]
            copies.append((part, x))
    return copies


def copy_all(*copies: tuple[Value, Value]) -> None:
    """Copy each source to its target."""
    for target, source in copies:
        np.copyto(target, source)
