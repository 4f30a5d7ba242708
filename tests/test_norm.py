"""Batch and layer normalisation: against float64 formulas, PyTorch, central differences and the twin."""

import numpy as np
import pytest

from convgrad import backends, functional, reference, threads
from convgrad._native import runtime

torch = pytest.importorskip("torch")

DTYPES = (np.float32, np.float64)

# Channels on axis 1: one below, at and above vector widths, single pixels, planes longer than a run.
BATCH_SHAPES = [(2, 1), (5, 3), (3, 16), (4, 17), (300, 33), (2, 70), (3, 4, 5), (1, 2, 16), (4, 3, 2, 2), (2, 3, 5, 7)]
BATCH_SHAPES += [(2, 2, 4, 4), (1, 3, 15, 17), (2, 2, 50, 50), (1, 65, 1, 2), (6, 5, 1, 1)]


def laid_out(array, layout):
    return np.moveaxis(array, 1, -1) if layout == "NHWC" else array


def channels_first(array, layout):
    return np.moveaxis(array, -1, 1) if layout == "NHWC" else array


def batch_arrays(rng, shape, dtype):
    x = (3 + 2 * rng.normal(size=shape)).astype(dtype)
    grad = rng.normal(size=shape).astype(dtype)
    weight, bias, mean = rng.normal(size=(3, shape[1])).astype(dtype)
    var = rng.uniform(0.5, 2, shape[1]).astype(dtype)
    return x, grad, weight, bias, mean, var


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("shape", BATCH_SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_norm_equals_torch(backend, dtype, shape, layout, training, rng):
    x, grad, weight, bias, mean, var = batch_arrays(rng, shape, dtype)
    leaves = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in (x, weight, bias)]
    running = [torch.tensor(a.astype(np.float64)) for a in (mean, var)]
    y = torch.nn.functional.batch_norm(leaves[0], *running, *leaves[1:], training, 0.3, 1e-3)
    y.backward(torch.tensor(grad.astype(np.float64)))

    given, kept = laid_out(x, layout), (mean.copy(), var.copy())
    out = tuple(np.full(s, np.nan, dtype) for s in (given.shape, *(mean.shape,) * 4))
    results = functional.batch_norm(
        given, weight, bias, mean, var, training=training, momentum=0.3, eps=1e-3, layout=layout, out=out
    )
    assert all(a is b for a, b in zip(results, out, strict=True))
    eps = np.finfo(dtype).eps
    tight = dict(rtol=20 * eps, atol=40 * eps)
    np.testing.assert_allclose(channels_first(results[0], layout), y.detach().numpy(), rtol=40 * eps, atol=100 * eps)
    np.testing.assert_allclose(results[3], running[0].numpy(), **tight)
    np.testing.assert_allclose(results[4], running[1].numpy(), **tight)
    np.testing.assert_array_equal(mean, kept[0])
    np.testing.assert_array_equal(var, kept[1])

    given_grad = laid_out(grad, layout)
    out = tuple(np.full(s, np.nan, dtype) for s in (given.shape, mean.shape, mean.shape))
    gradients = functional.batch_norm_backward(
        given_grad, given, weight, results[1], results[2], training=training, layout=layout, out=out
    )
    assert all(a is b for a, b in zip(gradients, out, strict=True))
    magnitude = max(1, float(leaves[0].grad.abs().max()))
    np.testing.assert_allclose(
        channels_first(gradients[0], layout), leaves[0].grad.numpy(), rtol=100 * eps, atol=200 * eps * magnitude
    )
    terms = np.sqrt(x.size / shape[1])
    np.testing.assert_allclose(gradients[1], leaves[1].grad.numpy(), rtol=50 * eps, atol=60 * eps * terms)
    np.testing.assert_allclose(gradients[2], leaves[2].grad.numpy(), rtol=50 * eps, atol=10 * eps * terms)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_batch_norm_without_weight_bias_or_running(backend, dtype, layout, rng):
    x, grad, weight, bias, _, _ = batch_arrays(rng, (4, 5, 3, 3), dtype)
    x, grad = laid_out(x, layout), laid_out(grad, layout)
    ones, zeros = np.ones(5, dtype), np.zeros(5, dtype)
    y, mean, inv_std, new_mean, new_var = functional.batch_norm(x, None, None, training=True, layout=layout)
    assert new_mean is None
    assert new_var is None
    np.testing.assert_array_equal(y, functional.batch_norm(x, ones, zeros, training=True, layout=layout)[0])
    only_bias = functional.batch_norm(x, None, bias, training=True, layout=layout)[0]
    np.testing.assert_array_equal(only_bias, functional.batch_norm(x, ones, bias, training=True, layout=layout)[0])
    only_weight = functional.batch_norm(x, weight, None, training=True, layout=layout)[0]
    np.testing.assert_array_equal(only_weight, functional.batch_norm(x, weight, zeros, training=True, layout=layout)[0])
    without = functional.batch_norm_backward(grad, x, None, mean, inv_std, layout=layout)
    for a, b in zip(without, functional.batch_norm_backward(grad, x, ones, mean, inv_std, layout=layout), strict=True):
        np.testing.assert_array_equal(a, b)


