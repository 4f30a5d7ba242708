"""Convolution, forward."""

from .common import DTYPES, LAYERS, N_THREADS, _Compared, cases, data


class Conv2d(_Compared):
    """conv2d, and conv_transpose2d where the layer is transposed."""

    params = [list(LAYERS), DTYPES, N_THREADS, ["auto", "direct"]]
    param_names = ["layer", "dtype", "n_threads", "algorithm"]

    def operation(self, module, layer, dtype, algorithm):
        case = LAYERS[layer]
        x, weight = data(case.x_shape, case.weight_shape, dtype=dtype)
        return lambda: module.conv2d(x, weight, algorithm=algorithm, **case.options)


class ConvTranspose2d(_Compared):
    """conv_transpose2d on the generator layers of DCGAN."""

    layers = {case.name: case for case in cases.DCGAN if case.transposed}
    params = [list(layers), DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]

    def operation(self, module, layer, dtype):
        case = self.layers[layer]
        x, weight = data(case.x_shape, case.weight_shape, dtype=dtype)
        return lambda: module.conv_transpose2d(x, weight, **case.options)


class Conv2dActivation(_Compared):
    """conv2d with bias and activation in its epilogue."""

    params = [list(LAYERS)[:2], DTYPES, N_THREADS, ["relu", "sigmoid"]]
    param_names = ["layer", "dtype", "n_threads", "activation"]

    def operation(self, module, layer, dtype, activation):
        case = LAYERS[layer]
        x, weight, bias = data(case.x_shape, case.weight_shape, case.out_channels, dtype=dtype)
        return lambda: module.conv2d(x, weight, bias, activation=activation, **case.options)
