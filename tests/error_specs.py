"""What `test_errors.py` calls wrongly: a right call of every public function, and values that no option takes."""

import inspect
import math
from fractions import Fraction

import numpy as np

import convgrad

NAN = math.nan
SEED = 11


class F(tuple):
    """The shape of an array of float32 or float64, drawn anew for each call."""

    def __new__(cls, *shape):
        return super().__new__(cls, shape)


class G(F):
    """An `F` whose numbers are positive: variances, reciprocal deviations."""


class TooLarge(tuple):
    """A shape that no memory can hold: MemoryError."""


X, W, B, Y = F(2, 4, 7, 6), F(6, 2, 3, 2), F(6), F(2, 6, 5, 5)
X1, W1, Y1 = F(2, 4, 7), F(6, 2, 3), F(2, 6, 5)
TW, TY, TW1, TY1 = F(4, 3, 3, 2), F(2, 6, 9, 7), F(4, 3, 3), F(2, 6, 9)
P, C4, POOLED = X, F(4), F(2, 4, 3, 3)
CELLS, PLACES = np.zeros(POOLED, np.uint8), np.zeros((2, 4, 1, 1), np.int64)
LOCAL, LOCAL_Y = F(5, 5, 3, 4, 3, 2), F(2, 3, 5, 5)
GROUPS = dict(groups=2)