def test_large_mean_does_not_cancel(backend, rng):
    """The variance is taken around the mean: a mean of 1e4 costs float32 the digits of x, no more."""
    x = (1e4 + rng.normal(size=(8, 3, 20, 20))).astype(np.float32)
    for layout in ("NCHW", "NHWC"):
        _, mean, inv_std, _, _ = functional.batch_norm(laid_out(x, layout), None, None, training=True, layout=layout)
        wide = x.astype(np.float64)
        np.testing.assert_allclose(mean, wide.mean(axis=(0, 2, 3)), rtol=1e-7)
        np.testing.assert_allclose(inv_std, 1 / np.sqrt(wide.var(axis=(0, 2, 3)) + 1e-5), rtol=1e-5)
    _, mean, inv_std = functional.layer_norm(x, np.ones((3, 20, 20), np.float32), None)
    np.testing.assert_allclose(inv_std, 1 / np.sqrt(wide.var(axis=(1, 2, 3)) + 1e-5), rtol=1e-5)


def test_empty_batches(backend):
    x, stats = np.empty((0, 3, 2, 2)), np.arange(1.0, 4)
    y, mean, inv_std, new_mean, new_var = functional.batch_norm(x, None, None, stats, stats)
    assert y.shape == x.shape
    np.testing.assert_array_equal(mean, stats)
    np.testing.assert_allclose(inv_std, 1 / np.sqrt(stats + 1e-5), rtol=1e-15)
    np.testing.assert_array_equal(new_mean, stats)
    np.testing.assert_array_equal(new_var, stats)
    for result in functional.batch_norm_backward(x, x, None, mean, inv_std)[1:]:
        np.testing.assert_array_equal(result, np.zeros(3))
    weight = np.ones(4)
    y, mean, inv_std = functional.layer_norm(np.empty((0, 4)), weight, weight)
    assert (y.shape, mean.shape, inv_std.shape) == ((0, 4), (0,), (0,))
    for result in functional.layer_norm_backward(y, y, weight, mean, inv_std)[1:]:
        np.testing.assert_array_equal(result, np.zeros(4))
    assert functional.batch_norm(np.empty((3, 0, 2)), None, None, training=True)[0].shape == (3, 0, 2)


def test_nan_stays_in_its_channel_or_row(backend, rng):
    x = rng.normal(size=(3, 4, 5))
    x[1, 2, 3] = np.nan
    y = functional.batch_norm(x, None, None, training=True)[0]
    np.testing.assert_array_equal(np.isnan(y).any(axis=(0, 2)), [False, False, True, False])
    y = functional.layer_norm(x, None, None)[0]
    assert np.isnan(y[1, 2]).all()
    assert np.isnan(y).sum() == 5


# (shape of x, axes normalised)
LAYER_SHAPES = [
    ((3, 1), 1),
    ((2, 7), 1),
    ((2, 8), 1),
    ((5, 9), 1),
    ((3, 16), 1),
    ((200, 17), 1),
    ((3, 33), 1),
    ((6,), 1),
]
LAYER_SHAPES += [
    ((2, 3, 4, 5), 3),
    ((2, 3, 4, 5), 2),
    ((2, 3, 65), 1),
    ((1, 2, 3), 3),
    ((40, 5000), 1),
    ((3, 30, 30, 9), 3),
]


