"""Checks that every functional shares: array arguments, integer options, outputs.

Each check either returns what the caller needs or raises. Messages follow one form: function, problem, values received,
what would work. Shapes and option values raise ValueError; types and dtypes raise TypeError.
"""

import operator

import numpy as np

from ._native.memory import empty

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)


def float_array(function, name, value):
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
        value = value.view(np.ndarray)
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


def float_arrays(function, **arrays):
    """Check several arrays with `float_array` and that their dtypes agree; None passes through.

    Returns the arrays as a list in the order given.
    """
    checked = []
    first_name = first_dtype = None
    for name, value in arrays.items():
        if value is not None:
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


def integer(function, name, value, minimum):
    """Return `value` as an int that is at least `minimum`."""
    if type(value) is not int:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{function}: {name} must be an integer, got {value!r}")
        try:
            value = operator.index(value)
        except TypeError:
            raise TypeError(f"{function}: {name} must be an integer, got {value!r} ({type(value).__name__})") from None
    if value < minimum:
        raise ValueError(f"{function}: {name} must be at least {minimum}, got {value}")
    return value


def pair(function, name, value, minimum):
    """Return an int or a pair of ints as a tuple (for rows, for columns), each at least `minimum`."""
    if type(value) is int:
        if value >= minimum:
            return (value, value)
    elif isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{function}: {name} must be an integer or a pair of integers, got {value!r}")
        return (integer(function, name, value[0], minimum), integer(function, name, value[1], minimum))
    value = integer(function, name, value, minimum)
    return (value, value)


def choice(function, name, value, allowed):
    """Return `value` if it is one of the strings `allowed`."""
    if isinstance(value, str):
        if value in allowed:
            return value
        raise ValueError(f"{function}: {name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")
    raise TypeError(
        f"{function}: {name} must be a string, one of {', '.join(map(repr, allowed))}; got {type(value).__name__}"
    )


def output(function, out, shape, dtype, *inputs, name="out"):
    """Return an array of `shape` and `dtype` that a kernel may write: a fresh one, `out`, or a stand-in for `out`.

    A kernel needs C order and no overlap with `inputs`; where `out` has not, the kernel writes a stand-in and `deliver`
    moves the result. Callers that can work in place pass only the inputs that must not be overwritten.
    """
    if out is None:
        return empty(shape, dtype)
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"{function}: {name} must be a NumPy array, got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"{function}: {name} is {out.dtype} but the result is {dtype}; pass {name} as {dtype}")
    if out.shape != shape:
        raise ValueError(f"{function}: {name} has shape {out.shape} but the result has {shape}; pass {name} of that shape")
    if not out.flags.writeable:
        raise ValueError(f"{function}: {name} is read-only; pass a writeable array of shape {shape}")
    if not (out.flags.c_contiguous and out.flags.aligned):
        return empty(shape, dtype)
    for array in inputs:
        if array is not None and np.may_share_memory(out, array):
            return empty(shape, dtype)
    return out if type(out) is np.ndarray else out.view(np.ndarray)


def deliver(result, out):
    """Return `out` holding `result`, or `result` itself where no `out` was given."""
    if out is None or out is result:
        return result
    if not np.may_share_memory(out, result):
        out[...] = result
    return out


def outputs(function, out, names, shapes, dtypes, *inputs, in_place=(), primary=False):
    """Several outputs at once: (targets, outs), for kernels and for `deliver_all`.

    `out` is None or a tuple with one array or None for each of `names`; with `primary`, an array alone stands for the
    first. Entries whose shape is None are results that do not exist. The first result alone may overwrite `in_place`;
    no result may share memory with another.
    """
    if out is None:
        outs = (None,) * len(names)
    elif primary and isinstance(out, np.ndarray):
        outs = (out, *(None,) * (len(names) - 1))
    elif isinstance(out, (tuple, list)) and len(out) == len(names):
        outs = tuple(out)
    else:
        got = f"{len(out)} entries" if isinstance(out, (tuple, list)) else type(out).__name__
        alone = f"an array for {names[0]} or " if primary else ""
        raise TypeError(
            f"{function}: out must be {alone}a tuple ({', '.join(names)}) with None where no array is given, got {got}"
        )
    if not isinstance(dtypes, tuple):
        dtypes = (dtypes,) * len(names)
    targets = []
    for position, (name, entry, shape, dtype) in enumerate(zip(names, outs, shapes, dtypes, strict=True)):
        if shape is None:
            if entry is not None:
                raise ValueError(f"{function}: out has an array for {name}, which is not computed; pass None there")
            targets.append(None)
            continue
        taken = [*inputs, *(target for target in targets if target is not None)]
        taken += [array for array in in_place if position or entry is None or not same_memory(entry, array)]
        label = "out" if primary and entry is out else f"out's {name}"
        targets.append(output(function, entry, shape, dtype, *taken, name=label))
    return targets, outs


def deliver_all(targets, outs):
    """`deliver` for several results, once no kernel reads an input any more; a tuple."""
    return tuple([None if target is None else deliver(target, out) for target, out in zip(targets, outs, strict=True)])


def same_memory(out, array):
    """True where the elements of both lie at the same addresses, in the same order."""
    return out is array or (
        isinstance(out, np.ndarray)
        and out.shape == array.shape
        and out.strides == array.strides
        and out.__array_interface__["data"][0] == array.__array_interface__["data"][0]
    )
