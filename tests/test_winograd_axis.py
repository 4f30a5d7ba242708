"""Minimal filtering along one axis, F(m, 3) to F(m, 7), forward and both gradients, against the float64 twin.

Around every lane and tile boundary, for each kind of kernel; when "auto" takes it; its rounding and its bits.
"""

import itertools

import numpy as np
import pytest
from conv_cases import DTYPES, LAYOUTS, laid_out
from test_winograd_numbers import relative_errors
from winograd_cases import NAMES, any_winograd, check_three, kernels_run, problem, three

from convgrad import functional, reference
from convgrad._native import runtime
from convgrad.precision import precision
from convgrad.threads import threads

CHANNELS = (1, 3, 8, 15, 16, 17, 31, 33, 64, 65, 80)
KERNELS = ((1, 3), (3, 1), (1, 4), (4, 1), (1, 5), (5, 1), (1, 6), (6, 1), (1, 7), (7, 1), (5, 5), (3, 4), (2, 3))
KERNELS += ((7, 3), (4, 7), (7, 7), (6, 6))
PADDINGS = (((1, 1), (1, 1)), ((0, 0), (0, 0)), ((3, 3), (3, 3)), ((0, 2), (3, 1)), ((7, 5), (6, 8)))
# Error of the worst element in units of the machine epsilon, for sums of a size near 1; found: below 58.
WORST = 110
FUSED = {"winograd_weights", "winograd_fused"}


def tile_of(kernel):
    """(outputs, points) of a tile along its axis."""
    taps = kernel[0] if kernel[1] == 1 else kernel[1]
    return (4, 6) if taps == 3 else (9 - taps, 8)


def size_for(size, kernel, padding):
    """The size of an image, at least as large as the kernel needs."""
    return tuple(max(n, taps - sum(pads)) for n, taps, pads in zip(size, kernel, padding, strict=True))


def in_nchw(results, layout):
    if layout == "NCHW":
        return results
    return results[0].transpose(0, 3, 1, 2), results[1].transpose(0, 3, 1, 2), results[2]


