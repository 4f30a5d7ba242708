"""How exactly a convolution is computed: "fast" or "strict".

Where a float32 convolution takes Winograd's algorithm, "fast" lets it use F(4x4, 3x3), whose rounding error is about
three times that of direct summation; "strict" keeps to F(2x2, 3x3), which rounds about as direct summation does and is
what float64 takes under either. Other float32 kernels of 3 to 7 taps along an axis, such as 1x7 or 5x5, are filtered
along that axis under "fast" and summed directly under "strict". Nothing else depends on it. `set_precision` is
process-wide; `precision` is a context manager and its effect local to the current context.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from .checks import choice
from .typing import PrecisionName

PRECISIONS = ("fast", "strict")

_process_is_strict = False
_context_is_strict: contextvars.ContextVar[bool | None] = contextvars.ContextVar("convgrad_precision", default=None)


def is_strict() -> bool:
    """True where "strict" is in force."""
    local = _context_is_strict.get()
    return _process_is_strict if local is None else local


def get_precision() -> PrecisionName:
    """The precision in force here: "fast" or "strict"."""
    return "strict" if is_strict() else "fast"


def set_precision(name: PrecisionName) -> None:
    """Choose the precision for the whole process: "fast" (the default) or "strict"."""
    global _process_is_strict
    _process_is_strict = choice("set_precision", "name", name, PRECISIONS) == "strict"


@contextlib.contextmanager
def precision(name: PrecisionName) -> Iterator[None]:
    """Context manager: compute with precision `name` inside the block, in this context only."""
    token = _context_is_strict.set(choice("precision", "name", name, PRECISIONS) == "strict")
    try:
        yield
    finally:
        _context_is_strict.reset(token)
