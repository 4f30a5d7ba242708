"""Convolutions of small images: vectors of one row without the taps over the border, and vectors of samples."""

import numpy as np
import pytest

import convgrad
from convgrad import functional, reference
from convgrad._native import runtime

# C, K, (H, W), (R, S), padding: wide borders, rows of less and more than a vector, few channels and many
LAYERS = [
    (6, 16, (14, 14), (5, 5), 0),
    (16, 6, (10, 10), (5, 5), 4),
    (1, 6, (28, 28), (5, 5), 0),
    (3, 5, (6, 7), (3, 3), 2),
    (8, 9, (4, 4), (4, 4), 3),
    (2, 24, (9, 17), (3, 5), (1, 4)),
    (5, 8, (7, 33), (5, 2), ((4, 3), (1, 0))),
]


def batches(dtype):
    """Batch sizes around whole vectors of samples."""
    lanes = runtime.lanes(np.dtype(dtype).name)
    return sorted({1, 2, 3, *(max(1, n * lanes + d) for n in (1, 2) for d in (-1, 0, 1))})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_native_results_are_those_of_the_twin_and_the_same_bits_in_any_batch(layer, dtype, rng, check_close):
    C, K, size, kernel, padding = layer
    n = batches(dtype)[-1]
    options = dict(padding=padding, algorithm="direct")
    weight, bias = (rng.uniform(-1, 1, shape).astype(dtype) for shape in ((K, C, *kernel), (K,)))
    x = rng.uniform(-1, 1, (n, C, *size)).astype(dtype)
    y = functional.conv2d(x, weight, bias, activation="relu", **options)
    grad = rng.uniform(-1, 1, y.shape).astype(dtype)
    grad_x = functional.conv2d_grad_input(grad, weight, x.shape, **options)
    wide = [array.astype(np.float64) for array in (x, weight, bias, grad)]
    check_close(y, reference.conv2d(*wide[:3], activation="relu", padding=padding), weight[0].size, "y")
    check_close(grad_x, reference.conv2d_grad_input(wide[3], wide[1], x.shape, padding=padding), weight[:, 0].size, "x")
    packed = convgrad.prepack_conv2d(weight, bias, input_shape=x.shape, activation="relu", **options)
    for count in batches(dtype):
        for threads in (1, 3):
            with convgrad.threads(threads):
                some = functional.conv2d(x[:count], weight, bias, activation="relu", **options)
                np.testing.assert_array_equal(some, y[:count], str(count))
                np.testing.assert_array_equal(packed(x[:count]), y[:count], str(count))
                some = functional.conv2d_grad_input(grad[:count], weight, x[:count].shape, **options)
                np.testing.assert_array_equal(some, grad_x[:count], str(count))


def rest_of(padding, kernel):
    """The padding of the gradient by the input, a convolution of the gradient with the weight turned around."""
    sides = padding if isinstance(padding, tuple) else (padding, padding)
    pairs = [side if isinstance(side, tuple) else (side, side) for side in sides]
    return tuple(tuple(n - 1 - side for side in pair) for pair, n in zip(pairs, kernel, strict=True))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_native_weights_that_are_not_finite_meet_the_zeros_of_the_border(layer, value, rng):
    C, K, size, kernel, padding = layer
    options = dict(padding=padding, algorithm="direct")
    for where in ((0, 0, 0, 0), (K - 1, C - 1, kernel[0] - 1, kernel[1] - 1), (K // 2, C // 2, 0, kernel[1] // 2)):
        weight = rng.standard_normal((K, C, *kernel), dtype=np.float32)
        weight[where] = value
        for n in (1, 16):
            x = rng.standard_normal((n, C, *size), dtype=np.float32)
            y, expected = functional.conv2d(x, weight, **options), reference.conv2d(x, weight, padding=padding)
            np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
            grad = rng.standard_normal(y.shape, dtype=np.float32)
            got = functional.conv2d_grad_input(grad, weight, x.shape, **options)
            turned = weight.transpose(1, 0, 2, 3)[..., ::-1, ::-1]
            expected = reference.conv2d(grad, turned, padding=rest_of(padding, kernel))
            np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))


def test_native_images_that_are_not_finite(rng):
    for C, K, size, kernel, padding in LAYERS:
        weight = rng.standard_normal((K, C, *kernel), dtype=np.float32)
        x = rng.standard_normal((17, C, *size), dtype=np.float32)
        x[rng.random(x.shape) < 0.002] = np.nan
        y = functional.conv2d(x, weight, padding=padding, algorithm="direct")
        np.testing.assert_array_equal(np.isnan(y), np.isnan(reference.conv2d(x, weight, padding=padding)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [2, 3, 4, 5])
def test_rows_of_few_channels_at_the_ends_of_tiles(channels, dtype, rng, check_close):
    lanes = runtime.lanes(np.dtype(dtype).name)
    weight = rng.uniform(-1, 1, (channels, 5, 3, 3)).astype(dtype)
    for width in {max(1, n * lanes + d) for n in range(8) for d in (-1, 0, 1)}:
        x = rng.uniform(-1, 1, (3, 5, 4, width)).astype(dtype)
        y = functional.conv2d(x, weight, padding=1, algorithm="direct")
        expected = reference.conv2d(x.astype(np.float64), weight.astype(np.float64), padding=1)
        check_close(y, expected, weight[0].size, width)
        np.testing.assert_array_equal(functional.conv2d(x[1:2], weight, padding=1, algorithm="direct"), y[1:2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [7, 8, 9, 16, 31, 32, 33, 40, 43, 67])
def test_one_by_one_weights_of_every_number_of_tiles(channels, dtype, rng, check_close):
    weight = rng.uniform(-1, 1, (21, channels, 1, 1)).astype(dtype)
    grad = rng.uniform(-1, 1, (2, 21, 9, 11)).astype(dtype)
    shape = (2, channels, 9, 11)
    expected = reference.conv2d_grad_input(grad.astype(np.float64), weight.astype(np.float64), shape)
    for threads in (1, 2):
        with convgrad.threads(threads):
            check_close(functional.conv2d_grad_input(grad, weight, shape), expected, 21, threads)


@pytest.mark.parametrize("channels", [31, 32, 64, 96])
def test_one_by_one_weight_gradients_in_float64(channels, rng, check_close):
    for wide, pixels in ((channels, 40), (channels + 1, 160), (2 * channels, 9000)):
        x = rng.uniform(-1, 1, (2, wide, 1, pixels))
        grad = rng.uniform(-1, 1, (2, channels, 1, pixels))
        expected = np.einsum("nchw,nkhw->kc", x, grad)[:, :, None, None]
        check_close(functional.conv2d_grad_weight(grad, x, (1, 1)), expected, 2 * pixels, (wide, pixels))
