"""Rounding errors of every operation in float32, beside PyTorch's: `python tests/accuracy/operations.py`.

Operands are normal random numbers rounded to float32, the same for all. The reference is the NumPy twin in float64,
whose own error is a billionth of what is measured. An element's error counts in units of eps = 2^-23 times its
magnitude or the root mean square of all, whichever is larger: a sum of large terms that happens to be nearly 0 has no
digits to lose. Printed are the largest error and the root mean square of the errors, ours and PyTorch's (extra `test`).

The exit status is 1 where a mean error is above four times PyTorch's and above one unit; docs/numerics.md has the
table.
"""

import argparse
import sys

import numpy as np

import convgrad
from convgrad import functional

EPS = float(np.finfo(np.float32).eps)
WORSE = 4  # times PyTorch's mean error


class Operands:
    """`a.x(2, 3)`: the operand named x, of that shape, always the same numbers, of one type."""

    def __init__(self, convert, seed=1):
        self._convert, self._seed, self._made = convert, seed, {}

    def __getattr__(self, name):
        def operand(*shape):
            if (name, shape) not in self._made:
                rng = np.random.default_rng([self._seed, *name.encode(), *shape])
                self._made[name, shape] = self._convert(rng.standard_normal(shape, np.float32))
            return self._made[name, shape]

        return operand


def both(forward):
    """Row of one call whose result PyTorch computes by the function of the same name and arguments."""
    return forward, forward


def through(function, *inputs):
    """PyTorch's gradients of function(*inputs) for an output gradient: the last of inputs."""
    import torch

    *inputs, grad_output = inputs
    leaves = [leaf.detach().clone().requires_grad_() for leaf in inputs]
    return torch.autograd.grad(function(*leaves), leaves, grad_output)


def F():
    import torch

    return torch.nn.functional


def unfolded(x, weight):
    """PyTorch has no locally connected layer: windows times weights."""
    import torch

    windows = x.unfold(2, 3, 1).unfold(3, 3, 1)  # (N, C, OH, OW, R, S)
    return torch.einsum("ncijrs,ijkcrs->nkij", windows, weight)


def convolution(x, w, g, **options):
    """Rows of a convolution: forward and its three gradients. x, w, g are shapes; ours also takes `algorithm`."""
    theirs = {name: value for name, value in options.items() if name != "algorithm"}
    return {
        "": (
            lambda f, a: f.conv2d(a.x(*x), a.w(*w), a.b(w[0]), **options),
            lambda f, a: f.conv2d(a.x(*x), a.w(*w), a.b(w[0]), **theirs),
        ),
        ", gradient by the input": (
            lambda f, a: f.conv2d_grad_input(a.g(*g), a.w(*w), x, **options),
            lambda f, a: through(lambda x: f.conv2d(x, a.w(*w), **theirs), a.x(*x), a.g(*g)),
        ),
        ", gradient by the weight": (
            lambda f, a: f.conv2d_grad_weight(a.g(*g), a.x(*x), w[2:], **options),
            lambda f, a: through(lambda w: f.conv2d(a.x(*x), w, **theirs), a.w(*w), a.g(*g)),
        ),
    }


IMAGE, WEIGHT = (4, 64, 28, 28), (64, 64, 3, 3)
CONVOLUTIONS = {
    "conv2d 3x3, 64 channels, Winograd F(4x4)": convolution(IMAGE, WEIGHT, IMAGE, padding=1),
    "conv2d 3x3, 64 channels, direct": convolution(IMAGE, WEIGHT, IMAGE, padding=1, algorithm="direct"),
    "conv2d 3x3, 512 channels, Winograd F(4x4)": convolution(
        (2, 512, 7, 7), (512, 512, 3, 3), (2, 512, 7, 7), padding=1,
    ),
    "conv2d 1x1, 256 channels": convolution((2, 256, 14, 14), (64, 256, 1, 1), (2, 64, 14, 14)),
    "conv2d 7x7, stride 2": convolution((2, 3, 64, 64), (64, 3, 7, 7), (2, 64, 32, 32), stride=2, padding=3),
    "conv2d 3x3, depthwise": convolution((4, 64, 28, 28), (64, 1, 3, 3), (4, 64, 28, 28), padding=1, groups=64),
}  # fmt: skip

ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "softplus", "silu", "gelu")
OF_INPUT = ("softplus", "silu", "gelu")


