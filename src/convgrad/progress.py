"""Progress bars: tqdm's, where it is installed and somebody looks at a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

__all__ = ["bar"]


@contextlib.contextmanager
def bar(total: int | None, enabled: bool, *, label: str = "", unit: str = "step") -> Iterator[Callable[[], object]]:
    """Show a bar while the block runs; yields the function to call after each step, which does nothing without tqdm."""
    try:
        if not enabled:
            raise ImportError
        from tqdm import tqdm
    except ImportError:
        yield lambda: None
        return
    # disable=None: tqdm draws on terminals only, so that logs hold nothing but printed lines
    with tqdm(total=total, desc=label, unit=unit, leave=False, disable=None) as shown:
        yield shown.update
