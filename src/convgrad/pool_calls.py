"""Calls of the pooling kernels: arguments checked, results allocated, kernel run, results delivered.

`functional` and `reference` offer the same functions and differ only in the `kernels` they hand in here: an object with

    max_forward(shape, x, out, indices)                 indices: an array to fill or None
    max_backward(shape, grad_output, indices, out)      -> whether every index names a cell of the image
    max_plane_indices(shape, indices, out)              -> likewise
    average(shape, count_include_pad, x, out)
    average_backward(shape, count_include_pad, grad_output, out)
    subsample(shape, count_include_pad, x, weight, bias, out)
    subsample_backward(shape, count_include_pad, grad_output, x, weight, grad_x, grad_weight, grad_bias)
    global_average(shape, x, out), global_average_backward(shape, grad_output, out)
    global_max(shape, x, out, indices), global_max_backward(shape, grad_output, indices, out) -> as max_backward

where `shape` is a `PoolShape`, every array is C-contiguous and each output is apart from all inputs and to be filled
completely. The batch may be empty.

`options` are those of `pool_shapes.pool_shape`, in its order: stride, padding, dilation, ceil_mode, layout.
"""

import numpy as np

from .call_checks import check_grad_output, check_vectors, deliver_all, flag, outputs, sizes
from .checks import deliver, float_array, float_arrays, output, plain_view
from .options import plain_layout
from .pool_shapes import global_pool_shape, pool_shape

_INT64 = np.dtype(np.int64)
_MAXIMA = ("y", "indices")


def max_pool(kernels, function, x, kernel_size, options, return_indices, out):
    """Max pooling; (y, indices) where return_indices."""
    x = float_array(function, "x", x)
    shape = _shape(function, "x", x.shape, kernel_size, options)
    if not flag(function, "return_indices", return_indices):
        target = output(function, out, shape.output_shape, x.dtype, x)
        kernels.max_forward(shape, np.ascontiguousarray(x), target, None)
        return deliver(target, out)
    targets, outs = outputs(function, out, _MAXIMA, (shape.output_shape,) * 2, (x.dtype, shape.index_dtype), x)
    kernels.max_forward(shape, np.ascontiguousarray(x), *targets)
    return deliver_all(targets, outs)


def max_pool_backward(kernels, function, grad_output, indices, input_shape, kernel_size, options, out):
    """Gradient of max pooling by x."""
    grad_output = float_array(function, "grad_output", grad_output)
    input_shape = sizes(function, "input_shape", input_shape)
    shape = _shape(function, "input_shape", input_shape, kernel_size, options)
    check_grad_output(function, grad_output, shape.output_shape, input_shape=input_shape, kernel_size=shape.kernel)
    indices = _indices(function, indices, shape)
    target = output(function, out, shape.input_shape, grad_output.dtype, grad_output, indices)
    if not kernels.max_backward(shape, np.ascontiguousarray(grad_output), np.ascontiguousarray(indices), target):
        _refuse_indices(function, shape, indices)
    return deliver(target, out)


def max_pool_plane_indices(kernels, function, indices, input_shape, kernel_size, options, out):
    """Indices inside windows as int64 positions h * W + w."""
    input_shape = sizes(function, "input_shape", input_shape)
    shape = _shape(function, "input_shape", input_shape, kernel_size, options)
    indices = _indices(function, indices, shape)
    target = output(function, out, shape.output_shape, _INT64, indices)
    if not kernels.max_plane_indices(shape, np.ascontiguousarray(indices), target):
        _refuse_indices(function, shape, indices)
    return deliver(target, out)


def average_pool(kernels, function, x, kernel_size, options, count_include_pad, out):
    """Average pooling."""
    x = float_array(function, "x", x)
    shape = _shape(function, "x", x.shape, kernel_size, options)
    count_include_pad = flag(function, "count_include_pad", count_include_pad)
    target = output(function, out, shape.output_shape, x.dtype, x)
    kernels.average(shape, count_include_pad, np.ascontiguousarray(x), target)
    return deliver(target, out)


