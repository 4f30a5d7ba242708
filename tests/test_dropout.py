"""Dropout and alpha dropout: against their definitions, in distribution, and the twin."""

import numpy as np
import pytest

from convgrad import backends, functional, reference, threads
from convgrad._native import runtime

DTYPES = (np.float32, np.float64)
SIZES = (0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65, 1000, 16384, 16385, 33000)
LAMBDA_ALPHA = 1.0507009873554805 * 1.6732632423543772
NAMES = ("dropout", "alpha_dropout")


def expected(name, x, mask, p):
    x = x.astype(np.float64)
    if name == "dropout":
        return np.where(mask, x / (1 - p), 0), 1 / (1 - p)
    keep = 1 - p
    a = (keep + LAMBDA_ALPHA**2 * keep * p) ** -0.5
    b = a * p * LAMBDA_ALPHA
    return a * np.where(mask, x, -LAMBDA_ALPHA) + b, a


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_and_gradient(backend, dtype, name, p, rng):
    eps = np.finfo(dtype).eps
    for size in SIZES:
        x, grad = rng.normal(size=(2, size)).astype(dtype)
        out = (np.full(size, np.nan, dtype), np.empty(size, bool))
        y, mask = getattr(functional, name)(x, p, rng=7, out=out)
        assert y is out[0]
        assert mask is out[1]
        wanted, factor = expected(name, x, mask, p)
        np.testing.assert_allclose(y, wanted, rtol=4 * eps, atol=4 * eps)
        for given in (mask, mask.astype(np.uint8)):
            out = np.full(size, np.nan, dtype)
            result = getattr(functional, f"{name}_backward")(grad, given, p, out=out)
            assert result is out
            np.testing.assert_allclose(result, np.where(mask, grad * factor, 0), rtol=4 * eps)


@pytest.mark.parametrize("name", NAMES)
def test_distribution(backend, name):
    x = np.random.default_rng(3).normal(size=400_000)
    y, mask = getattr(functional, name)(x, 0.3, rng=5)
    assert abs(mask.mean() - 0.7) < 0.004  # five standard deviations
    assert abs(y.mean()) < 0.015
    if name == "alpha_dropout":
        assert abs(y.std() - 1) < 0.01
    neighbours = np.corrcoef(mask[1:], mask[:-1])[0, 1]
    assert abs(neighbours) < 0.01


@pytest.mark.parametrize("name", NAMES)
def test_seeds_and_generators(backend, name):
    call = getattr(functional, name)
    x = np.ones((20, 30))
    np.testing.assert_array_equal(call(x, rng=4)[1], call(x, rng=np.random.default_rng(4))[1])
    np.testing.assert_array_equal(call(x, rng=4)[1], call(x, rng=np.int64(4))[1])
    generator = np.random.default_rng(4)
    first, second = call(x, rng=generator)[1], call(x, rng=generator)[1]
    assert not np.array_equal(first, second)
    assert not np.array_equal(call(x)[1], call(x)[1])
    mask32 = call(x.astype(np.float32), rng=4)[1]
    np.testing.assert_array_equal(mask32, call(x, rng=4)[1])
    with backends.backend("numpy"):
        np.testing.assert_array_equal(mask32, call(x, rng=4)[1])


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_and_the_ends_of_p(backend, name, rng):
    call, back = getattr(functional, name), getattr(functional, f"{name}_backward")
    x = rng.normal(size=(3, 11))
    for y, mask in (call(x, 0.5, training=False), call(x, 0.0), call(x, 1.0, training=False)):
        np.testing.assert_array_equal(y, x)
        assert y is not x
        assert mask.all()
        assert mask.dtype == bool
    y, mask = call(x, 1.0)
    np.testing.assert_array_equal(y, 0)
    assert not mask.any()
    np.testing.assert_array_equal(back(x, mask, 1.0), 0)
    np.testing.assert_array_equal(back(x, np.ones((3, 11), bool), 0), x)
    generator = np.random.default_rng(1)
    before = generator.bit_generator.state
    call(x, 0.5, training=False, rng=generator)
    assert generator.bit_generator.state == before


def test_dropped_nan_and_infinity_are_gone(backend):
    x = np.array([np.nan, np.inf] * 50, np.float32)
    y, mask = functional.dropout(x, 0.5, rng=2)
    np.testing.assert_array_equal(y[~mask], 0)
    np.testing.assert_array_equal(y[mask], x[mask])
    np.testing.assert_array_equal(functional.dropout_backward(x, mask, 0.5), y)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (2, 3, 4, 5)], ids=str)
