"""Settings and classes called wrongly; arrays that lie about themselves, results that overlap, memory that is short."""

import itertools
import math
import re
import subprocess
import sys

import numpy as np
import pytest
from error_specs import RIGHT, NoIndex, parameters, right

import convgrad
from convgrad import callbacks, functional, layers, optimizers, training

NAN = math.nan
RNG = np.random.default_rng(5)
X, WEIGHT = RNG.standard_normal((2, 3, 8, 8), np.float32), RNG.standard_normal((4, 3, 3, 3), np.float32)

NOT_COUNTS = [1.5, NAN, "2", None, True, np.float64(2), NoIndex(), [1], 1j, b"1"]
NOT_NAMES = [None, 1, b"native", ["native"], NAN, object()]


def entered(manager):
    return lambda value: manager(value).__enter__()


# One argument: (name in messages, the call, its argument's name, [values: TypeError], [values: ValueError])
ONE_ARGUMENT = [
    ("set_num_threads", convgrad.set_num_threads, "n", NOT_COUNTS, [0, -1, -(2**64), 1025, 2**31, 2**64, 10**5000]),
    ("threads", entered(convgrad.threads), "n", NOT_COUNTS, [0, -1, 1025, 2**32, 2**64, -(10**5000)]),
    ("set_cache_limit", convgrad.set_cache_limit, "n_bytes", NOT_COUNTS, [-1, -(2**31), -(2**64), -(10**5000)]),
    ("set_backend", convgrad.set_backend, "name", NOT_NAMES, ["", "NumPy", "torch", "x" * 1000]),
    ("backend", entered(convgrad.backend), "name", NOT_NAMES, ["", "NumPy", "torch"]),
    ("set_precision", convgrad.set_precision, "name", NOT_NAMES, ["", "Fast", "exact"]),
    ("precision", entered(convgrad.precision), "name", NOT_NAMES, ["", "Fast", "exact"]),
    ("set_flush_denormals", convgrad.set_flush_denormals, "on", [0, 1, None, "yes", NAN, [True]], []),
    ("flush_denormals", entered(convgrad.flush_denormals), "on", [0, 1, None, "yes", NAN], []),
    ("EarlyStopping", callbacks.EarlyStopping, "monitor", [None, 1, b"loss"], []),
    ("EarlyStopping", lambda v: callbacks.EarlyStopping(min_change=v), "min_change", [], [-1, NAN, math.inf]),
    ("ReduceOnPlateau", lambda v: callbacks.ReduceOnPlateau(factor=v), "factor", [], [0, 1, -1, NAN]),
    ("ReduceOnPlateau", lambda v: callbacks.ReduceOnPlateau(minimum=v), "minimum", [], [-1, NAN, math.inf]),
    ("Reshape", layers.Reshape, "shape", [1.5, "2", None, NAN], []),
    ("Conv2D", lambda v: layers.Conv2D(v, 4, 3), "in_channels", NOT_COUNTS, [0, -1, -(2**64)]),
    ("Conv2D", lambda v: layers.Conv2D(3, v, 3), "out_channels", NOT_COUNTS, [0, -1]),
    ("Conv2D", lambda v: layers.Conv2D(3, 4, v), "kernel_size", [1.5, NAN, None, "3", (3, NAN)], [0, -1, (1, 2, 3),
        ()]),
    ("Conv2D", lambda v: layers.Conv2D(3, 4, 3, stride=v), "stride", [1.5, NAN, None, "1"], [0, -1, (1, 2, 3)]),
    ("Conv2D", lambda v: layers.Conv2D(3, 4, 3, padding=v), "padding", [1.5, NAN, None], [-1, "half", (1, 2, 3)]),
    ("Conv2D", lambda v: layers.Conv2D(3, 4, 3, dilation=v), "dilation", [1.5, NAN, None], [0, -1, ()]),
    ("Conv2D", lambda v: layers.Conv2D(3, 4, 3, groups=v), "groups", NOT_COUNTS, [0, -1, 2, 2**64]),
    ("Conv2D", lambda v: layers.Conv2D(3, 4, 3, bias=v), "bias", [0, 1, None, "yes", NAN], []),
    ("Conv2D", lambda v: layers.Conv2D(3, 4, 3, gain=v), "gain", [0, 1, None, "yes", NAN], []),
    ("Conv2D", lambda v: layers.Conv2D(3, 4, 3, layout=v), "layout", [None, 1, b"NCHW"], ["", "nchw"]),
    ("Conv2D", lambda v: layers.Conv2D(3, 4, 3, activation=v), "activation", [1, ("elu",)], ["swish", ("relu", 1)]),
    ("Conv2D", lambda v: layers.Conv2D(3, 4, 3, rng=v), "rng", [1.5, "1", True], [-1]),
    ("Dense", lambda v: layers.Dense(v, 4), "in_features", NOT_COUNTS, [0, -1, -(2**64)]),
    ("Dense", lambda v: layers.Dense(4, v), "out_features", NOT_COUNTS, [0, -1]),
    ("Dense", lambda v: layers.Dense(3, 4, bias=v), "bias", [0, 1, None, "yes"], []),
    ("Dense", lambda v: layers.Dense(3, 4, rng=v), "rng", [1.5, "1", True], [-1]),
    ("Dropout", layers.Dropout, "p", ["0.5", None, [0.5], True, 1j], [-0.1, 1.1, NAN, math.inf, 10**5000]),
    ("AlphaDropout", layers.AlphaDropout, "p", ["0.5", None], [-0.1, 1.1, NAN]),
    ("BatchNorm", layers.BatchNorm, "features", NOT_COUNTS, [0, -1]),
    ("BatchNorm", lambda v: layers.BatchNorm(3, momentum=v), "momentum", ["x", None, True], [-0.1, 2, NAN]),
    ("BatchNorm", lambda v: layers.BatchNorm(3, eps=v), "eps", ["x", None, True], [-1, NAN, math.inf]),
    ("BatchNorm", lambda v: layers.BatchNorm(3, layout=v), "layout", [None, 1], ["", "NCW"]),
    ("LayerNorm", lambda v: layers.LayerNorm(v), "shape", [1.5, NAN, "2", None, True, (3, 1.5)], [0, -1, ()]),
    ("LayerNorm", lambda v: layers.LayerNorm(3, eps=v), "eps", ["x", None, True], [-1, NAN]),
    ("MaxPool2D", layers.MaxPool2D, "kernel_size", [1.5, NAN, None, "2"], [0, -1, (1, 2, 3), 2**31, 10**5000]),
    ("MaxPool2D", lambda v: layers.MaxPool2D(2, stride=v), "stride", [1.5, NAN, "2"], [0, -1, ()]),
    ("MaxPool2D", lambda v: layers.MaxPool2D(2, padding=v), "padding", [1.5, NAN, None], [-1, "half"]),
    ("MaxPool2D", lambda v: layers.MaxPool2D(2, ceil_mode=v), "ceil_mode", [0, None, "yes"], []),
    ("MaxPool2D", lambda v: layers.MaxPool2D(2, layout=v), "layout", [None, 1], ["", "nchw"]),
    ("AvgPool2D", layers.AvgPool2D, "kernel_size", [1.5, NAN, None, "2"], [0, -1, (1, 2, 3), 2**31]),
    ("AvgPool2D", lambda v: layers.AvgPool2D(2, count_include_pad=v), "count_include_pad", [0, None, "yes"], []),
    ("SGD", lambda v: optimizers.SGD(learning_rate=v), "learning_rate", ["x", None, [1]], [-1, NAN, math.inf]),
    ("Adam", lambda v: optimizers.Adam(learning_rate=v), "learning_rate", ["x", None, [1]], [-1, NAN, math.inf]),
    ("Adam", lambda v: optimizers.Adam(eps=v), "eps", ["x", None], [0, -1, NAN]),
    ("AdamW", lambda v: optimizers.AdamW(weight_decay=v), "weight_decay", ["x", None], [-1, NAN]),
    ("RMSprop", lambda v: optimizers.RMSprop(alpha=v), "alpha", ["x", None], [-1, NAN, 1]),
    ("Sequential", layers.Sequential, "layers|entry 0", [None, 5, [1], ["relu"], [layers.ReLU], "abc", [None]], []),
]  # fmt: skip


