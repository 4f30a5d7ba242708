"""Dense layers."""

from .common import DTYPES, N_THREADS, _Compared, data, some

LAYERS = dict(
    some(
        [
            ("lenet 64 x 400 to 120", (64, 400, 120)),
            ("one row of 512 to 512", (1, 512, 512)),
            ("vgg 32 x 4096 to 1000", (32, 4096, 1000)),
        ],
        2,
    )
)


class Linear(_Compared):
    """linear with bias."""

    needs = ("linear",)
    params = [list(LAYERS), DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]

    def operation(self, module, layer, dtype):
        n, inputs, outputs = LAYERS[layer]
        x, weight, bias = data((n, inputs), (outputs, inputs), outputs, dtype=dtype)
        return lambda: module.linear(x, weight, bias)


class LinearBackward(_Compared):
    """linear_backward, all three gradients."""

    needs = ("linear_backward",)
    params = [list(LAYERS), DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]

    def operation(self, module, layer, dtype):
        n, inputs, outputs = LAYERS[layer]
        grad_output, x, weight = data((n, outputs), (n, inputs), (outputs, inputs), dtype=dtype)
        return lambda: module.linear_backward(grad_output, x, weight)
