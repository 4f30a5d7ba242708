"""Errors of the activations over every float32 input, or every n-th: `python tests/accuracy/ulp.py`.

For each function: the largest error in units in the last place of the exact value, where it occurs, the share of inputs
whose result is not the nearest number, and the largest step down, in units, from one input to the next where the
function rises. The reference is float64 (NumPy's, SciPy's erfc), whose own error is below 1e-8 of such a unit. GELU's
error counts in units for x >= -3 and is absolute below. With --float64 inputs are random, some by exponent and some by
value, and the reference is long double where that is wider: NumPy's functions, and for GELU the C library's erfcl,
which a C compiler makes callable (without one GELU is left out).

The exit status is 1 where an error is above its bound. docs/numerics.md has the results for the whole range, which
takes about a minute and a half of CPU time a function.
"""

import argparse
import ctypes
import functools
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import convgrad
from convgrad._native import runtime

ALPHA, LAMBDA = 1.6732632423543772, 1.0507009873554805


def sigmoid(x):
    """1 / (1 + e^-x), e^x / (1 + e^x) below 0."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


ERFCL = """
#include <math.h>
void gelu(const long double *x, long double *y, long n) {
    for (long i = 0; i < n; i++)
        y[i] = x[i] * (erfcl(x[i] * -0.7071067811865475244008443621048490393L) / 2);
}
"""


@functools.cache
def long_double_gelu():
    """GELU of an array of long doubles on the C library's erfcl, or None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "gelu.c", Path(folder) / "gelu.so"
        source.write_text(ERFCL)
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", library, source, "-lm"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
        function = ctypes.CDLL(str(library)).gelu

    def call(x):
        x = np.ascontiguousarray(x)
        y = np.empty_like(x)
        function(x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p), ctypes.c_long(x.size))
        return y

    return call


def gelu(x):
    """x P(X <= x)."""
    if x.dtype == np.longdouble and x.dtype != np.float64:
        return long_double_gelu()(x)
    from scipy.special import erfc

    return x * (erfc(x / -math.sqrt(2)) / 2)


# The exact functions of an array of a type wide enough, and the bounds in units.
EXACT = {
    "sigmoid": (sigmoid, 2),
    "tanh": (np.tanh, 2),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), 2),
    "selu": (lambda x: LAMBDA * np.where(x > 0, x, x.dtype.type(ALPHA) * np.expm1(np.minimum(x, 0))), 2),
    "softplus": (lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), 2),
    "silu": (lambda x: x * sigmoid(x), 3),
    "gelu": (gelu, 4),
}
RISING = ("sigmoid", "tanh", "elu", "selu", "softplus")
STEP_DOWN = 1  # units, where the function rises
ABSOLUTE_BELOW = {"float32": 1e-7, "float64": 1e-16}  # of GELU below -3
CHUNK = 1 << 17


def float32_chunks(step):
    """Finite numbers in ascending order, every `step`-th of either sign."""
    last = int(np.float32(np.finfo(np.float32).max).view(np.uint32))
    for sign in (-1, 1):
        starts = range(0, last + 1, CHUNK * step)
        for start in reversed(starts) if sign < 0 else starts:
            bits = np.arange(start, min(start + CHUNK * step, last + 1), step, dtype=np.uint32)
            x = bits.view(np.float32)
            yield -x[::-1] if sign < 0 else x


