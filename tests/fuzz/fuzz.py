"""One random call: made on the native kernels with arrays between guard pages, compared with the twin in float64.

Inputs have any strides, read-only or not, aligned or not; results go to new arrays, or to `out` between guard pages (in
C order or not, an input itself or overlapping one), full of NaN before; scratch is full of NaN too. Inputs must keep
their bytes.
"""

import random

import draw
import draw_more
import numpy as np
from guarded import Arenas, any_strides

import convgrad
from convgrad import functional, reference
from convgrad._native import memory
from convgrad.threads import threads

FAMILIES = (
    *(draw.convolution,) * 6, *(draw.transposed,) * 2, draw.signal, draw.local, *(draw_more.pooling,) * 4,
    draw_more.global_pooling, *(draw_more.elementwise,) * 2, draw_more.rows, draw_more.losses, draw_more.dense,
    draw_more.norms, draw_more.drops,
)  # fmt: skip
JUNK = 0xFFFFFFFF  # NaN in float32 and float64
LOSSES = ("softmax_cross_entropy", "least_squares", "sigmoid_cross_entropy")


class Mismatch(AssertionError):
    """A result that is not the twin's, or an input that changed."""


class Fuzzer:
    """Runs cases; case `index` of a seed is the same wherever and however often it runs."""

    def __init__(self, seed):
        self.seed = seed
        self.rng = random.Random()
        self.arenas = Arenas(self.rng)
        memory.set_junk(JUNK)

    def drawn(self, index):
        """The `Case`, and the arguments of its call, of the native dtype."""
        self.rng.seed(f"{self.seed} {index}")
        self.arenas.start()
        self.numbers = np.random.default_rng(self.rng.randrange(2**63))
        dtype = np.dtype(self.rng.choice((np.float32, np.float32, np.float64)))
        case = self.rng.choice(FAMILIES)(self.rng)
        arguments = {name: self._array(case, name, entry, dtype) for name, entry in case.arrays.items()}
        if case.prepare is not None:
            exact = {name: np.array(value, np.float64) for name, value in arguments.items()}
            for name, value in case.prepare(exact).items():
                kind = dtype if value.dtype == np.float64 else value.dtype
                arguments[name] = self._placed(value.shape, kind, value, overlap=False)
        return case, dtype, arguments

    def run(self, index):
        """Run case `index`; raise `Mismatch` where the result is wrong. Returns the name of the function."""
        case, dtype, arguments = self.drawn(index)
        exact = {k: np.array(v, np.float64 if v.dtype == dtype else v.dtype) for k, v in arguments.items()}
        if case.exact:  # selected numbers, compared bit for bit
            exact = {name: np.array(value) for name, value in arguments.items()}
        with np.errstate(all="ignore"):
            expected = _call(reference, case, exact, {})
        out = self._out(case, dtype, arguments, expected)
        kept = {name: value.copy() for name, value in arguments.items()}
        for value in arguments.values():
            if self.rng.random() < 0.3 and not _touches(value, out):
                value.flags.writeable = False
        with threads(self.rng.choice((1, 1, 2, 3))), convgrad.precision(self.rng.choice(("fast", "fast", "strict"))):
            results = _call(functional, case, arguments, {} if out is None else {"out": out})
        results, expected = _tuple(results), _tuple(expected)
        for place, (result, value) in enumerate(zip(results, expected, strict=True)):
            _compare(f"result {place}", case, dtype, result, value)
        if isinstance(out, np.ndarray) and all(result is not out for result in results):
            raise Mismatch("the result is not out")
        if not self.arenas.margins_are_kept():
            raise Mismatch("something was written beside an array")
        for name, value in arguments.items():
            if not _touches(value, out) and value.tobytes() != kept[name].tobytes():
                raise Mismatch(f"{name} changed")
        return case.function

    def _array(self, case, name, entry, dtype):
        shape, low, high = entry if len(entry) == 3 and isinstance(entry[0], tuple) else (entry, -1, 1)
        numbers = self.numbers.uniform(low, high, shape)
        if case.exact and self.rng.random() < 0.5:
            numbers = np.round(4 * numbers)  # many are equal
        array = self._placed(shape, dtype, numbers, overlap=True)
        if case.special and name == "x" and array.size:
            for special in (np.nan, np.inf, -np.inf, -0.0, 0.0):
                array[tuple(self.rng.randrange(size) for size in shape)] = special
        return array

    def _placed(self, shape, dtype, numbers, *, overlap):
        array = self.arenas.array(shape, dtype, any_strides(self.rng, shape, overlap=overlap))
        array[...] = numbers
        return array

    def _out(self, case, dtype, arguments, expected):
        """None, an input, or arrays between guard pages, one for each result that is one."""
        kind = self.rng.random()
        if case.function == "prepack_conv2d" or kind < 0.3:
            return None
        if kind < 0.4 and case.in_place and case.function not in ("batch_norm", "layer_norm"):
            target = arguments[case.in_place]
            if (
                len(set(map(abs, target.strides))) == target.ndim
                and 0 not in target.strides
                and target.flags.c_contiguous
            ):
                return target
        if kind < 0.45 and not isinstance(expected, tuple) and expected.size and arguments:
            kind = dtype if expected.dtype.kind == "f" else expected.dtype
            return self.arenas.over(expected.shape, kind, self.rng.randrange(len(arguments)))
        results = _tuple(expected)
        if case.function in LOSSES:
            results = results[1:]
        outs = []
        for result in results:
            if result is None or (len(results) > 1 and self.rng.random() < 0.2):
                outs.append(None)
                continue
            kind = dtype if result.dtype.kind == "f" else result.dtype
            strides = any_strides(self.rng, result.shape, overlap=False)
            outs.append(self.arenas.array(result.shape, kind, strides))
        return tuple(outs) if len(results) > 1 else outs[0]


