"""A DCGAN on 28x28 images from MNIST-format files (Radford, Metz, Chintala 2015, arXiv 1511.06434).

Transposed convolutions and batch normalisation against strided convolutions; the checkpoint is written as it goes, and
a second call with the same --output goes on from it.
"""

import numpy as np

import mnist_files
from common import options, save
from convgrad import gan, plots
from convgrad.layers import (
    BatchNorm,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    ReLU,
    Reshape,
    Sequential,
)
from convgrad.optimizers import Adam

N_NOISE = 64


def build(seed=0, width=32):
    """Generator 7x7 -> 14x14 -> 28x28, discriminator the other way; images in [-1, 1]."""
    rng = np.random.default_rng(seed)
    generator = Sequential(
        [
            Dense(N_NOISE, 2 * width * 49, bias=False, rng=rng),
            Reshape((2 * width, 7, 7)),
            BatchNorm(2 * width),
            ReLU(),
            Conv2DTranspose(2 * width, width, 4, stride=2, padding=1, bias=False, rng=rng),
            BatchNorm(width),
            ReLU(),
            Conv2DTranspose(width, 1, 4, stride=2, padding=1, activation="tanh", rng=rng),
        ]
    )
    discriminator = Sequential(
        [
            Conv2D(1, width, 4, stride=2, padding=1, rng=rng),
            LeakyReLU(0.2),
            Dropout(0.3, rng=rng),
            Conv2D(width, 2 * width, 4, stride=2, padding=1, rng=rng),
            LeakyReLU(0.2),
            Dropout(0.3, rng=rng),
            Flatten(),
            Dense(2 * width * 49, 1, rng=rng),
        ]
    )
    betas = (0.5, 0.999)
    rates = dict(generator_optimizer=Adam(1e-3, betas=betas), discriminator_optimizer=Adam(4e-4, betas=betas))
    return gan.GAN(generator, discriminator, N_NOISE, label_smoothing=0.1, seed=seed, **rates)


def main(arguments=None):
    parser = options(__doc__, iterations=3000)
    parser.add_argument("--data", default="mnist", help="directory with the files (default mnist)")
    chosen = parser.parse_args(arguments)
    images, _ = mnist_files.load(chosen.data)
    network = build()
    checkpoint = chosen.output / "dcgan.safetensors"
    chosen.output.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        network.load(checkpoint)
        print(f"going on from iteration {network.iteration}")
    n_iterations = (4 if chosen.quick else chosen.iterations) - network.iteration
    if n_iterations > 0:
        every = max(4, n_iterations // 15)
        network.fit(images * 2 - 1, n_iterations=n_iterations, evaluate_every=every, checkpoint=checkpoint)
    print(network.diagnose())
    page = plots.new_figure("dcgan", (12, 8.5))
    top, bottom = page.subfigures(2, 1, height_ratios=(1.5, 1))
    left, right = top.subfigures(1, 2)
    plots.sample_grid(network.sample(100, rng=0), title=f"iteration {network.iteration}", figure=left)
    plots.sample_grid(images[:: len(images) // 100][:100], title="real", figure=right)
    plots.gan_curves(network.history, figure=bottom)
    save(page, chosen.output, "dcgan.png")
    return network


if __name__ == "__main__":
    main()