def float64_chunks(points, rng):
    """Random numbers: near 0 by exponent, and evenly where the functions bend; ascending within a chunk."""
    for _ in range(max(1, points // CHUNK)):
        part = CHUNK // 4
        exponents = rng.integers(-1074, 10, part)
        parts = [np.ldexp(rng.uniform(-2, 2, part), exponents), rng.uniform(-760, 0, part)]
        yield np.sort(np.concatenate([*parts, rng.uniform(-40, 40, part), rng.normal(size=part)]))


def unit_of(x):
    """The unit in the last place of finite x, as float64: np.spacing, but ten times as fast."""
    integer, fraction, bias = (np.uint32, 23, 127) if x.dtype == np.float32 else (np.uint64, 52, 1023)
    exponent = (x.view(integer) >> integer(fraction)) & integer(2 * bias + 1)
    if x.dtype == np.float64:
        return np.ldexp(1.0, np.maximum(exponent, 1).astype(np.int32) - (bias + fraction))
    exponent = np.maximum(exponent, 1).astype(np.uint64) + np.uint64(1023 - bias - fraction)
    return (exponent << np.uint64(52)).view(np.float64)


@np.errstate(all="ignore")
def check(name, chunks):
    """What is printed about one function, as a dictionary."""
    call, exact_of = getattr(convgrad, name), EXACT[name][0]
    found = {"ulp": 0.0, "at": 0.0, "absolute below -3": 0.0, "step down": 0.0}
    count = wrong = 0
    before = None
    for x in chunks:
        wide = np.float64 if x.dtype == np.float32 else np.longdouble
        y, exact = call(x), exact_of(x.astype(wide))
        nearest = exact.astype(x.dtype)
        unit = unit_of(nearest)
        units = np.abs(y - exact) / unit
        if not np.all(np.isfinite(units)):  # overflow: infinity counts as the number after the largest
            limit, largest = np.ldexp(wide(1), np.finfo(x.dtype).maxexp), np.finfo(x.dtype).max
            unit = unit_of(np.clip(nearest, -largest, largest))
            units = np.abs(np.clip(y.astype(wide), -limit, limit) - np.clip(exact, -limit, limit)) / unit
            if np.isnan(units).any():
                raise AssertionError(f"{name}: not a number, near {x[0]}")
        if name == "gelu" and x[0] < -3:
            low = x < -3
            found["absolute below -3"] = max(found["absolute below -3"], float(np.max((units * unit)[low])))
            units[low] = 0
        worst = int(np.argmax(units))
        if units[worst] > found["ulp"]:
            found["ulp"], found["at"] = float(units[worst]), float(x[worst])
        wrong += int(np.count_nonzero(y != nearest))
        count += x.size
        if name in RISING:
            if before is not None and before[0] <= x[0]:
                y, unit = np.concatenate([before[1:], y]), np.concatenate([unit[:1], unit])
            down = (y[:-1] - y[1:]) / unit[1:]
            found["step down"] = max(found["step down"], float(np.max(down, where=down == down, initial=0)))
            before = np.array([x[-1], y[-1]])
    return {**found, "not nearest": wrong / count, "count": count, "dtype": x.dtype.name}


def exceeds(name, found):
    """Whether an error is above its bound."""
    return (
        found["ulp"] > EXACT[name][1]
        or found["step down"] > STEP_DOWN
        or (name == "gelu" and found["absolute below -3"] > ABSOLUTE_BELOW[found["dtype"]])
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help=f"functions; default: all of {', '.join(EXACT)}")
    parser.add_argument("--step", type=int, default=1, help="take every STEP-th float32 number")
    parser.add_argument("--float64", type=int, metavar="POINTS", help="so many random float64 numbers instead")
    options = parser.parse_args()
    if unknown := set(options.names) - set(EXACT):
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(EXACT)}")
    title = f"{runtime.isa()}, {'float64' if options.float64 else 'float32'}"
    print(f"| {title} | inputs | largest error, ULP | at | below -3 | not nearest | step down, ULP |")
    print("|---" * 7 + "|")
    failed = False
    for name in options.names or EXACT:
        if options.float64 and name == "gelu" and long_double_gelu() is None:
            print("gelu is left out: no C compiler for the reference", file=sys.stderr)
            continue
        start = time.process_time()
        chunks = float64_chunks(options.float64, np.random.default_rng(1)) if options.float64 else None
        with convgrad.threads(1):
            found = check(name, chunks or float32_chunks(options.step))
        failed |= exceeds(name, found)
        low = f"{found['absolute below -3']:.1e}" if name == "gelu" else ""
        down = f"{found['step down']:.2f}" if name in RISING else ""
        print(
            f"| {name} | {found['count']:,} | {found['ulp']:.3f} | {found['at']:.9g} | {low} "
            f"| {found['not nearest']:.1%} | {down} |",
            flush=True,
        )
        print(f"{name}: {time.process_time() - start:.0f} s", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
