"""What can be done after each epoch of `training.fit`: stop early, slow down, save.

A callback is any function of one argument, the `runs.Run`; `run.history` holds the new epoch's figures,
`run.model` and `run.optimizer` are at hand, `run.stop("reason")` ends training after this epoch. A callback with a
method `finish(run)` gets a last word at the end, and what it keeps in a dict `state` of plain numbers, or in a
dict `arrays` of arrays, is saved and restored with the run.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from .checks import integer
from .typing import AnyArray, Int

if TYPE_CHECKING:
    from .runs import Run

__all__ = ["Checkpoint", "EarlyStopping", "ReduceOnPlateau"]


class _Watcher:
    """Counts the epochs since a figure of the history was at its best."""

    def __init__(self, monitor: str, patience: Int, min_change: float) -> None:
        function = type(self).__name__
        if not isinstance(monitor, str):
            raise TypeError(f"{function}: monitor must be a key of the history, such as 'val_loss'; got {monitor!r}")
        self.monitor = monitor
        self.patience = integer(function, "patience", patience, 1)
        if not 0 <= min_change < math.inf:
            raise ValueError(f"{function}: min_change must be finite and at least 0, got {min_change!r}")
        self.min_change = min_change
        self.state: dict[str, Any] = {"best": None, "best_epoch": 0, "waited": 0}

    def watch(self, run: Run) -> bool:
        """Take note of the new figure; return whether it is the best so far."""
        if not run.history.get(self.monitor):
            raise ValueError(
                f"{type(self).__name__}: monitor={self.monitor!r} is not in the history, which has "
                f"{', '.join(map(repr, run.history))}; 'val_...' needs validation_data"
            )
        value, state = run.history[self.monitor][-1], self.state
        # accuracies should rise, everything else should fall
        sign = -1 if self.monitor.endswith("accuracy") else 1
        better = state["best"] is None or sign * value < sign * state["best"] - self.min_change
        state["waited"] += 1
        if better:
            state |= {"best": value, "best_epoch": run.epoch, "waited": 0}
        return better


class EarlyStopping(_Watcher):
    """End training when a figure has not improved for `patience` epochs, and go back to the best epoch's weights.

    Parameters
    ----------
    monitor : str, a key of the history; figures ending in "accuracy" should rise, others fall
    patience : int, at least 1, epochs
    min_change : float, at least 0: what counts as an improvement
    restore_best : bool, put the weights of the best epoch back at the end, however training ends

    Source: Prechelt (1998), "Early stopping - but when?", in Neural networks: tricks of the trade.
    """

    def __init__(
        self, monitor: str = "val_loss", *, patience: Int = 5, min_change: float = 0.0, restore_best: bool = True
    ) -> None:
        super().__init__(monitor, patience, min_change)
        self.restore_best = bool(restore_best)
        self.arrays: dict[str, AnyArray] = {}

    def __call__(self, run: Run) -> None:
        if self.watch(run) and self.restore_best:
            self.arrays = run.model.state_dict()
        if self.state["waited"] >= self.patience:
            run.stop(f"{self.monitor} has not improved since epoch {self.state['best_epoch']}")

    def finish(self, run: Run) -> None:
        if self.arrays and self.state["waited"]:
            run.model.load_state_dict(self.arrays)
            run.say(f"back to the weights of epoch {self.state['best_epoch']}")


class ReduceOnPlateau(_Watcher):
    """Multiply the learning rate by `factor` whenever a figure has not improved for `patience` epochs.

    Parameters
    ----------
    monitor, patience, min_change : as for `EarlyStopping`
    factor : float between 0 and 1
    minimum : float, at least 0: the rate goes no lower
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        factor: float = 0.1,
        patience: Int = 3,
        min_change: float = 0.0,
        minimum: float = 0.0,
    ) -> None:
        super().__init__(monitor, patience, min_change)
        if not 0 < factor < 1:
            raise ValueError(f"ReduceOnPlateau: factor must be between 0 and 1, both excluded; got {factor!r}")
        if not 0 <= minimum < math.inf:
            raise ValueError(f"ReduceOnPlateau: minimum must be finite and at least 0, got {minimum!r}")
        self.factor, self.minimum = factor, minimum

    def __call__(self, run: Run) -> None:
        if run.schedule is not None:
            raise ValueError("ReduceOnPlateau: fit was given a schedule, which sets the learning rate before each step")
        self.watch(run)
        if self.state["waited"] >= self.patience:
            self.state["waited"] = 0
            run.optimizer.learning_rate = max(self.minimum, run.optimizer.learning_rate * self.factor)
            run.say(f"learning rate {run.optimizer.learning_rate:.3g}")


class Checkpoint:
    """Save the whole run (`runs.Run.save`) after every `every` epochs and at the end; `fit(resume=path)` goes on.

    Put it last among the callbacks, so that what the others did is saved too.

    Parameters
    ----------
    path : str or path-like
    every : int, at least 1, epochs
    """

    def __init__(self, path: str | os.PathLike[str], *, every: Int = 1) -> None:
        self.path = os.fspath(path)
        self.every = integer("Checkpoint", "every", every, 1)

    def __call__(self, run: Run) -> None:
        if run.epoch % self.every == 0 or run.epoch == run.epochs or run.stopped:
            run.save(self.path)
