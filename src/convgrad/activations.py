"""Names, codes and parameters of the activations that a kernel can fuse into its last pass.

The position of a name in `NAMES` is its code in the C sources; the two must agree.
"""

from __future__ import annotations

import math
import numbers

from .checks import shown
from .typing import Activation, ActivationName

NAMES: tuple[ActivationName, ...] = (
    "identity",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "softplus",
    "silu",
    "gelu",
)

CODES: dict[str, int] = {name: code for code, name in enumerate(NAMES)}

# The slope of leaky_relu for x < 0 and the alpha of elu; every other activation has no parameter.
DEFAULT_PARAMETERS: dict[str, float] = {"leaky_relu": 0.01, "elu": 1.0}

_WITHOUT_ACTIVATION = (0, 0.0)
_RESOLVED = {name: (code, DEFAULT_PARAMETERS.get(name, 0.0)) for name, code in CODES.items()}


def resolve(function: str, activation: Activation | None) -> tuple[int, float]:
    """Return (code, parameter) of `activation`.

    Parameters
    ----------
    function : str, the public function named in messages
    activation : None, one of `NAMES`, or (name, parameter) for leaky_relu (its slope) and elu (its alpha)

    Raises
    ------
    TypeError : neither None, a name nor a pair; or the parameter is not a real number
    ValueError : unknown name, a parameter that is not finite, or one for an activation that has none
    """
    if activation is None:
        return _WITHOUT_ACTIVATION
    if isinstance(activation, str):
        if activation in _RESOLVED:
            return _RESOLVED[activation]
        raise ValueError(f"{function}: unknown activation {shown(activation)}; use None or one of {_listed()}")
    if not isinstance(activation, (tuple, list)) or len(activation) != 2 or not isinstance(activation[0], str):
        raise TypeError(
            f"{function}: activation must be None, a name or (name, parameter), got {shown(activation)}; "
            f"names: {_listed()}"
        )
    name, parameter = activation
    if name not in CODES:
        raise ValueError(f"{function}: unknown activation {shown(name)}; use None or one of {_listed()}")
    if name not in DEFAULT_PARAMETERS:
        raise ValueError(
            f"{function}: activation {name!r} takes no parameter, got {shown(parameter)}; pass activation={name!r}"
        )
    return CODES[name], finite_parameter(function, f"parameter of {name!r}", parameter)


def finite_parameter(function: str, name: str, value: float) -> float:
    """Return `value` as a finite float; TypeError or ValueError otherwise."""
    if type(value) is float and -math.inf < value < math.inf:
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{function}: {name} must be a real number, got {shown(value)} ({type(value).__name__})")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ValueError(f"{function}: {name} must be finite, got {shown(value)}")
    return result


def _listed() -> str:
    return ", ".join(map(repr, NAMES))