@pytest.mark.parametrize("shape, n_axes", LAYER_SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm_equals_torch(backend, dtype, shape, n_axes, rng):
    x = (2 + 3 * rng.normal(size=shape)).astype(dtype)
    grad = rng.normal(size=shape).astype(dtype)
    columns, leading = shape[len(shape) - n_axes :], shape[: len(shape) - n_axes]
    weight, bias = rng.normal(size=(2, *columns)).astype(dtype)
    leaves = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in (x, weight, bias)]
    y = torch.nn.functional.layer_norm(leaves[0], columns, *leaves[1:], 1e-3)
    y.backward(torch.tensor(grad.astype(np.float64)))

    out = tuple(np.full(s, np.nan, dtype) for s in (shape, leading, leading))
    results = functional.layer_norm(x, weight, bias, eps=1e-3, out=out)
    assert all(a is b for a, b in zip(results, out, strict=True))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(results[0], y.detach().numpy(), rtol=40 * eps, atol=100 * eps)
    out = tuple(np.full(s, np.nan, dtype) for s in (shape, columns, columns))
    gradients = functional.layer_norm_backward(grad, x, weight, *results[1:], out=out)
    assert all(a is b for a, b in zip(gradients, out, strict=True))
    terms = np.sqrt(x.size / np.prod(columns))
    magnitude = max(1, float(leaves[0].grad.abs().max()))
    np.testing.assert_allclose(gradients[0], leaves[0].grad.numpy(), rtol=100 * eps, atol=400 * eps * magnitude)
    np.testing.assert_allclose(gradients[1], leaves[1].grad.numpy(), rtol=50 * eps, atol=60 * eps * terms)
    np.testing.assert_allclose(gradients[2], leaves[2].grad.numpy(), rtol=50 * eps, atol=10 * eps * terms)


def test_layer_norm_without_weight_or_bias(backend, rng):
    x, grad = rng.normal(size=(2, 4, 3, 6))
    ones, zeros = np.ones((3, 6)), np.zeros((3, 6))
    bias = rng.normal(size=(3, 6))
    tight = dict(rtol=1e-14, atol=1e-14)
    without = functional.layer_norm(x, None, bias)[0]
    np.testing.assert_allclose(without, functional.layer_norm(x, ones, bias)[0], **tight)
    np.testing.assert_allclose(
        functional.layer_norm(x, ones, None)[0], functional.layer_norm(x, ones, zeros)[0], **tight
    )
    y, mean, inv_std = functional.layer_norm(x, None, None)
    np.testing.assert_allclose(y, functional.layer_norm(x, np.ones(6), None)[0], **tight)
    without = functional.layer_norm_backward(grad, x, None, mean, inv_std)
    for a, b in zip(without, functional.layer_norm_backward(grad, x, np.ones(6), mean, inv_std), strict=True):
        np.testing.assert_allclose(a, b, **tight)


def slopes(f, array, step=1e-5):
    result = np.empty_like(array)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + step
        high = f()
        array[index] = kept - step
        result[index] = (high - f()) / (2 * step)
        array[index] = kept
    return result


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_batch_norm_gradients_by_differences(backend, layout, training, rng):
    x, grad, weight, bias, mean, var = batch_arrays(rng, (3, 2, 2, 2), np.float64)
    x, grad = np.ascontiguousarray(laid_out(x, layout)), np.ascontiguousarray(laid_out(grad, layout))

    def forward():
        return functional.batch_norm(x, weight, bias, mean, var, training=training, layout=layout)

    _, saved_mean, saved_inv_std, _, _ = forward()
    results = functional.batch_norm_backward(
        grad, x, weight, saved_mean, saved_inv_std, training=training, layout=layout
    )
    for result, array in zip(results, (x, weight, bias), strict=True):
        np.testing.assert_allclose(result, slopes(lambda: np.sum(forward()[0] * grad), array), rtol=1e-6, atol=1e-8)


def test_layer_norm_gradients_by_differences(backend, rng):
    x, grad = rng.normal(size=(2, 3, 2, 4))
    weight, bias = rng.normal(size=(2, 2, 4))
    _, mean, inv_std = functional.layer_norm(x, weight, bias)
    results = functional.layer_norm_backward(grad, x, weight, mean, inv_std)
    for result, array in zip(results, (x, weight, bias), strict=True):
        slope = slopes(lambda: np.sum(functional.layer_norm(x, weight, bias)[0] * grad), array)
        np.testing.assert_allclose(result, slope, rtol=1e-6, atol=1e-8)


# ---------------------------------------------------------------- memory, threads, kernels


