"""Convolution with gradients for NumPy.

NumPy arrays in, NumPy arrays out: convolution, pooling and activations, forward and backward, on the CPU. `convgrad.functional` has the
functions (all of them also here), `convgrad.reference` their NumPy twins, `convgrad.layers`, `convgrad.optimizers` and
`convgrad.training` what trains a network.
"""

import importlib

from . import functional, reference
from ._native.memory import empty_cache, set_cache_limit
from .backends import backend, get_backend, set_backend
from .config import show_config
from .functional import *  # noqa: F403  (its __all__ is the list of public functions)
from .precision import get_precision, precision, set_precision
from .threads import get_num_threads, set_num_threads, threads

__version__ = "0.1.0"

# Imported when first asked for: a program that calls a function does not pay for the rest.
_SUBMODULES = ("checkpoints", "datasets", "initializers", "layers", "optimizers", "plots", "training")

__all__ = [
    *functional.__all__,
    *_SUBMODULES,
    "backend",
    "empty_cache",
    "functional",
    "get_backend",
    "get_num_threads",
    "get_precision",
    "precision",
    "reference",
    "set_backend",
    "set_cache_limit",
    "set_num_threads",
    "set_precision",
    "show_config",
    "threads",
]


def __getattr__(name):
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_SUBMODULES})
