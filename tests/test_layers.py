"""Layers against torch.nn with the same state dict, against central differences, and their errors."""

import numpy as np
import pytest

from convgrad import initializers
from convgrad.layers import (
    ELU,
    GELU,
    SELU,
    AvgPool2D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool2D,
    Parameter,
    ReLU,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)

ACTIVATIONS = ["sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "softplus", "silu", "gelu"]


pytestmark = pytest.mark.usefixtures("backend")


def torch_activation(name, *parameter):
    nn = pytest.importorskip("torch").nn
    kinds = dict(sigmoid=nn.Sigmoid, tanh=nn.Tanh, relu=nn.ReLU, leaky_relu=nn.LeakyReLU, elu=nn.ELU, selu=nn.SELU)
    return (kinds | dict(softplus=nn.Softplus, silu=nn.SiLU, gelu=nn.GELU))[name](*parameter)


def check_against_torch(ours, theirs, x, *, tolerance=None):
    """Copy the weights over, then compare output, input gradient and every parameter's gradient."""
    torch = pytest.importorskip("torch")
    dtype = x.dtype
    tolerance = tolerance or {"float32": 2e-5, "float64": 1e-12}[dtype.name]
    theirs = theirs.to(getattr(torch, dtype.name))
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)
    for name, array in ours.state_dict().items():
        assert array.shape == tuple(state[name].shape)
    x_torch = torch.tensor(x, requires_grad=True)
    x_before = x.copy()
    output, expected = ours(x), theirs(x_torch)
    np.testing.assert_allclose(output, expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    grad = np.random.default_rng(11).standard_normal(output.shape).astype(dtype)
    grad_before = grad.copy()
    expected.backward(torch.tensor(grad))
    grad_input = ours.backward(grad)
    assert grad_input.dtype == dtype
    np.testing.assert_allclose(grad_input, x_torch.grad.numpy(), rtol=tolerance, atol=tolerance)
    for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        scale = tolerance * max(1.0, float(other.grad.abs().max()))
        np.testing.assert_allclose(parameter.grad, other.grad.numpy(), rtol=tolerance, atol=scale, err_msg=name)
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(grad, grad_before)


def batch(shape, dtype=np.float64, seed=4):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


class TestAgainstTorch:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_small_network(self, dtype):
        nn = pytest.importorskip("torch").nn
        ours = Sequential(
            [
                Conv2D(2, 6, 3, padding=1, activation="relu", dtype=dtype),
                MaxPool2D(2),
                Conv2D(6, 8, (3, 2), stride=(1, 2), groups=2, dtype=dtype),
                Tanh(),
                AvgPool2D(2, stride=1, padding=1),
                Flatten(),
                Dense(8 * 4 * 3, 5, activation="gelu", dtype=dtype),
                Dense(5, 3, bias=False, dtype=dtype),
            ]
        )
        theirs = nn.Sequential(
            followed_by(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU()),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, (3, 2), stride=(1, 2), groups=2),
            nn.Tanh(),
            nn.AvgPool2d(2, stride=1, padding=1),
            nn.Flatten(),
            followed_by(nn.Linear(8 * 4 * 3, 5), nn.GELU()),
            nn.Linear(5, 3, bias=False),
        )
        check_against_torch(ours, theirs, batch((3, 2, 10, 9), dtype))

    @pytest.mark.parametrize(
        "options",
        [
            dict(),
            dict(stride=2, padding=(1, 0), dilation=(1, 2)),
            dict(groups=4, bias=False),
            dict(padding="same", activation="elu"),
        ],
    )
    def test_conv2d(self, options):
        torch = pytest.importorskip("torch")
        names = {name: value for name, value in options.items() if name != "activation"}
        theirs = torch.nn.Conv2d(4, 8, 3, **names)
        if "activation" in options:
            theirs = followed_by(theirs, torch.nn.ELU())
        check_against_torch(Conv2D(4, 8, 3, dtype="float64", **options), theirs, batch((2, 4, 9, 10)))

    @pytest.mark.parametrize("activation", [*ACTIVATIONS, ("leaky_relu", 0.2), ("elu", 1.5), "identity"])
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("kind", ["conv", "dense"])
    def test_fused_activation(self, activation, bias, kind):
        nn = pytest.importorskip("torch").nn
        name, *parameter = activation if isinstance(activation, tuple) else (activation,)
        f = nn.Identity() if name == "identity" else torch_activation(name, *parameter)
        options = dict(bias=bias, activation=activation, dtype="float64")
        if kind == "conv":
            check_against_torch(
                Conv2D(3, 5, 3, **options), followed_by(nn.Conv2d(3, 5, 3, bias=bias), f), batch((2, 3, 6, 7))
            )
        else:
            check_against_torch(Dense(6, 5, **options), followed_by(nn.Linear(6, 5, bias=bias), f), batch((7, 6)))

    @pytest.mark.parametrize("shape", [(6,), (2, 3, 6), (2, 1, 2, 2, 6), (0, 3, 6)])
    @pytest.mark.parametrize("activation", [None, "tanh", "gelu"])
    def test_dense_with_other_leading_axes(self, shape, activation):
        nn = pytest.importorskip("torch").nn
        f = nn.Identity() if activation is None else torch_activation(activation)
        check_against_torch(
            Dense(6, 5, activation=activation, dtype="float64"), followed_by(nn.Linear(6, 5), f), batch(shape)
        )

    @pytest.mark.parametrize(
        "layer, name, parameter",
        [
            (Sigmoid(), "sigmoid", ()),
            (Tanh(), "tanh", ()),
            (ReLU(), "relu", ()),
            (LeakyReLU(), "leaky_relu", ()),
            (LeakyReLU(0.3), "leaky_relu", (0.3,)),
            (ELU(), "elu", ()),
            (ELU(0.7), "elu", (0.7,)),
            (SELU(), "selu", ()),
            (Softplus(), "softplus", ()),
            (SiLU(), "silu", ()),
            (GELU(), "gelu", ()),
        ],
        ids=repr,
    )
    def test_activation_layers(self, layer, name, parameter):
        check_against_torch(layer, torch_activation(name, *parameter), batch((4, 3, 5, 5)) * 3)

    @pytest.mark.parametrize("axis", [-1, 1])
    def test_softmax(self, axis):
        nn = pytest.importorskip("torch").nn
        check_against_torch(Softmax(axis), nn.Softmax(axis), batch((4, 3, 5)))

    @pytest.mark.parametrize("options", [dict(), dict(stride=1, padding=1), dict(stride=3, ceil_mode=True)])
    def test_pools(self, options):
        nn = pytest.importorskip("torch").nn
        x = batch((2, 3, 8, 7))
        check_against_torch(MaxPool2D(2, **options), nn.MaxPool2d(2, **options), x)
        check_against_torch(AvgPool2D(2, **options), nn.AvgPool2d(2, **options), x)
        check_against_torch(MaxPool2D((3, 2), dilation=2), nn.MaxPool2d((3, 2), dilation=2), x)
        check_against_torch(
            AvgPool2D(3, padding=1, count_include_pad=False), nn.AvgPool2d(3, padding=1, count_include_pad=False), x
        )

    def test_default_start_has_pytorchs_bounds(self):
        for layer, fan_in in ((Conv2D(8, 64, 3, groups=2, rng=0), 36), (Dense(100, 64, rng=0), 100)):
            for parameter in (layer.weight, layer.bias):
                largest = float(np.abs(parameter.data).max()) * np.sqrt(fan_in)
                assert 0.9 < largest <= 1 + 1e-6