# function: (arguments of a call that works, {argument: shapes or values that do not fit the others})
RIGHT = {
    "conv2d": (dict(x=X, weight=W, bias=B, **GROUPS), dict(
        x=[F(), F(4, 7, 6), F(2, 3, 7, 6), F(2, 6, 7, 6), F(2, 4, 2, 6), F(2, 4, 7, 1), F(2, 0, 7, 6), F(2, 4, 0, 6)],
        weight=[F(), F(6, 2, 3), F(6, 3, 3, 2), F(5, 2, 3, 2), F(6, 2, 8, 2), F(6, 2, 0, 2), F(0, 2, 3, 2)],
        bias=[F(), F(5), F(6, 1), F(0)], groups=[3, 4, 2**31, 2**64])),
    "conv2d_grad_input": (dict(grad_output=Y, weight=W, input_shape=X, **GROUPS), dict(
        grad_output=[F(), F(6, 5, 5), F(1, 6, 5, 5), F(2, 6, 5, 4)], weight=[F(6, 2, 3), F(6, 2, 2, 2), F(6, 4, 3, 2)],
        input_shape=[(2, 4, 7), (2, 4, 7, 7), (3, 4, 7, 6), (2, 4, 2**31, 6), TooLarge((2**63, 4, 7, 6)), TooLarge((2,
            4, 7, 2**64))])),
    "conv2d_grad_weight": (dict(grad_output=Y, x=X, kernel_size=(3, 2), **GROUPS), dict(
        grad_output=[F(), F(6, 5, 5), F(2, 6, 5, 6), F(2, 5, 5, 5)], x=[F(4, 7, 6), F(2, 3, 7, 6), F(2, 4, 7, 5)],
        kernel_size=[2, (9, 2), 2**31 - 1], groups=[3, 2**64])),
    "conv2d_grad_bias": (dict(grad_output=Y), dict(grad_output=[F(), F(6, 5, 5), F(2, 0, 5, 5), F(2, 6, 5, 5, 1)])),
    "conv2d_backward": (dict(grad_output=Y, x=X, weight=W, **GROUPS), dict(
        grad_output=[F(), F(2, 6, 5, 4), F(6, 5, 5)], x=[F(4, 7, 6), F(2, 4, 7, 7)], weight=[F(6, 3, 3, 2), F(6, 2, 3)],
        groups=[3, 2**64])),
    "conv_transpose2d": (dict(x=X, weight=TW, bias=B, **GROUPS), dict(
        x=[F(4, 7, 6), F(2, 5, 7, 6), F(2, 4, 0, 6)], weight=[F(4, 3, 3), F(5, 3, 3, 2), F(4, 0, 3, 2)],
        bias=[F(3), F(1, 6)], groups=[3, 2**64], output_padding=[1, 2**31 - 1], padding=[9, 2**31 - 1])),
    "conv_transpose2d_backward": (dict(grad_output=TY, x=X, weight=TW, **GROUPS), dict(
        grad_output=[F(), F(2, 6, 9, 8), F(6, 9, 7)], x=[F(2, 4, 7, 7), F(4, 7, 6)], weight=[F(4, 3, 3, 3), F(4, 3, 3)],
        groups=[3, 2**64])),
    "conv1d": (dict(x=X1, weight=W1, bias=B, **GROUPS), dict(
        x=[F(4, 7), F(2, 3, 7), F(2, 4, 2), F(2, 4, 7, 1)], weight=[F(6, 2), F(6, 3, 3), F(6, 2, 8), F(6, 2, 0)],
        bias=[F(5), F(6, 1)], groups=[3, 2**64])),
    "conv1d_grad_input": (dict(grad_output=Y1, weight=W1, input_shape=X1, **GROUPS), dict(
        grad_output=[F(6, 5), F(2, 6, 4)], weight=[F(6, 2, 3, 1), F(6, 2, 2)],
        input_shape=[(2, 4), (2, 4, 8), (2, 4, 2**31), TooLarge((2**63, 4, 7)), TooLarge((2, 4, 2**64))])),
    "conv1d_grad_weight": (dict(grad_output=Y1, x=X1, kernel_size=3, **GROUPS), dict(
        grad_output=[F(6, 5), F(2, 6, 6)], x=[F(4, 7), F(2, 3, 7)], kernel_size=[2, 9, 2**31 - 1], groups=[3])),
    "conv1d_grad_bias": (dict(grad_output=Y1), dict(grad_output=[F(), F(6, 5), F(2, 0, 5), F(2, 6, 5, 5)])),
    "conv1d_backward": (dict(grad_output=Y1, x=X1, weight=W1, **GROUPS), dict(
        grad_output=[F(2, 6, 4), F(6, 5)], x=[F(4, 7), F(2, 4, 8)], weight=[F(6, 3, 3), F(6, 2)], groups=[3, 2**64])),
    "conv_transpose1d": (dict(x=X1, weight=TW1, bias=B, **GROUPS), dict(
        x=[F(4, 7), F(2, 5, 7)], weight=[F(4, 3), F(5, 3, 3)], bias=[F(3)], groups=[3], output_padding=[1],
        padding=[9, 2**31 - 1])),
    "conv_transpose1d_backward": (dict(grad_output=TY1, x=X1, weight=TW1, **GROUPS), dict(
        grad_output=[F(2, 6, 8), F(6, 9)], x=[F(2, 4, 8), F(4, 7)], weight=[F(4, 3, 2), F(4, 3)], groups=[3])),
    "convolve2d": (dict(x=F(3, 8, 7), kernel=F(3, 2)), dict(
        x=[F(), F(8), F(3, 0, 7)], kernel=[F(), F(3), F(3, 2, 1), F(0, 2)])),
    "convolve2d_backward": (dict(grad_output=F(3, 10, 8), x=F(3, 8, 7), kernel=F(3, 2)), dict(
        grad_output=[F(), F(3, 10, 7), F(10, 8)], x=[F(3, 8, 8), F(8)], kernel=[F(3, 3), F(2)])),
    "correlate2d": (dict(x=F(3, 8, 7), kernel=F(3, 2), mode="valid"), dict(
        x=[F(), F(8), F(3, 2, 7)], kernel=[F(), F(9, 2), F(3, 2, 1), F(3, 0)])),
    "correlate2d_backward": (dict(grad_output=F(3, 10, 8), x=F(3, 8, 7), kernel=F(3, 2)), dict(
        grad_output=[F(), F(3, 10, 7), F(10, 8)], x=[F(3, 8, 8), F(8)], kernel=[F(3, 3), F(2)])),
    "locally_connected2d": (dict(x=X, weight=LOCAL, bias=F(5, 5, 3)), dict(
        x=[F(4, 7, 6), F(2, 3, 7, 6), F(2, 4, 8, 6)], weight=[F(5, 5, 3, 4, 3), F(5, 4, 3, 4, 3, 2), F(5, 5, 3, 4, 9,
            2)],
        bias=[F(3), F(3, 5, 5)], stride=[2, 2**31 - 1])),
    "locally_connected2d_backward": (dict(grad_output=LOCAL_Y, x=X, weight=LOCAL), dict(
        grad_output=[F(), F(2, 3, 5, 4), F(3, 5, 5)], x=[F(4, 7, 6), F(2, 4, 7, 7)], weight=[F(5, 5, 3, 4, 3)],
        stride=[2])),
    "max_pool2d": (dict(x=P, kernel_size=2), dict(
        x=[F(), F(4, 7, 6), F(2, 0, 7, 6), F(2, 4, 1, 6)], kernel_size=[8, (2, 7), 2**16, 2**31 - 1], padding=[2, (0,
            2)],
        dilation=[7, 2**31 - 1])),
    "max_pool2d_backward": (dict(grad_output=POOLED, indices=CELLS, input_shape=P, kernel_size=2), dict(
        grad_output=[F(), F(2, 4, 3, 2), F(4, 3, 3)], indices=[CELLS[0], CELLS + np.uint8(4), CELLS[:, :, :2]],
        input_shape=[(2, 4, 7), (2, 4, 9, 6), (2**63, 4, 7, 6)], kernel_size=[3, 2**16])),
    "max_pool2d_plane_indices": (dict(indices=CELLS, input_shape=P, kernel_size=2), dict(
        indices=[CELLS[0], CELLS + np.uint8(255), CELLS[:, :, :2]], input_shape=[(2, 4, 7), (2, 4, 9, 6), (2**63, 4,
            7, 6)],
        kernel_size=[3, 2**16])),
    "avg_pool2d": (dict(x=P, kernel_size=2), dict(
        x=[F(), F(4, 7, 6), F(2, 0, 7, 6), F(2, 4, 1, 6)], kernel_size=[8, (2, 7), 2**16], padding=[2], dilation=[7])),
    "avg_pool2d_backward": (dict(grad_output=POOLED, input_shape=P, kernel_size=2), dict(
        grad_output=[F(), F(2, 4, 3, 2), F(4, 3, 3)], input_shape=[(2, 4, 7), (2, 4, 9, 6), (2**63, 4, 7, 6)],
        kernel_size=[3, 2**16])),
    "subsample2d": (dict(x=P, weight=C4, bias=C4, kernel_size=2), dict(
        x=[F(4, 7, 6), F(2, 4, 0, 6)], weight=[F(), F(3), F(4, 1)], bias=[F(), F(5)], kernel_size=[8, 2**16])),
    "subsample2d_backward": (dict(grad_output=POOLED, x=P, weight=C4, kernel_size=2), dict(
        grad_output=[F(), F(2, 4, 3, 2)], x=[F(4, 7, 6), F(2, 4, 9, 6)], weight=[F(3), F(4, 1)], kernel_size=[3,
            2**16])),
    "global_avg_pool2d": (dict(x=P), dict(x=[F(), F(4, 7, 6), F(2, 4, 0, 6)])),
    "global_avg_pool2d_backward": (dict(grad_output=F(2, 4, 1, 1), input_shape=P), dict(
        grad_output=[F(), F(2, 4), F(2, 3, 1, 1)], input_shape=[(2, 4), (2, 5, 7, 6), (2, 4, 0, 6), (2**63, 4, 7, 6)])),
    "global_max_pool2d": (dict(x=P), dict(x=[F(), F(4, 7, 6), F(2, 4, 0, 6)])),
    "global_max_pool2d_backward": (dict(grad_output=F(2, 4, 1, 1), indices=PLACES, input_shape=P), dict(
        grad_output=[F(), F(2, 4), F(2, 3, 1, 1)], indices=[PLACES[0], PLACES - 1, PLACES + 42, PLACES + 2**62],
        input_shape=[(2, 4), (2, 5, 7, 6), (2, 4, 0, 6), (2**63, 4, 7, 6)])),
    "activation_backward_bias": (dict(name="relu", grad_output=Y, output_or_input=Y), dict(
        grad_output=[F(), F(6), F(2, 6, 5, 4)], output_or_input=[F(), F(2, 6, 5)])),
    "softmax": (dict(x=F(3, 5)), dict(x=[F(), F(3, 0)], axis=[2, -3, 2**31, 2**64])),
    "log_softmax": (dict(x=F(3, 5)), dict(x=[F(), F(3, 0)], axis=[2, -3, 2**31, 2**64])),
    "softmax_backward": (dict(grad_output=F(3, 5), output=F(3, 5)), dict(
        grad_output=[F(), F(3, 4), F(3)], output=[F(), F(5)], axis=[2, -3, 2**64])),
    "log_softmax_backward": (dict(grad_output=F(3, 5), output=F(3, 5)), dict(
        grad_output=[F(), F(3, 4), F(3)], output=[F(), F(5)], axis=[2, -3, 2**64])),
    "softmax_cross_entropy": (dict(logits=F(3, 5), labels=np.arange(3)), dict(
        logits=[F(), F(3), F(3, 0), F(4, 5), F(3, 5, 1)],
        labels=[np.arange(4), np.array([0, 5, 1]), np.array([0, -1, 1]), np.array([0, 2**63, 0], np.uint64),
                np.full((3, 5), NAN, np.float32), np.full((3, 5), -1, np.float32), np.zeros((3, 4), np.float32)])),
    "least_squares": (dict(prediction=F(3, 5), target=F(3, 5)), dict(
        prediction=[F(), F(3), F(3, 4)], target=[F(), F(5, 3), F(1, 5)])),
    "sigmoid_cross_entropy": (dict(logits=F(3, 5), targets=F(3, 5)), dict(
        logits=[F(), F(3)], targets=[F(), F(5, 3), np.full((3, 5), NAN, np.float32)])),
    "linear": (dict(x=F(3, 5), weight=F(4, 5), bias=C4), dict(
        x=[F(), F(3, 4), F(0)], weight=[F(), F(5, 4), F(4), F(0, 5)], bias=[F(), F(5), F(4, 1)])),
    "linear_backward": (dict(grad_output=F(3, 4), x=F(3, 5), weight=F(4, 5)), dict(
        grad_output=[F(), F(3, 5), F(2, 4)], x=[F(3, 4), F(2, 5)], weight=[F(4), F(4, 4)])),
    "batch_norm": (dict(x=X, weight=C4, bias=C4, running_mean=C4, running_var=G(4)), dict(
        x=[F(), F(4), F(2, 4, 7, 6, 1)], weight=[F(), F(3), F(4, 1)], bias=[F(5)], running_mean=[F(3), None],
        running_var=[G(1), None], momentum=[-0.1, 1.1], eps=[-1e-5])),
    "batch_norm_backward": (dict(grad_output=X, x=X, weight=C4, saved_mean=C4, saved_inv_std=G(4)), dict(
        grad_output=[F(), F(2, 4, 7, 5)], x=[F(4), F(2, 4, 7)], weight=[F(3)], saved_mean=[F(5), F(4, 1)],
        saved_inv_std=[G(3)])),
    "layer_norm": (dict(x=F(3, 4, 5), weight=F(4, 5), bias=F(4, 5)), dict(
        x=[F(), F(5), F(3, 5, 4), F(3, 4, 0)], weight=[F(), F(4), F(3, 4, 5, 1)], bias=[F(5), F()], eps=[-1e-5])),
    "layer_norm_backward": (dict(grad_output=F(3, 4, 5), x=F(3, 4, 5), weight=F(4, 5), saved_mean=F(3),
        saved_inv_std=G(3)),
        dict(grad_output=[F(), F(3, 4, 4)], x=[F(4, 5)], weight=[F(), F(4)], saved_mean=[F(4), F(3, 4)],
             saved_inv_std=[G(1)])),
    "dropout": (dict(x=F(3, 5), rng=1), {}),
    "alpha_dropout": (dict(x=F(3, 5), rng=1), {}),
    "dropout_backward": (dict(grad_output=F(3, 5), mask=np.ones((3, 5), bool), p=0.5), dict(
        grad_output=[F(), F(3, 4), F(15)], mask=[np.ones((3, 4), bool), np.ones(15, np.uint8)])),
    "alpha_dropout_backward": (dict(grad_output=F(3, 5), mask=np.ones((3, 5), bool), p=0.5), dict(
        grad_output=[F(), F(3, 4), F(15)], mask=[np.ones((3, 4), bool), np.ones(15, np.uint8)])),
    "prepack_conv2d": (dict(weight=W, bias=B, input_shape=X, **GROUPS), dict(
        weight=[F(), F(6, 2, 3), F(6, 3, 3, 2), F(6, 2, 8, 2)], bias=[F(5), F(6, 1)],
        input_shape=[(2, 4, 7), (2, 5, 7, 6), (2, 0, 7, 6), TooLarge((2**63, 4, 7, 6))], groups=[3, 2**64])),
    "explain_conv2d": (dict(x=X, weight=W, **GROUPS), dict(
        x=[F(), F(2, 3, 7, 6), F(2, 4, 2, 6), (2, 4, 7), TooLarge((2**63, 4, 7, 6))], weight=[F(6, 2, 3), F(0, 2, 3,
            2), (6, 2, 2**63, 2)],
        groups=[3, 2**64])),
}  # fmt: skip
for _name in ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "softplus", "silu", "gelu"):
    RIGHT[_name] = (dict(x=F(3, 5)), {})
    _other = "input" if _name in ("softplus", "silu", "gelu") else "output"
    RIGHT[f"{_name}_backward"] = (
        {"grad_output": F(3, 5), _other: F(3, 5)},
        {"grad_output": [F(), F(3, 4), F(15)], _other: [F(), F(3, 6), F(3, 5, 1)]},
    )
