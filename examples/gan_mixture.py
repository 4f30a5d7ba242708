"""A GAN on a mixture of two normals: the estimates it lives by, beside what integration says.

The generator is a linear map, so its density p_g is known: D can be held against p_r / (p_r + p_g) and the
Jensen-Shannon estimate against the integral, while both networks learn.
"""

import math

import numpy as np

from common import options, save
from convgrad import gan, plots
from convgrad.layers import Dense, Sequential
from convgrad.optimizers import Adam

GRID = np.linspace(-6, 6, 1201)


def normal(x, mean, sd):
    return np.exp(-(((x - mean) / sd) ** 2) / 2) / (sd * math.sqrt(2 * math.pi))


def real_density(x):
    return (normal(x, -1, 0.5) + normal(x, 1, 0.5)) / 2


def generated_density(generator, x):
    """G(z) = a z + b with z standard normal is normal with mean b and spread |a|."""
    weight, bias = generator[0].weight.data[0, 0], generator[0].bias.data[0]
    return normal(x, float(bias), abs(float(weight)))


def main(arguments=None):
    chosen = options(__doc__, iterations=2000).parse_args(arguments)
    rng = np.random.default_rng(0)
    x = (rng.choice([-1, 1], 6000) + 0.5 * rng.standard_normal(6000)).astype(np.float32)[:, None]
    generator = Sequential([Dense(1, 1, rng=rng)])
    generator[0].weight.data[...], generator[0].bias.data[...] = 0.3, 3
    sizes = ((1, 32), (32, 32))
    hidden = [Dense(a, b, activation=("leaky_relu", 0.2), rng=rng) for a, b in sizes]
    network = gan.GAN(
        generator,
        Sequential([*hidden, Dense(32, 1, rng=rng)]),
        1,
        n_discriminator_steps=2,
        generator_optimizer=Adam(4e-3, betas=(0.5, 0.999)),
        discriminator_optimizer=Adam(5e-3, betas=(0.5, 0.999)),
        seed=0,
    )
    truth = []

    def compare(network):
        generated = generated_density(generator, GRID)
        truth.append(gan.js_divergence(real_density(GRID), generated))

    n_iterations = 200 if chosen.quick else chosen.iterations
    often = dict(evaluate_every=50, n_evaluate=600, callbacks=[compare])
    history = network.fit(x, n_iterations=n_iterations, batch_size=128, progress=False, **often)
    for place in range(0, len(truth), max(1, len(truth) // 6)):
        estimate = history["js"][place]
        print(f"iteration {history['iteration'][place]:5d}: JS {truth[place]:.3f} nats, estimate from D {estimate:.3f}")
    print(network.diagnose())

    figure = plots.new_figure("gan_mixture", (11, 3.5))
    densities, divergence = figure.subplots(1, 2)
    generated = generated_density(generator, GRID)
    logits = network.discriminator(GRID.astype(np.float32)[:, None]).ravel()
    densities.plot(GRID, real_density(GRID), label="p_r")
    densities.plot(GRID, generated, label="p_g")
    densities.plot(GRID, 1 / (1 + np.exp(-logits)), label="D")
    densities.plot(GRID, gan.optimal_discriminator(real_density(GRID), generated), "--", label="D* = p_r / (p_r + p_g)")
    divergence.plot(history["iteration"], truth, label="JS(p_r || p_g), integrated")
    divergence.plot(history["iteration"], history["js"], ".-", label="estimate from D")
    divergence.axhline(math.log(2), color="gray", linestyle=":", label="ln 2")
    densities.set_xlabel("x")
    divergence.set_xlabel("iteration")
    for axes in (densities, divergence):
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    save(figure, chosen.output, "gan_mixture.png")
    return history["js"], truth


if __name__ == "__main__":
    main()
