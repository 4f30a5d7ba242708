"""Winograd's F(4x4, 3x3) ("fast") and F(2x2, 3x3) ("strict"), forward and both gradients, against the float64 twin.

Around every lane and tile boundary; when "auto" takes it, and what is refused.
"""

import itertools

import numpy as np
import pytest
from conv_cases import DTYPES, LAYOUTS, laid_out
from winograd_cases import PADDINGS, PRECISIONS, WORST, check_three, kernels_run, problem, three

import convgrad
from convgrad import functional, reference
from convgrad.precision import precision

CHANNELS = (1, 3, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 80, 130, 256)


def sizes_and_channels():
    """(C, K, H, W): every pair of channels, sizes 1 to 26, the large ones with few channels."""
    problems, size = [], 0
    for C in CHANNELS:
        for K in CHANNELS:
            most = 26 if C * K <= 40 * 40 else 9
            problems.append((C, K, 1 + size % most, 1 + (7 * size + 3) % most))
            size += 1
    return problems


@pytest.mark.parametrize("part", range(5))
def test_equals_the_twin_at_every_boundary(part, rng):
    for i, (C, K, H, W) in list(enumerate(sizes_and_channels()))[part::5]:
        padding = PADDINGS[i % len(PADDINGS)]
        (top, bottom), (left, right) = padding
        H, W = max(H, 3 - top - bottom), max(W, 3 - left - right)
        arrays = problem(rng, 1 + i % 2, C, K, H, W, padding)
        options = dict(padding=padding, activation=(None, "relu", ("leaky_relu", 0.3))[i % 3])
        expected = three(reference, *arrays, **options)
        lengths = (9 * C, 9 * K, arrays[3].size // K)
        for j, (dtype, name) in enumerate(itertools.product(DTYPES, PRECISIONS)):
            layout = LAYOUTS[(i + j + j // 2) % 2]
            x, weight, bias, grad = (array.astype(dtype) for array in arrays)
            x, grad = laid_out(x, layout), laid_out(grad, layout)
            with precision(name), kernels_run() as ran:
                results = three(functional, x, weight, bias, grad, layout=layout, algorithm="winograd", **options)
            assert ran & {"winograd_grad_weight", "winograd_grad_fused"}
            assert not ran & {"conv_correlate", "conv_grad_weight"}
            if layout == "NHWC":
                results = (results[0].transpose(0, 3, 1, 2), results[1].transpose(0, 3, 1, 2), results[2])
            check_three(results, expected, lengths, WORST[name], (C, K, H, W, padding, layout, dtype.__name__))


def test_every_size(rng):
    for size in range(1, 27):
        for other in (size, 1 + (5 * size) % 26):
            padding = PADDINGS[0] if size % 2 else PADDINGS[4]
            H, W = max(size, 3 - sum(padding[0])), max(other, 3 - sum(padding[1]))
            arrays = problem(rng, 2, 16, 16, H, W, padding)
            expected = three(reference, *arrays, padding=padding)
            arrays = [array.astype(np.float32) for array in arrays]
            for name in PRECISIONS:
                with precision(name):
                    results = three(functional, *arrays, padding=padding, algorithm="winograd")
                check_three(results, expected, (144, 144, 2 * H * W), WORST[name], (H, W, padding))


@pytest.mark.parametrize("C, K", [(1, 1), (3, 17), (16, 33), (65, 15), (31, 80), (64, 20), (130, 520)])
def test_gradient_by_the_weight_in_ranges_of_tiles_and_channels(C, K, rng):
    H, W = 67, 62
    arrays = problem(rng, 1 + (C == 1), C, K, H, W, PADDINGS[0])
    options = dict(kernel_size=3, padding=PADDINGS[0])
    expected = reference.conv2d_grad_weight(arrays[3], arrays[0], **options)
    x, grad = arrays[0].astype(np.float32), arrays[3].astype(np.float32)
    for name in PRECISIONS:
        with precision(name), kernels_run() as ran:
            result = functional.conv2d_grad_weight(grad, x, algorithm="winograd", **options)
        assert "winograd_grad_weight" in ran
        assert ("winograd_grad_ranges" if C * K <= 2600 else "winograd_grad_products") in ran
        error = np.abs(result - expected).max() / np.sqrt(np.mean(expected**2))
        assert error < (2e-5 if name == "fast" else 1e-5), (name, error)


# N, groups, channels of a group on either side, size
GROUPS = [
    (2, 3, 5, 7, (9, 13)),
    (2, 4, 16, 16, (14, 14)),
    (3, 2, 33, 17, (7, 10)),
    (8, 32, 12, 24, (7, 7)),
    (9, 4, 20, 16, (19, 27)),
    (24, 2, 16, 16, (20, 27)),
    (1, 2, 130, 180, (6, 9)),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", GROUPS, ids=str)
def test_groups_have_the_bits_of_a_call_each(case, layout, rng):
    N, groups, C, K, (H, W) = case
    arrays = [problem(rng, N, C, K, H, W, PADDINGS[3]) for _ in range(groups)]
    arrays = [[array.astype(np.float32) for array in one] for one in arrays]
    each = [three(functional, *one, padding=PADDINGS[3], activation="relu", algorithm="winograd") for one in arrays]
    expected = [np.concatenate(parts, axis) for parts, axis in zip(zip(*each, strict=True), (1, 1, 0), strict=True)]
    x, weight, bias, grad = (
        np.concatenate(parts, axis) for parts, axis in zip(zip(*arrays, strict=True), (1, 0, 0, 1), strict=True)
    )
    x, grad = laid_out(x, layout), laid_out(grad, layout)
    options = dict(padding=PADDINGS[3], groups=groups, layout=layout, algorithm="winograd")
    results = three(functional, x, weight, bias, grad, activation="relu", **options)
    packed = functional.prepack_conv2d(weight, bias, activation="relu", input_shape=x.shape, **options)
    np.testing.assert_array_equal(packed(x), results[0])
    for result, right in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result if result.shape == right.shape else result.transpose(0, 3, 1, 2), right)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "elu", "selu", "softplus", "silu", "gelu"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_activations_and_no_bias(activation, layout, rng):
    x, weight, _, grad = problem(rng, 2, 17, 33, 9, 11, PADDINGS[0])
    x = laid_out(x, layout)
    expected = reference.conv2d(x, weight, padding=1, activation=activation, layout=layout)
    out = np.full(expected.shape, np.nan, np.float32)
    result = functional.conv2d(
        x.astype(np.float32), weight.astype(np.float32), padding=1, activation=activation, layout=layout,
        algorithm="winograd", out=out,
    )  # fmt: skip
    assert result is out
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_large_problems_are_cut_into_ranges(rng):
    """More channels than transformed weights are kept for, more tiles than a range, products for ranges of k."""
    for N, C, K, H, W in ((3, 272, 288, 17, 18), (1, 40, 300, 37, 38), (2, 300, 33, 30, 41), (1, 512, 512, 6, 6)):
        arrays = problem(rng, N, C, K, H, W, PADDINGS[0])
        expected = three(reference, *arrays, padding=1)
        results = three(functional, *(array.astype(np.float32) for array in arrays), padding=1, algorithm="winograd")
        check_three(results, expected, (9 * C, 9 * K, N * H * W), WORST["fast"], (N, C, K, H, W))


def test_any_strides(rng):
    """Views whose pixels, channels and taps lie anywhere give the bits of contiguous arrays."""
    x, weight, bias, grad = (a.astype(np.float32) for a in problem(rng, 2, 19, 21, 9, 10, PADDINGS[0]))
    options = dict(padding=1, algorithm="winograd")
    expected = three(functional, x, weight, bias, grad, **options)

    def inside(array):
        larger = np.full([2 * size + 1 for size in array.shape], np.nan, np.float32)
        view = larger[tuple(slice(1, None, 2) for _ in array.shape)]
        view[...] = array
        return view

    def transposed(array):
        return array.transpose().copy().transpose()

    def flipped(array):
        return array[(slice(None, None, -1),) * array.ndim].copy()[(slice(None, None, -1),) * array.ndim]

    for view in (inside, transposed, flipped):
        results = three(functional, *(view(array) for array in (x, weight, bias, grad)), **options)
        for result, right in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result, right, err_msg=view.__name__)


# ---------------------------------------------------------------------------------------------------------------------
# When it runs, when it refuses
# ---------------------------------------------------------------------------------------------------------------------


def test_auto_takes_direct_for_few_channels(rng):
    def ran(dtype, C, K, H, **options):
        arrays = (a.astype(dtype) for a in problem(rng, 1, C, K, H, H, PADDINGS[0]))
        with kernels_run() as names:
            three(functional, *arrays, padding=1, **options)
        return {name for name in names if not name.startswith("winograd")}, {
            n for n in names if n.startswith("winograd")
        }

    direct = {"conv_correlate", "conv_grad_weight"}
    assert ran(np.float64, 24, 24, 16) == ran(np.float64, 15, 64, 16) == (direct, set())
    assert ran(np.float32, 3, 64, 16) == (direct, set())
    assert ran(np.float32, 64, 64, 16, algorithm="direct") == (direct, set())
    only_winograd = ran(np.float32, 64, 64, 16)
    assert only_winograd[0] == set()
    assert {"winograd_weights", "winograd_fused", "winograd_grad_fused"} <= only_winograd[1]
    assert ran(np.float64, 16, 32, 16)[0] == ran(np.float64, 32, 16, 16)[0] == set()
    assert ran(np.float64, 24, 24, 16, algorithm="winograd")[0] == set()


@pytest.mark.parametrize(
    "C, K, size, dtype, algorithm",
    [
        (8, 32, 3, "float32", "winograd"),
        (8, 31, 3, "float32", "direct,"),
        (7, 64, 3, "float32", "direct,"),
        (12, 16, 3, "float32", "winograd"),
        (12, 15, 3, "float32", "direct,"),
        (64, 64, 2, "float32", "winograd"),
        (63, 64, 2, "float32", "direct,"),
        (64, 64, 1, "float32", "direct,"),
        (16, 32, 3, "float64", "winograd"),
        (16, 31, 3, "float64", "direct,"),
        (15, 64, 3, "float64", "direct,"),
    ],
)
def test_thresholds_of_auto(C, K, size, dtype, algorithm):
    for channels, out_channels in ((C, K), (K, C)):
        shapes = (1, channels, size, size), (out_channels, channels, 3, 3)
        for direction in ("forward", "grad_input"):
            account = convgrad.explain_conv2d(*shapes, padding=1, direction=direction, dtype=dtype)
            assert account["algorithm"].split()[0] == algorithm


@pytest.mark.parametrize("name", PRECISIONS)
def test_auto_has_the_bits_of_the_algorithm_it_takes(name, rng):
    for dtype, C, algorithm in ((np.float64, 15, "direct"), (np.float32, 32, "winograd"), (np.float32, 2, "direct")):
        arrays = [a.astype(dtype) for a in problem(rng, 2, C, 32, 12, 12, PADDINGS[0])]
        with precision(name):
            for result, right in zip(
                three(functional, *arrays, padding=1),
                three(functional, *arrays, padding=1, algorithm=algorithm),
                strict=True,
            ):
                np.testing.assert_array_equal(result, right)


@pytest.mark.parametrize("name", PRECISIONS)
def test_auto_in_float64_has_the_bits_of_strict(name, rng):
    arrays = problem(rng, 2, 32, 32, 12, 13, PADDINGS[0])
    with precision("strict"):
        expected = three(functional, *arrays, padding=1, algorithm="winograd")
    with precision(name):
        for result, right in zip(three(functional, *arrays, padding=1), expected, strict=True):
            np.testing.assert_array_equal(result, right)


def test_precision_decides_the_size_of_the_tiles(rng):
    x, weight, bias, grad = (a.astype(np.float32) for a in problem(rng, 1, 32, 32, 12, 12, PADDINGS[0]))
    fast = functional.conv2d(x, weight, padding=1)
    with convgrad.precision("strict"):
        strict = functional.conv2d(x, weight, padding=1)
    assert not np.array_equal(fast, strict)
    np.testing.assert_array_equal(functional.conv2d(x, weight, padding=1), fast)
    convgrad.set_precision("strict")
    try:
        assert convgrad.get_precision() == "strict"
        np.testing.assert_array_equal(functional.conv2d(x, weight, padding=1), strict)
        with convgrad.precision("fast"):
            np.testing.assert_array_equal(functional.conv2d(x, weight, padding=1), fast)
    finally:
        convgrad.set_precision("fast")
    with pytest.raises(ValueError, match="^set_precision: name must be one of 'fast', 'strict'; got 'exact'$"):
        convgrad.set_precision("exact")
    with (
        pytest.raises(TypeError, match="^precision: name must be a string, one of 'fast', 'strict'; got int$"),
        convgrad.precision(2),
    ):
        pass


REFUSED = [  # kernel, options, what the message says was received
    ((3, 3), dict(stride=2), "got stride (2, 2)"),
    ((3, 3), dict(stride=(1, 2)), "got stride (1, 2)"),
    ((3, 3), dict(dilation=2), "got dilation (2, 2)"),
    ((5, 5), {}, "got kernel (5, 5)"),
    ((3, 1), {}, "got kernel (3, 1)"),
    ((1, 1), dict(stride=2, dilation=(1, 3)), "got kernel (1, 1), stride (2, 2), dilation (1, 3)"),
]


@pytest.mark.parametrize("kernel, options, received", REFUSED)
def test_refusals(backend, kernel, options, received):
    x, weight = np.ones((2, 4, 12, 12), np.float32), np.ones((4, 4, *kernel), np.float32)
    y = np.ones(functional.conv2d(x, weight, **options).shape, np.float32)
    transposed = np.ones(functional.conv_transpose2d(x, weight, **options).shape, np.float32)
    options = dict(options, algorithm="winograd")
    calls = {
        "conv2d": lambda: functional.conv2d(x, weight, **options),
        "conv2d_grad_input": lambda: functional.conv2d_grad_input(y, weight, x.shape, **options),
        "conv2d_grad_weight": lambda: functional.conv2d_grad_weight(y, x, kernel, **options),
        "conv2d_backward": lambda: functional.conv2d_backward(y, x, weight, **options),
        "conv_transpose2d": lambda: functional.conv_transpose2d(x, weight, **options),
        "conv_transpose2d_backward": lambda: functional.conv_transpose2d_backward(transposed, x, weight, **options),
        "prepack_conv2d": lambda: functional.prepack_conv2d(weight, input_shape=x.shape, **options),
        "explain_conv2d": lambda: functional.explain_conv2d(x, weight, **options),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError) as caught:
            call()
        expected = f"{name}: algorithm='winograd' needs a 3x3 kernel, stride 1, dilation 1; {received}; use 'auto'"
        assert str(caught.value) == expected


def test_refusal_of_one_axis(backend):
    x = np.ones((2, 4, 12, 12), np.float32)
    with pytest.raises(ValueError) as caught:
        functional.conv1d(x[:, :, 0], np.ones((4, 4, 3), np.float32), algorithm="winograd")
    assert str(caught.value) == (
        "conv1d: algorithm='winograd' needs a 3x3 kernel, stride 1, dilation 1; got kernel (3,); use 'auto'"
    )
