"""Who computes: the native kernels or the NumPy twin.

`set_backend` is process-wide; `backend` is a context manager whose effect is local to the current context (thread or
asyncio task).
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from .checks import choice
from .typing import BackendName

BACKENDS = ("native", "numpy")

_process_is_native = True
_context_is_native: contextvars.ContextVar[bool | None] = contextvars.ContextVar("convgrad_backend", default=None)


def is_native() -> bool:
    """True where the native kernels compute, False where the NumPy twin does."""
    local = _context_is_native.get()
    return _process_is_native if local is None else local


def get_backend() -> BackendName:
    """Name of the backend in force here: "native" or "numpy"."""
    return "native" if is_native() else "numpy"


def set_backend(name: BackendName) -> None:
    """Choose the backend for the whole process: "native" (compiled kernels) or "numpy" (the readable twin)."""
    global _process_is_native
    _process_is_native = choice("set_backend", "name", name, BACKENDS) == "native"


@contextlib.contextmanager
def backend(name: BackendName) -> Iterator[None]:
    """Context manager: use backend `name` inside the block, in this context only."""
    token = _context_is_native.set(choice("backend", "name", name, BACKENDS) == "native")
    try:
        yield
    finally:
        _context_is_native.reset(token)
