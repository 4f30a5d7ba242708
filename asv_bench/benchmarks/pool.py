"""Pooling, forward and backward."""

from .common import DTYPES, N_THREADS, POOLS, _Compared, data, reference


class _Pool(_Compared):
    params = [list(POOLS), DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]


class MaxPool2d(_Pool):
    """max_pool2d."""

    needs = ("max_pool2d",)

    def operation(self, module, layer, dtype):
        shape, kernel, stride = POOLS[layer]
        (x,) = data(shape, dtype=dtype)
        return lambda: module.max_pool2d(x, kernel, stride=stride)


class MaxPool2dBackward(_Pool):
    """max_pool2d_backward."""

    needs = ("max_pool2d_backward",)

    def operation(self, module, layer, dtype):
        shape, kernel, stride = POOLS[layer]
        (x,) = data(shape, dtype=dtype)
        output, indices = reference.max_pool2d(x, kernel, stride=stride, return_indices=True)
        (grad_output,) = data(output.shape, dtype=dtype, seed=1)
        return lambda: module.max_pool2d_backward(grad_output, indices, shape, kernel, stride=stride)


class AvgPool2d(_Pool):
    """avg_pool2d."""

    needs = ("avg_pool2d",)

    def operation(self, module, layer, dtype):
        shape, kernel, stride = POOLS[layer]
        (x,) = data(shape, dtype=dtype)
        return lambda: module.avg_pool2d(x, kernel, stride=stride)


class AvgPool2dBackward(_Pool):
    """avg_pool2d_backward."""

    needs = ("avg_pool2d_backward",)

    def operation(self, module, layer, dtype):
        shape, kernel, stride = POOLS[layer]
        (x,) = data(shape, dtype=dtype)
        (grad_output,) = data(reference.avg_pool2d(x, kernel, stride=stride).shape, dtype=dtype, seed=1)
        return lambda: module.avg_pool2d_backward(grad_output, shape, kernel, stride=stride)


class Subsample2d(_Pool):
    """subsample2d: averages with a gain and a bias for each channel."""

    needs = ("subsample2d",)

    def operation(self, module, layer, dtype):
        shape, kernel, stride = POOLS[layer]
        x, weight, bias = data(shape, shape[1], shape[1], dtype=dtype)
        return lambda: module.subsample2d(x, weight, bias, kernel, stride=stride)


class GlobalAvgPool2d(_Pool):
    """global_avg_pool2d."""

    needs = ("global_avg_pool2d",)

    def operation(self, module, layer, dtype):
        (x,) = data(POOLS[layer][0], dtype=dtype)
        return lambda: module.global_avg_pool2d(x)


class GlobalMaxPool2d(_Pool):
    """global_max_pool2d."""

    needs = ("global_max_pool2d",)

    def operation(self, module, layer, dtype):
        (x,) = data(POOLS[layer][0], dtype=dtype)
        return lambda: module.global_max_pool2d(x)
