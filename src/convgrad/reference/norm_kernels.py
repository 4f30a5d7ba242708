"""NumPy kernels of the normalisations. Arguments were checked in `norm_calls`, where the protocol is described.

Statistics are computed in float64 and rounded to the dtype of the arrays.
"""

import numpy as np

# What overflows or is not a number goes through as in the native kernels: without a warning.
_quiet = np.errstate(all="ignore")


@_quiet
def batch_norm(
    x,
    weight,
    bias,
    running_mean,
    running_var,
    sizes,
    training,
    momentum,
    eps,
    y,
    mean,
    inv_std,
    new_running_mean,
    new_running_var,
):
    """y = (x - mean) inv_std weight + bias, by channels."""
    x = x.reshape(sizes)
    if training:
        n = sizes[0] * sizes[2]
        batch_mean = x.mean(axis=(0, 2), dtype=np.float64)
        batch_var = np.square(x - batch_mean[:, None]).mean(axis=(0, 2))
        if new_running_mean is not None:
            unbiased = batch_var * (n / (n - 1))
            new_running_mean[...] = (1 - momentum) * running_mean.astype(np.float64) + momentum * batch_mean
            new_running_var[...] = (1 - momentum) * running_var.astype(np.float64) + momentum * unbiased
    else:
        batch_mean, batch_var = running_mean, running_var.astype(np.float64)
        new_running_mean[...] = running_mean
        new_running_var[...] = running_var
    mean[...] = batch_mean
    inv_std[...] = 1 / np.sqrt(batch_var + eps)
    result = (x - mean[:, None]) * inv_std[:, None]
    if weight is not None:
        result *= weight[:, None]
    if bias is not None:
        result += bias[:, None]
    y[...] = result.reshape(y.shape)


@_quiet
def batch_norm_backward(grad_output, x, weight, mean, inv_std, sizes, training, grad_x, grad_weight, grad_bias):
    """grad_x = weight inv_std (g - mean(g) - xhat mean(g xhat)), or weight inv_std g with constant statistics."""
    g, unit = grad_output.reshape(sizes), (x.reshape(sizes) - mean[:, None]) * inv_std[:, None]
    by_bias = g.sum(axis=(0, 2), dtype=np.float64)
    by_weight = (g * unit).sum(axis=(0, 2), dtype=np.float64)
    grad_bias[...] = by_bias
    grad_weight[...] = by_weight
    if training:
        n = sizes[0] * sizes[2]
        result = g - by_bias[:, None] / n - unit * by_weight[:, None] / n
    else:
        result = g
    factor = inv_std if weight is None else inv_std * weight
    grad_x[...] = (result * factor[:, None]).reshape(grad_x.shape)


@_quiet
def layer_norm(x, weight, bias, sizes, eps, y, mean, inv_std):
    """y = (x - mean) inv_std weight + bias, by rows."""
    rows = x.reshape(sizes)
    row_mean = rows.mean(axis=1, dtype=np.float64)
    row_var = np.square(rows - row_mean[:, None]).mean(axis=1)
    mean[...] = row_mean.reshape(mean.shape)
    inv_std[...] = (1 / np.sqrt(row_var + eps)).reshape(mean.shape)
    result = (rows - mean.reshape(-1, 1)) * inv_std.reshape(-1, 1)
    if weight is not None:
        result *= weight.reshape(-1)
    if bias is not None:
        result += bias.reshape(-1)
    y[...] = result.reshape(y.shape)


@_quiet
def layer_norm_backward(grad_output, x, weight, mean, inv_std, sizes, grad_x, grad_weight, grad_bias):
    """grad_x = inv_std (h - mean(h) - xhat mean(h xhat)), h = weight g."""
    g, inv_std = grad_output.reshape(sizes), inv_std.reshape(-1, 1)
    unit = (x.reshape(sizes) - mean.reshape(-1, 1)) * inv_std
    by_weight = (g * unit).sum(axis=0, dtype=np.float64)
    by_bias = g.sum(axis=0, dtype=np.float64)
    h = g if weight is None else g * weight.reshape(-1)
    mean_h = h.mean(axis=1, keepdims=True, dtype=np.float64)
    mean_product = (h * unit).mean(axis=1, keepdims=True, dtype=np.float64)
    grad_x[...] = ((h - mean_h - unit * mean_product) * inv_std).reshape(grad_x.shape)
    grad_weight[...] = by_weight.reshape(grad_weight.shape)
    grad_bias[...] = by_bias.reshape(grad_bias.shape)
