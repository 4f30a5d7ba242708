"""Laws that hold whatever the numbers: adjoint gradients, linearity, equivariance, samples that know nothing of each
other. Hypothesis looks for the shapes and options that break one."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convgrad import functional

FEW = settings(max_examples=100, deadline=None, derandomize=True, database=None)
DTYPES = st.sampled_from([np.float32, np.float64])


@st.composite
def convolutions(draw):
    """(shape of x, shape of weight, options) of a 2-D convolution that has a result."""
    groups = draw(st.integers(1, 3))
    c, k = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    stride = tuple(draw(st.integers(1, 3)) for _ in range(2))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(2))
    padding = draw(st.sampled_from(["valid", "same", "full", 0, 1, (1, 2), ((0, 1), (2, 1))]))
    pixels = [draw(st.integers(d * (s - 1) + 1, 14)) for s, d in zip(kernel, dilation, strict=True)]
    layout = draw(st.sampled_from(["NCHW", "NHWC"]))
    n = draw(st.integers(1, 3))
    x = (n, groups * c, *pixels) if layout == "NCHW" else (n, *pixels, groups * c)
    options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups, layout=layout)
    if kernel == [3, 3] and stride == dilation == (1, 1) and groups == 1:
        options["algorithm"] = draw(st.sampled_from(["direct", "winograd"]))
    return x, (groups * k, c, *kernel), options


def numbers(shape, dtype, seed):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def inner(a, b):
    """The inner product of two arrays in float64, and a bound on what rounding may change it by."""
    assert a.shape == b.shape
    products = a.astype(np.float64) * b
    return products.sum(), 200 * np.finfo(a.dtype).eps * (np.abs(products).sum() + np.sqrt(a.size))


def same(pair, other, factor=1.0):
    (a, a_bound), (b, b_bound) = pair, other
    assert abs(a - b) <= factor * (a_bound + b_bound), (a, b, a_bound + b_bound)


@FEW
@given(convolutions(), DTYPES, st.integers(0, 99))
def test_the_gradients_of_a_convolution_are_its_adjoints(case, dtype, seed):
    """<conv(x, w), g> = <x, grad_input(g)> = <w, grad_weight(g)>."""
    x_shape, weight_shape, options = case
    x, weight = numbers(x_shape, dtype, seed), numbers(weight_shape, dtype, seed + 1)
    y = functional.conv2d(x, weight, **options)
    grad = numbers(y.shape, dtype, seed + 2)
    value, factor = inner(y, grad), weight[0].size
    same(value, inner(x, functional.conv2d_grad_input(grad, weight, x.shape, **options)), factor)
    same(value, inner(weight, functional.conv2d_grad_weight(grad, x, weight.shape[2:], **options)), factor)


@FEW
@given(convolutions(), DTYPES, st.integers(0, 99))
def test_a_transposed_convolution_is_the_adjoint_of_a_convolution(case, dtype, seed):
    x_shape, weight_shape, options = case
    options["padding"] = min(weight_shape[2:]) - 1 if min(weight_shape[2:]) > 2 else 0  # leaves some of every result
    options.pop("algorithm", None)
    x, weight = numbers(x_shape, dtype, seed), numbers(weight_shape, dtype, seed + 1)
    grad = numbers(functional.conv2d(x, weight, **options).shape, dtype, seed + 2)
    back = functional.conv_transpose2d(grad, weight, **options)
    # The transposed result ends where the last window does; the image beyond is set to zero.
    inside = tuple(slice(0, size) for size in back.shape)
    image = np.zeros_like(x)
    image[inside] = x[inside]
    same(inner(functional.conv2d(image, weight, **options), grad), inner(x[inside], back), weight[0].size)


@FEW
@given(convolutions(), DTYPES, st.integers(0, 99), st.sampled_from([-2.0, 0.0, 0.5, 4.0]))
def test_a_convolution_is_linear_in_each_argument(case, dtype, seed, scale):
    x_shape, weight_shape, options = case
    x, other = numbers(x_shape, dtype, seed), numbers(x_shape, dtype, seed + 1)
    weight, weight_2 = numbers(weight_shape, dtype, seed + 2), numbers(weight_shape, dtype, seed + 3)
    tolerance = 100 * np.finfo(dtype).eps * weight[0].size
    y = functional.conv2d(x, weight, **options)
    np.testing.assert_allclose(
        functional.conv2d(x + dtype(scale) * other, weight, **options),
        y + scale * functional.conv2d(other, weight, **options),
        rtol=tolerance, atol=tolerance,
    )  # fmt: skip
    np.testing.assert_allclose(
        functional.conv2d(x, weight + dtype(scale) * weight_2, **options),
        y + scale * functional.conv2d(x, weight_2, **options),
        rtol=tolerance, atol=tolerance,
    )  # fmt: skip
    # Powers of two scale every product and sum exactly.
    np.testing.assert_array_equal(functional.conv2d(dtype(4) * x, weight, **options), dtype(4) * y)


@FEW
@given(convolutions(), DTYPES, st.integers(0, 99), st.integers(1, 3), st.integers(1, 3))
def test_a_convolution_moves_with_its_image(case, dtype, seed, down, right):
    """Moving the image by whole strides moves the result by as many pixels."""
    x_shape, weight_shape, options = case
    options = options | {"padding": 0, "layout": "NCHW"}
    channels = weight_shape[1] * options["groups"]
    pixels = x_shape[2:] if x_shape[1] == channels else x_shape[1:3]
    x, weight = numbers((2, channels, *(size + 9 for size in pixels)), dtype, seed), numbers(weight_shape, dtype, seed)
    rows, columns = down * options["stride"][0], right * options["stride"][1]
    y = functional.conv2d(x, weight, **options)
    moved = functional.conv2d(x[:, :, rows:, columns:], weight, **options)
    tolerance = 100 * np.finfo(dtype).eps * weight[0].size
    np.testing.assert_allclose(
        moved, y[:, :, down:, right:][:, :, : moved.shape[2], : moved.shape[3]], rtol=tolerance, atol=tolerance
    )


@FEW
@given(convolutions(), DTYPES, st.integers(0, 99))
def test_samples_know_nothing_of_each_other(case, dtype, seed):
    """Each sample's result has the bits it has alone, and a NaN stays in its own sample."""
    x_shape, weight_shape, options = case
    x, weight = numbers((4, *x_shape[1:]), dtype, seed), numbers(weight_shape, dtype, seed + 1)
    y = functional.conv2d(x, weight, activation="tanh", **options)
    grad = functional.conv2d_grad_input(y, weight, x.shape, **options)
    for n in range(4):
        alone = x[n : n + 1]
        np.testing.assert_array_equal(functional.conv2d(alone, weight, activation="tanh", **options)[0], y[n])
        np.testing.assert_array_equal(
            functional.conv2d_grad_input(y[n : n + 1], weight, alone.shape, **options)[0], grad[n]
        )
    x[2] = np.nan
    spoilt = functional.conv2d(x, weight, activation="tanh", **options)
    np.testing.assert_array_equal(np.delete(spoilt, 2, 0), np.delete(y, 2, 0))
    order = [3, 1, 0]
    np.testing.assert_array_equal(functional.conv2d(x[order], weight, activation="tanh", **options), spoilt[order])