def followed_by(weighted, activation):
    """A torch module that applies `activation` after `weighted` and has the parameter names of `weighted` alone."""
    weighted.register_forward_hook(lambda module, inputs, output: activation(output))
    return weighted


class TestLayouts:
    def test_nhwc_network_equals_nchw_network(self):
        def make(layout):
            return Sequential(
                [
                    Conv2D(2, 6, 3, padding="same", activation="relu", layout=layout, rng=1, dtype="float64"),
                    MaxPool2D(2, layout=layout),
                    Conv2D(6, 4, 3, activation="silu", layout=layout, rng=2, dtype="float64"),
                    AvgPool2D(2, stride=1, layout=layout),
                    Flatten(layout=layout),
                    Dense(4 * 2 * 3, 3, rng=3, dtype="float64"),
                ]
            )

        channels_first, channels_last = make("NCHW"), make("NHWC")
        x, grad = batch((3, 2, 10, 12)), batch((3, 3), seed=8)
        output = channels_first(x)
        np.testing.assert_allclose(channels_last(np.ascontiguousarray(x.transpose(0, 2, 3, 1))), output, atol=1e-12)
        expected = channels_first.backward(grad)
        np.testing.assert_allclose(channels_last.backward(grad).transpose(0, 3, 1, 2), expected, atol=1e-12)
        for ours, theirs in zip(channels_last.parameters(), channels_first.parameters(), strict=True):
            np.testing.assert_allclose(ours.grad, theirs.grad, atol=1e-12)

    def test_flatten_is_in_nchw_order_and_takes_empty_batches(self):
        x = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
        np.testing.assert_array_equal(Flatten()(x), x.reshape(2, 60))
        np.testing.assert_array_equal(Flatten(layout="NHWC")(x.transpose(0, 2, 3, 1)), x.reshape(2, 60))
        assert Flatten()(x[:0]).shape == (0, 60)


