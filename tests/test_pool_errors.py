"""The complete message of everything that poolings and locally connected layers refuse, in both backends."""

import numpy as np
import pytest

from convgrad import functional


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


X, Y = ones(2, 3, 8, 6), ones(2, 3, 4, 3)
PLACES = np.zeros(Y.shape, np.uint8)
WEIGHT, GRADS = ones(6, 5, 4, 3, 3, 2), ones(2, 4, 6, 5)
CHANNELS = ones(3)


def at(array, place, value):
    array = array.copy()
    array[place] = value
    return array


VALUE_ERRORS = [
    (
        lambda: functional.max_pool2d(X, (9, 2)),
        "max_pool2d: window spans 9 rows but padded input has 8; raise padding or use a smaller window",
    ),
    (
        lambda: functional.avg_pool2d(X, 3, dilation=(1, 4), padding=(0, 1)),
        (
            "avg_pool2d: window spans 9 columns (3 with dilation 4) but padded input has 8; raise padding or use a "
            "smaller window"
        ),
    ),
    (
        lambda: functional.max_pool2d(X, 11, stride=2, ceil_mode=True),
        "max_pool2d: window spans 11 rows but padded input has 8; raise padding or use a smaller window",
    ),
    (
        lambda: functional.max_pool2d(X, 2, padding=2),
        (
            "max_pool2d: window spans 2 rows and padding must be smaller; got padding (2, 2) on that axis; lower "
            "padding or use a larger window"
        ),
    ),
    (
        lambda: functional.avg_pool2d(X, 2, padding=((0, 0), (0, 3)), dilation=2),
        (
            "avg_pool2d: window spans 3 columns (2 with dilation 2) and padding must be smaller; got padding (0, 3) on "
            "that axis; lower padding or use a larger window"
        ),
    ),
    (lambda: functional.max_pool2d(X, 0), "max_pool2d: kernel_size must be at least 1, got 0"),
    (lambda: functional.max_pool2d(X, (2, -1)), "max_pool2d: kernel_size must be at least 1, got -1"),
    (lambda: functional.max_pool2d(X, 2, stride=0), "max_pool2d: stride must be at least 1, got 0"),
    (lambda: functional.avg_pool2d(X, 2, dilation=(0, 1)), "avg_pool2d: dilation must be at least 1, got 0"),
    (lambda: functional.avg_pool2d(X, 2, padding=-1), "avg_pool2d: padding must be at least 0, got -1"),
    (
        lambda: functional.max_pool2d(X, (1, 2, 3)),
        "max_pool2d: kernel_size must be an integer or a pair of integers, got (1, 2, 3)",
    ),
    (
        lambda: functional.max_pool2d(X, 2, padding="sama"),
        (
            "max_pool2d: padding must be an integer, (h, w), ((top, bottom), (left, right)), 'valid', 'same' or "
            "'full'; got 'sama'"
        ),
    ),
    (
        lambda: functional.max_pool2d(X, 2, stride=2**31),
        "max_pool2d: stride must be at most 2147483647, got 2147483648",
    ),
    (
        lambda: functional.max_pool2d(X, (2**16, 2**16), padding=2**15),
        "max_pool2d: a window may have at most 2147483647 cells; got kernel_size (65536, 65536) with 4294967296",
    ),
    (
        lambda: functional.max_pool2d(X, 2, layout="CHWN"),
        "max_pool2d: layout must be one of 'NCHW', 'NHWC'; got 'CHWN'",
    ),
    (
        lambda: functional.global_max_pool2d(X, layout="NCWH"),
        "global_max_pool2d: layout must be one of 'NCHW', 'NHWC'; got 'NCWH'",
    ),
    (
        lambda: functional.max_pool2d(X[0], 2),
        "max_pool2d: x must have 4 axes (N, C, H, W), got shape (3, 8, 6)",
    ),
    (
        lambda: functional.global_avg_pool2d(X[0], layout="NHWC"),
        "global_avg_pool2d: x must have 4 axes (N, H, W, C), got shape (3, 8, 6)",
    ),
    (
        lambda: functional.subsample2d(X[:, :0], CHANNELS[:0], CHANNELS[:0], 2),
        "subsample2d: only the batch axis of x may be empty; got x (2, 0, 8, 6)",
    ),
    (
        lambda: functional.avg_pool2d_backward(Y, (2, 3, 8), 2),
        "avg_pool2d_backward: input_shape must have 4 entries (N, C, H, W), got (2, 3, 8)",
    ),
    (
        lambda: functional.avg_pool2d_backward(Y, (2, 3, 8, -6), 2),
        "avg_pool2d_backward: every entry of input_shape must be at least 0, got -6",
    ),
    (
        lambda: functional.avg_pool2d_backward(Y, (2, 3, 8, 8), 2),
        (
            "avg_pool2d_backward: grad_output has shape (2, 3, 4, 3) but avg_pool2d returns (2, 3, 4, 4) for "
            "input_shape (2, 3, 8, 8), kernel_size (2, 2) and these options; pass a gradient of that shape"
        ),
    ),
    (
        lambda: functional.max_pool2d_backward(Y, PLACES[:1], X.shape, 2),
        (
            "max_pool2d_backward: indices have shape (1, 3, 4, 3) but max_pool2d returns (2, 3, 4, 3) for input_shape "
            "(2, 3, 8, 6) and these options; pass the indices of that call"
        ),
    ),
    (
        lambda: functional.max_pool2d_backward(Y, at(PLACES, (1, 2, 0, 1), 4), X.shape, 2),
        (
            "max_pool2d_backward: indices must be positions r * S + s inside windows of 2x2 cells, 0 to 3; 4 at "
            "(1, 2, 0, 1) lies outside the window; pass what max_pool2d returned with these options"
        ),
    ),
    (
        lambda: functional.max_pool2d_plane_indices(
            np.zeros((1, 1, 2, 2), np.uint8), (1, 1, 3, 3), 3, stride=2, padding=1
        ),
        (
            "max_pool2d_plane_indices: indices must be positions r * S + s inside windows of 3x3 cells, 0 to 8; 0 at "
            "(0, 0, 0, 0) names a cell in the padding; pass what max_pool2d returned with these options"
        ),
    ),
    (
        lambda: functional.global_max_pool2d_backward(ones(2, 3, 1, 1), np.full((2, 3, 1, 1), 48), X.shape),
        (
            "global_max_pool2d_backward: indices must be positions h * W + w in a plane of 8x6 pixels, 0 to 47; got "
            "48 at (0, 0, 0, 0); pass what global_max_pool2d returned"
        ),
    ),
    (
        lambda: functional.global_avg_pool2d_backward(Y, X.shape),
        (
            "global_avg_pool2d_backward: grad_output has shape (2, 3, 4, 3) but global_avg_pool2d returns (2, 3, 1, "
            "1) for input_shape (2, 3, 8, 6) and these options; pass a gradient of that shape"
        ),
    ),
    (
        lambda: functional.subsample2d(X, CHANNELS, ones(4), 2),
        "subsample2d: bias must have shape (3,), one entry per channel; got shape (4,)",
    ),
    (
        lambda: functional.subsample2d_backward(Y, X, ones(3, 1), 2),
        "subsample2d_backward: weight must have shape (3,), one entry per channel; got shape (3, 1)",
    ),
    (
        lambda: functional.avg_pool2d(X, 2, out=ones(2, 3, 4, 4)),
        "avg_pool2d: out has shape (2, 3, 4, 4) but the result has (2, 3, 4, 3); pass out of that shape",
    ),
    (
        lambda: functional.locally_connected2d(X, WEIGHT[0]),
        "locally_connected2d: weight must have 6 axes (OH, OW, K, C, R, S), got shape (5, 4, 3, 3, 2)",
    ),
    (
        lambda: functional.locally_connected2d(X, WEIGHT[:, :, :0]),
        "locally_connected2d: no axis of weight may be empty; got weight (6, 5, 0, 3, 3, 2)",
    ),
    (
        lambda: functional.locally_connected2d(X, WEIGHT[:, :, :, :2]),
        ("locally_connected2d: weight expects 2 input channels but x has 3; x (2, 3, 8, 6), weight (6, 5, 4, 2, 3, 2)"),
    ),
    (
        lambda: functional.locally_connected2d(X[:, :, :2], WEIGHT),
        "locally_connected2d: kernel spans 3 rows but x has 2; x (2, 3, 2, 6), weight (6, 5, 4, 3, 3, 2)",
    ),
    (
        lambda: functional.locally_connected2d(X, WEIGHT, stride=2),
        (
            "locally_connected2d: weight is for (6, 5) output pixels but a (3, 2) kernel with stride (2, 2) has (3, "
            "3) on x (2, 3, 8, 6); pass weight of shape (3, 3, 4, 3, 3, 2)"
        ),
    ),
    (
        lambda: functional.locally_connected2d(X, WEIGHT, ones(4)),
        ("locally_connected2d: bias must have shape (6, 5, 4) (OH, OW, K), the first axes of weight; got shape (4,)"),
    ),
    (
        lambda: functional.locally_connected2d_backward(GRADS[:1], X, WEIGHT),
        (
            "locally_connected2d_backward: grad_output has shape (1, 4, 6, 5) but locally_connected2d returns "
            "(2, 4, 6, 5) for x (2, 3, 8, 6), weight (6, 5, 4, 3, 3, 2) and these options; pass a gradient of that "
            "shape"
        ),
    ),
    (
        lambda: functional.locally_connected2d_backward(GRADS, X, WEIGHT, bias=False, out=(None, None, ones(6, 5, 4))),
        "locally_connected2d_backward: out has an array for grad_bias, which is not computed; pass None there",
    ),
]

