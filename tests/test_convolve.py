"""convolve2d and correlate2d: against scipy.signal, central differences and the adjoint identity."""

import numpy as np
import pytest

from convgrad import functional

signal = pytest.importorskip("scipy.signal")

MODES = ("full", "same", "valid")
NAMES = ("convolve2d", "correlate2d")
KERNELS = [(1, 1), (3, 3), (2, 2), (4, 3), (3, 4), (1, 5), (6, 1), (5, 8), (7, 9)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_equals_scipy(backend, name, mode, dtype, rng, check_close):
    for kernel_shape in KERNELS:
        x = rng.uniform(-1, 1, (7, 9)).astype(np.float32)
        kernel = rng.uniform(-1, 1, kernel_shape).astype(np.float32)
        expected = getattr(signal, name)(x.astype(np.float64), kernel.astype(np.float64), mode=mode)
        out = np.full(expected.shape, np.nan, dtype)
        result = getattr(functional, name)(x.astype(dtype), kernel.astype(dtype), mode, out=out)
        assert result is out
        check_close(result, expected, kernel.size, kernel_shape)


@pytest.mark.parametrize("mode", ["full", "same"])
@pytest.mark.parametrize("name", NAMES)
def test_kernel_larger_than_x(backend, name, mode, rng, check_close):
    for x_shape, kernel_shape in [((3, 4), (5, 6)), ((3, 9), (6, 2)), ((1, 1), (4, 4)), ((4, 4), (9, 4))]:
        x, kernel = rng.uniform(-1, 1, x_shape), rng.uniform(-1, 1, kernel_shape)
        expected = getattr(signal, name)(x, kernel, mode=mode)
        check_close(getattr(functional, name)(x, kernel, mode), expected, kernel.size, (x_shape, kernel_shape))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_leading_axes_are_a_batch(backend, name, mode, rng, check_close):
    function = getattr(functional, name)
    kernel = rng.uniform(-1, 1, (3, 2))
    x = rng.uniform(-1, 1, (2, 3, 2, 6, 7))
    result = function(x, kernel, mode)
    for index in np.ndindex(2, 3, 2):
        check_close(result[index], function(x[index], kernel, mode), 6, index)
    strided = x.transpose(2, 0, 1, 3, 4)[:, ::-1]
    check_close(function(strided, kernel, mode), result.transpose(2, 0, 1, 3, 4)[:, ::-1], 6)


@pytest.mark.parametrize("name", NAMES)
def test_full_is_the_default_and_empty_batches_work(backend, name, rng):
    function, backward = getattr(functional, name), getattr(functional, name + "_backward")
    x, kernel = rng.uniform(-1, 1, (5, 6)), rng.uniform(-1, 1, (3, 2))
    np.testing.assert_array_equal(function(x, kernel), function(x, kernel, mode="full"))
    empty = np.empty((2, 0, 5, 6))
    assert function(empty, kernel).shape == (2, 0, 7, 7)
    outs = (None, np.full((3, 2), np.nan))
    grad_x, grad_kernel = backward(np.empty((2, 0, 7, 7)), empty, kernel, out=outs)
    assert grad_x.shape == empty.shape
    assert grad_kernel is outs[1]
    np.testing.assert_array_equal(grad_kernel, np.zeros((3, 2)))


def central_differences(function, array):
    step = 1e-5
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        changed = array.copy()
        changed[index] += step
        above = function(changed)
        changed[index] -= 2 * step
        gradient[index] = (above - function(changed)) / (2 * step)
    return gradient


@pytest.mark.parametrize("kernel_shape", [(3, 2), (4, 5), (1, 3)])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_central_differences(backend, name, mode, kernel_shape, rng):
    function, backward = getattr(functional, name), getattr(functional, name + "_backward")
    x, kernel = rng.uniform(-1, 1, (2, 5, 6)), rng.uniform(-1, 1, kernel_shape)
    grad = rng.uniform(-1, 1, function(x, kernel, mode).shape)
    grad_x, grad_kernel = backward(grad, x, kernel, mode)
    np.testing.assert_allclose(
        grad_x, central_differences(lambda a: np.vdot(function(a, kernel, mode), grad), x), atol=1e-8
    )
    np.testing.assert_allclose(
        grad_kernel, central_differences(lambda a: np.vdot(function(x, a, mode), grad), kernel), atol=1e-8
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_scipy(backend, name, dtype, rng, check_close):
    """For mode "full" the gradients are "valid" correlations; those of a correlation come out flipped."""
    x = rng.uniform(-1, 1, (9, 17)).astype(np.float32).astype(np.float64)
    kernel = rng.uniform(-1, 1, (4, 3)).astype(np.float32).astype(np.float64)
    grad = rng.uniform(-1, 1, (12, 19)).astype(np.float32).astype(np.float64)
    if name == "convolve2d":
        expected_x = signal.correlate2d(grad, kernel, mode="valid")
        expected_kernel = signal.correlate2d(grad, x, mode="valid")
    else:
        expected_x = signal.convolve2d(grad, kernel, mode="valid")
        expected_kernel = signal.correlate2d(grad, x, mode="valid")[::-1, ::-1]
    outs = (np.full((9, 17), np.nan, dtype), np.full((4, 3), np.nan, dtype))
    arguments = [array.astype(dtype) for array in (grad, x, kernel)]
    results = getattr(functional, name + "_backward")(*arguments, "full", out=outs)
    assert all(result is out for result, out in zip(results, outs, strict=True))
    check_close(results[0], expected_x, 12)
    check_close(results[1], expected_kernel, 153)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_adjoint_identity(backend, name, mode, rng):
    x, kernel = rng.uniform(-1, 1, (3, 11, 12)), rng.uniform(-1, 1, (4, 5))
    y = getattr(functional, name)(x, kernel, mode)
    grad = rng.uniform(-1, 1, y.shape)
    grad_x, grad_kernel = getattr(functional, name + "_backward")(grad, x, kernel, mode)
    np.testing.assert_allclose([np.vdot(x, grad_x), np.vdot(kernel, grad_kernel)], np.vdot(y, grad), rtol=1e-11)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ((4, 5), (5, 2), "valid"),
            "NAME: mode='valid' needs a kernel no larger than x on either axis; got x (4, 5), kernel (5, 2); "
            "use mode 'same' or 'full', or swap the arguments",
        ),
        (((4, 5), (2, 2), "wrap"), "NAME: mode must be one of 'full', 'same', 'valid'; got 'wrap'"),
        (((5,), (2, 2), "full"), "NAME: x must have at least 2 axes (..., H, W), got shape (5,)"),
        (((4, 5), (1, 2, 2), "full"), "NAME: kernel must have 2 axes (R, S), got shape (1, 2, 2)"),
        (((3, 0, 5), (2, 2), "full"), "NAME: only leading axes of x may be empty; got x (3, 0, 5), kernel (2, 2)"),
        (((3, 5), (2, 0), "full"), "NAME: only leading axes of x may be empty; got x (3, 5), kernel (2, 0)"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_errors(backend, name, arguments, message):
    x_shape, kernel_shape, mode = arguments
    with pytest.raises(ValueError) as caught:
        getattr(functional, name)(np.ones(x_shape), np.ones(kernel_shape), mode)
    assert str(caught.value) == message.replace("NAME", name)
    with pytest.raises(ValueError) as caught:
        getattr(functional, name + "_backward")(np.ones((5, 6)), np.ones(x_shape), np.ones(kernel_shape), mode)
    assert str(caught.value) == message.replace("NAME", name + "_backward")


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_another_shape(backend, name):
    with pytest.raises(ValueError) as caught:
        getattr(functional, name + "_backward")(np.ones((4, 4)), np.ones((4, 4)), np.ones((2, 2)), "full")
    assert str(caught.value) == (
        f"{name}_backward: grad_output has shape (4, 4) but {name} returns (5, 5) for x (4, 4), kernel (2, 2) and "
        "these options; pass a gradient of that shape"
    )
