"""Dropout."""

from __future__ import annotations

from .. import functional
from ..checks import generator
from ..typing import FloatArray, Rng
from .base import Layer

__all__ = ["Dropout"]


class Dropout(Layer):
    """Zero each value with probability p while training, and scale the others by 1 / (1 - p); otherwise the identity.

    Parameters
    ----------
    p : float in [0, 1], probability of zeroing
    rng : numpy.random.Generator, int seed or None; `training.fit(seed=...)` replaces it through `reseed`

    Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov (2014), JMLR 15, section 4 (in the "inverted" form,
    which scales while training).
    """

    def __init__(self, p: float = 0.5, *, rng: Rng = None) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p must be at least 0 and at most 1, got {p!r}")
        self.p = float(p)
        self._rng = generator("Dropout", "rng", rng)

    def reseed(self, rng: Rng) -> None:
        """Draw from now on from `rng`: a numpy.random.Generator, an int seed or None."""
        self._rng = generator("Dropout.reseed", "rng", rng)

    def forward(self, x: FloatArray) -> FloatArray:
        output, mask = functional.dropout(x, self.p, training=self.training, rng=self._rng)
        self._kept = (mask, self.training)
        return output

    def backward(self, grad_output: FloatArray) -> FloatArray:
        mask, was_training = self._remembered("_kept")
        return functional.dropout_backward(grad_output, mask, self.p) if was_training else grad_output

    def __repr__(self) -> str:
        return f"Dropout({self.p})"