RIGHT["leaky_relu_backward"][1]["slope"] = RIGHT["elu_backward"][1]["alpha"] = [-0.5, -1e-300]

# Arrays that may be None, and what a message calls an argument whose name says two things.
OPTIONAL = {"bias", "running_mean", "running_var"} | {
    "layer_norm weight",
    "layer_norm bias",
    "layer_norm_backward weight",
}
OPTIONAL |= {"batch_norm weight", "batch_norm bias", "batch_norm_backward weight"}
CALLED = {"output_or_input": "output", "name": "activation"}


class NoIndex:
    """Refuses to be an integer."""

    def __index__(self):
        raise TypeError("no index")

    def __repr__(self):
        return "NoIndex()"


_NOT_COUNTS = [
    1.5,
    NAN,
    math.inf,
    "2",
    b"2",
    True,
    np.True_,
    np.float64(1),
    1j,
    Fraction(3, 2),
    NoIndex(),
    np.ones(2),
    {},
]
_NOT_NUMBERS = ["0.5", b"0.5", True, 1j, [0.5], np.ones(2), object(), (0.5,), None]
_NOT_FINITE = [NAN, math.inf, -math.inf, np.float32("nan"), 10**400, 10**5000, np.float64("inf")]
_NOT_FLAGS = [0, 1, None, "yes", NAN, np.ones(1, bool), [], 2**64]
_NOT_NAMES = [None, 1, b"NCHW", ["NCHW"], object()]
_UNKNOWN = ["", "nchw", "auto\0", "x" * 300, "WCN", "Mean"]