TYPE_ERRORS = [
    (
        lambda: functional.max_pool2d(X.astype(np.float16), 2),
        "max_pool2d: x is float16; only float32 and float64 are supported, convert it with x.astype(np.float32)",
    ),
    (
        lambda: functional.avg_pool2d([[1.0]], 2),
        (
            "avg_pool2d: x must be a NumPy array of float32 or float64, got list; convert it with "
            "np.asarray(x, dtype=np.float32)"
        ),
    ),
    (
        lambda: functional.subsample2d(X, None, CHANNELS, 2),
        (
            "subsample2d: weight must be a NumPy array of float32 or float64, got NoneType; convert it with "
            "np.asarray(weight, dtype=np.float32)"
        ),
    ),
    (
        lambda: functional.subsample2d(X, CHANNELS, CHANNELS.astype(np.float64), 2),
        "subsample2d: x is float32 and bias is float64; pass both as float32 or both as float64",
    ),
    (lambda: functional.max_pool2d(X, True), "max_pool2d: kernel_size must be an integer, got True"),
    (lambda: functional.max_pool2d(X, (2, True)), "max_pool2d: kernel_size must be an integer, got True"),
    (lambda: functional.max_pool2d(X, 2.0), "max_pool2d: kernel_size must be an integer, got 2.0 (float)"),
    (lambda: functional.max_pool2d(X, 2, stride=(1, 1.0)), "max_pool2d: stride must be an integer, got 1.0 (float)"),
    (lambda: functional.max_pool2d(X, 2, ceil_mode=1), "max_pool2d: ceil_mode must be True or False, got int"),
    (
        lambda: functional.max_pool2d(X, 2, return_indices="yes"),
        "max_pool2d: return_indices must be True or False, got str",
    ),
    (
        lambda: functional.avg_pool2d(X, 2, count_include_pad=None),
        "avg_pool2d: count_include_pad must be True or False, got NoneType",
    ),
    (
        lambda: functional.max_pool2d(X, 2, layout=4),
        "max_pool2d: layout must be a string, one of 'NCHW', 'NHWC'; got int",
    ),
    (
        lambda: functional.max_pool2d_backward(Y, PLACES, X, 2),
        "max_pool2d_backward: input_shape must be a tuple of integers such as x.shape, got ndarray",
    ),
    (
        lambda: functional.max_pool2d_backward(Y, PLACES.astype(np.int64), X.shape, 2),
        "max_pool2d_backward: indices are int64 but those of windows of 2x2 cells are uint8; pass uint8",
    ),
    (
        lambda: functional.max_pool2d_backward(Y, PLACES.tolist(), X.shape, 2),
        (
            "max_pool2d_backward: indices must be the array of uint8 that max_pool2d returns with "
            "return_indices=True, got list"
        ),
    ),
    (
        lambda: functional.global_max_pool2d_backward(ones(2, 3, 1, 1), np.zeros((2, 3, 1, 1), np.int32), X.shape),
        "global_max_pool2d_backward: indices are int32 but those of planes are int64; pass int64",
    ),
    (
        lambda: functional.max_pool2d(X, 2, return_indices=True, out=Y),
        "max_pool2d: out must be a tuple (y, indices) with None where no array is given, got ndarray",
    ),
    (
        lambda: functional.max_pool2d(X, 2, return_indices=True, out=(Y, PLACES.astype(np.int32))),
        "max_pool2d: out's indices is int32 but the result is uint8; pass out's indices as uint8",
    ),
    (
        lambda: functional.subsample2d_backward(Y, X, CHANNELS, 2, out=(None, None)),
        (
            "subsample2d_backward: out must be a tuple (grad_x, grad_weight, grad_bias) with None where no array is "
            "given, got 2 entries"
        ),
    ),
    (
        lambda: functional.locally_connected2d(X, WEIGHT, stride=1.5),
        "locally_connected2d: stride must be an integer, got 1.5 (float)",
    ),
    (
        lambda: functional.locally_connected2d_backward(GRADS, X, WEIGHT, input_grad=1),
        "locally_connected2d_backward: input_grad must be True or False, got int",
    ),
    (
        lambda: functional.locally_connected2d(X, WEIGHT.astype(np.float64)),
        "locally_connected2d: x is float32 and weight is float64; pass both as float32 or both as float64",
    ),
]


@pytest.mark.parametrize("call, message", VALUE_ERRORS, ids=[message for _, message in VALUE_ERRORS])
def test_value_errors(call, message, backend):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize("call, message", TYPE_ERRORS, ids=[message for _, message in TYPE_ERRORS])
def test_type_errors(call, message, backend):
    with pytest.raises(TypeError) as error:
        call()
    assert str(error.value) == message


def test_a_cached_shape_does_not_let_look_alikes_through():
    """True equals 1 and 1.0 equals 1, as dictionary keys too."""
    functional.max_pool2d(X, 1, stride=1, dilation=1, ceil_mode=True)
    for options in (dict(kernel_size=True), dict(kernel_size=(1, 1.0)), dict(kernel_size=1, stride=True)):
        with pytest.raises(TypeError):
            functional.max_pool2d(X, **options)
    assert functional.max_pool2d(X, np.int64(2), stride=[2, np.uint8(3)]).shape == (2, 3, 4, 2)


def test_results_too_large_for_memory(backend):
    x, largest = ones(200, 200, 1, 1), 2**31 - 1
    for pool in (functional.avg_pool2d, functional.max_pool2d):
        with pytest.raises(MemoryError):
            pool(x, (1, largest), stride=1, padding=(0, largest - 1))
