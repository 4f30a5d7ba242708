"""Max pooling and its gradient: against the definition, PyTorch and the NumPy twin."""

import numpy as np
import pytest
from pool_cases import CASES, DTYPES, LAYOUTS, TORCH_CASES, Case, as_layout, from_layout

import convgrad
from convgrad import functional, reference
from convgrad._native import runtime


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_max_is_the_largest_cell(case, layout, dtype, backend, rng):
    x = case.data(rng, dtype, layout)
    y, indices = functional.max_pool2d(x, case.kernel, return_indices=True, layout=layout, **case.options)
    expected, places, plane = case.largest(from_layout(x, layout))
    assert y.dtype == dtype
    assert indices.dtype == (np.uint8 if case.kernel[0] * case.kernel[1] <= 256 else np.int32)
    np.testing.assert_array_equal(from_layout(y, layout), expected)
    np.testing.assert_array_equal(from_layout(indices, layout), places)
    np.testing.assert_array_equal(functional.max_pool2d(x, case.kernel, layout=layout, **case.options), y)
    as_torch = functional.max_pool2d_plane_indices(indices, x.shape, case.kernel, layout=layout, **case.options)
    assert as_torch.dtype == np.int64
    np.testing.assert_array_equal(from_layout(as_torch, layout), plane)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_max_backward_adds_to_the_selected_cells(case, layout, dtype, backend, rng, check_close):
    x = case.data(rng, dtype, layout)
    y, indices = functional.max_pool2d(x, case.kernel, return_indices=True, layout=layout, **case.options)
    grad_output = rng.uniform(-1, 1, y.shape).astype(dtype)
    grad = functional.max_pool2d_backward(grad_output, indices, x.shape, case.kernel, layout=layout, **case.options)
    plane = case.largest(from_layout(x, layout))[2].reshape(case.x[0] * case.x[1], -1)
    expected = np.zeros((len(plane), case.x[2] * case.x[3] + 1))  # one more cell for windows that have none: -1
    rows = np.arange(len(plane))[:, None]
    np.add.at(expected, (rows, plane), from_layout(grad_output, layout).reshape(plane.shape))
    assert grad.dtype == dtype
    check_close(from_layout(grad, layout), expected[:, :-1].reshape(case.x), case.kernel[0] * case.kernel[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("x_shape, kernel, stride, padding, dilation, ceil_mode", TORCH_CASES)
def test_max_against_torch(
    x_shape, kernel, stride, padding, dilation, ceil_mode, layout, dtype, backend, rng, check_close
):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal(x_shape).astype(dtype)
    x_torch = torch.from_numpy(x.copy()).requires_grad_()
    y_torch, indices_torch = torch.nn.functional.max_pool2d(
        x_torch, kernel, stride, padding, dilation, ceil_mode, return_indices=True
    )
    grad_output = rng.uniform(-1, 1, y_torch.shape).astype(dtype)
    y_torch.backward(torch.from_numpy(grad_output))

    options = dict(stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode, layout=layout)
    x = as_layout(x, layout)
    y, indices = functional.max_pool2d(x, kernel, return_indices=True, **options)
    plane = functional.max_pool2d_plane_indices(indices, x.shape, kernel, **options)
    grad = functional.max_pool2d_backward(as_layout(grad_output, layout), indices, x.shape, kernel, **options)
    np.testing.assert_array_equal(from_layout(y, layout), y_torch.detach().numpy())
    np.testing.assert_array_equal(from_layout(plane, layout), indices_torch.numpy())
    check_close(from_layout(grad, layout), x_torch.grad.numpy(), 300)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_width_around_the_lanes(layout, dtype, rng):
    """Native against the twin, bit for bit, for all small widths, strides and windows."""
    for width in range(1, 36):
        for kernel in range(1, min(width, 5) + 1):
            stride = 1 + (width + kernel) % 4
            x = np.round(rng.standard_normal((2, 3, 3, width) if layout == "NCHW" else (2, 3, width, 3)) * 3).astype(
                dtype
            )
            options = dict(stride=(1, stride), padding=((0, 0), (kernel - 1, kernel // 2)), layout=layout)
            native = functional.max_pool2d(x, (2, kernel), return_indices=True, **options)
            twin = reference.max_pool2d(x, (2, kernel), return_indices=True, **options)
            np.testing.assert_array_equal(native[0], twin[0], err_msg=f"width {width}, kernel {kernel}, {options}")
            np.testing.assert_array_equal(native[1], twin[1], err_msg=f"width {width}, kernel {kernel}, {options}")
            grads = [
                module.max_pool2d_backward(native[0], native[1], x.shape, (2, kernel), **options)
                for module in (functional, reference)
            ]
            np.testing.assert_allclose(*grads, rtol=0, atol=0, err_msg=f"width {width}, kernel {kernel}, {options}")


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_of_channels_last(channels, dtype, rng):
    x = np.round(rng.standard_normal((2, 9, 10, channels)) * 3).astype(dtype)
    for options in (dict(), dict(stride=1, padding=1), dict(stride=(3, 2), dilation=2)):
        native = functional.max_pool2d(x, 3, return_indices=True, layout="NHWC", **options)
        twin = reference.max_pool2d(x, 3, return_indices=True, layout="NHWC", **options)
        np.testing.assert_array_equal(native[0], twin[0])
        np.testing.assert_array_equal(native[1], twin[1])
        grads = [
            module.max_pool2d_backward(*native, x.shape, 3, layout="NHWC", **options)
            for module in (functional, reference)
        ]
        np.testing.assert_array_equal(*grads)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("special", [np.nan, -np.inf, np.inf, -0.0])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_special_values(case, special, layout, dtype, backend, rng):
    """The first NaN wins, else the first of the largest; -inf is selected only in the image."""
    for share in (0.1, 0.5, 1.0):
        x = case.data(rng, dtype, layout)
        x[rng.random(x.shape) < share] = special
        y, indices = functional.max_pool2d(x, case.kernel, return_indices=True, layout=layout, **case.options)
        expected, places, _ = case.largest(from_layout(x, layout))
        np.testing.assert_array_equal(from_layout(y, layout), expected)
        np.testing.assert_array_equal(from_layout(indices, layout), places)
        np.testing.assert_array_equal(functional.max_pool2d(x, case.kernel, layout=layout, **case.options), y)


def test_a_window_of_nothing_but_infinities_selects_its_first_pixel(backend):
    x = np.full((1, 1, 4, 4), -np.inf, np.float32)
    y, indices = functional.max_pool2d(x, 3, stride=2, padding=1, return_indices=True)
    assert (y == -np.inf).all()
    np.testing.assert_array_equal(indices[0, 0], [[4, 3], [1, 0]])


@pytest.mark.parametrize("kernel, dtype", [((16, 16), np.uint8), ((17, 16), np.int32), ((1, 257), np.int32)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_indices_are_bytes_while_they_fit(kernel, dtype, layout, backend):
    x = np.zeros((1, 2, kernel[0] + 1, kernel[1] + 1), np.float32)
    x[:, :, kernel[0] - 1, kernel[1] - 1] = 1
    _, indices = functional.max_pool2d(as_layout(x, layout), kernel, stride=1, return_indices=True, layout=layout)
    assert indices.dtype == dtype
    assert from_layout(indices, layout)[0, 0, 0, 0] == kernel[0] * kernel[1] - 1


def test_same_padding_gives_one_window_a_stride(backend, rng):
    for size in range(1, 12):
        for kernel in range(1, 5):
            for stride in range(1, 5):
                x = rng.standard_normal((1, 1, size, size)).astype(np.float32)
                y = functional.max_pool2d(x, kernel, stride=stride, padding="same")
                assert y.shape[2:] == (-(-size // stride),) * 2
                total = max((y.shape[2] - 1) * stride + kernel - size, 0)
                sides = ((total // 2, total - total // 2),) * 2
                np.testing.assert_array_equal(y, functional.max_pool2d(x, kernel, stride=stride, padding=sides))
    assert functional.max_pool2d(x, 3, stride=1, padding="full").shape == (1, 1, 13, 13)
    assert functional.max_pool2d(x, 3, stride=1, padding="valid").shape == (1, 1, 9, 9)


@pytest.mark.parametrize(
    "kernel, stride, padding",
    [
        ((300_001, 2), (150_000, 1), ((300_000, 0), (0, 0))),
        ((2, 300_001), (1, 150_000), ((0, 0), (300_000, 0))),
        ((1, 2**31 - 1), (1, 2**30), ((0, 0), (2**31 - 2, 7))),
        ((1, 1), (2**31 - 1, 2**31 - 1), 0),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_absurd_options(kernel, stride, padding, layout, rng):
    """Sizes that no staging area could hold."""
    x = as_layout(rng.standard_normal((2, 3, 4, 5)).astype(np.float32), layout)
    options = dict(stride=stride, padding=padding, layout=layout)
    y, indices = functional.max_pool2d(x, kernel, return_indices=True, **options)
    twin, places = reference.max_pool2d(x, kernel, return_indices=True, **options)
    np.testing.assert_array_equal(y, twin)
    np.testing.assert_array_equal(indices, places)
    np.testing.assert_allclose(
        functional.max_pool2d_backward(y, indices, x.shape, kernel, **options),
        reference.max_pool2d_backward(y, indices, x.shape, kernel, **options),
        rtol=1e-6,
    )
    np.testing.assert_array_equal(
        functional.max_pool2d_plane_indices(indices, x.shape, kernel, **options),
        reference.max_pool2d_plane_indices(indices, x.shape, kernel, **options),
    )
    for count_include_pad in (True, False):
        averages = dict(options, count_include_pad=count_include_pad)
        mean = functional.avg_pool2d(x, kernel, **averages)
        np.testing.assert_allclose(mean, reference.avg_pool2d(x, kernel, **averages), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            functional.avg_pool2d_backward(mean, x.shape, kernel, **averages),
            reference.avg_pool2d_backward(mean, x.shape, kernel, **averages),
            rtol=1e-5,
            atol=1e-6,
        )


def outcome(function, *arguments, **options):
    """(message of the ValueError or None, result or None) of a call."""
    try:
        return None, function(*arguments, **options)
    except ValueError as error:
        return str(error), None


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel, stride, padding", [(2, 2, 0), (3, 2, 1), (3, 3, 0), (17, 5, 4)])
def test_foreign_indices_are_refused_and_harmless(kernel, stride, padding, layout, backend, rng):
    """Whatever the indices: a ValueError where one is out of place, the twin's gradient otherwise."""
    x = as_layout(rng.standard_normal((2, 17, 20, 21)).astype(np.float32), layout)
    options = dict(stride=stride, padding=padding, layout=layout)
    y, indices = functional.max_pool2d(x, kernel, return_indices=True, **options)
    largest = np.iinfo(indices.dtype)
    refused = 0
    for place in range(60):
        foreign = indices.copy()
        at = (0, 0, 0, 0) if place == 0 else tuple(rng.integers(0, size) for size in foreign.shape)
        foreign[at] = rng.choice([largest.min, largest.max, 0, kernel * kernel - 1, kernel * kernel, kernel - 1])
        if place > 50:
            foreign = rng.integers(largest.min, largest.max, foreign.shape, foreign.dtype, endpoint=True)
        verdict, expected = outcome(reference.max_pool2d_backward, y, foreign, x.shape, kernel, **options)
        message, grad = outcome(functional.max_pool2d_backward, y, foreign, x.shape, kernel, **options)
        _, plane = outcome(functional.max_pool2d_plane_indices, foreign, x.shape, kernel, **options)
        assert message == verdict
        if expected is None:
            refused += 1
            assert message.startswith("max_pool2d_backward: indices must be positions")
            assert plane is None
        else:
            np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-5)
            assert plane is not None
    assert refused >= 9


@pytest.mark.parametrize("layout", LAYOUTS)
def test_out(layout, backend, rng):
    x = rng.standard_normal((2, 4, 6, 8)).astype(np.float32)
    y, indices = functional.max_pool2d(x, 2, return_indices=True, layout=layout)
    out = np.full(y.shape, np.nan, np.float32)
    assert functional.max_pool2d(x, 2, layout=layout, out=out) is out
    np.testing.assert_array_equal(out, y)
    strided = np.full((*y.shape[:3], 2 * y.shape[3]), np.nan, np.float32)[..., ::2]
    places = np.full(y.shape, 9, np.uint8)
    result = functional.max_pool2d(x, 2, return_indices=True, layout=layout, out=(strided, places))
    assert result[0] is strided
    assert result[1] is places
    np.testing.assert_array_equal(strided, y)
    np.testing.assert_array_equal(places, indices)
    fresh, places = functional.max_pool2d(x, 2, return_indices=True, layout=layout, out=(None, places))
    np.testing.assert_array_equal(fresh, y)

    grad = functional.max_pool2d_backward(y, indices, x.shape, 2, layout=layout)
    target = np.full(x.shape, np.nan, np.float32)
    assert functional.max_pool2d_backward(y, indices, x.shape, 2, layout=layout, out=target) is target
    np.testing.assert_array_equal(target, grad)
    memory = np.empty(x.size, np.float32)  # grad_output and result share memory
    gradient, target = memory[: y.size].reshape(y.shape), memory.reshape(x.shape)
    gradient[...] = y
    functional.max_pool2d_backward(gradient, indices, x.shape, 2, layout=layout, out=target)
    np.testing.assert_array_equal(target, grad)
    plane = functional.max_pool2d_plane_indices(indices, x.shape, 2, layout=layout)
    target = np.full(plane.shape, -7)
    assert functional.max_pool2d_plane_indices(indices, x.shape, 2, layout=layout, out=target) is target
    np.testing.assert_array_equal(target, plane)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides_and_read_only(dtype, backend, rng):
    base = rng.standard_normal((4, 12, 3, 10)).astype(dtype)
    x = base[::2, ::-1].transpose(0, 2, 1, 3)
    before = base.copy()
    x.flags.writeable = False
    y, indices = functional.max_pool2d(x, 2, return_indices=True)
    expected = functional.max_pool2d(np.ascontiguousarray(x), 2, return_indices=True)
    np.testing.assert_array_equal(y, expected[0])
    grad_output = np.asfortranarray(y)
    grad_output.flags.writeable = False
    strided = np.repeat(indices, 2, axis=1)[:, ::2]
    grad = functional.max_pool2d_backward(grad_output, strided, x.shape, 2)
    np.testing.assert_array_equal(grad, functional.max_pool2d_backward(y, expected[1], x.shape, 2))
    np.testing.assert_array_equal(base, before)
    shifted = np.frombuffer(b"\0" + np.ascontiguousarray(x).tobytes(), np.uint8)[1:].view(dtype).reshape(x.shape)
    assert not shifted.flags.aligned
    np.testing.assert_array_equal(functional.max_pool2d(shifted, 2), y)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty_batch(layout, backend):
    x = np.empty((0, 4, 6, 8), np.float32)
    y, indices = functional.max_pool2d(x, 2, return_indices=True, layout=layout)
    assert y.shape == indices.shape == ((0, 4, 3, 4) if layout == "NCHW" else (0, 2, 3, 8))
    assert functional.max_pool2d_backward(y, indices, x.shape, 2, layout=layout).shape == x.shape
    assert functional.max_pool2d_plane_indices(indices, x.shape, 2, layout=layout).shape == y.shape


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", [CASES[1], CASES[5], CASES[18], Case((24, 24, 28, 28), (3, 3), (2, 2))], ids=str)
def test_threads_and_batch_change_nothing(case, layout, rng):
    x = rng.standard_normal(as_layout(np.empty((8, *case.x[1:])), layout).shape).astype(np.float32)
    options = dict(layout=layout, **case.options)

    def compute(x):
        y, indices = functional.max_pool2d(x, case.kernel, return_indices=True, **options)
        mean = functional.avg_pool2d(x, case.kernel, **options)
        scale = np.linspace(0.5, 2, case.x[1], dtype=np.float32)
        return [
            y,
            indices,
            functional.max_pool2d_backward(y, indices, x.shape, case.kernel, **options),
            mean,
            functional.avg_pool2d_backward(mean, x.shape, case.kernel, **options),
            functional.subsample2d(x, scale, scale, case.kernel, **options),
            functional.subsample2d_backward(mean, x, scale, case.kernel, **options)[0],
            functional.global_avg_pool2d(x, layout=layout),
            functional.global_max_pool2d(x, layout=layout),
        ]

    with convgrad.threads(1):
        alone = compute(x)
    with convgrad.threads(5):
        together = compute(x)
    for one, many in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, many)
    for sample in (0, 5):
        for one, many in zip(compute(x[sample : sample + 1]), alone, strict=True):
            np.testing.assert_array_equal(one[0], many[sample])


def pooling_calls(dtype):
    """(kernel, function call) for every native entry of pooling."""
    x = np.ones((2, 3, 4, 4), dtype)
    small, channels = np.ones((2, 3, 2, 2), dtype), np.ones(3, dtype)
    places, plane = np.zeros(small.shape, np.uint8), np.zeros((2, 3, 1, 1), np.int64)
    one = np.ones((2, 3, 1, 1), dtype)
    return {
        "max_pool2d": lambda f: f.max_pool2d(x, 2),
        "max_pool2d_backward": lambda f: f.max_pool2d_backward(small, places, x.shape, 2),
        "avg_pool2d": lambda f: f.avg_pool2d(x, 2),
        "avg_pool2d_backward": lambda f: f.avg_pool2d_backward(small, x.shape, 2),
        "subsample2d": lambda f: f.subsample2d(x, channels, channels, 2),
        "subsample2d_backward": lambda f: f.subsample2d_backward(small, x, channels, 2),
        "global_avg_pool2d": lambda f: f.global_avg_pool2d(x),
        "global_avg_pool2d_backward": lambda f: f.global_avg_pool2d_backward(one, x.shape),
        "global_max_pool2d": lambda f: f.global_max_pool2d(x),
        "global_max_pool2d_backward": lambda f: f.global_max_pool2d_backward(one, plane, x.shape),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", pooling_calls(np.float32))
def test_native_kernels_are_reached(kernel, dtype):
    entry = kernel, np.dtype(dtype).name
    before = runtime.kernel_calls()[entry]
    pooling_calls(dtype)[kernel](functional)
    assert runtime.kernel_calls()[entry] == before + 1
    with convgrad.backend("numpy"):
        pooling_calls(dtype)[kernel](functional)
    pooling_calls(dtype)[kernel](reference)
    assert runtime.kernel_calls()[entry] == before + 1
