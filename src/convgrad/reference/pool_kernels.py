"""The pooling kernels in NumPy, tap by tap.

Tap (r, s) of all windows at once is a strided slice of x: the windows for which it lies in the image are a rectangle,
and so are the pixels that they see there. `_taps` yields both, so no border is ever padded. Arguments were checked in
`pool_calls`.
"""

import math

import numpy as np

from ..pool_calls import empty_windows, misplaced

# What overflows or is not a number goes through as in the native kernels: without a warning.
_quiet = np.errstate(all="ignore")


@_quiet
def max_forward(shape, x, out, indices):
    """y = the largest number of each window; index = r * S + s, its first place; NaN counts as largest."""
    out.fill(-np.inf)
    place = np.full(shape.output_shape, -1, np.int64)
    for index, windows, pixels in _taps(shape):
        value, best = x[pixels], out[windows]
        wins = (value > best) | (place[windows] < 0) | (np.isnan(value) & ~np.isnan(best))
        np.copyto(best, value, where=wins)
        np.copyto(place[windows], index, where=wins)
    if indices is not None:
        indices[...] = np.maximum(place, 0)


def max_backward(shape, grad_output, indices, out):
    """grad_x[cell] = sum of grad_output over the windows whose index names that cell."""
    out.fill(0)
    for index, windows, pixels in _taps(shape):
        out[pixels] += np.where(indices[windows] == index, grad_output[windows], 0)
    return not misplaced(shape, indices).any()


def max_plane_indices(shape, indices, out):
    """h * W + w of each index, -1 for windows without a cell in the image."""
    out.fill(-1)
    rows, columns = np.indices((shape.height, shape.width), dtype=np.int64)
    plane = rows * shape.width + columns
    plane = plane[None, None] if shape.layout == "NCHW" else plane[None, :, :, None]
    for index, windows, pixels in _taps(shape):
        position = np.broadcast_to(plane, shape.input_shape)[pixels]
        np.copyto(out[windows], position, where=indices[windows] == index)
    np.copyto(out, -1, where=empty_windows(shape))
    return not misplaced(shape, indices).any()


@_quiet
def average(shape, count_include_pad, x, out):
    """y = sum of each window / its number of cells."""
    out.fill(0)
    for _, windows, pixels in _taps(shape):
        out[windows] += x[pixels]
    out /= _counts(shape, count_include_pad).astype(out.dtype)


@_quiet
def average_backward(shape, count_include_pad, grad_output, out):
    """grad_x[cell] = sum of grad_output / number of cells over the windows that see that cell."""
    share = grad_output / _counts(shape, count_include_pad).astype(out.dtype)
    out.fill(0)
    for _, windows, pixels in _taps(shape):
        out[pixels] += share[windows]


@_quiet
def subsample(shape, count_include_pad, x, weight, bias, out):
    """y = weight[c] * average + bias[c]."""
    average(shape, count_include_pad, x, out)
    out *= _by_channel(shape, weight)
    out += _by_channel(shape, bias)


@_quiet
def subsample_backward(shape, count_include_pad, grad_output, x, weight, grad_x, grad_weight, grad_bias):
    """The gradients of `subsample` by x, weight and bias."""
    means = np.empty_like(grad_output)
    average(shape, count_include_pad, x, means)
    others = (0, 2, 3) if shape.layout == "NCHW" else (0, 1, 2)
    np.sum(grad_output * means, axis=others, out=grad_weight)
    np.sum(grad_output, axis=others, out=grad_bias)
    average_backward(shape, count_include_pad, grad_output * _by_channel(shape, weight), grad_x)


@_quiet
def global_average(shape, x, out):
    """y = mean of each plane."""
    np.mean(x, axis=_plane_axes(shape), keepdims=True, out=out)


def global_average_backward(shape, grad_output, out):
    """grad_x = grad_output / (H * W) everywhere."""
    out[...] = grad_output / grad_output.dtype.type(shape.height * shape.width)


def global_max(shape, x, out, indices):
    """y = the largest number of each plane; index = h * W + w, its first place; NaN counts as largest."""
    planes, place = _planes(shape, x), _planes(shape, out)
    at = planes.argmax(axis=1, keepdims=True)
    place[...] = np.take_along_axis(planes, at, axis=1)
    if indices is not None:
        _planes(shape, indices)[...] = at


def global_max_backward(shape, grad_output, indices, out):
    """grad_x = grad_output where the index points, 0 elsewhere."""
    out.fill(0)
    if ((indices < 0) | (indices >= shape.height * shape.width)).any():
        return False
    np.put_along_axis(_planes(shape, out), _planes(shape, indices), _planes(shape, grad_output), axis=1)
    return True


def _taps(shape):
    """Yield (r * S + s, windows, pixels) for each tap that lies in the image for some window: two index tuples."""
    all_rows, all_columns = _axis_taps(shape, 0), _axis_taps(shape, 1)
    for r, out_rows, in_rows in all_rows:
        for s, out_columns, in_columns in all_columns:
            windows, pixels = (out_rows, out_columns), (in_rows, in_columns)
            if shape.layout == "NCHW":
                windows, pixels = (slice(None), slice(None), *windows), (slice(None), slice(None), *pixels)
            else:
                windows, pixels = (slice(None), *windows), (slice(None), *pixels)
            yield r * shape.kernel[1] + s, windows, pixels


def _axis_taps(shape, axis):
    """[(tap, slice of windows, slice of pixels)] along one axis, for taps that lie in the image for some window."""
    size, count = (shape.height, shape.width)[axis], (shape.out_height, shape.out_width)[axis]
    stride, dilation, before = shape.stride[axis], shape.dilation[axis], shape.padding[axis][0]
    taps = []
    first = max(0, -(-(before - (count - 1) * stride) // dilation))
    for tap in range(first, min(shape.kernel[axis], (size - 1 + before) // dilation + 1)):
        offset = tap * dilation - before  # window i sees pixel i * stride + offset
        begin = max(0, -(offset // stride))
        end = min(count, (size - 1 - offset) // stride + 1)
        if begin < end:
            pixels = slice(begin * stride + offset, (end - 1) * stride + offset + 1, stride)
            taps.append((tap, slice(begin, end), pixels))
    return taps


def _counts(shape, count_include_pad):
    """Number of cells of each window, at least 1, shaped to broadcast over the output."""
    counts = []
    for axis, size in enumerate((shape.height, shape.width)):
        before, after = shape.padding[axis]
        dilation, taps = shape.dilation[axis], shape.kernel[axis]
        starts = np.arange((shape.out_height, shape.out_width)[axis], dtype=np.int64) * shape.stride[axis] - before
        first = 0 if count_include_pad else np.maximum(-(starts // dilation), 0)
        limit = size + after if count_include_pad else size
        counts.append(np.maximum(np.minimum(taps, -((starts - limit) // dilation)) - first, 1))
    count = counts[0][:, None] * counts[1]
    return count if shape.layout == "NCHW" else count[:, :, None]


def _by_channel(shape, values):
    return values[:, None, None] if shape.layout == "NCHW" else values


def _plane_axes(shape):
    return (2, 3) if shape.layout == "NCHW" else (1, 2)


def _planes(shape, array):
    """A view (planes, pixels, numbers of a pixel): pixels are those of one plane, `array` being input or output."""
    pixels = math.prod(array.shape[2:] if shape.layout == "NCHW" else array.shape[1:3])
    if shape.layout == "NCHW":
        return array.reshape(shape.batch * shape.channels, pixels, 1)
    return array.reshape(shape.batch, pixels, shape.channels)
