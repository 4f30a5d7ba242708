"""Errors of the activations over every float32 input, or every n-th: `python tests/accuracy/ulp.py`.

For each function: the largest error in units in the last place of the exact value, where it occurs, the share of inputs
whose result is not the nearest number, and the largest step down, in units, between neighbouring inputs where the
function rises. The reference is float64 (NumPy's, SciPy's erfc), whose own error is below 1e-8 of such a unit. GELU's
error counts in units for x >= -3 and is absolute below. With --float64: random points against mpmath's digits are too
slow, so the reference is long double, where that is wider.

The whole range takes about two minutes of CPU time a function; docs/numerics.md has the results.
"""

import argparse
import math
import sys
import time

import numpy as np

import convgrad
from convgrad._native import runtime

ALPHA, LAMBDA = 1.6732632423543772, 1.0507009873554805


def sigmoid(x):
    """1 / (1 + e^-x), e^x / (1 + e^x) below 0."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def gelu(x):
    """x P(X <= x)."""
    from scipy.special import erfc

    return x * (erfc(x / -math.sqrt(2)) / 2)


# The exact functions of an array of a type wide enough.
EXACT = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: LAMBDA * np.where(x > 0, x, x.dtype.type(ALPHA) * np.expm1(np.minimum(x, 0))),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "silu": lambda x: x * sigmoid(x),
    "gelu": gelu,
}
RISING = ("sigmoid", "tanh", "elu", "selu", "softplus")
CHUNK = 1 << 19


def float32_chunks(step):
    """Finite numbers in ascending order, every `step`-th of either sign."""
    last = np.float32(np.finfo(np.float32).max).view(np.uint32)
    for sign in (-1, 1):
        starts = range(0, int(last) + 1, CHUNK * step)
        for start in reversed(starts) if sign < 0 else starts:
            bits = np.arange(start, min(start + CHUNK * step, int(last) + 1), step, dtype=np.uint32)
            x = bits.view(np.float32)
            yield -x[::-1] if sign < 0 else x


def float64_chunks(points, rng):
    """Random numbers: near 0 by exponent, and evenly where the functions bend; ascending within a chunk."""
    for _ in range(max(1, points // CHUNK)):
        part = CHUNK // 4
        exponents = rng.integers(-1074, 10, part)
        parts = [np.ldexp(rng.uniform(-2, 2, part), exponents), rng.uniform(-760, 0, part)]
        yield np.sort(np.concatenate([*parts, rng.uniform(-40, 40, part), rng.normal(size=part)]))


@np.errstate(all="ignore")
def check(name, chunks):
    """What is printed about one function, as a dictionary."""
    call = getattr(convgrad, name)
    found = {"ulp": 0.0, "at": 0.0, "absolute below -3": 0.0, "not nearest": 0.0, "step down": 0.0}
    count = wrong = 0
    before = None
    for x in chunks:
        wide = np.float64 if x.dtype == np.float32 else np.longdouble
        y, exact = call(x), EXACT[name](x.astype(wide))
        nearest = exact.astype(x.dtype)
        if not np.array_equal(np.isfinite(y), np.isfinite(nearest)):
            raise AssertionError(f"{name}: infinite or not a number where it should not be, near {x[0]}")
        unit = np.spacing(np.abs(nearest))
        finite = np.isfinite(nearest)
        error = np.where(finite, np.abs(y.astype(wide) - exact), 0)
        if name == "gelu":
            low = x < -3
            found["absolute below -3"] = max(found["absolute below -3"], float(np.max(error * low)))
            error = np.where(low, 0, error)
        units = np.where(finite, error / unit, 0)
        worst = int(np.argmax(units))
        if units[worst] > found["ulp"]:
            found["ulp"], found["at"] = float(units[worst]), float(x[worst])
        wrong += int(np.count_nonzero(y != nearest))
        count += x.size
        if name in RISING:
            if before is not None and before[0] <= x[0]:
                y, unit = np.concatenate([before[1:2], y]), np.concatenate([unit[:1], unit])
            found["step down"] = max(found["step down"], float(np.nanmax(-np.diff(y) / unit[1:])))
            before = np.array([x[-1], y[-1]])
    found["not nearest"] = wrong / count
    return {**found, "count": count}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help=f"functions; default: all of {', '.join(EXACT)}")
    parser.add_argument("--step", type=int, default=1, help="take every STEP-th float32 number")
    parser.add_argument("--float64", type=int, metavar="POINTS", help="so many random float64 numbers instead")
    options = parser.parse_args()
    if unknown := set(options.names) - set(EXACT):
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(EXACT)}")
    print(
        f"| {runtime.isa()}, {'float64' if options.float64 else 'float32'} | inputs | largest error, ULP | at |", end=""
    )
    print(" below -3 | not nearest | step down, ULP |\n" + "|---" * 7 + "|")
    for name in options.names or EXACT:
        if options.float64 and name == "gelu":
            continue  # no erfc in long double
        start = time.process_time()
        chunks = float64_chunks(options.float64, np.random.default_rng(1)) if options.float64 else None
        found = check(name, chunks or float32_chunks(options.step))
        low = f"{found['absolute below -3']:.1e}" if name == "gelu" else ""
        down = f"{found['step down']:.2f}" if name in RISING else ""
        print(
            f"| {name} | {found['count']:,} | {found['ulp']:.3f} | {found['at']:.9g} | {low} "
            f"| {found['not nearest']:.1%} | {down} |",
            flush=True,
        )
        print(f"{name}: {time.process_time() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
