"""Every public function called wrongly: the type of the error, what its text says, and that no argument changes.

`error_specs` has a right call of each function and values that no option takes; here each call is spoilt in one place.
"""

import faulthandler
import itertools
import re

import numpy as np
import pytest
from error_specs import BAD, CALLED, OPTIONAL, RIGHT, F, TooLarge, parameters, right

import convgrad
from convgrad import backends, functional
from convgrad.checks import shown


@pytest.fixture(autouse=True, scope="module")
def _no_call_hangs():
    """End the process, with a traceback, where a call does not come back."""
    faulthandler.dump_traceback_later(300, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def one_number_for_all(array):
    """A writeable array all of whose elements lie at one address."""
    return np.lib.stride_tricks.as_strided(np.zeros(1, array.dtype), array.shape, (0,) * array.ndim)


# {what is wrong with an array: (from the right one the wrong one, what the text says)}; all are TypeErrors.
NOT_ARRAYS = {
    "list": (lambda a: a.tolist() or [0.0], r"float32 or float64, got (list|float); convert it with np\.asarray"),
    "masked": (lambda a: np.ma.array(a), r"masked array; fill it first, e\.g\. .*\.filled"),
    "int64": (lambda a: a.astype(np.int64), r"is int64; only float32 and float64 .*astype"),
    "bool": (lambda a: a.astype(bool), r"is bool; only float32 and float64 .*astype"),
    "float16": (lambda a: a.astype(np.float16), r"is float16; only float32 and float64 .*astype"),
    "complex64": (lambda a: a.astype(np.complex64), r"is complex64; only float32 and float64 .*astype"),
    "longdouble": (lambda a: a.astype(np.longdouble), r"is \w+; only float32 and float64 .*astype"),
    "object": (lambda a: a.astype(object), r"is object; only float32 and float64 .*astype"),
    "text": (lambda a: a.astype("U3"), r"is <U3; only float32 and float64 .*astype"),
    "record": (lambda a: np.zeros(a.shape, [("a", "f4")]), r"only float32 and float64 .*astype"),
    "byte-swapped": (lambda a: a.astype(">f4"), r"is byte-swapped float32; convert it with \w+\.astype\(np\.float32\)"),
    "number": (lambda a: 1.0, r"float32 or float64, got float; convert it"),
    "NumPy number": (lambda a: np.float32(1), r"float32 or float64, got float32; convert it"),
    "memoryview": (lambda a: memoryview(a), r"float32 or float64, got memoryview; convert it"),
    "type": (lambda a: np.ndarray, r"float32 or float64, got type; convert it"),
}

# {what is wrong with out: (from a right one the wrong one, error, what the text says)}
NOT_OUT = {
    "list": (
        lambda a: a.tolist() or [0],
        TypeError,
        "must be (a NumPy array|a tuple|an array).*, got (list|float|int)",
    ),
    "text": (lambda a: "out", TypeError, "must be .*, got str"),
    "masked": (lambda a: np.ma.array(a), TypeError, "must be a NumPy array, got MaskedArray"),
    "other dtype": (lambda a: a.astype(np.float16), TypeError, r"is float16 but the result is (\w+); pass .* as \1"),
    "byte-swapped": (
        lambda a: a.astype(a.dtype.newbyteorder(">")),
        TypeError,
        r"is >\w+ but the result is (\w+); pass",
    ),
    "longer": (lambda a: np.concatenate([a, a]), ValueError, r"has shape \(.*\) but the result has \(.*\); pass"),
    "shorter": (lambda a: a[:-1], ValueError, r"has shape \(.*\) but the result has \(.*\); pass"),
    "an axis more": (lambda a: a[None], ValueError, r"has shape \(1, .*\) but the result has \(.*\); pass"),
    "empty": (lambda a: a.ravel()[:0], ValueError, r"has shape \(0,\) but the result has \(.*\); pass"),
    "read-only": (read_only, ValueError, r"is read-only; pass a writeable array of shape \("),
    "one address": (one_number_for_all, ValueError, r"elements of .* overlap each other, .* with strides .*; pass"),
}


LOSSES = ("softmax_cross_entropy", "least_squares", "sigmoid_cross_entropy")  # whose out is for the gradient alone


def array_names(function):
    return [name for name, value in RIGHT[function][0].items() if isinstance(value, F) and name != "input_shape"]


def cases(function):
    """(argument, what is wrong, its value or how to spoil the right one, error, what the text says, value or None)."""
    arrays = array_names(function)
    for name in arrays:
        called = CALLED.get(name, name)
        for label, (spoil, says) in NOT_ARRAYS.items():
            if function == "explain_conv2d" and "got" in says:
                says = r"\bmust be (an array or a tuple of integers|an integer), got"
            yield name, label, spoil, TypeError, rf"\b{called}\b.*{says}"
        if name not in OPTIONAL and f"{function} {name}" not in OPTIONAL:
            yield name, "None", None, TypeError, rf"\b{called} must be .*, got NoneType"
        if len(arrays) > 1:
            says = r"(float32 .* float64|float64 .* float32); pass both as float32 or both as float64"
            yield name, "float64", lambda a: a.astype(np.float64), TypeError, says
    for name, values in RIGHT[function][1].items():
        for value in values:
            error = MemoryError if isinstance(value, TooLarge) else ValueError
            if name == "labels" and value.ndim == 1 and value.dtype.kind == "f":
                error = TypeError
            yield name, label_of(value), value, error, received(value)
    for name in parameters(function):
        kind = "input_grad" if name == "bias" and name not in arrays else name
        if kind in BAD and name not in arrays:
            says, by_error = BAD[kind]
            for error, values in by_error.items():
                for value in values:
                    yield name, label_of(value), value, error, says
        else:
            assert name in arrays or name == "out", f"no table for {name} of {function}"


def received(value):
    """A pattern for the text of an error: it has the shape or the number that was passed."""
    if isinstance(value, np.ndarray):
        return rf"{re.escape(str(value.shape))}|\b(got|-?\d+|nan) .*at (index )?\(?\d"
    if isinstance(value, (F, TooLarge)):
        return re.escape(str(tuple(value))) + r"|spans \d+ \w+ .*has \d+|weight is for \(\d, \d\)"
    return "|".join(re.escape(str(number)) for number in (value if isinstance(value, tuple) else (value,)))


def label_of(value):
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {value.ravel()[:2]}"
    return f"{type(value).__name__} {shown(value):.40}"


def spoilt(function, name, value):
    """The arguments of a call that works, apart from one: its value is given, or made of the right one."""
    arguments = right(function)
    if isinstance(value, F):
        arguments[name] = right(function, **{name: value})[name]
    elif callable(value) and getattr(value, "__name__", "") in ("<lambda>", "read_only", "one_number_for_all"):
        arguments[name] = value(arguments[name])
    else:
        arguments[name] = value
    return arguments


def held(arguments):
    """The bytes of all arrays among the arguments, in tuples too."""
    entries = itertools.chain(*(v if isinstance(v, tuple) else (v,) for v in arguments.values()))
    return [entry.tobytes() for entry in entries if isinstance(entry, np.ndarray)]


def fault(function, arguments, error, says):
    """What is wrong with the way a call is refused: None, or a sentence."""
    before, texts = held(arguments), []
    for name in backends.BACKENDS:
        with backends.backend(name):
            try:
                getattr(convgrad, function)(**arguments)
            except Exception as caught:  # whatever it is, it is compared below
                texts.append(str(caught))
                if type(caught) is not error:
                    return f"{name}: {type(caught).__name__} in place of {error.__name__}: {caught}"
            else:
                return f"{name}: no error"
    if texts[0] != texts[1]:
        return f"the backends say different things: {texts}"
    if not texts[0].startswith(f"{function}: "):
        return f"does not begin with the name of the function: {texts[0]}"
    if not re.search(says, texts[0], re.DOTALL):
        return f"does not say {says!r}: {texts[0]}"
    if held(arguments) != before:
        return "an argument changed"
    return None


def outputs(function):
    """(what is wrong, out, error, pattern) for every result: each spoilt alone, the others left to the function."""
    result = getattr(convgrad, function)(**right(function))
    if function in LOSSES:
        result = result[1]
    results = result if isinstance(result, tuple) else (result,)
    for place, entry in enumerate(results):
        for label, (spoil, error, says) in NOT_OUT.items():
            if not (entry.itemsize == 1 and label == "byte-swapped"):
                out = spoil(entry)
                out = out if result is entry else tuple(out if i == place else None for i in range(len(results)))
                yield f"{place} {label}", out, error, says
    if result is not results[0]:
        says = r"out must be .*a tuple \(.*\) with None where no array is given, got"
        yield from (("too few", results[:-1], TypeError, says), ("too many", (*results, None), TypeError, says))
        yield from (("text", "out", TypeError, says), ("number", 1.5, TypeError, says))


TABLE = {}
for _function in RIGHT:
    for _name, *_case in cases(_function):
        TABLE.setdefault((_function, _name), []).append(_case)


def test_the_table_is_complete():
    assert set(RIGHT) == set(functional.__all__)
    assert sum(map(len, TABLE.values())) > 5000
    for function in RIGHT:  # kinds of failure
        assert len({(error, says) for (f, _), rows in TABLE.items() if f == function for *_, error, says in rows}) >= 5


@pytest.mark.parametrize("function", RIGHT)
def test_the_right_call_works(function, backend):
    for dtype in (np.float32, np.float64):
        getattr(convgrad, function)(**right(function, dtype))


@pytest.mark.parametrize("function, name", TABLE)
def test_a_wrong_argument_is_refused(function, name):
    faults = {}
    for label, value, error, says in TABLE[function, name]:
        faults[label] = fault(function, spoilt(function, name, value), error, says)
    assert not {label: found for label, found in faults.items() if found}


@pytest.mark.parametrize("function", [name for name in RIGHT if "out" in parameters(name)])
def test_a_wrong_out_is_refused(function):
    faults = {}
    for label, out, error, says in outputs(function):
        faults[label] = fault(function, right(function) | {"out": out}, error, says)
    assert len(faults) >= 10
    assert not {label: found for label, found in faults.items() if found}
