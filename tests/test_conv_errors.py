"""The complete message of everything that convolutions refuse."""

import numpy as np
import pytest

from convgrad import functional


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


X, W = ones(2, 6, 8, 8), ones(4, 6, 3, 3)

VALUE_ERRORS = [
    (
        lambda: functional.conv2d(ones(8, 6, 32, 32), ones(16, 4, 3, 3), groups=2),
        (
            "conv2d: weight expects 4 input channels per group but x has 6 / groups=2 = 3; x (8, 6, 32, 32), "
            "weight (16, 4, 3, 3)"
        ),
    ),
    (
        lambda: functional.conv2d(X, ones(4, 5, 3, 3)),
        "conv2d: weight expects 5 input channels but x has 6; x (2, 6, 8, 8), weight (4, 5, 3, 3)",
    ),
    (
        lambda: functional.conv2d(ones(1, 6, 5, 9), W, dilation=3),
        "conv2d: kernel spans 7 rows (3 with dilation 3) but padded input has 5; raise padding or lower dilation",
    ),
    (
        lambda: functional.conv2d(ones(1, 6, 9, 2), W),
        "conv2d: kernel spans 3 columns but padded input has 2; raise padding or use a smaller kernel",
    ),
    (
        lambda: functional.conv2d(X, W, algorithm="winograd", stride=2),
        "conv2d: algorithm='winograd' needs a 3x3 kernel, stride 1, dilation 1; got stride (2, 2); use 'auto'",
    ),
    (
        lambda: functional.conv2d(X, ones(4, 6, 4, 4), algorithm="winograd", dilation=(1, 2)),
        (
            "conv2d: algorithm='winograd' needs a 3x3 kernel, stride 1, dilation 1; got kernel (4, 4), dilation "
            "(1, 2); use 'auto'"
        ),
    ),
    (
        lambda: functional.conv2d(X, W, algorithm="fft"),
        "conv2d: algorithm must be one of 'auto', 'direct', 'winograd'; got 'fft'",
    ),
    (lambda: functional.conv2d(X, W, layout="CHWN"), "conv2d: layout must be one of 'NCHW', 'NHWC'; got 'CHWN'"),
    (lambda: functional.conv2d(ones(6, 8, 8), W), "conv2d: x must have 4 axes (N, C, H, W), got shape (6, 8, 8)"),
    (
        lambda: functional.conv2d(ones(6, 8, 8), W, layout="NHWC"),
        "conv2d: x must have 4 axes (N, H, W, C), got shape (6, 8, 8)",
    ),
    (
        lambda: functional.conv2d(X, ones(4, 6, 3)),
        "conv2d: weight must have 4 axes (K, C/groups, R, S), got shape (4, 6, 3)",
    ),
    (
        lambda: functional.conv2d(ones(2, 0, 8, 8), W),
        "conv2d: only the batch axis of x may be empty; got x (2, 0, 8, 8)",
    ),
    (lambda: functional.conv2d(X, ones(0, 6, 3, 3)), "conv2d: no axis of weight may be empty; got weight (0, 6, 3, 3)"),
    (lambda: functional.conv2d(X, W, groups=4), "conv2d: groups=4 does not divide the 6 channels of x (2, 6, 8, 8)"),
    (
        lambda: functional.conv2d(X, ones(4, 2, 3, 3), groups=3),
        "conv2d: groups=3 does not divide the 4 output channels of weight (4, 2, 3, 3)",
    ),
    (lambda: functional.conv2d(X, W, groups=0), "conv2d: groups must be at least 1, got 0"),
    (lambda: functional.conv2d(X, W, stride=0), "conv2d: stride must be at least 1, got 0"),
    (
        lambda: functional.conv2d(X, W, stride=(1, 2, 3)),
        "conv2d: stride must be an integer or a pair of integers, got (1, 2, 3)",
    ),
    (lambda: functional.conv2d(X, W, stride=2**31), "conv2d: stride must be at most 2147483647, got 2147483648"),
    (lambda: functional.conv2d(X, W, dilation=(1, 0)), "conv2d: dilation must be at least 1, got 0"),
    (lambda: functional.conv2d(X, W, padding=-1), "conv2d: padding must be at least 0, got -1"),
    (lambda: functional.conv2d(X, W, padding=((1, -1), (0, 0))), "conv2d: padding must be at least 0, got -1"),
    (
        lambda: functional.conv2d(X, W, padding="half"),
        (
            "conv2d: padding must be an integer, (h, w), ((top, bottom), (left, right)), 'valid', 'same' or "
            "'full'; got 'half'"
        ),
    ),
    (
        lambda: functional.conv2d(X, W, padding=(1, 2, 3)),
        (
            "conv2d: padding must be an integer, (h, w), ((top, bottom), (left, right)), 'valid', 'same' or "
            "'full'; got (1, 2, 3)"
        ),
    ),
    (
        lambda: functional.conv2d(X, W, padding=((1, 2, 3), 1)),
        (
            "conv2d: padding must be an integer, (h, w), ((top, bottom), (left, right)), 'valid', 'same' or "
            "'full'; got ((1, 2, 3), 1)"
        ),
    ),
    (lambda: functional.conv2d(X, W, padding=2**31), "conv2d: padding must be at most 2147483647, got 2147483648"),
    (
        lambda: functional.conv2d(X, W, ones(5)),
        "conv2d: bias must have shape (4,), one entry per output channel; got shape (5,)",
    ),
    (
        lambda: functional.conv2d(X, W, ones(4, 1)),
        "conv2d: bias must have shape (4,), one entry per output channel; got shape (4, 1)",
    ),
    (
        lambda: functional.conv2d(X, W, activation="swish"),
        (
            "conv2d: unknown activation 'swish'; use None or one of 'identity', 'sigmoid', 'tanh', 'relu', "
            "'leaky_relu', 'elu', 'selu', 'softplus', 'silu', 'gelu'"
        ),
    ),
    (
        lambda: functional.conv2d(X, W, activation=("relu", 1.0)),
        "conv2d: activation 'relu' takes no parameter, got 1.0; pass activation='relu'",
    ),
    (
        lambda: functional.conv2d(X, W, activation=("mish", 1.0)),
        (
            "conv2d: unknown activation 'mish'; use None or one of 'identity', 'sigmoid', 'tanh', 'relu', "
            "'leaky_relu', 'elu', 'selu', 'softplus', 'silu', 'gelu'"
        ),
    ),
    (
        lambda: functional.conv2d(X, W, activation=("elu", float("nan"))),
        "conv2d: parameter of 'elu' must be finite, got nan",
    ),
    (
        lambda: functional.conv2d(X, W, out=ones(2, 4, 6, 5)),
        "conv2d: out has shape (2, 4, 6, 5) but the result has (2, 4, 6, 6); pass out of that shape",
    ),
    (
        lambda: functional.conv2d_grad_input(ones(2, 4, 6, 6), W, (2, 6, 8)),
        "conv2d_grad_input: input_shape must have 4 entries (N, C, H, W), got (2, 6, 8)",
    ),
    (
        lambda: functional.conv2d_grad_input(ones(2, 4, 6, 6), W, (2, 5, 8, 8)),
        (
            "conv2d_grad_input: weight expects 6 input channels but input_shape has 5; input_shape (2, 5, 8, 8), "
            "weight (4, 6, 3, 3)"
        ),
    ),
    (
        lambda: functional.conv2d_grad_input(ones(2, 4, 6, 6), W, (2, 6, 9, 8)),
        (
            "conv2d_grad_input: grad_output has shape (2, 4, 6, 6) but conv2d returns (2, 4, 7, 6) for "
            "input_shape (2, 6, 9, 8), weight (4, 6, 3, 3) and these options; pass a gradient of that shape"
        ),
    ),
    (
        lambda: functional.conv2d_grad_input(ones(2, 4, 6, 6), W, (-2, 6, 8, 8)),
        "conv2d_grad_input: every entry of input_shape must be at least 0, got -2",
    ),
    (
        lambda: functional.conv2d_grad_weight(ones(2, 4, 6, 6), X, 2),
        (
            "conv2d_grad_weight: grad_output has shape (2, 4, 6, 6) but conv2d returns (2, 4, 7, 7) for x (2, 6, "
            "8, 8), kernel_size (2, 2) and these options; pass a gradient of that shape"
        ),
    ),
    (
        lambda: functional.conv2d_grad_weight(ones(2, 4, 6, 6), X, (3, 0)),
        "conv2d_grad_weight: kernel_size must be at least 1, got 0",
    ),
    (
        lambda: functional.conv2d_grad_weight(ones(2, 4, 6, 6), X, 3, groups=4),
        "conv2d_grad_weight: groups=4 does not divide the 6 channels of x (2, 6, 8, 8)",
    ),
    (
        lambda: functional.conv2d_grad_weight(ones(2, 5, 6, 6), X, 3, groups=2),
        "conv2d_grad_weight: groups=2 does not divide the 5 channels of grad_output (2, 5, 6, 6)",
    ),
    (
        lambda: functional.conv2d_grad_weight(ones(4, 6, 6), X, 3),
        "conv2d_grad_weight: grad_output must have 4 axes (N, C, H, W), got shape (4, 6, 6)",
    ),
    (
        lambda: functional.conv2d_grad_bias(ones(4, 6, 6)),
        "conv2d_grad_bias: grad_output must have 4 axes (N, C, H, W), got shape (4, 6, 6)",
    ),
    (
        lambda: functional.conv2d_backward(ones(2, 4, 6, 7), X, W),
        (
            "conv2d_backward: grad_output has shape (2, 4, 6, 7) but conv2d returns (2, 4, 6, 6) for x (2, 6, 8, "
            "8), weight (4, 6, 3, 3) and these options; pass a gradient of that shape"
        ),
    ),
    (
        lambda: functional.conv2d_backward(ones(2, 4, 6, 6), X, W, out=(None, None, ones(4)), bias=False),
        "conv2d_backward: out has an array for grad_bias, which is not computed; pass None there",
    ),
    (
        lambda: functional.conv2d_backward(ones(2, 4, 6, 6), X, W, out=(None, ones(4, 6, 3, 2), None)),
        (
            "conv2d_backward: out's grad_weight has shape (4, 6, 3, 2) but the result has (4, 6, 3, 3); pass "
            "out's grad_weight of that shape"
        ),
    ),
    (
        lambda: functional.conv_transpose2d(X, W),
        "conv_transpose2d: weight expects 4 input channels but x has 6; x (2, 6, 8, 8), weight (4, 6, 3, 3)",
    ),
    (
        lambda: functional.conv_transpose2d(X, ones(6, 2, 3, 3), padding="same"),
        "conv_transpose2d: padding must be an integer, (h, w) or ((top, bottom), (left, right)); got 'same'",
    ),
    (
        lambda: functional.conv_transpose2d(X, ones(6, 2, 3, 3), padding=(1, 2, 3)),
        "conv_transpose2d: padding must be an integer, (h, w) or ((top, bottom), (left, right)); got (1, 2, 3)",
    ),
    (
        lambda: functional.conv_transpose2d(X, ones(6, 2, 3, 3), output_padding=1),
        (
            "conv_transpose2d: output_padding must be smaller than stride or dilation; got output_padding (1, 1),"
            " stride (1, 1), dilation (1, 1)"
        ),
    ),
    (
        lambda: functional.conv_transpose2d(X, ones(6, 2, 3, 3), output_padding=(0, -1)),
        "conv_transpose2d: output_padding must be at least 0, got -1",
    ),
    (
        lambda: functional.conv_transpose2d(X, ones(6, 2, 3, 3), groups=4),
        "conv_transpose2d: groups=4 does not divide the 6 channels of x (2, 6, 8, 8)",
    ),
    (
        lambda: functional.conv_transpose2d(X, ones(6, 2, 3, 3), padding=5),
        "conv_transpose2d: padding (5, 5) leaves none of the 10 rows of the result; lower padding",
    ),
    (
        lambda: functional.conv_transpose2d(X, ones(6, 2, 3, 3), ones(6)),
        "conv_transpose2d: bias must have shape (2,), one entry per output channel; got shape (6,)",
    ),
    (
        lambda: functional.conv_transpose2d(X, ones(6, 2, 3, 3), algorithm="winograd", stride=2),
        (
            "conv_transpose2d: algorithm='winograd' needs a 3x3 kernel, stride 1, dilation 1; got stride (2, 2); "
            "use 'auto'"
        ),
    ),
    (
        lambda: functional.conv_transpose2d_backward(ones(2, 2, 9, 10), X, ones(6, 2, 3, 3)),
        (
            "conv_transpose2d_backward: grad_output has shape (2, 2, 9, 10) but conv_transpose2d returns (2, 2, "
            "10, 10) for x (2, 6, 8, 8), weight (6, 2, 3, 3) and these options; pass a gradient of that shape"
        ),
    ),
    (
        lambda: functional.conv1d(ones(2, 6, 8), ones(4, 5, 3)),
        "conv1d: weight expects 5 input channels but x has 6; x (2, 6, 8), weight (4, 5, 3)",
    ),
    (lambda: functional.conv1d(X, ones(4, 6, 3)), "conv1d: x must have 3 axes (N, C, W), got shape (2, 6, 8, 8)"),
    (
        lambda: functional.conv1d(ones(2, 6, 8), W),
        "conv1d: weight must have 3 axes (K, C/groups, S), got shape (4, 6, 3, 3)",
    ),
    (
        lambda: functional.conv1d(ones(2, 6, 8), ones(4, 6, 9)),
        "conv1d: kernel spans 9 columns but padded input has 8; raise padding or use a smaller kernel",
    ),
    (
        lambda: functional.conv1d(ones(2, 6, 8), ones(4, 6, 3), stride=(1, 2)),
        "conv1d: stride must be an integer, got (1, 2)",
    ),
    (
        lambda: functional.conv1d(ones(2, 6, 8), ones(4, 6, 3), padding=(1, 2, 3)),
        "conv1d: padding must be an integer, (left, right), 'valid', 'same' or 'full'; got (1, 2, 3)",
    ),
    (
        lambda: functional.conv1d(ones(2, 6, 8), ones(4, 6, 3), padding="circular"),
        "conv1d: padding must be an integer, (left, right), 'valid', 'same' or 'full'; got 'circular'",
    ),
    (
        lambda: functional.conv1d(ones(2, 6, 8), ones(4, 6, 3), layout="NCL"),
        "conv1d: layout must be one of 'NCW', 'NWC', 'NCHW', 'NHWC'; got 'NCL'",
    ),
    (
        lambda: functional.conv1d(ones(2, 6, 8), ones(4, 6, 3), algorithm="winograd"),
        "conv1d: algorithm='winograd' needs a 3x3 kernel, stride 1, dilation 1; got kernel (3,); use 'auto'",
    ),
    (
        lambda: functional.conv1d(ones(2, 6, 8), ones(4, 6, 3), out=ones(2, 4, 7)),
        "conv1d: out has shape (2, 4, 7) but the result has (2, 4, 6); pass out of that shape",
    ),
    (
        lambda: functional.conv1d_backward(ones(2, 4, 7), ones(2, 6, 8), ones(4, 6, 3)),
        (
            "conv1d_backward: grad_output has shape (2, 4, 7) but conv1d returns (2, 4, 6) for x (2, 6, 8), "
            "weight (4, 6, 3) and these options; pass a gradient of that shape"
        ),
    ),
    (
        lambda: functional.conv_transpose1d(ones(2, 6, 8), ones(6, 2, 3), output_padding=1),
        (
            "conv_transpose1d: output_padding must be smaller than stride or dilation; got output_padding (1,), "
            "stride (1,), dilation (1,)"
        ),
    ),
    (
        lambda: functional.conv_transpose1d(ones(2, 6, 8), ones(6, 2, 3), padding=(4, 6)),
        "conv_transpose1d: padding (4, 6) leaves none of the 10 columns of the result; lower padding",
    ),
]

