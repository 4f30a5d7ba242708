"""The two networks whose training is measured, as convgrad layers and as PyTorch modules with the same weights."""

import numpy as np

from convgrad import layers


def lenet():
    """LeNet-5 for 28 x 28 images, with ReLU and max-pooling; the weights are seeded."""
    rng = np.random.default_rng(0)
    return layers.Sequential(
        [
            layers.Conv2D(1, 6, 5, padding=2, activation="relu", rng=rng),
            layers.MaxPool2D(2),
            layers.Conv2D(6, 16, 5, activation="relu", rng=rng),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(400, 120, activation="relu", rng=rng),
            layers.Dense(120, 84, activation="relu", rng=rng),
            layers.Dense(84, 10, rng=rng),
        ]
    )


def four_convolutions():
    """Four 3x3 convolutions of 32, 32, 64 and 64 channels for 28 x 28 images; the weights are seeded."""
    rng = np.random.default_rng(0)
    return layers.Sequential(
        [
            layers.Conv2D(1, 32, 3, padding=1, activation="relu", rng=rng),
            layers.Conv2D(32, 32, 3, padding=1, activation="relu", rng=rng),
            layers.MaxPool2D(2),
            layers.Conv2D(32, 64, 3, padding=1, activation="relu", rng=rng),
            layers.Conv2D(64, 64, 3, padding=1, activation="relu", rng=rng),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(64 * 7 * 7, 10, rng=rng),
        ]
    )


def in_torch(model):
    """The same network of PyTorch modules, with copies of the weights."""
    import torch  # the asv suite uses the networks without it

    modules = []
    for layer in model:
        if isinstance(layer, layers.Conv2D):
            module = torch.nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding)
        elif isinstance(layer, layers.Dense):
            module = torch.nn.Linear(layer.in_features, layer.out_features)
        elif isinstance(layer, layers.MaxPool2D):
            module = torch.nn.MaxPool2d(layer.kernel_size)
        else:
            module = torch.nn.Flatten()
        modules.append(module)
        if hasattr(layer, "weight"):
            with torch.no_grad():
                module.weight.copy_(torch.from_numpy(layer.weight.data))
                module.bias.copy_(torch.from_numpy(layer.bias.data))
            if layer.activation is not None:
                modules.append(torch.nn.ReLU())
    return torch.nn.Sequential(*modules)


def batches(n, batch_size=64):
    """Seeded images with a class each, which a bright square tells: [(x, labels), ...]."""
    rng = np.random.default_rng(1)
    made = []
    for _ in range(n):
        labels = rng.integers(0, 10, batch_size)
        x = 0.3 * rng.random((batch_size, 1, 28, 28), dtype=np.float32)
        for image, label in zip(x, labels, strict=True):
            row, column = 2 + 12 * (label // 5), 2 + 5 * (label % 5)
            image[0, row : row + 5, column : column + 4] += 0.7
        made.append((x, labels))
    return made
