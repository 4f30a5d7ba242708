"""Figures about a training run, drawn with matplotlib (the `plots` extra).

Every function returns a matplotlib Figure and touches no global state (no pyplot): ``figure.savefig(path)`` saves it.
With `figure=` it draws into a Figure or SubFigure that is already there, so that several fit on one page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import ArrayLike, NDArray

    AnyFigure = TypeVar("AnyFigure", Figure, SubFigure)

__all__ = [
    "activation_statistics",
    "confusion_matrix",
    "feature_maps",
    "filters",
    "gan_curves",
    "learning_curve",
    "new_figure",
    "sample_grid",
]


@overload
def learning_curve(history: Mapping[str, Sequence[float]], *, figure: None = ...) -> Figure: ...
@overload
def learning_curve(history: Mapping[str, Sequence[float]], *, figure: AnyFigure) -> AnyFigure: ...
def learning_curve(
    history: Mapping[str, Sequence[float]], *, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """Loss, and accuracy where there is one, over the epochs.

    Parameters
    ----------
    history : dict of lists as `training.fit` returns it, with at least one epoch
    figure : matplotlib Figure or SubFigure to draw into, or None for a new one

    Returns
    -------
    figure : Figure

    Raises
    ------
    ImportError : matplotlib is not installed
    ValueError : no epoch in the history
    """
    figure = new_figure("plots.learning_curve", (8, 3.5)) if figure is None else figure
    if not history.get("loss"):
        raise ValueError("learning_curve: the history holds no finished epoch")
    kinds = [kind for kind in ("loss", "accuracy") if kind in history]
    for axes, kind in zip(np.ravel(figure.subplots(1, len(kinds))), kinds, strict=True):
        for key, label in ((kind, "training"), (f"val_{kind}", "held out")):
            if key in history:
                epochs = range(1, len(history[key]) + 1)
                axes.plot(epochs, history[key], label=label, marker="." if len(epochs) < 40 else None)
        axes.set_xlabel("epoch")
        axes.set_ylabel(kind)
        axes.grid(alpha=0.3)
        axes.legend()
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


@overload
def filters(weight: ArrayLike, *, figure: None = ...) -> Figure: ...
@overload
def filters(weight: ArrayLike, *, figure: AnyFigure) -> AnyFigure: ...
def filters(weight: ArrayLike, *, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
    """The filters of a convolution as tiles: blue is negative, red positive, white zero.

    Parameters
    ----------
    weight : ndarray (K, C, R, S); with one channel the K tiles fill a square, otherwise each filter is a row of C tiles
    figure : matplotlib Figure or SubFigure to draw into, or None for a new one

    Returns
    -------
    figure : Figure

    Raises
    ------
    ImportError : matplotlib is not installed
    ValueError : weight does not have four axes of at least 1
    """
    figure = new_figure("plots.filters", (4, 4)) if figure is None else figure
    weight = np.asarray(weight)
    if weight.ndim != 4 or 0 in weight.shape:
        raise ValueError(f"filters: weight must be (K, C, R, S) with lengths of at least 1, got shape {weight.shape}")
    n_filters, n_channels, height, width = weight.shape
    n_columns = math.ceil(math.sqrt(n_filters)) if n_channels == 1 else n_channels
    picture = _tiled(weight.reshape(-1, height, width), n_columns)
    limit = float(np.abs(weight).max()) or 1.0
    axes = figure.subplots()
    shown = axes.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(f"{n_filters} filters of {height}x{width}")
    figure.colorbar(shown, ax=axes, shrink=0.8)
    return figure


@overload
def confusion_matrix(
    labels: ArrayLike, predictions: ArrayLike, *, n_classes: int | None = ..., figure: None = ...
) -> Figure: ...
@overload
def confusion_matrix(
    labels: ArrayLike, predictions: ArrayLike, *, n_classes: int | None = ..., figure: AnyFigure
) -> AnyFigure: ...
def confusion_matrix(
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    n_classes: int | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """How often each true class (row) was taken for each class (column).

    Parameters
    ----------
    labels, predictions : array_like (N,), integers at least 0
    n_classes : int or None for one more than the largest number in either
    figure : matplotlib Figure or SubFigure to draw into, or None for a new one

    Returns
    -------
    figure : Figure

    Raises
    ------
    ImportError : matplotlib is not installed
    ValueError : shapes differ, no samples, or numbers outside 0..n_classes-1
    TypeError : labels or predictions are not integers
    """
    figure = new_figure("plots.confusion_matrix", (5, 5)) if figure is None else figure
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1 or labels.shape != predictions.shape or not len(labels):
        raise ValueError(
            "confusion_matrix: labels and predictions must have the same shape (N,) with N at least 1, got "
            f"{labels.shape} and {predictions.shape}"
        )
    if labels.dtype.kind not in "iu" or predictions.dtype.kind not in "iu":
        raise TypeError(
            f"confusion_matrix: labels and predictions must be integers, got {labels.dtype} and {predictions.dtype}"
        )
    lowest, highest = min(labels.min(), predictions.min()), max(labels.max(), predictions.max())
    n_classes = int(highest) + 1 if n_classes is None else n_classes
    if lowest < 0 or highest >= n_classes:
        raise ValueError(f"confusion_matrix: classes must be in 0..{n_classes - 1}, got {lowest}..{highest}")
    counts = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(counts, (labels, predictions), 1)
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    for row, column in np.argwhere(counts):
        count = counts[row, column]
        colour = "white" if count > counts.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(n_classes))
    axes.set_yticks(range(n_classes))
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{np.trace(counts)} of {len(labels)} right")
    return figure


@overload
def sample_grid(
    images: ArrayLike, *, n_columns: int | None = ..., title: str | None = ..., figure: None = ...
) -> Figure: ...
@overload
def sample_grid(
    images: ArrayLike, *, n_columns: int | None = ..., title: str | None = ..., figure: AnyFigure
) -> AnyFigure: ...
def sample_grid(
    images: ArrayLike,
    *,
    n_columns: int | None = None,
    title: str | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Images as tiles of one picture, from black (the lowest value of all) to white (the highest).

    Parameters
    ----------
    images : ndarray (N, 1, H, W) or (N, H, W), grey; or (N, 3, H, W), colours
    n_columns : int or None for a square
    title : str or None
    figure : matplotlib Figure or SubFigure to draw into, or None for a new one

    Returns
    -------
    figure : Figure

    Raises
    ------
    ImportError : matplotlib is not installed
    ValueError : no images, or another number of axes or channels
    """
    figure = new_figure("plots.sample_grid", (4, 4)) if figure is None else figure
    images = np.asarray(images)
    images = images[:, None] if images.ndim == 3 else images
    if images.ndim != 4 or 0 in images.shape or images.shape[1] not in (1, 3):
        raise ValueError(
            f"sample_grid: images must be (N, 1, H, W), (N, H, W) or (N, 3, H, W) with N at least 1, got {images.shape}"
        )
    columns = math.ceil(math.sqrt(len(images))) if n_columns is None else n_columns
    low, high = float(images.min()), float(images.max())
    scaled = (images - low) / ((high - low) or 1.0)
    picture = np.stack([_tiled(scaled[:, channel], columns) for channel in range(images.shape[1])], axis=-1)
    axes = figure.subplots()
    # between tiles there is nothing (NaN), shown white
    shown = np.nan_to_num(picture, nan=1.0)
    axes.imshow(shown[:, :, 0] if shown.shape[2] == 1 else shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    if title is not None:
        axes.set_title(title)
    return figure


@overload
def feature_maps(maps: ArrayLike, *, figure: None = ...) -> Figure: ...
@overload
def feature_maps(maps: ArrayLike, *, figure: AnyFigure) -> AnyFigure: ...
def feature_maps(maps: ArrayLike, *, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
    """What each feature map of a layer sees in one or more images: a row for each image, a column for each map.

    Parameters
    ----------
    maps : ndarray (N, K, H, W), the output of a layer, e.g. ``model[0](images)``
    figure : matplotlib Figure or SubFigure to draw into, or None for a new one

    Returns
    -------
    figure : Figure

    Raises
    ------
    ImportError : matplotlib is not installed
    ValueError : maps does not have four axes of at least 1
    """
    figure = new_figure("plots.feature_maps", (8, 4)) if figure is None else figure
    maps = np.asarray(maps)
    if maps.ndim != 4 or 0 in maps.shape:
        raise ValueError(f"feature_maps: maps must be (N, K, H, W) with lengths of at least 1, got shape {maps.shape}")
    axes = figure.subplots()
    shown = axes.imshow(_tiled(maps.reshape(-1, *maps.shape[2:]), maps.shape[1]), cmap="viridis")
    axes.set_axis_off()
    axes.set_title(f"{maps.shape[1]} feature maps of {maps.shape[2]}x{maps.shape[3]}")
    figure.colorbar(shown, ax=axes, shrink=0.8)
    return figure


@overload
def gan_curves(history: Mapping[str, Sequence[float]], *, figure: None = ...) -> Figure: ...
@overload
def gan_curves(history: Mapping[str, Sequence[float]], *, figure: AnyFigure) -> AnyFigure: ...
def gan_curves(
    history: Mapping[str, Sequence[float]], *, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """A GAN's losses, its Jensen-Shannon estimate and its diagnostics over the iterations.

    Parameters
    ----------
    history : dict of lists as `gan.GAN.fit` returns it, with at least one evaluation
    figure : matplotlib Figure or SubFigure to draw into, or None for a new one

    Returns
    -------
    figure : Figure

    Raises
    ------
    ImportError : matplotlib is not installed
    ValueError : no evaluation in the history
    """
    figure = new_figure("plots.gan_curves", (12, 3.5)) if figure is None else figure
    if not history.get("iteration"):
        raise ValueError("gan_curves: the history holds no evaluation")
    losses, divergence, diagnostics = figure.subplots(1, 3)
    width = max(1, len(history["generator_loss"]) // 200)
    for key in ("discriminator_loss", "generator_loss"):
        series = np.asarray(history[key], np.float64)
        blocks = series[: len(series) // width * width].reshape(-1, width).mean(axis=1)
        losses.plot((np.arange(len(blocks)) + 0.5) * width, blocks, label=key.replace("_", " "))
    divergence.plot(history["iteration"], history["js"], marker=".", label="estimate from D")
    divergence.axhline(math.log(2), color="gray", linestyle="--", label="ln 2: disjoint supports")
    divergence.axhline(0, color="gray", linestyle=":", label="0: equal distributions")
    for key, label in (
        ("accuracy", "accuracy of D"),
        ("coverage", "coverage"),
        ("entropy", "share of effective classes"),
        ("gradient_ratio", "gradient ratio / 2"),
    ):
        if history.get(key):
            factor = 0.5 if key == "gradient_ratio" else 1
            diagnostics.plot(history["iteration"], factor * np.asarray(history[key]), marker=".", label=label)
    for axes, title in ((losses, "losses"), (divergence, "Jensen-Shannon, nats"), (diagnostics, "diagnostics")):
        axes.set_title(title)
        axes.set_xlabel("iteration")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    diagnostics.set_ylim(0, 1.25)
    return figure


@overload
def activation_statistics(runs: Mapping[str, Sequence[Any]], *, figure: None = ...) -> Figure: ...
@overload
def activation_statistics(runs: Mapping[str, Sequence[Any]], *, figure: AnyFigure) -> AnyFigure: ...
def activation_statistics(
    runs: Mapping[str, Sequence[Any]], *, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """Mean and variance of the activations, layer by layer.

    Parameters
    ----------
    runs : dict from label to what `layers.activation_statistics` returns, or a part of it
    figure : matplotlib Figure or SubFigure to draw into, or None for a new one

    Returns
    -------
    figure : Figure

    Raises
    ------
    ImportError : matplotlib is not installed
    ValueError : no layers
    """
    figure = new_figure("plots.activation_statistics", (10, 3.5)) if figure is None else figure
    if not runs or not all(runs.values()):
        raise ValueError("activation_statistics: there is no layer to show")
    means, variances = figure.subplots(1, 2)
    for label, statistics in runs.items():
        places = range(1, len(statistics) + 1)
        means.plot(places, [entry.mean for entry in statistics], marker=".", label=label)
        variances.plot(places, [entry.variance for entry in statistics], marker=".", label=label)
    means.axhspan(-0.1, 0.1, color="gray", alpha=0.2)
    variances.axhspan(0.8, 1.25, color="gray", alpha=0.2)
    variances.set_yscale("log")
    for axes, title in ((means, "mean"), (variances, "variance")):
        axes.set_title(title)
        axes.set_xlabel("layer")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def _tiled(tiles: NDArray[Any], n_columns: int) -> NDArray[np.float64]:
    """Tiles (n, H, W) in rows of one picture, with a cell's width of nothing (NaN) between them."""
    height, width = tiles.shape[1:]
    n_rows = math.ceil(len(tiles) / n_columns)
    picture = np.full((n_rows * (height + 1) - 1, n_columns * (width + 1) - 1), np.nan)
    for i, tile in enumerate(tiles):
        top, left = i // n_columns * (height + 1), i % n_columns * (width + 1)
        picture[top : top + height, left : left + width] = tile
    return picture


def new_figure(function: str, size: tuple[float, float]) -> Figure:
    """Return an empty Figure of `size` inches; `function` is named in the ImportError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"{function}: needs matplotlib; install it with `pip install convgrad[plots]`") from error
    return Figure(figsize=size, layout="constrained")
