"""Transposed, unshared, subsampling, normalising and gain layers: against torch.nn, explicit sums and differences."""

import copy
import pickle

import numpy as np
import pytest

import convgrad
from convgrad import initializers
from convgrad.layers import (
    AlphaDropout,
    BatchNorm,
    Conv2D,
    Conv2DTranspose,
    Dense,
    GlobalAvgPool2D,
    GlobalMaxPool2D,
    LayerNorm,
    LocallyConnected2D,
    Reshape,
    Sequential,
    Subsample2D,
)

pytestmark = pytest.mark.usefixtures("backend")


def batch(shape, dtype=np.float64, seed=4):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check_against_torch(ours, theirs, x):
    """Copy the state over, then compare output, gradients and the state after the step."""
    torch = pytest.importorskip("torch")
    theirs = theirs.to(torch.float64)
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: tuple(value.shape) for name, value in theirs.state_dict().items()
    }
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x_torch = torch.tensor(x, requires_grad=True)
    output, expected = ours(x), theirs(x_torch)
    np.testing.assert_allclose(output, expected.detach().numpy(), atol=1e-12)
    grad = batch(output.shape, seed=11)
    expected.backward(torch.tensor(grad))
    np.testing.assert_allclose(ours.backward(grad), x_torch.grad.numpy(), atol=1e-12)
    for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(parameter.grad, other.grad.numpy(), rtol=1e-12, atol=1e-11, err_msg=name)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name], value.numpy(), atol=1e-12, err_msg=name)