@FEW
@given(convolutions(), DTYPES, st.integers(0, 99))
def test_layouts_and_groups_agree(case, dtype, seed):
    """NHWC is NCHW with its axes moved; groups are convolutions side by side."""
    x_shape, weight_shape, options = case
    options = options | {"layout": "NCHW", "algorithm": "direct"}
    groups, channels = options.pop("groups"), weight_shape[1]
    x = numbers((2, groups * channels, 14, 13), dtype, seed)
    weight = numbers(weight_shape, dtype, seed + 1)
    y = functional.conv2d(x, weight, groups=groups, **options)
    tolerance = 20 * np.finfo(dtype).eps * weight[0].size
    apart = [
        functional.conv2d(part, filters, **options)
        for part, filters in zip(np.split(x, groups, 1), np.split(weight, groups), strict=True)
    ]
    np.testing.assert_allclose(np.concatenate(apart, 1), y, rtol=tolerance, atol=tolerance)
    last = functional.conv2d(x.transpose(0, 2, 3, 1), weight, groups=groups, **options | {"layout": "NHWC"})
    np.testing.assert_allclose(last.transpose(0, 3, 1, 2), y, rtol=tolerance, atol=tolerance)


@st.composite
def poolings(draw):
    """(shape of x, kernel_size, options) of a pooling."""
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    padding = tuple((draw(st.integers(0, size - 1)), draw(st.integers(0, size - 1))) for size in kernel)
    pixels = [draw(st.integers(size, 12)) for size in kernel]
    layout = draw(st.sampled_from(["NCHW", "NHWC"]))
    n, c = draw(st.integers(1, 3)), draw(st.integers(1, 18))
    stride = draw(st.one_of(st.none(), st.tuples(st.integers(1, 3), st.integers(1, 3))))
    options = dict(stride=stride, padding=padding, ceil_mode=draw(st.booleans()), layout=layout)
    return ((n, c, *pixels) if layout == "NCHW" else (n, *pixels, c)), tuple(kernel), options


