"""Figures about a training run, drawn with matplotlib (the `plots` extra).

Every function returns a matplotlib Figure and touches no global state (no pyplot): ``figure.savefig(path)`` saves it.
With `figure=` it draws into a Figure or SubFigure that is already there, so that several fit on one page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import ArrayLike

    AnyFigure = TypeVar("AnyFigure", Figure, SubFigure)

__all__ = ["confusion_matrix", "filters", "learning_curve", "new_figure"]


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
    tiles = weight.reshape(-1, height, width)
    n_columns = math.ceil(math.sqrt(n_filters)) if n_channels == 1 else n_channels
    n_rows = math.ceil(len(tiles) / n_columns)
    # one picture with a cell's width of nothing (NaN) between tiles
    picture = np.full((n_rows * (height + 1) - 1, n_columns * (width + 1) - 1), np.nan)
    for i, tile in enumerate(tiles):
        top, left = i // n_columns * (height + 1), i % n_columns * (width + 1)
        picture[top : top + height, left : left + width] = tile
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


def new_figure(function: str, size: tuple[float, float]) -> Figure:
    """Return an empty Figure of `size` inches; `function` is named in the ImportError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"{function}: needs matplotlib; install it with `pip install convgrad[plots]`") from error
    return Figure(figsize=size, layout="constrained")
