"""Primitives of HIPS autograd: gradients and their gradients against differences, values against the functionals."""

import runpy
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("autograd")

import autograd.numpy as anp
from autograd import elementwise_grad, grad
from autograd.scipy.signal import convolve as autograd_convolve
from autograd.test_util import check_grads

import convgrad
from convgrad.integrations import autograd as ag

ACTIVATIONS = ["sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "softplus", "silu", "gelu"]


def second_order(function, *arguments):
    """Reverse mode to order 2 for all arguments."""
    check_grads(function, modes=["rev"], order=2)(*arguments)


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(stride=2, padding="same"),
        dict(padding=((1, 0), (2, 1)), dilation=(1, 2), activation="tanh"),
        dict(groups=2, padding=1, activation=("leaky_relu", 0.3)),
        dict(layout="NHWC", stride=(2, 1), activation="silu"),
    ],
)
def test_conv2d(options, rng):
    x, w, b = rng.standard_normal((2, 4, 5, 6)), rng.standard_normal((4, 4, 3, 3)), rng.standard_normal(4)
    if options.get("layout") == "NHWC":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    w = w[:, : 4 // options.get("groups", 1)]
    np.testing.assert_allclose(
        ag.conv2d(x, w, b, **options), convgrad.conv2d(x, w, b, **options), rtol=1e-12, atol=1e-12
    )
    second_order(lambda x, w, b: ag.conv2d(x, w, b, **options), x, w, b)


def test_conv2d_in_float32_stays_float32(rng):
    x, w = (rng.standard_normal(shape, dtype=np.float32) for shape in ((2, 8, 9, 9), (16, 8, 3, 3)))
    by_x, by_w = grad(lambda x, w: anp.sum(ag.conv2d(x, w, padding=1) ** 2), (0, 1))(x, w)
    y = convgrad.conv2d(x, w, padding=1)
    assert by_x.dtype == by_w.dtype == np.float32
    np.testing.assert_allclose(by_x, convgrad.conv2d_grad_input(2 * y, w, x.shape, padding=1), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(by_w, convgrad.conv2d_grad_weight(2 * y, x, 3, padding=1), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(stride=2, padding=1, output_padding=1),
        dict(stride=(3, 2), padding=((0, 1), (1, 0)), groups=2, activation="sigmoid"),
    ],
)
def test_conv_transpose2d(options, rng):
    x, w = rng.standard_normal((2, 4, 3, 4)), rng.standard_normal((4, 2, 3, 3))
    b = rng.standard_normal(2 * options.get("groups", 1))
    expected = convgrad.conv_transpose2d(x, w, b, **options)
    np.testing.assert_allclose(ag.conv_transpose2d(x, w, b, **options), expected, rtol=1e-12, atol=1e-12)
    second_order(lambda x, w, b: ag.conv_transpose2d(x, w, b, **options), x, w, b)


@pytest.mark.parametrize(
    "options", [{}, dict(stride=2, padding=1), dict(padding=(2, 0), dilation=2), dict(padding="same")]
)
def test_conv1d(options, rng):
    x, w, b = rng.standard_normal((2, 3, 9)), rng.standard_normal((4, 3, 3)), rng.standard_normal(4)
    np.testing.assert_allclose(
        ag.conv1d(x, w, b, **options), convgrad.conv1d(x, w, b, **options), rtol=1e-12, atol=1e-12
    )
    second_order(lambda x, w, b: ag.conv1d(x, w, b, **options), x, w, b)


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", ["convolve2d", "correlate2d"])
def test_convolve2d(name, mode, rng):
    x, k = rng.standard_normal((2, 6, 7)), rng.standard_normal((3, 4))
    function = getattr(ag, name)
    np.testing.assert_allclose(function(x, k, mode), getattr(convgrad, name)(x, k, mode), rtol=1e-12, atol=1e-12)
    second_order(lambda x, k: function(x, k, mode), x, k)


@pytest.mark.parametrize("mode", ["full", "valid"])
def test_convolve2d_is_what_autograd_computes(mode, rng):
    x, k = rng.standard_normal((9, 8)), rng.standard_normal((3, 3))
    ours, theirs = (
        grad(lambda x, k, f=f: anp.sum(anp.sin(f(x, k))), (0, 1))(x, k)
        for f in (lambda x, k: ag.convolve2d(x, k, mode), lambda x, k: autograd_convolve(x, k, mode=mode))
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pooling(layout, rng):
    x = rng.standard_normal((2, 3, 6, 5) if layout == "NCHW" else (2, 6, 5, 3))
    for options in ({}, dict(stride=1, padding=1), dict(stride=2, ceil_mode=True)):
        options = options | {"layout": layout}
        for name in ("max_pool2d", "avg_pool2d"):
            function = getattr(ag, name)
            np.testing.assert_array_equal(function(x, 3, **options), getattr(convgrad, name)(x, 3, **options))
            second_order(lambda x, f=function, o=options: f(x, 3, **o) ** 2, x)
    second_order(lambda x: ag.global_avg_pool2d(x, layout=layout) ** 2, x)
    with pytest.raises(TypeError, match="return_indices and out are not for differentiable calls"):
        ag.max_pool2d(x, 2, return_indices=True)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, rng):
    x = rng.standard_normal((3, 7)) * 2
    function = getattr(ag, name)
    np.testing.assert_array_equal(function(x), getattr(convgrad, name)(x))
    second_order(function, x)
    if "relu" not in name:  # the third derivative
        check_grads(elementwise_grad(elementwise_grad(function)), modes=["rev"], order=1)(x)


@pytest.mark.parametrize("name", ["leaky_relu", "elu"])
def test_activation_parameters(name, rng):
    second_order(lambda x: getattr(ag, name)(x, 0.4), rng.standard_normal(11))


@pytest.mark.parametrize("axis", [-1, 1])
def test_softmax(axis, rng):
    x = rng.standard_normal((2, 3, 4))
    np.testing.assert_array_equal(ag.softmax(x, axis), convgrad.softmax(x, axis=axis))
    second_order(lambda x: ag.softmax(x, axis), x)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_softmax_cross_entropy(reduction, rng):
    logits, labels = rng.standard_normal((5, 4)), rng.integers(4, size=5)
    probabilities = convgrad.softmax(rng.standard_normal((5, 4)))
    for target in (labels, probabilities):
        loss, gradient = convgrad.softmax_cross_entropy(logits, target, reduction=reduction)
        function = lambda z, t=target: ag.softmax_cross_entropy(z, t, reduction=reduction)
        assert function(logits) == loss
        np.testing.assert_allclose(grad(function)(logits), gradient, rtol=1e-12)
        second_order(function, logits)
    with pytest.raises(ValueError, match="reduction must be one of 'mean', 'sum'; got 'none'"):
        ag.softmax_cross_entropy(logits, labels, reduction="none")


def test_a_small_network_to_second_order(rng):
    x, labels = rng.standard_normal((2, 1, 8, 8)), np.array([0, 2])

    def loss(w, b, dense):
        h = ag.max_pool2d(ag.conv2d(x, w, b, padding=1, activation="softplus"), 2)
        return ag.softmax_cross_entropy(anp.dot(anp.reshape(h, (2, -1)), dense), labels)

    second_order(loss, rng.standard_normal((3, 1, 3, 3)), rng.standard_normal(3), rng.standard_normal((48, 3)))


def test_example_trains(capsys):
    path = Path(__file__).parents[1] / "examples" / "autograd_digits.py"
    example = runpy.run_path(str(path))
    history = example["train"](epochs=2)
    assert history[-1] > 0.85
    assert "epoch 2: loss" in capsys.readouterr().out
