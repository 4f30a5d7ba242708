"""The operators that run on convgrad's kernels: convolution, matrix products, pooling, activations, softmax, norms.

Source: the operator documentation of ONNX (onnx/docs/Operators.md and Changelog.md), operator sets 6 to current.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from ... import functional as F
from ..._native.memory import empty, empty_cache
from ...activations import DEFAULT_PARAMETERS
from ...functional.prepack import PackedConv2d
from ...shapes import conv_shape, conv_transpose_shape
from ...typing import Algorithm
from .graph import ModelError, check_size
from .operators import operator

# ---------------------------------------------------------------- windows


def _two(values: Any, n: int, default: int) -> tuple[int, int]:
    """One number for rows and one for columns; with one spatial axis the rows are one."""
    values = tuple(values) if values else (default,) * n
    if len(values) != n or n not in (1, 2):
        raise ModelError(f"{list(values)} does not fit {n} spatial axes (1 or 2 are supported)")
    return (default, *values) if n == 1 else values


def _rows(x: Any) -> Any:
    """x with two spatial axes, the rows being one where it has one."""
    return x[:, :, None] if x.ndim == 3 else x


def _spatial(a: SimpleNamespace, x: Any, kernel: Any) -> tuple[Any, Any, Any]:
    """(kernel, stride, dilation) as pairs."""
    n = len(kernel)
    if x.ndim != n + 2:
        raise ModelError(f"a window of {n} axes does not fit an array of shape {x.shape}")
    dilation = _two(getattr(a, "dilations", None), n, 1)
    return _two(kernel, n, 1), _two(a.strides, n, 1), dilation


def _padding(a: SimpleNamespace, sizes: Any, kernel: Any, stride: Any, dilation: Any) -> Any:
    """((top, bottom), (left, right)) of `pads` or `auto_pad`."""
    if a.auto_pad in ("NOTSET", "", None):
        n = 1 if a.pads is not None and len(a.pads) == 2 else 2
        pads = tuple(a.pads or (0, 0, 0, 0))
        if min(pads) < 0 or len(pads) != 2 * n:
            raise ModelError(f"pads {list(pads)}: two for each axis and none negative are needed")
        return ((0, 0), pads) if n == 1 else ((pads[0], pads[2]), (pads[1], pads[3]))
    padding = []
    for size, taps, step, dilate in zip(sizes, kernel, stride, dilation, strict=True):
        total = max((-(-size // step) - 1) * step + dilate * (taps - 1) + 1 - size, 0)
        total = 0 if a.auto_pad == "VALID" else total
        small, large = total // 2, total - total // 2
        padding.append((small, large) if a.auto_pad == "SAME_UPPER" else (large, small))
    return tuple(padding)


def _window_problem(a: SimpleNamespace, dtypes: list[Any]) -> str | None:
    if a.auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        return f"auto_pad {a.auto_pad!r}"
    n = len(a.kernel_shape) if a.kernel_shape else next((ndim - 2 for ndim in a.ndims if ndim), 2)
    return None if n in (1, 2) else f"a window with {n} spatial axes (1 and 2 are supported)"


# ---------------------------------------------------------------- convolution and matrix products


_LARGE = 1 << 25  # bytes


def algorithm_for(shape: tuple[int, ...]) -> Algorithm:
    """Winograd's weights are four times as many: with few pixels it waits for them (512 channels of 7x7, Xeon with
    AVX-512: 95 GFLOP/s, direct 112)."""
    return "direct" if shape[0] * -(-shape[2] // 4) * -(-shape[3] // 4) < 10 else "auto"


def _packed(
    a: SimpleNamespace, x: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> PackedConv2d[Any]:
    """The convolution of a node with constant weights, packed for the shape of one sample of x."""
    algorithm = algorithm_for(x.shape)
    packed = a.packs.get((algorithm, *x.shape[1:]))
    if packed is None:
        if a.fixed_weight.nbytes > _LARGE:
            empty_cache()  # what was kept for reuse need not stay beside two copies of the weights
        if a.unread is not None:
            a.unread = a.unread.read()
        packed = PackedConv2d(
            a.fixed_weight, a.fixed_bias, (1, *x.shape[1:]), (stride, padding, dilation, groups, "NCHW", algorithm),
            a.activation, own=a.once,
        )  # fmt: skip
        a.packs[algorithm, *x.shape[1:]] = packed
        a.fixed_weight, a.fixed_bias = packed.weight, packed.bias  # the model's own may go
    return packed


@operator("Conv", out=True, floats=True, problem=_window_problem)
def _conv(a, x, weight=None, bias=None, out=None):
    result_ndim = x.ndim
    weight = a.fixed_weight if weight is None else _rows(weight)
    kernel, stride, dilation = _spatial(a, x, a.kernel_shape or weight.shape[2 - x.ndim :])
    if kernel != weight.shape[2:]:
        raise ModelError(f"kernel_shape {a.kernel_shape} does not fit the weight's shape {weight.shape}")
    x = _rows(x)
    padding = _padding(a, x.shape[2:], kernel, stride, dilation)
    options = dict(stride=stride, padding=padding, dilation=dilation, groups=a.group)
    if out is None:
        shape = conv_shape("Conv", "x", 2, x.shape, weight.shape, *options.values(), "NCHW", "auto")
        check_size("result", shape.output_shape, x.dtype)
    else:
        out = _rows(out)
    if a.fixed_weight is not None:
        y = _packed(a, x, **options)(x, out)
    else:
        y = F.conv2d(x, weight, bias, activation=a.activation, out=out, **options)
    return y[:, :, 0] if result_ndim == 3 else y


def bound(a: SimpleNamespace, x_shape: tuple[int, ...], activation: Any) -> Any:
    """run(x, out, residual=None) of a settled Conv with constant weights that has run before, without checks; None
    where there is none."""
    packed = _settled_pack(a, x_shape)
    return packed and packed._bound(x_shape[0], activation, getattr(a, "shuffle", 0))


def adds_in_place(a: SimpleNamespace, x_shape: tuple[int, ...]) -> bool:
    """Whether what `bound` returns may write over its residual."""
    packed = _settled_pack(a, x_shape)
    return packed is not None and packed._adds_in_place(x_shape[0])


def _settled_pack(a: SimpleNamespace, x_shape: tuple[int, ...]) -> PackedConv2d[Any] | None:
    return a.packs.get((algorithm_for(x_shape), *x_shape[1:])) if len(x_shape) == 4 else None


@operator("ConvTranspose", out=True, floats=True, problem=_window_problem)
def _conv_transpose(a, x, weight=None, bias=None, out=None):
    ndim = x.ndim
    weight, bias = (a.fixed_weight, a.fixed_bias) if weight is None else (_rows(weight), bias)
    kernel, stride, dilation = _spatial(a, x, a.kernel_shape or weight.shape[2 - x.ndim :])
    extra = _two(a.output_padding, ndim - 2, 0)
    x = _rows(x)
    spans = [(size - 1) * step + dilate * (taps - 1) + 1
             for size, step, dilate, taps in zip(x.shape[2:], stride, dilation, kernel, strict=True)]  # fmt: skip
    if a.output_shape or a.auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = (
            _two(a.output_shape, ndim - 2, 1)
            if a.output_shape
            else [s * t for s, t in zip(x.shape[2:], stride, strict=True)]
        )
        padding, widened = [], []
        for span, more, size in zip(spans, extra, wanted, strict=True):
            total = max(0, span + more - size)
            small, large = total // 2, total - total // 2
            padding.append((large, small) if a.auto_pad == "SAME_LOWER" else (small, large))
            widened.append(more + size - span - more + total)
        extra = tuple(widened)
    else:
        padding = _padding(a, x.shape[2:], kernel, stride, dilation)
    # What output_padding may not say (it must be less than the stride) is zero padding taken off the end.
    largest = [max(step, dilate) - 1 for step, dilate in zip(stride, dilation, strict=True)]
    before_after = []
    for (before, after), more, most in zip(padding, extra, largest, strict=True):
        taken = min(after, more)
        if more - taken > most:
            raise ModelError(f"output_padding or output_shape asks for {more - taken} more rows or columns than "
                             f"stride and dilation leave, {most}")  # fmt: skip
        before_after.append((before, after - taken, more - taken))
    padding = tuple(entry[:2] for entry in before_after)
    options = dict(stride=stride, padding=padding, output_padding=tuple(e[2] for e in before_after),
                   dilation=dilation, groups=a.group)  # fmt: skip
    if out is None:
        shape = conv_transpose_shape("ConvTranspose", 2, x.shape, weight.shape, *options.values(), "NCHW", "auto")
        check_size("result", shape.input_shape, x.dtype)
    else:
        out = _rows(out)
    y = F.conv_transpose2d(x, weight, bias, activation=a.activation, out=out, **options)
    return y[:, :, 0] if ndim == 3 else y


def _times_constant(a: SimpleNamespace, x: Any, out: Any) -> Any:
    """x times the constant matrix of a node, as a 1x1 convolution of images of one pixel."""
    out_features, in_features = a.fixed_weight.shape[:2]
    if x.shape[-1] != in_features:
        raise ModelError(f"{x.shape} does not fit a matrix of {in_features} rows")
    shape = (*x.shape[:-1], out_features)
    check_size("result", shape, x.dtype)
    out = empty(shape, x.dtype) if out is None else out
    image = x.reshape(-1, in_features, 1, 1)
    _packed(a, image)(image, out.reshape(-1, out_features, 1, 1))
    return out


def bound_matrix(a: SimpleNamespace, x_shape: tuple[int, ...]) -> Any:
    """run(x, out) of a settled product with a constant matrix, without checks; None where there is none."""
    if getattr(a, "transA", 0):
        return None
    out_features, in_features = a.fixed_weight.shape[:2]
    run = bound(a, (math.prod(x_shape[:-1]), in_features, 1, 1), a.activation)
    return run and (lambda x, out: run(x.reshape(-1, in_features, 1, 1), out.reshape(-1, out_features, 1, 1)))


@operator("Gemm", out=True)
def _gemm(a, x, y=None, z=None, out=None):
    if x.ndim != 2:
        raise ModelError(f"A must be a matrix, got shape {x.shape}")
    x = x.T if a.transA else x
    if a.fixed_weight is not None:
        return _times_constant(a, x, out)
    result = np.matmul(x, y.T if a.transB else y, out=out)
    if a.alpha != 1:
        result *= result.dtype.type(a.alpha)
    if z is not None:
        result += z * result.dtype.type(a.beta)
    return result


@operator("MatMul", out=True)
def _matmul(a, x, y=None, out=None):
    if a.fixed_weight is not None:
        return _times_constant(a, x, out)
    if x.ndim > 1 and y.ndim > 1:
        check_size("result", (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1]), x.dtype)
    return np.matmul(x, y, out=out)


# ---------------------------------------------------------------- pooling


def pool_options(a: SimpleNamespace, x: Any) -> tuple[Any, dict[str, Any]]:
    """The window of a pool and its options."""
    kernel, stride, dilation = _spatial(a, x, a.kernel_shape)
    padding = _padding(a, _rows(x).shape[2:], kernel, stride, dilation)
    return kernel, dict(stride=stride, padding=padding, dilation=dilation, ceil_mode=bool(getattr(a, "ceil_mode", 0)))


@operator("MaxPool", out=True, floats=True, problem=_window_problem)
def _max_pool(a, x, out=None):
    planes = _rows(x)
    kernel, options = pool_options(a, x)
    squeeze = lambda y: y[:, :, 0] if x.ndim == 3 else y
    if a.outputs == 1:
        return squeeze(F.max_pool2d(planes, kernel, out=None if out is None else _rows(out), **options))
    y, found = F.max_pool2d(planes, kernel, return_indices=True, **options)
    found = F.max_pool2d_plane_indices(found, planes.shape, kernel, **options)
    n, c, h, w = planes.shape
    if a.storage_order:
        found = found % w * h + found // w
    found += (np.arange(n * c) * (h * w)).reshape(n, c, 1, 1)
    return squeeze(y), squeeze(found)


@operator("AveragePool", out=True, floats=True, problem=_window_problem)
def _average_pool(a, x, out=None):
    planes = _rows(x)
    kernel, options = pool_options(a, x)
    stride, padding, dilation, ceil_mode = options.values()
    include = bool(getattr(a, "count_include_pad", 0))
    target = None if out is None else _rows(out)
    if dilation == (1, 1):
        y = F.avg_pool2d(planes, kernel, stride=stride, padding=padding, ceil_mode=ceil_mode,
                         count_include_pad=include, out=target)  # fmt: skip
        return y[:, :, 0] if x.ndim == 3 else y
    # Windows with holes: sums by a convolution of each plane with ones, over the number of cells by the same.
    n, c, h, w = planes.shape
    ones = np.ones((1, 1, *kernel), x.dtype)
    overhang = [0, 0]
    for axis, size in enumerate((h, w)):
        spare = size + sum(padding[axis]) - dilation[axis] * (kernel[axis] - 1) - 1
        steps = -(-spare // stride[axis]) if ceil_mode else spare // stride[axis]
        steps -= steps * stride[axis] >= size + padding[axis][0]
        overhang[axis] = max(0, steps * stride[axis] - spare)
    cells = np.ones((1, 1, h, w), x.dtype)
    around = [(0, 0), (0, 0)] + [
        (before, after + more) for (before, after), more in zip(padding, overhang, strict=True)
    ]
    cells = np.pad(cells, [(0, 0), (0, 0), *padding] if include else [(0, 0)] * 4, constant_values=1)
    cells = np.pad(cells, [(0, 0), (0, 0), *((0, more) for more in overhang)] if include else around)
    options = dict(stride=stride, dilation=dilation)
    sums = F.conv2d(planes.reshape(n * c, 1, h, w), ones, padding=tuple(around[2:]), **options)
    y = np.divide(sums.reshape(n, c, *sums.shape[2:]), F.conv2d(cells, ones, **options), out=target)
    return y[:, :, 0] if x.ndim == 3 else y


@operator("GlobalAveragePool", "GlobalMaxPool", out=True, floats=True)
def _global_pool(a, x, out=None):
    pool = F.global_avg_pool2d if a.op == "GlobalAveragePool" else F.global_max_pool2d
    shape = (*x.shape[:2], *(1,) * (x.ndim - 2))
    planes = x if x.ndim == 4 else x.reshape(*x.shape[:2], 1, -1)
    return pool(planes, out=None if out is None else out.reshape(*x.shape[:2], 1, 1)).reshape(shape)


# ---------------------------------------------------------------- activations

# Operator: (name of the activation, attribute that is its parameter or None)
ACTIVATIONS = {
    "Relu": ("relu", None), "LeakyRelu": ("leaky_relu", "alpha"), "Elu": ("elu", "alpha"), "Selu": ("selu", None),
    "Sigmoid": ("sigmoid", None), "Tanh": ("tanh", None), "Softplus": ("softplus", None), "Gelu": ("gelu", None),
    "Silu": ("silu", None),
}  # fmt: skip
_SELU = (1.67326319217681884765625, 1.05070102214813232421875)


def _activation_problem(a: SimpleNamespace, dtypes: list[Any]) -> str | None:
    if a.op == "Selu" and not np.allclose((a.alpha, a.gamma), _SELU, rtol=1e-6):
        return f"alpha {a.alpha}, gamma {a.gamma} (only the published constants are supported)"
    if a.op == "Gelu" and a.approximate != "none":
        return f"approximate {a.approximate!r}"
    return None


def activation_of(a: SimpleNamespace) -> Any:
    """The activation of an operator of ACTIVATIONS, as the kernels take it."""
    name, attribute = ACTIVATIONS[a.op]
    return (name, float(getattr(a, attribute))) if attribute else name


@operator("Relu", out=True, in_place=True)
@operator(*(set(ACTIVATIONS) - {"Relu"}), out=True, in_place=True, floats=True, problem=_activation_problem)
def _activation(a, x, out=None):
    name = ACTIVATIONS[a.op][0]
    if name == "relu" and x.dtype not in (np.float32, np.float64):
        return np.maximum(x, x.dtype.type(0), out=out)
    parameter = (activation_of(a)[1],) if name in DEFAULT_PARAMETERS else ()
    return getattr(F, name)(x, *parameter, out=out)


@operator("HardSigmoid", "HardSwish", out=True, floats=True)
def _hard(a, x, out=None):
    alpha, beta = (1 / 6, 0.5) if a.op == "HardSwish" else (a.alpha, a.beta)
    y = np.multiply(x, x.dtype.type(alpha), out=out)
    y += x.dtype.type(beta)
    np.clip(y, 0, 1, out=y)
    return np.multiply(x, y, out=y) if a.op == "HardSwish" else y


@operator("Mish", out=True, floats=True)
def _mish(a, x, out=None):
    y = F.softplus(x, out=out)
    y = F.tanh(y, out=y)
    return np.multiply(x, y, out=y)


@operator("PRelu", out=True)
def _prelu(a, x, slope, out=None):
    if slope.ndim > x.ndim:
        raise ModelError(f"slope {slope.shape} has more axes than x {x.shape}")
    if a.version < 7 and slope.ndim == 1 and slope.size > 1:
        slope = slope.reshape(-1, *[1] * (x.ndim - 2))
    y = np.minimum(x, x.dtype.type(0), out=out)
    y *= slope
    y += np.maximum(x, x.dtype.type(0))
    return y


@operator("Softmax", "LogSoftmax", out=True, floats=True)
def _softmax(a, x, out=None):
    function = F.softmax if a.op == "Softmax" else F.log_softmax
    if a.version >= 13:
        return function(x, axis=a.axis, out=out)
    rows = math.prod(x.shape[: a.axis + x.ndim if a.axis < 0 else a.axis])  # all axes from `axis` on are one
    flat = x.reshape(rows, -1)
    return function(flat, out=None if out is None else out.reshape(flat.shape)).reshape(x.shape)


# ---------------------------------------------------------------- norms


@operator(
    "BatchNormalization", out=True, floats=True,
    problem=lambda a, _: None if getattr(a, "spatial", 1) else "spatial 0",
)  # fmt: skip
def _batch_norm(a, x, scale, bias, mean, variance, out=None):
    pixels = x.reshape(*x.shape[:2], -1) if x.ndim != 4 else x
    target = None if out is None else out.reshape(pixels.shape)
    if not getattr(a, "training_mode", 0):
        y = F.batch_norm(pixels, scale, bias, mean, variance, eps=a.epsilon, out=target)[0]
        return y.reshape(x.shape)
    y, saved_mean, saved_inv_std, _, _ = F.batch_norm(pixels, scale, bias, training=True, eps=a.epsilon)
    spread = (1 / saved_inv_std**2 - a.epsilon).astype(x.dtype)  # ONNX keeps the biased variance
    kept = [a.momentum * old + (1 - a.momentum) * new for old, new in ((mean, saved_mean), (variance, spread))]
    return (y.reshape(x.shape), *kept)[: a.outputs]


@operator("InstanceNormalization", out=True, floats=True)
def _instance_norm(a, x, scale, bias, out=None):
    flat = x.reshape(x.shape[0] * x.shape[1], -1)
    y = F.layer_norm(flat, np.ones(flat.shape[1:], x.dtype), np.zeros(flat.shape[1:], x.dtype), eps=a.epsilon)[0]
    y = np.multiply(y.reshape(x.shape), scale.reshape(-1, *[1] * (x.ndim - 2)), out=out)
    y += bias.reshape(-1, *[1] * (x.ndim - 2))
    return y
