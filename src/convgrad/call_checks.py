"""Checks around a call that several functions share: flags, shapes given by the caller, results and where they go."""

import numpy as np

from .checks import deliver, float_array, float_arrays, integer, output


def required_arrays(function, **arrays):
    """`checks.float_arrays` for arrays none of which may be None."""
    for name, value in arrays.items():
        if value is None:
            float_array(function, name, value)
    return float_arrays(function, **arrays)


def flags(function, **values):
    """Check that every value is True or False; return them as plain bools."""
    for name, value in values.items():
        if value is not True and value is not False and not isinstance(value, np.bool_):
            raise TypeError(f"{function}: {name} must be True or False, got {type(value).__name__}")
    return tuple(map(bool, values.values()))


def sizes(function, input_shape):
    """Return `input_shape` as a tuple of exact ints."""
    if type(input_shape) is not tuple and not isinstance(input_shape, (tuple, list)):
        raise TypeError(
            f"{function}: input_shape must be a tuple of integers such as x.shape, got {type(input_shape).__name__}"
        )
    return tuple([integer(function, "input_shape", size, 0) for size in input_shape])


def outputs(function, out, results, *inputs):
    """Return (targets, outs) for several results: None where not wanted (targets) or not given (outs).

    Parameters
    ----------
    out : None, or what the caller passed as a tuple with one entry for each result
    results : list of (name, shape, dtype, wanted)
    inputs : arrays that a kernel reads and no target may overlap
    """
    if out is None:
        outs = (None,) * len(results)
    elif isinstance(out, (tuple, list)) and len(out) == len(results):
        outs = tuple(out)
    else:
        got = f"{len(out)} entries" if isinstance(out, (tuple, list)) else type(out).__name__
        names = ", ".join(name for name, *_ in results)
        raise TypeError(f"{function}: out must be a tuple ({names}) with None where no array is given, got {got}")
    targets = []
    for entry, (name, shape, dtype, wanted) in zip(outs, results, strict=True):
        if wanted:
            targets.append(output(function, entry, shape, dtype, *inputs, *targets, name=f"out's {name}"))
        elif entry is None:
            targets.append(None)
        else:
            raise ValueError(f"{function}: out has an array for {name}, which was not asked for; pass None there")
    return targets, outs


def deliver_all(targets, outs):
    """Deliver only now, when no kernel reads an input any more: an `out` may overlap one."""
    return tuple([None if target is None else deliver(target, out) for target, out in zip(targets, outs, strict=True)])


def check_grad_output(function, grad_output, expected, **given):
    """Refuse a grad_output that has not the shape of the forward function's result."""
    if grad_output.shape == expected:
        return
    listed = ", ".join(f"{name} {value}" for name, value in given.items())
    raise ValueError(
        f"{function}: grad_output has shape {grad_output.shape} but {function.removesuffix('_backward')} returns "
        f"{expected} for {listed} and these options; pass a gradient of that shape"
    )
