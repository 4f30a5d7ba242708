"""Windows of 2x2 and 3x3 cells, which have kernels of their own, around every size at which a vector ends."""

import numpy as np
import pytest

import convgrad
from convgrad import functional, reference
from convgrad._native import runtime

WINDOWS = [(2, 2, 0), (2, (1, 2), 1), (3, 1, 1), (3, 2, 0), (3, 2, 1), (3, (1, 2), ((2, 0), (0, 2))),
           (3, (3, 1), ((0, 1), (2, 2)))]  # fmt: skip


def widths(dtype):
    """Every width up to two vectors of either stride and a few beyond."""
    lanes = runtime.lanes(np.dtype(dtype).name)
    around = {n * lanes + d for n in (1, 2, 4) for d in range(-4, 5)}
    return sorted(W for W in {*range(1, 8), *around, 14, 27, 56, 112} if W > 0)


def images(rng, dtype, kernel, padding):
    for W in widths(dtype):
        for H in (1, 2, 3, 4, 7, W if W < 40 else 5):
            rows, columns = np.broadcast_to(padding, (2, 2))
            if H + sum(rows) < kernel or W + sum(columns) < kernel:
                continue
            x = rng.integers(-3, 4, (2, 5, H, W)).astype(dtype)
            x[x == 0] = -0.0
            yield x


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel, stride, padding", WINDOWS)
def test_native_maxima_are_those_of_the_twin_and_of_the_pass_with_indices(
    kernel, stride, padding, dtype, ceil_mode, rng
):
    options = dict(stride=stride, padding=padding, ceil_mode=ceil_mode)
    for x in images(rng, dtype, kernel, padding):
        x[rng.random(x.shape) < 0.02] = np.nan
        x[rng.random(x.shape) < 0.02] = np.inf
        x[rng.random(x.shape) < 0.02] = -np.inf
        y = functional.max_pool2d(x, kernel, **options)
        expected = reference.max_pool2d(x, kernel, **options)
        np.testing.assert_array_equal(y, expected, err_msg=str(x.shape))
        numbers = ~np.isnan(y)
        np.testing.assert_array_equal(np.signbit(y)[numbers], np.signbit(expected)[numbers], err_msg=str(x.shape))
        indexed = functional.max_pool2d(x, kernel, return_indices=True, **options)[0]
        np.testing.assert_array_equal(y, indexed, err_msg=str(x.shape))


@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel, stride, padding", WINDOWS)
def test_native_averages_are_those_of_the_twin_and_of_subsampling(
    kernel, stride, padding, dtype, ceil_mode, count_include_pad, rng
):
    options = dict(stride=stride, padding=padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad)
    one, zero = np.ones(5, dtype), np.zeros(5, dtype)
    for x in images(rng, dtype, kernel, padding):
        x += rng.standard_normal(x.shape).astype(dtype)
        y = functional.avg_pool2d(x, kernel, **options)
        tolerance = 16 * np.finfo(dtype).eps
        expected = reference.avg_pool2d(x, kernel, **options)
        np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance, err_msg=str(x.shape))
        np.testing.assert_array_equal(y, functional.subsample2d(x, one, zero, kernel, **options), err_msg=str(x.shape))


@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel, stride, padding", WINDOWS)
def test_native_averages_let_nan_and_infinity_through(kernel, stride, padding, dtype, count_include_pad, rng):
    options = dict(stride=stride, padding=padding, count_include_pad=count_include_pad)
    for x in images(rng, dtype, kernel, padding):
        x[rng.random(x.shape) < 0.02] = np.nan
        x[rng.random(x.shape) < 0.02] = np.inf
        x[rng.random(x.shape) < 0.02] = -np.inf
        with np.errstate(invalid="ignore"):
            expected = reference.avg_pool2d(x, kernel, **options)
        tolerance = 16 * np.finfo(dtype).eps
        y = functional.avg_pool2d(x, kernel, **options)
        np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance, err_msg=str(x.shape))


@pytest.mark.parametrize("pool", [functional.max_pool2d, functional.avg_pool2d])
@pytest.mark.parametrize("kernel, stride, padding", [(2, 2, 0), (3, 1, 1), (3, 2, 1)])
def test_native_results_have_the_same_bits_in_any_batch_and_on_any_threads(pool, kernel, stride, padding, rng):
    x = rng.standard_normal((4, 37, 61, 61), dtype=np.float32)
    with convgrad.threads(1):
        expected = pool(x, kernel, stride=stride, padding=padding)
    with convgrad.threads(3):
        assert pool(x, kernel, stride=stride, padding=padding).tobytes() == expected.tobytes()
        for n in range(len(x)):
            alone = pool(x[n : n + 1, n:], kernel, stride=stride, padding=padding)
            assert alone.tobytes() == expected[n : n + 1, n:].tobytes()
