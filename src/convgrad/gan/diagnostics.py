"""What goes wrong in the game, as numbers with thresholds, and the same in words.

Measures, taken now and then from n held-out real samples x, n fresh generated ones G(z), and n other real samples r.
D is the discriminator's probability, o its output (`losses`); both networks in evaluation mode:

value             V = mean log D(x) + mean log(1 - D(G(z))); -2 ln 2 where p_g = p_r and D = ½
js                ln 2 + V / 2, at least 0: a lower bound of JS(p_r || p_g), nats; ln 2 for disjoint supports
distance          mean of |D - ½| over x and G(z); 0 at the optimum
accuracy          (share of x with D > ½ + share of G(z) with D < ½) / 2; ½ at the optimum
gradient_ratio    |grad_theta L_G| / |grad_theta mean o(G(z)) / 2|: the generator's gradient beside the one it would get
                  from an undecided discriminator (|dL_G/do| = ½ for each sample); 1 at the optimum, 0 where it vanishes
coverage          number of different r that are nearest to some G(z), divided by the number that are nearest to some x
entropy           with a classifier: exp(H of the classes of G(z)) / exp(H of the classes of x), H the Shannon entropy
                  of the class histogram: the share of effective classes that is left

and from the series of the losses of the last iterations (at most 2,000, in blocks of 1 / 200 of that):

oscillation       highest autocorrelation of the loss, its straight line taken off, at lags beyond the first sign change
                  and up to half the series; the smaller one of the two networks'

Source of coverage: the assignment of samples to their nearest real neighbours, as in Naeem et al. (2020), arXiv
2002.09797, but counted on the real side, so that blurred but varied samples are not taken for collapse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..training import _mode
from .divergence import js_estimate, value_function
from .losses import generator_loss, probability

if TYPE_CHECKING:
    from ..layers import Parameter
    from ..typing import FloatArray
    from .model import GAN

__all__ = ["FAILURES", "THRESHOLDS", "Diagnosis", "Finding", "diagnose", "measure", "oscillation"]

FAILURES = ("oscillation", "perfect discriminator", "vanishing gradient", "mode collapse")
"""What the notes warn of, and `diagnose` looks for, in this order."""

WINDOW = 5
"""Evaluations whose median is compared with a threshold, so that one bad moment is no failure."""

THRESHOLDS = {
    "oscillation": 0.5,
    "accuracy": 0.99,
    "gradient_ratio": 0.02,
    "gradient_fall": 1e-3,
    "coverage": 0.35,
    "entropy": 0.5,
}
"""Where each failure begins; `gradient_fall`: the generator's gradient norm beside its largest median so far."""

_MIN_LOSSES, _MAX_LOSSES, _BLOCKS = 200, 2000, 200

_NOTES = {
    "oscillation": (
        "Both networks are updated against each other and circle the equilibrium without reaching it.",
        "Smaller learning rates, first for the generator: the discriminator stays near its optimum only as long as the "
        "generator moves slowly enough; Adam with beta1 of 0.5 or 0 in place of momentum; more discriminator steps k.",
    ),
    "perfect discriminator": (
        "The discriminator separates held-out real samples from generated ones without error: the two distributions "
        "lie on low-dimensional sets that do not meet.",
        "Make the discriminator's task harder: fewer steps k, a smaller learning rate, dropout, a smaller network, "
        "label smoothing; or noise added to both its inputs, which makes the supports overlap.",
    ),
    "vanishing gradient": (
        "What reaches the generator is next to nothing: where D is certain, log(1 - D(G(z))) is flat.",
        "loss='non_saturating' (ascend log D(G(z))) or 'least_squares'; keep the discriminator from becoming perfect; "
        "leaky activations where units have died.",
    ),
    "mode collapse": (
        "The generator repeats itself: its samples sit at a small part of the real data.",
        "More discriminator steps k, so that it follows the generator; a smaller generator learning rate; noise with "
        "more dimensions; batch normalisation; go back to a checkpoint from before the collapse.",
    ),
}


class Finding(NamedTuple):
    """One of the four failures: whether it is there, by which numbers, and what to do."""

    name: str
    fired: bool
    measured: dict[str, float]
    text: str
    advice: str


class Diagnosis(list[Finding]):
    """What `diagnose` returns: the findings in order; `failures` are the names of those that are there."""

    @property
    def failures(self) -> list[str]:
        return [finding.name for finding in self if finding.fired]

    def __str__(self) -> str:
        if not self:
            return "nothing to judge yet: the history holds too few evaluations"
        lines = []
        for finding in self:
            numbers = ", ".join(f"{name} {value:.3g}" for name, value in finding.measured.items()) or "no measure yet"
            if finding.fired:
                lines += [f"{finding.name.upper()} ({numbers})", f"  {finding.text}", f"  Try: {finding.advice}"]
            else:
                lines.append(f"no {finding.name} ({numbers})")
        return "\n".join(lines)