_counts = {TypeError: _NOT_COUNTS, ValueError: [0, -1, -(2**31), -(2**64), (1, 2, 3), (), (0, 1), (1, 2, NAN)]}
_largest = [2**31, 2**32 + 1, 2**63, 2**64 + 1, 10**5000]
_names = {TypeError: _NOT_NAMES, ValueError: _UNKNOWN}

# {option: {error: values}}, and what its message must say works.
BAD = {
    "stride": ("must be", {TypeError: _counts[TypeError], ValueError: _counts[ValueError] + _largest}),
    "dilation": ("must be", {TypeError: _counts[TypeError], ValueError: _counts[ValueError] + _largest}),
    "kernel_size": ("must be", {TypeError: [*_counts[TypeError], None], ValueError: _counts[ValueError] + _largest}),
    "output_padding": ("must be", {TypeError: _counts[TypeError], ValueError: [-1, (1, 2, 3), (), *_largest]}),
    "padding": ("must be", {
        TypeError: [1.5, NAN, b"same", True, np.ones(2), NoIndex(), None, (1, NAN), (1, "same")],
        ValueError: [-1, "half", "SAME", "", (1, 2, 3), (), (0, -1), -(2**64), *_largest]}),
    "groups": ("must be", {TypeError: [*_NOT_COUNTS, None, (1, 1)], ValueError: [0, -1, -(2**64), -(10**5000),
        10**5000]}),
    "input_shape": ("must be", {
        TypeError: [None, 5, "2476", np.array([2, 4, 7, 6]), (2, 4, 7, 6.0), (2, 4, 7, NAN), {2, 4}, (2, 4, 7,
            NoIndex())],
        ValueError: [(-2, 4, 7, 6), (-(2**64), 4, 7, 6), (2, 4, 10**5000, 6)]}),
    "layout": ("must be", _names), "algorithm": ("must be", _names), "mode": ("must be", _names),
    "direction": ("must be", _names), "reduction": ("must be", _names),
    "activation": ("one of|names|must be|pass", {
        TypeError: [1, b"relu", ("elu",), ("elu", 1.0, 2), (1.0, "elu"), object(), ("elu", "1"), ("leaky_relu", True)],
        ValueError: ["swish", "", "RELU", ("relu", 1.0), ("mish", 1.0), ("elu", NAN), ("leaky_relu", math.inf)]}),
    "name": ("one of|names|must be|pass", {TypeError: [1, b"relu", ("elu",), object()], ValueError: ["swish", ("relu",
        1.0), ("elu", -1.0)]}),
    "axis": ("must be an integer", {TypeError: [1.0, NAN, "1", True, None, (0,), NoIndex(), np.ones(2)]}),
    "p": ("must be", {TypeError: _NOT_NUMBERS, ValueError: [*_NOT_FINITE, -0.1, 1.5, 2**64, 10**5000]}),
    "rng": ("Generator|at least 0", {TypeError: [1.5, NAN, "1", True, object(), [1]], ValueError: [-1, -(2**64)]}),
    "dtype": ("float32 or float64", {TypeError: [np.int32, "float16", object, ">f4", "no such", 5, (1, 2)]}),
    "labels": ("must be", {TypeError: [None, [0, 1, 2], np.ma.zeros(3, int), np.zeros(3), np.array(["a", "b", "c"]),
        1]}),
    "mask": ("must be", {TypeError: [
        None, [[True] * 5] * 3, np.ma.ones((3, 5), bool), np.ones((3, 5)), np.ones((3, 5), np.int8), True]}),
    "indices": ("pass|must be", {TypeError: [None, [[0]], np.ma.zeros((2, 4, 3, 3), np.uint8), np.zeros((2, 4, 3, 3)),
        0,
        np.zeros((2, 4, 3, 3), ">i4"), np.zeros((2, 4, 3, 3), object)]}),
}  # fmt: skip
for _name in ("slope", "alpha", "momentum", "eps"):
    BAD[_name] = ("must be", {TypeError: _NOT_NUMBERS, ValueError: _NOT_FINITE})
for _name in ("ceil_mode", "count_include_pad", "return_indices", "training", "input_grad", "weight_grad"):
    BAD[_name] = ("must be True or False", {TypeError: _NOT_FLAGS})


def parameters(function):
    """Names of the parameters of a public function."""
    return list(inspect.signature(getattr(convgrad, function)).parameters)


def build(value, dtype, rng):
    """An argument as it is passed: arrays for shapes, and copies of arrays."""
    if isinstance(value, F):
        return (rng.uniform(0.5, 1, value) if isinstance(value, G) else rng.uniform(-1, 1, value)).astype(dtype)
    return value.copy() if isinstance(value, np.ndarray) else value


def right(function, dtype=np.float32, **changes):
    """Arguments of a call of `function` that works, but for `changes`."""
    rng = np.random.default_rng(SEED)
    given = RIGHT[function][0] | changes
    shapes = ("input_shape",) if function != "explain_conv2d" else ()
    return {k: tuple(v) if k in shapes and isinstance(v, F) else build(v, dtype, rng) for k, v in given.items()}