def activation_rows(name):
    def backward(f, a):
        x, g = a.x(1000, 100), a.g(1000, 100)
        return getattr(f, f"{name}_backward")(g, x if name in OF_INPUT else getattr(f, name)(x))

    return {
        name: both(lambda f, a: getattr(f, name)(a.x(1000, 100))),
        f"{name}_backward": (backward, lambda f, a: through(getattr(f, name), a.x(1000, 100), a.g(1000, 100))),
    }


def loss_rows(name, theirs, *target):
    """A loss with reduction "sum", and its gradient; `target` makes the second argument from the operands."""

    def torch_loss(f, a):
        import torch

        logits = a.x(200, 100).clone().requires_grad_()
        loss = theirs(f, logits, target[0](a))
        return [loss.detach().reshape(1), *torch.autograd.grad(loss, logits)]

    def ours(f, a):
        loss, grad = getattr(f, name)(a.x(200, 100), target[0](a), reduction="sum")
        return [np.array([loss]), grad]

    return {name: (ours, torch_loss)}


def labels(a):
    return np.arange(200) % 100


def torch_norm(f, a):
    x, w, b, g = a.x(8, 32, 14, 14), a.w(32), a.b(32), a.g(8, 32, 14, 14)
    call = lambda x, w, b: f.batch_norm(x, None, None, w, b, training=True)
    return [call(x, w, b), *through(call, x, w, b, g)]


def our_norm(f, a):
    x, w, g = a.x(8, 32, 14, 14), a.w(32), a.g(8, 32, 14, 14)
    y, mean, inv_std, *_ = f.batch_norm(x, w, a.b(32), training=True)
    return [y, *f.batch_norm_backward(g, x, w, mean, inv_std)]


def our_layer_norm(f, a):
    x, w, g = a.x(400, 256), a.w(256), a.g(400, 256)
    y, mean, inv_std = f.layer_norm(x, w, a.b(256))
    return [y, *f.layer_norm_backward(g, x, w, mean, inv_std)]


def torch_layer_norm(f, a):
    x, w, b, g = a.x(400, 256), a.w(256), a.b(256), a.g(400, 256)
    call = lambda x, w, b: f.layer_norm(x, (256,), w, b)
    return [call(x, w, b), *through(call, x, w, b, g)]


def max_pool_backward(f, a):
    x = a.x(4, 16, 28, 28)
    y, indices = f.max_pool2d(x, 3, stride=2, return_indices=True)
    return f.max_pool2d_backward(a.g(*y.shape), indices, x.shape, 3, stride=2)


def global_max_backward(f, a):
    x = a.x(4, 16, 28, 28)
    _, indices = f.global_max_pool2d(x, return_indices=True)
    return f.global_max_pool2d_backward(a.g(4, 16, 1, 1), indices, x.shape)


def of_output(name):
    """softmax or log_softmax: its gradient from its output."""
    return lambda f, a: getattr(f, f"{name}_backward")(a.g(400, 300), getattr(f, name)(a.x(400, 300)))


def scaled_mask(f, a):
    mask = np.arange(6000) % 3 > 0
    return f.dropout_backward(a.g(6000), mask, 0.25), f.alpha_dropout_backward(a.g(6000), mask, 0.25)


def bias_pass(f, a):
    return f.activation_backward_bias("tanh", a.g(4, 16, 28, 28), f.tanh(a.x(4, 16, 28, 28)))


def torch_bias_pass(f, a):
    call = lambda x, b: (x + b[:, None, None]).tanh()
    x, g = a.x(4, 16, 28, 28), a.g(4, 16, 28, 28)
    return through(call, x, x.new_zeros(16), g)


def subsampled(x, w, b):
    return F().avg_pool2d(x, 2) * w[:, None, None] + b[:, None, None]


def strict(f, a):
    with convgrad.precision("strict"):
        return f.conv2d(a.x(*IMAGE), a.w(*WEIGHT), padding=1)