class TestGradients:
    @pytest.mark.parametrize("activation", [None, "sigmoid", "elu", "softplus"])
    def test_central_differences_through_a_network(self, activation):
        model = Sequential(
            [
                Conv2D(2, 3, 2, padding=((1, 0), (0, 1)), activation=activation, rng=0, dtype="float64"),
                AvgPool2D(2),
                Flatten(),
                Dense(12, 2, activation=activation, rng=1, dtype="float64"),
            ]
        )
        x, direction = batch((2, 2, 4, 4)), batch((2, 2), seed=9)
        model(x)
        grad_x = model.backward(direction)
        step = 1e-6
        arrays = [(x, grad_x)] + [(parameter.data, parameter.grad.copy()) for parameter in model.parameters()]
        for array, grad in arrays:
            cells = array.reshape(-1)
            for i in range(cells.size):
                kept = cells[i]
                cells[i] = kept + step
                above = float(np.vdot(model(x), direction))
                cells[i] = kept - step
                below = float(np.vdot(model(x), direction))
                cells[i] = kept
                assert grad.reshape(-1)[i] == pytest.approx((above - below) / (2 * step), abs=2e-8)

    def test_gradients_are_stored_not_added(self):
        layer = Dense(4, 3, rng=0)
        x, grad = batch((5, 4), np.float32), batch((5, 3), np.float32)
        layer(x)
        layer.backward(grad)
        first = layer.weight.grad.copy()
        layer(x)
        layer.backward(grad)
        np.testing.assert_array_equal(layer.weight.grad, first)

    def test_without_input_grad_the_same_parameter_gradients_and_no_work_below_the_first_parameters(self):
        class Untouchable(Layer):
            def forward(self, x):
                return x

        def make(first):
            return Sequential(
                [first, Sequential([Conv2D(1, 2, 3, activation="relu", rng=0)]), Flatten(), Dense(32, 3, rng=1)]
            )

        x, grad = batch((2, 1, 6, 6), np.float32), batch((2, 3), np.float32)
        with_input, without = make(ReLU()), make(Untouchable())
        x = np.abs(x)
        with_input(x), without(x)
        assert with_input.backward(grad).shape == x.shape
        assert without.backward(grad, input_grad=False) is None
        for ours, theirs in zip(without.parameters(), with_input.parameters(), strict=True):
            np.testing.assert_array_equal(ours.grad, theirs.grad)
        for layer, values in ((Conv2D(1, 2, 3, rng=0), x), (Dense(6, 2, rng=0), x[0, 0])):
            output = layer(values)
            assert layer.backward(output, input_grad=False) is None
            assert layer.weight.grad.shape == layer.weight.shape

    def test_empty_batch(self):
        model = Sequential(
            [Conv2D(1, 2, 3, activation="gelu"), MaxPool2D(2), Flatten(), Dense(8, 3, activation="relu")]
        )
        output = model(np.empty((0, 1, 6, 6), np.float32))
        assert output.shape == (0, 3)
        assert model.backward(output).shape == (0, 1, 6, 6)
        assert all((parameter.grad == 0).all() for parameter in model.parameters())


class TestDropout:
    def test_training_scales_and_backward_uses_the_same_mask(self):
        layer = Dropout(0.25, rng=3)
        x = np.ones((200, 50))
        output = layer(x)
        np.testing.assert_allclose(np.unique(output), [0, 1 / 0.75])
        assert abs((output == 0).mean() - 0.25) < 0.02
        np.testing.assert_array_equal(layer.backward(x), output)
        assert not np.array_equal(layer(x), output)

    def test_evaluation_is_the_identity_both_ways(self):
        layer = Dropout(0.5, rng=3).eval()
        x = batch((4, 5))
        np.testing.assert_array_equal(layer(x), x)
        np.testing.assert_array_equal(layer.backward(x), x)

    def test_seed_and_reseed_repeat(self):
        x = np.ones((8, 8), np.float32)
        first = Dropout(0.5, rng=3)
        pattern = first(x).copy()
        np.testing.assert_array_equal(Dropout(0.5, rng=3)(x), pattern)
        first.reseed(3)
        np.testing.assert_array_equal(first(x), pattern)


