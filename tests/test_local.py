"""Locally connected layers: against PyTorch, the definition, central differences and the NumPy twin."""

import numpy as np
import pytest
from pool_cases import DTYPES, LAYOUTS, as_layout, from_layout

import convgrad
from convgrad import functional, reference
from convgrad._native import runtime

CASES = [
    # x (N, C, H, W), K, kernel, stride
    ((2, 3, 8, 9), 4, (3, 3), (1, 1)),
    ((1, 1, 5, 5), 1, (5, 5), (1, 1)),
    ((5, 6, 6, 7), 3, (2, 3), (2, 2)),
    ((3, 16, 5, 4), 17, (1, 1), (1, 1)),
    ((9, 2, 9, 9), 5, (3, 2), (3, 1)),
    ((70, 5, 4, 5), 2, (3, 3), (1, 2)),
    ((4, 33, 3, 4), 9, (3, 3), (1, 1)),
    ((1, 4, 4, 30), 6, (1, 19), (1, 3)),
    ((300, 1, 3, 3), 1, (2, 2), (1, 1)),
]


def arrays(case, dtype, rng):
    """x (N, C, H, W), weight and bias with terms of at most 1."""
    shape, out_channels, kernel, stride = case
    sizes = tuple((shape[2 + axis] - kernel[axis]) // stride[axis] + 1 for axis in range(2))
    x = rng.uniform(-1, 1, shape).astype(dtype)
    weight = rng.uniform(-1, 1, (*sizes, out_channels, shape[1], *kernel)).astype(dtype)
    bias = rng.uniform(-1, 1, (*sizes, out_channels)).astype(dtype)
    return x, weight, bias


def patches(x, kernel, stride):
    """(OH, OW, N, C, R, S): what each output pixel sees."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))
    return windows[:, :, :: stride[0], :: stride[1]].transpose(2, 3, 0, 1, 4, 5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_pixel_has_its_own_weights(case, layout, dtype, backend, rng, check_close):
    x, weight, bias = arrays(case, dtype, rng)
    seen = patches(x, *case[2:]).astype(np.float64)
    expected = np.einsum("ijncrs,ijkcrs->nkij", seen, weight.astype(np.float64))
    length = weight[0, 0, 0].size
    y = functional.locally_connected2d(as_layout(x, layout), weight, stride=case[3], layout=layout)
    check_close(from_layout(y, layout), expected, length)
    y = functional.locally_connected2d(as_layout(x, layout), weight, bias, stride=case[3], layout=layout)
    check_close(from_layout(y, layout), expected + bias.transpose(2, 0, 1), length)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients(case, layout, dtype, backend, rng, check_close):
    x, weight, _ = arrays(case, dtype, rng)
    (batch, *_), out_channels, kernel, stride = case
    grads = rng.uniform(-1, 1, (batch, out_channels, *weight.shape[:2])).astype(dtype)
    wide, wide_grads = x.astype(np.float64), grads.astype(np.float64)
    expected_weight = np.einsum("nkij,ijncrs->ijkcrs", wide_grads, patches(wide, kernel, stride))
    per_patch = np.einsum("nkij,ijkcrs->ijncrs", wide_grads, weight.astype(np.float64))
    expected_x = np.zeros(x.shape)
    for i, j in np.ndindex(weight.shape[:2]):
        h, w = i * stride[0], j * stride[1]
        expected_x[:, :, h : h + kernel[0], w : w + kernel[1]] += per_patch[i, j]
    expected_bias = wide_grads.sum(axis=0).transpose(1, 2, 0)

    grad_x, grad_weight, grad_bias = functional.locally_connected2d_backward(
        as_layout(grads, layout), as_layout(x, layout), weight, stride=stride, layout=layout
    )
    check_close(from_layout(grad_x, layout), expected_x, out_channels * kernel[0] * kernel[1])
    check_close(grad_weight, expected_weight, batch)
    check_close(grad_bias, expected_bias, batch)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_are_central_differences(layout, backend, rng):
    x, weight, bias = arrays(((2, 2, 4, 5), 2, (2, 3), (1, 2)), np.float64, rng)
    x = as_layout(x, layout)
    direction = rng.standard_normal(functional.locally_connected2d(x, weight, stride=(1, 2), layout=layout).shape)
    grads = functional.locally_connected2d_backward(direction, x, weight, stride=(1, 2), layout=layout)
    inputs = [x, weight, bias]
    for which, grad in enumerate(grads):
        for at in np.ndindex(grad.shape):
            values = []
            for step in (1e-5, -1e-5):
                moved = [array.copy() for array in inputs]
                moved[which][at] += step
                values.append((functional.locally_connected2d(*moved, stride=(1, 2), layout=layout) * direction).sum())
            assert (values[0] - values[1]) / 2e-5 == pytest.approx(grad[at], rel=1e-7, abs=1e-8)


def test_against_torch(backend, rng, check_close):
    torch = pytest.importorskip("torch")
    x, weight, bias = arrays(((3, 4, 7, 8), 5, (3, 2), (2, 1)), np.float32, rng)
    tensors = [torch.from_numpy(array.copy()).requires_grad_() for array in (x, weight, bias)]
    columns = torch.nn.functional.unfold(tensors[0], (3, 2), stride=(2, 1))  # (N, C * R * S, OH * OW)
    flat = tensors[1].reshape(-1, 5, 24)
    y_torch = torch.einsum("ncp,pkc->nkp", columns, flat) + tensors[2].reshape(-1, 5).T
    grad_output = rng.uniform(-1, 1, (3, 5, 3, 7)).astype(np.float32)
    y_torch.backward(torch.from_numpy(grad_output.reshape(3, 5, 21)))
    y = functional.locally_connected2d(x, weight, bias, stride=(2, 1))
    check_close(y, y_torch.detach().numpy().reshape(y.shape), 24)
    grads = functional.locally_connected2d_backward(grad_output, x, weight, stride=(2, 1))
    for grad, tensor in zip(grads, tensors, strict=True):
        check_close(grad, tensor.grad.numpy(), 40)


def test_equal_weights_everywhere_are_a_convolution(backend, rng, check_close):
    x = rng.uniform(-1, 1, (2, 3, 9, 8)).astype(np.float32)
    weight = rng.uniform(-1, 1, (4, 3, 3, 3)).astype(np.float32)
    everywhere = np.broadcast_to(weight, (7, 6, *weight.shape))
    check_close(functional.locally_connected2d(x, everywhere), functional.conv2d(x, weight), 27)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", ["relu", "sigmoid", ("leaky_relu", 0.3), ("elu", 0.5), "gelu"])
def test_activation(activation, layout, backend, rng, check_close):
    x, weight, bias = arrays(CASES[0], np.float32, rng)
    x = as_layout(x, layout)
    plain = functional.locally_connected2d(x, weight, bias, layout=layout)
    name, *parameter = (activation,) if isinstance(activation, str) else activation
    expected = getattr(functional, name)(plain.astype(np.float64), *parameter)
    check_close(functional.locally_connected2d(x, weight, bias, activation=activation, layout=layout), expected, 27)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_what_is_wanted(layout, backend, rng):
    x, weight, _ = arrays(CASES[0], np.float32, rng)
    x = as_layout(x, layout)
    grad_output = functional.locally_connected2d(x, weight, layout=layout)
    everything = functional.locally_connected2d_backward(grad_output, x, weight, layout=layout)
    for wanted in np.ndindex(2, 2, 2):
        flags = dict(zip(("input_grad", "weight_grad", "bias"), map(bool, wanted), strict=True))
        some = functional.locally_connected2d_backward(grad_output, x, weight, layout=layout, **flags)
        for flag, got, expected in zip(wanted, some, everything, strict=True):
            if flag:
                np.testing.assert_array_equal(got, expected)
            else:
                assert got is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_out(layout, backend, rng):
    x, weight, bias = arrays(CASES[0], np.float32, rng)
    x = as_layout(x, layout)
    y = functional.locally_connected2d(x, weight, bias, layout=layout)
    strided = np.full((*y.shape[:3], 2 * y.shape[3]), np.nan, np.float32)[..., ::2]
    for out in (np.full(y.shape, np.nan, np.float32), strided):
        assert functional.locally_connected2d(x, weight, bias, layout=layout, out=out) is out
        np.testing.assert_array_equal(out, y)
    grads = functional.locally_connected2d_backward(y, x, weight, layout=layout)
    outs = tuple(np.full(grad.shape, np.nan, np.float32) for grad in grads)
    results = functional.locally_connected2d_backward(y, x, weight, layout=layout, out=outs)
    for result, out, grad in zip(results, outs, grads, strict=True):
        assert result is out
        np.testing.assert_array_equal(out, grad)
    inputs = x.copy(), weight.copy()  # results in place of what they are made from
    results = functional.locally_connected2d_backward(y, *inputs, layout=layout, out=(*inputs, None))
    for result, grad in zip(results, grads, strict=True):
        np.testing.assert_array_equal(result, grad)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty_batch(layout, backend):
    x = np.empty((0, 4, 5, 6), np.float32)
    channels = 4 if layout == "NCHW" else 6
    sizes = (5, 6) if layout == "NCHW" else (4, 5)
    weight = np.ones((sizes[0] - 1, sizes[1] - 1, 3, channels, 2, 2), np.float32)
    y = functional.locally_connected2d(x, weight, layout=layout)
    assert y.shape == ((0, 3, 4, 5) if layout == "NCHW" else (0, 3, 4, 3))
    grad_x, grad_weight, grad_bias = functional.locally_connected2d_backward(y, x, weight, layout=layout)
    assert grad_x.shape == x.shape
    np.testing.assert_array_equal(grad_weight, 0 * weight)
    np.testing.assert_array_equal(grad_bias, np.zeros(weight.shape[:3], np.float32))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_threads_and_batch_change_nothing(layout, rng):
    x, weight, bias = arrays(((37, 12, 9, 10), 7, (3, 3), (1, 1)), np.float32, rng)
    x = as_layout(x, layout)

    def compute(x):
        y = functional.locally_connected2d(x, weight, bias, layout=layout)
        return [y, *functional.locally_connected2d_backward(y, x, weight, layout=layout)]

    with convgrad.threads(1):
        alone = compute(x)
    with convgrad.threads(5):
        together = compute(x)
    for one, many in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, many)
    for sample in (0, 36):
        one = compute(x[sample : sample + 1])
        np.testing.assert_array_equal(one[0][0], alone[0][sample])
        np.testing.assert_array_equal(one[1][0], alone[1][sample])


def test_any_strides_and_read_only(backend, rng):
    x, weight, bias = arrays(CASES[0], np.float64, rng)
    y = functional.locally_connected2d(x, weight, bias)
    grads = functional.locally_connected2d_backward(y, x, weight)
    odd = [np.asfortranarray(array) for array in (x, weight, bias)]
    for array in odd:
        array.flags.writeable = False
    np.testing.assert_array_equal(functional.locally_connected2d(*odd), y)
    for got, expected in zip(
        functional.locally_connected2d_backward(np.asfortranarray(y), *odd[:2]), grads, strict=True
    ):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_native_kernels_are_reached(dtype):
    x, weight = np.ones((1, 1, 3, 3), dtype), np.ones((2, 2, 1, 1, 2, 2), dtype)
    names = ("locally_connected2d", "locally_connected2d_grad_weight", "locally_connected2d_grad_input")
    entries = [(name, np.dtype(dtype).name) for name in names]
    before = [runtime.kernel_calls()[entry] for entry in entries]
    y = functional.locally_connected2d(x, weight)
    functional.locally_connected2d_backward(y, x, weight)
    assert [runtime.kernel_calls()[entry] for entry in entries] == [count + 1 for count in before]
    reference.locally_connected2d_backward(reference.locally_connected2d(x, weight), x, weight)
    assert [runtime.kernel_calls()[entry] for entry in entries] == [count + 1 for count in before]
