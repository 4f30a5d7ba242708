"""Images changed at random while training: shifted, flipped, cropped.

Every function here returns an augmentation, a function (images, rng) -> images on batches (N, C, H, W) or, with
layout="NHWC", (N, H, W, C) of any dtype. `training.fit(augment=...)` applies it to each training batch with a generator
that follows from its seed; arguments are never modified.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .checks import choice, pair
from .typing import Int, Layout, Pair

__all__ = ["Augmentation", "chain", "crop", "flip", "shift"]

Augmentation = Callable[[Any, np.random.Generator], Any]


def shift(pixels: Pair, *, fill: float = 0.0, layout: Layout = "NCHW") -> Augmentation:
    """Move each image by a whole number of pixels, at most `pixels` (rows, columns) either way; `fill` comes in."""
    rows, columns = pair("augmentation.shift", "pixels", pixels, 0)
    layout = choice("augmentation.shift", "layout", layout, ("NCHW", "NHWC"))
    return lambda images, rng: _windows("shift", images, rng, (rows, columns), None, fill, layout)


def crop(size: Pair, *, padding: Pair = 0, fill: float = 0.0, layout: Layout = "NCHW") -> Augmentation:
    """Cut a window of `size` out of each image at a random place, `padding` pixels of `fill` added around it."""
    size = pair("augmentation.crop", "size", size, 1)
    border = pair("augmentation.crop", "padding", padding, 0)
    layout = choice("augmentation.crop", "layout", layout, ("NCHW", "NHWC"))
    return lambda images, rng: _windows("crop", images, rng, border, size, fill, layout)


def flip(axis: str = "horizontal", *, p: float = 0.5, layout: Layout = "NCHW") -> Augmentation:
    """Mirror each image with probability p: "horizontal" swaps left and right, "vertical" top and bottom."""
    axis = choice("augmentation.flip", "axis", axis, ("horizontal", "vertical"))
    layout = choice("augmentation.flip", "layout", layout, ("NCHW", "NHWC"))
    if not 0 <= p <= 1:
        raise ValueError(f"augmentation.flip: p must be at least 0 and at most 1, got {p!r}")

    def augment(images: Any, rng: np.random.Generator) -> Any:
        n, rows, _ = _checked("flip", images, layout)
        chosen = rng.random(n) < p
        result = np.array(images)
        result[chosen] = np.flip(result[chosen], rows if axis == "vertical" else rows + 1)
        return result

    return augment


def chain(*augmentations: Augmentation) -> Augmentation:
    """One after the other."""
    for entry in augmentations:
        if not callable(entry):
            raise TypeError(f"augmentation.chain: {entry!r} is not a function (images, rng) -> images")

    def augment(images: Any, rng: np.random.Generator) -> Any:
        for entry in augmentations:
            images = entry(images, rng)
        return images

    return augment


def _checked(function: str, images: Any, layout: Layout) -> tuple[int, int, tuple[int, int]]:
    """Number of images, the axis of rows, (height, width)."""
    if not isinstance(images, np.ndarray) or images.ndim != 4:
        found = getattr(images, "shape", type(images).__name__)
        raise ValueError(f"augmentation.{function}: images must have four axes ({layout}), got {found}")
    rows = 2 if layout == "NCHW" else 1
    return len(images), rows, (images.shape[rows], images.shape[rows + 1])


def _windows(
    function: str,
    images: Any,
    rng: np.random.Generator,
    border: tuple[int, int],
    size: tuple[Int, Int] | None,
    fill: float,
    layout: Layout,
) -> Any:
    """A window of each image, `border` pixels of `fill` around it, at a random place: of `size`, or of its own size."""
    n, rows, (height, width) = _checked(function, images, layout)
    tall, wide = (height, width) if size is None else (int(size[0]), int(size[1]))
    freedom = [height + 2 * border[0] - tall, width + 2 * border[1] - wide]
    if min(freedom) < 0:
        raise ValueError(
            f"augmentation.{function}: windows of {(tall, wide)} do not fit into images {images.shape} ({layout}) with "
            f"padding {border}"
        )
    pads = [(0, 0)] * 4
    pads[rows], pads[rows + 1] = (border[0],) * 2, (border[1],) * 2
    padded = np.pad(images, pads, constant_values=fill)
    tops, lefts = (rng.integers(0, free + 1, n) for free in freedom)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (tall, wide), axis=(rows, rows + 1))
    # the two axes of places stand where rows and columns stood; the windows' own are last
    picked = windows[np.arange(n), :, tops, lefts] if layout == "NCHW" else windows[np.arange(n), tops, lefts]
    return np.ascontiguousarray(picked if layout == "NCHW" else np.moveaxis(picked, 1, -1))