def measure(
    gan: GAN,
    real: FloatArray,
    reference: FloatArray,
    rng: np.random.Generator,
    classifier: Callable[[FloatArray], Any] | None = None,
) -> dict[str, float]:
    """Take the measures that need samples; see the head of this module.

    Parameters
    ----------
    gan : GAN
    real : ndarray (n, ...), held-out real samples
    reference : ndarray (m, ...), other real samples; m = n makes coverage most telling
    rng : numpy.random.Generator, for the noise
    classifier : function from samples to class numbers (n,), or None

    Returns
    -------
    measures : dict with "value", "js", "distance", "accuracy", "gradient_ratio", "coverage" and, with a classifier,
        "entropy"
    """
    generator: Any = gan.generator
    with _mode(generator, False), _mode(gan.discriminator, False):
        d_real = probability(gan.loss, gan.discriminator.forward(real))
        generated = generator.forward(gan.draw_noise(len(real), rng))
        output = gan.discriminator.forward(generated)
        d_generated = probability(gan.loss, output)
        norms = []
        for grad in (np.full_like(output, 0.5 / output.size), generator_loss(gan.loss, output)[1]):
            generator.backward(gan.discriminator.backward(grad), input_grad=False)
            norms.append(gradient_norm(generator.parameters()))
    measures = {
        "value": value_function(d_real, d_generated),
        "js": js_estimate(d_real, d_generated),
        "distance": float((np.abs(d_real - 0.5).mean() + np.abs(d_generated - 0.5).mean()) / 2),
        "accuracy": float(((d_real > 0.5).mean() + (d_generated < 0.5).mean()) / 2),
        "gradient_ratio": norms[1] / norms[0] if norms[0] > 0 else 0.0,
        "coverage": _n_nearest(generated, reference) / _n_nearest(real, reference),
    }
    if classifier is not None:
        measures["entropy"] = _n_effective(classifier(generated)) / _n_effective(classifier(real))
    return measures


def oscillation(series: Sequence[float]) -> float:
    """Highest autocorrelation of a series beyond its first sign change: near 1 for cycles, near 0 for noise.

    Parameters
    ----------
    series : sequence of float; the last 2,000 count

    Returns
    -------
    peak : float in [-1, 1]; 0 for fewer than 200 values or a constant series

    Notes
    -----
    The series is averaged in blocks, at most 200 of them, and its straight line is taken off. A peak counts only up to
    half the length: a cycle must have come round twice.
    """
    values = np.asarray(series[-_MAX_LOSSES:], np.float64)
    if len(values) < _MIN_LOSSES:
        return 0.0
    width = math.ceil(len(values) / _BLOCKS)
    blocks = values[len(values) % width :].reshape(-1, width).mean(axis=1)
    place = np.arange(len(blocks), dtype=np.float64)
    residual = blocks - np.polyval(np.polyfit(place, blocks, 1), place)
    power = float(residual @ residual)
    if power <= 1e-20 * float(blocks @ blocks):
        return 0.0
    n_lags = len(blocks) // 2
    # each lag has fewer products than the one before: divide by their number
    correlation = np.array(
        [residual[: len(blocks) - lag] @ residual[lag:] / (len(blocks) - lag) for lag in range(n_lags)]
    ) / (power / len(blocks))
    negative = np.flatnonzero(correlation < 0)
    return float(np.clip(correlation[negative[0] :].max(), -1, 1)) if len(negative) else 0.0


def diagnose(history: Mapping[str, Sequence[float]]) -> Diagnosis:
    """Name the failures that a history shows, each with its numbers and what the notes suggest.

    Parameters
    ----------
    history : mapping, `GAN.history` or one read from a checkpoint

    Returns
    -------
    diagnosis : Diagnosis; `print` it, or ask for `diagnosis.failures`. Empty before the first evaluation; medians are
        taken over the last five evaluations
    """
    if not history.get("iteration"):
        return Diagnosis()
    recent = {
        name: float(np.median(history[name][-WINDOW:]))
        for name in ("js", "accuracy", "gradient_ratio", "coverage", "entropy")
        if history.get(name)
    }
    losses = [history["generator_loss"], history["discriminator_loss"]]
    cycling = min(map(oscillation, losses))
    fall = _fall(history["gradient_norm"])
    low = {name for name, value in recent.items() if value < THRESHOLDS.get(name, -math.inf)}
    collapse: dict[str, float] = {name: recent[name] for name in ("coverage", "entropy") if name in recent}
    found: list[tuple[str, bool, dict[str, float]]] = [
        ("oscillation", cycling > THRESHOLDS["oscillation"], {"autocorrelation": cycling}),
        (
            "perfect discriminator",
            recent["accuracy"] >= THRESHOLDS["accuracy"],
            {"accuracy": recent["accuracy"], "js": recent["js"]},
        ),
        (
            "vanishing gradient",
            "gradient_ratio" in low or fall < THRESHOLDS["gradient_fall"],
            {"gradient_ratio": recent["gradient_ratio"], "gradient_fall": fall},
        ),
        ("mode collapse", not low.isdisjoint(collapse), collapse),
    ]
    return Diagnosis(Finding(name, bool(fired), measured, *_NOTES[name]) for name, fired, measured in found)


def gradient_norm(parameters: Iterable[Parameter]) -> float:
    """The Euclidean norm of all gradients as one vector, summed in float64."""
    total = 0.0
    for parameter in parameters:
        if parameter.grad is not None:
            cells = parameter.grad.ravel()
            total += float(np.dot(cells, cells.astype(np.float64, copy=False)))
    return math.sqrt(total)


def _fall(norms: Sequence[float]) -> float:
    """Median of the last tenth of the gradient norms (at least 10) beside the largest such median so far."""
    width = max(10, len(norms) // 10)
    if len(norms) < 2 * width:
        return 1.0
    medians = [float(np.median(norms[end - width : end])) for end in range(len(norms), width - 1, -width)]
    return medians[0] / max(medians) if max(medians) > 0 else 0.0


def _n_nearest(samples: FloatArray, reference: FloatArray) -> int:
    """How many different rows of `reference` are nearest to some sample."""
    flat, others = (array.reshape(len(array), -1).astype(np.float64) for array in (samples, reference))
    # |a - b|^2 without |a|^2, which is the same for all b
    return len(np.unique(np.argmin((others * others).sum(axis=1) - 2 * flat @ others.T, axis=1)))


def _n_effective(classes: Any) -> float:
    """exp of the Shannon entropy of a histogram of class numbers."""
    counts = np.unique(np.asarray(classes), return_counts=True)[1]
    share = counts / counts.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
