"""Checks around a call that several functions share: flags, shapes given by the caller, results and where they go."""

import numpy as np

from .checks import deliver, float_array, float_arrays, integer, output


def required_arrays(function, **arrays):
    """`checks.float_arrays` for arrays none of which may be None."""
    for name, value in arrays.items():
        if value is None:
            float_array(function, name, value)
    return float_arrays(function, **arrays)


def flag(function, name, value):
    """Check that `value` is True or False; return it as a plain bool."""
    if value is True or value is False:
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    raise TypeError(f"{function}: {name} must be True or False, got {type(value).__name__}")


def sizes(function, input_shape):
    """Return `input_shape` as a tuple of exact ints."""
    if type(input_shape) is not tuple and not isinstance(input_shape, (tuple, list)):
        raise TypeError(
            f"{function}: input_shape must be a tuple of integers such as x.shape, got {type(input_shape).__name__}"
        )
    return tuple([integer(function, "input_shape", size, 0) for size in input_shape])


def outputs(function, out, results, *inputs):
    """Return (targets, out) for several results, to be passed on to `deliver_all`; targets are None where not wanted.

    Parameters
    ----------
    out : None, or what the caller passed as a tuple with one entry for each result
    results : list of (name, shape, dtype, wanted)
    inputs : arrays that a kernel reads and no target may overlap
    """
    if out is None:
        return [output(function, None, shape, dtype) if wanted else None for _, shape, dtype, wanted in results], None
    if not isinstance(out, (tuple, list)) or len(out) != len(results):
        got = f"{len(out)} entries" if isinstance(out, (tuple, list)) else type(out).__name__
        names = ", ".join(name for name, *_ in results)
        raise TypeError(f"{function}: out must be a tuple ({names}) with None where no array is given, got {got}")
    targets = []
    for entry, (name, shape, dtype, wanted) in zip(out, results, strict=True):
        if wanted:
            targets.append(output(function, entry, shape, dtype, *inputs, *targets, name=f"out's {name}"))
        elif entry is None:
            targets.append(None)
        else:
            raise ValueError(f"{function}: out has an array for {name}, which was not asked for; pass None there")
    return targets, out


def deliver_all(targets, out):
    """Deliver only now, when no kernel reads an input any more: an entry of `out` may overlap one."""
    if out is None:
        return tuple(targets)
    return tuple(
        [None if target is None else deliver(target, entry) for target, entry in zip(targets, out, strict=True)]
    )


def check_grad_output(function, grad_output, expected, **given):
    """Refuse a grad_output that has not the shape of the forward function's result."""
    if grad_output.shape == expected:
        return
    listed = ", ".join(f"{name} {value}" for name, value in given.items())
    raise ValueError(
        f"{function}: grad_output has shape {grad_output.shape} but {function.removesuffix('_backward')} returns "
        f"{expected} for {listed} and these options; pass a gradient of that shape"
    )
