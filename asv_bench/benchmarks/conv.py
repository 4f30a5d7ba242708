"""Convolution, forward."""

from .common import ALGORITHMS, DTYPES, LAYERS, N_THREADS, _Compared, cases, convgrad, data, some


class Conv2d(_Compared):
    """conv2d."""

    needs = ("conv2d",)
    params = [list(LAYERS), DTYPES, N_THREADS, ALGORITHMS]
    param_names = ["layer", "dtype", "n_threads", "algorithm"]

    def operation(self, module, layer, dtype, algorithm):
        case = LAYERS[layer]
        x, weight = data(case.x_shape, case.weight_shape, dtype=dtype)
        return lambda: module.conv2d(x, weight, algorithm=algorithm, **case.options)


class Conv2dActivation(_Compared):
    """conv2d with bias and activation in its epilogue."""

    needs = ("conv2d", "relu")
    params = [list(LAYERS)[:2], DTYPES, N_THREADS, some(["relu", "sigmoid"])]
    param_names = ["layer", "dtype", "n_threads", "activation"]

    def operation(self, module, layer, dtype, activation):
        case = LAYERS[layer]
        x, weight, bias = data(case.x_shape, case.weight_shape, case.out_channels, dtype=dtype)
        return lambda: module.conv2d(x, weight, bias, activation=activation, **case.options)


class Conv2dNhwc(_Compared):
    """conv2d with channels last."""

    needs = ("conv2d",)
    params = [list(LAYERS)[1:3], DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]

    def operation(self, module, layer, dtype):
        case = LAYERS[layer]
        n, c, height, width = case.x_shape
        x, weight = data((n, height, width, c), case.weight_shape, dtype=dtype)
        return lambda: module.conv2d(x, weight, layout="NHWC", **case.options)


class PrepackConv2d(_Compared):
    """A convolution whose weights are packed, against the twin's conv2d."""

    needs = ("prepack_conv2d",)
    twin_needs = ("conv2d",)
    params = [list(LAYERS), DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]

    def operation(self, module, layer, dtype):
        case = LAYERS[layer]
        x, weight = data(case.x_shape, case.weight_shape, dtype=dtype)
        if module is not convgrad:
            return lambda: module.conv2d(x, weight, **case.options)
        packed = module.prepack_conv2d(weight, input_shape=x.shape, **case.options)
        return lambda: packed(x)


class ConvTranspose2d(_Compared):
    """conv_transpose2d on the generator layers of DCGAN."""

    layers = {case.name: case for case in some([case for case in reversed(cases.DCGAN) if case.transposed])}
    needs = ("conv_transpose2d",)
    params = [list(layers), DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]

    def operation(self, module, layer, dtype):
        case = self.layers[layer]
        x, weight = data(case.x_shape, case.weight_shape, dtype=dtype)
        return lambda: module.conv_transpose2d(x, weight, **case.options)


LINES = {case.name: case for case in some((cases.LINE[4], *cases.LINE[:4], *cases.LINE[5:]))}


class Conv1d(_Compared):
    """conv1d on audio and EEG layers."""

    needs = ("conv1d",)
    params = [list(LINES), DTYPES, N_THREADS, ALGORITHMS]
    param_names = ["layer", "dtype", "n_threads", "algorithm"]

    def operation(self, module, layer, dtype, algorithm):
        case = LINES[layer]
        x, weight = data(case.x_shape, case.weight_shape, dtype=dtype)
        x, weight = x[:, :, 0], weight[:, :, 0]
        options = dict(stride=case.stride[1], padding=case.padding[1], groups=case.groups, algorithm=algorithm)
        return lambda: module.conv1d(x, weight, **options)


class Convolve2d(_Compared):
    """convolve2d of a picture with a small kernel."""

    pictures = {name: ((size, size), (k, k)) for name, size, k in some([("128, 5x5", 128, 5), ("1024, 7x7", 1024, 7)])}
    needs = ("convolve2d",)
    params = [list(pictures), DTYPES, N_THREADS, some(["same", "full", "valid"])]
    param_names = ["layer", "dtype", "n_threads", "mode"]

    def operation(self, module, layer, dtype, mode):
        x, kernel = data(*self.pictures[layer], dtype=dtype)
        return lambda: module.convolve2d(x, kernel, mode)


class LocallyConnected2d(_Compared):
    """locally_connected2d."""

    layers = dict(
        some(
            [
                ("32,8,8,12 3x3", ((32, 8, 12, 12), (10, 10, 8, 8, 3, 3))),
                ("64,16,16,16 5x5", ((64, 16, 16, 16), (12, 12, 16, 16, 5, 5))),
            ]
        )
    )
    needs = ("locally_connected2d",)
    params = [list(layers), DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]

    def operation(self, module, layer, dtype):
        x, weight = data(*self.layers[layer], dtype=dtype)
        return lambda: module.locally_connected2d(x, weight)
