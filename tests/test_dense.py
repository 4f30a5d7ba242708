"""The dense layer: against float64 products, PyTorch, central differences and the twin."""

import numpy as np
import pytest

from convgrad import backends, functional, reference, threads
from convgrad._native import runtime

torch = pytest.importorskip("torch")

DTYPES = (np.float32, np.float64)

# (rows, in, out): one below, at and above vector widths and tiles.
SIZES = [(1, 1, 1), (1, 10, 3), (2, 3, 1), (3, 7, 8), (5, 8, 9), (7, 15, 16), (8, 16, 17), (14, 17, 31), (15, 31, 33)]
SIZES += [(64, 120, 84), (33, 65, 10), (1, 400, 130), (130, 3, 5), (17, 64, 64)]
# and each way of a product: few rows, few terms, few columns, each with many of the others
SIZES += [(1, 10, 70), (3, 16, 65), (4, 7, 129), (9, 5, 300), (12, 1, 100), (2, 300, 64), (16, 140, 200), (28, 130, 70)]
SIZES += [(29, 129, 131), (20, 260, 300), (300, 70, 9), (260, 400, 12), (50, 600, 520)]
# rows of a power of two, which are copied next to each other
SIZES += [(100, 512, 512), (97, 256, 600), (460, 520, 256), (455, 512, 520)]


def arrays(rng, dtype, n, n_in, n_out):
    x = rng.uniform(-1, 1, (n, n_in)).astype(dtype)
    weight = rng.uniform(-1, 1, (n_out, n_in)).astype(dtype)
    bias = rng.uniform(-1, 1, n_out).astype(dtype)
    grad = rng.uniform(-1, 1, (n, n_out)).astype(dtype)
    return x, weight, bias, grad


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_linear(backend, sizes, dtype, rng, check_close):
    x, weight, bias, grad = arrays(rng, dtype, *sizes)
    wide = [a.astype(np.float64) for a in (x, weight, bias, grad)]
    out = np.full((sizes[0], sizes[2]), np.nan, dtype)
    assert functional.linear(x, weight, bias, out=out) is out
    check_close(out, wide[0] @ wide[1].T + wide[2], sizes[1])
    check_close(functional.linear(x, weight), wide[0] @ wide[1].T, sizes[1])
    out = tuple(np.full(a.shape, np.nan, dtype) for a in (x, weight, bias))
    result = functional.linear_backward(grad, x, weight, out=out)
    assert all(a is b for a, b in zip(result, out, strict=True))
    check_close(result[0], wide[3] @ wide[1], sizes[2])
    check_close(result[1], wide[3].T @ wide[0], sizes[0])
    check_close(result[2], wide[3].sum(axis=0), sizes[0])


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_strided_arrays_of_every_way(sizes, rng):
    """Rows apart from each other, upside down and transposed; what lies between is NaN."""
    n, n_in, n_out = sizes
    x, weight, bias, grad = arrays(rng, np.float32, *sizes)
    wanted = functional.linear(x, weight, bias), *functional.linear_backward(grad, x, weight)

    def apart(array):
        wide = np.full((array.shape[0], array.shape[1] + 3), np.nan, array.dtype)
        wide[:, 1:-2] = array
        return wide[:, 1:-2]

    for move in (apart, np.asfortranarray, lambda array: apart(array[::-1])[::-1]):
        moved = [move(array) for array in (x, weight, grad)]
        got = functional.linear(moved[0], moved[1], bias), *functional.linear_backward(moved[2], *moved[:2])
        for result, expected, terms in zip(got, wanted, (n_in, n_out, n, n), strict=True):
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6 * terms)


@pytest.mark.parametrize("activation", [None, "relu", "tanh", "gelu", ("leaky_relu", 0.3), ("elu", 0.5)], ids=str)
@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 3, 6), (2, 1, 3, 6), (0, 6), (2, 0, 6)], ids=str)
def test_leading_axes_and_activation(backend, shape, activation, rng):
    x, weight, bias = rng.normal(size=shape), rng.normal(size=(4, 6)), rng.normal(size=4)
    y = functional.linear(x, weight, bias, activation=activation)
    assert y.shape == (*shape[:-1], 4)
    expected = x @ weight.T + bias
    if activation is not None:
        name, *parameter = (activation,) if isinstance(activation, str) else activation
        expected = getattr(reference, name)(expected, *parameter)
    np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-13)
    grads = functional.linear_backward(y, x, weight)
    rows, ys = x.reshape(-1, 6), y.reshape(-1, 4)
    for result, wanted in zip(grads, (y @ weight, ys.T @ rows, ys.sum(axis=0)), strict=True):
        assert result.shape == wanted.shape
        np.testing.assert_allclose(result, wanted, rtol=1e-13, atol=1e-13)