X, G, K = (3, 40, 50), (3, 44, 54), (5, 5)
ROWS = {
    **{label + part: row for label, rows in CONVOLUTIONS.items() for part, row in rows.items()},
    'conv2d 3x3, 64 channels, precision("strict"), F(2x2)': (
        strict, lambda f, a: f.conv2d(a.x(*IMAGE), a.w(*WEIGHT), padding=1),
    ),
    "conv2d_grad_bias": (
        lambda f, a: f.conv2d_grad_bias(a.g(*IMAGE)), lambda f, a: a.g(*IMAGE).sum((0, 2, 3)),
    ),
    "conv2d_backward": (
        lambda f, a: f.conv2d_backward(a.g(*IMAGE), a.x(*IMAGE), a.w(*WEIGHT), padding=1),
        lambda f, a: through(
            lambda x, w, b: f.conv2d(x, w, b, padding=1), a.x(*IMAGE), a.w(*WEIGHT), a.b(64), a.g(*IMAGE)
        ),
    ),
    "prepack_conv2d": (
        lambda f, a: f.prepack_conv2d(a.w(*WEIGHT), a.b(64), input_shape=IMAGE, padding=1)(a.x(*IMAGE)),
        lambda f, a: f.conv2d(a.x(*IMAGE), a.w(*WEIGHT), a.b(64), padding=1),
    ),
    "conv_transpose2d, stride 2": both(
        lambda f, a: f.conv_transpose2d(a.x(2, 32, 14, 14), a.w(32, 16, 4, 4), stride=2)
    ),
    "conv_transpose2d_backward": (
        lambda f, a: f.conv_transpose2d_backward(a.g(2, 16, 30, 30), a.x(2, 32, 14, 14), a.w(32, 16, 4, 4), stride=2),
        lambda f, a: through(
            lambda x, w, b: f.conv_transpose2d(x, w, b, stride=2),
            a.x(2, 32, 14, 14), a.w(32, 16, 4, 4), a.b(16), a.g(2, 16, 30, 30),
        ),
    ),
    "conv1d": both(lambda f, a: f.conv1d(a.x(4, 32, 200), a.w(16, 32, 5))),
    "conv1d_backward": (
        lambda f, a: f.conv1d_backward(a.g(4, 16, 196), a.x(4, 32, 200), a.w(16, 32, 5)),
        lambda f, a: through(f.conv1d, a.x(4, 32, 200), a.w(16, 32, 5), a.b(16), a.g(4, 16, 196)),
    ),
    "conv1d_grad_input": (
        lambda f, a: f.conv1d_grad_input(a.g(4, 16, 196), a.w(16, 32, 5), (4, 32, 200)),
        lambda f, a: through(lambda x: f.conv1d(x, a.w(16, 32, 5)), a.x(4, 32, 200), a.g(4, 16, 196)),
    ),
    "conv1d_grad_weight": (
        lambda f, a: f.conv1d_grad_weight(a.g(4, 16, 196), a.x(4, 32, 200), 5),
        lambda f, a: through(lambda w: f.conv1d(a.x(4, 32, 200), w), a.w(16, 32, 5), a.g(4, 16, 196)),
    ),
    "conv1d_grad_bias": (lambda f, a: f.conv1d_grad_bias(a.g(4, 16, 196)), lambda f, a: a.g(4, 16, 196).sum((0, 2))),
    "conv_transpose1d": both(lambda f, a: f.conv_transpose1d(a.x(4, 32, 100), a.w(32, 16, 4), stride=2)),
    "conv_transpose1d_backward": (
        lambda f, a: f.conv_transpose1d_backward(a.g(4, 16, 202), a.x(4, 32, 100), a.w(32, 16, 4), stride=2),
        lambda f, a: through(
            lambda x, w, b: f.conv_transpose1d(x, w, b, stride=2),
            a.x(4, 32, 100), a.w(32, 16, 4), a.b(16), a.g(4, 16, 202),
        ),
    ),
    "convolve2d, full": (
        lambda f, a: f.convolve2d(a.x(*X), a.k(*K)),
        lambda f, a: f.conv2d(a.x(*X)[:, None], a.k(*K).flip(0, 1)[None, None], padding=4)[:, 0],
    ),
    "convolve2d_backward": (
        lambda f, a: f.convolve2d_backward(a.g(*G), a.x(*X), a.k(*K)),
        lambda f, a: through(
            lambda x, k: f.conv2d(x[:, None], k.flip(0, 1)[None, None], padding=4)[:, 0], a.x(*X), a.k(*K), a.g(*G)
        ),
    ),
    "correlate2d, full": (
        lambda f, a: f.correlate2d(a.x(*X), a.k(*K)),
        lambda f, a: f.conv2d(a.x(*X)[:, None], a.k(*K)[None, None], padding=4)[:, 0],
    ),
    "correlate2d_backward": (
        lambda f, a: f.correlate2d_backward(a.g(*G), a.x(*X), a.k(*K)),
        lambda f, a: through(
            lambda x, k: f.conv2d(x[:, None], k[None, None], padding=4)[:, 0], a.x(*X), a.k(*K), a.g(*G)
        ),
    ),
    "locally_connected2d": (
        lambda f, a: f.locally_connected2d(a.x(4, 8, 12, 12), a.w(10, 10, 6, 8, 3, 3)),
        lambda f, a: unfolded(a.x(4, 8, 12, 12), a.w(10, 10, 6, 8, 3, 3)),
    ),
    "locally_connected2d_backward": (
        lambda f, a: f.locally_connected2d_backward(a.g(4, 6, 10, 10), a.x(4, 8, 12, 12), a.w(10, 10, 6, 8, 3, 3))[:2],
        lambda f, a: through(unfolded, a.x(4, 8, 12, 12), a.w(10, 10, 6, 8, 3, 3), a.g(4, 6, 10, 10)),
    ),
    "linear, 1024 inputs": both(lambda f, a: f.linear(a.x(64, 1024), a.w(256, 1024), a.b(256))),
    "linear_backward": (
        lambda f, a: f.linear_backward(a.g(64, 256), a.x(64, 1024), a.w(256, 1024)),
        lambda f, a: through(f.linear, a.x(64, 1024), a.w(256, 1024), a.b(256), a.g(64, 256)),
    ),
    "max_pool2d": (lambda f, a: f.max_pool2d(a.x(4, 16, 28, 28), 3, stride=2),) * 2,
    "max_pool2d_backward": (
        max_pool_backward,
        lambda f, a: through(lambda x: f.max_pool2d(x, 3, stride=2), a.x(4, 16, 28, 28), a.g(4, 16, 13, 13)),
    ),
    "avg_pool2d": (lambda f, a: f.avg_pool2d(a.x(4, 16, 28, 28), 3, stride=2),) * 2,
    "avg_pool2d_backward": (
        lambda f, a: f.avg_pool2d_backward(a.g(4, 16, 13, 13), (4, 16, 28, 28), 3, stride=2),
        lambda f, a: through(lambda x: f.avg_pool2d(x, 3, stride=2), a.x(4, 16, 28, 28), a.g(4, 16, 13, 13)),
    ),
    "subsample2d": (
        lambda f, a: f.subsample2d(a.x(4, 16, 28, 28), a.w(16), a.b(16), 2),
        lambda f, a: subsampled(a.x(4, 16, 28, 28), a.w(16), a.b(16)),
    ),
    "subsample2d_backward": (
        lambda f, a: f.subsample2d_backward(a.g(4, 16, 14, 14), a.x(4, 16, 28, 28), a.w(16), 2),
        lambda f, a: through(subsampled, a.x(4, 16, 28, 28), a.w(16), a.b(16), a.g(4, 16, 14, 14)),
    ),
    "global_avg_pool2d": (
        lambda f, a: f.global_avg_pool2d(a.x(4, 16, 28, 28)), lambda f, a: f.adaptive_avg_pool2d(a.x(4, 16, 28, 28), 1),
    ),
    "global_avg_pool2d_backward": (
        lambda f, a: f.global_avg_pool2d_backward(a.g(4, 16, 1, 1), (4, 16, 28, 28)),
        lambda f, a: through(lambda x: f.adaptive_avg_pool2d(x, 1), a.x(4, 16, 28, 28), a.g(4, 16, 1, 1)),
    ),
    "global_max_pool2d": (
        lambda f, a: f.global_max_pool2d(a.x(4, 16, 28, 28)), lambda f, a: f.adaptive_max_pool2d(a.x(4, 16, 28, 28), 1),
    ),
    "global_max_pool2d_backward": (
        global_max_backward,
        lambda f, a: through(lambda x: f.adaptive_max_pool2d(x, 1), a.x(4, 16, 28, 28), a.g(4, 16, 1, 1)),
    ),
    **{label: row for name in ACTIVATIONS for label, row in activation_rows(name).items()},
    "activation_backward_bias, tanh": (bias_pass, torch_bias_pass),
    "dropout_backward, alpha_dropout_backward": (scaled_mask, None),
    "softmax": (lambda f, a: f.softmax(a.x(400, 300)), lambda f, a: f.softmax(a.x(400, 300), -1)),
    "log_softmax": (lambda f, a: f.log_softmax(a.x(400, 300)), lambda f, a: f.log_softmax(a.x(400, 300), -1)),
    "softmax_backward": (
        of_output("softmax"), lambda f, a: through(lambda x: f.softmax(x, -1), a.x(400, 300), a.g(400, 300)),
    ),
    "log_softmax_backward": (
        of_output("log_softmax"), lambda f, a: through(lambda x: f.log_softmax(x, -1), a.x(400, 300), a.g(400, 300)),
    ),
    **loss_rows(
        "softmax_cross_entropy",
        lambda f, x, t: f.cross_entropy(x, x.new_tensor(t).long(), reduction="sum"), labels,
    ),
    **loss_rows("least_squares", lambda f, x, t: f.mse_loss(x, t, reduction="sum") / 2, lambda a: a.t(200, 100)),
    **loss_rows(
        "sigmoid_cross_entropy",
        lambda f, x, t: f.binary_cross_entropy_with_logits(x, t, reduction="sum"), lambda a: abs(a.t(200, 100)) / 8,
    ),
    "batch_norm, batch_norm_backward": (our_norm, torch_norm),
    "layer_norm, layer_norm_backward": (our_layer_norm, torch_layer_norm),
}  # fmt: skip

