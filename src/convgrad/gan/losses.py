"""The two losses of the game, as functions of the discriminator's output o.

For "non_saturating" and "minimax" o is a logit, D = sigmoid(o); for "least_squares" o is D itself. The discriminator
descends L_D, the generator L_G:

================  ==============================================  ==========================
name              L_D                                             L_G
================  ==============================================  ==========================
non_saturating    -mean log D(x) - mean log(1 - D(G(z)))          -mean log D(G(z))
minimax           the same                                        mean log(1 - D(G(z)))
least_squares     mean (D(x) - 1)^2 / 2 + mean D(G(z))^2 / 2      mean (D(G(z)) - 1)^2 / 2
================  ==============================================  ==========================

With label smoothing s real samples have the target 1 - s in place of 1. In all three the best D is p_r / (p_r + p_g)
(for s = 0), so the diagnostics read the same.

Source: notes, eq. 22 to 24; Goodfellow et al. (2014), arXiv 1406.2661; Mao et al. (2016), arXiv 1611.04076, eq. 9;
Salimans et al. (2016), arXiv 1606.03498, section 3.4 (one-sided smoothing).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional
from ..typing import FloatArray

__all__ = ["LOSSES", "discriminator_loss", "generator_loss", "probability"]

LOSSES = ("non_saturating", "minimax", "least_squares")


def discriminator_loss(loss: str, output: FloatArray, target: float) -> tuple[float, FloatArray]:
    """One half of L_D: that of samples whose target is 1 - s (real) or 0 (generated), and its gradient by `output`."""
    return _distance(loss, output, target)


def generator_loss(loss: str, output: FloatArray) -> tuple[float, FloatArray]:
    """L_G and its gradient by the discriminator's output at generated samples."""
    if loss == "minimax":
        value, grad = _distance(loss, output, 0.0)
        return -value, -grad
    return _distance(loss, output, 1.0)


def probability(loss: str, output: FloatArray) -> np.ndarray[Any, np.dtype[np.float64]]:
    """D, in [0, 1] and float64, from the discriminator's output."""
    values = output.astype(np.float64).ravel()
    return np.clip(values, 0, 1) if loss == "least_squares" else functional.sigmoid(values)


def _distance(loss: str, output: FloatArray, target: float) -> tuple[float, FloatArray]:
    targets = np.full_like(output, target)
    function = functional.least_squares if loss == "least_squares" else functional.sigmoid_cross_entropy
    value, grad = function(output, targets)
    return float(value), grad
