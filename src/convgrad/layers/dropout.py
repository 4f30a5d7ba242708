"""Dropout and alpha dropout."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from .. import functional
from ..checks import generator, shown
from ..typing import FloatArray, Rng
from .base import Layer

__all__ = ["AlphaDropout", "Dropout"]


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
        function = type(self).__name__
        given: Any = p  # whatever was passed
        if isinstance(given, bool) or not isinstance(given, numbers.Real):
            raise TypeError(f"{function}: p must be a real number, got {shown(given)} ({type(given).__name__})")
        if not 0 <= p <= 1:
            raise ValueError(f"{function}: p must be at least 0 and at most 1, got {shown(p)}")
        self.p = float(p)
        self._rng = generator(type(self).__name__, "rng", rng)

    @property
    def rng(self) -> np.random.Generator:
        """The generator that the next masks come from."""
        return self._rng

    def reseed(self, rng: Rng) -> None:
        """Draw from now on from `rng`: a numpy.random.Generator, an int seed or None."""
        self._rng = generator(f"{type(self).__name__}.reseed", "rng", rng)

    def forward(self, x: FloatArray) -> FloatArray:
        output, mask = functional.dropout(x, self.p, training=self.training, rng=self._rng)
        self._kept = (mask, self.training)
        return output

    def backward(self, grad_output: FloatArray) -> FloatArray:
        mask, was_training = self._remembered("_kept")
        return functional.dropout_backward(grad_output, mask, self.p) if was_training else grad_output

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.p})"


class AlphaDropout(Dropout):
    """Dropout for self-normalising networks: dropped values become -lambda alpha, the limit of SELU, and an affine map
    brings mean and variance back to 0 and 1.

    Parameters
    ----------
    p : float in [0, 1], probability of dropping
    rng : numpy.random.Generator, int seed or None; `training.fit(seed=...)` replaces it through `reseed`

    Source: Klambauer, Unterthiner, Mayr, Hochreiter (2017), arXiv 1706.02515, section 3.
    """

    def forward(self, x: FloatArray) -> FloatArray:
        output, mask = functional.alpha_dropout(x, self.p, training=self.training, rng=self._rng)
        self._kept = (mask, self.training)
        return output

    def backward(self, grad_output: FloatArray) -> FloatArray:
        mask, was_training = self._remembered("_kept")
        return functional.alpha_dropout_backward(grad_output, mask, self.p) if was_training else grad_output