TYPE_ERRORS = [
    (
        lambda: functional.conv2d(ones(2, 6, 8, 8, dtype=np.float64), W),
        "conv2d: x is float64 and weight is float32; pass both as float32 or both as float64",
    ),
    (
        lambda: functional.conv2d(X, W, ones(4, dtype=np.float64)),
        "conv2d: x is float32 and bias is float64; pass both as float32 or both as float64",
    ),
    (
        lambda: functional.conv2d(X, W, algorithm=None),
        "conv2d: algorithm must be a string, one of 'auto', 'direct', 'winograd'; got NoneType",
    ),
    (lambda: functional.conv2d(X, W, layout=1), "conv2d: layout must be a string, one of 'NCHW', 'NHWC'; got int"),
    (lambda: functional.conv2d(X, W, groups=True), "conv2d: groups must be an integer, got True"),
    (lambda: functional.conv2d(X, W, stride=1.0), "conv2d: stride must be an integer, got 1.0 (float)"),
    (lambda: functional.conv2d(X, W, padding=1.5), "conv2d: padding must be an integer, got 1.5 (float)"),
    (lambda: functional.conv2d(X, W, padding=None), "conv2d: padding must be an integer, got None (NoneType)"),
    (
        lambda: functional.conv2d(X, W, activation=3),
        (
            "conv2d: activation must be None, a name or (name, parameter), got 3; names: 'identity', 'sigmoid', "
            "'tanh', 'relu', 'leaky_relu', 'elu', 'selu', 'softplus', 'silu', 'gelu'"
        ),
    ),
    (
        lambda: functional.conv2d(X, W, activation=("elu", "1")),
        "conv2d: parameter of 'elu' must be a real number, got '1' (str)",
    ),
    (
        lambda: functional.conv2d([[1.0]], W),
        (
            "conv2d: x must be a NumPy array of float32 or float64, got list; convert it with np.asarray(x, "
            "dtype=np.float32)"
        ),
    ),
    (
        lambda: functional.conv2d(None, W),
        (
            "conv2d: x must be a NumPy array of float32 or float64, got NoneType; convert it with np.asarray(x, "
            "dtype=np.float32)"
        ),
    ),
    (
        lambda: functional.conv2d(X, None),
        (
            "conv2d: weight must be a NumPy array of float32 or float64, got NoneType; convert it with "
            "np.asarray(weight, dtype=np.float32)"
        ),
    ),
    (
        lambda: functional.conv2d(np.ones((2, 6, 8, 8), int), W),
        "conv2d: x is int64; only float32 and float64 are supported, convert it with x.astype(np.float32)",
    ),
    (
        lambda: functional.conv2d(np.ones((2, 6, 8, 8), np.float16), W),
        "conv2d: x is float16; only float32 and float64 are supported, convert it with x.astype(np.float32)",
    ),
    (
        lambda: functional.conv2d(X.astype(">f4"), W),
        "conv2d: x is byte-swapped float32; convert it with x.astype(np.float32)",
    ),
    (lambda: functional.conv2d(np.ma.array(X), W), "conv2d: x is a masked array; fill it first, e.g. x.filled(0)"),
    (
        lambda: functional.conv2d(X, W, out=ones(2, 4, 6, 6, dtype=np.float64)),
        "conv2d: out is float64 but the result is float32; pass out as float32",
    ),
    (lambda: functional.conv2d(X, W, out=[1]), "conv2d: out must be a NumPy array, got list"),
    (
        lambda: functional.conv2d_grad_input(ones(2, 4, 6, 6), W, 8),
        "conv2d_grad_input: input_shape must be a tuple of integers such as x.shape, got int",
    ),
    (
        lambda: functional.conv2d_grad_input(ones(2, 4, 6, 6), W, (2, 6.0, 8, 8)),
        "conv2d_grad_input: every entry of input_shape must be an integer, got 6.0 (float)",
    ),
    (
        lambda: functional.conv2d_grad_input(ones(2, 4, 6, 6), None, (2, 6, 8, 8)),
        (
            "conv2d_grad_input: weight must be a NumPy array of float32 or float64, got NoneType; convert it with"
            " np.asarray(weight, dtype=np.float32)"
        ),
    ),
    (
        lambda: functional.conv2d_grad_bias(None),
        (
            "conv2d_grad_bias: grad_output must be a NumPy array of float32 or float64, got NoneType; convert it "
            "with np.asarray(grad_output, dtype=np.float32)"
        ),
    ),
    (
        lambda: functional.conv2d_backward(ones(2, 4, 6, 6), X, W, bias=ones(4)),
        "conv2d_backward: bias must be True or False, got ndarray",
    ),
    (
        lambda: functional.conv2d_backward(ones(2, 4, 6, 6), X, W, out=ones(4)),
        (
            "conv2d_backward: out must be a tuple (grad_input, grad_weight, grad_bias) with None where no array "
            "is given, got ndarray"
        ),
    ),
    (
        lambda: functional.conv2d_backward(ones(2, 4, 6, 6), X, W, out=(None, None)),
        (
            "conv2d_backward: out must be a tuple (grad_input, grad_weight, grad_bias) with None where no array "
            "is given, got 2 entries"
        ),
    ),
    (
        lambda: functional.conv1d(ones(2, 6, 8), ones(4, 6, 3), padding=((1, 2), (3, 4))),
        "conv1d: padding must be an integer, got (1, 2) (tuple)",
    ),
]

