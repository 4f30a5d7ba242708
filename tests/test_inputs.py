"""What may be passed in and as out=: strides, read-only, unaligned, subclasses, overlap; nothing else is modified."""

import numpy as np
import pytest

from convgrad import functional
from convgrad.threads import threads

SHAPES = {
    "x": (2, 6, 9, 11),
    "weight": (4, 3, 3, 2),
    "bias": (4,),
    "grad": (2, 4, 5, 11),
    "transposed_weight": (6, 2, 3, 2),
    "transposed_grad": (2, 4, 17, 10),
    "line": (2, 6, 11),
    "line_weight": (4, 3, 3),
    "line_grad": (2, 4, 6),
    "line_transposed_weight": (6, 2, 3),
    "line_transposed_grad": (2, 4, 21),
    "kernel": (4, 3),
    "full_grad": (2, 6, 12, 13),
}
CONV = dict(stride=(2, 1), padding=((1, 1), (1, 0)), groups=2)
TRANSPOSED = dict(stride=(2, 1), padding=(1, 1), groups=2)
LINE = dict(stride=2, padding=1, groups=2)

# Every function, the names of its arrays (or further arguments) and its options.
CALLS = {
    "conv2d": (("x", "weight", "bias"), dict(CONV, activation="leaky_relu")),
    "conv2d_grad_input": (("grad", "weight", SHAPES["x"]), CONV),
    "conv2d_grad_weight": (("grad", "x", (3, 2)), CONV),
    "conv2d_grad_bias": (("grad",), {}),
    "conv2d_backward": (("grad", "x", "weight"), CONV),
    "conv_transpose2d": (("x", "transposed_weight", "bias"), dict(TRANSPOSED, activation="leaky_relu")),
    "conv_transpose2d_backward": (("transposed_grad", "x", "transposed_weight"), TRANSPOSED),
    "conv1d": (("line", "line_weight", "bias"), dict(LINE, activation="leaky_relu")),
    "conv1d_grad_input": (("line_grad", "line_weight", SHAPES["line"]), LINE),
    "conv1d_grad_weight": (("line_grad", "line", 3), LINE),
    "conv1d_grad_bias": (("line_grad",), {}),
    "conv1d_backward": (("line_grad", "line", "line_weight"), LINE),
    "conv_transpose1d": (("line", "line_transposed_weight", "bias"), LINE),
    "conv_transpose1d_backward": (("line_transposed_grad", "line", "line_transposed_weight"), LINE),
    "convolve2d": (("x", "kernel"), {}),
    "convolve2d_backward": (("full_grad", "x", "kernel"), {}),
    "correlate2d": (("x", "kernel"), {}),
    "correlate2d_backward": (("full_grad", "x", "kernel"), {}),
}


class Subclass(np.ndarray):
    """Raises wherever it is computed with: functions must look at the plain array."""

    def __array_ufunc__(self, *arguments, **keywords):
        raise AssertionError("a subclass's own arithmetic was used")


def padded_view(array):
    """The same values inside a larger array: no axis is contiguous."""
    larger = np.full([size + 3 for size in array.shape], np.nan, array.dtype)
    view = larger[tuple(slice(2, 2 + size) for size in array.shape)]
    view[...] = array
    return view


def every_other(array):
    larger = np.full([2 * size for size in array.shape], np.nan, array.dtype)
    larger[(slice(None, None, 2),) * array.ndim] = array
    return larger[(slice(None, None, 2),) * array.ndim]


def backwards(array):
    return array[(slice(None, None, -1),) * array.ndim].copy()[(slice(None, None, -1),) * array.ndim]


def unaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
    view = raw.view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def in_records(array):
    """A field of packed records: the step between elements is no multiple of their size."""
    records = np.zeros(array.shape, np.dtype([("pad", np.uint8), ("value", array.dtype)]))
    records["value"] = array
    return records["value"]


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


FORMS = {
    "read-only": read_only,
    "fortran": lambda array: np.asfortranarray(array.copy()),
    "inside a larger array": padded_view,
    "every other element": every_other,
    "negative strides": backwards,
    "unaligned": unaligned,
    "in records": in_records,
    "subclass": lambda array: array.copy().view(Subclass),
}


def call(name, arrays, out=None):
    names, options = CALLS[name]
    arguments = [arrays[entry] if isinstance(entry, str) else entry for entry in names]
    return getattr(functional, name)(*arguments, **options, out=out)


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.fixture(params=[np.float32, np.float64])
def arrays(request, rng):
    return {name: rng.uniform(-1, 1, shape).astype(request.param) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CALLS)
def test_any_form_of_array_gives_the_same_result_and_is_left_unchanged(backend, name, form, arrays, check_close):
    expected = as_tuple(call(name, arrays))
    formed = {key: FORMS[form](array) for key, array in arrays.items()}
    results = as_tuple(call(name, formed))
    for result, value in zip(results, expected, strict=True):
        assert type(result) is np.ndarray
        assert result.flags.c_contiguous
        check_close(result, value, 50)
    for key, array in arrays.items():
        np.testing.assert_array_equal(np.asarray(formed[key]), array, err_msg=key)


@pytest.mark.parametrize("name", CALLS)
def test_inputs_are_left_unchanged(backend, name, arrays):
    before = {key: array.tobytes() for key, array in arrays.items()}
    call(name, arrays)
    assert {key: array.tobytes() for key, array in arrays.items()} == before