def test_any_shape_in_place_strides_and_overlap(backend, shape, rng):
    x = rng.normal(size=shape) if shape else np.array(2.0)
    kept = x.copy()
    y, mask = functional.dropout(x, 0.4, rng=1)
    assert y.shape == mask.shape == shape
    np.testing.assert_array_equal(x, kept)
    x.flags.writeable = False
    np.testing.assert_array_equal(functional.dropout(x.T, 0.4, rng=1)[0].shape, shape[::-1])
    a = kept.copy()
    assert functional.dropout(a, 0.4, rng=1, out=a)[0] is a
    np.testing.assert_array_equal(a, y)
    g = kept.copy()
    assert functional.dropout_backward(g, mask, 0.4, out=g) is g
    np.testing.assert_array_equal(g, y)
    memory = rng.normal(size=50)
    expected_part = functional.dropout(memory[:40].copy(), 0.4, rng=1)[0]
    functional.dropout(memory[:40], 0.4, rng=1, out=memory[10:])
    np.testing.assert_array_equal(memory[10:], expected_part)
    memory = np.zeros(40)
    mask = memory.view(np.uint8)[:40]
    mask[::2] = 1
    functional.dropout_backward(np.ones(40), mask, 0.5, out=memory)
    np.testing.assert_array_equal(memory, [2, 0] * 20)


def test_threads_give_the_same_bits(rng):
    x = rng.normal(size=1_000_000)
    results = []
    for n in (1, 2):
        with threads(n):
            results.append(functional.alpha_dropout(x, 0.2, rng=3))
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_native_backend_runs_the_kernels(name, training, dtype):
    x, mask = np.ones(5, dtype), np.ones(5, bool)
    key = ("dropout", np.dtype(dtype).name)
    for call in (
        lambda: getattr(functional, name)(x, training=training),
        lambda: getattr(functional, f"{name}_backward")(x, mask, 0.5),
    ):
        before = runtime.kernel_calls()[key]
        call()
        assert runtime.kernel_calls()[key] == before + 1
        with backends.backend("numpy"):
            call()
        assert runtime.kernel_calls()[key] == before + 1


X, MASK = np.ones((2, 3), np.float32), np.ones((2, 3), bool)
ERRORS = [
    (
        lambda f: f.dropout(X, 1.5),
        ValueError,
        "dropout: p must be a probability, at least 0 and at most 1; got 1.5",
    ),
    (
        lambda f: f.alpha_dropout(X, "half"),
        TypeError,
        "alpha_dropout: p must be a real number, got 'half' (str)",
    ),
    (
        lambda f: f.dropout(X, rng="seed"),
        TypeError,
        "dropout: rng must be a numpy.random.Generator, an integer seed or None; got 'seed' (str)",
    ),
    (
        lambda f: f.dropout(X, rng=-1),
        ValueError,
        "dropout: rng must be at least 0 as a seed, got -1",
    ),
    (
        lambda f: f.dropout(X, training=1),
        TypeError,
        "dropout: training must be True or False, got int",
    ),
    (
        lambda f: f.dropout(X, out=(None, np.ones((2, 3), np.uint8))),
        TypeError,
        "dropout: out's mask is uint8 but the result is bool; pass out's mask as bool",
    ),
    (
        lambda f: f.dropout(X, out=(None,)),
        TypeError,
        "dropout: out must be an array for y or a tuple (y, mask) with None where no array is given, got 1 entries",
    ),
    (
        lambda f: f.dropout_backward(X, X, 0.5),
        TypeError,
        "dropout_backward: mask must be an array of bool or uint8, as the forward pass returns it; got float32",
    ),
    (
        lambda f: f.alpha_dropout_backward(X, MASK[:1], 0.5),
        ValueError,
        "alpha_dropout_backward: grad_output has shape (2, 3) and mask has (1, 3); pass both of one shape",
    ),
]


@pytest.mark.parametrize("call, error, message", ERRORS, ids=[message for *_, message in ERRORS])
@pytest.mark.parametrize("module", [functional, reference])
def test_messages(module, call, error, message):
    with pytest.raises(error) as caught:
        call(module)
    assert str(caught.value) == message