# What computes with whole numbers, draws random ones or nothing at all, with the reason that it has no row.
WITHOUT_ROW = {
    "explain_conv2d": "computes nothing",
    "max_pool2d_plane_indices": "whole numbers",
    "dropout": "random; the products are those of its backward",
    "alpha_dropout": "random; the products are those of its backward",
}


def listed(result):
    return list(result) if isinstance(result, (list, tuple)) else [result]


def errors(results, exact):
    """(largest, root mean square) over all results, in units."""
    units = []
    for result, right in zip(results, exact, strict=True):
        result, right = np.asarray(result, np.float64), np.asarray(right, np.float64)
        if result.shape != right.shape:
            raise AssertionError(f"shape {result.shape}, expected {right.shape}")
        scale = np.maximum(np.abs(right), np.sqrt(np.mean(right**2)))
        units.append((np.abs(result - right) / (EPS * np.where(scale == 0, 1, scale))).ravel())
    units = np.concatenate(units)
    return float(units.max()), float(np.sqrt(np.mean(units**2)))


def measure(label):
    """Ours and PyTorch's (largest, root mean square) errors; None where there is no PyTorch or no such function."""
    ours, theirs = ROWS[label]
    with convgrad.backend("numpy"):
        exact = listed(ours(functional, Operands(lambda x: x.astype(np.float64))))
    found = errors(listed(ours(functional, Operands(np.asarray))), exact)
    try:
        import torch
    except ImportError:
        theirs = None
    if theirs is None:
        return found, None
    results = [result.detach().numpy() for result in listed(theirs(F(), Operands(torch.from_numpy)))]
    return found, errors(results, exact)


def too_large(found, theirs):
    return theirs is not None and found[1] > max(1, WORSE * theirs[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="rows whose labels begin so; default: all")
    options = parser.parse_args()
    failed = False
    print("| float32, units of 2^-23 | largest | root mean square | PyTorch, largest | root mean square |")
    print("|---" * 5 + "|")
    with convgrad.threads(1):
        for label in ROWS:
            if options.names and not label.startswith(tuple(options.names)):
                continue
            found, theirs = measure(label)
            failed |= too_large(found, theirs)
            other = f"{theirs[0]:.2f} | {theirs[1]:.3f}" if theirs else " | "
            print(f"| {label} | {found[0]:.2f} | {found[1]:.3f} | {other} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