def test_in_place_strides_and_overlap(backend, rng):
    x, grad = rng.normal(size=(2, 4, 3, 5))
    weight = rng.normal(size=3)
    results = functional.batch_norm(x, weight, weight, training=True)
    gradients = functional.batch_norm_backward(grad, x, weight, *results[1:3])
    a = x.copy()
    assert functional.batch_norm(a, weight, weight, training=True, out=a)[0] is a
    np.testing.assert_array_equal(a, results[0])
    for position in (0, 1):
        given = [grad.copy(), x.copy()]
        functional.batch_norm_backward(*given, weight, *results[1:3], out=(given[position], None, None))
        np.testing.assert_array_equal(given[position], gradients[0])
    w = weight.copy()
    np.testing.assert_array_equal(
        functional.batch_norm(x, w, w, training=True, out=(None, w, None, None, None))[0], results[0]
    )
    np.testing.assert_array_equal(w, results[1])
    mean, inv_std = results[1].copy(), results[2].copy()
    again = functional.batch_norm_backward(grad, x, weight, mean, inv_std, out=(None, mean, inv_std))
    for one, two in zip(again, gradients, strict=True):
        np.testing.assert_array_equal(one, two)
    running = [np.zeros(3), np.ones(3)]
    expected = functional.batch_norm(x, None, None, *running, training=True)
    into = functional.batch_norm(x, None, None, *running, training=True, out=(None, None, None, *running))
    assert into[3] is running[0]
    np.testing.assert_array_equal(running, expected[3:])

    base = rng.normal(size=(8, 6, 20)).astype(np.float32)
    base.flags.writeable = False
    view = base[::2, ::-2, 3::4]
    for one, two in zip(
        functional.batch_norm(view, None, None, training=True)[:3],
        functional.batch_norm(view.copy(), None, None, training=True)[:3],
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)
    weight = rng.normal(size=5)
    x = np.ascontiguousarray(x)
    expected = functional.layer_norm(x, weight, weight)
    gradients = functional.layer_norm_backward(grad, x, weight, *expected[1:])
    a = x.copy()
    assert functional.layer_norm(a, weight, weight, out=a)[0] is a
    np.testing.assert_array_equal(a, expected[0])
    g = grad.copy()
    assert functional.layer_norm_backward(g, x, weight, *expected[1:], out=(g, None, None))[0] is g
    np.testing.assert_array_equal(g, gradients[0])


def test_threads_give_the_same_bits(rng):
    x, grad = rng.normal(size=(2, 16, 70, 30, 30)).astype(np.float32)
    weight = rng.normal(size=70).astype(np.float32)
    results = []
    for n in (1, 2):
        with threads(n):
            found = []
            for layout in ("NCHW", "NHWC"):
                a, g = np.ascontiguousarray(laid_out(x, layout)), np.ascontiguousarray(laid_out(grad, layout))
                y, mean, inv_std, _, _ = functional.batch_norm(a, weight, weight, training=True, layout=layout)
                found += [y, *functional.batch_norm_backward(g, a, weight, mean, inv_std, layout=layout)]
            rows, g = x.reshape(-1, 900), grad.reshape(-1, 900)
            y, mean, inv_std = functional.layer_norm(rows, None, None)
            found += [y, *functional.layer_norm_backward(g, rows, None, mean, inv_std)]
            results.append(found)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("dtype", DTYPES)
def test_native_backend_runs_the_kernels(dtype, rng):
    x, grad, weight, bias, mean, var = batch_arrays(rng, (4, 3, 5), dtype)
    calls = {
        "batch_norm": lambda: functional.batch_norm(x, weight, bias, mean, var),
        "batch_norm_backward": lambda: functional.batch_norm_backward(grad, x, weight, mean, var),
        "layer_norm": lambda: functional.layer_norm(x, None, None),
        "layer_norm_backward": lambda: functional.layer_norm_backward(grad, x, None, x[..., 0], x[..., 1]),
    }
    for kernel, call in calls.items():
        key = (kernel, np.dtype(dtype).name)
        before = runtime.kernel_calls()[key]
        call()
        assert runtime.kernel_calls()[key] == before + 1
        with backends.backend("numpy"):
            call()
        assert runtime.kernel_calls()[key] == before + 1