def check_differences(layer, x, step=1e-6):
    """Central differences by x and every parameter, in float64."""
    direction = batch(layer(x).shape, seed=9)
    layer(x)
    grad_x = layer.backward(direction)
    for array, grad in [(x, grad_x)] + [(p.data, p.grad.copy()) for p in layer.parameters()]:
        cells = array.reshape(-1)
        for i in range(0, cells.size, max(1, cells.size // 60)):
            kept = cells[i]
            cells[i] = kept + step
            above = float(np.vdot(layer(x), direction))
            cells[i] = kept - step
            below = float(np.vdot(layer(x), direction))
            cells[i] = kept
            assert grad.reshape(-1)[i] == pytest.approx((above - below) / (2 * step), abs=3e-8)


class TestTransposed:
    @pytest.mark.parametrize(
        "options",
        [
            dict(),
            dict(stride=2, padding=1, output_padding=1),
            dict(groups=2, dilation=2, bias=False),
            dict(stride=(2, 1)),
        ],
    )
    def test_is_pytorchs(self, options):
        nn = pytest.importorskip("torch").nn
        ours = Conv2DTranspose(4, 6, 3, dtype="float64", **options)
        check_against_torch(ours, nn.ConvTranspose2d(4, 6, 3, **options), batch((2, 4, 5, 6)))

    @pytest.mark.parametrize("activation", ["relu", "gelu", None])
    @pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
    def test_differences(self, activation, layout):
        layer = Conv2DTranspose(2, 3, 4, stride=2, padding=1, activation=activation, layout=layout, dtype="float64")
        check_differences(layer, batch((2, 2, 3, 3) if layout == "NCHW" else (2, 3, 3, 2)))

    def test_initializer_draws_as_for_the_convolution_that_reads_the_same_window(self):
        layer = Conv2DTranspose(6, 4, 3, groups=2, initializer=initializers.he_normal, rng=3)
        drawn = initializers.he_normal((4, 3, 3, 3), rng=3)
        np.testing.assert_array_equal(layer.weight.data[1, 0], drawn[0, 1])
        np.testing.assert_array_equal(layer.weight.data[3 + 2, 1], drawn[3, 2])
        assert not layer.bias.data.any()

    def test_errors_and_description(self):
        with pytest.raises(ValueError, match="Conv2DTranspose: groups=2 must divide in_channels=3"):
            Conv2DTranspose(3, 4, 3, groups=2)
        assert repr(Conv2DTranspose(3, 4, 4, stride=2, padding=1, activation="relu")) == (
            "Conv2DTranspose(3, 4, (4, 4), stride=(2, 2), padding=1, activation='relu')"
        )


class TestLocallyConnected:
    def test_with_equal_weights_it_is_a_convolution(self):
        layer = LocallyConnected2D(2, 3, (6, 5), 3, stride=(1, 2), activation="tanh", rng=0, dtype="float64")
        conv = Conv2D(2, 3, 3, stride=(1, 2), activation="tanh", rng=1, dtype="float64")
        layer.weight.data[...] = conv.weight.data
        layer.bias.data[...] = conv.bias.data
        x = batch((4, 2, 6, 5))
        np.testing.assert_allclose(layer(x), conv(x), atol=1e-12)
        grad = batch((4, 3, 4, 2))
        np.testing.assert_allclose(layer.backward(grad), conv.backward(grad), atol=1e-12)
        np.testing.assert_allclose(layer.weight.grad.sum(axis=(0, 1)), conv.weight.grad, atol=1e-12)
        np.testing.assert_allclose(layer.bias.grad.sum(axis=(0, 1)), conv.bias.grad, atol=1e-12)

    @pytest.mark.parametrize("activation", [None, "relu", ("elu", 0.5), "silu"])
    @pytest.mark.parametrize("options", [dict(), dict(bias=False), dict(layout="NHWC")])
    def test_differences(self, activation, options):
        layer = LocallyConnected2D(2, 2, 4, (2, 3), activation=activation, rng=0, dtype="float64", **options)
        check_differences(layer, batch((2, 4, 4, 2) if options.get("layout") else (2, 2, 4, 4)))

    def test_start_spread_is_that_of_one_window(self):
        layer = LocallyConnected2D(4, 8, 12, 5, initializer=initializers.lecun_normal, rng=0)
        assert layer.weight.data.std() == pytest.approx(0.1, rel=0.02)
        assert not layer.bias.data.any()

    def test_errors(self):
        with pytest.raises(ValueError, match=r"kernel_size=\(5, 5\) is larger than input_size=\(4, 6\)"):
            LocallyConnected2D(1, 1, (4, 6), 5)
        model = Sequential([LocallyConnected2D(1, 2, 4, 3)])
        with pytest.raises(ValueError, match=r"layer 0, LocallyConnected2D\(1, 2, \(4, 4\), \(3, 3\)\), given x"):
            model(np.zeros((1, 1, 5, 5), np.float32))


class TestGain:
    @pytest.mark.parametrize("activation", [None, "sigmoid", "gelu"])
    @pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
    def test_is_outside_the_activation(self, activation, layout):
        options = dict(activation=activation, layout=layout, dtype="float64")
        layer, plain = Conv2D(2, 3, 3, gain=True, rng=0, **options), Conv2D(2, 3, 3, rng=0, **options)
        x = batch((2, 2, 5, 5) if layout == "NCHW" else (2, 5, 5, 2))
        np.testing.assert_allclose(layer(x), plain(x), atol=1e-14)
        layer.gain.data[...] = [2, -1, 0.5]
        factor = np.array([2, -1, 0.5]).reshape((3, 1, 1) if layout == "NCHW" else (3,))
        np.testing.assert_allclose(layer(x), factor * plain(x), atol=1e-14)
        check_differences(layer, x)
        assert list(layer.state_dict()) == ["weight", "bias", "gain"]
        assert repr(layer).endswith("gain=True)")

    def test_without_input_gradient_the_parameters_have_theirs(self):
        layer = Conv2D(1, 2, 3, gain=True, activation="relu", rng=0)
        grad = np.ones_like(layer(np.ones((1, 1, 4, 4), np.float32)))
        assert layer.backward(grad, input_grad=False) is None
        assert all(parameter.grad is not None for parameter in layer.parameters())


class TestSubsample:
    @pytest.mark.parametrize("options", [dict(), dict(stride=1, padding=1), dict(layout="NHWC")])
    def test_differences(self, options):
        layer = Subsample2D(3, 2, dtype="float64", **options)
        layer.weight.data[...], layer.bias.data[...] = [1, 2, -1], [0, 1, 3]
        check_differences(layer, batch((2, 4, 4, 3) if options.get("layout") else (2, 3, 4, 4)))

    def test_starts_as_average_pooling(self):
        x = batch((2, 3, 4, 6), np.float32)
        layer = Subsample2D(3, 2)
        np.testing.assert_allclose(layer(x), convgrad.avg_pool2d(x, 2), atol=1e-7)
        assert layer.backward(layer(x), input_grad=False) is None
        assert repr(layer).startswith("Subsample2D(3, 2, stride=None")


class TestGlobalPools:
    def test_are_pytorchs(self):
        nn = pytest.importorskip("torch").nn
        x = batch((3, 4, 5, 6))
        check_against_torch(GlobalAvgPool2D(), nn.AdaptiveAvgPool2d(1), x)
        check_against_torch(GlobalMaxPool2D(), nn.AdaptiveMaxPool2d(1), x)


class TestNorms:
    @pytest.mark.parametrize("shape", [(6, 3), (4, 3, 2, 5)])
    @pytest.mark.parametrize("training", [True, False])
    def test_batch_norm_is_pytorchs(self, shape, training):
        nn = pytest.importorskip("torch").nn
        theirs = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(3, momentum=0.3)
        theirs.running_mean += 0.5
        theirs.running_var *= 2
        theirs.train(training)
        ours = BatchNorm(3, momentum=0.3, dtype="float64").train(training)
        check_against_torch(ours, theirs, batch(shape))

    def test_batch_norm_state_is_trained_by_nobody_and_moves_with_the_weights(self):
        model = Sequential([Dense(2, 3, rng=0), BatchNorm(3), Dense(3, 1, rng=0)])
        assert list(model.state_dict()) == [
            "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked",
            "2.weight", "2.bias",
        ]  # fmt: skip
        assert len(model.parameters()) == 6
        model(batch((5, 2), np.float32))
        assert model.state_dict()["1.num_batches_tracked"] == 1
        other = Sequential([Dense(2, 3), BatchNorm(3), Dense(3, 1)]).load_state_dict(model.state_dict()).eval()
        x = batch((4, 2), np.float32)
        np.testing.assert_array_equal(other(x), model.eval()(x))
        assert other.state_dict()["1.num_batches_tracked"] == 1
        state = model.state_dict()
        state["1.num_batches_tracked"] = np.float32(1)
        with pytest.raises(ValueError, match="wrong dtype: 1.num_batches_tracked is float32 but the model holds int64"):
            other.load_state_dict(state)

    def test_layer_norm_is_pytorchs(self):
        nn = pytest.importorskip("torch").nn
        check_against_torch(LayerNorm(5, dtype="float64"), nn.LayerNorm(5), batch((3, 2, 5)))
        check_against_torch(LayerNorm((2, 5), dtype="float64"), nn.LayerNorm((2, 5)), batch((3, 2, 5)))
        check_against_torch(LayerNorm(5, affine=False), nn.LayerNorm(5, elementwise_affine=False), batch((3, 5)))

    def test_without_affine(self):
        nn = pytest.importorskip("torch").nn
        check_against_torch(BatchNorm(3, affine=False, dtype="float64"), nn.BatchNorm1d(3, affine=False), batch((6, 3)))

    def test_errors_and_descriptions(self):
        with pytest.raises(ValueError, match=r"the last axes of x must be \(4,\), got x \(2, 3\)"):
            LayerNorm(4)(np.zeros((2, 3), np.float32))
        with pytest.raises(ValueError, match="shape must name one or more axes, one without affine"):
            LayerNorm((2, 3), affine=False)
        with pytest.raises(TypeError, match="BatchNorm: dtype must be float32 or float64, got int64"):
            BatchNorm(3, dtype=np.int64)
        assert repr(BatchNorm(3, momentum=0.2)) == "BatchNorm(3, momentum=0.2)"
        assert repr(LayerNorm(3, affine=False)) == "LayerNorm((3,), affine=False)"


class TestAlphaDropout:
    def test_keeps_mean_and_variance_and_uses_the_mask_backward(self):
        layer = AlphaDropout(0.2, rng=1)
        x = batch((300, 300))
        y = layer(x)
        assert abs(y.mean()) < 0.02
        assert abs(y.var() - 1) < 0.02
        grad = layer.backward(np.ones_like(x))
        assert abs((grad == 0).mean() - 0.2) < 0.01
        assert len(np.unique(y[grad == 0])) == 1
        assert layer.eval()(x).tobytes() == x.tobytes()
        assert repr(layer) == "AlphaDropout(0.2)"
        with pytest.raises(ValueError, match="AlphaDropout: p must be at least 0"):
            AlphaDropout(-1)


class TestReshape:
    def test_both_ways_and_errors(self):
        layer = Reshape((2, 3))
        x = batch((4, 6))
        assert layer(x).shape == (4, 2, 3)
        np.testing.assert_array_equal(layer.backward(layer(x)), x)
        with pytest.raises(ValueError, match=r"sample of shape \(2, 3\) has 6 values, got x \(4, 5\)"):
            layer(batch((4, 5)))
        with pytest.raises(ValueError, match=r"grad_output has shape \(4, 6\), expected \(4, 2, 3\)"):
            layer.backward(x)


class TestEvaluationMode:
    def test_weights_are_read_only_until_train(self):
        model = Sequential([Conv2D(1, 2, 3, rng=0), Sequential([Dense(4, 2, rng=0)])])
        arrays = [parameter.data for parameter in model.parameters()]
        model.eval().eval()
        for array in arrays:
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
        model.train()
        for array in arrays:
            array[...] = 0

    def test_what_was_read_only_before_stays_so(self):
        layer = Dense(2, 2, rng=0)
        layer.weight.data.flags.writeable = False
        layer.eval().train()
        assert not layer.weight.data.flags.writeable
        assert layer.bias.data.flags.writeable

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize(
        "options", [dict(), dict(groups=2, stride=2, bias=False), dict(layout="NHWC", gain=True), dict(padding="same")]
    )
    @pytest.mark.parametrize("activation", [None, "relu", "gelu", ("elu", 0.5)])
    def test_packed_weights_give_the_same_bits_both_ways(self, dtype, options, activation):
        layer = Conv2D(16, 32, 3, activation=activation, rng=0, dtype=dtype, **options)
        for size in (9, 12):
            x = batch((2, size, size, 16) if options.get("layout") else (2, 16, size, size), dtype)
            expected = layer.train()(x)
            grad = batch(expected.shape, dtype, seed=8)
            expected_grads = [layer.backward(grad), *(p.grad for p in layer.parameters())]
            for _ in range(2):
                np.testing.assert_array_equal(layer.eval()(x), expected)
            assert len(layer._packs) == 1
            for ours, theirs in zip(
                [layer.backward(grad), *(p.grad for p in layer.parameters())], expected_grads, strict=True
            ):
                np.testing.assert_array_equal(ours, theirs)

    def test_packed_weights_are_used_and_dropped(self, monkeypatch):
        layer = Conv2D(8, 8, 3, rng=0).eval()
        x = batch((2, 8, 6, 6), "float32")
        layer(x), layer(x[:1])
        assert len(layer._packs) == 1
        for size in range(4, 12):
            layer(batch((1, 8, size, size), "float32"))
            assert len(layer._packs) <= 4
        before = layer(x)
        state = {name: 2 * array for name, array in layer.state_dict().items()}
        layer.load_state_dict(state)
        assert not layer._packs
        assert not layer.weight.data.flags.writeable
        np.testing.assert_allclose(layer(x), 2 * before, rtol=1e-5)
        layer.train()
        assert not layer._packs
        layer.weight.data[...] = 0
        layer.bias.data[...] = 3
        np.testing.assert_array_equal(layer.eval()(x), np.full((2, 8, 4, 4), 3, np.float32))
        with convgrad.precision("strict"):
            layer(x)
        assert len(layer._packs) == 2

    def test_copies_and_pickles_go_without_them(self):
        layer = Conv2D(8, 8, 3, rng=0).eval()
        x = batch((1, 8, 6, 6), "float32")
        expected = layer(x)
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert not other._packs
            np.testing.assert_array_equal(other(x), expected)
            assert not other.weight.data.flags.writeable
            other.train().weight.data[...] = 0
        np.testing.assert_array_equal(layer(x), expected)

    def test_other_arrays_put_in_place_are_noticed(self):
        layer = Conv2D(8, 8, 3, rng=0, bias=False).eval()
        x = batch((1, 8, 6, 6), "float32")
        layer(x)
        layer.weight.data = np.zeros_like(layer.weight.data)
        assert not layer(x).any()

    def test_errors_are_those_of_conv2d(self):
        layer = Conv2D(8, 8, 3, rng=0).eval()
        layer(batch((1, 8, 6, 6), "float32"))
        with pytest.raises(TypeError, match="conv2d: x is float64 and weight is float32"):
            layer(batch((1, 8, 6, 6)))
        with pytest.raises(ValueError, match="^conv2d: .*8"):
            layer(batch((1, 7, 6, 6), "float32"))
        with pytest.raises(ValueError, match="^conv2d: "):
            layer(batch((1, 8, 2, 2), "float32"))
