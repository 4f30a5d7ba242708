"""Gradients of convolutions: against autograd, the NumPy twin, central differences and the adjoint identity."""

import numpy as np
import pytest
from conv_cases import CASES, DTYPES, LAYOUTS, Case, arrays, gradient, laid_out, torch_answer

from convgrad import functional, reference

torch = pytest.importorskip("torch")

CHANNELS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33)
WIDTHS = (7, 8, 9, 14, 15, 16, 17, 31, 33)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_equal_torch(backend, case, layout, dtype, check_close):
    x, weight, _ = arrays(case, dtype)
    x, grad = laid_out(x, layout), laid_out(gradient(case, dtype), layout)
    answer = torch_answer(case)
    options = dict(case.options, layout=layout)

    out = np.full(x.shape, np.nan, dtype)
    result = functional.conv2d_grad_input(grad, weight, x.shape, out=out, **options)
    assert result is out
    check_close(result, laid_out(answer["grad_input"], layout), case.length, "grad_input")

    out = np.full(weight.shape, np.nan, dtype)
    result = functional.conv2d_grad_weight(grad, x, case.kernel, out=out, **options)
    assert result is out
    check_close(result, answer["grad_weight"], case.length, "grad_weight")

    out = np.full(case.out_channels, np.nan, dtype)
    result = functional.conv2d_grad_bias(grad, layout=layout, out=out)
    assert result is out
    check_close(result, answer["grad_bias"], case.length, "grad_bias")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES[::5], ids=str)
def test_backward_returns_what_the_three_functions_return(backend, case, layout):
    x, weight, _ = arrays(case, np.float32)
    x, grad = laid_out(x, layout), laid_out(gradient(case, np.float32), layout)
    options = dict(case.options, layout=layout)
    outs = tuple(np.full(shape, np.nan, np.float32) for shape in (x.shape, weight.shape, (case.out_channels,)))
    results = functional.conv2d_backward(grad, x, weight, out=outs, **options)
    assert all(result is out for result, out in zip(results, outs, strict=True))
    np.testing.assert_array_equal(results[0], functional.conv2d_grad_input(grad, weight, x.shape, **options))
    np.testing.assert_array_equal(results[1], functional.conv2d_grad_weight(grad, x, case.kernel, **options))
    np.testing.assert_array_equal(results[2], functional.conv2d_grad_bias(grad, layout=layout))


@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 0, 0)])
def test_backward_leaves_out_what_is_not_wanted(backend, wanted, rng):
    x, weight, grad = (
        rng.uniform(-1, 1, (2, 3, 6, 6)),
        rng.uniform(-1, 1, (4, 3, 3, 3)),
        rng.uniform(-1, 1, (2, 4, 4, 4)),
    )
    flags = dict(zip(("input_grad", "weight_grad", "bias"), map(bool, wanted), strict=True))
    everything = functional.conv2d_backward(grad, x, weight)
    for result, full, want in zip(
        functional.conv2d_backward(grad, x, weight, **flags), everything, wanted, strict=True
    ):
        if want:
            np.testing.assert_array_equal(result, full)
        else:
            assert result is None
    transposed_weight = rng.uniform(-1, 1, (4, 3, 3, 3))
    everything = functional.conv_transpose2d_backward(x, grad, transposed_weight)
    results = functional.conv_transpose2d_backward(x, grad, transposed_weight, **flags)
    for result, full, want in zip(results, everything, wanted, strict=True):
        if want:
            np.testing.assert_array_equal(result, full)
        else:
            assert result is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel, stride, padding", [(3, 1, 1), (1, 1, 0), (4, 2, (1, 0)), ((2, 5), 1, 2)])