def test_broadcast_inputs(backend, rng, check_close):
    x = np.broadcast_to(rng.uniform(-1, 1, (1, 3, 1, 9)), (2, 3, 8, 9))
    weight = np.broadcast_to(rng.uniform(-1, 1, (4, 1, 1, 1)), (4, 3, 3, 3))
    grad = np.broadcast_to(np.float64(0.5), (2, 4, 6, 7))
    check_close(functional.conv2d(x, weight), functional.conv2d(x.copy(), weight.copy()), 27)
    expected = functional.conv2d_backward(grad.copy(), x.copy(), weight.copy())
    for result, value in zip(functional.conv2d_backward(grad, x, weight), expected, strict=True):
        check_close(result, value, 84)


def test_channels_last_views_need_no_layout_option(backend, rng, check_close):
    x, weight = rng.uniform(-1, 1, (2, 8, 9, 5)), rng.uniform(-1, 1, (4, 5, 3, 3))
    expected = functional.conv2d(x, weight, layout="NHWC").transpose(0, 3, 1, 2)
    check_close(functional.conv2d(x.transpose(0, 3, 1, 2), weight), expected, 45)


# ---------------------------------------------------------------------------------------------------------------------
# out=
# ---------------------------------------------------------------------------------------------------------------------


def surrounded(shape, dtype):
    """A buffer of ones and a view of `shape` inside it, not contiguous, holding NaN."""
    buffer = np.ones([size + 2 for size in shape], dtype)
    view = buffer[tuple(slice(1, 1 + size) for size in shape)]
    view[...] = np.nan
    return buffer, view


@pytest.mark.parametrize("name", CALLS)
def test_out_inside_a_larger_array(backend, name, arrays):
    expected = as_tuple(call(name, arrays))
    buffers, outs = zip(*(surrounded(value.shape, value.dtype) for value in expected), strict=True)
    results = as_tuple(call(name, arrays, outs if len(outs) > 1 else outs[0]))
    for buffer, out, result, value in zip(buffers, outs, results, expected, strict=True):
        assert result is out
        np.testing.assert_array_equal(out, value)
        assert buffer.sum() == pytest.approx(buffer.size - value.size + value.sum(), rel=1e-4)
        out[...] = 1
        assert (buffer == 1).all()


@pytest.mark.parametrize(
    "form", ["fortran", "every other element", "negative strides", "unaligned", "in records", "subclass"]
)
@pytest.mark.parametrize("name", CALLS)
def test_out_of_any_form(backend, name, form, arrays):
    expected = as_tuple(call(name, arrays))
    outs = tuple(FORMS[form](np.full(value.shape, np.nan, value.dtype)) for value in expected)
    results = as_tuple(call(name, arrays, outs if len(outs) > 1 else outs[0]))
    for out, result, value in zip(outs, results, expected, strict=True):
        assert result is out
        np.testing.assert_array_equal(np.asarray(out), value)


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_out_may_be_an_input(backend, name, rng):
    function = getattr(functional, name)
    x, weight = rng.uniform(-1, 1, (2, 4, 8, 9)), rng.uniform(-1, 1, (4, 4, 3, 3))
    expected = function(x, weight, padding=1)
    assert function(x, weight, padding=1, out=x) is x
    np.testing.assert_array_equal(x, expected)


def test_out_may_overlap_an_input(backend, rng):
    buffer = rng.uniform(-1, 1, (3, 4, 8, 9))
    weight = rng.uniform(-1, 1, (4, 4, 3, 3))
    expected = functional.conv2d(buffer[:2], weight, padding=1)
    functional.conv2d(buffer[:2], weight, padding=1, out=buffer[1:])
    np.testing.assert_array_equal(buffer[1:], expected)


def test_outs_of_backward_may_be_its_inputs(backend, rng):
    x, weight, grad = (
        rng.uniform(-1, 1, (2, 4, 8, 9)),
        rng.uniform(-1, 1, (4, 4, 3, 3)),
        rng.uniform(-1, 1, (2, 4, 8, 9)),
    )
    expected = functional.conv2d_backward(grad, x, weight, padding=1)
    results = functional.conv2d_backward(grad, x, weight, padding=1, out=(x, weight, None))
    assert results[0] is x
    assert results[1] is weight
    for result, value in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, value)


@pytest.mark.parametrize("name", CALLS)
def test_results_of_two_calls_do_not_share_memory(backend, name, arrays):
    first, second = as_tuple(call(name, arrays)), as_tuple(call(name, arrays))
    for a in (*first, *arrays.values()):
        for b in second:
            assert not np.may_share_memory(a, b)


# ---------------------------------------------------------------------------------------------------------------------
# Threads
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    "x_shape, weight_shape, options",
    [
        ((5, 24, 34, 34), (40, 24, 3, 3), dict(padding=1)),
        ((1, 64, 40, 40), (70, 64, 1, 1), dict()),
        ((2, 16, 61, 60), (32, 8, 5, 5), dict(stride=2, groups=2, padding=2)),
        ((3, 48, 40, 40), (48, 1, 3, 3), dict(groups=48, padding=1)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_thread_equals_many(dtype, x_shape, weight_shape, options, layout, rng):
    def run():
        y = functional.conv2d(x, weight, bias, activation="silu", **options)
        return (y, *functional.conv2d_backward(grad, x, weight, **options))

    options = dict(options, layout=layout)
    x = rng.uniform(-1, 1, x_shape).astype(dtype)
    x = x if layout == "NCHW" else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    weight, bias = rng.uniform(-1, 1, weight_shape).astype(dtype), rng.uniform(-1, 1, weight_shape[0]).astype(dtype)
    grad = rng.uniform(-1, 1, functional.conv2d(x, weight, **options).shape).astype(dtype)
    with threads(1):
        expected = run()
    for n_threads in (2, 3, 7):
        with threads(n_threads):
            for result, value in zip(run(), expected, strict=True):
                np.testing.assert_array_equal(result, value, err_msg=f"{n_threads} threads")
