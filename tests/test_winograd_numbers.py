"""The numbers that Winograd's algorithm gives: their rounding, their bits, and where NaN goes."""

import numpy as np
import pytest
from conv_cases import LAYOUTS, laid_out
from winograd_cases import NAMES, PADDINGS, PRECISIONS, TILE, problem, three

import convgrad
from convgrad import functional, reference
from convgrad._native import runtime
from convgrad.precision import precision
from convgrad.threads import threads

# ---------------------------------------------------------------------------------------------------------------------
# Rounding
# ---------------------------------------------------------------------------------------------------------------------

# N, C, K, H of Gaussian problems; each is also taken with C and K exchanged.
GAUSSIAN = [
    (2, 3, 16, 20),
    (2, 16, 16, 18),
    (2, 64, 64, 16),
    (2, 256, 64, 14),
    (2, 256, 4, 14),
    (2, 512, 64, 10),
    (2, 2048, 16, 8),
]
GAUSSIAN += [(N, K, C, H) for N, C, K, H in GAUSSIAN if C != K]
# The same with tiles of one, two and three outputs, some of them alone.
NARROW = [(2, 64, 64, 5), (2, 64, 64, 6), (2, 64, 64, 7), (8, 256, 32, 1), (8, 256, 32, 2), (8, 256, 32, 3)]
NARROW += [(2, 128, 48, 17), (2, 48, 128, 19)]


def relative_errors(result, expected):
    """(RMS error, largest error), both relative to the RMS value."""
    scale = np.sqrt(np.mean(expected**2))
    error = np.abs(result - expected)
    return np.sqrt(np.mean(error**2)) / scale, error.max() / scale


@pytest.mark.parametrize("N, C, K, H", GAUSSIAN + NARROW)
def test_rounding_of_fast(N, C, K, H, rng):
    arrays = problem(rng, N, C, K, H, H, PADDINGS[0], gaussian=True)
    expected = three(reference, *arrays, padding=1)
    with precision("fast"):
        results = three(functional, *(array.astype(np.float32) for array in arrays), padding=1, algorithm="winograd")
    # Without FMA every product rounds as well.
    rms_limit = 1e-6 if runtime.isa() in ("avx2", "avx512", "neon") else 1.1e-6
    for name, result, right in zip(NAMES, results, expected, strict=True):
        rms, largest = relative_errors(result, right)
        assert rms <= rms_limit, f"{name}: RMS error {rms:.3g}"
        assert largest <= 2e-5, f"{name}: largest error {largest:.3g}"


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 2e-19, reason="no floating-point type wider than float64")
@pytest.mark.parametrize("C, K, H", [(16, 32, 18), (64, 64, 16), (256, 64, 14), (16, 512, 6), (2048, 16, 5)])
def test_rounding_in_float64(C, K, H, rng):
    x, weight, grad = (rng.standard_normal(shape) for shape in ((2, C, H, H), (K, C, 3, 3), (2, K, H, H)))
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.longdouble)
    y, grad_x, grad_weight = (np.zeros(shape, np.longdouble) for shape in (grad.shape, wide.shape, weight.shape))
    for r, s in np.ndindex(3, 3):
        part = wide[:, :, r : r + H, s : s + H]
        y += np.moveaxis(np.tensordot(part, weight[:, :, r, s].astype(np.longdouble), ((1,), (1,))), -1, 1)
        grad_weight[:, :, r, s] = np.tensordot(grad.astype(np.longdouble), part, ((0, 2, 3), (0, 2, 3)))
        grad_x[:, :, r : r + H, s : s + H] += np.moveaxis(
            np.tensordot(grad.astype(np.longdouble), weight[:, :, r, s].astype(np.longdouble), ((1,), (0,))), -1, 1
        )
    results = (
        functional.conv2d(x, weight, padding=1),
        functional.conv2d_grad_input(grad, weight, x.shape, padding=1),
        functional.conv2d_grad_weight(grad, x, 3, padding=1),
    )
    for name, result, right in zip(NAMES, results, (y, grad_x[:, :, 1:-1, 1:-1], grad_weight), strict=True):
        rms, largest = relative_errors(result, right)
        assert rms <= 1e-15, f"{name}: RMS error {rms:.3g}"  # PyTorch's plain sums: 1.7e-16 to 6.7e-16
        assert largest <= 8e-15, f"{name}: largest error {largest:.3g}"


