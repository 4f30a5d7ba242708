"""How many threads a call may use.

The default is the number of CPUs this process may run on (affinity and cgroup quota), or CONVGRAD_NUM_THREADS.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator

from ._native import runtime
from .checks import integer
from .typing import Int

MAX_THREADS = 1024


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except (OSError, ValueError):
        return ""


def _quota(folder: str, version: int) -> float:
    """CPUs that the quota in the files of one cgroup grants; infinity where they set none."""
    if version == 2:  # "max 100000" or "150000 100000": microseconds in each period
        words = _text(f"{folder}/cpu.max").split()
    else:
        words = [_text(f"{folder}/cpu.cfs_{name}_us") for name in ("quota", "period")]
    try:
        granted, period = map(int, words)
        return granted / period if granted > 0 else math.inf
    except (ValueError, ZeroDivisionError):
        return math.inf


def _cgroup_cpus(root: str = "") -> int:
    """CPUs that the quotas of this process's cgroup and of those around it grant, or MAX_THREADS where there is none.

    `root` stands before the paths read: /proc/self/cgroup says which cgroup it is; inside a container its files may
    also lie at the top, which is read in any case.
    """
    folders = [("/sys/fs/cgroup", 2), ("/sys/fs/cgroup/cpu", 1), ("/sys/fs/cgroup/cpu,cpuacct", 1)]
    least = min(_quota(f"{root}{folder}", version) for folder, version in folders)
    for entry in _text(f"{root}/proc/self/cgroup").splitlines():  # "0::/path" or "4:cpu,cpuacct:/path"
        number, _, rest = entry.partition(":")
        names, _, path = rest.partition(":")
        if names and "cpu" not in names.split(","):
            continue
        top, version = ("/sys/fs/cgroup", 2) if number == "0" else (f"/sys/fs/cgroup/{names}", 1)
        while path.startswith("/") and path.rstrip("/"):
            least = min(least, _quota(f"{root}{top}{path}", version))
            path = path.rstrip("/").rpartition("/")[0]
    return max(1, math.ceil(least)) if least < MAX_THREADS else MAX_THREADS


def _default() -> int:
    named = os.environ.get("CONVGRAD_NUM_THREADS", "").strip()
    if named:
        if not (named.isascii() and named.isdigit() and 1 <= int(named) <= MAX_THREADS):
            raise ImportError(f"convgrad: CONVGRAD_NUM_THREADS={named!r} must be an integer from 1 to {MAX_THREADS}")
        return int(named)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cpus, _cgroup_cpus(), MAX_THREADS)


def _checked(function: str, n: Int) -> int:
    n = integer(function, "n", n, 1)
    if n > MAX_THREADS:
        raise ValueError(f"{function}: n must be at most {MAX_THREADS}, got {n}")
    return n


def set_num_threads(n: Int) -> None:
    """Let calls of this process use up to `n` threads."""
    runtime.set_process_threads(_checked("set_num_threads", n))


def get_num_threads() -> int:
    """Number of threads that a large call made here would use; 1 in a build without OpenMP."""
    return runtime.get_threads() if runtime.has_openmp else 1


@contextlib.contextmanager
def threads(n: Int) -> Iterator[None]:
    """Context manager: let calls inside the block, in this context only, use up to `n` threads."""
    token = runtime.thread_limit.set(_checked("threads", n))
    try:
        yield
    finally:
        runtime.thread_limit.reset(token)


runtime.set_process_threads(_default())
