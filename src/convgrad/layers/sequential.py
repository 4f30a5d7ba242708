"""A chain of layers."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, Literal, overload

from ..typing import FloatArray
from .base import Layer

__all__ = ["Sequential"]


class Sequential(Layer):
    """Layers applied one after another: y = f_n(... f_2(f_1(x))).

    Parameters
    ----------
    layers : iterable of Layer, each object at most once (a layer remembers one forward at a time)

    Notes
    -----
    A ValueError or TypeError from a layer is raised again with the layer's position, its description and the shape it
    was given. Indexing, `len` and iteration reach the layers.
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        if not isinstance(layers, Iterable):
            raise TypeError(f"Sequential: layers must be an iterable of Layer, got {type(layers).__name__}")
        self._layers = list(layers)
        for position, layer in enumerate(self._layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"Sequential: entry {position} must be a Layer, got {type(layer).__name__}")
        seen: dict[int, int] = {}
        for position, outer in enumerate(self._layers):
            for layer in outer.layers():
                if id(layer) in seen:
                    raise ValueError(
                        f"Sequential: {layer!r} stands at positions {seen[id(layer)]} and {position}; a layer "
                        "remembers one forward at a time, so create a second one"
                    )
                seen[id(layer)] = position

    def forward(self, x: FloatArray) -> FloatArray:
        for position, layer in enumerate(self._layers):
            try:
                x = layer.forward(x)
            except (ValueError, TypeError) as error:
                raise _located(error, position, layer, "x", x) from error
        return x

    @overload
    def backward(self, grad_output: FloatArray, *, input_grad: Literal[True] = ...) -> FloatArray: ...
    @overload
    def backward(self, grad_output: FloatArray, *, input_grad: Literal[False]) -> None: ...
    def backward(self, grad_output: FloatArray, *, input_grad: bool = True) -> FloatArray | None:
        """Send the gradient through the layers, last first.

        With `input_grad=False`, as in training, nothing is computed below the first layer that has parameters, and the
        result is None.
        """
        first = 0 if input_grad else self._first_with_parameters()
        for position in range(len(self._layers) - 1, first - 1, -1):
            layer: Any = self._layers[position]  # one with parameters takes input_grad
            try:
                if position == first and not input_grad:
                    layer.backward(grad_output, input_grad=False)
                    return None
                grad_output = layer.backward(grad_output)
            except (ValueError, TypeError) as error:
                raise _located(error, position, layer, "grad_output", grad_output) from error
        return grad_output if input_grad else None

    def children(self) -> Iterator[tuple[str, Layer]]:
        for position, layer in enumerate(self._layers):
            yield str(position), layer

    def _first_with_parameters(self) -> int:
        for position, layer in enumerate(self._layers):
            if any(True for _ in layer.named_parameters()):
                return position
        return len(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> list[Layer]: ...
    def __getitem__(self, index: int | slice) -> Layer | list[Layer]:
        return self._layers[index]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    def __repr__(self) -> str:
        lines = "".join(f"{layer!r},\n" for layer in self._layers)
        return f"Sequential([\n{textwrap.indent(lines, '  ')}])" if lines else "Sequential([])"


def _located(error: Exception, position: int, layer: Layer, name: str, array: object) -> Exception:
    """The same kind of error, with the place where it happened in front of its message."""
    kind = TypeError if isinstance(error, TypeError) else ValueError
    text = type(layer).__name__ if isinstance(layer, Sequential) else repr(layer)
    return kind(f"layer {position}, {text}, given {name} {getattr(array, 'shape', type(array).__name__)}: {error}")
