"""Softmax and the losses: against float64 formulas, PyTorch, central differences and the twin."""

import math
import re

import numpy as np
import pytest

from convgrad import backends, functional, reference, threads
from convgrad._native import runtime

DTYPES = (np.float32, np.float64)

# (shape, axis): rows and columns one below, at and above every vector width, rows longer than a run, one element.
SOFTMAX_CASES = [((n, k), -1) for n in (1, 3) for k in (1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 65, 1000)]
SOFTMAX_CASES += [((5, 9000), 1), ((7,), 0), ((1000, 3), 0), ((3, 5, 7), 1), ((2, 10, 4, 9), 1), ((2, 3, 4, 16), -2)]
SOFTMAX_CASES += [((2, 300, 17), 1), ((600, 33), -2), ((0, 5), 1), ((5, 0, 3), 0), ((2, 5, 1), 1), ((3, 4, 0), 1)]


def exact_softmax(x, axis, is_log=False):
    x = x.astype(np.longdouble)
    if not x.size:
        return x
    shifted = x - x.max(axis=axis, keepdims=True)
    total = np.exp(shifted).sum(axis=axis, keepdims=True)
    return (shifted - np.log(total) if is_log else np.exp(shifted) / total).astype(np.float64)


@pytest.mark.parametrize("shape, axis", SOFTMAX_CASES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax(backend, shape, axis, dtype, rng):
    x, grad = rng.normal(scale=3, size=(2, *shape)).astype(dtype)
    eps = np.finfo(dtype).eps
    for is_log, name in ((False, "softmax"), (True, "log_softmax")):
        out = np.full(shape, np.nan, dtype)
        y = getattr(functional, name)(x, axis=axis, out=out)
        assert y is out
        np.testing.assert_allclose(y, exact_softmax(x, axis, is_log), rtol=40 * eps, atol=4 * eps)
        out = np.full(shape, np.nan, dtype)
        result = getattr(functional, f"{name}_backward")(grad, y, axis=axis, out=out)
        assert result is out
        g, p = grad.astype(np.float64), y.astype(np.float64)
        if is_log:
            expected = g - np.exp(p) * g.sum(axis=axis, keepdims=True)
        else:
            expected = p * (g - (g * p).sum(axis=axis, keepdims=True))
        np.testing.assert_allclose(result, expected, rtol=20 * eps, atol=20 * eps * max(1, math.sqrt(shape[axis]) / 4))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_gradient_by_differences(backend, name, axis, rng):
    x, grad = rng.normal(size=(2, 3, 4, 5))
    call = getattr(functional, name)
    result = getattr(functional, f"{name}_backward")(grad, call(x, axis=axis), axis=axis)
    np.testing.assert_allclose(
        result, differences(lambda v: np.sum(call(v, axis=axis) * grad), x), rtol=1e-6, atol=1e-8
    )


def differences(f, x, step=1e-5):
    slope = np.empty_like(x)
    for index in np.ndindex(x.shape):
        high, low = x.copy(), x.copy()
        high[index] += step
        low[index] -= step
        slope[index] = (f(high) - f(low)) / (2 * step)
    return slope


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, axis", [((3,), 0), ((3, 40), 0), ((40, 3), 1)])
def test_softmax_of_extreme_values(backend, dtype, shape, axis):
    huge = np.finfo(dtype).max
    column = np.array([huge, 0, -huge], dtype)
    x = np.broadcast_to(column.reshape((3, 1) if axis == 0 and len(shape) == 2 else (3,)), shape)
    p = np.moveaxis(functional.softmax(x, axis=axis), axis, 0)
    np.testing.assert_array_equal(p[0], 1)
    np.testing.assert_array_equal(p[1:], 0)
    log_p = np.moveaxis(functional.log_softmax(x, axis=axis), axis, 0)
    np.testing.assert_array_equal(log_p[0], 0)
    np.testing.assert_array_equal(log_p[1], -huge)
    np.testing.assert_array_equal(log_p[2], -np.inf)  # -2 * huge
    for bad in ([np.nan, 0, 1], [np.inf, 0, 1], [-np.inf] * 3):
        x = (
            np.broadcast_to(np.array(bad, dtype).reshape(column.shape if len(shape) == 1 else (3, 1)), shape)
            if axis == 0
            else (np.broadcast_to(np.array(bad, dtype), shape))
        )
        assert np.isnan(functional.softmax(x, axis=axis)).all()
    x = np.broadcast_to(np.array([-np.inf, 0, 0], dtype), (2, 3))
    np.testing.assert_array_equal(functional.softmax(x), [[0, 0.5, 0.5]] * 2)


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_rounds_to_zero_where_exp_does(backend, dtype, columns):
    low, high = (-105, -85) if dtype == np.float32 else (-748, -705)
    x = np.r_[0, np.linspace(low, high, 600), -np.inf, -1e30].astype(dtype)
    y = functional.softmax(x[:, None] if columns else x, axis=0).ravel()
    # the sum is 1 to the last bit, so y is exp(x), of which the smallest are denormal, one unit apart
    want = np.exp(x.astype(np.longdouble))
    unit = np.finfo(dtype).smallest_subnormal
    assert np.all(np.abs(y - want) <= unit + 4 * np.finfo(dtype).eps * want)
    assert y[1] == y[-1] == y[-2] == 0
    assert 0 < y[y > 0].min() < np.finfo(dtype).tiny


# ---------------------------------------------------------------- softmax cross-entropy


@pytest.mark.parametrize(
    "n, k", [(1, 1), (1, 2), (64, 10), (3, 7), (5, 8), (4, 9), (9, 16), (2, 17), (33, 33), (3, 9001)]
)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_cross_entropy(backend, n, k, reduction, dtype, rng):
    logits = rng.normal(scale=3, size=(n, k)).astype(dtype)
    labels = rng.integers(0, k, n)
    one_hot = np.eye(k, dtype=dtype)[labels]
    soft = rng.uniform(size=(n, k)).astype(dtype)
    eps = np.finfo(dtype).eps
    scale = 1 / n if reduction == "mean" else 1
    log_p = exact_softmax(logits, 1, is_log=True)
    for given, target in (
        (labels, one_hot),
        (labels.astype(np.uint8 if k < 256 else np.int32), one_hot),
        (one_hot, one_hot),
        (one_hot.astype(bool), one_hot),
        (soft, soft),
    ):
        out = np.full((n, k), np.nan, dtype)
        loss, grad = functional.softmax_cross_entropy(logits, given, reduction=reduction, out=out)
        assert grad is out
        each = -(target * log_p).sum(axis=1)
        weight = target.sum(axis=1, keepdims=True, dtype=np.float64)
        if reduction == "none":
            assert loss.dtype == dtype
            np.testing.assert_allclose(loss, each, rtol=20 * eps, atol=4 * eps)
        else:
            assert type(loss) is float
            np.testing.assert_allclose(loss, each.sum() * scale, rtol=20 * eps, atol=4 * eps)
        expected = (np.exp(log_p) * weight - target) * scale
        np.testing.assert_allclose(grad, expected, rtol=30 * eps, atol=8 * eps * weight.max() * scale)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_equal_torch(backend, reduction, rng):
    torch = pytest.importorskip("torch")
    x = rng.normal(scale=2, size=(12, 10))
    labels = rng.integers(0, 10, 12)
    t = rng.uniform(size=(12, 10))
    cross_entropy, binary = torch.nn.functional.cross_entropy, torch.nn.functional.binary_cross_entropy_with_logits
    cases = [
        (functional.softmax_cross_entropy(x, labels, reduction=reduction), cross_entropy, torch.tensor(labels)),
        (functional.softmax_cross_entropy(x, t, reduction=reduction), cross_entropy, torch.tensor(t)),
        (functional.sigmoid_cross_entropy(x, t, reduction=reduction), binary, torch.tensor(t)),
    ]
    for (loss, grad), call, target in cases:
        leaf = torch.tensor(x, requires_grad=True)
        expected = call(leaf, target, reduction=reduction)
        expected.sum().backward()
        np.testing.assert_allclose(loss, expected.detach().numpy(), rtol=1e-13)
        np.testing.assert_allclose(grad, leaf.grad.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_of_huge_logits(backend, dtype):
    huge = dtype(np.finfo(dtype).max / 4)
    logits = np.array([[huge, -huge, 0], [0, huge, huge]], dtype)
    loss, grad = functional.softmax_cross_entropy(logits, np.array([0, 2]), reduction="none")
    np.testing.assert_allclose(loss, [0, math.log(2)], rtol=1e-6)
    np.testing.assert_array_equal(grad, [[0, 0, 0], [0, 0.5, -0.5]])
    loss, grad = functional.softmax_cross_entropy(logits, np.array([1, 0]), reduction="none")
    np.testing.assert_allclose(loss, [2 * float(huge), huge], rtol=1e-6)
    loss, grad = functional.softmax_cross_entropy(logits, np.array([[1, 0, 0], [0, 0.5, 0.5]], dtype), reduction="sum")
    np.testing.assert_allclose(loss, math.log(2), rtol=1e-6)
    np.testing.assert_array_equal(grad, 0)


def test_nan_logits_give_nan(backend):
    logits = np.array([[0, np.nan, 1], [0, 0, 0]])
    for labels in (np.array([0, 1]), np.array([[1.0, 0, 0], [0, 1, 0]])):
        loss, grad = functional.softmax_cross_entropy(logits, labels, reduction="none")
        np.testing.assert_array_equal(np.isnan(loss), [True, False])
        assert np.isnan(grad[0]).all()
        assert not np.isnan(grad[1]).any()
    for call in (functional.least_squares, functional.sigmoid_cross_entropy):
        loss, grad = call(logits, np.zeros((2, 3)))
        assert math.isnan(loss)
        np.testing.assert_array_equal(np.isnan(grad), np.isnan(logits))


# ---------------------------------------------------------------- the elementwise losses


@pytest.mark.parametrize(
    "shape", [(1,), (7,), (1, 1), (3, 5), (64, 10), (2, 3, 5, 7), (3, 9000), (9001, 1), (5, 4096), (40000,)]
)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_least_squares(backend, shape, reduction, dtype, rng):
    x, t = rng.normal(size=(2, *shape)).astype(dtype)
    out = np.full(shape, np.nan, dtype)
    loss, grad = functional.least_squares(x, t, reduction=reduction, out=out)
    assert grad is out
    eps, n = np.finfo(dtype).eps, shape[0]
    scale = 1 / n if reduction == "mean" else 1
    each = np.square(x.astype(np.float64) - t).reshape(n, -1).sum(axis=1) / 2
    if reduction == "none":
        assert loss.dtype == dtype
        np.testing.assert_allclose(loss, each, rtol=300 * eps)
    else:
        assert type(loss) is float
        np.testing.assert_allclose(loss, each.sum() * scale, rtol=300 * eps)
    np.testing.assert_allclose(grad, (x.astype(np.float64) - t) * scale, rtol=2 * eps, atol=eps * scale)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (64, 10), (2, 3, 5, 7), (3, 9000), (40000,)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_cross_entropy(backend, shape, reduction, dtype, rng):
    x = np.asarray(rng.normal(scale=4, size=shape)).astype(dtype)
    t = np.asarray(rng.uniform(size=shape)).astype(dtype)
    out = np.full(shape, np.nan, dtype)
    loss, grad = functional.sigmoid_cross_entropy(x, t, reduction=reduction, out=out)
    assert grad is out
    eps = np.finfo(dtype).eps
    scale = 1 / x.size if reduction == "mean" else 1
    wide = x.astype(np.float64)
    each = np.maximum(wide, 0) - wide * t + np.log1p(np.exp(-np.abs(wide)))
    if reduction == "none":
        assert loss.dtype == dtype
        np.testing.assert_allclose(loss, each, rtol=20 * eps, atol=20 * eps)
    else:
        assert type(loss) is float
        np.testing.assert_allclose(loss, each.sum() * scale, rtol=300 * eps)
    np.testing.assert_allclose(grad, (1 / (1 + np.exp(-wide)) - t) * scale, rtol=4 * eps, atol=4 * eps * scale)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_cross_entropy_of_huge_logits(backend, dtype):
    huge = np.finfo(dtype).max
    x = np.array([huge, huge, -huge, -huge], dtype)
    loss, grad = functional.sigmoid_cross_entropy(x, np.array([1, 0, 0, 1], dtype), reduction="none")
    np.testing.assert_array_equal(loss, [0, huge, 0, huge])
    np.testing.assert_array_equal(grad, [0, 1, 0, -1])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_by_differences(backend, reduction, rng):
    x = rng.normal(size=(4, 6))
    t = rng.uniform(size=(4, 6))
    labels = rng.integers(0, 6, 4)
    for call, target in (
        (functional.softmax_cross_entropy, labels),
        (functional.softmax_cross_entropy, t),
        (functional.least_squares, t),
        (functional.sigmoid_cross_entropy, t),
    ):
        _, grad = call(x, target, reduction=reduction)
        slope = differences(lambda v: call(v, target, reduction=reduction)[0], x)  # noqa: B023
        np.testing.assert_allclose(grad, slope, rtol=1e-6, atol=1e-9)


def test_empty_batches(backend):
    x = np.empty((0, 4), np.float32)
    for call, target in (
        (functional.softmax_cross_entropy, np.empty(0, np.int64)),
        (functional.softmax_cross_entropy, x),
        (functional.least_squares, x),
        (functional.sigmoid_cross_entropy, x),
    ):
        loss, grad = call(x, target)
        assert math.isnan(loss)
        assert grad.shape == (0, 4)
        assert call(x, target, reduction="sum")[0] == 0.0
        losses, _ = call(x, target, reduction="none")
        assert losses.shape == ((0, 4) if call is functional.sigmoid_cross_entropy else (0,))
    loss, grad = functional.least_squares(np.empty((3, 0)), np.empty((3, 0)))
    assert loss == 0.0
    np.testing.assert_array_equal(
        functional.least_squares(np.empty((3, 0)), np.empty((3, 0)), reduction="none")[0], [0] * 3
    )


# ---------------------------------------------------------------- memory, threads, kernels


def calls(dtype, rng, shape=(37, 19)):
    x, t = rng.normal(size=shape).astype(dtype), rng.uniform(size=shape).astype(dtype)
    labels = rng.integers(0, shape[1], shape[0])
    f = functional
    return {
        "softmax": (lambda **k: f.softmax(x, **k), x),
        "log_softmax": (lambda **k: f.log_softmax(x, **k), x),
        "softmax_backward": (lambda **k: f.softmax_backward(t, x, **k), x),
        "log_softmax_backward": (lambda **k: f.log_softmax_backward(x, t, **k), x),
        "softmax_cross_entropy": (lambda **k: f.softmax_cross_entropy(x, labels, **k)[1], x),
        "cross_entropy_soft": (lambda **k: f.softmax_cross_entropy(x, t, **k)[1], x),
        "least_squares": (lambda **k: f.least_squares(x, t, **k)[1], x),
        "sigmoid_cross_entropy": (lambda **k: f.sigmoid_cross_entropy(x, t, **k)[1], x),
    }


def test_in_place_and_partial_overlap(backend, rng):
    for name, (call, x) in calls(np.float64, rng).items():
        before = x.copy()
        expected = call()
        np.testing.assert_array_equal(x, before, err_msg=name)
        memory = np.zeros(x.size + 11)
        out = memory[11:].reshape(x.shape)
        np.testing.assert_array_equal(call(out=out), expected, err_msg=name)
        assert call(out=x) is x
        np.testing.assert_array_equal(x, expected, err_msg=name)
    memory = rng.normal(size=110)
    x, out = memory[:100].reshape(10, 10), memory[10:].reshape(10, 10)
    labels = rng.integers(0, 10, 10)
    loss, grad = functional.softmax_cross_entropy(x.copy(), labels)
    assert functional.softmax_cross_entropy(x, labels, out=out)[0] == loss
    np.testing.assert_array_equal(out, grad)


def test_strided_and_read_only_inputs(backend, rng):
    base = rng.uniform(size=(30, 40)).astype(np.float32)
    base.flags.writeable = False
    x, t = base[::3, ::2], base[1::3, 1::2]
    labels = np.arange(20)[::2]
    np.testing.assert_array_equal(functional.softmax(x), functional.softmax(x.copy()))
    for call, target in (
        (functional.softmax_cross_entropy, labels),
        (functional.softmax_cross_entropy, t),
        (functional.least_squares, t),
        (functional.sigmoid_cross_entropy, t),
    ):
        one, two = call(x, target), call(x.copy(), target.copy())
        assert one[0] == two[0]
        np.testing.assert_array_equal(one[1], two[1])


def test_threads_give_the_same_bits(rng):
    results = []
    shared = calls(np.float32, rng, (2000, 300))
    x, t = rng.normal(size=(2, 700, 900)).astype(np.float32)
    for n in (1, 2):
        with threads(n):
            results.append([call() for call, _ in shared.values()])
            results[-1].append(functional.softmax(x, axis=0))
            results[-1].append(functional.least_squares(x, t)[0])
            results[-1].append(functional.sigmoid_cross_entropy(x, t, reduction="sum")[0])
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("dtype", DTYPES)
def test_native_backend_runs_the_kernels(dtype, rng):
    for name, (call, _) in calls(dtype, rng).items():
        key = ("softmax_cross_entropy" if name == "cross_entropy_soft" else name, np.dtype(dtype).name)
        before = runtime.kernel_calls()[key]
        call()
        assert runtime.kernel_calls()[key] == before + 1, name
        with backends.backend("numpy"):
            call()
        assert runtime.kernel_calls()[key] == before + 1, name


# ---------------------------------------------------------------- errors

X = np.ones((2, 3), np.float32)
NAN_ROW = np.array([[1, 0, 0], [np.nan, 0, 1]], np.float32)
ERRORS = [
    (
        lambda f: f.softmax_cross_entropy(X, np.array([0, 3]), out=OUT),
        ValueError,
        "softmax_cross_entropy: labels must lie in 0 to 2 for 3 classes; got 3 at index 1",
    ),
    (
        lambda f: f.softmax_cross_entropy(X, np.array([-1, 0], np.int8), out=OUT),
        ValueError,
        "softmax_cross_entropy: labels must lie in 0 to 2 for 3 classes; got -1 at index 0",
    ),
    (
        lambda f: f.softmax_cross_entropy(X, np.array([0.0, 1.0]), out=OUT),
        TypeError,
        "softmax_cross_entropy: labels must be integers of shape (2,) or probabilities of shape (2, 3) for logits (2, "
        "3); "
        "got float64 of shape (2,)",
    ),
    (
        lambda f: f.softmax_cross_entropy(X, np.array([0, 1, 2]), out=OUT),
        ValueError,
        "softmax_cross_entropy: labels must be integers of shape (2,) or probabilities of shape (2, 3) for logits (2, "
        "3); "
        "got int64 of shape (3,)",
    ),
    (
        lambda f: f.softmax_cross_entropy(X, [0, 1], out=OUT),
        TypeError,
        "softmax_cross_entropy: labels must be a NumPy array of integers (2,) or of probabilities (2, 3), got list",
    ),
    (
        lambda f: f.softmax_cross_entropy(X, NAN_ROW, out=OUT),
        ValueError,
        "softmax_cross_entropy: labels must be finite and at least 0; got nan at index (1, 0)",
    ),
    (
        lambda f: f.softmax_cross_entropy(X, -X, out=OUT),
        ValueError,
        "softmax_cross_entropy: labels must be finite and at least 0; got -1.0 at index (0, 0)",
    ),
    (
        lambda f: f.softmax_cross_entropy(X, X.astype(np.float64), out=OUT),
        TypeError,
        "softmax_cross_entropy: logits is float32 and labels is float64; pass both as float32 or both as float64",
    ),
    (
        lambda f: f.softmax_cross_entropy(X[:, :0], np.array([0, 0])),
        ValueError,
        "softmax_cross_entropy: logits must have shape (N, K) with at least one class, got (2, 0); move the classes "
        "to the "
        "last of two axes",
    ),
    (
        lambda f: f.softmax_cross_entropy(X, np.array([0, 1]), reduction="average", out=OUT),
        ValueError,
        "softmax_cross_entropy: reduction must be one of 'mean', 'sum', 'none'; got 'average'",
    ),
    (
        lambda f: f.softmax_cross_entropy(X, np.array([0, 1]), out=OUT.T),
        ValueError,
        "softmax_cross_entropy: out has shape (3, 2) but the result has (2, 3); pass out of that shape",
    ),
    (
        lambda f: f.sigmoid_cross_entropy(X, NAN_ROW, out=OUT),
        ValueError,
        "sigmoid_cross_entropy: targets must be finite; got nan at index (1, 0)",
    ),
    (
        lambda f: f.sigmoid_cross_entropy(X, X[:1], out=OUT),
        ValueError,
        "sigmoid_cross_entropy: logits has shape (2, 3) and targets has (1, 3); pass both of one shape",
    ),
    (
        lambda f: f.least_squares(X[0, 0].reshape(()), X[0, 0].reshape(())),
        TypeError,
        "least_squares: prediction must be a NumPy array of float32 or float64, got float32; convert it with "
        "np.asarray(prediction, dtype=np.float32)",
    ),
    (
        lambda f: f.least_squares(np.zeros(()), np.zeros(())),
        ValueError,
        "least_squares: prediction must have a batch axis, got shape (); pass prediction[None]",
    ),
    (
        lambda f: f.least_squares(X, None, out=OUT),
        TypeError,
        "least_squares: target must be a NumPy array of float32 or float64, got NoneType; convert it with "
        "np.asarray(target, dtype=np.float32)",
    ),
    (
        lambda f: f.softmax(X, axis=2, out=OUT),
        ValueError,
        "softmax: axis 2 does not exist in x of shape (2, 3); pass -2 to 1",
    ),
    (
        lambda f: f.log_softmax(X[:, :0]),
        ValueError,
        "log_softmax: axis 1 of x is empty, shape (2, 0); there must be one element at least",
    ),
    (
        lambda f: f.softmax(X, axis=1.0, out=OUT),
        TypeError,
        "softmax: axis must be an integer, got 1.0",
    ),
    (
        lambda f: f.softmax_backward(X, X[:1], out=OUT),
        ValueError,
        "softmax_backward: grad_output has shape (2, 3) and output has (1, 3); pass both of one shape",
    ),
]
OUT = np.full((2, 3), 7, np.float32)


@pytest.mark.parametrize("call, error, message", ERRORS, ids=[str(i) for i in range(len(ERRORS))])
@pytest.mark.parametrize("module", [functional, reference])
def test_messages_and_nothing_is_written(module, call, error, message):
    with pytest.raises(error) as caught:
        call(module)
    assert str(caught.value) == message
    np.testing.assert_array_equal(OUT, 7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_every_short_length(backend, dtype, rng, check_close):
    # 37 rows: whole vectors of rows, taken transposed, and some left over
    for k in (*range(1, 36), 64):
        x, grad = (8 * rng.standard_normal((37, k)).astype(dtype) for _ in range(2))
        e = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        g = grad.astype(np.float64) / 8
        grad = grad / dtype(8)
        y = functional.softmax(x)
        check_close(y, p, k, k)
        check_close(functional.softmax_backward(grad, y), p * (g - (g * p).sum(axis=1, keepdims=True)), 4 * k, k)
        log_y = functional.log_softmax(x)
        check_close(log_y, np.log(p), k, k)
        check_close(functional.log_softmax_backward(grad, log_y), g - p * g.sum(axis=1, keepdims=True), 8 * k, k)
        for function, operand in ((functional.softmax, x), (functional.log_softmax, x)):
            fresh, copy = function(operand), operand.copy()
            assert function(copy, out=copy) is copy
            np.testing.assert_array_equal(copy, fresh)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bad_target_is_found_wherever_it_stands(backend, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    logits = np.zeros((7, 31), dtype)
    for position in (0, 1, 62, 63, 64, 65, 127, 128, 190, 216):
        for value in (np.nan, -np.nan, np.inf, -np.inf, -tiny, -1.0, -0.0, tiny, np.finfo(dtype).max):
            targets = np.full((7, 31), 0.5, dtype)
            targets.flat[position] = value
            finite, not_negative = bool(np.isfinite(value)), bool(value >= 0)
            place = re.escape(str(tuple(map(int, np.unravel_index(position, (7, 31))))))
            out = np.full((7, 31), 7, dtype)
            if finite:
                functional.sigmoid_cross_entropy(logits, targets)
            else:
                with pytest.raises(ValueError, match=f"targets must be finite; got .* at index {place}"):
                    functional.sigmoid_cross_entropy(logits, targets, out=out)
            if finite and not_negative:
                functional.softmax_cross_entropy(logits, targets)
            else:
                with pytest.raises(ValueError, match=f"must be finite and at least 0; got .* at index {place}"):
                    functional.softmax_cross_entropy(logits, targets, out=out)
            assert (out == 7).all()
