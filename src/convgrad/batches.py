"""Mini-batches: from arrays, from memory-mapped files, from anything that yields them.

Only one batch is held at a time: of a memory-mapped array the rows that a batch needs are read, an iterator is asked
for its next batch when the one before is done with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from .augmentation import Augmentation
from .checks import generator, integer
from .typing import AnyArray, Int, Rng

__all__ = ["BatchSource", "Batches", "check_batched", "check_samples", "passes"]

BatchSource = Iterable[tuple[AnyArray, AnyArray]] | Callable[[], Iterable[tuple[AnyArray, AnyArray]]]
"""What `training.fit` takes in place of two arrays."""


class Batches:
    """Batches (x, y) of two arrays; each pass over it is a new random order.

    Parameters
    ----------
    x, y : ndarray (N, ...) each, np.memmap among them
    batch_size : int, at least 1; the last batch of a pass may be smaller
    shuffle : bool
    rng : numpy.random.Generator, int seed or None, for order and augmentation
    augment : function (x, rng) -> x for each batch, such as those of `convgrad.augmentation`, or None

    Raises
    ------
    ValueError, TypeError : not two arrays of the same length of at least 1

    Examples
    --------
    >>> import numpy as np
    >>> from convgrad.batches import Batches
    >>> [len(x) for x, y in Batches(np.zeros((10, 3)), np.arange(10), batch_size=4, rng=0)]
    [4, 4, 2]
    """

    def __init__(
        self,
        x: AnyArray,
        y: AnyArray,
        batch_size: Int = 32,
        *,
        shuffle: bool = True,
        rng: Rng = None,
        augment: Augmentation | None = None,
    ) -> None:
        self.x, self.y = check_samples("Batches", x, y)
        self.batch_size = integer("Batches", "batch_size", batch_size, 1)
        self.shuffle = bool(shuffle)
        self.rng = generator("Batches", "rng", rng)
        if augment is not None and not callable(augment):
            raise TypeError(f"Batches: augment must be a function (x, rng) -> x, got {augment!r}")
        self.augment = augment

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[AnyArray, AnyArray]]:
        order = self.rng.permutation(len(self.x)) if self.shuffle else np.arange(len(self.x))
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            # indexing with an array copies, so that what comes from a memory-mapped file is in memory now
            x, y = np.asarray(self.x[chosen]), np.asarray(self.y[chosen])
            yield (x if self.augment is None else self.augment(x, self.rng)), y


def check_samples(function: str, x: Any, y: Any, names: tuple[str, str] = ("x", "y")) -> tuple[AnyArray, AnyArray]:
    """Return x and y, two arrays with the same number of samples, at least one."""
    for name, array in zip(names, (x, y), strict=True):
        check_batched(function, name, array)
    if len(x) != len(y):
        raise ValueError(
            f"{function}: {names[0]} has {len(x)} samples and {names[1]} {len(y)}; shapes {x.shape} and {y.shape}"
        )
    if not len(x):
        raise ValueError(f"{function}: {names[0]} has no samples; shape {x.shape}")
    return x, y


def check_batched(function: str, name: str, array: Any) -> AnyArray:
    """Return `array`, an ndarray with samples along its first axis."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{function}: {name} must be a NumPy array, got {type(array).__name__}")
    if array.ndim < 1:
        raise ValueError(f"{function}: {name} must have samples along its first axis, got shape {array.shape}")
    return array


def passes(function: str, source: Any, n_passes: int) -> Callable[[], Iterator[tuple[AnyArray, AnyArray]]]:
    """Return a function that starts a pass over `source`, an iterable or a function that makes one.

    Batches are checked as they come; a pass without any is a ValueError.
    """
    if not callable(source) and not isinstance(source, Iterable):
        raise TypeError(
            f"{function}: x must be a NumPy array, an iterable of batches (x, y) or a function that returns one; "
            f"got {type(source).__name__}"
        )
    if isinstance(source, Iterator) and n_passes > 1:
        raise ValueError(
            f"{function}: an iterator is used up after one of {n_passes} epochs; pass a function that makes a new one"
        )

    def start() -> Iterator[tuple[AnyArray, AnyArray]]:
        position = 0
        for position, batch in enumerate(source() if callable(source) else source, 1):
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise ValueError(f"{function}: batch {position} must be a pair (x, y), got {type(batch).__name__}")
            x, y = batch
            yield check_samples(function, x, y, (f"batch {position}'s x", f"batch {position}'s y"))
        if not position:
            raise ValueError(f"{function}: x gave no batch; an iterator can be used only once")

    return start
