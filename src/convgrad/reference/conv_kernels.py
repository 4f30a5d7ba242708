"""The convolution kernels in NumPy: im2col by a sliding window view, then one matrix product per sample or block.

With xpad the input and its border of zeros, written for groups, stride and dilation of 1:

    forward      out[n,k,i,j] = bias[k] + sum_{c,r,s} weight[k,c,r,s] * xpad[n,c,i+r,j+s], then the activation
    grad_input   each grad_output[n,k,i,j] * weight[k,c,r,s] is added to the cell of xpad that forward read
    grad_weight  grad[k,c,r,s] = sum_{n,i,j} grad_output[n,k,i,j] * xpad[n,c,i+r,j+s]
    grad_bias    grad[k]       = sum_{n,i,j} grad_output[n,k,i,j]

(eq. 15 to 21 of the notes; im2col: Chellapilla, Puri, Simard 2006). Arguments were checked in `conv_calls`.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..activations import DEFAULT_PARAMETERS, NAMES

# Columns are made for so many bytes of samples at a time; larger blocks only cost memory.
_COLUMN_BYTES = 32 * 2**20

# What overflows or is not a number goes through as in the native kernels: without a warning.
_quiet = np.errstate(all="ignore")


@_quiet
def forward(shape, x, weight, bias, activation_code, activation_parameter, out):
    """Write the convolution of x by weight into `out`."""
    x, result = _channels_first(shape, x), _channels_first(shape, out)
    groups, kernel_rows = shape.groups, shape.out_channels // shape.groups
    matrix = weight.reshape(groups, kernel_rows, -1)
    pixels = shape.out_height * shape.out_width
    for block in _blocks(shape, x.itemsize):
        columns = _windows(shape, _pad(shape, x[block])).reshape(-1, groups, matrix.shape[2], pixels)
        product = matrix @ columns
        result[block] = product.reshape(-1, shape.out_channels, shape.out_height, shape.out_width)
    _finish(result, bias, activation_code, activation_parameter)


@_quiet
def grad_input(shape, grad_output, weight, bias, activation_code, activation_parameter, out):
    """Write the gradient by x into `out`; bias and activation serve the transposed convolution."""
    grad_output, result = _channels_first(shape, grad_output), _channels_first(shape, out)
    groups = shape.groups
    matrix = weight.reshape(groups, shape.out_channels // groups, -1).transpose(0, 2, 1)
    (top, bottom), (left, right) = shape.padding
    (kernel_height, kernel_width), (row_step, column_step) = shape.kernel, shape.stride
    out_height, out_width = shape.out_height, shape.out_width
    for block in _blocks(shape, grad_output.itemsize):
        grads = grad_output[block].reshape(-1, groups, shape.out_channels // groups, out_height * out_width)
        columns = (matrix @ grads).reshape(-1, shape.in_channels, kernel_height, kernel_width, out_height, out_width)
        padded_size = (len(grads), shape.in_channels, top + shape.height + bottom, left + shape.width + right)
        padded = np.zeros(padded_size, grad_output.dtype)
        for r in range(kernel_height):
            first_row = r * shape.dilation[0]
            rows = slice(first_row, first_row + (out_height - 1) * row_step + 1, row_step)
            for s in range(kernel_width):
                first_column = s * shape.dilation[1]
                width = slice(first_column, first_column + (out_width - 1) * column_step + 1, column_step)
                padded[:, :, rows, width] += columns[:, :, r, s]
        result[block] = padded[:, :, top : top + shape.height, left : left + shape.width]
    _finish(result, bias, activation_code, activation_parameter)


@_quiet
def grad_weight(shape, grad_output, x, out):
    """Write the gradient by weight into `out`."""
    x, grad_output = _channels_first(shape, x), _channels_first(shape, grad_output)
    groups = shape.groups
    total = out.reshape(groups, shape.out_channels // groups, -1)
    total.fill(0)
    for block in _blocks(shape, x.itemsize):
        # One product for the whole block: samples and pixels together are the axis summed over.
        windows = _windows(shape, _pad(shape, x[block]))
        columns = windows.transpose(1, 2, 3, 0, 4, 5).reshape(groups, total.shape[2], -1)
        grads = grad_output[block].transpose(1, 0, 2, 3).reshape(groups, total.shape[1], -1)
        total += grads @ columns.transpose(0, 2, 1)


@_quiet
def grad_bias(grad_output, layout, out):
    """Write the sum of grad_output over samples and pixels into `out`."""
    np.sum(grad_output, axis=(0, 2, 3) if layout == "NCHW" else (0, 1, 2), out=out)


def _channels_first(shape, array):
    """View of a four-axis array as (N, C, H, W)."""
    return array if shape.layout == "NCHW" else array.transpose(0, 3, 1, 2)


def _blocks(shape, itemsize):
    """Slices of the batch whose columns fit into `_COLUMN_BYTES`."""
    taps = shape.in_channels * shape.kernel[0] * shape.kernel[1]
    step = max(_COLUMN_BYTES // (taps * shape.out_height * shape.out_width * itemsize), 1)
    return [slice(start, min(start + step, shape.batch)) for start in range(0, shape.batch, step)]


def _pad(shape, x):
    """x (N, C, H, W) with its border of zeros; x itself where there is none."""
    (top, bottom), (left, right) = shape.padding
    if not (top or bottom or left or right):
        return x
    samples, channels, height, width = x.shape
    padded = np.zeros((samples, channels, top + height + bottom, left + width + right), x.dtype)
    padded[:, :, top : top + height, left : left + width] = x
    return padded


def _windows(shape, padded):
    """View (N, C, R, S, OH, OW) of the padded input: what kernel tap (r, s) reads for output pixel (i, j)."""
    (row_dilation, column_dilation), (row_step, column_step) = shape.dilation, shape.stride
    spans = (row_dilation * (shape.kernel[0] - 1) + 1, column_dilation * (shape.kernel[1] - 1) + 1)
    windows = sliding_window_view(padded, spans, axis=(2, 3))[:, :, ::row_step, ::column_step]
    windows = windows[:, :, : shape.out_height, : shape.out_width, ::row_dilation, ::column_dilation]
    return windows.transpose(0, 1, 4, 5, 2, 3)


def _finish(result, bias, activation_code, activation_parameter):
    """Add bias, one entry per channel, to `result` (N, C, H, W) and apply the activation, in place."""
    if bias is not None:
        result += bias[:, None, None]
    if activation_code:
        from . import activation  # after the package is complete: its functions take the same checks

        name = NAMES[activation_code]
        parameters = (activation_parameter,) if name in DEFAULT_PARAMETERS else ()
        result[...] = getattr(activation, name)(result, *parameters)
