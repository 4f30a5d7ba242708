"""`explain_conv2d`: what it says is what runs."""

import numpy as np
import pytest
from conv_cases import CASES, Case, arrays, laid_out

import convgrad
from convgrad import backends, functional
from convgrad._native import runtime
from convgrad.precision import precision
from convgrad.threads import threads

# Besides some shared with the other tests: where Winograd runs, with weights kept whole and not, and depthwise.
EXPLAINED = [
    *CASES[::3],
    Case((2, 16, 12, 13), 24, (3, 3), padding=((1, 1), (1, 1))),
    Case((2, 40, 7, 7), 70, (3, 3), padding=((0, 3), (2, 1))),
    Case((1, 260, 5, 5), 300, (3, 3), padding=((1, 1), (1, 1))),
    Case((2, 17, 9, 20), 17, (3, 3), groups=17, padding=((1, 1), (1, 1))),
    Case((2, 96, 9, 8), 100, (1, 7), padding=((0, 0), (3, 3))),
    Case((1, 260, 8, 8), 400, (3, 1), padding=((1, 1), (0, 0))),
    Case((2, 33, 12, 9), 40, (5, 5), padding=((2, 2), (2, 2))),
]
W, SHAPE = np.ones((4, 3, 3, 3), np.float32), (2, 3, 8, 8)

KEYS = {
    "backend",
    "isa",
    "precision",
    "algorithm",
    "reason",
    "blocking",
    "scratch_bytes",
    "shared_bytes",
    "threads",
    "flops",
}
DIRECTIONS = ("forward", "grad_input", "grad_weight")


def run(direction, x, weight, grad, **options):
    """Names of the kernels that the direction runs."""
    before = runtime.kernel_calls()
    if direction == "forward":
        functional.conv2d(x, weight, **options)
    elif direction == "grad_input":
        functional.conv2d_grad_input(grad, weight, x.shape, **options)
    else:
        functional.conv2d_grad_weight(grad, x, weight.shape[2:], **options)
    return {name for (name, dtype), count in runtime.kernel_calls().items() if count > before[name, dtype]}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", EXPLAINED, ids=str)
def test_the_algorithm_explained_is_the_one_that_runs(case, direction):
    for dtype, layout, name in (
        (np.float32, "NCHW", "fast"), (np.float32, "NHWC", "strict"), (np.float64, "NCHW", "fast"),
    ):  # fmt: skip
        x, weight, _ = arrays(case, dtype)
        x = laid_out(x, layout)
        options = dict(case.options, layout=layout)
        grad = np.ones_like(functional.conv2d(x, weight, **options))
        with precision(name):
            before = runtime.kernel_calls()
            account = functional.explain_conv2d(x, weight, direction=direction, **options)
            assert runtime.kernel_calls() == before
            ran = run(direction, x, weight, grad, **options)
        assert set(account) == KEYS
        assert account["backend"] == "native"
        assert account["isa"] == runtime.isa()
        assert account["precision"] == name
        assert account["flops"] == 2 * weight.size * grad.size // case.out_channels
        assert account["scratch_bytes"] + account["shared_bytes"] > 0
        assert account["threads"] >= 1
        assert account["blocking"]
        algorithm = account["algorithm"].split()[0].rstrip(",")
        assert account["reason"].startswith(f"{algorithm}: ")
        if algorithm == "winograd":
            if case.kernel == (3, 3):
                small = name == "strict" or dtype is np.float64
                expected = "winograd F(2x2, 3x3)" if small else "winograd F(4x4, 3x3)"
            else:
                assert name == "fast"
                expected = {
                    (1, 7): "winograd F(2, 7) along columns",
                    (3, 1): "winograd F(4, 3) along rows",
                    (5, 5): "winograd F(4, 5) along columns",
                }[case.kernel]
            assert account["algorithm"] == expected
            assert account["shared_bytes"] > 0
            assert all(kernel.startswith("winograd") for kernel in ran)
        else:
            direct = "conv_grad_weight" if direction == "grad_weight" else "conv_correlate"
            assert len(ran) == 1
            assert ran == {direct} or ("depthwise" in account["algorithm"] and min(ran).startswith("conv_depthwise"))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_shapes_do_for_arrays(direction, rng):
    x, weight = (
        rng.standard_normal((2, 32, 14, 14), dtype=np.float32),
        rng.standard_normal((32, 32, 3, 3), dtype=np.float32),
    )
    options = dict(direction=direction, padding=1)
    expected = functional.explain_conv2d(x, weight, **options)
    assert functional.explain_conv2d(x.shape, weight.shape, **options) == expected
    assert functional.explain_conv2d(list(x.shape), weight, **options) == expected
    assert functional.explain_conv2d(x.shape, weight.shape, dtype=np.float32, **options) == expected
    in_double = functional.explain_conv2d(x.astype(np.float64), weight.astype(np.float64), **options)
    assert functional.explain_conv2d(x.shape, weight.shape, dtype="float64", **options) == in_double
    assert expected["algorithm"] == "winograd F(4x4, 3x3)"
    assert in_double["algorithm"] == "winograd F(2x2, 3x3)"


