"""Generative adversarial networks that tell what is going wrong.

`GAN` trains a generator against a discriminator by Algorithm 1 of the notes and watches, while it trains, for the four
failures that they name: oscillation, a perfect discriminator, vanishing gradients and mode collapse. `diagnose` names
what it sees in words. Divergences are in nats.

>>> import numpy as np
>>> from convgrad import gan
>>> p, q = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])
>>> round(gan.kl_divergence(p, q), 6), round(gan.js_divergence(p, q), 6)
(0.693147, 0.215762)
"""

from .diagnostics import FAILURES, THRESHOLDS, Diagnosis, Finding, diagnose, measure, oscillation
from .divergence import js_divergence, js_estimate, kl_divergence, optimal_discriminator
from .history import GANHistory
from .losses import LOSSES
from .model import GAN
from .quality import class_shares, frechet_distance

__all__ = [
    "FAILURES",
    "GAN",
    "LOSSES",
    "THRESHOLDS",
    "Diagnosis",
    "Finding",
    "GANHistory",
    "class_shares",
    "diagnose",
    "frechet_distance",
    "js_divergence",
    "js_estimate",
    "kl_divergence",
    "measure",
    "optimal_discriminator",
    "oscillation",
]
