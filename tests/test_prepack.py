"""`prepack_conv2d`: the bits of conv2d from weights packed once, whatever happens to the originals."""

import copy

import numpy as np
import pytest
from conv_cases import CASES, DTYPES, LAYOUTS, Case, arrays, laid_out

from convgrad import backends, functional, reference
from convgrad._native import memory, runtime
from convgrad.precision import precision
from convgrad.threads import threads

ONE_PIXEL = ((1, 1), (1, 1))
# Besides those shared with the other tests: where Winograd runs, with weights kept whole and not.
PREPACK_CASES = [
    *CASES,
    Case((2, 16, 12, 13), 24, (3, 3), padding=ONE_PIXEL),
    Case((2, 40, 7, 7), 70, (3, 3), padding=((0, 3), (2, 1))),
    Case((1, 260, 5, 5), 300, (3, 3), padding=ONE_PIXEL),
    Case((1, 300, 6, 6), 64, (1, 1)),
    Case((1, 64, 9, 9), 130, (5, 5), padding=((2, 2), (2, 2)), stride=(2, 2)),
    Case((2, 17, 9, 20), 17, (3, 3), groups=17, padding=ONE_PIXEL),
]
ACTIVATIONS = (None, "relu", ("leaky_relu", 0.2), "gelu", "sigmoid")


