"""A training run in progress, and what remains of it: its history, its checkpoints."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from . import checkpoints
from .checks import shown
from .layers import Layer
from .optimizers import Optimizer
from .schedules import Schedule
from .typing import AnyArray

__all__ = ["History", "Run"]


class History(dict[str, list[float]]):
    """What `fit` returns: a dict of lists with one entry per finished epoch.

    Keys: "loss", and "accuracy" where the loss classifies (softmax_cross_entropy, sigmoid_cross_entropy); "val_loss"
    and "val_accuracy" likewise with validation data; "learning_rate" at the end of the epoch with a schedule;
    "seconds", validation included. Training figures are means over the epoch's batches, taken while the weights change
    (and with dropout active).

    Attributes
    ----------
    interrupted : bool, True where Ctrl-C ended the run; the epoch it struck is not in the lists
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        super().__init__((key, []) for key in keys)
        self.interrupted = False

    def trim(self) -> None:
        """Drop the epoch of which Ctrl-C let only some figures be appended."""
        n_epochs = min(map(len, self.values()), default=0)
        for figures in self.values():
            del figures[n_epochs:]


def _is_alike(own: Any, saved: Any) -> bool:
    """Whether a callback that holds `own` may take `saved` in its place: a number for a number."""
    return not isinstance(own, int | float | None) or isinstance(saved, int | float) or (own is None is saved)


class Run:
    """A training run in progress: what callbacks get after each epoch.

    Attributes
    ----------
    model : Layer
    optimizer : Optimizer
    schedule : function of the epochs done, or None
    epoch, epochs : int, how many are done and how many there shall be
    history : History, the finished epoch's figures at the end of each list
    stopped : bool, whether `stop` was called
    callbacks : sequence of the functions given to `fit`
    generators : dict of the random generators that order and augmentation come from
    progress : bool, whether lines are printed
    """

    def __init__(self, model: Layer, optimizer: Optimizer, epochs: int, history: History, progress: bool) -> None:
        self.model, self.optimizer, self.epochs, self.history = model, optimizer, epochs, history
        self.schedule: Schedule | None = None
        self.epoch = 0
        self.stopped = False
        self.progress = progress
        self.generators: dict[str, np.random.Generator] = {}
        self.callbacks: Sequence[Any] = ()

    def stop(self, reason: str = "") -> None:
        """End training after this epoch, and say why."""
        self.stopped = True
        self.say(f"stopped after epoch {self.epoch}{': ' if reason else ''}{reason}")

    def say(self, text: str) -> None:
        """Print a line where progress is shown."""
        if self.progress:
            print(text, flush=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything from which `fit(resume=path)` goes on bit for bit, into a safetensors file."""
        notes = {
            "epoch": self.epoch,
            "stopped": self.stopped,
            "history": dict(self.history),
            "callbacks": [getattr(callback, "state", None) for callback in self.callbacks],
        }
        arrays = {
            f"{position}.{name}": array
            for position, callback in enumerate(self.callbacks)
            for name, array in getattr(callback, "arrays", {}).items()
        }
        checkpoints.save_run(path, **self._parts(), notes=notes, arrays=arrays)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take up what `save` wrote, for the same architecture, kind of optimizer and callbacks.

        Raises
        ------
        ValueError, OSError : as for `checkpoints.load_run`; other callbacks
        """
        states = [getattr(callback, "state", None) for callback in self.callbacks]

        def accept(notes: dict[str, Any], arrays: dict[str, AnyArray]) -> None:
            if [type(state) for state in notes["callbacks"]] != [type(state) for state in states]:
                raise ValueError("it was saved with other callbacks; pass the same in the same order")
            for own, saved in zip(states, notes["callbacks"], strict=True):
                for key, value in (own or {}).items():
                    if not _is_alike(value, saved[key]):
                        raise ValueError(f"a callback's {key!r} is {shown(saved[key])}, here it is {shown(value)}")
            if type(notes["epoch"]) is not int or type(notes["stopped"]) is not bool:
                raise ValueError(f"epoch {shown(notes['epoch'])}, stopped {shown(notes['stopped'])}")
            if {len(figures) for figures in notes["history"].values()} != {notes["epoch"]}:
                raise ValueError(f"epoch {notes['epoch']} does not fit its history")
            float(sum(sum(figures) for figures in notes["history"].values()))

        notes, arrays = checkpoints.load_run(path, **self._parts(), accept=accept)
        self.epoch, self.stopped = int(notes["epoch"]), bool(notes["stopped"])
        for position, (own, saved) in enumerate(zip(states, notes["callbacks"], strict=True)):
            if own is not None:
                own |= saved
            if hasattr(self.callbacks[position], "arrays"):
                prefix = f"{position}."
                mine = {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
                self.callbacks[position].arrays = mine
        unknown = [math.nan] * self.epoch  # figures that the saved run did not take
        for key in self.history:
            self.history[key] = [float(figure) for figure in notes["history"].get(key, unknown)]

    def _parts(self) -> dict[str, Any]:
        parts = {"models": {"model": self.model}, "optimizers": {"model": self.optimizer}}
        return {**parts, "generators": self.generators}

    def line(self, seconds: float) -> None:
        """Print the finished epoch's figures where progress is shown."""
        keys = [key for key in ("loss", "accuracy", "val_loss", "val_accuracy") if key in self.history]
        figures = "  ".join(f"{key} {self.history[key][-1]:.4f}" for key in keys)
        self.say(f"epoch {self.epoch:{len(str(self.epochs))}d}/{self.epochs}  {figures}  {seconds:.2f} s")
