"""Activations and their derivative passes: against the exact functions, PyTorch, central differences and the twin."""

import math

import numpy as np
import pytest

from convgrad import backends, functional, reference, threads
from convgrad._native import runtime

DTYPES = (np.float32, np.float64)
NAMES = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "softplus", "silu", "gelu")
FROM_INPUT = ("softplus", "silu", "gelu")
PARAMETERS = {"leaky_relu": 0.2, "elu": 1.3}
LAMBDA, ALPHA = 1.0507009873554805, 1.6732632423543772

# Bounds on the error, in units in the last place of the exact value.
ULPS = {"sigmoid": 2, "tanh": 2, "elu": 2, "selu": 2, "softplus": 2, "silu": 3, "gelu": 4}

# One below, at and above every vector width and unrolled step, and more than one block.
SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 257, 16384, 16385, 40001)


def options(name):
    return (PARAMETERS[name],) if name in PARAMETERS else ()


def value(name, x, module=functional, **keywords):
    return getattr(module, name)(x, *options(name), **keywords)


def operand(name, x):
    """What the derivative pass takes: the output, or the input."""
    return x if name in FROM_INPUT else value(name, x, reference)


def derivative_pass(name, grad_output, v, module=functional, **keywords):
    return getattr(module, f"{name}_backward")(grad_output, v, *options(name), **keywords)


# ---------------------------------------------------------------- accuracy


def exact(name, x):
    """The function in a wider type than x's: float64 for float32, long double for float64."""
    x = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
    alpha = x.dtype.type(PARAMETERS["elu"])
    with np.errstate(over="ignore", under="ignore"):
        sigmoid = np.where(x < 0, np.exp(np.minimum(x, 0)), 1) / (1 + np.exp(-np.abs(x)))
        return {
            "sigmoid": lambda: sigmoid,
            "tanh": lambda: np.tanh(x),
            "elu": lambda: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
            "selu": lambda: LAMBDA * np.where(x > 0, x, x.dtype.type(ALPHA) * np.expm1(np.minimum(x, 0))),
            "softplus": lambda: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
            "silu": lambda: x * sigmoid,
            "gelu": lambda: x * reference.normal.erfc(x.astype(np.float64) / -math.sqrt(2)) / 2,
        }[name]()


def worst_ulps(result, expected):
    spacing = np.spacing(np.abs(expected.astype(result.dtype))).astype(expected.dtype)
    return np.max(np.abs(result - expected) / spacing)


def bit_patterns(n):
    """Finite float32 numbers whose bit patterns cover the whole range evenly, denormals and all."""
    bits = np.linspace(0, 2**32 - 1, n).astype(np.uint32)
    x = bits.view(np.float32)
    return x[np.isfinite(x)]


@pytest.mark.parametrize("name", ULPS)
def test_accuracy_float32(name, rng):
    x = np.concatenate([bit_patterns(300_000), rng.uniform(-20, 20, 300_000), rng.normal(size=300_000)]).astype(
        np.float32
    )
    result, expected = value(name, x), exact(name, x)
    if name == "gelu":
        low = x < -3
        np.testing.assert_allclose(result[low], expected[low], rtol=0, atol=1e-7)
        result, expected = result[~low], expected[~low]
    with np.errstate(over="ignore"):
        rounded = expected.astype(np.float32)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(result[~finite], rounded[~finite])
    assert worst_ulps(result[finite], expected[finite]) <= ULPS[name]


@pytest.mark.skipif(np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps, reason="long double is double here")
@pytest.mark.parametrize("name", [name for name in ULPS if name != "gelu"])
def test_accuracy_float64(name, rng):
    exponents = rng.integers(-1074, 10, 60_000)
    x = np.concatenate([np.ldexp(rng.uniform(-2, 2, 60_000), exponents), rng.uniform(-40, 40, 100_000)])
    x = np.concatenate([x, rng.uniform(-760, 0, 40_000)])
    assert worst_ulps(value(name, x), exact(name, x)) <= ULPS[name]