@FEW
@given(poolings(), DTYPES, st.integers(0, 99), st.booleans())
def test_poolings_and_their_gradients(case, dtype, seed, counted):
    x_shape, kernel, options = case
    x = numbers(x_shape, dtype, seed)
    y = functional.avg_pool2d(x, kernel, count_include_pad=counted, **options)
    grad = numbers(y.shape, dtype, seed + 1)
    back = functional.avg_pool2d_backward(grad, x.shape, kernel, count_include_pad=counted, **options)
    same(inner(y, grad), inner(x, back))
    most, indices = functional.max_pool2d(x, kernel, return_indices=True, **options)
    back = functional.max_pool2d_backward(grad, indices, x.shape, kernel, **options)
    same(inner(most, grad), inner(x, back))  # each maximum is the number at its place
    larger = functional.max_pool2d(dtype(2) * x + dtype(1), kernel, **options)
    np.testing.assert_array_equal(larger, dtype(2) * most + dtype(1))


@FEW
@given(
    *(st.integers(0, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4)),
    *(st.sampled_from(["full", "same", "valid"]), st.sampled_from(["convolve2d", "correlate2d"])),
    *(DTYPES, st.integers(0, 99)),
)
def test_signal_gradients_are_adjoints(n, height, width, rows, columns, mode, name, dtype, seed):
    assume(mode != "valid" or (rows <= height and columns <= width))
    x, kernel = numbers((n, height, width), dtype, seed), numbers((rows, columns), dtype, seed + 1)
    y = getattr(functional, name)(x, kernel, mode)
    grad = numbers(y.shape, dtype, seed + 2)
    grad_x, grad_kernel = getattr(functional, f"{name}_backward")(grad, x, kernel, mode)
    same(inner(y, grad), inner(x, grad_x), 16)
    same(inner(y, grad), inner(kernel, grad_kernel), 16)
    if name == "convolve2d" and mode == "full":
        np.testing.assert_allclose(y[:1], [functional.convolve2d(kernel, x[0])] if n else y[:1], rtol=1e-4, atol=1e-5)


@FEW
@given(st.integers(1, 9), st.integers(1, 20), st.integers(1, 20), DTYPES, st.integers(0, 99))
def test_linear_and_softmax(n, fan_in, fan_out, dtype, seed):
    x, weight = numbers((n, fan_in), dtype, seed), numbers((fan_out, fan_in), dtype, seed + 1)
    y = functional.linear(x, weight)
    grad = numbers(y.shape, dtype, seed + 2)
    grad_x, grad_weight, grad_bias = functional.linear_backward(grad, x, weight)
    same(inner(y, grad), inner(x, grad_x), fan_in)
    same(inner(y, grad), inner(weight, grad_weight), fan_in)
    np.testing.assert_allclose(grad_bias, grad.sum(0), rtol=1e-4, atol=1e-5)
    shares = functional.softmax(y)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(functional.softmax(y + dtype(8)), shares, rtol=1e-4, atol=1e-6)  # shifts change nothing
    back = functional.softmax_backward(grad, shares)
    np.testing.assert_allclose(back.sum(1), 0, atol=1e-5)  # so the gradient has no part along them
