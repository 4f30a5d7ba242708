"""Convolution, gradients."""

from .common import ALGORITHMS, DTYPES, LAYERS, N_THREADS, _Compared, data
from .conv import LINES, Convolve2d, ConvTranspose2d, LocallyConnected2d


class Conv2dGradInput(_Compared):
    """conv2d_grad_input."""

    needs = ("conv2d_grad_input",)
    params = [list(LAYERS), DTYPES, N_THREADS, ALGORITHMS]
    param_names = ["layer", "dtype", "n_threads", "algorithm"]

    def operation(self, module, layer, dtype, algorithm):
        case = LAYERS[layer]
        grad_output, weight = data(case.output_shape, case.weight_shape, dtype=dtype)
        return lambda: module.conv2d_grad_input(grad_output, weight, case.x_shape, algorithm=algorithm, **case.options)


class Conv2dGradWeight(_Compared):
    """conv2d_grad_weight."""

    needs = ("conv2d_grad_weight",)
    params = [list(LAYERS), DTYPES, N_THREADS, ALGORITHMS]
    param_names = ["layer", "dtype", "n_threads", "algorithm"]

    def operation(self, module, layer, dtype, algorithm):
        case = LAYERS[layer]
        grad_output, x = data(case.output_shape, case.x_shape, dtype=dtype)
        return lambda: module.conv2d_grad_weight(grad_output, x, case.kernel, algorithm=algorithm, **case.options)


class Conv2dGradBias(_Compared):
    """conv2d_grad_bias."""

    needs = ("conv2d_grad_bias",)
    params = [list(LAYERS)[:1], DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]

    def operation(self, module, layer, dtype):
        (grad_output,) = data(LAYERS[layer].output_shape, dtype=dtype)
        return lambda: module.conv2d_grad_bias(grad_output)


class ConvTranspose2dBackward(_Compared):
    """conv_transpose2d_backward, all three gradients."""

    needs = ("conv_transpose2d_backward",)
    params = [list(ConvTranspose2d.layers), DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]

    def operation(self, module, layer, dtype):
        case = ConvTranspose2d.layers[layer]
        grad_output, x, weight = data(case.output_shape, case.x_shape, case.weight_shape, dtype=dtype)
        return lambda: module.conv_transpose2d_backward(grad_output, x, weight, **case.options)


class Conv1dBackward(_Compared):
    """conv1d_backward, all three gradients."""

    needs = ("conv1d_backward",)
    params = [list(LINES), DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]

    def operation(self, module, layer, dtype):
        case = LINES[layer]
        arrays = data(case.output_shape, case.x_shape, case.weight_shape, dtype=dtype)
        grad_output, x, weight = (array[:, :, 0] for array in arrays)
        options = dict(stride=case.stride[1], padding=case.padding[1], groups=case.groups)
        return lambda: module.conv1d_backward(grad_output, x, weight, **options)


class Convolve2dBackward(_Compared):
    """convolve2d_backward, both gradients, of "same" results."""

    needs = ("convolve2d_backward",)
    params = [list(Convolve2d.pictures), DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]

    def operation(self, module, layer, dtype):
        x_shape, kernel_shape = Convolve2d.pictures[layer]
        grad_output, x, kernel = data(x_shape, x_shape, kernel_shape, dtype=dtype)
        return lambda: module.convolve2d_backward(grad_output, x, kernel, "same")


class LocallyConnected2dBackward(_Compared):
    """locally_connected2d_backward, all three gradients."""

    needs = ("locally_connected2d_backward",)
    params = [list(LocallyConnected2d.layers), DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]

    def operation(self, module, layer, dtype):
        x_shape, weight_shape = LocallyConnected2d.layers[layer]
        rows, columns, out_channels = weight_shape[:3]
        output_shape = (x_shape[0], out_channels, rows, columns)
        grad_output, x, weight = data(output_shape, x_shape, weight_shape, dtype=dtype)
        return lambda: module.locally_connected2d_backward(grad_output, x, weight)