X, C = np.ones((2, 3, 4), np.float32), np.ones(3, np.float32)
ERRORS = [
    (
        lambda f: f.batch_norm(X, C, C),
        ValueError,
        "batch_norm: training=False needs running_mean and running_var; pass both, or training=True to use the "
        "statistics of x",
    ),
    (
        lambda f: f.batch_norm(X, C, C, C, training=True),
        ValueError,
        "batch_norm: running_mean is given but running_var is None; pass both or neither",
    ),
    (
        lambda f: f.batch_norm(X, C[:2], C, C, C),
        ValueError,
        "batch_norm: weight must have shape (3,), one entry per channel; got shape (2,)",
    ),
    (
        lambda f: f.batch_norm(X, C, C, C, C, layout="NHWC"),
        ValueError,
        "batch_norm: weight must have shape (4,), one entry per channel; got shape (3,)",
    ),
    (
        lambda f: f.batch_norm(X[:1, :, :1], C, C, training=True),
        ValueError,
        "batch_norm: training needs more than one value per channel, got 1 in x (1, 3, 1); pass a larger batch or "
        "training=False",
    ),
    (
        lambda f: f.batch_norm(X[:0], C, C, training=True),
        ValueError,
        "batch_norm: training needs more than one value per channel, got 0 in x (0, 3, 4); pass a larger batch or "
        "training=False",
    ),
    (
        lambda f: f.batch_norm(X, C, C, training=True, momentum=1.5),
        ValueError,
        "batch_norm: momentum must be at least 0 and at most 1, got 1.5",
    ),
    (
        lambda f: f.batch_norm(X, C, C, training=True, eps=-1e-5),
        ValueError,
        "batch_norm: eps must be at least 0, got -1e-05",
    ),
    (
        lambda f: f.batch_norm(X, C, C, training="yes"),
        TypeError,
        "batch_norm: training must be True or False, got str",
    ),
    (
        lambda f: f.batch_norm(X[0, 0], None, None, training=True),
        ValueError,
        "batch_norm: x must have 2, 3 or 4 axes, batch and channels among them; got shape (4,)",
    ),
    (
        lambda f: f.batch_norm(X, C, C.astype(np.float64), training=True),
        TypeError,
        "batch_norm: x is float32 and bias is float64; pass both as float32 or both as float64",
    ),
    (
        lambda f: f.batch_norm(X, C, C, training=True, out=(X, C)),
        TypeError,
        "batch_norm: out must be an array for y or a tuple (y, saved_mean, saved_inv_std, new_running_mean, "
        "new_running_var) "
        "with None where no array is given, got 2 entries",
    ),
    (
        lambda f: f.batch_norm(X, C, C, training=True, out=(None, None, None, C, None)),
        ValueError,
        "batch_norm: out has an array for new_running_mean, which is not computed; pass None there",
    ),
    (
        lambda f: f.batch_norm_backward(X, X[:1], C, C, C),
        ValueError,
        "batch_norm_backward: grad_output has shape (2, 3, 4) and x has (1, 3, 4); pass both of one shape",
    ),
    (
        lambda f: f.batch_norm_backward(X, X, C, C, None),
        TypeError,
        "batch_norm_backward: saved_inv_std must be a NumPy array of float32 or float64, got NoneType; convert it with "
        "np.asarray(saved_inv_std, dtype=np.float32)",
    ),
    (
        lambda f: f.layer_norm(X, C, C),
        ValueError,
        "layer_norm: weight and bias must have the shape of the last axes of x, which are normalised together; got "
        "(3,) for x "
        "(2, 3, 4)",
    ),
    (
        lambda f: f.layer_norm(X, X[0], X[0, 0]),
        ValueError,
        "layer_norm: weight has shape (3, 4) and bias has (4,); pass both of one shape, the last axes of x (2, 3, 4)",
    ),
    (
        lambda f: f.layer_norm(X[..., :0], None, None),
        ValueError,
        "layer_norm: the axes to normalise are empty, (0,) of x (2, 3, 0)",
    ),
    (
        lambda f: f.layer_norm_backward(X, X, X[0, 0], C, C),
        ValueError,
        "layer_norm_backward: saved_mean must have shape (2, 3), as layer_norm returned it for x (2, 3, 4); got shape "
        "(3,)",
    ),
]


@pytest.mark.parametrize("call, error, message", ERRORS, ids=[str(i) for i in range(len(ERRORS))])
@pytest.mark.parametrize("module", [functional, reference])
def test_messages(module, call, error, message):
    with pytest.raises(error) as caught:
        call(module)
    assert str(caught.value) == message
