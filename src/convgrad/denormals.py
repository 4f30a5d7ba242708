"""Whether the native kernels read and write denormal numbers as zero.

Denormals (below 1.2e-38 in float32, 2.2e-308 in float64) are computed like other numbers by default. On many processors
each costs over a hundred cycles, and a network whose activations fade away may be full of them. Flushing is a mode of a
processor's control register (FTZ and DAZ on x86-64, FZ on ARM): it is set on each thread as it begins to compute blocks
of a call and put back as it was before the call returns, so that nothing else in the process computes otherwise.

`set_flush_denormals` is process-wide; `flush_denormals` is a context manager whose effect is local to the current
context. The NumPy twin computes as NumPy does, in either mode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ._native import runtime
from .call_checks import flag


def _checked(function: str, on: bool) -> bool:
    on = flag(function, "on", on)
    if on and not runtime.can_flush_denormals:
        raise ValueError(f"{function}: on=True needs a 64-bit x86 or ARM processor; pass on=False")
    return on


def get_flush_denormals() -> bool:
    """Whether a call made here would read and write denormals as zero."""
    return runtime.get_flushes()


def set_flush_denormals(on: bool) -> None:
    """Let the calls of this process read and write denormals as zero (True), or compute with them (False, the default).

    Raises
    ------
    TypeError : on is neither True nor False
    ValueError : on is True and this build cannot set the mode (neither 64-bit x86 nor 64-bit ARM)
    """
    runtime.set_process_flushes(_checked("set_flush_denormals", on))


@contextlib.contextmanager
def flush_denormals(on: bool = True) -> Iterator[None]:
    """Context manager: as `set_flush_denormals(on)` inside the block, in this context only."""
    token = runtime.set_context_flushes(_checked("flush_denormals", on))
    try:
        yield
    finally:
        runtime.flush_here.reset(token)
