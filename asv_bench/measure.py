"""Paired timing: two implementations of one call, interleaved, so that outside load strikes both alike.

Used by the scripts that print ratio tables. Call `clean_environment` before NumPy is imported.
"""

import math
import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass


def clean_environment():
    """Restart the script without OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE, which slow NumPy's BLAS where they are set.

    OpenBLAS reads both once, when it is loaded: unsetting them in a running process comes too late.
    """
    slow = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
    if any(name in os.environ for name in slow):
        kept = {name: value for name, value in os.environ.items() if name not in slow}
        os.execve(sys.executable, [sys.executable, *sys.argv], kept)


@dataclass(frozen=True, slots=True)
class Paired:
    """Outcome of `paired`: median seconds of each side and the median, lowest and highest of their paired ratios."""

    ours: float
    theirs: float
    ratio: float
    lowest: float
    highest: float


def paired(ours, theirs, *, rounds, min_seconds):
    """Time two callables in turns; ratio is theirs / ours, so above 1 ours is faster.

    Each sample repeats its call until it lasts about `min_seconds`; the side that goes first changes every round.
    """
    repeats = [_repeats(call, min_seconds) for call in (ours, theirs)]
    times = ([], [])
    for turn in range(rounds):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            times[side].append(_sample((ours, theirs)[side], repeats[side]))
    ratios = [b / a for a, b in zip(*times, strict=True)]
    return Paired(*map(statistics.median, (*times, ratios)), min(ratios), max(ratios))


def _sample(call, repeats):
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _repeats(call, min_seconds):
    call()  # the first call builds plans and faults memory in
    return max(1, math.ceil(min_seconds / max(_sample(call, 1), 1e-9)))


def geometric_mean(values):
    """exp(mean(log(values)))."""
    return math.exp(statistics.fmean(map(math.log, values)))


def cpu_name():
    """The processor's model name, or its architecture where the system does not tell."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
