"""Learning rates that change while training: functions of the epochs done.

Every function here returns a schedule, a function from the number of epochs done (a float: 2.5 is the middle of the
third) to a learning rate. `training.fit(schedule=...)` asks it before each step; any function of one number will do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .activations import finite_parameter
from .typing import Int

__all__ = ["Schedule", "constant", "cosine", "exponential", "linear", "one_cycle", "steps", "with_warmup"]

Schedule = Callable[[float], float]


def constant(learning_rate: float) -> Schedule:
    """The same rate always."""
    rate = _rate("constant", learning_rate)
    return lambda epochs: rate


def steps(learning_rate: float, at: Sequence[float], factor: float = 0.1) -> Schedule:
    """The rate times `factor` once for each entry of `at` (epochs) that has been reached."""
    rate, factor = _rate("steps", learning_rate), _rate("steps", factor, "factor")
    places = sorted(_positive("steps", "at", place) for place in at)
    return lambda epochs: rate * factor ** sum(epochs >= place for place in places)


def exponential(learning_rate: float, decay: float) -> Schedule:
    """rate * decay ** epochs."""
    rate, decay = _rate("exponential", learning_rate), _positive("exponential", "decay", decay)
    return lambda epochs: rate * decay**epochs


def linear(learning_rate: float, epochs: float, end: float = 0.0) -> Schedule:
    """A straight line from the rate to `end` after `epochs`, and `end` from there on."""
    rate, length = _rate("linear", learning_rate), _positive("linear", "epochs", epochs)
    last = _rate("linear", end, "end")
    return lambda done: rate + (last - rate) * min(done / length, 1.0)


def cosine(learning_rate: float, epochs: float, end: float = 0.0) -> Schedule:
    """end + (rate - end) (1 + cos(pi t)) / 2, t = epochs done / `epochs`, at most 1.

    Source: Loshchilov, Hutter (2016), arXiv 1608.03983, eq. 5, without restarts.
    """
    rate, length = _rate("cosine", learning_rate), _positive("cosine", "epochs", epochs)
    last = _rate("cosine", end, "end")
    return lambda done: last + (rate - last) * (1 + math.cos(math.pi * min(done / length, 1.0))) / 2


def one_cycle(learning_rate: float, epochs: float, *, rise: float = 0.3, start: float = 0.04) -> Schedule:
    """Up from start * rate to the rate in the first `rise` of the epochs, then down to 0, each a half cosine.

    Source: Smith (2018), arXiv 1803.09820, section 5.
    """
    rate, length = _rate("one_cycle", learning_rate), _positive("one_cycle", "epochs", epochs)
    if not 0 < rise < 1:
        raise ValueError(f"schedules.one_cycle: rise must be between 0 and 1, both excluded; got {rise!r}")
    low = rate * _rate("one_cycle", start, "start")

    def schedule(done: float) -> float:
        place = min(done / length, 1.0)
        if place < rise:
            return low + (rate - low) * (1 - math.cos(math.pi * place / rise)) / 2
        return rate * (1 + math.cos(math.pi * (place - rise) / (1 - rise))) / 2

    return schedule


def with_warmup(schedule: Schedule, epochs: float) -> Schedule:
    """`schedule` times a factor that rises in a straight line from 0, in the first step, to 1 after `epochs`."""
    if not callable(schedule):
        raise TypeError(f"schedules.with_warmup: schedule must be a function of the epochs done, got {schedule!r}")
    length = _positive("with_warmup", "epochs", epochs)
    return lambda done: schedule(done) * min(done / length, 1.0)


def check(function: str, rate: object, epochs: float) -> float:
    """Return a schedule's answer as a finite float of at least 0; `function` names the caller in errors."""
    try:
        value = float(rate)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"{function}: schedule must give finite rates of at least 0, got {rate!r} at {epochs} epochs")
    return value


def _rate(function: str, value: float, name: str = "learning_rate") -> float:
    number = finite_parameter(f"schedules.{function}", name, value)
    if number < 0:
        raise ValueError(f"schedules.{function}: {name} must be at least 0, got {value!r}")
    return number


def _positive(function: str, name: str, value: float | Int) -> float:
    number = finite_parameter(f"schedules.{function}", name, value)  # type: ignore[arg-type]
    if number <= 0:
        raise ValueError(f"schedules.{function}: {name} must be above 0, got {value!r}")
    return number
