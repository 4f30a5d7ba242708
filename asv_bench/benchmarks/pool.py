"""Pooling, forward and backward."""

from .common import DTYPES, N_THREADS, POOLS, _Compared, data, reference


class _Pool(_Compared):
    params = [list(POOLS), DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]


class MaxPool2d(_Pool):
    """max_pool2d."""

    def operation(self, module, layer, dtype):
        shape, kernel, stride = POOLS[layer]
        (x,) = data(shape, dtype=dtype)
        return lambda: module.max_pool2d(x, kernel, stride=stride)


class MaxPool2dBackward(_Pool):
    """max_pool2d_backward."""

    def operation(self, module, layer, dtype):
        shape, kernel, stride = POOLS[layer]
        (x,) = data(shape, dtype=dtype)
        output, indices = reference.max_pool2d(x, kernel, stride=stride, return_indices=True)
        (grad_output,) = data(output.shape, dtype=dtype, seed=1)
        return lambda: module.max_pool2d_backward(grad_output, indices, shape, kernel, stride=stride)


class AvgPool2d(_Pool):
    """avg_pool2d."""

    def operation(self, module, layer, dtype):
        shape, kernel, stride = POOLS[layer]
        (x,) = data(shape, dtype=dtype)
        return lambda: module.avg_pool2d(x, kernel, stride=stride)


class AvgPool2dBackward(_Pool):
    """avg_pool2d_backward."""

    def operation(self, module, layer, dtype):
        shape, kernel, stride = POOLS[layer]
        (x,) = data(shape, dtype=dtype)
        (grad_output,) = data(reference.avg_pool2d(x, kernel, stride=stride).shape, dtype=dtype, seed=1)
        return lambda: module.avg_pool2d_backward(grad_output, shape, kernel, stride=stride)
