"""Looking into a network: its layers with shapes and counts, its architecture as text, where values go infinite."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np

from ..typing import FloatArray
from .base import Layer
from .sequential import Sequential

__all__ = [
    "LayerStatistics",
    "Summary",
    "SummaryRow",
    "activation_statistics",
    "architecture",
    "describe_non_finite",
    "summary",
]


class LayerStatistics(NamedTuple):
    """Mean and variance of one layer's outputs, over samples and units."""

    name: str
    layer: str
    mean: float
    variance: float


class SummaryRow(NamedTuple):
    """One layer: its place ("3" or, inside a nested Sequential, "3.0"), description, output shape, parameter count."""

    name: str
    layer: str
    output_shape: tuple[int, ...]
    n_parameters: int


class Summary(list[SummaryRow]):
    """What `summary` returns: a row for each layer in order of computation; printing it gives a table.

    Attributes
    ----------
    input_shape : tuple of int, with the batch axis
    n_parameters : int, trainable values
    n_bytes : int, that they take
    """

    def __init__(self, rows: Iterator[SummaryRow], input_shape: tuple[int, ...], model: Layer) -> None:
        super().__init__(rows)
        self.input_shape = input_shape
        self.n_parameters = sum(parameter.size for parameter in model.parameters())
        self.n_bytes = sum(parameter.data.nbytes for parameter in model.parameters())

    def __str__(self) -> str:
        heads = ("", "layer", "output", "parameters")
        cells = [(name, layer, str(("N", *shape[1:])).replace("'", ""), f"{n:,}") for name, layer, shape, n in self]
        table = [heads, *cells]
        widths = [max(len(row[column]) for row in table) for column in range(4)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}".rstrip() for a, b, c, d in table
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        return "\n".join([*lines, f"{self.n_parameters:,} parameters, {self.n_bytes:,} bytes"])


def summary(model: Layer, input_shape: tuple[int, ...]) -> Summary:
    """Send one sample of zeros through the model, in evaluation mode, and tell what comes out of each layer.

    Parameters
    ----------
    model : Layer; its mode is restored
    input_shape : tuple of int, of one sample, without the batch axis

    Returns
    -------
    summary : Summary, a list of (name, layer, output_shape, n_parameters); `print` shows a table

    Raises
    ------
    ValueError, TypeError : layers whose shapes do not fit each other or the input; names the layer and the shapes
    """
    dtype = next((parameter.dtype for parameter in model.parameters()), np.dtype(np.float32))
    x = np.zeros((1, *input_shape), dtype)
    before = [(layer, layer.training) for layer in model.layers()]
    model.eval()
    try:
        model.forward(x)  # where shapes do not fit, its message says at which layer
        rows = [
            SummaryRow(name, repr(layer), output.shape, sum(parameter.size for parameter in layer.parameters()))
            for name, layer, output in _trace(model, x, "")
        ]
    finally:
        for layer, was_training in before:
            layer.switch(was_training)
    return Summary(iter(rows), x.shape, model)


def activation_statistics(model: Layer, x: FloatArray) -> list[LayerStatistics]:
    """Mean and variance of every layer's outputs for the batch `x`, in the model's present mode.

    Parameters
    ----------
    model : Layer
    x : ndarray (N, ...), of the dtype of the model's parameters

    Returns
    -------
    statistics : list of (name, layer, mean, variance), in order of computation; self-normalising networks keep mean and
        variance near 0 and 1
    """
    return [
        LayerStatistics(name, repr(layer), float(output.mean(dtype=np.float64)), float(output.var(dtype=np.float64)))
        for name, layer, output in _trace(model, x, "")
    ]


def architecture(model: Layer) -> list[str]:
    """One line for each innermost layer: its description, without what does not change the weights' meaning.

    Layers that draw random numbers (dropout) are named only; layers without a description of their own by their type
    and the shapes of their parameters.
    """
    lines = []
    for layer in model.layers():
        if any(True for _ in layer.children()):
            continue
        name = type(layer).__name__
        if hasattr(layer, "reseed"):
            lines.append(name)
        elif type(layer).__repr__ is object.__repr__:
            lines.append(f"{name}({', '.join(str(parameter.shape) for parameter in layer.parameters())})")
        else:
            lines.append(repr(layer))
    return lines


def describe_non_finite(model: Layer, x: FloatArray) -> str:
    """Say where the first NaN or infinity appears when the model computes on `x` in its present mode.

    Returns
    -------
    text : str, such as "first in the output of layer 2, Dense(64, 10), whose weight is not finite"
    """
    if not np.isfinite(x).all():
        return f"first in the input: {_count(x)}"
    with np.errstate(all="ignore"):
        for name, layer, output in _trace(model, x, ""):
            if not np.isfinite(output).all():
                place = f"layer {name}, {layer!r}" if name else repr(layer)
                wrong = [key for key, entry in layer.named_state() if not np.isfinite(entry.data).all()]
                cause = (
                    f", whose {' and '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not finite" if wrong else ""
                )
                return f"first in the output of {place}{cause}: {_count(output)}"
    return "in no layer's output: the loss itself is not finite for these predictions and targets"


def _trace(layer: Layer, x: FloatArray, path: str) -> Generator[tuple[str, Layer, FloatArray], None, FloatArray]:
    """Compute `layer` on x; yield (name, layer, output) for every layer in nested Sequentials; return the result."""
    if isinstance(layer, Sequential):
        for name, child in layer.children():
            x = yield from _trace(child, x, f"{path}.{name}" if path else name)
        return x
    output = layer.forward(x)
    yield path, layer, output
    return output


def _count(array: FloatArray) -> str:
    n_nan, n_infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    return f"{n_nan} NaN and {n_infinite} infinite of {array.size} values, shape {array.shape}"
