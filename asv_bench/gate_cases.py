"""What `gate.py` guards: one case for each operation and way through its kernels, a fraction of a millisecond each.

Frozen like `cases.py`: figures of different commits compare only while a case stays what it was. Add, change none.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Guarded:
    """One case. `bind(convgrad, *arrays)` returns the call to time; both sides bind to the same arrays.

    `checked`: the result is compared with the NumPy twin's first. `counted`: callgrind counts its instructions.
    `short`: part of the short form.
    """

    name: str
    shapes: tuple
    bind: Callable
    dtype: str = "float32"
    short: bool = False
    checked: bool = True
    counted: bool = True

    def arrays(self):
        """Seeded normal arrays of the case's shapes, each beginning at a multiple of 64 bytes, fresh from NumPy."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        return [aligned(rng.standard_normal(shape).astype(self.dtype)) for shape in self.shapes]


def aligned(array):
    """A copy of `array` that begins at a multiple of 64 bytes."""
    raw = np.empty(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _output(size, kernel, stride, padding):
    return (size + 2 * padding - kernel) // stride + 1


def _conv(n, c, k, size, kernel, stride=1, padding=0, groups=1):
    """Shapes of x, weight and output, and the options of the call."""
    out = _output(size, kernel, stride, padding)
    shapes = (n, c, size, size), (k, c // groups, kernel, kernel), (n, k, out, out)
    return *shapes, dict(stride=stride, padding=padding, groups=groups)


def _forward(name, *layer, dtype="float32", short=False, **more):
    x, weight, _, options = _conv(*layer)
    options |= more
    bind = lambda cg, x, w: lambda: cg.conv2d(x, w, **options)
    return Guarded(f"conv2d {name}", (x, weight), bind, dtype, short)


def _grad_input(name, *layer, short=False):
    x, weight, output, options = _conv(*layer)
    bind = lambda cg, g, w: lambda: cg.conv2d_grad_input(g, w, x, **options)
    return Guarded(f"conv2d_grad_input {name}", (output, weight), bind, short=short)


def _grad_weight(name, *layer, short=False):
    x, weight, output, options = _conv(*layer)
    bind = lambda cg, g, x: lambda: cg.conv2d_grad_weight(g, x, weight[2:], **options)
    return Guarded(f"conv2d_grad_weight {name}", (output, x), bind, short=short)


def _nhwc(cg, x, w):
    return lambda: cg.conv2d(x, w, padding=1, groups=64, layout="NHWC")


def _prepacked(cg, x, w):
    packed = cg.prepack_conv2d(w, input_shape=x.shape, padding=1)
    return lambda: packed(x)


def _max_pool_backward(kernel, stride):
    def bind(cg, x):
        output, indices = cg.max_pool2d(x, kernel, stride=stride, return_indices=True)
        grad = np.array(output)
        return lambda: cg.max_pool2d_backward(grad, indices, x.shape, kernel, stride=stride)

    return bind


def _elementwise(name, *, backward=False, short=False):
    """A function of one array of 64 Ki elements, or its derivative pass."""
    if backward:
        bind = lambda cg, g, y: lambda: getattr(cg, f"{name}_backward")(g, y)
        return Guarded(f"{name}_backward", ((256, 256),) * 2, bind, short=short)
    return Guarded(name, ((256, 256),), lambda cg, x: lambda: getattr(cg, name)(x), short=short)


def _cross_entropy(cg, logits):
    labels = np.arange(len(logits)) % logits.shape[1]
    return lambda: cg.softmax_cross_entropy(logits, labels)


def _batch_norm(cg, x, weight, bias):
    return lambda: cg.batch_norm(x, weight, bias, training=True)[0]


def _batch_norm_backward(cg, g, x, weight):
    _, mean, inverse, *_ = cg.batch_norm(x, weight, weight, training=True)
    return lambda: cg.batch_norm_backward(g, x, weight, mean, inverse)


def _training_step(optimizer):
    def bind(cg, x):
        layers, rng = cg.layers, np.random.default_rng(0)
        model = layers.Sequential(
            [
                layers.Conv2D(1, 16, 3, padding=1, activation="relu", rng=rng),
                layers.MaxPool2D(2),
                layers.Conv2D(16, 16, 3, padding=1, activation="relu", rng=rng),
                layers.MaxPool2D(2),
                layers.Flatten(),
                layers.Dense(16 * 4 * 4, 10, rng=rng),
            ]
        )
        parameters, labels = model.parameters(), np.arange(len(x)) % 10
        step = getattr(cg.optimizers, optimizer)(1e-6)  # so small that the losses hardly move

        def call():
            loss, grad = cg.softmax_cross_entropy(model.forward(x), labels)
            model.backward(grad)
            step.step(parameters)
            return loss

        return call

    return bind


def _simple(name, *shapes, short=False, counted=True, **options):
    """`name(*arrays, **options)`; arrays of the shapes given."""
    function = name.split()[0]
    bind = lambda cg, *arrays: lambda: getattr(cg, function)(*arrays, **options)
    return Guarded(name, shapes, bind, short=short, counted=counted)


GUARDED = (
    _forward("3x3", 1, 64, 64, 28, 3, 1, 1, short=True),
    _forward("3x3 float64", 1, 32, 32, 28, 3, 1, 1, dtype="float64"),
    _forward("3x3 direct", 1, 32, 64, 28, 3, 1, 1, algorithm="direct", short=True),
    _forward("3x3 strided", 1, 64, 64, 28, 3, 2, 1),
    _forward("1x1", 1, 128, 128, 28, 1, short=True),
    _forward("1x1 7x7", 1, 256, 256, 7, 1),
    _forward("5x5", 4, 6, 16, 14, 5),
    _forward("7x7 strided", 1, 3, 16, 112, 7, 2, 3),
    _forward("depthwise", 1, 64, 64, 56, 3, 1, 1, 64, short=True),
    _forward("bias and relu", 16, 16, 16, 8, 3, 1, 1, activation="relu"),
    Guarded("conv2d depthwise NHWC", ((1, 56, 56, 64), (64, 1, 3, 3)), _nhwc),
    Guarded("prepack_conv2d 3x3", ((1, 64, 28, 28), (64, 64, 3, 3)), _prepacked),
    _grad_input("3x3", 1, 64, 64, 28, 3, 1, 1, short=True),
    _grad_input("3x3 strided", 1, 32, 64, 28, 3, 2, 1),
    _grad_input("1x1", 1, 128, 128, 28, 1),
    _grad_input("depthwise", 1, 64, 64, 56, 3, 1, 1, 64),
    _grad_weight("3x3", 1, 64, 64, 28, 3, 1, 1, short=True),
    _grad_weight("1x1", 1, 128, 128, 28, 1),
    _grad_weight("5x5", 4, 6, 16, 14, 5),
    _grad_weight("depthwise", 1, 64, 64, 56, 3, 1, 1, 64),
    _simple("conv_transpose2d", (4, 64, 8, 8), (64, 32, 4, 4), stride=2, padding=1),
    _simple("conv1d", (1, 32, 1024), (32, 32, 9), padding=4),
    _simple("convolve2d", (128, 128), (5, 5)),
    _simple("locally_connected2d", (16, 8, 12, 12), (10, 10, 8, 8, 3, 3)),
    _simple("max_pool2d 2x2", (4, 16, 56, 56), kernel_size=2, short=True),
    _simple("max_pool2d 3x3 stride 2", (1, 64, 56, 56), kernel_size=3, stride=2),
    Guarded("max_pool2d_backward 2x2", ((4, 16, 56, 56),), _max_pool_backward(2, 2), short=True),
    Guarded("max_pool2d_backward 3x3 stride 2", ((1, 64, 56, 56),), _max_pool_backward(3, 2)),
    _simple("avg_pool2d 2x2", (4, 16, 56, 56), kernel_size=2),
    _simple("avg_pool2d 3x3 stride 1", (1, 64, 35, 35), kernel_size=3, stride=1, short=True),
    _simple("avg_pool2d_backward", (1, 64, 28, 28), input_shape=(1, 64, 56, 56), kernel_size=2),
    _simple("global_avg_pool2d", (4, 256, 7, 7)),
    _elementwise("relu", short=True),
    _elementwise("sigmoid"),
    _elementwise("tanh", short=True),
    _elementwise("elu"),
    _elementwise("gelu", short=True),
    _elementwise("relu", backward=True),
    _elementwise("tanh", backward=True),
    _elementwise("gelu", backward=True, short=True),
    _simple("softmax", (256, 256), short=True),
    _simple("log_softmax 10 classes", (4096, 10)),
    Guarded("softmax_cross_entropy", ((512, 128),), _cross_entropy),
    _simple("linear", (64, 400), (120, 400), (120,), short=True),
    _simple("linear one row", (1, 512), (512, 512), (512,)),
    _simple("linear_backward", (64, 120), (64, 400), (120, 400)),
    Guarded("batch_norm", ((8, 32, 14, 14), (32,), (32,)), _batch_norm),
    Guarded("batch_norm_backward", ((8, 32, 14, 14), (8, 32, 14, 14), (32,)), _batch_norm_backward),
    _simple("layer_norm", (256, 256), (256,), (256,)),
    Guarded("training step SGD", ((16, 1, 16, 16),), _training_step("SGD"), short=True, checked=False, counted=False),
    Guarded("training step Adam", ((16, 1, 16, 16),), _training_step("Adam"), checked=False, counted=False),
    _simple("relu of 10 numbers", (10,), counted=False, short=True),
    _simple("conv2d of 16x16", (1, 3, 16, 16), (8, 3, 3, 3), counted=False, short=True),
    _simple("max_pool2d of 28x28", (1, 1, 28, 28), kernel_size=2, counted=False),
    _simple("linear of 84 numbers", (1, 84), (10, 84), (10,), counted=False),
)


def chosen(pattern="", short=False):
    """The cases of the short form, or all, whose name contains `pattern`."""
    return [case for case in GUARDED if pattern in case.name and (case.short or not short)]
