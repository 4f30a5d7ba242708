"""From full to local connectivity to shared weights to gains: parameters against accuracy on real digits.

Four networks with the same number of hidden units in the first layer; only how these are connected to the pixels
differs. `summary` counts the weights.
"""

import numpy as np

from common import digits, options, save
from convgrad import plots, training
from convgrad.layers import Conv2D, Dense, Flatten, LocallyConnected2D, Sequential, summary
from convgrad.optimizers import Adam

N_MAPS = 8


def networks():
    """The first layer of each network: 6x6 places with 8 units each."""
    n_units = N_MAPS * 6 * 6
    return {
        "full": [Flatten(), Dense(64, n_units, activation="tanh", rng=0)],
        "local": [LocallyConnected2D(1, N_MAPS, 8, 3, activation="tanh", rng=0), Flatten()],
        "shared": [Conv2D(1, N_MAPS, 3, activation="tanh", rng=0), Flatten()],
        "shared, with gains": [Conv2D(1, N_MAPS, 3, activation="tanh", gain=True, rng=0), Flatten()],
    }


def main(arguments=None):
    chosen = options(__doc__, epochs=25).parse_args(arguments)
    (x, y), held_out = digits()
    results, maps = {}, None
    for name, first in networks().items():
        model = Sequential([*first, Dense(N_MAPS * 36, 10, rng=1)])
        n_first = sum(row.n_parameters for row in summary(model, (1, 8, 8))[:-1])
        options_ = dict(optimizer=Adam(2e-3), epochs=2 if chosen.quick else chosen.epochs, seed=0, progress=False)
        training.fit(model, x, y, **options_)
        accuracy = training.evaluate(model, *held_out).accuracy
        print(f"{name:>20}: {n_first:6,} weights in the first layer, held-out accuracy {accuracy:.2%}")
        results[name] = (n_first, accuracy)
        if name == "shared, with gains":
            print(f"{'':>20}  gains {np.array2string(model[0].gain.data, precision=2)}")
            maps = model[0](held_out[0][:4])
    save(plots.feature_maps(maps), chosen.output, "connectivity.png")
    return results


if __name__ == "__main__":
    main()
