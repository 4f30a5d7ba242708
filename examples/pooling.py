"""Pooling and subsampling: maximum, average, and average with learned weights, on real digits."""

import numpy as np

from common import digits, options, save
from convgrad import plots, training
from convgrad.layers import AvgPool2D, Conv2D, Dense, Flatten, MaxPool2D, Sequential, Subsample2D
from convgrad.optimizers import Adam


def main(arguments=None):
    chosen = options(__doc__, epochs=15).parse_args(arguments)
    (x, y), held_out = digits()
    results, page = {}, plots.new_figure("pooling", (11, 2.6))
    makers = {"maximum": MaxPool2D, "average": AvgPool2D, "learned": lambda size: Subsample2D(12, size)}
    for part, (name, make) in zip(page.subfigures(1, 3), makers.items(), strict=True):
        pool = make(2)
        conv = Conv2D(1, 12, 3, padding=1, activation="tanh", rng=0)
        model = Sequential([conv, pool, Flatten(), Dense(12 * 16, 10, rng=1)])
        options_ = dict(optimizer=Adam(3e-3), epochs=2 if chosen.quick else chosen.epochs, seed=0, progress=False)
        training.fit(model, x, y, **options_)
        results[name] = training.evaluate(model, *held_out).accuracy
        print(f"{name:>8}: held-out accuracy {results[name]:.2%}")
        plots.feature_maps(pool(conv(held_out[0][:6])), figure=part)
        part.suptitle(name)
    print(f"learned weights {np.array2string(pool.weight.data, precision=2)}")
    save(page, chosen.output, "pooling.png")
    return results


if __name__ == "__main__":
    main()