def test_threads_are_those_that_a_call_would_use():
    large, small = ((8, 64, 56, 56), (64, 64, 3, 3)), ((1, 1, 4, 4), (1, 1, 3, 3))
    for n in (1, 2, 3):
        with threads(n):
            for direction in DIRECTIONS:
                for algorithm in ("direct", "winograd"):
                    options = dict(direction=direction, algorithm=algorithm, padding=1)
                    used = functional.explain_conv2d(*large, **options)["threads"]
                    assert used == (n if runtime.has_openmp else 1)
                    assert functional.explain_conv2d(*small, **options)["threads"] == 1


def test_other_backends_and_empty_batches():
    with backends.backend("numpy"):
        account = functional.explain_conv2d((2, 3, 8, 8), (4, 3, 3, 3))
    assert set(account) == KEYS
    assert account["backend"] == "numpy"
    assert account["reason"] == "the NumPy backend is in force"
    for direction in DIRECTIONS:
        account = functional.explain_conv2d((0, 3, 8, 8), (4, 3, 3, 3), direction=direction)
        assert set(account) == KEYS
        assert account["algorithm"] == "none"
        assert account["flops"] == 0


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: convgrad.explain_conv2d(SHAPE, (4, 3, 3, 3), direction="backward"),
            ValueError,
            "explain_conv2d: direction must be one of 'forward', 'grad_input', 'grad_weight'; got 'backward'",
        ),
        (
            lambda: convgrad.explain_conv2d(SHAPE, (4, 3, 3, 3), dtype=np.int32),
            TypeError,
            "explain_conv2d: dtype must be float32 or float64, got int32",
        ),
        (
            lambda: convgrad.explain_conv2d(3, (4, 3, 3, 3)),
            TypeError,
            "explain_conv2d: x must be an array or a tuple of integers, got int",
        ),
        (
            lambda: convgrad.explain_conv2d(SHAPE, (4, 3, 3, -3)),
            ValueError,
            "explain_conv2d: every entry of weight must be at least 0, got -3",
        ),
        (
            lambda: convgrad.explain_conv2d(SHAPE, (4, 5, 3, 3)),
            ValueError,
            "explain_conv2d: weight expects 5 input channels but x has 3; x (2, 3, 8, 8), weight (4, 5, 3, 3)",
        ),
        (
            lambda: convgrad.explain_conv2d(np.ones(SHAPE, np.float16), W),
            TypeError,
            "explain_conv2d: x is float16; only float32 and float64 are supported, convert it with "
            "x.astype(np.float32)",
        ),
        (
            lambda: convgrad.explain_conv2d(SHAPE, W, dtype=np.float64),
            TypeError,
            "explain_conv2d: dtype is float64 but the arrays are float32; leave dtype out",
        ),
        (
            lambda: convgrad.explain_conv2d(np.ones(SHAPE), W),
            TypeError,
            "explain_conv2d: x is float64 and weight is float32; pass both as float32 or both as float64",
        ),
    ],
)
def test_errors_of_explain(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("batch", "n", "blocking"),
    [
        (1, 1, "4 tile rows and 64 output channels at a time"),
        (2, 1, "4 tile rows and 64 output channels at a time"),
        (3, 1, "each thread ranges of 56 tiles of its own, 8 sums of products"),
        (1, 2, "each thread ranges of 56 tiles of its own, 4 sums of products"),
        (2, 2, "each thread ranges of 56 tiles of its own, 7 sums of products"),
    ],
)
def test_ranges_of_tile_rows_are_those_that_the_sums_are_cut_by(batch, n, blocking):
    """Few channels have ranges of their own size, also where all threads share them: few on one thread."""
    if n > 1 and not runtime.has_openmp:
        pytest.skip("built without OpenMP: one thread")
    with threads(n):
        told = functional.explain_conv2d((batch, 64, 56, 56), (64, 64, 3, 3), padding=1, direction="grad_weight")
    assert told["blocking"] == blocking