def average_pool_backward(kernels, function, grad_output, input_shape, kernel_size, options, count_include_pad, out):
    """Gradient of average pooling by x."""
    grad_output = float_array(function, "grad_output", grad_output)
    input_shape = sizes(function, "input_shape", input_shape)
    shape = _shape(function, "input_shape", input_shape, kernel_size, options)
    count_include_pad = flag(function, "count_include_pad", count_include_pad)
    check_grad_output(function, grad_output, shape.output_shape, input_shape=input_shape, kernel_size=shape.kernel)
    target = output(function, out, shape.input_shape, grad_output.dtype, grad_output)
    kernels.average_backward(shape, count_include_pad, np.ascontiguousarray(grad_output), target)
    return deliver(target, out)


def subsample(kernels, function, x, weight, bias, kernel_size, options, count_include_pad, out):
    """Averages of windows, scaled and shifted by channel."""
    x, weight, bias = float_arrays(function, x=x, weight=weight, bias=bias)
    shape = _shape(function, "x", x.shape, kernel_size, options)
    count_include_pad = flag(function, "count_include_pad", count_include_pad)
    check_vectors(function, shape.channels, "channel", weight=weight, bias=bias)
    target = output(function, out, shape.output_shape, x.dtype, x, weight, bias)
    kernels.subsample(shape, count_include_pad, *map(np.ascontiguousarray, (x, weight, bias)), target)
    return deliver(target, out)


def subsample_backward(kernels, function, grad_output, x, weight, kernel_size, options, count_include_pad, out):
    """Gradients of `subsample`: (grad_x, grad_weight, grad_bias)."""
    arrays = grad_output, x, weight = float_arrays(function, grad_output=grad_output, x=x, weight=weight)
    shape = _shape(function, "x", x.shape, kernel_size, options)
    count_include_pad = flag(function, "count_include_pad", count_include_pad)
    check_grad_output(function, grad_output, shape.output_shape, x=x.shape, kernel_size=shape.kernel)
    check_vectors(function, shape.channels, "channel", weight=weight)
    result_shapes = (shape.input_shape, weight.shape, weight.shape)
    targets, outs = outputs(function, out, ("grad_x", "grad_weight", "grad_bias"), result_shapes, x.dtype, *arrays)
    kernels.subsample_backward(shape, count_include_pad, *map(np.ascontiguousarray, arrays), *targets)
    return deliver_all(targets, outs)


def global_average(kernels, function, x, layout, out):
    """Mean of every plane."""
    x = float_array(function, "x", x)
    shape = _global_shape(function, "x", x.shape, layout)
    target = output(function, out, shape.output_shape, x.dtype, x)
    kernels.global_average(shape, np.ascontiguousarray(x), target)
    return deliver(target, out)


def global_average_backward(kernels, function, grad_output, input_shape, layout, out):
    """Gradient of `global_average` by x."""
    grad_output = float_array(function, "grad_output", grad_output)
    input_shape = sizes(function, "input_shape", input_shape)
    shape = _global_shape(function, "input_shape", input_shape, layout)
    check_grad_output(function, grad_output, shape.output_shape, input_shape=input_shape)
    target = output(function, out, shape.input_shape, grad_output.dtype, grad_output)
    kernels.global_average_backward(shape, np.ascontiguousarray(grad_output), target)
    return deliver(target, out)


def global_max(kernels, function, x, return_indices, layout, out):
    """Largest number of every plane; (y, indices) where return_indices."""
    x = float_array(function, "x", x)
    shape = _global_shape(function, "x", x.shape, layout)
    if not flag(function, "return_indices", return_indices):
        target = output(function, out, shape.output_shape, x.dtype, x)
        kernels.global_max(shape, np.ascontiguousarray(x), target, None)
        return deliver(target, out)
    targets, outs = outputs(function, out, _MAXIMA, (shape.output_shape,) * 2, (x.dtype, _INT64), x)
    kernels.global_max(shape, np.ascontiguousarray(x), *targets)
    return deliver_all(targets, outs)