@pytest.mark.parametrize(
    "function, call, name, types, values", ONE_ARGUMENT, ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_wrong_argument_is_refused(function, call, name, types, values):
    before = convgrad.get_num_threads(), convgrad.get_backend(), convgrad.get_precision()
    for error, value in [(TypeError, value) for value in types] + [(ValueError, value) for value in values]:
        with pytest.raises(
            error, match=rf"^{function}: .*\b({name})\b.*(must|use None or one of|does not|pass)"
        ) as caught:
            call(value)
        assert type(caught.value) is error
    assert (convgrad.get_num_threads(), convgrad.get_backend(), convgrad.get_precision()) == before


@pytest.mark.parametrize("rate", ["fast", None, [1.0], NAN, -1, math.inf])
def test_a_schedule_that_gives_no_rate_is_refused(rate):
    model = layers.Sequential([layers.Dense(2, 3, rng=0)])
    x, y = np.zeros((4, 2), np.float32), np.zeros(4, np.int64)
    with pytest.raises(ValueError, match="^fit: schedule must give finite rates of at least 0, got .* at 0.0 epochs$"):
        training.fit(model, x, y, epochs=1, schedule=lambda done: rate, progress=False)


@pytest.fixture
def packed():
    return functional.prepack_conv2d(WEIGHT, input_shape=(1, 3, 8, 8))


@pytest.mark.parametrize(
    "x, error, says",
    [
        (X.tolist(), TypeError, "must be a NumPy array of float32 or float64, got list; convert it"),
        (np.ma.array(X), TypeError, "is a masked array; fill it first"),
        (X.astype(np.int32), TypeError, "is int32; only float32 and float64 are supported, convert it"),
        (X.astype(np.float64), TypeError, "is float64 but the weight was packed as float32; pass float32"),
        (X.astype(">f4"), TypeError, "is byte-swapped float32; convert it"),
        (None, TypeError, "must be a NumPy array of float32 or float64, got NoneType; convert it"),
        (X[0], ValueError, r"has shape \(3, 8, 8\) but the weight was packed for \(1, 3, 8, 8\) with any batch size"),
        (X[:, :2], ValueError, r"has shape \(2, 2, 8, 8\) but the weight was packed for"),
        (X[..., :7], ValueError, r"has shape \(2, 3, 8, 7\) but the weight was packed for"),
    ],
)
def test_packed_refuses(packed, x, error, says):
    with pytest.raises(error, match=rf"^PackedConv2d: x {says}"):
        packed(x)


def test_a_layer_too_large_for_memory():
    for call in (
        lambda: layers.Conv2D(2**40, 2**40, 3),
        lambda: layers.Dense(2**40, 2**40),
        lambda: layers.Dense(2**63, 2),
    ):
        with pytest.raises(MemoryError, match=r"^\w+: .* more than memory can address"):
            call()


# ---------------------------------------------------------------------------------------------------------------------
# Arrays that are not what they say
# ---------------------------------------------------------------------------------------------------------------------


class Liar(np.ndarray):
    """Claims another shape, dtype and layout than it has, and hands out another array as its view."""

    claims = None

    @property
    def shape(self):
        return self.claims.shape

    @property
    def dtype(self):
        return self.claims.dtype

    @property
    def strides(self):
        return self.claims.strides

    @property
    def flags(self):
        return self.claims.flags

    @property
    def ndim(self):
        return self.claims.ndim

    @property
    def size(self):
        return self.claims.size

    def view(self, *arguments):
        return self

    def copy(self, *arguments):
        return self

    def __array_function__(self, *arguments):
        raise AssertionError("a subclass's own functions were used")

    def __array_ufunc__(self, *arguments, **keywords):
        raise AssertionError("a subclass's own arithmetic was used")

    def __setitem__(self, *arguments):
        raise AssertionError("a subclass's own assignment was used")


def liar(array, truth):
    result = np.ndarray.view(truth, Liar)
    result.claims = array
    return result


def results_of(function, **changes):
    result = getattr(convgrad, function)(**right(function) | changes)
    return result if isinstance(result, tuple) else (result,)


ANY_SHAPE = {
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "sigmoid",
    "tanh",
    "softplus",
    "silu",
    "gelu",
    "dropout",
    "alpha_dropout",
}


@pytest.mark.parametrize("function", RIGHT)
def test_a_subclass_cannot_lie_about_its_shape(function, backend):
    for name, array in right(function).items():
        if isinstance(array, np.ndarray):
            lie = liar(array, np.zeros(0, array.dtype))
            if function in ANY_SHAPE:
                assert results_of(function, **{name: lie})[0].shape == (0,)
            else:
                with pytest.raises((ValueError, TypeError), match=rf"^{function}: "):
                    results_of(function, **{name: lie})


@pytest.mark.parametrize("function", [name for name in RIGHT if "out" in parameters(name)])
def test_an_out_cannot_lie_about_its_shape(function, backend):
    arrays = [result for result in results_of(function) if isinstance(result, np.ndarray)]
    alone = len(results_of(function)) == 1 or len(arrays) == 1
    for position, array in enumerate(arrays):
        lie = liar(array, np.zeros(0, array.dtype))
        out = lie if alone else tuple(lie if place == position else None for place in range(len(arrays)))
        with pytest.raises(ValueError, match=rf"^{function}: .*has shape \(0,\)"):
            results_of(function, out=out)


class Loud(Liar):
    """Tells the truth about itself, but every operation of its own raises."""

    shape, dtype, strides, flags, ndim, size = (
        getattr(np.ndarray, name) for name in ("shape", "dtype", "strides", "flags", "ndim", "size")
    )


@pytest.mark.parametrize("function", RIGHT)
def test_subclasses_are_read_and_written_as_plain_arrays(function, backend):
    expected = results_of(function)
    arguments = right(function)
    loud = {k: np.ndarray.view(v, Loud) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    result = getattr(convgrad, function)(**loud)
    for actual, value in zip(result if isinstance(result, tuple) else (result,), expected, strict=True):
        if isinstance(value, np.ndarray):
            assert type(actual) is np.ndarray
            np.testing.assert_array_equal(actual, value)
    if "out" in parameters(function):
        arrays = [value for value in expected if isinstance(value, np.ndarray)]
        outs = [np.full((*value.shape, 2), 1, value.dtype)[..., 0] for value in arrays]  # not contiguous
        louds = tuple(np.ndarray.view(out, Loud) for out in outs)
        getattr(convgrad, function)(**loud, out=louds if len(expected) > 1 and len(arrays) > 1 else louds[0])
        for out, value in zip(outs, arrays, strict=True):
            np.testing.assert_array_equal(out, value)


# ---------------------------------------------------------------------------------------------------------------------
# Results that overlap
# ---------------------------------------------------------------------------------------------------------------------

SEVERAL = [name for name in RIGHT if "out" in parameters(name) and len([
    1 for result in results_of(name) if isinstance(result, np.ndarray)]) > 1]  # fmt: skip


@pytest.mark.parametrize("function", SEVERAL)
def test_results_may_not_share_memory(function, backend):
    results = results_of(function)
    for i, j in itertools.combinations(range(len(results)), 2):
        buffer = np.zeros(max(results[i].nbytes, results[j].nbytes) + 64, np.uint8)
        outs = [None] * len(results)
        for place in (i, j):
            outs[place] = buffer[: results[place].nbytes].view(results[place].dtype).reshape(results[place].shape)
        with pytest.raises(ValueError, match=rf"^{function}: out's \w+ .* and \w+ .* share memory; pass arrays apart"):
            results_of(function, out=tuple(outs))
        assert not buffer.any()


def test_results_may_interleave(backend):
    expected = results_of("conv2d_backward")
    pairs = np.zeros((*expected[0].shape, 2), np.float32)
    outs = (pairs[..., 0], None, pairs[0, 0, 0, :, 1])  # six columns each
    assert np.may_share_memory(outs[0], outs[2])
    functional.conv2d_backward(**right("conv2d_backward"), out=outs)
    np.testing.assert_array_equal(outs[0], expected[0])
    np.testing.assert_array_equal(outs[2], expected[2])


def test_an_out_that_overlaps_itself(backend):
    x = right("relu")["x"]  # (3, 5)
    for strides in ((0, 0), (4, 0), (0, 4), (4, 4), (8, 4), (20, 2), (-4, 4), (10, 4)):
        start = np.zeros(64, np.float32)[8:]
        out = np.lib.stride_tricks.as_strided(start, (3, 5), strides)
        with pytest.raises(ValueError, match=r"^relu: elements of out overlap each other, shape \(3, 5\) with strides"):
            functional.relu(x, out=out)
    for strides in ((20, 4), (40, 8), (4, 12), (-20, 4), (20, -4), (8, 28), (12, 20)):
        start = np.zeros(128, np.float32)[48:]
        out = np.lib.stride_tricks.as_strided(start, (3, 5), strides)
        np.testing.assert_array_equal(functional.relu(x, out=out), np.maximum(x, 0))


# ---------------------------------------------------------------------------------------------------------------------
# Memory
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function, shape",
    [("relu", (2**30, 2**30)), ("sigmoid", (2**58,)), ("conv2d", (2**44, 4, 7, 6)), ("max_pool2d", (2**46, 4, 7, 6)),
     ("avg_pool2d", (2**46, 4, 7, 6)), ("linear", (2**52, 5)), ("conv1d", (2**48, 4, 7))],
)  # fmt: skip
def test_results_that_no_memory_holds(function, shape, backend):
    x = np.broadcast_to(np.float32(1), shape)
    with pytest.raises(MemoryError):
        getattr(functional, function)(**right(function) | {"x": x})


LIMITED = """
import re, resource, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import convgrad
from error_specs import right
from test_errors_elsewhere import LARGE

def check(function, arguments):
    try:
        getattr(convgrad, function)(**arguments)
    except MemoryError as error:
        return str(error)
    raise AssertionError(f"{function}: no MemoryError")

large = {name: make() for name, make in LARGE.items()}
for function, arguments in large.items():
    getattr(convgrad, function)(**right(function))
convgrad.functional.relu(np.zeros(10_000_000, np.float32))  # leaves a block of 40 MB for later
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (24 << 20), -1))
for function, arguments in large.items():
    for _ in range(3):
        text = check(function, arguments)
        assert re.match(rf"{function}: no memory for an array of shape \\(.*, [\\d.e+]+ bytes; pass fewer samples",
            text), text
    getattr(convgrad, function)(**right(function))
# What is kept for reuse is given back before a result is refused.
kept = convgrad.functional.relu(np.zeros(1_000_000, np.float32))
assert kept.shape == (1_000_000,)
print("refused", len(large))
"""


def zeros(*shape):
    return np.zeros(shape, np.float32)


# Calls whose result is far larger than their arguments, or as large.
LARGE = {
    "conv2d": lambda: dict(x=zeros(1, 1, 64, 64), weight=zeros(8000, 1, 3, 3)),
    "conv2d_grad_input": lambda: dict(
        grad_output=zeros(1, 1, 64, 64), weight=zeros(1, 8000, 1, 1), input_shape=(1, 8000, 64, 64)
    ),
    "conv_transpose2d": lambda: dict(x=zeros(1, 1, 64, 64), weight=zeros(1, 8000, 3, 3)),
    "convolve2d": lambda: dict(x=zeros(1, 1), kernel=zeros(1, 1)) | dict(x=zeros(8000, 4000), kernel=zeros(3, 3)),
    "linear": lambda: dict(x=zeros(8000, 2), weight=zeros(8000, 2)),
    "avg_pool2d": lambda: dict(x=zeros(1, 2, 4000, 4000), kernel_size=1),
    "relu": lambda: dict(x=zeros(32_000_000)),
    "gelu_backward": lambda: dict(grad_output=zeros(32_000_000), input=zeros(32_000_000)),
    "softmax": lambda: dict(x=zeros(8000, 4000)),
    "softmax_cross_entropy": lambda: dict(logits=zeros(8000, 4000), labels=np.zeros(8000, np.int64)),
    "layer_norm": lambda: dict(x=zeros(8000, 4000), weight=None, bias=None),
    "dropout": lambda: dict(x=zeros(8000, 4000), p=0.0),
}


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc")
def test_a_memory_limit_is_an_error_that_names_the_function(tmp_path):
    path = re.sub(r"/convgrad/__init__\.py$", "", convgrad.__file__)
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, str(__file__).rsplit("/", 1)[0]],
        env={"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CONVGRAD_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.split() == ["refused", str(len(LARGE))]
