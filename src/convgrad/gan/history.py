"""What a GAN's training records."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["PER_EVALUATION", "PER_ITERATION", "GANHistory"]

PER_ITERATION = ("generator_loss", "discriminator_loss", "gradient_norm")
PER_EVALUATION = (
    "iteration",
    "value",
    "js",
    "distance",
    "accuracy",
    "gradient_ratio",
    "coverage",
    "entropy",
    "seconds",
)


class GANHistory(dict[str, list[float]]):
    """What `GAN.fit` records, as lists.

    One entry per iteration: "generator_loss", "discriminator_loss" (the mean over the k steps), "gradient_norm" (of the
    generator, before clipping). One entry per evaluation: "iteration", the measures of `gan.measure` ("entropy" only
    with a classifier), and "seconds" of training since the evaluation before.

    Attributes
    ----------
    interrupted : bool, True where Ctrl-C ended the last run
    """

    def __init__(self) -> None:
        super().__init__((key, []) for key in (*PER_ITERATION, *PER_EVALUATION))
        self.interrupted = False

    def trim(self) -> None:
        """Drop the last iteration and evaluation where Ctrl-C let only some of their figures be appended."""
        self._trim(PER_ITERATION)
        self._trim(key for key in PER_EVALUATION if self[key])

    def _trim(self, keys: Iterable[str]) -> None:
        lists = [self[key] for key in keys]
        n = min(map(len, lists), default=0)
        for figures in lists:
            del figures[n:]

    def line(self, last: int) -> str:
        """The latest evaluation as a line of text; `last` is the iteration at which the run ends."""
        figures = [f"D loss {self['discriminator_loss'][-1]:.3f}", f"G loss {self['generator_loss'][-1]:.3f}"]
        figures += [f"{key} {self[key][-1]:.3f}" for key in ("js", "accuracy", "coverage", "entropy") if self[key]]
        return f"iteration {self['iteration'][-1]:{len(str(last))}d}/{last}  {'  '.join(figures)}"
