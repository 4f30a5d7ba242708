"""The kernels of locally connected layers in NumPy: patches by a sliding window view, one matrix product a pixel.

Arguments were checked in `local_calls`.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..activations import DEFAULT_PARAMETERS, NAMES

# What overflows or is not a number goes through as in the native kernels: without a warning.
_quiet = np.errstate(all="ignore")


@_quiet
def forward(shape, x, weight, bias, activation_code, activation_parameter, out):
    """y[n, k, i, j] = activation(bias[i, j, k] + weight[i, j, k] . what pixel (i, j) sees of x[n])."""
    product = _patches(shape, x) @ _matrices(shape, weight).transpose(0, 2, 1)  # (OH * OW, N, K)
    if bias is not None:
        product += bias.reshape(-1, 1, shape.out_channels)
    if activation_code:
        from . import activation  # after the package is complete: its functions take the same checks

        name = NAMES[activation_code]
        parameters = (activation_parameter,) if name in DEFAULT_PARAMETERS else ()
        product = getattr(activation, name)(product, *parameters)
    _pixels_first(shape, out)[...] = product.reshape(shape.out_height, shape.out_width, -1, shape.out_channels)


@_quiet
def grad_weight(shape, grad_output, x, out, bias_out):
    """Gradients by weight and bias; either output may be None."""
    grads = _gradients(shape, grad_output)
    if out is not None:
        np.matmul(grads.transpose(0, 2, 1), _patches(shape, x), out=_matrices(shape, out))
    if bias_out is not None:
        np.sum(grads, axis=1, out=bias_out.reshape(-1, shape.out_channels))


@_quiet
def grad_input(shape, grad_output, weight, out):
    """Gradient by x: what each output pixel gives to its patch, added up."""
    patches = (_gradients(shape, grad_output) @ _matrices(shape, weight)).reshape(
        shape.out_height, shape.out_width, shape.batch, shape.in_channels, *shape.kernel
    )
    out.fill(0)
    result = out if shape.layout == "NCHW" else out.transpose(0, 3, 1, 2)
    (rows, columns), (row_step, column_step) = shape.kernel, shape.stride
    for r in range(rows):
        height = slice(r, r + (shape.out_height - 1) * row_step + 1, row_step)
        for s in range(columns):
            width = slice(s, s + (shape.out_width - 1) * column_step + 1, column_step)
            result[:, :, height, width] += patches[..., r, s].transpose(2, 3, 0, 1)


def _patches(shape, x):
    """(OH * OW, N, C * R * S): what each output pixel sees of each sample."""
    x = x if shape.layout == "NCHW" else x.transpose(0, 3, 1, 2)
    windows = sliding_window_view(x, shape.kernel, axis=(2, 3))[:, :, :: shape.stride[0], :: shape.stride[1]]
    pixels = shape.out_height * shape.out_width
    features = shape.in_channels * shape.kernel[0] * shape.kernel[1]
    return windows.transpose(2, 3, 0, 1, 4, 5).reshape(pixels, shape.batch, features)


def _matrices(shape, weight):
    """(OH * OW, K, C * R * S): the weights of each output pixel."""
    return weight.reshape(shape.out_height * shape.out_width, shape.out_channels, -1)


def _gradients(shape, grad_output):
    """(OH * OW, N, K): the gradients that each output pixel gets."""
    pixels = shape.out_height * shape.out_width
    return _pixels_first(shape, grad_output).reshape(pixels, shape.batch, shape.out_channels)


def _pixels_first(shape, array):
    """A view (OH, OW, N, K) of an array laid out as the output."""
    return array.transpose(2, 3, 0, 1) if shape.layout == "NCHW" else array.transpose(1, 2, 0, 3)
