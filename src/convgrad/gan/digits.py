"""What ``python -m convgrad gan`` runs: a small GAN learns to write digits, and is judged by numbers.

Four fifths of the embedded digits train it and a classifier; one fifth of every class is held out. The classifier then
says how many of the ten classes the generated digits show, and its features give a Fréchet distance to the held-out
digits, beside that of real training digits.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from .. import plots, training
from ..datasets import load_digits, stratified_split
from ..initializers import he_normal
from ..layers import (
    BatchNorm,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    Reshape,
    Sequential,
)
from ..optimizers import Adam
from ..threads import threads
from .model import GAN
from .quality import class_shares, frechet_distance

__all__ = ["build_classifier", "build_gan", "judge", "run"]

ITERATIONS, QUICK_ITERATIONS = 4000, 200
BATCH_SIZE = 64
N_NOISE = 32
N_JUDGED = 1000
PRESENT = 0.02
"""A class counts as present from this share of the generated digits on: a fifth of an even share."""


def build_classifier(seed=0):
    """A digit classifier whose last layer but one makes 32 features."""
    rng = np.random.default_rng(seed)
    return Sequential(
        [
            Conv2D(1, 16, 3, padding="same", activation="relu", initializer=he_normal, rng=rng),
            Conv2D(16, 32, 3, padding="same", activation="relu", initializer=he_normal, rng=rng),
            MaxPool2D(2),
            Flatten(),
            Dropout(0.3, rng=rng),
            Dense(512, 32, activation="relu", initializer=he_normal, rng=rng),
            Dense(32, 10, rng=rng),
        ]
    )


def build_gan(seed=0, classifier=None):
    """The GAN for 8x8 images in [-1, 1]: transposed convolutions against strided ones."""
    rng = np.random.default_rng(seed)
    generator = Sequential(
        [
            Dense(N_NOISE, 64 * 2 * 2, rng=rng),
            Reshape((64, 2, 2)),
            BatchNorm(64),
            ReLU(),
            Conv2DTranspose(64, 32, 4, stride=2, padding=1, rng=rng),
            BatchNorm(32),
            ReLU(),
            Conv2DTranspose(32, 1, 4, stride=2, padding=1, activation="tanh", rng=rng),
        ]
    )
    discriminator = Sequential(
        [
            Conv2D(1, 32, 3, padding=1, rng=rng),
            LeakyReLU(0.2),
            Dropout(0.3, rng=rng),
            Conv2D(32, 64, 4, stride=2, padding=1, rng=rng),
            LeakyReLU(0.2),
            Dropout(0.3, rng=rng),
            Flatten(),
            Dense(64 * 4 * 4, 1, rng=rng),
        ]
    )
    return GAN(
        generator,
        discriminator,
        N_NOISE,
        generator_optimizer=Adam(1e-3, betas=(0.5, 0.999)),
        discriminator_optimizer=Adam(5e-4, betas=(0.5, 0.999)),
        label_smoothing=0.1,
        classifier=None if classifier is None else lambda x: training.predict(classifier, x).argmax(axis=1),
        seed=seed,
    )


def judge(classifier, generated, real, held_out):
    """Quality of generated images, and the same of real ones.

    Parameters
    ----------
    classifier : Sequential, trained on real images
    generated, real, held_out : ndarray (N, 1, 8, 8); `real` the classifier's own training images

    Returns
    -------
    numbers : dict with "classes" (how many are present), "shares" (of each), "frechet" (generated to held-out, in the
        features before the classifier's last layer) and "frechet_real" (as many real training images to held-out)
    """
    features = Sequential(classifier[:-1])
    wanted = training.predict(features, held_out)
    shares = class_shares(training.predict(classifier, generated).argmax(axis=1), 10)
    n = min(len(generated), len(held_out), len(real))
    return {
        "classes": int((shares >= PRESENT).sum()),
        "shares": shares,
        "frechet": frechet_distance(training.predict(features, generated[:n]), wanted),
        "frechet_real": frechet_distance(training.predict(features, real[:n]), wanted),
    }


def run(*, seed=0, iterations=None, output="convgrad-gan", n_threads=1, quick=False):
    """Train classifier and GAN, judge, write digits-gan.safetensors and digits-gan.png; prints what it does.

    Parameters
    ----------
    seed : int, fixes everything that is random
    iterations : int or None for the usual number (fewer with `quick`)
    output : str or path-like, directory for the files, made where it is not there
    n_threads : int; one is right for images this small
    quick : bool, few iterations, for a first look

    Returns
    -------
    results : dict with what `judge` returns, "diagnosis", "history", "gan" and "files" (the paths written)
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    iterations = iterations or (QUICK_ITERATIONS if quick else ITERATIONS)
    with threads(n_threads):
        return _run(seed, iterations, output)


def _run(seed, iterations, output):
    images, labels = load_digits()
    images = images * 2 - 1
    train, held_out = stratified_split(labels, 0.2, seed)
    start = time.perf_counter()
    classifier = build_classifier(seed)
    held_out_pair = images[held_out], labels[held_out]
    training.fit(classifier, images[train], labels[train], epochs=15, seed=seed, progress=False)
    accuracy = training.evaluate(classifier, *held_out_pair).accuracy
    print(f"the judge: a classifier with {accuracy:.2%} on held-out digits, {time.perf_counter() - start:.1f} s")

    gan = build_gan(seed, classifier)
    every = max(1, iterations // 20)
    noise = gan.draw_noise(16, np.random.default_rng(seed))
    shown = [(0, gan.sample(16, noise=noise))]
    history = gan.fit(
        images[train],
        n_iterations=iterations,
        batch_size=BATCH_SIZE,
        held_out=images[held_out],
        evaluate_every=every,
        n_evaluate=len(held_out),
        callbacks=[lambda gan: shown.append((gan.iteration, gan.sample(16, noise=noise)))],
    )
    numbers = judge(classifier, gan.sample(N_JUDGED, rng=seed), images[train], images[held_out])
    diagnosis = gan.diagnose()
    print(f"\n{diagnosis}\n\nafter {gan.iteration} iterations, {time.perf_counter() - start:.1f} s in all:")
    shares = "  ".join(f"{digit}: {share:.0%}" for digit, share in enumerate(numbers["shares"]))
    print(f"classes present among {N_JUDGED} generated digits: {numbers['classes']} of 10 ({shares})")
    print(
        f"Fréchet distance to the held-out digits: generated {numbers['frechet']:.2f}, "
        f"real training digits {numbers['frechet_real']:.2f}"
    )
    files = _write(gan, shown, images[held_out], output)
    return {**numbers, "diagnosis": diagnosis, "history": history, "gan": gan, "files": files}


def _write(gan, shown, real, output):
    """Write checkpoint and picture where their packages are installed, else say what is missing; return the paths."""
    files = []
    for name, write in (
        ("digits-gan.safetensors", gan.save),
        ("digits-gan.png", lambda path: _picture(gan, shown, real).savefig(path, dpi=110)),
    ):
        try:
            write(output / name)
            files.append(output / name)
            print(f"written: {files[-1]}")
        except ImportError as error:
            print(f"not written: {name} ({error})")
    return files


def _picture(gan, shown, real):
    """Sample grids over time, the final ones beside real digits, and the curves."""
    page = plots.new_figure("gan", (14, 9.5))
    top, middle, bottom = page.subfigures(3, 1, height_ratios=(0.75, 1.5, 1.25))
    moments = shown if len(shown) <= 8 else [shown[i] for i in np.linspace(0, len(shown) - 1, 8).round().astype(int)]
    for figure, (iteration, samples) in zip(np.ravel(top.subfigures(1, len(moments))), moments, strict=True):
        plots.sample_grid(samples, title=f"iteration {iteration}", figure=figure)
    left, right = middle.subfigures(1, 2)
    plots.sample_grid(gan.sample(128, rng=1), n_columns=16, title="generated at the end", figure=left)
    plots.sample_grid(real[:128], n_columns=16, title="held-out real digits", figure=right)
    plots.gan_curves(gan.history, figure=bottom)
    return page