def test_gradients_by_the_weight_over_many_pixels_round_less_than_torchs(rng):
    torch = pytest.importorskip("torch")
    x, weight, _, grad = problem(rng, 8, 16, 16, 56, 56, PADDINGS[0], gaussian=True)
    expected = reference.conv2d_grad_weight(grad, x, 3, padding=1)
    x, weight, grad = (array.astype(np.float32) for array in (x, weight, grad))
    theirs = torch.nn.grad.conv2d_weight(torch.tensor(x), weight.shape, torch.tensor(grad), padding=1).numpy()
    for algorithm, name in (("winograd", "fast"), ("winograd", "strict"), ("direct", "fast")):
        with precision(name):
            ours = functional.conv2d_grad_weight(grad, x, 3, padding=1, algorithm=algorithm)
        assert relative_errors(ours, expected)[0] <= relative_errors(theirs, expected)[0], (algorithm, name)


@pytest.mark.parametrize("algorithm, name", [("winograd", "strict"), ("direct", "fast")])
@pytest.mark.parametrize("N, C, K, H", GAUSSIAN)
def test_rounding_of_strict_and_direct_beside_torch(N, C, K, H, algorithm, name, rng):
    torch = pytest.importorskip("torch")
    arrays = problem(rng, N, C, K, H, H, PADDINGS[0], gaussian=True)
    expected = three(reference, *arrays, padding=1)
    x, weight, bias, grad = (array.astype(np.float32) for array in arrays)
    with precision(name):
        results = three(functional, x, weight, bias, grad, padding=1, algorithm=algorithm)
    tx, tweight, tbias, tgrad = map(torch.tensor, (x, weight, bias, grad))
    theirs = (
        torch.nn.functional.conv2d(tx, tweight, tbias, padding=1),
        torch.nn.grad.conv2d_input(x.shape, tweight, tgrad, padding=1),
        torch.nn.grad.conv2d_weight(tx, weight.shape, tgrad, padding=1),
    )
    for what, result, their, right in zip(NAMES, results, theirs, expected, strict=True):
        ours, torchs = relative_errors(result, right)[0], relative_errors(their.numpy(), right)[0]
        assert ours <= 1.5 * torchs, f"{what}: RMS error {ours:.3g}, PyTorch's {torchs:.3g}"


# ---------------------------------------------------------------------------------------------------------------------
# The same bits with any number of threads
# ---------------------------------------------------------------------------------------------------------------------

SAME_BITS = [  # N, C, K, H, W, padding
    (3, 16, 16, 26, 25, PADDINGS[0]),
    (2, 33, 65, 19, 23, PADDINGS[3]),
    (7, 64, 64, 7, 7, PADDINGS[0]),
    (9, 80, 33, 4, 3, PADDINGS[0]),
    (5, 130, 130, 5, 9, PADDINGS[6]),
    (3, 256, 192, 6, 6, PADDINGS[0]),
    (4, 272, 256, 7, 7, PADDINGS[0]),
    (1, 24, 40, 60, 50, PADDINGS[1]),
]


@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("N, C, K, H, W, padding", SAME_BITS)
def test_any_number_of_threads_gives_the_same_bits(N, C, K, H, W, padding, layout, name, rng):
    x, weight, bias, grad = (a.astype(np.float32) for a in problem(rng, N, C, K, H, W, padding))
    x, grad = laid_out(x, layout), laid_out(grad, layout)
    options = dict(padding=padding, layout=layout, algorithm="winograd")
    with precision(name):
        with threads(1):
            expected = three(functional, x, weight, bias, grad, **options)
        for n in (2, 3):
            with threads(n):
                assert convgrad.get_num_threads() in (1, n)  # 1 in a build without OpenMP
                results = three(functional, x, weight, bias, grad, **options)
            for what, result, right in zip(NAMES, results, expected, strict=True):
                np.testing.assert_array_equal(result, right, err_msg=f"{what}, {n} threads")


# ---------------------------------------------------------------------------------------------------------------------
# NaN, infinity
# ---------------------------------------------------------------------------------------------------------------------


