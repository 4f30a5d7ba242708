"""What works along rows: softmax, losses, normalisation; and dropout."""

import numpy as np

from .common import DTYPES, N_THREADS, _Compared, data, reference, some

SHAPES = dict(some([("256 x 256", (256, 256)), ("4096 x 10", (4096, 10)), ("1024 x 1024", (1024, 1024))], 2))
MAPS = dict(some([("digits", (64, 32, 8, 8)), ("resnet", (8, 64, 56, 56))]))


class _Rows(_Compared):
    params = [list(SHAPES), DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]


class Softmax(_Compared):
    """softmax and log_softmax along the last axis."""

    needs = ("softmax", "log_softmax")
    params = [list(SHAPES), DTYPES, N_THREADS, some(["softmax", "log_softmax"])]
    param_names = ["layer", "dtype", "n_threads", "name"]

    def operation(self, module, layer, dtype, name):
        (x,) = data(SHAPES[layer], dtype=dtype)
        return lambda: getattr(module, name)(x)


class SoftmaxBackward(_Compared):
    """softmax_backward and log_softmax_backward."""

    needs = ("softmax_backward", "log_softmax_backward")
    params = [list(SHAPES), DTYPES, N_THREADS, some(["softmax", "log_softmax"])]
    param_names = ["layer", "dtype", "n_threads", "name"]

    def operation(self, module, layer, dtype, name):
        grad_output, x = data(SHAPES[layer], SHAPES[layer], dtype=dtype)
        output = getattr(reference, name)(x)
        return lambda: getattr(module, f"{name}_backward")(grad_output, output)


class SoftmaxCrossEntropy(_Rows):
    """softmax_cross_entropy with its gradient; a class for each row."""

    needs = ("softmax_cross_entropy",)

    def operation(self, module, layer, dtype):
        (logits,) = data(SHAPES[layer], dtype=dtype)
        labels = np.arange(len(logits)) % logits.shape[1]
        return lambda: module.softmax_cross_entropy(logits, labels)


class LeastSquares(_Rows):
    """least_squares with its gradient."""

    needs = ("least_squares",)

    def operation(self, module, layer, dtype):
        prediction, target = data(SHAPES[layer], SHAPES[layer], dtype=dtype)
        return lambda: module.least_squares(prediction, target)


class SigmoidCrossEntropy(_Rows):
    """sigmoid_cross_entropy with its gradient."""

    needs = ("sigmoid_cross_entropy",)

    def operation(self, module, layer, dtype):
        logits, noise = data(SHAPES[layer], SHAPES[layer], dtype=dtype)
        targets = (noise > 0).astype(dtype)
        return lambda: module.sigmoid_cross_entropy(logits, targets)


class LayerNorm(_Rows):
    """layer_norm over the last axis."""

    needs = ("layer_norm",)

    def operation(self, module, layer, dtype):
        shape = SHAPES[layer]
        x, weight, bias = data(shape, shape[1], shape[1], dtype=dtype)
        return lambda: module.layer_norm(x, weight, bias)


class LayerNormBackward(_Rows):
    """layer_norm_backward."""

    needs = ("layer_norm_backward",)

    def operation(self, module, layer, dtype):
        shape = SHAPES[layer]
        grad_output, x, weight = data(shape, shape, shape[1], dtype=dtype)
        _, mean, inverse = reference.layer_norm(x, weight, weight)
        return lambda: module.layer_norm_backward(grad_output, x, weight, mean, inverse)


class _Maps(_Compared):
    params = [list(MAPS), DTYPES, N_THREADS]
    param_names = ["layer", "dtype", "n_threads"]


class BatchNorm(_Maps):
    """batch_norm with the statistics of the batch."""

    needs = ("batch_norm",)

    def operation(self, module, layer, dtype):
        shape = MAPS[layer]
        x, weight, bias = data(shape, shape[1], shape[1], dtype=dtype)
        return lambda: module.batch_norm(x, weight, bias, training=True)


class BatchNormBackward(_Maps):
    """batch_norm_backward."""

    needs = ("batch_norm_backward",)

    def operation(self, module, layer, dtype):
        shape = MAPS[layer]
        grad_output, x, weight = data(shape, shape, shape[1], dtype=dtype)
        _, mean, inverse, *_ = reference.batch_norm(x, weight, weight, training=True)
        return lambda: module.batch_norm_backward(grad_output, x, weight, mean, inverse)


class Dropout(_Maps):
    """dropout, its random numbers included."""

    needs = ("dropout",)

    def operation(self, module, layer, dtype):
        (x,) = data(MAPS[layer], dtype=dtype)
        return lambda: module.dropout(x, 0.5, rng=np.random.default_rng(0))
