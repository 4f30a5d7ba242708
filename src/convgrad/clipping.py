"""Clipping of gradients: "setting an upper- and lower-limit for the value of the gradient" (the notes, on ReLU)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .layers import Parameter

__all__ = ["clip_by_norm", "clip_by_value", "gradient_norm"]


def gradient_norm(parameters: Iterable[Parameter]) -> float:
    """The Euclidean norm of all gradients as one vector, summed in float64; parameters without one are skipped."""
    total = 0.0
    for parameter in parameters:
        if parameter.grad is not None:
            cells = parameter.grad.ravel()
            total += float(np.dot(cells, cells.astype(np.float64, copy=False)))
    return math.sqrt(total)


def clip_by_norm(parameters: Iterable[Parameter], limit: float) -> float:
    """Scale all gradients by min(1, limit / norm), norm their common Euclidean norm; in place.

    Parameters
    ----------
    parameters : iterable of Parameter, whose `grad` a backward pass has filled
    limit : float above 0

    Returns
    -------
    norm : float, before clipping; where it is not finite, nothing is scaled

    Raises
    ------
    ValueError, TypeError : a limit that is not a number above 0

    Source: Pascanu, Mikolov, Bengio (2013), arXiv 1211.5063, Algorithm 1.
    """
    limit = check_limit("clip_by_norm", "limit", limit)
    parameters = list(parameters)
    norm = gradient_norm(parameters)
    if limit < norm < math.inf:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = parameter.grad * parameter.dtype.type(limit / norm)
    return norm


def clip_by_value(parameters: Iterable[Parameter], limit: float) -> None:
    """Clip every gradient's values to [-limit, limit].

    Parameters
    ----------
    parameters : iterable of Parameter, whose `grad` a backward pass has filled
    limit : float above 0

    Raises
    ------
    ValueError, TypeError : a limit that is not a number above 0
    """
    limit = check_limit("clip_by_value", "limit", limit)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = np.clip(parameter.grad, -limit, limit)


def check_limit(function: str, name: str, limit: float) -> float:
    """Return `limit` as a float above 0."""
    try:
        value = float(limit)
    except (TypeError, ValueError):
        raise TypeError(f"{function}: {name} must be a number, got {limit!r}") from None
    if not 0 < value < math.inf:
        raise ValueError(f"{function}: {name} must be finite and above 0, got {limit!r}")
    return value