def check_problem(rng, N, C, K, size, padding, kernel, dtype, layout, **options):
    """Results and kernels of one problem."""
    arrays = problem(rng, N, C, K, *size_for(size, kernel, padding), padding, kernel=kernel)
    expected = three(reference, *arrays, padding=padding, **options)
    taps = kernel[0] * kernel[1]
    lengths = (taps * C, taps * K, arrays[3].size // K)
    x, weight, bias, grad = (array.astype(dtype) for array in arrays)
    x, grad = laid_out(x, layout), laid_out(grad, layout)
    with any_winograd(), kernels_run() as ran:
        results = three(
            functional, x, weight, bias, grad, layout=layout, padding=padding, algorithm="winograd", **options
        )
    assert all(name.startswith("winograd") for name in ran)
    what = (N, C, K, size, padding, kernel, dtype.__name__, layout)
    check_three(in_nchw(results, layout), expected, lengths, WORST, what)
    return ran


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_equals_the_twin_at_every_boundary(kernel, rng):
    for i, (C, K) in enumerate(itertools.product(CHANNELS, CHANNELS)):
        if (i + sum(kernel)) % 3:  # a third of the pairs for each kernel
            continue
        most = 19 if C * K <= 40 * 40 else 9
        size = 1 + i % most, 1 + (7 * i + 3) % most
        check_problem(
            rng, 1 + i % 2, C, K, size, PADDINGS[i % len(PADDINGS)], kernel, DTYPES[i // 3 % 2], LAYOUTS[i // 6 % 2],
            activation=(None, "relu", ("leaky_relu", 0.3))[i // 2 % 3],
        )  # fmt: skip


@pytest.mark.parametrize("kernel", [(1, 3), (3, 1), (1, 7), (7, 1), (5, 5), (2, 4), (6, 6)], ids=str)
def test_every_size(kernel, rng):
    for size in range(1, 27):
        padding = PADDINGS[size % len(PADDINGS)]
        check_problem(rng, 2, 17, 16, (size, 1 + 5 * size % 26), padding, kernel, np.float32, LAYOUTS[size % 2])


@pytest.mark.parametrize("kernel", [(1, 3), (7, 1), (5, 5), (7, 4)], ids=str)
def test_large_problems_are_cut_into_ranges(kernel, rng):
    """More weights than are kept transformed, long rows, more tiles than a range or a group of sums, in 3 samples."""
    padding = PADDINGS[0]
    many = check_problem(rng, 3, 260, 480, (11, 10), padding, kernel, np.float32, "NCHW")
    assert "winograd_multiply" in many
    few = check_problem(rng, 3, 20, 33, (61, 62), padding, kernel, np.float32, "NHWC")
    assert few >= FUSED | {"winograd_grad_weight"}
    assert few & {"winograd_grad_ranges", "winograd_grad_products"}
    assert "winograd_grad_ranges" in few or kernel[0] > 1 < kernel[1]
    wide = check_problem(rng, 1, 260, 480, (kernel[0], 800), padding, kernel, np.float32, "NCHW")
    assert wide >= FUSED
    long_sums = check_problem(rng, 1, 100, 132, (61, 62), padding, kernel, np.float32, "NCHW")
    assert "winograd_grad_products" in long_sums


def test_any_strides(rng):
    for kernel in ((1, 7), (3, 1), (5, 5)):
        x, weight, bias, grad = (
            a.astype(np.float32) for a in problem(rng, 2, 19, 21, 9, 10, PADDINGS[2], kernel=kernel)
        )
        options = dict(padding=3, algorithm="winograd")

        def inside(array):
            larger = np.full([2 * size + 1 for size in array.shape], np.nan, np.float32)
            view = larger[tuple(slice(1, None, 2) for _ in array.shape)]
            view[...] = array
            return view

        def flipped(array):
            return array[(slice(None, None, -1),) * array.ndim].copy()[(slice(None, None, -1),) * array.ndim]

        with any_winograd():
            expected = three(functional, x, weight, bias, grad, **options)
            for view in (inside, lambda array: array.transpose().copy().transpose(), flipped):
                results = three(functional, *(view(array) for array in (x, weight, bias, grad)), **options)
                for result, right in zip(results, expected, strict=True):
                    np.testing.assert_array_equal(result, right)


# ---------------------------------------------------------------------------------------------------------------------
# When it runs
# ---------------------------------------------------------------------------------------------------------------------

TAKEN = [  # kernel, C, K, H, W: what "auto" filters forward and by the input, and by the weight
    ((1, 3), 64, 70, 6, 6, True, False),
    ((1, 3), 63, 70, 6, 6, False, False),
    ((7, 1), 64, 64, 7, 7, True, True),
    ((7, 1), 64, 63, 7, 7, False, False),
    ((1, 7), 96, 96, 5, 7, False, False),
    ((5, 5), 32, 33, 7, 7, True, True),
    ((5, 5), 33, 31, 7, 7, False, False),
    ((5, 5), 32, 32, 6, 6, True, False),
    ((2, 4), 32, 32, 20, 20, True, True),
    ((4, 2), 64, 64, 20, 20, False, False),
    ((7, 1), 64, 64, 2, 40, False, False),
    ((1, 8), 96, 96, 20, 20, False, False),
    ((1, 2), 96, 96, 20, 20, False, False),
]


@pytest.mark.parametrize("kernel, C, K, H, W, both, by_weight", TAKEN)
def test_auto_takes_it_by_the_shape(kernel, C, K, H, W, both, by_weight, rng):
    pads = [((taps - 1) // 2, taps // 2) for taps in kernel]
    x, weight, _, grad = (a.astype(np.float32) for a in problem(rng, 1, C, K, H, W, pads, kernel=kernel))
    m, _ = tile_of(kernel)
    taps, along = (kernel[0], "rows") if kernel[1] == 1 else (kernel[1], "columns")
    results = {}
    for name, strict in (("fast", False), ("strict", True)):
        with precision(name):
            for direction, wanted in (("forward", both), ("grad_input", both), ("grad_weight", by_weight)):
                account = functional.explain_conv2d(x, weight, padding=pads, direction=direction)
                with kernels_run() as ran:
                    if direction == "forward":
                        result = functional.conv2d(x, weight, padding=pads)
                    elif direction == "grad_input":
                        result = functional.conv2d_grad_input(grad, weight, x.shape, padding=pads)
                    else:
                        result = functional.conv2d_grad_weight(grad, x, kernel, padding=pads)
                if wanted and not strict:
                    assert account["algorithm"] == f"winograd F({m}, {taps}) along {along}"
                    assert account["shared_bytes"] > 0
                    assert account["reason"].startswith(f"winograd: stride 1, {taps} taps along an axis")
                    assert all(kernel.startswith("winograd") for kernel in ran)
                else:
                    assert account["algorithm"].startswith("direct, ")
                    assert account["reason"].startswith("direct: ")
                    assert ran == {"conv_grad_weight" if direction == "grad_weight" else "conv_correlate"}
                results[name, direction] = result
    for direction, wanted in (("forward", both), ("grad_input", both), ("grad_weight", by_weight)):
        np.testing.assert_allclose(results["fast", direction], results["strict", direction], rtol=1e-3, atol=1e-3)
        assert np.array_equal(results["fast", direction], results["strict", direction]) != wanted


def test_auto_is_direct_where_rounding_or_memory_would_suffer():
    def reason(x, weight, direction="forward", dtype="float32", padding="same"):
        account = functional.explain_conv2d(x, weight, direction=direction, dtype=dtype, padding=padding)
        assert account["algorithm"].split()[0].rstrip(",") == account["reason"].split(":")[0]
        return account["reason"]

    long, short = (2, 1025, 9, 9), (2, 1024, 9, 9)
    assert reason(long, (64, 1025, 1, 7)) == "direct: sums so long that Winograd's rounding would show"
    assert reason(short, (64, 1024, 1, 7)).startswith("winograd: ")
    assert reason((2, 64, 9, 9), (1025, 64, 1, 7), "grad_input").startswith("direct: sums so long")
    assert reason((2, 63, 9, 9), (1025, 63, 1, 7), "grad_weight").startswith("direct: too few channels")
    assert reason((2, 64, 9, 9), (1025, 64, 1, 7), "grad_weight").startswith("winograd: ")
    assert reason((2, 410, 9, 9), (64, 410, 5, 5)).startswith("direct: sums so long")
    assert reason((2, 2049, 9, 9), (64, 2049, 1, 3)).startswith("winograd: ")
    assert reason((2, 2049, 9, 9), (2048, 2049, 1, 3)).startswith("direct: Winograd's transformed weights")
    assert reason((2, 96, 9, 9), (96, 96, 1, 7), dtype="float64") == (
        "direct: in float64 only 3x3 kernels take Winograd's algorithm"
    )
    with precision("strict"):
        assert reason((2, 96, 9, 9), (96, 96, 1, 7)) == (
            "direct: under strict precision only 3x3 kernels take Winograd's algorithm"
        )


def test_one_dimension_and_the_transposed_convolution(rng):
    x = rng.standard_normal((2, 70, 50), dtype=np.float32)
    weight = rng.standard_normal((64, 70, 5), dtype=np.float32)
    with kernels_run() as ran:
        result = functional.conv1d(x, weight, padding=2)
    assert ran == FUSED
    np.testing.assert_allclose(result, reference.conv1d(x, weight, padding=2), rtol=1e-3, atol=1e-3)
    x, weight = (
        rng.standard_normal((2, 64, 9, 12), dtype=np.float32),
        rng.standard_normal((64, 70, 1, 7), dtype=np.float32),
    )
    bias = rng.standard_normal(70, dtype=np.float32)
    with kernels_run() as ran:
        result = functional.conv_transpose2d(x, weight, bias, padding=(0, 2))
    assert ran == FUSED
    expected = reference.conv_transpose2d(x, weight, bias, padding=(0, 2))
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kernel", [(1, 7), (3, 1), (5, 5)], ids=str)
def test_packed_weights_residual_and_the_precision_of_their_making(kernel, rng):
    x, weight, bias, grad = (a.astype(np.float32) for a in problem(rng, 3, 70, 65, 9, 10, PADDINGS[2], kernel=kernel))
    residual = rng.standard_normal(grad.shape, dtype=np.float32)
    options = dict(padding=3, activation="relu")
    fast = functional.conv2d(x, weight, bias, **options)
    with precision("strict"):
        strict = functional.conv2d(x, weight, bias, **options)
        packed_strict = functional.prepack_conv2d(weight, bias, input_shape=x.shape, **options)
        with kernels_run() as ran:
            packed = None
            with precision("fast"):
                packed = functional.prepack_conv2d(weight, bias, input_shape=x.shape, **options)
        assert ran == {"winograd_weights"}
        with kernels_run() as ran:
            np.testing.assert_array_equal(packed(x), fast)
        assert ran == {"winograd_fused"}
    np.testing.assert_array_equal(packed_strict(x), strict)
    for n in (1, 3):
        with threads(n):
            np.testing.assert_array_equal(packed(x[:n]), fast[:n])
    sums = functional.conv2d(x, weight, bias, padding=3) + residual
    np.testing.assert_array_equal(packed(x, residual=residual), np.maximum(sums, 0))


# ---------------------------------------------------------------------------------------------------------------------
# Its numbers
# ---------------------------------------------------------------------------------------------------------------------

GAUSSIAN = [  # N, C, K, H, W; each is also taken with C and K exchanged
    (4, 3, 64, 20, 20),
    (2, 16, 16, 18, 17),
    (2, 64, 64, 16, 16),
    (2, 200, 64, 14, 14),
    (2, 512, 8, 10, 10),
    (2, 1024, 16, 8, 8),
    (2, 16, 16, 100, 110),
]


@pytest.mark.parametrize("kernel", [(1, 3), (3, 1), (1, 4), (1, 5), (1, 6), (7, 1), (1, 7), (5, 5)], ids=str)
def test_rounding(kernel, rng):
    rms_limit = 1e-6 if runtime.isa() in ("avx2", "avx512", "neon") else 1.1e-6
    pads = [((taps - 1) // 2, taps // 2) for taps in kernel]
    problems = GAUSSIAN + ([(2, 2048, 16, 8, 8)] if max(kernel) < 6 and kernel[0] in (1, max(kernel)) else [])
    for N, C, K, H, W in problems + [(N, K, C, H, W) for N, C, K, H, W in problems if C != K]:
        if kernel == (5, 5) and max(C, K) > 400:
            continue
        arrays = problem(rng, N, C, K, H, W, pads, gaussian=True, kernel=kernel)
        expected = three(reference, *arrays, padding=pads)
        with any_winograd():
            results = three(functional, *(a.astype(np.float32) for a in arrays), padding=pads, algorithm="winograd")
        for name, result, right in zip(NAMES, results, expected, strict=True):
            rms, largest = relative_errors(result, right)
            assert rms <= rms_limit, f"{name} {N, C, K, H, W}: RMS error {rms:.3g}"
            assert largest <= 2e-5, f"{name} {N, C, K, H, W}: largest error {largest:.3g}"


SAME_BITS = [  # kernel, N, C, K, H, W
    ((1, 7), 3, 96, 100, 17, 17),
    ((7, 1), 5, 33, 65, 19, 6),
    ((1, 3), 7, 260, 480, 8, 8),
    ((3, 1), 9, 64, 96, 3, 30),
    ((5, 5), 5, 40, 33, 7, 9),
    ((5, 5), 4, 130, 140, 6, 9),
    ((7, 7), 2, 17, 40, 40, 44),
    ((1, 5), 4, 16, 16, 1, 700),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel, N, C, K, H, W", SAME_BITS)
def test_the_same_bits_for_any_threads_and_batch(kernel, N, C, K, H, W, layout, rng):
    pads = [(taps // 2, taps // 2) for taps in kernel]
    x, weight, bias, grad = (a.astype(np.float32) for a in problem(rng, N, C, K, H, W, pads, kernel=kernel))
    x, grad = laid_out(x, layout), laid_out(grad, layout)
    options = dict(padding=pads, layout=layout, algorithm="winograd")
    with any_winograd():
        with threads(1):
            expected = three(functional, x, weight, bias, grad, **options)
        for n in (2, 3):
            with threads(n):
                results = three(functional, x, weight, bias, grad, **options)
            for what, result, right in zip(NAMES, results, expected, strict=True):
                np.testing.assert_array_equal(result, right, err_msg=f"{what}, {n} threads")
        for first, last in ((0, 1), (N - 1, N), (N // 3, N - N // 3)):
            results = three(functional, x[first:last], weight, bias, grad[first:last], **options)
            for result, right in zip(results[:2], expected[:2], strict=True):
                np.testing.assert_array_equal(result, right[first:last])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kernel", [(1, 7), (3, 1), (5, 5), (2, 4)], ids=str)
def test_nan_stays_within_its_tiles(kernel, bad, rng):
    padding, (m, points) = ((1, 2), (3, 1)), tile_of(kernel)
    x, weight, bias, _ = (a.astype(np.float32) for a in problem(rng, 3, 19, 18, 11, 14, padding, kernel=kernel))
    steps = (m, 1) if kernel[1] == 1 else (1, m)  # outputs and inputs of a tile
    reach = (points, 1) if kernel[1] == 1 else (kernel[0], points)
    with any_winograd():
        options = dict(padding=padding, algorithm="winograd")
        clean = functional.conv2d(x, weight, bias, **options)
        for n, c, h, w in ((0, 0, 0, 0), (1, 18, 10, 13), (2, 7, 5, 6)):
            spoilt = x.copy()
            spoilt[n, c, h, w] = bad
            result = functional.conv2d(spoilt, weight, bias, **options)
            may, must = np.zeros(clean.shape, bool), np.zeros(clean.shape, bool)
            for i, j in np.ndindex(clean.shape[2:]):
                tile = [h + padding[0][0] - i // steps[0] * steps[0], w + padding[1][0] - j // steps[1] * steps[1]]
                own = [h + padding[0][0] - i, w + padding[1][0] - j]
                may[n, :, i, j] = all(0 <= at < most for at, most in zip(tile, reach, strict=True))
                must[n, :, i, j] = all(0 <= at < most for at, most in zip(own, kernel, strict=True))
            assert must.any()
            assert not (must & ~may).any()
            assert not np.isfinite(result[must]).any()
            np.testing.assert_array_equal(result[~may], clean[~may])