def test_every_tail_equals_the_twin(backend, kernel, stride, padding, layout, dtype, rng, check_close):
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    options = dict(stride=stride, padding=padding, layout=layout)
    for i, in_channels in enumerate(CHANNELS):
        for j, out_channels in enumerate(CHANNELS):
            width = WIDTHS[(i + 5 * j) % len(WIDTHS)]
            what = (in_channels, out_channels, width)
            x = laid_out(rng.uniform(-1, 1, (2, in_channels, 5, width)).astype(np.float32), layout)
            weight = rng.uniform(-1, 1, (out_channels, in_channels, *kernel)).astype(np.float32)
            shape = functional.conv2d(x, weight, **options).shape
            grad = rng.uniform(-1, 1, shape).astype(np.float32)
            wide = [array.astype(np.float64) for array in (grad, x, weight)]
            expected = reference.conv2d_backward(*wide, **options)
            grad, x, weight = (array.astype(dtype) for array in (grad, x, weight))
            taps = kernel[0] * kernel[1]
            result = functional.conv2d_grad_input(grad, weight, x.shape, **options)
            check_close(result, expected[0], out_channels * taps, what)
            result = functional.conv2d_grad_weight(grad, x, kernel, **options)
            check_close(result, expected[1], 10 * width, what)
            check_close(functional.conv2d_grad_bias(grad, layout=layout), expected[2], 10 * width, what)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    "n, in_channels, out_channels, size",
    [(3, 64, 40, 23), (2, 34, 70, 30), (11, 64, 130, 7), (17, 130, 96, 4), (1, 320, 40, 29), (2, 700, 64, 14)],
)
def test_weights_of_1x1_kernels_over_many_runs_of_pixels(
    backend, n, in_channels, out_channels, size, groups, dtype, rng, check_close
):
    x = rng.uniform(-1, 1, (n, in_channels, size, size)).astype(dtype)
    grad = rng.uniform(-1, 1, (n, out_channels, size, size)).astype(dtype)
    result = functional.conv2d_grad_weight(grad, x, (1, 1), groups=groups)
    split = [a.reshape(n, groups, -1, size * size).astype(np.float64) for a in (grad, x)]
    expected = np.einsum("ngkp,ngcp->gkc", *split, optimize=True).reshape(result.shape)
    check_close(result, expected, n * size * size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_weights_of_narrow_planes(backend, kernel, multiplier, dtype, rng, check_close):
    for width, height, n in [(1, 1, 1), (2, 9, 3), (4, 4, 17), (5, 40, 2), (7, 7, 33), (8, 6, 16), (9, 3, 2)]:
        for padding in range(kernel // 2 + 1):
            if min(width, height) + 2 * padding < kernel:
                continue
            options = dict(padding=padding, groups=3)
            x = rng.uniform(-1, 1, (n, 3, height, width)).astype(dtype)
            weight = np.zeros((3 * multiplier, 1, kernel, kernel), dtype)
            grad = rng.uniform(-1, 1, functional.conv2d(x, weight, **options).shape).astype(dtype)
            wide = [a.astype(np.float64) for a in (grad, x, weight)]
            expected = reference.conv2d_backward(*wide, **options)[1]
            result = functional.conv2d_grad_weight(grad, x, (kernel, kernel), **options)
            check_close(result, expected, n * height * width, (width, height, n, padding))


def test_no_product_of_depthwise_weights_crosses_the_end_of_a_row(backend, rng):
    x = rng.uniform(-1, 1, (2, 3, 7, 7)).astype(np.float32)
    grad = rng.uniform(-1, 1, (2, 3, 7, 7)).astype(np.float32)
    x[1, 1, :, 6] = np.nan  # the last column has no neighbour to its right for the first taps of a row
    x[0, 2, 0] = np.inf
    result = functional.conv2d_grad_weight(grad, x, (3, 3), padding=1, groups=3)
    assert np.isfinite(result[0]).all()
    assert np.isfinite(result[1, 0, :, 0]).all()
    assert np.isnan(result[1, 0, :, 1:]).all()
    assert np.isfinite(result[2, 0, 2]).all()
    assert not np.isfinite(result[2, 0, :2]).any()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_width(backend, stride, layout, rng, check_close):
    weight = rng.uniform(-1, 1, (3, 2, 3, 3)).astype(np.float32)
    options = dict(stride=stride, padding=(1, 0), layout=layout)
    for width in (*range(3, 40), 47, 48, 49, 63, 64, 65, 127, 128, 129):
        x = laid_out(rng.uniform(-1, 1, (2, 2, 4, width)).astype(np.float32), layout)
        grad = rng.uniform(-1, 1, functional.conv2d(x, weight, **options).shape).astype(np.float32)
        expected = reference.conv2d_backward(*(a.astype(np.float64) for a in (grad, x, weight)), **options)
        for result, value in zip(functional.conv2d_backward(grad, x, weight, **options), expected, strict=True):
            check_close(result, value, 8 * width, width)


@pytest.mark.parametrize("kernel", range(1, 8))
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_kernels_strides_dilations_groups(backend, kernel, dilation, groups, rng, check_close):
    for stride in (1, 2, 3):
        options = dict(stride=stride, padding=kernel // 2, dilation=dilation, groups=groups)
        x = torch.tensor(rng.uniform(-1, 1, (2, 6, 20, 21)), requires_grad=True)
        weight = torch.tensor(rng.uniform(-1, 1, (6, 6 // groups, kernel, kernel)), requires_grad=True)
        y = torch.nn.functional.conv2d(x, weight, **options)
        grad = rng.uniform(-1, 1, y.shape)
        y.backward(torch.tensor(grad))
        results = functional.conv2d_backward(grad, x.detach().numpy(), weight.detach().numpy(), **options)
        check_close(results[0], x.grad.numpy(), 6 * kernel**2, stride)
        check_close(results[1], weight.grad.numpy(), 840, stride)


# ---------------------------------------------------------------------------------------------------------------------
# Without any other implementation: the definition of a gradient, and of an adjoint
# ---------------------------------------------------------------------------------------------------------------------

SMALL = [
    Case((2, 2, 5, 6), 3, (3, 2), padding=((1, 0), (0, 1))),
    Case((1, 4, 6, 5), 4, (2, 3), stride=(2, 1), groups=2, padding=((1, 1), (1, 1))),
    Case((2, 2, 7, 7), 2, (3, 3), dilation=(2, 3), groups=2, stride=(1, 2)),
]


def central_differences(function, array):
    """Gradient of a scalar function by every element of `array`, error of order step**2."""
    step = 1e-5
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        changed = array.copy()
        changed[index] += step
        above = function(changed)
        changed[index] -= 2 * step
        gradient[index] = (above - function(changed)) / (2 * step)
    return gradient


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_central_differences(backend, case, layout):
    x, weight, bias = arrays(case, np.float64)
    x, options = laid_out(x, layout), dict(case.options, layout=layout)
    grad = laid_out(gradient(case, np.float64), layout)

    def loss(x, weight, bias):
        return np.vdot(functional.conv2d(x, weight, bias, **options), grad)

    results = functional.conv2d_backward(grad, x, weight, **options)
    np.testing.assert_allclose(results[0], central_differences(lambda a: loss(a, weight, bias), x), atol=1e-8)
    np.testing.assert_allclose(results[1], central_differences(lambda a: loss(x, a, bias), weight), atol=1e-8)
    np.testing.assert_allclose(results[2], central_differences(lambda a: loss(x, weight, a), bias), atol=1e-8)


@pytest.mark.parametrize(
    "options", [dict(stride=2, padding=1, output_padding=1), dict(dilation=2, output_padding=1, groups=2)]
)
def test_central_differences_transposed(backend, options, rng):
    x, bias = rng.uniform(-1, 1, (2, 2, 4, 3)), rng.uniform(-1, 1, 4)
    weight = rng.uniform(-1, 1, (2, 4 // options.get("groups", 1), 3, 2))
    grad = rng.uniform(-1, 1, functional.conv_transpose2d(x, weight, **options).shape)

    def loss(x, weight, bias):
        return np.vdot(functional.conv_transpose2d(x, weight, bias, **options), grad)

    results = functional.conv_transpose2d_backward(grad, x, weight, **options)
    np.testing.assert_allclose(results[0], central_differences(lambda a: loss(a, weight, bias), x), atol=1e-8)
    np.testing.assert_allclose(results[1], central_differences(lambda a: loss(x, a, bias), weight), atol=1e-8)
    np.testing.assert_allclose(results[2], central_differences(lambda a: loss(x, weight, a), bias), atol=1e-8)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_adjoint_identity(backend, case, layout):
    """<conv(x), g> == <x, grad_input(g)> == <weight, grad_weight(g)>, as convolution is linear in each."""
    x, weight, _ = arrays(case, np.float64)
    x, options = laid_out(x, layout), dict(case.options, layout=layout)
    y = functional.conv2d(x, weight, **options)
    grad = np.random.default_rng(9).uniform(-1, 1, y.shape)
    expected = np.vdot(y, grad)
    size = np.linalg.norm(y) * np.linalg.norm(grad)
    assert (
        abs(np.vdot(x, functional.conv2d_grad_input(grad, weight, x.shape, **options)) - expected)
        <= 1e-14 * size + 1e-13
    )
    by_weight = np.vdot(weight, functional.conv2d_grad_weight(grad, x, case.kernel, **options))
    assert abs(by_weight - expected) <= 1e-14 * size + 1e-13


@pytest.mark.parametrize("case", CASES[::3], ids=str)
def test_transposed_is_grad_input(backend, case):
    x, weight, _ = arrays(case, np.float64)
    y = functional.conv2d(x, weight, **case.options)
    back = functional.conv2d_grad_input(y, weight, x.shape, **case.options)
    result = functional.conv_transpose2d(y, weight, **case.options)
    # Where the stride does not divide, conv2d leaves rows at the end unread; their gradient is zero.
    rows, columns = (min(a, b) for a, b in zip(result.shape[2:], back.shape[2:], strict=True))
    np.testing.assert_allclose(result[:, :, :rows, :columns], back[:, :, :rows, :columns], rtol=1e-12, atol=1e-13)
    assert not back[:, :, rows:].any()
    assert not back[:, :, :, columns:].any()


# ---------------------------------------------------------------------------------------------------------------------
# Transposed, one axis, empty
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(stride=2, padding=1, output_padding=1),
        dict(stride=(3, 2), groups=2, padding=(0, 1), output_padding=(2, 0)),
        dict(dilation=(3, 2), output_padding=(2, 1)),
        dict(groups=4, stride=2),
    ],
    ids=str,
)
def test_transposed_gradients_equal_torch(backend, options, layout, dtype, rng, check_close):
    shapes = ((2, 4, 7, 6), (4, 8 // options.get("groups", 1), 3, 4), (8,))
    x, weight, bias = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes)
    tensors = [torch.tensor(array.astype(np.float64), requires_grad=True) for array in (x, weight, bias)]
    y = torch.nn.functional.conv_transpose2d(*tensors, **options)
    grad = rng.uniform(-1, 1, y.shape).astype(np.float32)
    y.backward(torch.tensor(grad.astype(np.float64)))
    x, grad = laid_out(x.astype(dtype), layout), laid_out(grad.astype(dtype), layout)
    outs = tuple(np.full(shape, np.nan, dtype) for shape in (x.shape, weight.shape, bias.shape))
    results = functional.conv_transpose2d_backward(grad, x, weight.astype(dtype), layout=layout, out=outs, **options)
    assert all(result is out for result, out in zip(results, outs, strict=True))
    check_close(results[0], laid_out(tensors[0].grad.numpy(), layout), 96)
    check_close(results[1], tensors[1].grad.numpy(), 84)
    check_close(results[2], tensors[2].grad.numpy(), grad.size // 8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["NCW", "NWC"])
@pytest.mark.parametrize("options", [dict(), dict(stride=2, padding=3), dict(dilation=2, groups=3)], ids=str)
def test_conv1d_gradients_equal_torch(backend, options, layout, dtype, rng, check_close):
    x = torch.tensor(rng.uniform(-1, 1, (3, 6, 33)), requires_grad=True)
    weight = torch.tensor(rng.uniform(-1, 1, (9, 6 // options.get("groups", 1), 5)), requires_grad=True)
    bias = torch.zeros(9, dtype=torch.float64, requires_grad=True)
    y = torch.nn.functional.conv1d(x, weight, bias, **options)
    grad = rng.uniform(-1, 1, y.shape)
    y.backward(torch.tensor(grad))

    def turned(array):
        return array if layout == "NCW" else np.ascontiguousarray(array.transpose(0, 2, 1))

    expected = (turned(x.grad.numpy()), weight.grad.numpy(), bias.grad.numpy())
    x, grad = turned(x.detach().numpy()).astype(dtype), turned(grad).astype(dtype)
    weight = weight.detach().numpy().astype(dtype)
    options = dict(options, layout=layout)
    outs = tuple(np.full(value.shape, np.nan, dtype) for value in expected)
    together = functional.conv1d_backward(grad, x, weight, out=outs, **options)
    alone = (
        functional.conv1d_grad_input(grad, weight, x.shape, **options),
        functional.conv1d_grad_weight(grad, x, 5, **options),
        functional.conv1d_grad_bias(grad, layout=layout),
    )
    for result, out, single, value in zip(together, outs, alone, expected, strict=True):
        assert result is out
        np.testing.assert_array_equal(result, single)
        check_close(result, value, 150)


@pytest.mark.parametrize("layout", ["NCW", "NWC"])
@pytest.mark.parametrize("options", [dict(), dict(stride=3, padding=1, output_padding=2, groups=2)], ids=str)
def test_conv_transpose1d_gradients_equal_torch(backend, options, layout, rng, check_close):
    x = torch.tensor(rng.uniform(-1, 1, (3, 4, 17)), requires_grad=True)
    weight = torch.tensor(rng.uniform(-1, 1, (4, 6 // options.get("groups", 1), 3)), requires_grad=True)
    bias = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    y = torch.nn.functional.conv_transpose1d(x, weight, bias, **options)
    grad = rng.uniform(-1, 1, y.shape)
    y.backward(torch.tensor(grad))
    axes = (0, 1, 2) if layout == "NCW" else (0, 2, 1)
    results = functional.conv_transpose1d_backward(
        grad.transpose(axes), x.detach().numpy().transpose(axes), weight.detach().numpy(), layout=layout, **options
    )
    check_close(results[0], x.grad.numpy().transpose(axes), 18)
    check_close(results[1], weight.grad.numpy(), 51)
    check_close(results[2], bias.grad.numpy(), 160)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_empty_batch_gives_zero_gradients(backend, layout, dtype):
    x = laid_out(np.ones((0, 3, 8, 9), dtype), layout)
    grad = laid_out(np.ones((0, 4, 6, 7), dtype), layout)
    weight = np.ones((4, 3, 3, 3), dtype)
    outs = (np.empty(x.shape, dtype), np.full(weight.shape, np.nan, dtype), np.full(4, np.nan, dtype))
    grad_input, grad_weight, grad_bias = functional.conv2d_backward(grad, x, weight, layout=layout, out=outs)
    assert grad_input.shape == x.shape
    np.testing.assert_array_equal(grad_weight, np.zeros(weight.shape, dtype))
    np.testing.assert_array_equal(grad_bias, np.zeros(4, dtype))
    np.testing.assert_array_equal(functional.conv2d_grad_weight(grad, x, 3, layout=layout), grad_weight)
    np.testing.assert_array_equal(functional.conv2d_grad_bias(grad, layout=layout), grad_bias)
    assert functional.conv2d_grad_input(grad, weight, x.shape, layout=layout).shape == x.shape
    results = functional.conv_transpose2d_backward(x, grad, weight, layout=layout)
    assert results[0].shape == grad.shape
    np.testing.assert_array_equal(results[1], np.zeros(weight.shape, dtype))
    np.testing.assert_array_equal(results[2], np.zeros(3, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 2, 7, 8])
def test_weight_gradient_of_few_large_images_sums_all_rows(backend, batch, dtype, rng, check_close):
    """Ranges of rows, of several samples, the last run of rows short; ranges of samples from eight on."""
    for height, width in ((61, 65), (47, 200), (33, 801)):
        x, grad = rng.standard_normal((batch, 2, height, width)), rng.standard_normal((batch, 40, height, width))
        x, grad = x.astype(dtype), grad.astype(dtype)
        result = functional.conv2d_grad_weight(grad, x, 3, padding=1)
        expected = reference.conv2d_grad_weight(grad.astype(np.float64), x.astype(np.float64), 3, padding=1)
        check_close(result, expected, batch * height * width, "grad_weight")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stride", [(2, 3), (1, 3), (3, 1), (3, 3)])
@pytest.mark.parametrize("order", [(2, 3, 1, 0), (3, 2, 1, 0), (2, 3, 0, 1), (0, 1, 2, 3)])
@pytest.mark.parametrize("channels", [1, 5, 16, 40])
def test_one_pixel_reached_by_one_tap_takes_that_tap(backend, channels, order, stride, dtype, rng, check_close):
    """An input of one column or row has one class with one tap, not the first one; weights in any order in memory."""
    shape = (6, channels, 3 if stride[0] == 3 else 1, 3 if stride[1] == 3 else 1)
    weight = rng.standard_normal([shape[axis] for axis in order]).astype(dtype).transpose(np.argsort(order))
    assert weight.shape == shape
    size = (2, channels, 1 if stride[0] == 3 else 9, 1 if stride[1] == 3 else 9)
    x = np.zeros(size, dtype)
    grad = rng.standard_normal(functional.conv2d(x, weight, stride=stride, padding="full").shape).astype(dtype)
    result = functional.conv2d_grad_input(grad, weight, size, stride=stride, padding="full")
    expected = reference.conv2d_grad_input(
        grad.astype(np.float64), weight.astype(np.float64), size, stride=stride, padding="full"
    )
    check_close(result, expected, 6 * 9, "grad_input")
