"""Convolution with gradients for NumPy.

NumPy arrays in, NumPy arrays out: convolution, pooling and activations, forward and backward, on the CPU.
`convgrad.functional` has the functions (all of them also here), `convgrad.reference` their NumPy twins,
`convgrad.layers`, `convgrad.optimizers` and `convgrad.training` what trains a network.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from . import functional as functional
from . import reference as reference
from ._native.memory import empty_cache as empty_cache
from ._native.memory import set_cache_limit as set_cache_limit
from .backends import backend as backend
from .backends import get_backend as get_backend
from .backends import set_backend as set_backend
from .config import show_config as show_config
from .denormals import flush_denormals as flush_denormals
from .denormals import get_flush_denormals as get_flush_denormals
from .denormals import set_flush_denormals as set_flush_denormals
from .functional import *  # noqa: F403  (its __all__ is the list of public functions)
from .precision import get_precision as get_precision
from .precision import precision as precision
from .precision import set_precision as set_precision
from .threads import get_num_threads as get_num_threads
from .threads import set_num_threads as set_num_threads
from .threads import threads as threads

__version__ = "0.1.0"

# Imported when first asked for: a program that calls a function does not pay for the rest.
_SUBMODULES = (
    "augmentation",
    "batches",
    "callbacks",
    "checkpoints",
    "datasets",
    "gan",
    "initializers",
    "layers",
    "optimizers",
    "plots",
    "schedules",
    "training",
)

if TYPE_CHECKING:
    # What a checker cannot follow below. Without __all__ it takes `import x as x` and `import *` for the public names.
    from . import augmentation as augmentation
    from . import batches as batches
    from . import callbacks as callbacks
    from . import checkpoints as checkpoints
    from . import datasets as datasets
    from . import gan as gan
    from . import initializers as initializers
    from . import layers as layers
    from . import optimizers as optimizers
    from . import plots as plots
    from . import schedules as schedules
    from . import training as training
else:
    __all__ = [
        *functional.__all__,
        *_SUBMODULES,
        "backend",
        "empty_cache",
        "flush_denormals",
        "functional",
        "get_backend",
        "get_flush_denormals",
        "get_num_threads",
        "get_precision",
        "precision",
        "reference",
        "set_backend",
        "set_cache_limit",
        "set_flush_denormals",
        "set_num_threads",
        "set_precision",
        "show_config",
        "threads",
    ]

    def __getattr__(name: str) -> ModuleType:
        if name in _SUBMODULES:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})
