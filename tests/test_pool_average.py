"""Average pooling, subsampling and global pools, and their gradients."""

import numpy as np
import pytest
from pool_cases import CASES, DTYPES, LAYOUTS, TORCH_CASES, as_layout, from_layout

from convgrad import functional, reference


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_average_and_gradient_are_a_matrix_and_its_transpose(
    case, count_include_pad, layout, dtype, backend, rng, check_close
):
    averaging = case.matrix(count_include_pad)
    options = dict(layout=layout, count_include_pad=count_include_pad, **case.options)
    length = case.kernel[0] * case.kernel[1]
    planes = rng.uniform(-1, 1, case.x).astype(dtype)
    x = as_layout(planes, layout)
    y = functional.avg_pool2d(x, case.kernel, **options)
    expected = planes.reshape(*case.x[:2], -1).astype(np.float64) @ averaging.T
    check_close(from_layout(y, layout), expected.reshape(*case.x[:2], *case.out_sizes), length)

    grads = rng.uniform(-1, 1, (*case.x[:2], *case.out_sizes)).astype(dtype)
    grad = functional.avg_pool2d_backward(as_layout(grads, layout), x.shape, case.kernel, **options)
    expected = grads.reshape(*case.x[:2], -1).astype(np.float64) @ averaging
    check_close(from_layout(grad, layout), expected.reshape(case.x), length)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("x_shape, kernel, stride, padding, dilation, ceil_mode", TORCH_CASES)
