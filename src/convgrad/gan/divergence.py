"""Divergences between two distributions, in nats, and what a discriminator knows about them.

    KL(p || q) = sum of p log(p / q)
    JS(p || q) = KL(p || m) / 2 + KL(q || m) / 2, m = (p + q) / 2; at most ln 2, reached where the supports are disjoint
    D*(x) = p_r(x) / (p_r(x) + p_g(x)), for which V(D*) = 2 JS(p_r || p_g) - 2 ln 2

Source: notes, the sections on cost and on the optimal discriminator; Goodfellow et al. (2014), arXiv 1406.2661,
Proposition 1 and Theorem 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["js_divergence", "js_estimate", "kl_divergence", "optimal_discriminator"]


def kl_divergence(p: ArrayLike, q: ArrayLike, *, dx: ArrayLike | None = None) -> float:
    """Kullback-Leibler divergence KL(p || q) = sum of p log(p / q), in nats.

    Parameters
    ----------
    p, q : array_like of the same shape, any number of axes, at least 0. Without `dx`: histograms, or densities at
        points of one regular grid; either is first divided by its sum
    dx : None, or array_like that broadcasts to p: the width (area, volume) of each cell. p and q are then densities,
        taken as they are: the result is the sum of p log(p / q) dx

    Returns
    -------
    divergence : float; cells with p = 0 add nothing, a cell with p > 0 and q = 0 makes it infinite

    Raises
    ------
    ValueError : shapes differ, values are negative or not finite, or one of the two is zero everywhere
    """
    p_cells, q_cells, width = _cells("kl_divergence", p, q, dx)
    return _kl(p_cells, q_cells, width)


def js_divergence(p: ArrayLike, q: ArrayLike, *, dx: ArrayLike | None = None) -> float:
    """Jensen-Shannon divergence, in nats: symmetric, between 0 (equal) and ln 2 (disjoint supports).

    JS(p || q) = KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2

    Parameters
    ----------
    p, q, dx : as for `kl_divergence`

    Returns
    -------
    divergence : float

    Raises
    ------
    ValueError : as for `kl_divergence`

    Source: notes, the section on the Jensen-Shannon divergence, whose bound of 1 holds for logarithms to base 2.
    """
    p_cells, q_cells, width = _cells("js_divergence", p, q, dx)
    middle = (p_cells + q_cells) / 2
    return max(0.0, (_kl(p_cells, middle, width) + _kl(q_cells, middle, width)) / 2)


def optimal_discriminator(p_real: ArrayLike, p_generated: ArrayLike) -> NDArray[np.float64]:
    """D* = p_r / (p_r + p_g), the probability that a sample where the densities have these values is real.

    Parameters
    ----------
    p_real, p_generated : array_like that broadcast together, at least 0

    Returns
    -------
    probability : ndarray of float64; ½ where both densities are 0

    Source: notes, the section on the optimal discriminator; Goodfellow et al. (2014), Proposition 1.
    """
    real, generated = np.broadcast_arrays(np.asarray(p_real, np.float64), np.asarray(p_generated, np.float64))
    total = real + generated
    return np.divide(real, total, out=np.full(total.shape, 0.5), where=total > 0)


def js_estimate(d_real: ArrayLike, d_generated: ArrayLike) -> float:
    """Estimate JS(p_r || p_g) from a discriminator's probabilities, in nats.

    JS >= ln 2 + V / 2 with V = mean log D(x) + mean log(1 - D(G(z))), with equality for D = D*. The estimate is this
    bound, or 0 where it is negative: any discriminator but the best one estimates too little, apart from noise.

    Parameters
    ----------
    d_real : array_like, D at samples of the real data, in [0, 1]
    d_generated : array_like, D at generated samples

    Returns
    -------
    estimate : float in [0, ln 2]

    Raises
    ------
    ValueError : no values, or values outside [0, 1]

    Source: Goodfellow et al. (2014), arXiv 1406.2661, Theorem 1.
    """
    return max(0.0, math.log(2) + value_function(d_real, d_generated) / 2)


def value_function(d_real: ArrayLike, d_generated: ArrayLike) -> float:
    """V = mean log D(x) + mean log(1 - D(G(z))) (notes, eq. 22); its value at p_g = p_r, D = ½ is -2 ln 2."""
    sides = []
    for name, values in (("d_real", d_real), ("d_generated", d_generated)):
        array = np.asarray(values, np.float64)
        if not array.size or not ((array >= 0) & (array <= 1)).all():
            raise ValueError(
                f"js_estimate: {name} must hold probabilities in [0, 1], got {array.size} values {array!r}"
            )
        sides.append(array)
    tiny = np.finfo(np.float64).tiny
    return float(np.log(np.maximum(sides[0], tiny)).mean() + np.log(np.maximum(1 - sides[1], tiny)).mean())


def _cells(function: str, p: ArrayLike, q: ArrayLike, dx: ArrayLike | None):
    arrays = [np.asarray(p, np.float64), np.asarray(q, np.float64)]
    if arrays[0].shape != arrays[1].shape:
        raise ValueError(f"{function}: p and q must have the same shape, got {arrays[0].shape} and {arrays[1].shape}")
    for name, array in zip("pq", arrays, strict=True):
        if not np.isfinite(array).all() or (array < 0).any():
            raise ValueError(f"{function}: {name} must be finite and at least 0 everywhere, got {array!r}")
        if not array.any():
            raise ValueError(f"{function}: {name} is 0 everywhere, shape {array.shape}: no distribution")
    if dx is None:
        return *(array / array.sum() for array in arrays), np.float64(1)
    width = np.asarray(dx, np.float64)
    if (
        not np.isfinite(width).all()
        or (width <= 0).any()
        or np.broadcast_shapes(width.shape, arrays[0].shape) != (arrays[0].shape)
    ):
        raise ValueError(f"{function}: dx must be above 0 and broadcast to {arrays[0].shape}, got {dx!r}")
    return *arrays, width


def _kl(p, q, width) -> float:
    positive = p > 0
    if (q[positive] == 0).any():
        return math.inf
    ratio = np.divide(p, q, out=np.ones_like(p), where=positive)
    return float(np.sum(p * np.log(ratio) * width))
