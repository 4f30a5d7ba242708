"""Activations, forward and backward, on arrays in cache and in memory."""

from .common import DTYPES, N_THREADS, _Compared, data, reference, some

SHAPES = dict(some([("16 k", (16, 1024)), ("1 M", (1024, 1024))]))
NAMES = some(["tanh", "relu", "gelu", "sigmoid", "leaky_relu", "elu", "selu", "softplus", "silu"], 3)
TAKES_INPUT = ("softplus", "silu", "gelu")


class Activation(_Compared):
    """Each activation."""

    needs = tuple(NAMES)
    params = [list(SHAPES), DTYPES, N_THREADS, NAMES]
    param_names = ["layer", "dtype", "n_threads", "name"]

    def operation(self, module, layer, dtype, name):
        (x,) = data(SHAPES[layer], dtype=dtype)
        return lambda: getattr(module, name)(x)


class ActivationBackward(_Compared):
    """Each activation's fused derivative pass."""

    needs = tuple(f"{name}_backward" for name in NAMES)
    params = [list(SHAPES), DTYPES, N_THREADS, NAMES]
    param_names = ["layer", "dtype", "n_threads", "name"]

    def operation(self, module, layer, dtype, name):
        grad_output, x = data(SHAPES[layer], SHAPES[layer], dtype=dtype)
        kept = x if name in TAKES_INPUT else getattr(reference, name)(x)
        return lambda: getattr(module, f"{name}_backward")(grad_output, kept)


class ActivationBackwardBias(_Compared):
    """activation_backward_bias of ReLU: the derivative pass and the bias's gradient in one sweep."""

    layers = dict(some([("digits", (64, 32, 8, 8)), ("vgg", (32, 64, 56, 56))]))
    needs = ("activation_backward_bias",)
    params = [list(layers), DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]

    def operation(self, module, layer, dtype):
        grad_output, x = data(self.layers[layer], self.layers[layer], dtype=dtype)
        output = reference.relu(x)
        return lambda: module.activation_backward_bias("relu", grad_output, output)
