"""What this build is and what is in force."""

from __future__ import annotations

import platform
import sys
from typing import TextIO

import numpy as np

from ._native import memory, runtime
from .backends import get_backend
from .denormals import get_flush_denormals
from .precision import get_precision
from .threads import get_num_threads


def config() -> dict[str, str | int]:
    """Return the facts that `show_config` prints, as a dict of str to str or int."""
    from . import __version__

    return {
        "convgrad": __version__,
        "backend": get_backend(),
        "isa": runtime.isa(),
        "isas": ", ".join(runtime.isas()),
        "threads": get_num_threads(),
        "openmp": "yes" if runtime.has_openmp else "no (one thread)",
        "precision": get_precision(),
        "denormals": "flushed to zero" if get_flush_denormals() else "kept",
        "cache limit": memory.cache_info()["limit"],
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
    }


def show_config(file: TextIO | None = None) -> None:
    """Print version, instruction set, threads and whatever else decides how fast and how exactly this process computes.

    Parameters
    ----------
    file : None (standard output) or a text file
    """
    for name, value in config().items():
        print(f"{name:>12}: {value}", file=file)