def test_average_against_torch(
    x_shape, kernel, stride, padding, dilation, ceil_mode, count_include_pad, layout, dtype, backend, rng, check_close
):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal(x_shape).astype(dtype)
    x_torch = torch.from_numpy(x.copy()).requires_grad_()
    y_torch = torch.nn.functional.avg_pool2d(x_torch, kernel, stride, padding, ceil_mode, count_include_pad)
    grad_output = rng.uniform(-1, 1, y_torch.shape).astype(dtype)
    y_torch.backward(torch.from_numpy(grad_output))

    options = dict(stride=stride, padding=padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad)
    x = as_layout(x, layout)
    y = functional.avg_pool2d(x, kernel, layout=layout, **options)
    grad = functional.avg_pool2d_backward(as_layout(grad_output, layout), x.shape, kernel, layout=layout, **options)
    check_close(from_layout(y, layout), y_torch.detach().numpy(), 300)
    check_close(from_layout(grad, layout), x_torch.grad.numpy(), 300)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_average_of_every_width_around_the_lanes(layout, dtype, rng, check_close):
    for width in range(1, 36):
        for kernel in range(1, min(width, 5) + 1):
            stride = 1 + (width + kernel) % 4
            x = rng.uniform(-1, 1, (2, 3, 3, width) if layout == "NCHW" else (2, 3, width, 3))
            options = dict(stride=(1, stride), padding=((0, 0), (kernel - 1, kernel // 2)), layout=layout)
            expected = reference.avg_pool2d(x, (2, kernel), **options)
            what = f"width {width}, kernel {kernel}, {options}"
            check_close(functional.avg_pool2d(x.astype(dtype), (2, kernel), **options), expected, 10, what)
            grad = functional.avg_pool2d_backward(expected.astype(dtype), x.shape, (2, kernel), **options)
            check_close(grad, reference.avg_pool2d_backward(expected, x.shape, (2, kernel), **options), 10, what)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_subsampling_scales_and_shifts_averages(case, count_include_pad, layout, dtype, backend, rng, check_close):
    options = dict(layout=layout, count_include_pad=count_include_pad, **case.options)
    averaging = case.matrix(count_include_pad)
    length = case.kernel[0] * case.kernel[1]
    planes, channels = rng.uniform(-1, 1, case.x).astype(dtype), case.x[1]
    weight, bias = rng.uniform(-1, 1, (2, channels)).astype(dtype)
    means = planes.reshape(*case.x[:2], -1).astype(np.float64) @ averaging.T
    expected = weight[:, None] * means + bias[:, None]
    x = as_layout(planes, layout)
    y = functional.subsample2d(x, weight, bias, case.kernel, **options)
    check_close(from_layout(y, layout), expected.reshape(*case.x[:2], *case.out_sizes), length)

    grads = rng.uniform(-1, 1, (*case.x[:2], *case.out_sizes)).astype(dtype)
    grad_x, grad_weight, grad_bias = functional.subsample2d_backward(
        as_layout(grads, layout), x, weight, case.kernel, **options
    )
    flat = grads.reshape(*case.x[:2], -1).astype(np.float64)
    check_close(from_layout(grad_x, layout), ((weight[:, None] * flat) @ averaging).reshape(case.x), length)
    terms = flat.shape[0] * flat.shape[2] + length
    check_close(grad_weight, (flat * means).sum(axis=(0, 2)), terms)
    check_close(grad_bias, flat.sum(axis=(0, 2)), terms)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_subsampling_gradients_are_central_differences(layout, backend, rng):
    options = dict(stride=(2, 1), padding=((1, 0), (1, 1)), ceil_mode=True, count_include_pad=False, layout=layout)
    x = as_layout(rng.standard_normal((2, 3, 5, 4)), layout)
    weight, bias = rng.standard_normal((2, 3))
    direction = rng.standard_normal(functional.subsample2d(x, weight, bias, (3, 2), **options).shape)
    grads = functional.subsample2d_backward(direction, x, weight, (3, 2), **options)
    arrays = [x, weight, bias]
    for which, grad in enumerate(grads):
        for at in np.ndindex(grad.shape):
            values = []
            for step in (1e-5, -1e-5):
                moved = [array.copy() for array in arrays]
                moved[which][at] += step
                values.append((functional.subsample2d(*moved, (3, 2), **options) * direction).sum())
            assert (values[0] - values[1]) / 2e-5 == pytest.approx(grad[at], rel=1e-7, abs=1e-8)


GLOBAL_SHAPES = [
    (2, 3, 1, 1),
    (1, 1, 7, 7),
    (3, 16, 7, 7),
    (2, 17, 9, 11),
    (1, 5, 33, 65),
    (2, 64, 4, 4),
    (1, 2, 300, 211),
    (40, 3, 2, 2),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", GLOBAL_SHAPES)
def test_global_average(shape, layout, dtype, backend, rng, check_close):
    planes = rng.uniform(-1, 1, shape).astype(dtype)
    x = as_layout(planes, layout)
    y = functional.global_avg_pool2d(x, layout=layout)
    assert from_layout(y, layout).shape == (*shape[:2], 1, 1)
    check_close(from_layout(y, layout), planes.astype(np.float64).mean(axis=(2, 3), keepdims=True), 20)
    grad = functional.global_avg_pool2d_backward(y, x.shape, layout=layout)
    expected = np.broadcast_to(from_layout(y, layout).astype(np.float64) / (shape[2] * shape[3]), shape)
    check_close(from_layout(grad, layout), expected, 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", GLOBAL_SHAPES)
@pytest.mark.parametrize("special", [None, np.nan, -np.inf])
def test_global_max(special, shape, layout, dtype, backend, rng):
    planes = np.round(rng.standard_normal(shape) * 3).astype(dtype)
    if special is not None:
        planes[rng.random(shape) < 0.3] = special
        planes[0, 0] = special
    x = as_layout(planes, layout)
    y, indices = functional.global_max_pool2d(x, return_indices=True, layout=layout)
    expected = planes.reshape(*shape[:2], -1).argmax(axis=-1)  # NumPy's: the first NaN, else the first of the largest
    assert indices.dtype == np.int64
    np.testing.assert_array_equal(from_layout(indices, layout)[..., 0, 0], expected)
    np.testing.assert_array_equal(from_layout(y, layout)[..., 0, 0], planes.max(axis=(2, 3)))
    np.testing.assert_array_equal(functional.global_max_pool2d(x, layout=layout), y)

    grad_output = rng.standard_normal(y.shape).astype(dtype)
    grad = functional.global_max_pool2d_backward(grad_output, indices, x.shape, layout=layout)
    one_hot = np.zeros((*shape[:2], shape[2] * shape[3]), dtype)
    np.put_along_axis(one_hot, expected[..., None], from_layout(grad_output, layout)[..., 0], axis=-1)
    np.testing.assert_array_equal(from_layout(grad, layout), one_hot.reshape(shape))


def test_global_pools_against_torch(backend, rng, check_close):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((3, 5, 13, 14)).astype(np.float32)
    pools = torch.nn.functional
    mean = pools.adaptive_avg_pool2d(torch.from_numpy(x), 1).numpy()
    largest, indices = pools.adaptive_max_pool2d(torch.from_numpy(x), 1, return_indices=True)
    check_close(functional.global_avg_pool2d(x), mean, 200)
    y, places = functional.global_max_pool2d(x, return_indices=True)
    np.testing.assert_array_equal(y, largest.numpy())
    np.testing.assert_array_equal(places, indices.numpy())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_out(layout, backend, rng):
    x = rng.standard_normal((2, 4, 6, 8)).astype(np.float32)
    channels = 4 if layout == "NCHW" else 8
    weight, bias = rng.standard_normal((2, channels)).astype(np.float32)
    y = functional.avg_pool2d(x, 2, layout=layout)
    overall, places = functional.global_max_pool2d(x, return_indices=True, layout=layout)
    calls = [
        lambda **out: functional.avg_pool2d(x, 2, layout=layout, **out),
        lambda **out: functional.avg_pool2d_backward(y, x.shape, 2, layout=layout, **out),
        lambda **out: functional.subsample2d(x, weight, bias, 2, layout=layout, **out),
        lambda **out: functional.global_avg_pool2d(x, layout=layout, **out),
        lambda **out: functional.global_avg_pool2d_backward(overall, x.shape, layout=layout, **out),
        lambda **out: functional.global_max_pool2d(x, layout=layout, **out),
        lambda **out: functional.global_max_pool2d_backward(overall, places, x.shape, layout=layout, **out),
    ]
    for call in calls:
        expected = call()
        out = np.full(expected.shape, np.nan, np.float32)
        assert call(out=out) is out
        np.testing.assert_array_equal(out, expected)
        strided = np.full((*expected.shape[:3], 3 * expected.shape[3]), np.nan, np.float32)[..., ::3]
        assert call(out=strided) is strided
        np.testing.assert_array_equal(strided, expected)
    grads = functional.subsample2d_backward(y, x, weight, 2, layout=layout)
    outs = tuple(np.full(grad.shape, np.nan, np.float32) for grad in grads[:2]) + (None,)
    results = functional.subsample2d_backward(y, x, weight, 2, layout=layout, out=outs)
    assert results[0] is outs[0]
    assert results[1] is outs[1]
    for result, grad in zip(results, grads, strict=True):
        np.testing.assert_array_equal(result, grad)
    same = x.copy()  # the result goes where x was
    target = same.reshape(-1)[: y.size].reshape(y.shape)
    np.testing.assert_array_equal(functional.avg_pool2d(same, 2, layout=layout, out=target), y)
    both = np.full(overall.shape, np.nan, np.float32), np.full(overall.shape, -1)
    results = functional.global_max_pool2d(x, return_indices=True, layout=layout, out=both)
    assert results[0] is both[0]
    assert results[1] is both[1]
    np.testing.assert_array_equal(both[0], overall)
    np.testing.assert_array_equal(both[1], places)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty_batch(layout, backend):
    x = np.empty((0, 4, 6, 8), np.float64)
    channels = np.ones(4 if layout == "NCHW" else 8)
    y = functional.avg_pool2d(x, 2, layout=layout)
    assert y.shape == ((0, 4, 3, 4) if layout == "NCHW" else (0, 2, 3, 8))
    assert functional.avg_pool2d_backward(y, x.shape, 2, layout=layout).shape == x.shape
    assert functional.subsample2d(x, channels, channels, 2, layout=layout).shape == y.shape
    grad_x, grad_weight, grad_bias = functional.subsample2d_backward(y, x, channels, 2, layout=layout)
    assert grad_x.shape == x.shape
    np.testing.assert_array_equal(grad_weight, 0 * channels)
    np.testing.assert_array_equal(grad_bias, 0 * channels)
    overall, places = functional.global_max_pool2d(x, return_indices=True, layout=layout)
    assert overall.shape == functional.global_avg_pool2d(x, layout=layout).shape == places.shape
    assert functional.global_max_pool2d_backward(overall, places, x.shape, layout=layout).shape == x.shape
    assert functional.global_avg_pool2d_backward(overall, x.shape, layout=layout).shape == x.shape


def test_what_is_not_finite_goes_through(backend):
    x = np.ones((1, 1, 4, 4), np.float32)
    x[0, 0, 0, 0], x[0, 0, 3, 3] = np.nan, np.inf
    np.testing.assert_array_equal(functional.avg_pool2d(x, 2), np.array([[[[np.nan, 1], [1, np.inf]]]], np.float32))
    np.testing.assert_array_equal(functional.global_avg_pool2d(x), np.full((1, 1, 1, 1), np.nan, np.float32))


def test_long_means_keep_their_digits(rng):
    """The error of a mean of 4 million float32 numbers does not grow with their number."""
    x = (1 + rng.random((1, 1, 2048, 2048))).astype(np.float32)
    exact = x.mean(dtype=np.float64)
    assert abs(functional.global_avg_pool2d(x)[0, 0, 0, 0] - exact) / exact < 2e-7
    assert abs(functional.avg_pool2d(x, 2048)[0, 0, 0, 0] - exact) / exact < 2e-7
