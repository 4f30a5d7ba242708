"""What every layer has in common: modes, parameters, state dicts.

A layer owns its arrays as `Parameter` objects and remembers, from `forward` to `backward`, what the derivative needs.

Gradients are stored, not added up: every `backward` puts fresh gradients into `Parameter.grad`, and there is nothing to
zero between steps. A layer object can therefore stand in a network only once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..typing import AnyArray, FloatArray

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from .inspection import Summary

__all__ = ["Buffer", "Layer", "Parameter"]


class Parameter:
    """A trainable array and its gradient.

    Attributes
    ----------
    data : ndarray, float32 or float64; optimizers update it in place
    grad : ndarray of the same shape and dtype from the last backward, or None before the first
    """

    __slots__ = ("__weakref__", "data", "grad")

    def __init__(self, data: FloatArray) -> None:
        self.data = data
        self.grad: FloatArray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[np.float32 | np.float64]:
        return self.data.dtype

    @property
    def size(self) -> int:
        return self.data.size

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles have arrays of their own, writeable also where a layer in evaluation mode locked these."""
        return _restored, (self.data, self.grad)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> AnyArray:
        if copy is None:  # where needed; NumPy 1 does not know that word
            return np.asarray(self.data, dtype)
        return np.array(self.data, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape}, dtype={self.dtype})"


def _restored(data: FloatArray, grad: FloatArray | None) -> Parameter:
    parameter = Parameter(np.array(data))
    parameter.grad = grad
    return parameter


class Buffer:
    """An array that belongs to a layer's state but is not trained, such as running statistics.

    Attributes
    ----------
    data : ndarray; layers update it in place
    """

    __slots__ = ("data",)

    def __init__(self, data: AnyArray) -> None:
        self.data = data

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    def __repr__(self) -> str:
        return f"Buffer(shape={self.shape}, dtype={self.dtype})"


