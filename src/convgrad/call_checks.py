"""Checks around a call that several functions share: flags, shapes given by the caller, results and where they go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ._native.memory import empty
from .checks import deliver, integer, output, plain_view
from .typing import AnyArray, Shape

_Maybe: TypeAlias = AnyArray | None
_Sizes: TypeAlias = tuple[int, ...]


def flag(function: str, name: str, value: bool) -> bool:
    """Check that `value` is True or False; return it as a plain bool."""
    if value is True or value is False:
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    raise TypeError(f"{function}: {name} must be True or False, got {type(value).__name__}")


def wanted_shapes(function: str, shapes: Iterable[_Sizes], **flags: bool) -> list[_Sizes | None]:
    """Return `shapes`, one for each of `flags`, with None where the flag is False."""
    return [
        shape if flag(function, name, value) else None
        for shape, (name, value) in zip(shapes, flags.items(), strict=True)
    ]


def sizes(function: str, name: str, value: Shape, expected: str = "a tuple of integers such as x.shape") -> _Sizes:
    """Return the shape `value` as a tuple of exact ints; `expected` is what messages ask for."""
    if type(value) is not tuple and not isinstance(value, (tuple, list)):
        raise TypeError(f"{function}: {name} must be {expected}, got {type(value).__name__}")
    return tuple([integer(function, f"every entry of {name}", size, 0) for size in value])


def check_grad_output(function: str, grad_output: AnyArray, expected: _Sizes, **given: object) -> None:
    """Refuse a grad_output that has not the shape of the forward function's result."""
    if grad_output.shape == expected:
        return
    forward = function.split("_grad_")[0].removesuffix("_backward")
    listed = ", ".join(f"{name} {value}" for name, value in given.items())
    raise ValueError(
        f"{function}: grad_output has shape {grad_output.shape} but {forward} returns {expected} for {listed} and "
        "these options; pass a gradient of that shape"
    )


def check_same_shape(function: str, **arrays: AnyArray) -> None:
    """Refuse two arrays of different shape."""
    (first_name, first), (second_name, second) = arrays.items()
    if first.shape != second.shape:
        raise ValueError(
            f"{function}: {first_name} has shape {first.shape} and {second_name} has {second.shape}; "
            "pass both of one shape"
        )


def check_vectors(function: str, length: int, what: str, **arrays: _Maybe) -> None:
    """Refuse an array, other than None, that is not a vector with one entry for each of `length` times `what`."""
    for name, array in arrays.items():
        if array is not None and array.shape != (length,):
            raise ValueError(
                f"{function}: {name} must have shape ({length},), one entry per {what}; got shape {array.shape}"
            )


def contiguous(array: Any) -> Any:
    """Return `array` itself where it is C-contiguous or None, else a copy that is."""
    return array if array is None or array.flags.c_contiguous else array.copy()


def clear(targets: Iterable[_Maybe]) -> None:
    """Fill the arrays among `targets`, others being None, with zeros."""
    for target in targets:
        if target is not None:
            target.fill(0)


def outputs(
    function: str,
    out: _Maybe | Sequence[_Maybe],
    names: Sequence[str],
    shapes: Sequence[_Sizes | None],
    dtypes: np.dtype[Any] | tuple[np.dtype[Any], ...],
    *inputs: _Maybe,
    in_place: Iterable[AnyArray] = (),
    primary: bool = False,
) -> tuple[list[Any], tuple[_Maybe, ...] | None]:
    """Several outputs at once: (targets, outs), the first for kernels, both for `deliver_all`.

    `out` is None or a tuple with one array or None for each of `names`; with `primary`, an array alone stands for the
    first. Entries whose shape is None are results that are not computed; their target is None. No result may share
    memory with `inputs` or with another result; the first result alone may overwrite `in_place`.
    """
    if not isinstance(dtypes, tuple):
        dtypes = (dtypes,) * len(names)
    if out is None:
        wanted = zip(shapes, dtypes, strict=True)
        return [None if shape is None else empty(shape, dtype, function) for shape, dtype in wanted], None
    if primary and isinstance(out, np.ndarray):
        outs = (out, *(None,) * (len(names) - 1))
    elif isinstance(out, (tuple, list)) and len(out) == len(names):
        outs = tuple(out)
    else:
        got = f"{len(out)} entries" if isinstance(out, (tuple, list)) else type(out).__name__
        alone = f"an array for {names[0]} or " if primary else ""
        raise TypeError(
            f"{function}: out must be {alone}a tuple ({', '.join(names)}) with None where no array is given, got {got}"
        )
    held = [(name, plain_view(entry)) for name, entry in zip(names, outs, strict=True) if isinstance(entry, np.ndarray)]
    for position, (name, array) in enumerate(held):
        for other_name, other in held[:position]:
            if np.may_share_memory(array, other) and _share_memory(array, other):
                raise ValueError(
                    f"{function}: out's {other_name} {other.shape} and {name} {array.shape} share memory; pass arrays "
                    "apart from each other"
                )
    targets: list[_Maybe] = []
    for position, (name, entry, shape, dtype) in enumerate(zip(names, outs, shapes, dtypes, strict=True)):
        if shape is None:
            if entry is not None:
                raise ValueError(f"{function}: out has an array for {name}, which is not computed; pass None there")
            targets.append(None)
            continue
        taken = [*inputs, *targets]
        taken += [array for array in in_place if position or entry is None or not same_memory(entry, array)]
        label = "out" if primary and entry is out else f"out's {name}"
        targets.append(output(function, entry, shape, dtype, *taken, name=label))
    return targets, outs


def deliver_all(targets: Sequence[_Maybe], outs: Sequence[_Maybe] | None) -> tuple[Any, ...]:
    """`deliver` for several results, once no kernel reads an input any more: an entry of `outs` may overlap one."""
    if outs is None:
        return tuple(targets)
    return tuple([None if target is None else deliver(target, out) for target, out in zip(targets, outs, strict=True)])


def _share_memory(a: AnyArray, b: AnyArray) -> bool:
    """True where two arrays have a byte in common; False too where that would take long to find out."""
    most: Any = 100_000  # candidate solutions
    try:
        return np.shares_memory(a, b, max_work=most)
    except np.exceptions.TooHardError:
        return False


def same_memory(out: object, array: AnyArray) -> bool:
    """True where the elements of both lie at the same addresses, in the same order."""
    if out is array:
        return True
    if not isinstance(out, np.ndarray):
        return False
    out = plain_view(out)
    return (
        out.shape == array.shape
        and out.strides == array.strides
        and out.__array_interface__["data"][0] == array.__array_interface__["data"][0]
    )
