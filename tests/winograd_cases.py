"""Problems and comparisons that the tests of Winograd's algorithm share."""

import contextlib

import numpy as np

from convgrad import shapes
from convgrad._native import runtime

NAMES = ("forward", "grad_input", "grad_weight")  # what `three` returns
PRECISIONS = ("fast", "strict")
TILE = {"fast": 4, "strict": 2}
PADDINGS = (
    ((1, 1), (1, 1)),
    ((0, 0), (0, 0)),
    ((2, 2), (2, 2)),
    ((0, 3), (2, 1)),
    ((3, 1), (0, 2)),
    ((1, 0), (3, 3)),
    ((2, 3), (1, 0)),
)
# Error of the worst element in units of the machine epsilon, for sums of a size near 1; found: below 72 and 28.
WORST = {"fast": 110, "strict": 50}


@contextlib.contextmanager
def kernels_run():
    """Yields a set that on leaving holds the names of the kernels that ran inside."""
    ran, before = set(), runtime.kernel_calls()
    yield ran
    ran.update(name for (name, dtype), count in runtime.kernel_calls().items() if count > before[name, dtype])


@contextlib.contextmanager
def any_winograd():
    """Inside, algorithm="winograd" filters along one axis what it otherwise refuses: kernels with 3 to 7 taps there."""
    check = shapes._check_algorithm
    shapes._check_algorithm = lambda *arguments: None
    try:
        yield
    finally:
        shapes._check_algorithm = check
        shapes._conv_shape.cache_clear()
        shapes._conv_transpose_shape.cache_clear()


def problem(rng, N, C, K, H, W, padding, gaussian=False, kernel=(3, 3)):
    """x, weight, bias, grad_output as float64 arrays of float32 numbers, NCHW."""
    OH, OW = (size + sum(pads) - taps + 1 for size, pads, taps in zip((H, W), padding, kernel, strict=True))
    sizes = ((N, C, H, W), (K, C, *kernel), (K,), (N, K, OH, OW))
    draw = rng.standard_normal if gaussian else (lambda shape: rng.uniform(-1, 1, shape))
    return [draw(shape).astype(np.float32).astype(np.float64) for shape in sizes]


def three(module, x, weight, bias, grad, **options):
    """Forward, gradient by the input, gradient by the weight."""
    activation = options.pop("activation", None)
    return (
        module.conv2d(x, weight, bias, activation=activation, **options),
        module.conv2d_grad_input(grad, weight, x.shape, **options),
        module.conv2d_grad_weight(grad, x, weight.shape[2:], **options),
    )


def check_three(results, expected, lengths, worst, what):
    """Results against float64 ones; the sum of n products of numbers in [-1, 1] has a size of about sqrt(n) / 3."""
    for name, result, right, n in zip(NAMES, results, expected, lengths, strict=True):
        assert result.shape == right.shape
        bound = worst * np.finfo(result.dtype).eps * max(1, np.sqrt(n) / 3)
        error = np.abs(result - right).max()
        assert error <= bound, f"{name} {what}: error {error:.3g}, bound {bound:.3g}"
