"""Checks that every functional shares: array arguments, integer options, outputs.

Each check either returns what the caller needs or raises. Messages follow one form: function, problem, values received,
what would work. Shapes and option values raise ValueError; types and dtypes raise TypeError.
"""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any, TypeVar, cast

import numpy as np

from ._native.memory import empty
from .typing import AnyArray, FloatArray, Int, Pair, Rng

Name = TypeVar("Name", bound=str)

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)

_LARGEST_INTEGER = 2**1000  # larger ones cannot always be printed


def plain_view(array: AnyArray) -> AnyArray:
    """`array` as an ndarray of exactly that type: what a subclass says of its shape, dtype or strides is not asked."""
    return array if type(array) is np.ndarray else np.ndarray.view(array, np.ndarray)


def shown(value: object) -> str:
    """`value` as messages show it: its repr, shortened where it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python converts
        return f"a number of {type(value).__name__} with thousands of digits"
    return text if len(text) <= 200 else f"{text[:150]}...{text[-40:]}"


def float_array(function: str, name: str, value: Any) -> Any:
    """Return `value` as an aligned plain ndarray of float32 or float64; TypeError for everything else.

    Strides, read-only flags and subclasses are accepted; only unaligned data is copied.
    """
    if type(value) is not np.ndarray:
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{function}: {name} is a masked array; fill it first, e.g. {name}.filled(0)")
        if not isinstance(value, np.ndarray):
            raise TypeError(
                f"{function}: {name} must be a NumPy array of float32 or float64, got {type(value).__name__}; "
                f"convert it with np.asarray({name}, dtype=np.float32)"
            )
        value = plain_view(value)
    dtype = value.dtype
    if dtype is not FLOAT32 and dtype is not FLOAT64 and (dtype != FLOAT32 and dtype != FLOAT64):
        if dtype.newbyteorder("=") in (FLOAT32, FLOAT64):
            native = dtype.newbyteorder("=").name
            raise TypeError(f"{function}: {name} is byte-swapped {native}; convert it with {name}.astype(np.{native})")
        raise TypeError(
            f"{function}: {name} is {dtype}; only float32 and float64 are supported, convert it with "
            f"{name}.astype(np.float32)"
        )
    if not value.flags.aligned:
        value = value.copy()
    return value


def float_arrays(function: str, optional: Collection[str] = (), /, **arrays: FloatArray | None) -> list[Any]:
    """Check several arrays with `float_array` and that their dtypes agree; those named in `optional` may be None.

    Returns the arrays as a list in the order given.
    """
    checked = []
    first_name = first_dtype = None
    for name, value in arrays.items():
        if value is not None or name not in optional:
            value = float_array(function, name, value)
            if first_dtype is None:
                first_name, first_dtype = name, value.dtype
            elif value.dtype != first_dtype:
                raise TypeError(
                    f"{function}: {first_name} is {first_dtype} and {name} is {value.dtype}; "
                    "pass both as float32 or both as float64"
                )
        checked.append(value)
    return checked


def integer(function: str, name: str, value: Int, minimum: int) -> int:
    """Return `value` as an int that is at least `minimum`."""
    if type(value) is not int:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{function}: {name} must be an integer, got {value!r}")
        try:
            value = operator.index(value)
        except TypeError:
            raise TypeError(
                f"{function}: {name} must be an integer, got {shown(value)} ({type(value).__name__})"
            ) from None
    if value < minimum:
        raise ValueError(f"{function}: {name} must be at least {minimum}, got {shown(value)}")
    if value > _LARGEST_INTEGER:
        raise ValueError(f"{function}: {name} must be an integer of at most 1000 bits, got one of {value.bit_length()}")
    return value


def pair(function: str, name: str, value: Pair, minimum: int) -> tuple[int, int]:
    """Return an int or a pair of ints as a tuple (for rows, for columns), each at least `minimum`."""
    if type(value) is int:
        if value >= minimum:
            return (value, value)
    elif isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{function}: {name} must be an integer or a pair of integers, got {shown(value)}")
        return (integer(function, name, value[0], minimum), integer(function, name, value[1], minimum))
    value = integer(function, name, value, minimum)
    return (value, value)


def choice(function: str, name: str, value: Name, allowed: Collection[str]) -> Name:
    """Return `value` if it is one of the strings `allowed`."""
    if isinstance(value, str):
        if value in allowed:
            return value if type(value) is str else cast("Name", str.__str__(value))
        raise ValueError(f"{function}: {name} must be one of {', '.join(map(repr, allowed))}; got {shown(value)}")
    raise TypeError(
        f"{function}: {name} must be a string, one of {', '.join(map(repr, allowed))}; got {type(value).__name__}"
    )


def generator(function: str, name: str, rng: Rng) -> np.random.Generator:
    """Return a numpy.random.Generator from a Generator (itself), an int seed >= 0, or None (fresh entropy)."""
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is not None:
        if isinstance(rng, (bool, np.bool_)) or not isinstance(rng, (int, np.integer)):
            raise TypeError(
                f"{function}: {name} must be a numpy.random.Generator, an integer seed or None; got {rng!r} "
                f"({type(rng).__name__})"
            )
        if rng < 0:
            raise ValueError(f"{function}: {name} must be at least 0 as a seed, got {rng}")
    return np.random.default_rng(rng)


def output(
    function: str,
    out: AnyArray | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *inputs: AnyArray | None,
    name: str = "out",
) -> AnyArray:
    """Return an array of `shape` and `dtype` that a kernel may write: a fresh one, `out`, or a stand-in for `out`.

    A kernel needs C order and no overlap with `inputs`; where `out` has not, the kernel writes a stand-in and `deliver`
    moves the result. Callers that can work in place pass only the inputs that must not be overwritten.
    """
    if out is None:
        return empty(shape, dtype, function)
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"{function}: {name} must be a NumPy array, got {type(out).__name__}")
    out = plain_view(out)
    if out.dtype != dtype:
        raise TypeError(f"{function}: {name} is {out.dtype} but the result is {dtype}; pass {name} as {dtype}")
    if out.shape != shape:
        raise ValueError(
            f"{function}: {name} has shape {out.shape} but the result has {shape}; pass {name} of that shape"
        )
    if not out.flags.writeable:
        raise ValueError(f"{function}: {name} is read-only; pass a writeable array of shape {shape}")
    if not (out.flags.c_contiguous and out.flags.aligned):
        if _overlaps_itself(out):
            raise ValueError(
                f"{function}: elements of {name} overlap each other, shape {shape} with strides {out.strides}; pass an "
                "array with memory for each"
            )
        return empty(shape, dtype, function)
    for array in inputs:
        if array is not None and np.may_share_memory(out, array):
            return empty(shape, dtype, function)
    return out


def _overlaps_itself(array: AnyArray) -> bool:
    """True where two elements of an array share memory, as in broadcast or sliding views."""
    reach, doubtful = array.itemsize, False
    for stride, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True)):
        if size > 1:
            if stride == 0:
                return array.size > 0
            doubtful |= stride < reach
            reach += stride * (size - 1)
    if not doubtful or array.size == 0:
        return False
    offsets = np.zeros((), np.int64)
    for stride, size in zip(array.strides, array.shape, strict=True):
        offsets = offsets[..., None] + np.arange(size, dtype=np.int64) * stride
    return bool((np.diff(np.sort(offsets, axis=None)) < array.itemsize).any())


def deliver(result: AnyArray, out: AnyArray | None) -> AnyArray:
    """Return `out` holding `result`, or `result` itself where no `out` was given."""
    if out is None or out is result:
        return result
    plain = plain_view(out)
    if not np.may_share_memory(plain, result):
        plain[...] = result
    return out