def tiles_that_read(h, w, first_h, first_w, m, out_shape):
    """Mask of the outputs in the m x m tiles that read pixel (h, w); tile i begins to read at m i + first."""
    mask = np.zeros(out_shape, bool)
    for i in range(0, out_shape[0], m):
        for j in range(0, out_shape[1], m):
            if 0 <= h - (i + first_h) < m + 2 and 0 <= w - (j + first_w) < m + 2:
                mask[i : i + m, j : j + m] = True
    return mask


def outputs_that_read(h, w, first_h, first_w, out_shape):
    """Mask of the outputs that the definition of convolution makes depend on pixel (h, w)."""
    i, j = np.indices(out_shape)
    return (abs(h - first_h - 1 - i) <= 1) & (abs(w - first_w - 1 - j) <= 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nan_stays_within_its_tiles(layout, name, bad, rng):
    padding = ((1, 0), (2, 1))
    x, weight, bias, grad = (a.astype(np.float32) for a in problem(rng, 3, 19, 18, 11, 14, padding))
    options = dict(padding=padding, layout=layout, algorithm="winograd")

    def at(n, c, h, w):
        return (n, c, h, w) if layout == "NCHW" else (n, h, w, c)

    with precision(name):
        clean = functional.conv2d(laid_out(x, layout), weight, bias, **options)
        clean_grad = functional.conv2d_grad_input(laid_out(grad, layout), weight, laid_out(x, layout).shape, **options)
        for n, c, h, w in ((0, 0, 0, 0), (1, 18, 10, 13), (2, 7, 5, 6), (1, 3, 3, 8)):
            spoilt = laid_out(x, layout).copy()
            spoilt[at(n, c, h, w)] = bad
            result = functional.conv2d(spoilt, weight, bias, **options)
            check_spoilt(result, clean, layout, n, h, w, -1, -2, TILE[name])

            c, h, w = min(c, 17), min(h, grad.shape[2] - 1), min(w, grad.shape[3] - 1)
            spoilt = laid_out(grad, layout).copy()
            spoilt[at(n, c, h, w)] = bad
            result = functional.conv2d_grad_input(spoilt, weight, laid_out(x, layout).shape, **options)
            check_spoilt(result, clean_grad, layout, n, h, w, 1 - 2, 2 - 2, TILE[name])


def check_spoilt(result, clean, layout, n, h, w, first_h, first_w, m):
    if layout == "NHWC":
        result, clean = result.transpose(0, 3, 1, 2), clean.transpose(0, 3, 1, 2)
    must = outputs_that_read(h, w, first_h, first_w, result.shape[2:])
    may = tiles_that_read(h, w, first_h, first_w, m, result.shape[2:])
    assert must.any()
    assert not (must & ~may).any()
    assert not np.isfinite(result[n][:, must]).any()
    np.testing.assert_array_equal(result[n][:, ~may], clean[n][:, ~may])
    others = np.arange(len(result)) != n
    np.testing.assert_array_equal(result[others], clean[others])


@pytest.mark.parametrize("name", PRECISIONS)
def test_nan_in_the_gradient_by_the_weight_stays_within_its_channel(name, rng):
    x, weight, bias, grad = (a.astype(np.float32) for a in problem(rng, 2, 19, 18, 11, 14, PADDINGS[0]))
    with precision(name):
        clean = functional.conv2d_grad_weight(grad, x, 3, padding=1, algorithm="winograd")
        for channel in (0, 7, 17):
            spoilt = x.copy()
            spoilt[1, channel, 5, 6] = np.nan
            result = functional.conv2d_grad_weight(grad, spoilt, 3, padding=1, algorithm="winograd")
            assert np.isnan(result[:, channel]).all()
            np.testing.assert_array_equal(np.delete(result, channel, 1), np.delete(clean, channel, 1))
            spoilt = grad.copy()
            spoilt[0, channel, 0, 13] = np.nan
            result = functional.conv2d_grad_weight(spoilt, x, 3, padding=1, algorithm="winograd")
            assert np.isnan(result[channel]).any()
            np.testing.assert_array_equal(np.delete(result, channel, 0), np.delete(clean, channel, 0))