MEMORY_ERRORS = [
    (
        lambda: functional.conv2d(
            np.broadcast_to(np.float32(1), (1, 1, 2**30, 2**30)), np.broadcast_to(np.float32(1), (16, 1, 3, 3))
        ),
        "conv2d: an array of shape (1, 1, 1073741824, 1073741824) would be needed, more than memory can address",
    ),
    (
        lambda: functional.conv2d(X, W, padding=2**31 - 1),
        "conv2d: an array of shape (2, 6, 4294967302, 4294967302) would be needed, more than memory can address",
    ),
    (
        lambda: functional.conv2d(X, W, padding=2**31 - 1, stride=2**31 - 1),
        "conv2d: an array of shape (2, 6, 4294967302, 4294967302) would be needed, more than memory can address",
    ),
    (
        lambda: functional.conv_transpose2d(X, ones(6, 2, 3, 3), stride=2**31 - 1),
        (
            "conv_transpose2d: an array of shape (2, 2, 15032385532, 15032385532) would be needed, more than "
            "memory can address"
        ),
    ),
]

REFUSED = [
    *((call, ValueError, message) for call, message in VALUE_ERRORS),
    *((call, TypeError, message) for call, message in TYPE_ERRORS),
    *((call, MemoryError, message) for call, message in MEMORY_ERRORS),
]


