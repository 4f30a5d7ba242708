"""The four failures that the notes name, each planted on purpose, and what `diagnose` says.

Prints a table, a failure per column, a planted case per row, and draws the losses of each case.
"""

import numpy as np

from common import options, save
from convgrad import gan, plots
from convgrad.layers import Dense, Sequential
from convgrad.optimizers import SGD, Adam


def mlp(n_in, n_out, seed, activation=("leaky_relu", 0.2), width=32):
    rng = np.random.default_rng(seed)
    first = Dense(n_in, width, activation=activation, rng=rng)
    second = Dense(width, width, activation=activation, rng=rng)
    return Sequential([first, second, Dense(width, n_out, rng=rng)])


def affine(weight, bias):
    layer = Dense(len(weight[0]), len(weight), rng=0)
    layer.weight.data[...], layer.bias.data[...] = weight, bias
    return Sequential([layer])


def ring(n, rng):
    """Eight narrow modes on a circle."""
    angles = rng.integers(8, size=n) * np.pi / 4
    return 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1) + 0.15 * rng.standard_normal((n, 2))


def cases(rng):
    """Name -> (networks and options of the GAN, real samples, iterations)."""
    line = rng.standard_normal((2000, 2))
    adam = lambda rate: Adam(rate, betas=(0.5, 0.999))
    still, quick = dict(generator_optimizer=SGD(0)), dict(discriminator_optimizer=adam(5e-3))
    yield (
        "healthy",
        (mlp(8, 2, 1, "relu", 64), mlp(2, 1, 2, width=64), 8),
        dict(generator_optimizer=adam(5e-4), discriminator_optimizer=adam(1e-3)),
        ring(8000, rng),
        2500,
    )
    linear = Sequential([Dense(2, 1, bias=False, rng=0)])
    linear[0].weight.data[...] = 0
    yield (
        "two linear players",
        (affine([[0.01, 0], [0, 1]], [1, 0]), linear, 2),
        dict(loss="minimax", generator_optimizer=SGD(0.05), discriminator_optimizer=SGD(0.05)),
        line * [0.01, 1],
        800,
    )
    parallel = line * [1, 0] + [0, 1]
    yield "parallel lines", (affine([[1.0], [0]], [0, 0]), mlp(2, 1, 2), 1), still | quick, parallel, 400
    yield (
        "the same, minimax",
        (affine([[1.0], [0]], [0, 0]), mlp(2, 1, 2), 1),
        still | dict(discriminator_optimizer=adam(5e-3), loss="minimax"),
        parallel,
        400,
    )
    yield (
        "one mode of eight",
        (affine([[0.15, 0], [0, 0.15]], [2, 0]), mlp(2, 1, 2), 2),
        dict(generator_optimizer=SGD(0), discriminator_optimizer=adam(1e-3)),
        ring(8000, rng),
        400,
    )


def main(arguments=None):
    chosen = options(__doc__).parse_args(arguments)
    rng, found = np.random.default_rng(0), {}
    page = plots.new_figure("gan_failures", (13, 2.8))
    drawn = iter(page.subplots(1, 5))
    print(f"{'':>18}  {'  '.join(gan.FAILURES)}")
    for name, networks, settings, x, n_iterations in cases(rng):
        if chosen.quick and name == "healthy":
            continue
        network = gan.GAN(*networks, seed=0, **settings)
        options_ = dict(batch_size=128, evaluate_every=n_iterations // 10, progress=False)
        history = network.fit(x.astype(np.float32), n_iterations=n_iterations, **options_)
        found[name] = network.diagnose().failures
        cells = [f"{'FIRED' if failure in found[name] else 'quiet':<{len(failure)}}" for failure in gan.FAILURES]
        print(f"{name:>18}  {'  '.join(cells)}")
        axes = next(drawn)
        axes.plot(history["discriminator_loss"], linewidth=0.7, label="D")
        axes.plot(history["generator_loss"], linewidth=0.7, label="G")
        axes.set_title(f"{name}:\n{', '.join(found[name]) or 'no failure'}", fontsize=8)
        axes.legend(fontsize=7)
    save(page, chosen.output, "gan_failures.png")
    return found


if __name__ == "__main__":
    main()
