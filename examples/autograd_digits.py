"""Trains a small network on the handwritten digits that come with convgrad, gradients by HIPS autograd.

    pip install 'convgrad[autograd]'
    python examples/autograd_digits.py

The loss has a penalty on its own gradient by the images (Drucker, Le Cun, 1992), so its gradient by the weights needs
second derivatives: autograd finds them through convgrad's primitives. Takes about ten seconds on one core.
"""

import argparse

import autograd.numpy as anp
import numpy as np
from autograd import grad, value_and_grad

from convgrad import datasets
from convgrad.integrations.autograd import conv2d, max_pool2d, softmax_cross_entropy

PENALTY = 0.01


def initial(rng):
    """He's weights, zero biases."""
    return {
        "conv": rng.standard_normal((16, 1, 3, 3)).astype(np.float32) * np.sqrt(2 / 9, dtype=np.float32),
        "conv_bias": np.zeros(16, np.float32),
        "dense": rng.standard_normal((256, 10)).astype(np.float32) * np.sqrt(1 / 256, dtype=np.float32),
        "dense_bias": np.zeros(10, np.float32),
    }


def logits(weights, images):
    hidden = max_pool2d(conv2d(images, weights["conv"], weights["conv_bias"], padding=1, activation="silu"), 2)
    return anp.dot(anp.reshape(hidden, (len(images), -1)), weights["dense"]) + weights["dense_bias"]


def loss(weights, images, labels):
    def by_images(images):
        return softmax_cross_entropy(logits(weights, images), labels, reduction="sum")

    slope = grad(by_images)(images)
    return softmax_cross_entropy(logits(weights, images), labels) + PENALTY * anp.mean(slope**2)


def accuracy(weights, images, labels):
    return float(np.mean(np.argmax(logits(weights, images), axis=1) == labels))


def train(epochs, batch_size=64, learning_rate=0.1, momentum=0.9, seed=0):
    """Return the accuracy on held-out digits after each epoch."""
    rng = np.random.default_rng(seed)
    images, labels = datasets.load_digits()
    inside, outside = datasets.stratified_split(labels, 0.2, seed=0)
    weights = initial(rng)
    velocity = {name: np.zeros_like(value) for name, value in weights.items()}
    step = value_and_grad(loss)
    history = []
    for epoch in range(epochs):
        total = 0.0
        for rows in np.array_split(rng.permutation(inside), len(inside) // batch_size):
            value, gradient = step(weights, images[rows], labels[rows])
            total += float(value) * len(rows)
            for name in weights:
                velocity[name] = momentum * velocity[name] - learning_rate * gradient[name].astype(np.float32)
                weights[name] = weights[name] + velocity[name]
        history.append(accuracy(weights, images[outside], labels[outside]))
        print(f"epoch {epoch + 1}: loss {total / len(inside):.4f}, held-out accuracy {history[-1]:.3f}")
    return history


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--epochs", type=int, default=10)
    train(parser.parse_args().epochs)