class TestModesAndNames:
    def test_modes_reach_every_layer(self):
        inner = Dropout(0.5)
        model = Sequential([Dense(2, 2), Sequential([inner])])
        assert inner.training
        assert model.eval() is model
        assert not inner.training
        assert not model.training
        assert model.train() is model
        assert inner.training

    def test_names_are_pytorchs(self):
        model = Sequential([Conv2D(4, 8, 3, groups=2), ReLU(), Sequential([Flatten(), Dense(8, 2, bias=False)])])
        assert [(name, array.shape) for name, array in model.state_dict().items()] == [
            ("0.weight", (8, 2, 3, 3)),
            ("0.bias", (8,)),
            ("2.1.weight", (2, 8)),
        ]
        assert len(model) == 3
        assert [type(layer) for layer in model] == [Conv2D, ReLU, Sequential]
        assert isinstance(model[-1][1], Dense)

    def test_parameters_of_a_custom_layer_are_found(self):
        class Residual(Layer):
            def __init__(self):
                self.scale = Parameter(np.full(1, 2.0))
                self.body = Dense(3, 3, dtype="float64")

            def forward(self, x):
                self._sum = x + self.body(x)
                return self.scale.data * self._sum

            def backward(self, grad_output, *, input_grad=True):
                self.scale.grad = np.array([np.vdot(grad_output, self._sum)])
                grad = grad_output * self.scale.data
                return grad + self.body.backward(grad)

        model = Sequential([Residual()])
        assert list(model.state_dict()) == ["0.scale", "0.body.weight", "0.body.bias"]
        assert model.eval()[0].body.training is False

    def test_state_dict_holds_copies_and_loading_keeps_the_arrays(self):
        layer = Dense(2, 3)
        data = layer.weight.data
        state = layer.state_dict()
        state["weight"][...] = 7
        assert not (data == 7).any()
        assert layer.load_state_dict(state) is layer
        assert layer.weight.data is data
        assert (data == 7).all()
        state["weight"][...] = 1
        assert (data == 7).all()

    def test_initializer_and_seed(self):
        layer = Dense(50, 20, initializer=initializers.he_normal, rng=5)
        np.testing.assert_array_equal(layer.weight.data, initializers.he_normal((20, 50), rng=5))
        assert (layer.bias.data == 0).all()
        np.testing.assert_array_equal(Conv2D(2, 3, 3, rng=5).weight.data, Conv2D(2, 3, 3, rng=5).weight.data)

    def test_descriptions(self):
        conv = Conv2D(4, 8, 3, stride=2, padding="same", groups=2, bias=False, activation=("elu", 0.5))
        assert repr(conv) == (
            "Conv2D(4, 8, (3, 3), stride=(2, 2), padding='same', groups=2, bias=False, activation=('elu', 0.5))"
        )
        assert repr(Sequential([Dense(3, 2, activation="relu"), Sequential([LeakyReLU(0.1)])])) == (
            "Sequential([\n  Dense(3, 2, activation='relu'),\n  Sequential([\n    LeakyReLU(0.1),\n  ]),\n])"
        )
        assert repr(MaxPool2D(2)).startswith("MaxPool2D(2, stride=None, padding=0")

    def test_parameter_reads_as_an_array(self):
        parameter = Dense(2, 3, rng=0).weight
        np.testing.assert_array_equal(np.asarray(parameter), parameter.data)
        assert (parameter.shape, parameter.size, parameter.dtype) == ((3, 2), 6, np.float32)