class Layer:
    """Base class of all layers.

    A subclass defines `forward(x)` and `backward(grad_output)`. Attributes that hold a `Parameter`, a `Buffer` or a
    `Layer` are found by themselves, in the order in which they were set. `backward` returns the gradient by the
    layer's input; a layer with parameters also stores theirs, and takes `input_grad=False`, which saves that work and
    returns None.

    Attributes
    ----------
    training : bool, True until `eval()` is called; dropout acts only while it is True
    """

    training = True

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the layer's output for the batch `x`, and remember what `backward` will need.

        Arrays are remembered, not copied: change neither `x` nor the output in place before `backward`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(x)")

    def backward(self, grad_output: FloatArray) -> FloatArray:
        """Return the gradient of the loss by the last forward's input, given that by its output."""
        raise NotImplementedError(f"{type(self).__name__} must define backward(grad_output)")

    def __call__(self, x: FloatArray) -> FloatArray:
        return self.forward(x)

    def children(self) -> Iterator[tuple[str, Layer]]:
        """Yield (name, layer) for every layer directly inside this one."""
        for name, value in vars(self).items():
            if isinstance(value, Layer):
                yield name, value

    def layers(self) -> Iterator[Layer]:
        """Yield this layer and all layers inside it, outermost first."""
        yield self
        for _, child in self.children():
            yield from child.layers()

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Yield (name, Parameter), named as PyTorch names them: "weight", or "0.weight" inside a Sequential."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield prefix + name, value
        for name, child in self.children():
            yield from child.named_parameters(f"{prefix}{name}.")

    def parameters(self) -> list[Parameter]:
        """List of all parameters, in the order of `named_parameters`."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_state(self, prefix: str = "") -> Iterator[tuple[str, Parameter | Buffer]]:
        """Yield (name, Parameter or Buffer), layer by layer, each layer's buffers after its parameters."""
        for kind in (Parameter, Buffer):
            for name, value in vars(self).items():
                if isinstance(value, kind):
                    yield prefix + name, value
        for name, child in self.children():
            yield from child.named_state(f"{prefix}{name}.")

    def train(self, mode: bool = True) -> Self:
        """Switch this layer and all layers inside it to training mode (or, with False, to evaluation); return self."""
        for layer in self.layers():
            layer.switch(mode)
        return self

    def eval(self) -> Self:
        """Switch this layer and all layers inside it to evaluation mode; return self.

        Weights are read-only until `train()`, so that layers may keep them packed for their kernels.
        """
        return self.train(False)

    def switch(self, mode: bool) -> None:
        """Switch this layer alone to training mode (or, with False, to evaluation)."""
        self.training = bool(mode)
        self._unlock() if mode else self._lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_locked"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.switch(self.training)

    def _lock(self) -> None:
        """Make this layer's own parameters read-only, and remember which were not."""
        own = [value.data for value in vars(self).values() if isinstance(value, Parameter)]
        self._locked = [*getattr(self, "_locked", ()), *(array for array in own if array.flags.writeable)]
        for array in self._locked:
            array.flags.writeable = False

    def _unlock(self) -> None:
        """Make writeable what `_lock` made read-only; layers that keep packed weights drop them."""
        for array in getattr(self, "_locked", ()):
            array.flags.writeable = True
        self._locked = []

    def state_dict(self) -> dict[str, AnyArray]:
        """Return a dict from names to copies of all parameters and buffers, with PyTorch's names and layouts."""
        return {name: entry.data.copy() for name, entry in self.named_state()}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> Self:
        """Copy arrays from `state` into parameters and buffers; nothing changes unless everything fits.

        Parameters
        ----------
        state : mapping from name to array_like; PyTorch's `module.state_dict()` can be passed as it is

        Returns
        -------
        self

        Raises
        ------
        ValueError : names every missing, unexpected, misshapen or wrongly typed entry, all in one message
        TypeError : `state` is not a mapping
        """
        if not hasattr(state, "items"):
            raise TypeError(f"load_state_dict: state must map names to arrays, got {type(state).__name__}")
        given = {name: np.asarray(value) for name, value in state.items()}
        own = dict(self.named_state())
        problems = _mismatches(own, given)
        if problems:
            raise ValueError(f"load_state_dict: entries do not fit this {type(self).__name__}: {'; '.join(problems)}")
        for layer in self.layers():
            layer._unlock()
        for name, parameter in own.items():
            parameter.data[...] = given[name]
        for layer in self.layers():
            layer.switch(layer.training)
        return self

    def summary(self, input_shape: tuple[int, ...]) -> Summary:
        """Shapes and parameter counts, layer by layer; see `layers.summary`."""
        from .inspection import summary

        return summary(self, input_shape)

    def _remembered(self, name: str) -> Any:
        """What `forward` left in attribute `name` for `backward`; RuntimeError where forward was not called."""
        value = getattr(self, name, None)
        if value is None:
            raise RuntimeError(f"{type(self).__name__}.backward: call forward first")
        return value


def _mismatches(own: Mapping[str, Parameter | Buffer], given: dict[str, AnyArray]) -> list[str]:
    missing = [f"{name} {parameter.shape}" for name, parameter in own.items() if name not in given]
    extra = [f"{name} {array.shape}" for name, array in given.items() if name not in own]
    shapes, dtypes = [], []
    for name, parameter in own.items():
        array = given.get(name)
        if array is not None and array.shape != parameter.shape:
            shapes.append(f"{name} has {array.shape} but the model holds {parameter.shape}")
        elif array is not None and array.dtype != parameter.dtype:
            dtypes.append(f"{name} is {array.dtype} but the model holds {parameter.dtype}")
    kinds = {"missing": missing, "unexpected": extra, "wrong shape": shapes, "wrong dtype": dtypes}
    return [f"{kind}: {', '.join(entries)}" for kind, entries in kinds.items() if entries]
