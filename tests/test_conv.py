"""Forward convolutions: against PyTorch in float64, and the native kernels against the NumPy twin."""

import inspect

import numpy as np
import pytest
from conv_cases import CASES, DTYPES, LAYOUTS, arrays, laid_out, torch_answer

from convgrad import backends, functional, reference

torch = pytest.importorskip("torch")

# One below, at and above the vector widths and tile sizes of the kernels.
CHANNELS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33)
WIDTHS = (7, 8, 9, 14, 15, 16, 17, 31, 33)

ACTIVATIONS = {
    "identity": lambda x: x,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "elu": torch.nn.functional.elu,
    "selu": torch.selu,
    "softplus": lambda x: torch.nn.functional.softplus(x, threshold=1000),
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv2d_equals_torch(backend, case, layout, dtype, check_close):
    x, weight, bias = arrays(case, dtype)
    expected = laid_out(torch_answer(case)["y"], layout)
    out = np.full(expected.shape, np.nan, dtype)
    result = functional.conv2d(laid_out(x, layout), weight, bias, layout=layout, out=out, **case.options)
    assert result is out
    check_close(result, expected, case.length)


@pytest.mark.parametrize("algorithm", ["auto", "direct"])
def test_algorithms_without_bias(backend, algorithm, check_close):
    case = CASES[2]
    x, weight, bias = arrays(case, np.float32)
    result = functional.conv2d(x, weight, algorithm=algorithm, **case.options)
    check_close(result, torch_answer(case)["y"] - bias[:, None, None].astype(np.float64), case.length)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel, stride, padding", [(3, 1, 1), (1, 1, 0), (4, 2, (1, 0)), ((2, 5), 1, 2)])
def test_every_tail_equals_the_twin(backend, kernel, stride, padding, layout, dtype, rng, check_close):
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    options = dict(stride=stride, padding=padding, layout=layout)
    for i, in_channels in enumerate(CHANNELS):
        for j, out_channels in enumerate(CHANNELS):
            width = WIDTHS[(i + 5 * j) % len(WIDTHS)]
            x = rng.uniform(-1, 1, (1, in_channels, 5, width)).astype(np.float32)
            weight = rng.uniform(-1, 1, (out_channels, in_channels, *kernel)).astype(np.float32)
            x = laid_out(x, layout)
            expected = reference.conv2d(x.astype(np.float64), weight.astype(np.float64), **options)
            result = functional.conv2d(x.astype(dtype), weight.astype(dtype), **options)
            assert result.dtype == dtype
            check_close(result, expected, weight[0].size, (in_channels, out_channels, width))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_width(backend, stride, layout, rng, check_close):
    weight = rng.uniform(-1, 1, (3, 2, 3, 3)).astype(np.float32)
    for width in (*range(3, 40), 47, 48, 49, 63, 64, 65, 127, 128, 129):
        x = laid_out(rng.uniform(-1, 1, (2, 2, 4, width)).astype(np.float32), layout)
        options = dict(stride=stride, padding=(1, 0), layout=layout)
        expected = reference.conv2d(x.astype(np.float64), weight.astype(np.float64), **options)
        check_close(functional.conv2d(x, weight, **options), expected, 18, width)


@pytest.mark.parametrize("kernel", range(1, 8))
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_kernels_strides_dilations_groups(backend, kernel, dilation, groups, rng, check_close):
    x = rng.uniform(-1, 1, (2, 6, 22, 23))
    weight = rng.uniform(-1, 1, (6, 6 // groups, kernel, kernel))
    for stride in (1, 2, 3):
        options = dict(stride=stride, padding=kernel // 2, dilation=dilation, groups=groups)
        expected = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(weight), **options).numpy()
        check_close(functional.conv2d(x, weight, **options), expected, weight[0].size, stride)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_fused_activation(backend, name, layout, dtype, rng, check_close):
    x = laid_out(rng.uniform(-2, 2, (2, 5, 6, 19)).astype(np.float32), layout).astype(dtype)
    weight = rng.uniform(-1, 1, (17, 5, 3, 3)).astype(np.float32).astype(dtype)
    bias = rng.uniform(-1, 1, 17).astype(np.float32).astype(dtype)
    plain = reference.conv2d(*(a.astype(np.float64) for a in (x, weight, bias)), padding=1, layout=layout)
    expected = ACTIVATIONS[name](torch.tensor(plain)).numpy()
    result = functional.conv2d(x, weight, bias, padding=1, activation=name, layout=layout)
    check_close(result, expected, 4 * weight[0].size)
    check_close(
        functional.conv2d(x, weight, padding=1, activation=name, layout=layout),
        ACTIVATIONS[name](torch.tensor(plain - bias.astype(np.float64)[:, None, None] if layout == "NCHW"
                                       else plain - bias.astype(np.float64))).numpy(),
        4 * weight[0].size,
    )  # fmt: skip


@pytest.mark.parametrize("name, parameter", [("leaky_relu", 0.3), ("leaky_relu", 0), ("elu", 1.5), ("elu", 0.0)])
def test_fused_activation_with_a_parameter(backend, name, parameter, rng, check_close):
    x, weight = rng.uniform(-1, 1, (1, 3, 8, 9)), rng.uniform(-1, 1, (4, 3, 3, 3))
    expected = getattr(torch.nn.functional, name)(torch.tensor(reference.conv2d(x, weight)), parameter).numpy()
    check_close(functional.conv2d(x, weight, activation=(name, parameter)), expected, 60)


@pytest.mark.parametrize(
    "padding, same_as",
    [
        (0, ((0, 0), (0, 0))),
        (2, ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        ([1, [2, 3]], ((1, 1), (2, 3))),
        (((0, 1), (2, 3)), ((0, 1), (2, 3))),
        (np.int64(1), ((1, 1), (1, 1))),
        ("valid", ((0, 0), (0, 0))),
        ("full", ((3, 3), (4, 4))),
    ],
)
def test_forms_of_padding(backend, padding, same_as, rng):
    x, weight = rng.uniform(-1, 1, (2, 3, 9, 8)), rng.uniform(-1, 1, (4, 3, 4, 3))
    expected = functional.conv2d(x, weight, padding=same_as, dilation=(1, 2))
    np.testing.assert_array_equal(functional.conv2d(x, weight, padding=padding, dilation=(1, 2)), expected)


@pytest.mark.parametrize(
    "size, kernel, stride, dilation, before_after",
    [
        # ONNX SAME_UPPER, worked out by hand: total = (ceil(size / stride) - 1) * stride + span - size
        (5, 3, 1, 1, (1, 1)),
        (5, 4, 1, 1, (1, 2)),
        (5, 2, 1, 1, (0, 1)),
        (5, 3, 2, 1, (1, 1)),
        (6, 3, 2, 1, (0, 1)),
        (7, 2, 3, 1, (0, 1)),
        (6, 1, 3, 1, (0, 0)),
        (7, 3, 1, 2, (2, 2)),
        (8, 2, 2, 3, (1, 1)),
        (10, 3, 4, 1, (0, 1)),
    ],
)
def test_same_padding(backend, size, kernel, stride, dilation, before_after, rng):
    x, weight = rng.uniform(-1, 1, (1, 2, size, 9)), rng.uniform(-1, 1, (3, 2, kernel, 1))
    options = dict(stride=(stride, 1), dilation=(dilation, 1))
    result = functional.conv2d(x, weight, padding="same", **options)
    assert result.shape[2:] == (-(-size // stride), 9)
    np.testing.assert_array_equal(result, functional.conv2d(x, weight, padding=(before_after, (0, 0)), **options))


@pytest.mark.parametrize("kernel", [(3, 3), (5, 1)])
def test_same_padding_equals_torch(backend, kernel, rng, check_close):
    x, weight = rng.uniform(-1, 1, (2, 3, 9, 8)), rng.uniform(-1, 1, (4, 3, *kernel))
    expected = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(weight), padding="same").numpy()
    check_close(functional.conv2d(x, weight, padding="same"), expected, weight[0].size)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty_batch(backend, layout):
    x = laid_out(np.ones((0, 3, 8, 9), np.float32), layout)
    weight, bias = np.ones((4, 3, 3, 3), np.float32), np.ones(4, np.float32)
    result = functional.conv2d(x, weight, bias, layout=layout, activation="relu")
    assert result.shape == ((0, 4, 6, 7) if layout == "NCHW" else (0, 6, 7, 4))
    transposed = functional.conv_transpose2d(x, weight.reshape(3, 4, 3, 3), bias, layout=layout, activation="relu")
    assert transposed.shape == ((0, 4, 10, 11) if layout == "NCHW" else (0, 10, 11, 4))


def test_a_sample_does_not_depend_on_the_batch(backend, rng):
    x, weight = rng.uniform(-1, 1, (5, 9, 12, 13)).astype(np.float32), rng.uniform(-1, 1, (18, 9, 3, 3)).astype("f")
    together = functional.conv2d(x, weight, padding=1)
    for n in range(5):
        np.testing.assert_array_equal(functional.conv2d(x[n : n + 1], weight, padding=1)[0], together[n])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_values_reach_exactly_the_windows_that_read_them(backend, value, layout, rng):
    x = rng.uniform(0.5, 1, (1, 3, 9, 20)).astype(np.float32)
    x[0, 1, 4, 10] = value
    weight = rng.uniform(0.5, 1, (5, 3, 3, 3)).astype(np.float32)
    result = functional.conv2d(laid_out(x, layout), weight, layout=layout, algorithm="direct")
    result = result if layout == "NCHW" else result.transpose(0, 3, 1, 2)
    touched = np.zeros(result.shape, bool)
    touched[:, :, 2:5, 8:11] = True
    np.testing.assert_array_equal(result[touched], np.full(45, value, np.float32))
    assert np.isfinite(result[~touched]).all()


# ---------------------------------------------------------------------------------------------------------------------
# Transposed
# ---------------------------------------------------------------------------------------------------------------------

TRANSPOSED = [
    dict(),
    dict(stride=2),
    dict(stride=2, padding=1, output_padding=1),
    dict(stride=3, padding=2, output_padding=(1, 2)),
    dict(dilation=2),
    dict(dilation=3, output_padding=2),  # output_padding above the stride
    dict(stride=(1, 3), dilation=(2, 1), output_padding=(1, 0), padding=(1, 2)),
    dict(groups=2, stride=2),
    dict(groups=4, padding=1),
]


def transposed_arrays(rng, options, dtype, kernel=(3, 4)):
    groups = options.get("groups", 1)
    shapes = ((2, 4, 7, 6), (4, 12 // groups, *kernel), (12,))
    return [rng.uniform(-1, 1, shape).astype(np.float32).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
def test_conv_transpose2d_equals_torch(backend, options, layout, dtype, rng, check_close):
    for kernel in ((3, 4), (1, 1), (2, 5)):
        x, weight, bias = transposed_arrays(rng, options, dtype, kernel)
        if kernel == (1, 1) and options.get("padding"):
            continue  # nothing but padding would be left at the borders; the other kernels cover padding
        expected = torch.nn.functional.conv_transpose2d(
            *(torch.tensor(array.astype(np.float64)) for array in (x, weight, bias)), **options
        ).numpy()
        expected = laid_out(expected, layout)
        out = np.full(expected.shape, np.nan, dtype)
        result = functional.conv_transpose2d(laid_out(x, layout), weight, bias, layout=layout, out=out, **options)
        assert result is out
        check_close(result, expected, 4 * weight[0, 0].size, kernel)


def test_conv_transpose2d_asymmetric_padding_crops(backend, rng, check_close):
    x, weight = rng.uniform(-1, 1, (1, 3, 5, 6)), rng.uniform(-1, 1, (3, 2, 4, 4))
    whole = functional.conv_transpose2d(x, weight, stride=2)
    cropped = functional.conv_transpose2d(x, weight, stride=2, padding=((1, 3), (0, 2)))
    check_close(cropped, whole[:, :, 1:-3, :-2], 48)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_conv_transpose2d_fused_activation(backend, name, layout, rng, check_close):
    x, weight, bias = transposed_arrays(rng, {}, np.float64)
    options = dict(stride=2, padding=1, layout=layout)
    x = laid_out(x, layout)
    expected = ACTIVATIONS[name](torch.tensor(reference.conv_transpose2d(x, weight, bias, **options))).numpy()
    result = functional.conv_transpose2d(x, weight, bias, activation=name, **options)
    check_close(result, expected, 4 * weight[0, 0].size)


# ---------------------------------------------------------------------------------------------------------------------
# One axis
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["NCW", "NWC", "NCHW", "NHWC"])
@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(padding=2, stride=2),
        dict(dilation=3, padding=(3, 3)),
        dict(groups=2, stride=3),
        dict(groups=6, padding=(1, 1)),
        dict(stride=(2,), dilation=[2]),
        dict(padding="same"),
    ],
    ids=str,
)
def test_conv1d_equals_torch(backend, options, layout, dtype, rng, check_close):
    shapes = ((3, 6, 34), (12, 6 // options.get("groups", 1), 5), (12,))
    x, weight, bias = (rng.uniform(-1, 1, shape).astype(np.float32).astype(dtype) for shape in shapes)
    torch_options = (
        dict(options, padding=options["padding"][0]) if options.get("padding") in [(3, 3), (1, 1)] else options
    )
    expected = torch.nn.functional.conv1d(
        *(torch.tensor(array.astype(np.float64)) for array in (x, weight, bias)), **torch_options
    ).numpy()
    channels_last = layout in ("NWC", "NHWC")
    if channels_last:
        x, expected = np.ascontiguousarray(x.transpose(0, 2, 1)), expected.transpose(0, 2, 1)
    out = np.full(expected.shape, np.nan, dtype)
    result = functional.conv1d(x, weight, bias, layout=layout, out=out, **options)
    assert result is out
    check_close(result, expected, weight[0].size)


def test_conv1d_asymmetric_padding_activation_and_strings(backend, rng, check_close):
    x, weight = rng.uniform(-1, 1, (2, 3, 11)), rng.uniform(-1, 1, (4, 3, 4))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 3)))
    expected = np.maximum(functional.conv1d(padded, weight), 0)
    check_close(functional.conv1d(x, weight, padding=(1, 3), activation="relu"), expected, 12)
    check_close(functional.conv1d(x, weight, padding=[1, 3], activation="relu"), expected, 12)
    full = functional.conv1d(np.pad(x, ((0, 0), (0, 0), (3, 3))), weight)
    check_close(functional.conv1d(x, weight, padding="full"), full, 12)
    check_close(functional.conv1d(x, weight, padding="valid"), full[:, :, 3:-3], 12)


@pytest.mark.parametrize("layout", ["NCW", "NWC"])
@pytest.mark.parametrize(
    "options",
    [dict(), dict(stride=3, padding=1, output_padding=2), dict(dilation=2, output_padding=1, groups=2)],
    ids=str,
)
def test_conv_transpose1d_equals_torch(backend, options, layout, rng, check_close):
    shapes = ((3, 4, 17), (4, 6 // options.get("groups", 1), 3), (6,))
    x, weight, bias = (rng.uniform(-1, 1, shape) for shape in shapes)
    expected = torch.nn.functional.conv_transpose1d(*map(torch.tensor, (x, weight, bias)), **options).numpy()
    if layout == "NWC":
        x, expected = x.transpose(0, 2, 1), expected.transpose(0, 2, 1)
    check_close(functional.conv_transpose1d(x, weight, bias, layout=layout, **options), expected, weight[0].size * 4)
    cropped = functional.conv_transpose1d(x, weight, bias, layout=layout, **dict(options, padding=(1, 0)))
    whole = functional.conv_transpose1d(x, weight, bias, layout=layout, **dict(options, padding=0))
    check_close(cropped, whole[:, :, 1:] if layout == "NCW" else whole[:, 1:], weight[0].size * 4)


# ---------------------------------------------------------------------------------------------------------------------
# The twin
# ---------------------------------------------------------------------------------------------------------------------


def test_every_twin_has_the_signature_and_the_results_of_its_functional(rng):
    names = [name for name in vars(functional) if "conv" in name or "correlate" in name]
    names = [name for name in names if inspect.isfunction(getattr(functional, name)) and hasattr(reference, name)]
    assert len(names) == 18
    for name in names:
        twin, function = getattr(reference, name), getattr(functional, name)
        assert inspect.signature(twin) == inspect.signature(function), name
    x, weight, bias = rng.uniform(-1, 1, (2, 3, 8, 9)), rng.uniform(-1, 1, (3, 3, 3, 3)), rng.uniform(-1, 1, 3)
    line, line_weight, grad = x[:, :, 0], weight[:, :, 0], rng.uniform(-1, 1, (2, 3, 6, 7))
    line_grad = grad[:, :, 0]
    arguments = {
        "conv2d": (x, weight, bias),
        "conv2d_grad_input": (grad, weight, x.shape),
        "conv2d_grad_weight": (grad, x, 3),
        "conv2d_grad_bias": (grad,),
        "conv2d_backward": (grad, x, weight),
        "conv_transpose2d": (grad, weight, bias),
        "conv_transpose2d_backward": (x, grad, weight),
        "conv1d": (line, line_weight, bias),
        "conv1d_grad_input": (line_grad, line_weight, line.shape),
        "conv1d_grad_weight": (line_grad, line, 3),
        "conv1d_grad_bias": (line_grad,),
        "conv1d_backward": (line_grad, line, line_weight),
        "conv_transpose1d": (line_grad, line_weight, bias),
        "conv_transpose1d_backward": (line, line_grad, line_weight),
        "convolve2d": (x, weight[0, 0], "valid"),
        "convolve2d_backward": (grad, x, weight[0, 0], "valid"),
        "correlate2d": (x, weight[0, 0], "valid"),
        "correlate2d_backward": (grad, x, weight[0, 0], "valid"),
    }
    assert sorted(arguments) == sorted(names)
    for name, values in arguments.items():
        with backends.backend("numpy"):
            expected = getattr(functional, name)(*values)
        result = getattr(reference, name)(*values)
        assert type(result) is type(expected)
        for ours, theirs in zip(result, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 700, 1, 1), (2, 300, 3, 3), (1, 90, 7, 7)])
def test_channels_with_equal_weights_have_equal_bits(shape, dtype, rng):
    """A last tile of fewer channels is summed in the same runs as the others."""
    x = rng.standard_normal(shape).astype(dtype)
    for out_channels in (104, 1000 if shape[2] == 1 else 41):
        for taps in (1, 3):
            weight = np.repeat(rng.standard_normal((1, shape[1], taps, taps)).astype(dtype), out_channels, axis=0)
            y = functional.conv2d(x, weight, padding=taps // 2, algorithm="direct")
            np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))


@pytest.mark.parametrize("H, W", [(3, 1), (1, 3), (5, 1), (1, 1)])
def test_an_axis_of_one_element_may_have_any_stride_in_out(H, W, rng):
    """NumPy calls such an array contiguous; its stride there says nothing."""
    x, weight = rng.standard_normal((2, 4, H, W)), rng.standard_normal((3, 4, 1, 1))
    room = np.full(1000, np.nan)
    strides = [8 * 3 * H * W, 8 * H * W, 8 * W, 8]
    for axis in (2, 3):
        if (H, W)[axis - 2] == 1:
            strides[axis] = -24
    out = np.lib.stride_tricks.as_strided(room[500:], (2, 3, H, W), strides)
    result = functional.conv2d(x, weight, out=out)
    np.testing.assert_allclose(result, reference.conv2d(x, weight), rtol=1e-12)
    assert np.isnan(room[:500]).all()
    assert np.isnan(room[500 + result.size :]).all()
