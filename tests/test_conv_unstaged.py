"""1x1 convolutions of small images and many channels: images are read in place, threads share ranges of channels."""

import numpy as np
import pytest

import convgrad
from convgrad import functional, reference

# C, K, (H, W), groups: one less and one more channel than chains, ranges and tiles have; pixels around tiles
LAYERS = [
    (129, 80, (7, 7), 1),
    (128, 81, (5, 5), 1),
    (300, 63, (7, 6), 1),
    (257, 64, (1, 13), 1),
    (300, 65, (3, 5), 1),
    (200, 320, (7, 7), 1),
    (160, 257, (9, 9), 1),
    (400, 160, (14, 14), 1),
    (300, 160, (7, 7), 2),
    (280, 96, (16, 16), 1),  # planes of whole cache sets
    (1, 100, (1, 1), 1),  # the least
    (3, 300, (1, 1), 3),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_native_results_are_those_of_the_twin_and_the_same_bits_in_any_batch(layer, dtype, rng, check_close):
    C, K, size, groups = layer
    options = dict(groups=groups, algorithm="direct")
    weight, bias = (rng.uniform(-1, 1, shape).astype(dtype) for shape in ((K, C // groups, 1, 1), (K,)))
    x = rng.uniform(-1, 1, (9, C, *size)).astype(dtype)
    y = functional.conv2d(x, weight, bias, activation="relu", **options)
    grad = rng.uniform(-1, 1, y.shape).astype(dtype)
    grad_x = functional.conv2d_grad_input(grad, weight, x.shape, **options)
    wide = [array.astype(np.float64) for array in (x, weight, bias, grad)]
    check_close(y, reference.conv2d(*wide[:3], activation="relu", groups=groups), C // groups, "y")
    check_close(
        grad_x, reference.conv2d_grad_input(wide[3], wide[1], x.shape, groups=groups), K // groups, "grad_input"
    )
    packed = convgrad.prepack_conv2d(weight, bias, input_shape=x.shape, activation="relu", **options)
    for count in (1, 2, 5, 9):
        for threads in (1, 2, 3):
            with convgrad.threads(threads):
                some = functional.conv2d(x[:count], weight, bias, activation="relu", **options)
                np.testing.assert_array_equal(some, y[:count], f"{count} on {threads}")
                np.testing.assert_array_equal(packed(x[:count]), y[:count], f"packed, {count} on {threads}")
                some = functional.conv2d_grad_input(grad[:count], weight, x[:count].shape, **options)
                np.testing.assert_array_equal(some, grad_x[:count], f"grad_input, {count} on {threads}")


OPTIONS = [dict(stride=2), dict(stride=(2, 1)), dict(padding=1), dict(padding=((0, 1), (0, 0)))]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_native_strides_and_borders(options, rng, check_close):
    x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in ((5, 200, 7, 7), (96, 200, 1, 1)))
    y = functional.conv2d(x, weight, **options)
    wide = x.astype(np.float64), weight.astype(np.float64)
    check_close(y, reference.conv2d(*wide, **options), 200, "y")


def test_native_values_that_are_not_finite_stay_in_their_pixels(rng):
    x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in ((4, 200, 7, 7), (96, 200, 1, 1)))
    expected = functional.conv2d(x, weight)
    x[1, 199, 6, 6], x[2, 0, 0, 0] = np.nan, np.inf
    y = functional.conv2d(x, weight)
    assert np.isnan(y[1, :, 6, 6]).all()
    assert np.isinf(y[2, :, 0, 0]).all()
    y[1, :, 6, 6], y[2, :, 0, 0] = expected[1, :, 6, 6], expected[2, :, 0, 0]
    np.testing.assert_array_equal(y, expected)


def test_native_views_of_many_blocks(rng):
    """Channels near each other though images are large: between their rows, or overlapping; and in reverse order."""
    weight = rng.uniform(-1, 1, (512, 300, 1, 1)).astype(np.float32)
    between = rng.uniform(-1, 1, (2, 30, 300, 13)).astype(np.float32).transpose(0, 2, 1, 3)
    line = rng.uniform(-1, 1, (2, 2, 299 * 4 + 401)).astype(np.float32)
    overlapping = np.lib.stride_tricks.sliding_window_view(line, 401, axis=2)[:, :, ::4].transpose(0, 2, 1, 3)
    for x in (between, between[:, ::-1], between[:, :, :7], overlapping, overlapping[:, ::-1]):
        expected = functional.conv2d(np.ascontiguousarray(x), weight, algorithm="direct")
        np.testing.assert_allclose(functional.conv2d(x, weight, algorithm="direct"), expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(expected, reference.conv2d(x, weight), rtol=1e-3, atol=1e-3)


def test_native_reversed_channels_of_large_planes(rng):
    x = rng.uniform(-1, 1, (1, 257, 40, 41)).astype(np.float32)[:, ::-1]
    weight = rng.uniform(-1, 1, (96, 257, 1, 1)).astype(np.float32)
    expected = functional.conv2d(x.copy(), weight, algorithm="direct")
    np.testing.assert_array_equal(functional.conv2d(x, weight, algorithm="direct"), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "N, C, K, H, W",
    [(1, 130, 70, 5, 5), (1, 70, 131, 5, 5), (2, 128, 256, 13, 13), (3, 256, 96, 9, 9), (2, 160, 320, 30, 31)],
)
def test_blocks_of_several_tiles_of_channels_of_1x1_kernels(N, C, K, H, W, dtype, rng):
    x, grad = (rng.standard_normal((N, n, H, W)).astype(dtype) for n in (C, K))
    expected = reference.conv2d_grad_weight(grad.astype(np.float64), x.astype(np.float64), 1)
    with convgrad.threads(1):  # more threads take narrower blocks
        result = functional.conv2d_grad_weight(grad, x, 1)
    error = np.abs(result - expected).max() / np.sqrt(np.mean(expected**2))
    assert error < 32 * np.finfo(dtype).eps
    for n in (2, 3):
        with convgrad.threads(n):
            np.testing.assert_array_equal(functional.conv2d_grad_weight(grad, x, 1), result)