def test_equals_torch(backend, rng):
    x, weight, bias, grad = arrays(rng, np.float64, 9, 11, 13)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    y = torch.nn.functional.linear(*leaves)
    y.backward(torch.tensor(grad))
    np.testing.assert_allclose(functional.linear(x, weight, bias), y.detach().numpy(), rtol=1e-13, atol=1e-14)
    for result, leaf in zip(functional.linear_backward(grad, x, weight), leaves, strict=True):
        np.testing.assert_allclose(result, leaf.grad.numpy(), rtol=1e-13, atol=1e-14)


def test_gradients_by_differences(backend, rng):
    x, weight, bias, grad = arrays(rng, np.float64, 3, 4, 5)
    results = functional.linear_backward(grad, x, weight)
    step = 1e-6
    for position, result in enumerate(results):
        for index in np.ndindex(result.shape):
            ends = []
            for sign in (1, -1):
                moved = [x.copy(), weight.copy(), bias.copy()]
                moved[position][index] += sign * step
                ends.append(np.sum(functional.linear(*moved) * grad))
            assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(result[index], rel=1e-7, abs=1e-8)


def test_entries_not_asked_for(backend, rng):
    x, weight, _, grad = arrays(rng, np.float32, 3, 4, 5)
    full = functional.linear_backward(grad, x, weight)
    for flags in ((True, False, False), (False, True, False), (False, False, True), (False, False, False)):
        result = functional.linear_backward(grad, x, weight, input_grad=flags[0], weight_grad=flags[1], bias=flags[2])
        for entry, expected, flag in zip(result, full, flags, strict=True):
            if flag:
                np.testing.assert_array_equal(entry, expected)
            else:
                assert entry is None


