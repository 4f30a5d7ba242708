"""What an optimizer remembers, as named arrays and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .typing import AnyArray

if TYPE_CHECKING:
    from .layers import Parameter

__all__ = ["read_states", "written_states"]


def written_states(states: Sequence[Sequence[Any]]) -> dict[str, AnyArray]:
    """Copies of states [steps, arrays...] by name, "POSITION.steps", "POSITION.0", ...; unused ones are left out."""
    written = {}
    for position, (steps, *arrays) in enumerate(states):
        if steps:
            written[f"{position}.steps"] = np.array(steps)
            written |= {f"{position}.{i}": array.copy() for i, array in enumerate(arrays)}
    return written


def read_states(
    function: str, parameters: Sequence[Parameter], given: Mapping[str, AnyArray], n_arrays: int
) -> dict[int, list[Any]]:
    """States [steps, arrays...] by position from what `written_states` returned.

    Raises
    ------
    ValueError : names every entry that is missing, not known or of another shape or dtype
    """
    rest = {name: np.asarray(value) for name, value in given.items()}
    problems: list[str] = []
    states: dict[int, list[Any]] = {}
    for position, parameter in enumerate(parameters):
        steps = rest.pop(f"{position}.steps", None)
        if steps is None:
            continue
        if steps.shape or steps.dtype.kind not in "iu" or steps < 0:
            problems.append(f"{position}.steps is {steps.dtype} {steps.shape}, expected a count")
            steps = np.array(0)
        states[position] = [int(steps)]
        for name in (f"{position}.{i}" for i in range(n_arrays)):
            array = rest.pop(name, None)
            if array is None or array.shape != parameter.shape or array.dtype != parameter.dtype:
                found = "missing" if array is None else f"{array.dtype} {array.shape}"
                problems.append(f"{name} is {found}, expected {parameter.dtype} {parameter.shape}")
            else:
                states[position].append(array.copy())
    problems += [f"{name} is not known" for name in rest]
    if problems:
        raise ValueError(f"{function}: {'; '.join(problems)}")
    return states
