"""Depthwise convolutions with one tap: planes scaled, around every size at which a vector or a block ends."""

import numpy as np
import pytest

import convgrad
from convgrad import functional, reference
from convgrad._native import runtime


def planes(dtype):
    """(H, W) of planes of every size up to two vectors, and about blocks."""
    lanes = runtime.lanes(np.dtype(dtype).name)
    sizes = {1, 2, 3, *(n * lanes + d for n in (1, 2) for d in (-1, 0, 1)), 4095, 4096, 4097}
    return [(1, size) for size in sorted(sizes) if size > 0] + [(7, 7), (13, 13), (5, 31), (56, 56)]


def close(actual, expected, message):
    tolerance = 16 * np.finfo(actual.dtype).eps
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=message)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [None, "relu", ("leaky_relu", 0.2)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_native_results_are_those_of_the_twin(dtype, activation, has_bias, rng):
    for H, W in planes(dtype):
        for N, C in ((1, 3), (2, 2), (3, 37)):
            x = rng.standard_normal((N, C, H, W)).astype(dtype)
            x[rng.random(x.shape) < 0.01] = np.nan
            weight = rng.standard_normal((C, 1, 1, 1)).astype(dtype)
            bias = rng.standard_normal(C).astype(dtype) if has_bias else None
            options = dict(groups=C, activation=activation)
            expected = reference.conv2d(x, weight, bias, **options)
            packed = convgrad.prepack_conv2d(weight, bias, input_shape=x.shape, **options)
            for y in (functional.conv2d(x, weight, bias, **options), packed(x)):
                close(y, expected, str(x.shape))
            grad = functional.conv2d_grad_input(x, weight, x.shape, groups=C)
            close(grad, reference.conv2d_grad_input(x, weight, x.shape, groups=C), str(x.shape))


def test_native_planes_apart_and_other_layouts(rng):
    x, weight, bias = (rng.standard_normal(shape, dtype=np.float32) for shape in ((3, 8, 9, 10), (8, 1, 1, 1), (8,)))
    expected = reference.conv2d(x, weight, bias, groups=8)
    wide, tall = np.zeros((3, 8, 9, 20), np.float32), np.zeros((6, 8, 9, 10), np.float32)
    wide[..., ::2], tall[::2] = x, x
    for other in (wide[..., ::2], tall[::2], np.asfortranarray(x)):
        close(functional.conv2d(other, weight, bias, groups=8), expected, str(other.strides))
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    y = functional.conv2d(last, weight, bias, groups=8, layout="NHWC")
    close(y.transpose(0, 3, 1, 2), expected, "NHWC")


@pytest.mark.parametrize("options", [dict(stride=2), dict(padding=1), dict(padding=((0, 1), (0, 0))),
                                     dict(stride=(1, 2), padding=((0, 0), (2, 0)))])  # fmt: skip
def test_native_strides_and_borders_are_not_scaled_planes(options, rng):
    x, weight, bias = (rng.standard_normal(shape, dtype=np.float32) for shape in ((2, 5, 6, 7), (5, 1, 1, 1), (5,)))
    expected = reference.conv2d(x, weight, bias, groups=5, **options)
    close(functional.conv2d(x, weight, bias, groups=5, **options), expected, str(options))


def test_native_channel_multipliers_are_not_scaled_planes(rng):
    x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in ((2, 5, 6, 7), (10, 1, 1, 1)))
    close(functional.conv2d(x, weight, groups=5), reference.conv2d(x, weight, groups=5), "multiplier 2")


def test_native_results_have_the_same_bits_in_any_batch_and_on_any_threads(rng):
    x, weight, bias = (
        rng.standard_normal(shape, dtype=np.float32) for shape in ((5, 61, 57, 57), (61, 1, 1, 1), (61,))
    )
    with convgrad.threads(1):
        expected = functional.conv2d(x, weight, bias, groups=61, activation="silu")
    with convgrad.threads(3):
        assert functional.conv2d(x, weight, bias, groups=61, activation="silu").tobytes() == expected.tobytes()
        for n in range(len(x)):
            alone = functional.conv2d(x[n : n + 1], weight, bias, groups=61, activation="silu")
            assert alone.tobytes() == expected[n : n + 1].tobytes()
    assert "depthwise" in convgrad.explain_conv2d(x.shape, weight.shape, groups=61)["algorithm"]
