"""How good generated samples are, as numbers that real samples can be held beside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["class_shares", "frechet_distance"]


def frechet_distance(features: ArrayLike, others: ArrayLike) -> float:
    """Squared Fréchet (2-Wasserstein) distance of the normal distributions fitted to two sets of features.

    |m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2)), m the means and C the covariances

    Parameters
    ----------
    features : array_like (N, F), e.g. what the layer before a classifier's last makes of generated samples
    others : array_like (M, F), of real samples

    Returns
    -------
    distance : float, in squared units of the features. It is above 0 for finite samples of one distribution, too: hold
        a real-versus-real value of the same sizes beside it

    Raises
    ------
    ValueError : not two sets of at least two rows with the same number of features

    Source: Dowson and Landau (1982), J. Multivariate Analysis 12, eq. 4; Heusel et al. (2017), arXiv 1706.08500, eq. 6.
    """
    first, second = (np.asarray(values, np.float64) for values in (features, others))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1:] != second.shape[1:] or min(len(first), len(second)) < 2:
        raise ValueError(
            f"frechet_distance: pass features (N, F) and (M, F) with N, M at least 2; got {first.shape}, {second.shape}"
        )
    offset = first.mean(axis=0) - second.mean(axis=0)
    covariances = [np.atleast_2d(np.cov(values, rowvar=False)) for values in (first, second)]
    # trace((C1 C2)^(1/2)) is the sum of the roots of the eigenvalues of the symmetric C1^(1/2) C2 C1^(1/2)
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariances[1] @ root), 0)).sum()
    return float(offset @ offset + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * cross)


def class_shares(classes: ArrayLike, n_classes: int) -> np.ndarray:
    """Share of each class among class numbers: ndarray (n_classes,), summing to 1."""
    counts = np.bincount(np.asarray(classes), minlength=n_classes)
    if len(counts) != n_classes:
        raise ValueError(f"class_shares: classes must be in 0..{n_classes - 1}, got up to {len(counts) - 1}")
    return counts / counts.sum()
