"""Self-normalising networks: SELU, LeCun normal and alpha dropout keep mean 0 and variance 1 through 32 layers.

Beside it the same depth with ordinary dropout, with ReLU (He) and with tanh (Glorot), all on the digits, scaled to mean
0 and variance 1.
"""

import numpy as np

from common import digits, options, save
from convgrad import plots
from convgrad.initializers import glorot_normal, he_normal, lecun_normal
from convgrad.layers import AlphaDropout, Dense, Dropout, Flatten, Sequential, activation_statistics

DEPTH, WIDTH = 32, 256


def build(activation="selu", initializer=lecun_normal, dropout=AlphaDropout, seed=0):
    """32 dense layers, each followed by dropout, and ten outputs."""
    rng = np.random.default_rng(seed)
    hidden = []
    for n_inputs in (64, *[WIDTH] * (DEPTH - 1)):
        hidden.append(Dense(n_inputs, WIDTH, activation=activation, initializer=initializer, rng=rng))
        hidden.append(dropout(0.05, rng=rng))
    return Sequential([Flatten(), *hidden, Dense(WIDTH, 10, initializer=initializer, rng=rng)])


def statistics(model, x):
    """Mean and variance after each of the 32 layers and its dropout."""
    return activation_statistics(model, x)[2:-1:2]


def main(arguments=None):
    chosen = options(__doc__).parse_args(arguments)
    (x, _), _ = digits()
    x = (x - x.mean()) / x.std()
    runs = {
        "SELU, LeCun, alpha dropout": statistics(build(), x),
        "SELU, LeCun, dropout": statistics(build(dropout=Dropout), x),
        "ReLU, He, dropout": statistics(build("relu", he_normal, Dropout), x),
        "tanh, Glorot, dropout": statistics(build("tanh", glorot_normal, Dropout), x),
    }
    for name, layers in runs.items():
        figures = [[entry.mean for entry in layers], [entry.variance for entry in layers]]
        ranges = [f"{min(values):.3g} to {max(values):.3g}" for values in figures]
        print(f"{name:>27}: mean {ranges[0]}, variance {ranges[1]}")
    save(plots.activation_statistics(runs), chosen.output, "self_normalising.png")
    return runs


if __name__ == "__main__":
    main()