@pytest.mark.parametrize("case", PREPACK_CASES, ids=str)
def test_packed_has_the_bits_of_conv2d(backend, case):
    for i, (dtype, layout) in enumerate((dtype, layout) for dtype in DTYPES for layout in LAYOUTS):
        x, weight, bias = arrays(case, dtype)
        x = laid_out(x, layout)
        bias = None if i == 1 else bias
        options = dict(case.options, layout=layout, activation=ACTIVATIONS[(i + case.out_channels) % len(ACTIVATIONS)])
        packed = functional.prepack_conv2d(weight, bias, input_shape=x.shape, **options)
        expected = functional.conv2d(x, weight, bias, **options)
        out = np.full_like(expected, np.nan)
        assert packed(x, out) is out
        np.testing.assert_array_equal(out, expected)
        result = packed(x)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("algorithm", ["auto", "direct", "winograd"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_batch_size_any_number_of_threads(backend, algorithm, dtype, rng):
    weight, bias = rng.standard_normal((48, 20, 3, 3)).astype(dtype), rng.standard_normal(48).astype(dtype)
    packed = functional.prepack_conv2d(weight, bias, input_shape=(4, 20, 9, 9), padding=1, algorithm=algorithm)
    for batch in (1, 4, 7, 0, 2):
        x = rng.standard_normal((batch, 20, 9, 9)).astype(dtype)
        expected = functional.conv2d(x, weight, bias, padding=1, algorithm=algorithm)
        for n in (1, 3):
            with threads(n):
                np.testing.assert_array_equal(packed(x), expected)
    for batch in (0, 3):
        again = functional.prepack_conv2d(weight, bias, input_shape=(batch, 20, 9, 9), padding=1, algorithm=algorithm)
        np.testing.assert_array_equal(again(x), expected)


@pytest.mark.parametrize("padding", ["same", "valid", "full", [1, [2, 0]]])
def test_padding_by_name_and_weights_of_any_strides(backend, padding, rng):
    x = rng.standard_normal((2, 8, 7, 9), dtype=np.float32)
    weight = rng.standard_normal((3, 3, 8, 20), dtype=np.float32).transpose(3, 2, 0, 1)[::2]
    bias = rng.standard_normal(20, dtype=np.float32)[::-2]
    options = dict(padding=padding, stride=(1, 2), activation=("elu", 0.5))
    packed = functional.prepack_conv2d(weight, bias, input_shape=list(x.shape), **options)
    np.testing.assert_array_equal(packed(x), functional.conv2d(x, weight, bias, **options))


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_nothing_done_to_the_originals_changes_the_result(backend, algorithm, rng):
    x = rng.standard_normal((2, 16, 9, 9), dtype=np.float32)
    weight, bias = rng.standard_normal((16, 16, 3, 3), dtype=np.float32), rng.standard_normal(16, dtype=np.float32)
    stride, padding, activation, shape = [1, 1], [[1, 0], [2, 1]], ["leaky_relu", 0.5], list(x.shape)
    options = dict(stride=stride, padding=padding, activation=activation, algorithm=algorithm)
    packed = functional.prepack_conv2d(weight, bias, input_shape=shape, **options)
    expected = functional.conv2d(x, weight, bias, **options)
    kept_weight, kept_bias = weight.copy(), bias.copy()
    weight.fill(np.nan)
    bias.fill(np.nan)
    stride[0], padding[0][0], padding[1], activation[1], shape[2] = 5, 7, [9, 9], 0.1, 20
    np.testing.assert_array_equal(packed(x), expected)
    np.testing.assert_array_equal(packed.weight, kept_weight)
    np.testing.assert_array_equal(packed.bias, kept_bias)


def test_packed_is_immutable(backend):
    weight, bias = np.ones((3, 2, 1, 1), np.float32), np.ones(3, np.float32)
    packed = functional.prepack_conv2d(weight, bias, input_shape=(1, 2, 4, 4))
    for name in ("weight", "bias", "_weight", "other"):
        with pytest.raises(AttributeError) as caught:
            setattr(packed, name, weight)
        assert str(caught.value) == (
            f"PackedConv2d is immutable: cannot set {name!r}; call prepack_conv2d for other weights"
        )
        with pytest.raises(AttributeError) as caught:
            delattr(packed, name)
        assert str(caught.value) == f"PackedConv2d is immutable: cannot delete {name!r}"
    for array in (packed.weight, packed.bias):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    assert functional.prepack_conv2d(weight, input_shape=(1, 2, 4, 4)).bias is None
    assert repr(packed) == "PackedConv2d(weight (3, 2, 1, 1) float32, x (1, 2, 4, 4), any batch size)"
    with pytest.raises((TypeError, AttributeError)):  # its packed memory cannot be copied behind its back
        copy.copy(packed)


def test_precision_and_backend_are_those_of_its_making(rng):
    x, weight = (
        rng.standard_normal((1, 32, 12, 12), dtype=np.float32),
        rng.standard_normal((32, 32, 3, 3), dtype=np.float32),
    )
    options = dict(input_shape=x.shape, padding=1)
    fast = functional.prepack_conv2d(weight, **options)
    with precision("strict"):
        strict = functional.prepack_conv2d(weight, **options)
        strict_result = functional.conv2d(x, weight, padding=1)
    fast_result = functional.conv2d(x, weight, padding=1)
    assert not np.array_equal(fast_result, strict_result)
    np.testing.assert_array_equal(strict(x), strict_result)
    with precision("strict"):
        np.testing.assert_array_equal(fast(x), fast_result)
    with backends.backend("numpy"):
        twin = functional.prepack_conv2d(weight, **options)
        before = runtime.kernel_calls()
        np.testing.assert_array_equal(fast(x), fast_result)
        assert runtime.kernel_calls() != before
    before = runtime.kernel_calls()
    np.testing.assert_array_equal(twin(x), reference.conv2d(x, weight, padding=1))
    assert runtime.kernel_calls() == before


def test_large_weights_packed_in_either_precision(rng):
    """Beyond 2.5 MB of transformed weights nothing is kept packed; the precision still is."""
    x, weight = (
        rng.standard_normal((1, 260, 4, 4), dtype=np.float32),
        rng.standard_normal((300, 260, 3, 3), dtype=np.float32),
    )
    with precision("strict"):
        strict = functional.prepack_conv2d(weight, input_shape=x.shape, padding=1)
        expected = functional.conv2d(x, weight, padding=1)
    np.testing.assert_array_equal(strict(x), expected)
    assert not np.array_equal(functional.prepack_conv2d(weight, input_shape=x.shape, padding=1)(x), expected)


@pytest.mark.parametrize("groups", [1, 6])
def test_x_and_out_of_any_strides(backend, groups, rng):
    x, weight = rng.standard_normal((2, 6, 9, 8), dtype=np.float32), rng.standard_normal((6, 6, 3, 3), dtype=np.float32)
    weight = weight[:, : 6 // groups]
    packed = functional.prepack_conv2d(weight, input_shape=x.shape, padding=1, groups=groups)
    expected = functional.conv2d(x, weight, padding=1, groups=groups)
    strided = np.full((2, 12, 9, 16), np.nan, np.float32)[:, ::2, :, ::2]
    strided[...] = x
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
    unaligned[...] = x
    readonly = x.copy()
    readonly.flags.writeable = False
    for view in (strided, unaligned, readonly, x[:, ::-1].copy()[:, ::-1]):
        np.testing.assert_array_equal(packed(view), expected)
        np.testing.assert_array_equal(functional.conv2d(view, weight, padding=1, groups=groups), expected)
    out = np.full((2, 6, 9, 16), np.nan, np.float32)[..., ::2]
    assert packed(x, out=out) is out
    np.testing.assert_array_equal(out, expected)
    own = x.copy()
    assert packed(own, out=own) is own  # the result of its own input
    np.testing.assert_array_equal(own, expected)


def test_packing_again_and_again_takes_no_more_memory(rng):
    weight = rng.standard_normal((64, 64, 3, 3), dtype=np.float32)
    x = np.ones((1, 64, 8, 8), np.float32)

    def once():
        for algorithm in ("direct", "winograd"):
            functional.prepack_conv2d(weight, input_shape=x.shape, algorithm=algorithm)(x)

    once()
    once()
    before = memory.cache_info()["system_blocks"]
    for _ in range(20):
        once()
    assert memory.cache_info()["system_blocks"] == before


W, B = np.ones((4, 3, 3, 3), np.float32), np.ones(4, np.float32)
SHAPE = (2, 3, 8, 8)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: functional.prepack_conv2d(W, np.ones(3, np.float32), input_shape=SHAPE),
            ValueError,
            "prepack_conv2d: bias must have shape (4,), one entry per output channel; got shape (3,)",
        ),
        (
            lambda: functional.prepack_conv2d(W, B, input_shape=(2, 5, 8, 8)),
            ValueError,
            "prepack_conv2d: weight expects 3 input channels but input_shape has 5; input_shape (2, 5, 8, 8), "
            "weight (4, 3, 3, 3)",
        ),
        (
            lambda: functional.prepack_conv2d(W, B, input_shape=(3, 8, 8)),
            ValueError,
            "prepack_conv2d: input_shape must have 4 entries (N, C, H, W), got (3, 8, 8)",
        ),
        (
            lambda: functional.prepack_conv2d(W, B, input_shape=8),
            TypeError,
            "prepack_conv2d: input_shape must be a tuple of integers such as x.shape, got int",
        ),
        (
            lambda: functional.prepack_conv2d(W, B, input_shape=(2, 3, 8, 8.0)),
            TypeError,
            "prepack_conv2d: every entry of input_shape must be an integer, got 8.0 (float)",
        ),
        (
            lambda: functional.prepack_conv2d(W.astype(np.float16), input_shape=SHAPE),
            TypeError,
            "prepack_conv2d: weight is float16; only float32 and float64 are supported, convert it with "
            "weight.astype(np.float32)",
        ),
        (
            lambda: functional.prepack_conv2d(None, input_shape=SHAPE),
            TypeError,
            "prepack_conv2d: weight must be a NumPy array of float32 or float64, got NoneType; convert it with "
            "np.asarray(weight, dtype=np.float32)",
        ),
        (
            lambda: functional.prepack_conv2d(W, B.astype(np.float64), input_shape=SHAPE),
            TypeError,
            "prepack_conv2d: weight is float32 and bias is float64; pass both as float32 or both as float64",
        ),
        (
            lambda: functional.prepack_conv2d(W, B, input_shape=SHAPE, activation="swish"),
            ValueError,
            "prepack_conv2d: unknown activation 'swish'; use None or one of 'identity', 'sigmoid', 'tanh', 'relu', "
            "'leaky_relu', 'elu', 'selu', 'softplus', 'silu', 'gelu'",
        ),
        (
            lambda: functional.prepack_conv2d(W, B, input_shape=SHAPE)(np.ones(SHAPE)),
            TypeError,
            "PackedConv2d: x is float64 but the weight was packed as float32; pass float32",
        ),
        (
            lambda: functional.prepack_conv2d(W, B, input_shape=SHAPE)(np.ones((2, 3, 8, 9), np.float32)),
            ValueError,
            "PackedConv2d: x has shape (2, 3, 8, 9) but the weight was packed for (2, 3, 8, 8) with any batch size; "
            "pass such an x or pack again",
        ),
        (
            lambda: functional.prepack_conv2d(W, B, input_shape=SHAPE)(np.ones((3, 8, 8), np.float32)),
            ValueError,
            "PackedConv2d: x has shape (3, 8, 8) but the weight was packed for (2, 3, 8, 8) with any batch size; "
            "pass such an x or pack again",
        ),
        (
            lambda: functional.prepack_conv2d(W, B, input_shape=SHAPE)([[1.0]]),
            TypeError,
            "PackedConv2d: x must be a NumPy array of float32 or float64, got list; convert it with "
            "np.asarray(x, dtype=np.float32)",
        ),
        (
            lambda: functional.prepack_conv2d(W, B, input_shape=SHAPE)(
                np.ones(SHAPE, np.float32), np.ones((2, 4, 6, 5), np.float32)
            ),
            ValueError,
            "PackedConv2d: out has shape (2, 4, 6, 5) but the result has (2, 4, 6, 6); pass out of that shape",
        ),
        (
            lambda: functional.prepack_conv2d(W, B, input_shape=SHAPE)(
                np.ones(SHAPE, np.float32), np.ones((2, 4, 6, 6))
            ),
            TypeError,
            "PackedConv2d: out is float64 but the result is float32; pass out as float32",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def test_errors_of_out_and_shape_under_the_numpy_backend_name_the_packed_convolution():
    with backends.backend("numpy"):
        packed = functional.prepack_conv2d(W, B, input_shape=SHAPE)
        x = np.ones(SHAPE, np.float32)
        with pytest.raises(ValueError, match="^PackedConv2d: out has shape"):
            packed(x, np.ones((2, 4, 6, 5), np.float32))
        with pytest.raises(ValueError, match="^PackedConv2d: x has shape"):
            packed(x[:, :, :7])


@pytest.mark.parametrize("case", PREPACK_CASES, ids=str)
def test_residual_is_added_before_the_activation(backend, case, rng):
    for i, dtype in enumerate(DTYPES):
        x, weight, bias = arrays(case, dtype)
        plain = functional.prepack_conv2d(weight, bias, input_shape=x.shape, **case.options)(x)
        residual = rng.standard_normal(plain.shape).astype(dtype)
        activation = (None, "relu", ("leaky_relu", 0.2), "silu")[(i + case.out_channels) % 4]
        packed = functional.prepack_conv2d(weight, bias, input_shape=x.shape, activation=activation, **case.options)
        expected = plain + residual
        if activation is not None:
            name, *parameter = (activation,) if isinstance(activation, str) else activation
            expected = getattr(functional, name)(expected, *parameter)
        out = np.full_like(expected, np.nan)
        for n in (1, 3):
            with threads(n):
                assert packed(x, out, residual) is out
                np.testing.assert_array_equal(out, expected)
        over = residual.copy()
        np.testing.assert_array_equal(packed(x, over, over), expected)
        strided = np.repeat(residual, 2, axis=-1)[..., ::2]
        np.testing.assert_array_equal(packed(x, residual=strided), expected)


def test_residual_that_does_not_fit(rng):
    weight = rng.standard_normal((4, 3, 3, 3), dtype=np.float32)
    x = rng.standard_normal((2, 3, 5, 5), dtype=np.float32)
    packed = functional.prepack_conv2d(weight, input_shape=x.shape)
    with pytest.raises(ValueError, match=r"residual has shape \(1, 4, 3, 3\) but the result \(2, 4, 3, 3\)"):
        packed(x, residual=np.zeros((1, 4, 3, 3), np.float32))
    with pytest.raises(TypeError, match="x is float32 and residual is float64"):
        packed(x, residual=np.zeros((2, 4, 3, 3)))
    last = functional.prepack_conv2d(weight, input_shape=(2, 5, 5, 3), layout="NHWC")
    with pytest.raises(ValueError, match="only with NCHW"):
        last(x.transpose(0, 2, 3, 1), residual=np.zeros((2, 3, 3, 4), np.float32))