class TestErrors:
    def test_shape_mismatch_names_layer_and_shapes(self):
        model = Sequential([Conv2D(1, 4, 3), Flatten(), Dense(100, 10)])
        with pytest.raises(ValueError, match=r"layer 2, Dense\(100, 10\), given x \(2, 64\): linear: .*64"):
            model(np.zeros((2, 1, 6, 6), np.float32))
        with pytest.raises(ValueError, match=r"layer 0, Conv2D\(1, 4, \(3, 3\)\), given x \(2, 3, 6, 6\): conv2d: .*3"):
            model(np.zeros((2, 3, 6, 6), np.float32))
        with pytest.raises(TypeError, match=r"layer 0, Conv2D.*given x \(2, 1, 6, 6\): conv2d: x is float64"):
            model(np.zeros((2, 1, 6, 6)))

    def test_nested_places_are_named_outside_in(self):
        model = Sequential([ReLU(), Sequential([ReLU(), Dense(3, 2)])])
        with pytest.raises(
            ValueError, match=r"^layer 1, Sequential, given x \(5, 4\): layer 1, Dense\(3, 2\), given x"
        ):
            model(np.zeros((5, 4), np.float32))

    def test_wrong_grad_output_names_the_layer(self):
        model = Sequential([Dense(3, 2), ReLU()])
        model(np.zeros((5, 3), np.float32))
        with pytest.raises(ValueError, match=r"layer 1, ReLU\(\), given grad_output \(5, 3\): relu_backward"):
            model.backward(np.zeros((5, 3), np.float32))

    @pytest.mark.parametrize("shape", [(3, 2, 5), (6, 5), (2, 3, 4), (2, 3, 10)])
    def test_dense_with_leading_axes_checks_grad_output(self, shape):
        layer = Dense(6, 5, activation="tanh", dtype="float64")
        layer(batch((2, 3, 6)))
        with pytest.raises(ValueError, match=r"Dense.backward: .*but the output had \(2, 3, 5\)"):
            layer.backward(np.zeros(shape))

    @pytest.mark.parametrize(
        "layer",
        [Conv2D(1, 1, 1), Dense(1, 1), MaxPool2D(2), AvgPool2D(2), ReLU(), GELU(), Softmax(), Flatten(), Dropout(0.5)],
    )
    def test_backward_before_forward(self, layer):
        with pytest.raises(RuntimeError, match=f"{type(layer).__name__}.backward: call forward first"):
            layer.backward(np.zeros((1, 1), np.float32))

    def test_same_layer_twice(self):
        layer = ReLU()
        with pytest.raises(ValueError, match=r"Sequential: ReLU\(\) stands at positions 0 and 2"):
            Sequential([layer, Tanh(), Sequential([layer])])

    @pytest.mark.parametrize(
        "make, error, message",
        [
            (lambda: Conv2D(0, 1, 3), ValueError, "Conv2D: in_channels must be at least 1, got 0"),
            (
                lambda: Conv2D(3, 4, 3, groups=2),
                ValueError,
                "Conv2D: groups=2 must divide in_channels=3 and out_channels=4",
            ),
            (lambda: Conv2D(1, 1, (3, 3, 3)), ValueError, "Conv2D: kernel_size must be an integer or a pair"),
            (lambda: Conv2D(1, 1, 3, padding="some"), ValueError, "Conv2D: padding .*'some'"),
            (lambda: Conv2D(1, 1, 3, padding=-1), ValueError, "Conv2D: padding .*-1"),
            (lambda: Conv2D(1, 1, 3, layout="NWHC"), ValueError, "Conv2D: layout must be one of 'NCHW', 'NHWC'"),
            (lambda: Conv2D(1, 1, 3, dtype="float16"), TypeError, "dtype must be float32 or float64, got float16"),
            (lambda: Dense(1, 1, activation="rleu"), ValueError, "Dense: unknown activation 'rleu'"),
            (
                lambda: Dense(1, 1, activation=("leaky_relu", -1)),
                ValueError,
                "Dense: parameter of 'leaky_relu' must be at least 0",
            ),
            (
                lambda: Dense(1, 1, rng="x"),
                TypeError,
                "Dense: rng must be a numpy.random.Generator, an integer seed or None",
            ),
            (lambda: LeakyReLU(-0.1), ValueError, "LeakyReLU: negative_slope must be at least 0"),
            (lambda: ELU(float("nan")), ValueError, "ELU: alpha must be finite, got nan"),
            (lambda: Dropout(1.5), ValueError, "Dropout: p must be"),
            (lambda: Flatten(layout="CHWN"), ValueError, "Flatten: layout must be one of"),
            (lambda: Sequential([ReLU]), TypeError, "Sequential: entry 0 must be a Layer, got type"),
            (lambda: Flatten()(np.zeros(3)), ValueError, r"Flatten: expected x with at least two axes .*got \(3,\)"),
            (lambda: Flatten(layout="NHWC")(np.zeros((2, 3))), ValueError, r"Flatten: expected x with \(N, H, W, C\)"),
            (
                lambda: Dense(1, 1).load_state_dict([1]),
                TypeError,
                "load_state_dict: state must map names to arrays, got list",
            ),
        ],
    )
    def test_options(self, make, error, message):
        with pytest.raises(error, match=message):
            make()