@pytest.mark.parametrize("call, error, message", REFUSED, ids=[message[:60] for _, _, message in REFUSED])
def test_message(backend, call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
    assert type(caught.value) is error


def test_read_only_out(backend):
    out = ones(2, 4, 6, 6)
    out.flags.writeable = False
    with pytest.raises(ValueError) as caught:
        functional.conv2d(X, W, out=out)
    assert str(caught.value) == "conv2d: out is read-only; pass a writeable array of shape (2, 4, 6, 6)"


def test_refused_again_after_the_right_call(backend):
    """A cached shape for stride=1 must not let True or 1.0 pass."""
    for options in (dict(stride=1), dict(padding=1), dict(dilation=1), dict(groups=1), dict(padding=(1, 1))):
        functional.conv2d(X, W, **options)
        for wrong in (True, 1.0):
            name = next(iter(options))
            with pytest.raises(TypeError):
                functional.conv2d(X, W, **{name: wrong})
            if name != "groups":
                with pytest.raises(TypeError):
                    functional.conv2d(X, W, **{name: (wrong, 1)})


def test_out_is_untouched_where_a_call_is_refused(backend):
    out = np.full((2, 4, 6, 6), 7, np.float32)
    with pytest.raises(ValueError):
        functional.conv2d(X, W, stride=0, out=out)
    assert (out == 7).all()
