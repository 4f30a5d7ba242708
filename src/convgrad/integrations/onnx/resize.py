"""Resize as a list of one-dimensional interpolations: for each axis that changes, which entries are added up, and how.

y[i] = sum over t of weights[i, t] * x[columns[i, t]] along the axis, with one tap for "nearest", two for "linear", four
for "cubic", and more of the last two where antialias widens them for smaller results.

Source: ONNX operator Resize, operator sets 10 to current; cubic: Keys (1981), doi 10.1109/TASSP.1981.1163711.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from .graph import ModelError, Value, check_size


class Taps(NamedTuple):
    """What one axis needs."""

    axis: int
    columns: Value  # (result size, number of taps)
    weights: Value | None  # likewise; None: one tap with weight 1
    outside: Value | None  # (result size,), where the extrapolation value stands instead


def taps(a: SimpleNamespace, x: Value, *inputs: Value | None) -> list[Taps]:
    """The interpolations of a Resize or Upsample node for x and its other inputs, axis by axis."""
    given: list[Any] = [None if value is None or not value.size else value for value in inputs]
    roi: Any
    sizes: Any
    if a.version < 11:  # (scales), or an attribute of Upsample 7
        roi, scales, sizes = None, given[0] if given else np.asarray(a.scales), None
    else:
        roi, scales, sizes = [*given, None, None, None][:3]
    axes = [axis % x.ndim for axis in getattr(a, "axes", None) or range(x.ndim)]
    if (scales is None) == (sizes is None) or len(scales if sizes is None else sizes) != len(axes):
        raise ModelError(f"needs scales or sizes, one for each of the axes {axes}, and not both")
    lengths = [x.shape[axis] for axis in axes]
    if scales is not None:
        factors = [float(np.float32(scale)) for scale in scales]
        if not all(math.isfinite(f) and f > 0 for f in factors):
            raise ModelError(f"scales must be positive and finite, got {factors}")
        results = [math.floor(length * factor) for length, factor in zip(lengths, factors, strict=True)]
    else:
        results = [int(size) for size in sizes]
        factors = [size / length for size, length in zip(results, lengths, strict=True)]
        policy = getattr(a, "keep_aspect_ratio_policy", None) or "stretch"
        if policy != "stretch":
            factor = (min if policy == "not_larger" else max)(factors)
            factors = [factor] * len(axes)
            results = [math.floor(factor * length + 0.5) for length in lengths]
    check_size("result", tuple(results), x.dtype)
    crop = getattr(a, "coordinate_transformation_mode", "") == "tf_crop_and_resize"
    if crop and (roi is None or len(roi) != 2 * len(axes)):
        raise ModelError(f"tf_crop_and_resize needs a roi of {2 * len(axes)} numbers")
    chosen = []
    for i, axis in enumerate(axes):
        window = (float(roi[i]), float(roi[i + len(axes)])) if crop else None
        if results[i] != lengths[i] or factors[i] != 1 or window not in (None, (0.0, 1.0)):
            chosen.append(Taps(axis, *_axis(_options(a), lengths[i], results[i], factors[i], window)))
    return chosen


def _options(a: SimpleNamespace) -> tuple[Any, ...]:
    """(mode, coordinates, nearest_mode, cubic_coeff_a, exclude_outside, antialias) with the meaning of older sets."""
    old = a.version < 11
    return (
        a.mode,
        "asymmetric" if old else a.coordinate_transformation_mode,
        "floor" if old else a.nearest_mode,
        getattr(a, "cubic_coeff_a", -0.75),
        bool(getattr(a, "exclude_outside", 0)),
        bool(getattr(a, "antialias", 0)),
    )


def _positions(coordinates: str, length: int, result: int, scale: float, window: tuple[float, float] | None) -> Value:
    """Where in x every entry of the result lies."""
    y = np.arange(result, dtype=np.float64)
    exact = scale * length  # the size of the result before rounding
    if coordinates == "align_corners":
        return y * (length - 1) / (exact - 1) if exact != 1 else 0 * y
    if coordinates == "asymmetric":
        return y / scale
    if window is not None:
        start, end = window
        if exact == 1:
            return 0 * y + (start + (end - start) / 2) * (length - 1)
        return start * (length - 1) + y * (end - start) * (length - 1) / (exact - 1)
    if coordinates == "pytorch_half_pixel" and exact == 1:
        return 0 * y - 0.5
    half_pixel = (y + 0.5) / scale - 0.5
    if coordinates == "half_pixel_symmetric":
        return length / 2 * (1 - result / exact) + half_pixel
    return half_pixel


_ROUND: dict[str, Callable[[Value], Value]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@lru_cache(maxsize=64)
def _axis(
    options: tuple[Any, ...], length: int, result: int, scale: float, window: tuple[float, float] | None
) -> tuple[Value, Value | None, Value | None]:
    mode, coordinates, nearest, a, exclude, antialias = options
    at = _positions(coordinates, length, result, scale, window)
    outside = (at < 0) | (at > length - 1) if window is not None else None
    if outside is not None and not outside.any():
        outside = None
    if mode == "nearest":
        return np.clip(_ROUND[nearest](at), 0, length - 1).astype(np.intp)[:, None], None, outside
    shrink = min(scale, 1.0) if antialias else 1.0  # antialias widens the kernel by its inverse
    reach = 1 if mode == "linear" else 2
    base = np.ceil(at) - 1  # the last entry before the position
    first = math.floor(-reach / shrink) + 1
    index = base[:, None] + np.arange(first, 2 - first)
    distance = np.abs(index - at[:, None]) * shrink
    if mode == "linear":
        weights = np.maximum(1 - distance, 0)
    else:
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        weights = np.where(distance <= 1, near, np.where(distance < 2, far, 0))
    if exclude:
        weights *= (index >= 0) & (index < length)
    if exclude or antialias:
        weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(index, 0, length - 1).astype(np.intp), weights, outside


def apply(chosen: list[Taps], x: Value, extrapolation: float) -> Value:
    """x interpolated along every axis in turn."""
    for axis, index, weights, _ in chosen:
        parts = [np.take(x, column, axis=axis) for column in index.T]
        if weights is None:
            x = parts[0]
            continue
        columns = weights.astype(x.dtype).reshape(-1, *[1] * (x.ndim - axis - 1), weights.shape[1])
        total = np.multiply(parts[0], columns[..., 0], out=parts[0])
        for t, part in enumerate(parts[1:], 1):
            total += np.multiply(part, columns[..., t], out=part)
        x = total
    for axis, _, _, outside in chosen:
        if outside is not None:
            x[(slice(None),) * axis + (outside,)] = extrapolation
    return x
