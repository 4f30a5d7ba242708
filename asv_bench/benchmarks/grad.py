"""Convolution, both gradients."""

from .common import DTYPES, LAYERS, N_THREADS, _Compared, data


class Conv2dGradInput(_Compared):
    """conv2d_grad_input."""

    params = [list(LAYERS), DTYPES, N_THREADS, ["auto", "direct"]]
    param_names = ["layer", "dtype", "n_threads", "algorithm"]

    def operation(self, module, layer, dtype, algorithm):
        case = LAYERS[layer]
        grad_output, weight = data(case.output_shape, case.weight_shape, dtype=dtype)
        return lambda: module.conv2d_grad_input(grad_output, weight, case.x_shape, algorithm=algorithm, **case.options)


class Conv2dGradWeight(_Compared):
    """conv2d_grad_weight."""

    params = [list(LAYERS), DTYPES, N_THREADS, ["auto", "direct"]]
    param_names = ["layer", "dtype", "n_threads", "algorithm"]

    def operation(self, module, layer, dtype, algorithm):
        case = LAYERS[layer]
        grad_output, x = data(case.output_shape, case.x_shape, dtype=dtype)
        return lambda: module.conv2d_grad_weight(grad_output, x, case.kernel, algorithm=algorithm, **case.options)
