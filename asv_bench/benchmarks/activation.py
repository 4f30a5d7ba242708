"""Activations and softmax, forward and backward, on arrays in cache and in memory."""

from .common import DTYPES, N_THREADS, _Compared, data, reference

SHAPES = {"16 k": (16, 1024), "1 M": (1024, 1024)}
NAMES = ["sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "softplus", "silu", "gelu"]
TAKES_INPUT = ("softplus", "silu", "gelu")


class Activation(_Compared):
    """Each activation."""

    params = [list(SHAPES), DTYPES, N_THREADS, NAMES]
    param_names = ["layer", "dtype", "n_threads", "name"]

    def operation(self, module, layer, dtype, name):
        (x,) = data(SHAPES[layer], dtype=dtype)
        return lambda: getattr(module, name)(x)


class ActivationBackward(_Compared):
    """Each activation's fused derivative pass."""

    params = [list(SHAPES), DTYPES, N_THREADS, NAMES]
    param_names = ["layer", "dtype", "n_threads", "name"]

    def operation(self, module, layer, dtype, name):
        grad_output, x = data(SHAPES[layer], SHAPES[layer], dtype=dtype)
        kept = x if name in TAKES_INPUT else getattr(reference, name)(x)
        return lambda: getattr(module, f"{name}_backward")(grad_output, kept)


class Softmax(_Compared):
    """softmax and log_softmax along the last axis."""

    params = [list(SHAPES), DTYPES, N_THREADS, ["softmax", "log_softmax"]]
    param_names = ["layer", "dtype", "n_threads", "name"]

    def operation(self, module, layer, dtype, name):
        (x,) = data(SHAPES[layer], dtype=dtype)
        return lambda: getattr(module, name)(x)