def test_accuracy_gelu_float64(rng):
    mpmath = pytest.importorskip("mpmath")
    x = np.concatenate([rng.uniform(-8, 8, 3000), rng.normal(size=2000), np.ldexp(rng.normal(size=1000), -30)])
    result = functional.gelu(x)
    with mpmath.workdps(40):
        expected = [mpmath.mpf(float(v)) * mpmath.ncdf(mpmath.mpf(float(v))) for v in x]
        error = np.array(
            [abs(mpmath.mpf(float(r)) - e) for r, e in zip(result, expected, strict=True)], dtype=np.float64
        )
    assert np.max((error / np.spacing(np.abs(result)))[x >= -3]) <= 4
    assert np.max(error[x < -3]) <= 1e-16


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "elu", "selu", "softplus"])
def test_monotone_to_one_ulp(name, rng):
    starts = rng.uniform(-20, 20, 200).astype(np.float32)
    bits = starts.view(np.int32)[:, None] + np.where(starts < 0, -1, 1)[:, None] * np.arange(500, dtype=np.int32)
    y = value(name, bits.astype(np.int32).view(np.float32))
    assert np.all(np.diff(y, axis=1) >= -np.spacing(np.abs(y[:, 1:])))


# ---------------------------------------------------------------- special values

INF, NAN = math.inf, math.nan
TAIL = -LAMBDA * ALPHA
AT_INFINITY = {  # at -infinity, +infinity
    "sigmoid": (0, 1),
    "tanh": (-1, 1),
    "relu": (0, INF),
    "leaky_relu": (-INF, INF),
    "elu": (-1.3, INF),
    "selu": (TAIL, INF),
    "softplus": (0, INF),
    "silu": (0, INF),
    "gelu": (0, INF),
}
AT_ZERO = {"sigmoid": (0.5, 0.25), "tanh": (0, 1), "relu": (0, 0), "leaky_relu": (0, 0.2), "elu": (0, 1)}
AT_ZERO |= {"selu": (0, LAMBDA * ALPHA), "softplus": (math.log(2), 0.5), "silu": (0, 0.5), "gelu": (0, 0.5)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_infinity_and_nan(backend, name, dtype):
    for size in (3, 35):
        x = np.resize(np.array([-INF, INF, NAN], dtype), size)
        low, high = AT_INFINITY[name]
        expected = np.resize(np.array([low, high, NAN], dtype), size)
        np.testing.assert_allclose(value(name, x), expected, rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FROM_INPUT)
def test_derivative_at_infinity(backend, name, dtype):
    x = np.array([-INF, INF, NAN, -1e30, 1e30], dtype)
    np.testing.assert_array_equal(derivative_pass(name, np.ones(5, dtype), x), np.array([0, 1, NAN, 0, 1], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_zero(backend, name, dtype):
    x = np.zeros(19, dtype)
    at_zero, slope = AT_ZERO[name]
    np.testing.assert_allclose(value(name, x), at_zero, rtol=np.finfo(dtype).eps)
    np.testing.assert_array_equal(value(name, -x), value(name, x))
    result = derivative_pass(name, np.full(19, 3, dtype), value(name, x) if name not in FROM_INPUT else x)
    np.testing.assert_allclose(result, 3 * slope, rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["tanh", "relu", "elu", "leaky_relu", "silu", "gelu"])
def test_denormals(backend, name, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.arange(1, 40, dtype=dtype) * tiny * 8
    slope = {"silu": 0.5, "gelu": 0.5}.get(name, 1)
    np.testing.assert_array_equal(value(name, x), x * dtype(slope))


@pytest.mark.parametrize("dtype", DTYPES)
def test_denormal_results(dtype):
    """exp gets one rounding where its result is denormal: sigmoid(x) = exp(x) there."""
    x = np.linspace(*((-103.5, -98) if dtype is np.float32 else (-744.5, -725)), 999, dtype=dtype)
    tiny = np.finfo(dtype).smallest_subnormal
    expected = np.exp(x.astype(np.longdouble))
    for name in ("sigmoid", "softplus"):
        assert np.max(np.abs(value(name, x) - expected)) <= 0.51 * np.longdouble(tiny)
    assert np.max(np.abs(value("silu", x) - expected * x)) <= 0.51 * np.longdouble(tiny)


def test_relu_gradient_of_nan_output_and_of_blocked_infinity(backend):
    grad = np.array([2, INF, NAN, 1], np.float32)
    y = np.array([NAN, 0, 0, 5], np.float32)
    np.testing.assert_array_equal(functional.relu_backward(grad, y), np.array([2, 0, 0, 1], np.float32))


def test_elu_with_alpha_zero_is_relu(backend):
    x = np.array([-2, -0.0, 0, 3])
    y = functional.elu(x, 0.0)
    np.testing.assert_array_equal(y, [0, 0, 0, 3])
    np.testing.assert_array_equal(functional.elu_backward(np.ones(4), y, 0.0), [0, 0, 0, 1])


def test_leaky_slope_above_one_and_negative(backend):
    x = np.array([-2.0, 3.0])
    np.testing.assert_array_equal(functional.leaky_relu(x, 2), [-4, 3])
    np.testing.assert_array_equal(functional.leaky_relu(x, -0.5), [1, 3])
    np.testing.assert_array_equal(functional.elu(x, -1.0), [1 - math.exp(-2), 3])


# ---------------------------------------------------------------- against others


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_equals_torch(backend, name, dtype, rng):
    torch = pytest.importorskip("torch")
    call = {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "softplus": lambda x: torch.nn.functional.softplus(x, threshold=1e9),
    }.get(name) or getattr(torch.nn.functional, name)
    x = rng.normal(scale=3, size=(4, 5, 7)).astype(dtype)
    grad = rng.normal(size=x.shape).astype(dtype)
    leaf = torch.tensor(x.astype(np.float64), requires_grad=True)
    y = call(leaf, *options(name))
    y.backward(torch.tensor(grad.astype(np.float64)))
    eps = np.finfo(dtype).eps
    result = value(name, x)
    np.testing.assert_allclose(result, y.detach().numpy(), rtol=4 * eps, atol=1e-7 if name == "gelu" else 4 * eps)
    gradient = derivative_pass(name, grad, x if name in FROM_INPUT else result)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=8 * eps, atol=16 * eps)


@pytest.mark.parametrize("name", NAMES)
def test_derivative_is_the_slope(backend, name, rng):
    x = rng.normal(scale=2, size=301)
    x[np.abs(x) < 1e-3] = 0.5
    step = 1e-5
    slope = (value(name, x + step) - value(name, x - step)) / (2 * step)
    v = x if name in FROM_INPUT else value(name, x)
    np.testing.assert_allclose(derivative_pass(name, np.full(301, 2.0), v), 2 * slope, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_native_equals_twin_at_every_size(name, dtype, rng):
    eps = np.finfo(dtype).eps
    for size in SIZES:
        x, grad = rng.normal(scale=3, size=(2, size)).astype(dtype)
        v = operand(name, x)
        out = np.full(size, np.nan, dtype)
        assert value(name, x, out=out) is out
        np.testing.assert_allclose(out, value(name, x, reference), rtol=6 * eps, atol=1e-7 if name == "gelu" else 0)
        out = np.full(size, np.nan, dtype)
        assert derivative_pass(name, grad, v, out=out) is out
        np.testing.assert_allclose(out, derivative_pass(name, grad, v, reference), rtol=8 * eps, atol=20 * eps)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3), (2, 1, 3, 1, 2, 1)])
@pytest.mark.parametrize("name", NAMES)
def test_any_shape(backend, name, shape):
    x = np.full(shape, -0.5)
    y = value(name, x)
    assert isinstance(y, np.ndarray)
    assert y.shape == shape
    assert derivative_pass(name, x, y).shape == shape
    np.testing.assert_array_equal(y, np.full(shape, value(name, np.array([-0.5]))[0]))


def test_forty_axes(backend):
    if int(np.__version__.split(".")[0]) < 2:
        pytest.skip("NumPy 1 stops at 32 axes")
    x = np.ones((1,) * 39 + (2,))
    np.testing.assert_array_equal(functional.tanh(x), np.full(x.shape, functional.tanh(np.ones(1))[0]))


@pytest.mark.parametrize("name", NAMES)
def test_threads_give_the_same_bits(name, rng):
    x = rng.normal(size=500_000).astype(np.float32)
    results = []
    for n in (1, 2):
        with threads(n):
            results.append((value(name, x), derivative_pass(name, x, operand(name, x))))
    np.testing.assert_array_equal(results[0], results[1])


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize("name", NAMES)
def test_in_place(backend, name, rng):
    x, grad = rng.normal(size=(2, 1037))
    v = operand(name, x)
    expected = value(name, x)
    gradient = derivative_pass(name, grad, v)
    a = x.copy()
    assert value(name, a, out=a) is a
    np.testing.assert_array_equal(a, expected)
    g, w = grad.copy(), v.copy()
    assert derivative_pass(name, g, w, out=g) is g
    np.testing.assert_array_equal(g, gradient)
    assert derivative_pass(name, grad, w, out=w) is w
    np.testing.assert_array_equal(w, gradient)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_left_alone_whatever_their_strides(backend, name, rng):
    base = rng.normal(size=(6, 10, 8)).astype(np.float32)
    x, grad = base[::2, ::-1, 1::3], base[1::2, :, ::3]
    assert x.shape == grad.shape
    before = base.copy()
    base.flags.writeable = False
    np.testing.assert_array_equal(value(name, x), value(name, x.copy()))
    v = operand(name, x)
    np.testing.assert_array_equal(derivative_pass(name, grad, v), derivative_pass(name, grad.copy(), v.copy()))
    np.testing.assert_array_equal(base, before)


def test_out_that_overlaps_in_part_or_is_strided(backend, rng):
    memory = rng.normal(size=100)
    x = memory[:60].copy()
    result = functional.tanh(memory[:60], out=memory[20:80])
    assert np.shares_memory(result, memory)
    np.testing.assert_array_equal(memory[20:80], functional.tanh(x))
    memory = rng.normal(size=100)
    g, y = memory[:40].copy(), memory[10:50].copy()
    functional.sigmoid_backward(memory[:40], memory[10:50], out=memory[5:45])
    np.testing.assert_array_equal(memory[5:45], functional.sigmoid_backward(g, y))
    x = rng.normal(size=(5, 8))
    out = np.zeros((8, 5)).T
    assert functional.relu(x, out=out) is out
    np.testing.assert_array_equal(out, np.maximum(x, 0))
    expected = functional.gelu(out)
    assert functional.gelu(out, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_subclasses_and_unaligned(backend):
    x = np.frombuffer(b"\0" + np.arange(-4, 5, dtype=np.float32).tobytes(), np.uint8)[1:].view(np.float32)
    assert not x.flags.aligned
    np.testing.assert_array_equal(functional.relu(x), np.maximum(np.arange(-4, 5, dtype=np.float32), 0))
    assert type(functional.relu(np.ones((2, 2)).view(np.matrix))) is np.ndarray


# ---------------------------------------------------------------- with the gradient of the bias

BIAS_SHAPES = [
    ((3, 5), "NCHW", (0,)),
    ((3, 5), "NHWC", (0,)),
    ((4, 3, 7), "NCHW", (0, 2)),
    ((4, 7, 3), "NHWC", (0, 1)),
    ((2, 3, 5, 7), "NCHW", (0, 2, 3)),
    ((2, 5, 7, 3), "NHWC", (0, 1, 2)),
    ((2, 17, 1, 1), "NCHW", (0, 2, 3)),
    ((130, 40, 6, 6), "NCHW", (0, 2, 3)),
    ((2, 3, 60, 61), "NCHW", (0, 2, 3)),
    ((20, 30, 30, 33), "NHWC", (0, 1, 2)),
    ((70, 2500), "NCHW", (0,)),
    ((2, 1100, 3, 3), "NCHW", (0, 2, 3)),
    ((0, 3, 4, 4), "NCHW", (0, 2, 3)),
    ((3, 0, 4, 4), "NCHW", (0, 2, 3)),
    ((3, 4, 0), "NCHW", (0, 2)),
]


@pytest.mark.parametrize("shape, layout, axes", BIAS_SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_backward_bias(backend, shape, layout, axes, dtype, rng):
    x, grad = rng.normal(size=(2, *shape)).astype(dtype)
    for name in ("relu", "tanh", "silu", ("leaky_relu", 0.2), ("elu", 1.3)):
        plain = name if isinstance(name, str) else name[0]
        v = operand(plain, x)
        expected = derivative_pass(plain, grad, v)
        n_channels = shape[1] if layout == "NCHW" else shape[-1]
        out = (np.full(shape, np.nan, dtype), np.full(n_channels, np.nan, dtype))
        result = functional.activation_backward_bias(name, grad, v, layout=layout, out=out)
        assert result[0] is out[0]
        assert result[1] is out[1]
        np.testing.assert_array_equal(result[0], expected)
        sums = expected.sum(axis=axes, dtype=np.float64)
        scale = np.abs(expected).sum(axis=axes, dtype=np.float64)
        assert np.all(np.abs(result[1] - sums) <= 2e-2 * np.finfo(dtype).eps * 1e3 * scale + 1e-30)


def test_backward_bias_in_place_and_threads(rng):
    x, grad = rng.normal(size=(2, 64, 8, 40, 40)).astype(np.float32)
    y = functional.relu(x)
    results = []
    for n in (1, 2):
        with threads(n):
            results.append(functional.activation_backward_bias("relu", grad, y))
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
    result = functional.activation_backward_bias("relu", grad, y, out=(grad, None))
    assert result[0] is grad
    np.testing.assert_array_equal(result[0], results[0][0])
    np.testing.assert_array_equal(result[1], results[0][1])


def test_backward_bias_of_identity(backend, rng):
    grad = rng.normal(size=(4, 3))
    result = functional.activation_backward_bias("identity", grad, grad)
    np.testing.assert_array_equal(result[0], grad)
    np.testing.assert_allclose(result[1], grad.sum(axis=0), rtol=1e-15)


# ---------------------------------------------------------------- kernels and errors


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_native_backend_runs_the_kernels(name, dtype):
    x = np.ones((2, 3), dtype)
    calls = {
        "activation": lambda: value(name, x),
        "activation_backward": lambda: derivative_pass(name, x, x),
        "activation_backward_bias": lambda: functional.activation_backward_bias(name, x, x),
    }
    for kernel, call in calls.items():
        key = (kernel, np.dtype(dtype).name)
        before = runtime.kernel_calls()[key]
        call()
        assert runtime.kernel_calls()[key] == before + 1
        with backends.backend("numpy"):
            call()
        assert runtime.kernel_calls()[key] == before + 1


X = np.ones((2, 3), np.float32)
ERRORS = [
    (
        lambda f: f.relu([1.0]),
        TypeError,
        "relu: x must be a NumPy array of float32 or float64, got list; convert it with np.asarray(x, "
        "dtype=np.float32)",
    ),
    (
        lambda f: f.gelu(np.arange(3)),
        TypeError,
        "gelu: x is int64; only float32 and float64 are supported, convert it with x.astype(np.float32)",
    ),
    (
        lambda f: f.tanh(X, out=np.empty((3, 2), np.float32)),
        ValueError,
        "tanh: out has shape (3, 2) but the result has (2, 3); pass out of that shape",
    ),
    (
        lambda f: f.tanh(X, out=np.empty((2, 3))),
        TypeError,
        "tanh: out is float64 but the result is float32; pass out as float32",
    ),
    (
        lambda f: f.leaky_relu(X, np.nan),
        ValueError,
        "leaky_relu: slope must be finite, got nan",
    ),
    (
        lambda f: f.elu(X, "a"),
        TypeError,
        "elu: alpha must be a real number, got 'a' (str)",
    ),
    (
        lambda f: f.leaky_relu_backward(X, X, -0.1),
        ValueError,
        "leaky_relu_backward: slope must be at least 0, as the derivative is taken from the output; got -0.1",
    ),
    (
        lambda f: f.elu_backward(X, X, -1.0),
        ValueError,
        "elu_backward: alpha must be at least 0, as the derivative is taken from the output; got -1.0",
    ),
    (
        lambda f: f.sigmoid_backward(X, X[:1]),
        ValueError,
        "sigmoid_backward: grad_output has shape (2, 3) and output has (1, 3); pass both of one shape",
    ),
    (
        lambda f: f.silu_backward(X, X.astype(np.float64)),
        TypeError,
        "silu_backward: grad_output is float32 and input is float64; pass both as float32 or both as float64",
    ),
    (
        lambda f: f.silu_backward(X, None),
        TypeError,
        "silu_backward: input must be a NumPy array of float32 or float64, got NoneType; convert it with "
        "np.asarray(input, dtype=np.float32)",
    ),
    (
        lambda f: f.activation_backward_bias("swish", X, X),
        ValueError,
        "activation_backward_bias: unknown activation 'swish'; use None or one of 'identity', 'sigmoid', 'tanh', "
        "'relu', "
        "'leaky_relu', 'elu', 'selu', 'softplus', 'silu', 'gelu'",
    ),
    (
        lambda f: f.activation_backward_bias(("elu", -1), X, X),
        ValueError,
        "activation_backward_bias: alpha must be at least 0, as the derivative is taken from the output; got -1.0",
    ),
    (
        lambda f: f.activation_backward_bias("relu", X[0], X[0]),
        ValueError,
        "activation_backward_bias: grad_output must have 2, 3 or 4 axes, batch and channels among them; got shape (3,)",
    ),
    (
        lambda f: f.activation_backward_bias("relu", X, X, layout="CHWN"),
        ValueError,
        "activation_backward_bias: layout must be one of 'NCHW', 'NHWC'; got 'CHWN'",
    ),
    (
        lambda f: f.activation_backward_bias("relu", X, X, out=X),
        TypeError,
        "activation_backward_bias: out must be a tuple (grad_preactivation, grad_bias) with None where no array is "
        "given, "
        "got ndarray",
    ),
    (
        lambda f: f.activation_backward_bias("relu", X, X, out=(None, np.empty(2, np.float32))),
        ValueError,
        "activation_backward_bias: out's grad_bias has shape (2,) but the result has (3,); pass out's grad_bias of "
        "that shape",
    ),
]


@pytest.mark.parametrize("call, error, message", ERRORS, ids=[message.split(";")[0] for *_, message in ERRORS])
@pytest.mark.parametrize("module", [functional, reference])
def test_messages(module, call, error, message):
    with pytest.raises(error) as caught:
        call(module)
    assert str(caught.value) == message


def test_read_only_out_is_refused(backend):
    out = np.zeros(3)
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"^relu: out is read-only; pass a writeable array of shape \(3,\)$"):
        functional.relu(np.ones(3), out=out)
    np.testing.assert_array_equal(out, 0)