def _touches(array, out):
    return any(entry is array or (entry is not None and np.may_share_memory(entry, array)) for entry in _tuple(out))


def _tuple(results):
    return results if isinstance(results, tuple) else (results,)


def _call(module, case, arrays, out):
    options, name = dict(case.options), case.function
    if name == "prepack_conv2d":
        if module is reference:
            return reference.conv2d(**arrays, **options)
        rest = dict(arrays)
        x = rest.pop("x")
        return functional.prepack_conv2d(**rest, input_shape=x.shape, **options)(x)
    return getattr(module, name)(**arrays, **options, **out)


def _compare(what, case, dtype, result, expected):
    if expected is None or result is None:
        if result is not expected:
            raise Mismatch(f"{what} is {result} in place of {expected}")
        return
    if np.shape(result) != np.shape(expected):
        raise Mismatch(f"{what} has shape {np.shape(result)} in place of {np.shape(expected)}")
    actual, wanted = np.asarray(result), np.asarray(expected)
    if wanted.dtype.kind != "f" or case.exact:
        if not np.array_equal(actual, wanted, equal_nan=wanted.dtype.kind == "f"):
            raise Mismatch(f"{what} differs: {_worst(actual, wanted)}")
        return
    tolerance = 2 * np.finfo(dtype).eps * (case.length + 8)
    if not np.allclose(actual, wanted, rtol=tolerance, atol=tolerance, equal_nan=True):
        raise Mismatch(f"{what} differs by more than {tolerance:.2g}: {_worst(actual, wanted)}")


def _worst(actual, wanted):
    with np.errstate(all="ignore"):
        difference = np.abs(actual.astype(np.float64) - wanted.astype(np.float64))
    wrong = np.isnan(actual.astype(np.float64)) != np.isnan(wanted.astype(np.float64))
    place = np.unravel_index(np.argmax(np.where(wrong, np.inf, np.nan_to_num(difference))), np.shape(actual))
    return f"{actual[place]} in place of {wanted[place]} at {tuple(map(int, place))}, {int(wrong.sum())} NaN misplaced"


def describe(seed, index):
    """What case `index` of `seed` is, as text."""
    case, dtype, arguments = Fuzzer(seed).drawn(index)
    lines = [f"seed {seed} case {index}: {case.function}, {dtype}, sums of {case.length}"]
    lines += [f"  {name}: {value.shape} {value.dtype}, strides {value.strides}, aligned {value.flags.aligned}"
              for name, value in arguments.items()]  # fmt: skip
    return "\n".join([*lines, f"  options: {case.options}"])