def global_max_backward(kernels, function, grad_output, indices, input_shape, layout, out):
    """Gradient of `global_max` by x."""
    grad_output = float_array(function, "grad_output", grad_output)
    input_shape = sizes(function, "input_shape", input_shape)
    shape = _global_shape(function, "input_shape", input_shape, layout)
    check_grad_output(function, grad_output, shape.output_shape, input_shape=input_shape)
    indices = _indices(function, indices, shape, _INT64)
    target = output(function, out, shape.input_shape, grad_output.dtype, grad_output, indices)
    if not kernels.global_max_backward(shape, np.ascontiguousarray(grad_output), np.ascontiguousarray(indices), target):
        pixels = shape.height * shape.width
        at = tuple(np.argwhere((indices < 0) | (indices >= pixels))[0].tolist())
        raise ValueError(
            f"{function}: indices must be positions h * W + w in a plane of {shape.height}x{shape.width} pixels, "
            f"0 to {pixels - 1}; got {indices[at]} at {at}; pass what global_max_pool2d returned"
        )
    return deliver(target, out)


def misplaced(shape, indices):
    """Boolean array: True where an index lies outside its window, or names a cell in the padding.

    A window all of whose cells are padding has no cell to name; there every index inside the window will do.
    """
    (r, s), (height, width) = np.divmod(indices.astype(np.int64), shape.kernel[1]), (shape.height, shape.width)
    h = _starts(shape, 0) + r * shape.dilation[0]
    w = _starts(shape, 1) + s * shape.dilation[1]
    wrong = (indices < 0) | (r >= shape.kernel[0])
    outside = (h < 0) | (h >= height) | (w < 0) | (w >= width)
    return wrong | (outside & ~empty_windows(shape))


def empty_windows(shape):
    """Boolean array that broadcasts over the output: True for windows all of whose cells are padding."""
    empty = []
    for axis, size in enumerate((shape.height, shape.width)):
        start, dilation = _starts(shape, axis), shape.dilation[axis]
        first = np.maximum(-(start // dilation), 0)  # the first tap that is not before the image
        empty.append((first >= shape.kernel[axis]) | (start + first * dilation >= size))
    return empty[0] | empty[1]


def _starts(shape, axis):
    """First row (axis 0) or column (axis 1) of each window, shaped to broadcast over the output."""
    count = (shape.out_height, shape.out_width)[axis]
    starts = np.arange(count, dtype=np.int64) * shape.stride[axis] - shape.padding[axis][0]
    position = (2, 3)[axis] if shape.layout == "NCHW" else (1, 2)[axis]
    return starts.reshape([-1 if place == position else 1 for place in range(4)])


def _shape(function, source, input_shape, kernel_size, options):
    stride, padding, dilation, ceil_mode, layout = options
    ceil_mode = flag(function, "ceil_mode", ceil_mode)
    return pool_shape(function, source, input_shape, kernel_size, stride, padding, dilation, ceil_mode, layout)


def _global_shape(function, source, input_shape, layout):
    return global_pool_shape(function, source, input_shape, plain_layout(function, 2, layout))


def _indices(function, indices, shape, dtype=None):
    """Check the indices of a max pooling of `shape`; their values are left to the kernels."""
    dtype = dtype or shape.index_dtype
    pool = "global_max_pool2d" if dtype is _INT64 else "max_pool2d"
    if not isinstance(indices, np.ndarray) or isinstance(indices, np.ma.MaskedArray):
        raise TypeError(
            f"{function}: indices must be the array of {dtype} that {pool} returns with return_indices=True, got "
            f"{type(indices).__name__}"
        )
    indices = plain_view(indices)
    if indices.dtype != dtype:
        what = "planes" if dtype is _INT64 else f"windows of {shape.kernel[0]}x{shape.kernel[1]} cells"
        raise TypeError(f"{function}: indices are {indices.dtype} but those of {what} are {dtype}; pass {dtype}")
    if indices.shape != shape.output_shape:
        raise ValueError(
            f"{function}: indices have shape {indices.shape} but {pool} returns {shape.output_shape} for input_shape "
            f"{shape.input_shape} and these options; pass the indices of that call"
        )
    return indices if indices.flags.aligned else indices.copy()


def _refuse_indices(function, shape, indices):
    at = tuple(np.argwhere(misplaced(shape, indices))[0].tolist())
    (rows, columns), last = shape.kernel, shape.kernel[0] * shape.kernel[1] - 1
    where = "lies outside the window" if not 0 <= indices[at] <= last else "names a cell in the padding"
    raise ValueError(
        f"{function}: indices must be positions r * S + s inside windows of {rows}x{columns} cells, 0 to {last}; "
        f"{indices[at]} at {at} {where}; pass what max_pool2d returned with these options"
    )