def test_strides_read_only_and_overlap(backend, rng):
    base = rng.normal(size=(12, 20)).astype(np.float32)
    weight_base = rng.normal(size=(9, 10)).astype(np.float32)
    x, weight = base[::2, ::-2], weight_base[::-3]
    for array in (base, weight_base):
        array.flags.writeable = False
    plain = functional.linear(x.copy(), weight.copy())
    np.testing.assert_allclose(functional.linear(x, weight), plain, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(functional.linear(x, np.asfortranarray(weight)), plain, rtol=1e-5, atol=1e-5)
    for result, expected in zip(
        functional.linear_backward(plain, x, weight),
        functional.linear_backward(plain, x.copy(), weight.copy()),
        strict=True,
    ):
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    x = rng.normal(size=(6, 6))
    expected = functional.linear(x, x)
    y = x.copy()
    assert functional.linear(y, y, out=y) is y
    np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-13)
    y, g = x.copy(), rng.normal(size=(6, 6))
    expected = functional.linear_backward(g, y, y)
    functional.linear_backward(g, y, y, out=(g, y, None))
    np.testing.assert_allclose(g, expected[0], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(y, expected[1], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
def test_native_backend_runs_the_kernels(dtype, rng):
    x, weight, bias, grad = arrays(rng, dtype, 8, 4, 5)
    name = np.dtype(dtype).name

    def total():
        return sum(count for (_, dtype_name), count in runtime.kernel_calls().items() if dtype_name == name)

    before = total()
    functional.linear(x, weight, bias)
    assert total() > before
    before = total()
    functional.linear_backward(grad, x, weight)
    assert total() > before
    with backends.backend("numpy"):
        before = total()
        functional.linear(x, weight, bias)
        functional.linear_backward(grad, x, weight)
        assert total() == before


X, W = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)
ERRORS = [
    (
        lambda f: f.linear(X, W[:, :2]),
        ValueError,
        "linear: weight (4, 2) expects 2 features in the last axis of x; got x (2, 3)",
    ),
    (
        lambda f: f.linear(X, W[0]),
        ValueError,
        "linear: weight must have shape (out_features, in_features), both at least 1; got (3,)",
    ),
    (
        lambda f: f.linear(X, W, np.ones(3, np.float32)),
        ValueError,
        "linear: bias must have shape (4,), one entry per output feature; got shape (3,)",
    ),
    (
        lambda f: f.linear(X, W.astype(np.float64)),
        TypeError,
        "linear: x is float32 and weight is float64; pass both as float32 or both as float64",
    ),
    (
        lambda f: f.linear(X, None),
        TypeError,
        "linear: weight must be a NumPy array of float32 or float64, got NoneType; convert it with "
        "np.asarray(weight, dtype=np.float32)",
    ),
    (
        lambda f: f.linear(X, W, activation="swish"),
        ValueError,
        "linear: unknown activation 'swish'; use None or one of 'identity', 'sigmoid', 'tanh', 'relu', 'leaky_relu', "
        "'elu', "
        "'selu', 'softplus', 'silu', 'gelu'",
    ),
    (
        lambda f: f.linear_backward(X, X, W),
        ValueError,
        "linear_backward: grad_output has shape (2, 3) but linear returns (2, 4) for x (2, 3), weight (4, 3); pass a "
        "gradient "
        "of that shape",
    ),
    (
        lambda f: f.linear_backward(np.ones((2, 4), np.float32), X, W, bias=1),
        TypeError,
        "linear_backward: bias must be True or False, got int",
    ),
    (
        lambda f: f.linear_backward(
            np.ones((2, 4), np.float32), X, W, bias=False, out=(None, None, np.ones(4, np.float32))
        ),
        ValueError,
        "linear_backward: out has an array for grad_bias, which is not computed; pass None there",
    ),
]


@pytest.mark.parametrize("call, error, message", ERRORS, ids=[str(i) for i in range(len(ERRORS))])
@pytest.mark.parametrize("module", [functional, reference])
def test_messages(module, call, error, message):
    with pytest.raises(error) as caught:
        call(module)
    assert str(caught.value) == message


# (rows, in, out) for every way through the products: sums along the features, rows as they lie, panels, panels of x
# transposed; each with vectors, tiles, chains and blocks cut short.
WAYS = [(1, 10, 300), (1, 2100, 33), (3, 130, 65), (8, 1100, 70), (64, 600, 10), (70, 515, 16), (9, 40, 50), (2, 6, 40)]
WAYS += [(3, 4, 25), (3, 8, 41), (5, 10, 137), (16, 3, 300), (130, 16, 75), (4, 2, 71)]
WAYS += [(17, 130, 129), (33, 300, 140), (70, 128, 300), (96, 257, 500), (97, 257, 130), (250, 70, 66), (40, 7, 530)]


@pytest.mark.parametrize("sizes", WAYS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_way_through_the_products(backend, sizes, dtype, rng, check_close):
    x, weight, bias, grad = arrays(rng, dtype, *sizes)
    exact = [array.astype(np.float64) for array in (x, weight, bias, grad)]
    n, n_in, n_out = sizes
    for at in (1, 3):
        with threads(at):
            y = functional.linear(x, weight, bias, activation="relu")
            gradients = functional.linear_backward(grad, x, weight)
            flipped = functional.linear(x[:, ::-1], weight[:, ::-1], bias)
            turned = functional.linear(np.asfortranarray(x), np.asfortranarray(weight), bias)
        check_close(y, np.maximum(exact[0] @ exact[1].T + exact[2], 0), n_in)
        check_close(flipped, exact[0] @ exact[1].T + exact[2], n_in)
        check_close(turned, exact[0] @ exact[1].T + exact[2], n_in)
        expected = (exact[3] @ exact[1], exact[3].T @ exact[0], exact[3].sum(0))
        for actual, wanted, length in zip(gradients, expected, (n_out, n, n), strict=True):
            check_close(actual, wanted, length)
        results = [y, *gradients]
        if at == 1:
            first = results
    for one, many in zip(first, results, strict=True):
        np.testing.assert_array_equal(one, many)
