"""Paired timing: implementations of one call, interleaved, so that outside load strikes all alike.

Used by the scripts that print ratio tables. Call `clean_environment` before NumPy is imported.
"""

import contextlib
import importlib.metadata
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

DISTURBED = 0.05  # of all CPU time of the machine


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


def commit():
    """The short hash of the commit that is checked out, with "+" where files differ from it; None without git."""
    folder = Path(__file__).parent.parent
    git = ["git", "-c", "safe.directory=*", "-C", str(folder)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        # Results of earlier runs do not change what is timed.
        changes = [*git, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!asv_bench/results"]
        changed = subprocess.run(changes, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + "+" * bool(changed.stdout.strip())


def describe_host(*packages):
    """What a report says of the machine, the commit and the versions of NumPy and of the packages."""
    from convgrad._native import runtime

    versions = {name: importlib.metadata.version(name) for name in ("numpy", *packages)}
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "isa": runtime.isa(), "commit": commit(), **versions}


@contextlib.contextmanager
def machine_lock():
    """Hold a lock that only one timing run of this machine can hold."""
    import fcntl  # POSIX only, as are the scripts that take the lock

    path = Path(tempfile.gettempdir()) / "convgrad-timing.lock"
    with open(path, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another timing run holds the lock; waiting for it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class OutsideLoad:
    """Share of the machine's CPU time that other processes took since the last look."""

    def __init__(self):
        self._last = self._now()

    @staticmethod
    def _now():
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, idle, iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        own = time.process_time()
        return busy - own, time.monotonic()

    def look(self):
        """Return the share, from 0 to 1; /proc counts in hundredths of a second, so short spans are rough."""
        outside, moment = self._now()
        before, then = self._last
        self._last = outside, moment
        return max(0.0, outside - before) / ((moment - then) * os.cpu_count())


def interleaved(calls, rounds, min_seconds, pause=0.0):
    """Time the callables in turns, each turn after a pause of that many seconds and beginning with one call that is
    not timed: it finds the caches as the turn before left them.

    Returns {"seconds": median of each, "ratios": median of (time of i / time of 0), "spread": (lowest, highest) for
    each, "disturbed": rounds set aside}.
    """
    repeats = []
    for call in calls:
        call()
        start = time.perf_counter()
        call()
        repeats.append(max(1, min(1000, int(min_seconds / max(time.perf_counter() - start, 1e-9)))))
    load = OutsideLoad()
    good, bad = [], []
    while len(good) < rounds and len(good) + len(bad) < 3 * rounds:
        order = range(len(calls)) if (len(good) + len(bad)) % 2 == 0 else reversed(range(len(calls)))
        times = [0.0] * len(calls)
        load.look()
        for i in order:
            if pause:
                time.sleep(pause)
            calls[i]()
            start = time.perf_counter()
            for _ in range(repeats[i]):
                calls[i]()
            times[i] = (time.perf_counter() - start) / repeats[i]
        (bad if load.look() > DISTURBED else good).append(times)
    kept = good if len(good) >= 3 else good + bad
    seconds = [statistics.median(column) for column in zip(*kept, strict=True)]
    ratios = [[times[i] / times[0] for times in kept] for i in range(1, len(calls))]
    return {
        "seconds": seconds,
        "ratios": [statistics.median(values) for values in ratios],
        "spread": [(min(values), max(values)) for values in ratios],
        "disturbed": len(bad),
    }
