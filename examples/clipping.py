"""Exploding gradients, and what clipping them does: a deep ReLU network with start weights that are too large."""

from itertools import pairwise

import numpy as np

from common import digits, options, save
from convgrad import plots, training
from convgrad.initializers import he_normal
from convgrad.layers import Dense, Flatten, Sequential
from convgrad.optimizers import SGD


def build():
    """Ten ReLU layers whose start weights have 1.7 times the right spread, so that gradients grow on their way back."""
    rng = np.random.default_rng(0)

    def start(shape, *, rng, dtype):
        return he_normal(shape, rng=rng, gain=1.7 * 2**0.5, dtype=dtype)

    sizes = [64] + [64] * 10
    hidden = [Dense(a, b, activation="relu", initializer=start, rng=rng) for a, b in pairwise(sizes)]
    return Sequential([Flatten(), *hidden, Dense(64, 10, rng=rng)])


def main(arguments=None):
    chosen = options(__doc__, epochs=40).parse_args(arguments)
    (x, y), held_out = digits()
    results, curves = {}, {}
    for name, optimizer in (("without", SGD(0.02)), ("with clip_norm=1", SGD(0.02, clip_norm=1.0))):
        model = build()
        epochs = 3 if chosen.quick else chosen.epochs
        try:
            with np.errstate(all="ignore"):
                history = training.fit(model, x, y, optimizer=optimizer, epochs=epochs, seed=0, progress=False)
            curves[name] = history["loss"]
            results[name] = training.evaluate(model, *held_out).accuracy
            print(f"{name}: held-out accuracy {results[name]:.2%}")
        except FloatingPointError as error:
            results[name] = None
            print(f"{name}: {error}")
    figure = plots.new_figure("clipping", (6, 3.5))
    axes = figure.subplots()
    for name, losses in curves.items():
        axes.semilogy(range(1, len(losses) + 1), losses, label=name)
    axes.set(xlabel="epoch", ylabel="training loss", title="ten ReLU layers, start weights too large")
    axes.legend()
    axes.grid(alpha=0.3)
    save(figure, chosen.output, "clipping.png")
    return results


if __name__ == "__main__":
    main()
