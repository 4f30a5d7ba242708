"""How many threads a call may use.

The default is the number of CPUs this process may run on (affinity and cgroup quota), or CONVGRAD_NUM_THREADS.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

from ._native import runtime
from .checks import integer
from .typing import Int

MAX_THREADS = 1024


def _cgroup_cpus() -> int:
    """CPUs that the cgroup's quota grants, or MAX_THREADS where there is none."""
    try:
        granted, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        return MAX_THREADS if granted == "max" else max(1, math.ceil(int(granted) / int(period)))
    except (OSError, ValueError):
        pass
    try:
        quota, length = (int(Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return MAX_THREADS if quota <= 0 else max(1, math.ceil(quota / length))
    except (OSError, ValueError):
        return MAX_THREADS


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
