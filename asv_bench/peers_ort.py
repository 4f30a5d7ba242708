"""Inference against onnxruntime, layer by layer: the suite `ort` of `peers.py`.

Each case is an ONNX model of a single node, or of one convolution with its activation, or of ResNet's basic block with
its batch norms folded (He et al., 2015, arXiv 1512.03385, figure 5). onnxruntime optimises it as it does by default and
runs it with the same number of threads. Ours is what a user would write: `prepack_conv2d`, the pools, the activations,
and for the block also `integrations.onnx.prepare` of the same model. Weights are packed before anything is timed. Both
sides return fresh arrays. A pause before each sample lets the threads of the other side go to sleep.
"""

import cases
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from report import Suite

import convgrad
from convgrad.integrations.onnx import prepare

OPSET, IR = 21, 10
PAUSE = 0.02  # seconds; onnxruntime's threads spin for some milliseconds after a call

# (N, C, H, W), kernel, stride, padding
POOLS = (
    ((64, 6, 28, 28), 2, 2, 0),  # LeNet-5
    ((8, 64, 112, 112), 3, 2, 1),  # ResNet
    ((1, 64, 112, 112), 3, 2, 1),
    ((8, 192, 35, 35), 3, 1, 1),  # Inception v3
    ((4, 64, 224, 224), 2, 2, 0),  # VGG
)
GLOBAL_POOLS = ((8, 2048, 7, 7), (1, 512, 7, 7), (8, 64, 56, 56))
# Operator of ONNX, its attributes, our function.
ACTIVATIONS = (
    ("Relu", {}, convgrad.relu),
    ("LeakyRelu", {"alpha": 0.01}, convgrad.leaky_relu),
    ("Elu", {"alpha": 1.0}, convgrad.elu),
    ("Selu", {}, convgrad.selu),
    ("Sigmoid", {}, convgrad.sigmoid),
    ("Tanh", {}, convgrad.tanh),
    ("Softplus", {}, convgrad.softplus),
    ("Gelu", {}, convgrad.gelu),
)
SIZES = {"1e4": (25, 16, 5, 5), "1e6": (50, 32, 25, 25)}
# ResNet-18: batch, channels in and out, size; where channels change, stride 2 and a 1x1 convolution beside.
BLOCKS = ((1, 64, 64, 56), (8, 64, 64, 56), (1, 128, 128, 28), (8, 128, 128, 28), (8, 64, 128, 56), (8, 256, 512, 14))


def model_of(nodes, x_shape, weights):
    """A model of those nodes from x to y; `weights` maps names to arrays."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, x_shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "case", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


def session(model, n_threads, x):
    """onnxruntime's call on x."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = n_threads, 3
    run = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run
    feed = {"x": x}
    return lambda: run(None, feed)[0]


def convolution(case, rng, activation=None):
    """(x, model, ours, gigaflops) of a layer with bias."""
    x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in (case.x_shape, case.weight_shape))
    bias = rng.standard_normal(case.out_channels, dtype=np.float32)
    attributes = {"strides": case.stride, "pads": case.padding * 2, "group": case.groups}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["h" if activation else "y"], **attributes)]
    if activation:
        nodes.append(helper.make_node(activation.capitalize(), ["h"], ["y"]))
    packed = convgrad.prepack_conv2d(weight, bias, input_shape=x.shape, activation=activation, **case.options)
    return x, model_of(nodes, x.shape, {"w": weight, "b": bias}), lambda: packed(x), case.flops / 1e9


def convolutions(rng, only):
    """Layers of the families that inference meets, plain and with a rectifier behind."""
    plain = (*cases.DIRECT, *cases.BATCH1, *cases.MOBILENET_POINTWISE[::2], *cases.MOBILENET_DEPTHWISE[::2])
    for case in plain:
        if only in case.name:
            yield case.name, case.family, convolution(case, rng)
    for case in (*cases.DIRECT[1:8:2], *cases.BATCH1[2:7:2]):
        name = f"{case.name} + relu"
        if only in name:
            yield name, "conv + relu", convolution(case, rng, "relu")


def pools(rng, only):
    """Pools over windows and over whole planes, NCHW."""
    for shape, kernel, stride, padding in POOLS:
        for kind, ours in (("MaxPool", convgrad.max_pool2d), ("AveragePool", convgrad.avg_pool2d)):
            name = f"{kind} {','.join(map(str, shape[:3]))} {kernel}x{kernel} s{stride} p{padding}"
            if only not in name:
                continue
            x = rng.standard_normal(shape, dtype=np.float32)
            attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4}
            if kind == "AveragePool":
                attributes["count_include_pad"] = 1
            model = model_of([helper.make_node(kind, ["x"], ["y"], **attributes)], shape, {})
            call = lambda x=x, ours=ours, k=kernel, s=stride, p=padding: ours(x, k, stride=s, padding=p)
            yield name, kind, (x, model, call, 4 * (x.size + call().size) / 1e9)
    for shape in GLOBAL_POOLS:
        for kind, ours in (
            ("GlobalMaxPool", convgrad.global_max_pool2d),
            ("GlobalAveragePool", convgrad.global_avg_pool2d),
        ):
            name = f"{kind} {','.join(map(str, shape[:3]))}"
            if only not in name:
                continue
            x = rng.standard_normal(shape, dtype=np.float32)
            model = model_of([helper.make_node(kind, ["x"], ["y"])], shape, {})
            yield name, "global pools", (x, model, lambda x=x, ours=ours: ours(x), 4 * x.size / 1e9)


def activations(rng, only):
    """Values of the activations that both have, on 1e4 and 1e6 numbers."""
    for kind, attributes, ours in ACTIVATIONS:
        for size, shape in SIZES.items():
            name = f"{kind} {size}"
            if only not in name:
                continue
            x = rng.standard_normal(shape, dtype=np.float32)
            model = model_of([helper.make_node(kind, ["x"], ["y"], **attributes)], shape, {})
            yield name, "activations", (x, model, lambda x=x, ours=ours: ours(x), 8 * x.size / 1e9)


class Block:
    """ResNet's basic block: y = relu(conv(relu(conv(x))) + x), or + conv(x) where its shape changes."""

    def __init__(self, rng, batch, in_channels, out_channels, size):
        stride = 1 if in_channels == out_channels else 2
        shapes = {"1": (in_channels, 3, stride), "2": (out_channels, 3, 1)}
        if stride == 2:
            shapes["s"] = (in_channels, 1, 2)
        self.x = rng.standard_normal((batch, in_channels, size, size), dtype=np.float32)
        self.weights, self.nodes, self._packed, self.flops = {}, [], {}, 0
        small = (batch, out_channels, size // stride, size // stride)
        outputs = {"1": ("x", "a"), "2": ("r", "c"), "s": ("x", "d")}
        for name, (channels, kernel, step) in shapes.items():
            fan_in = channels * kernel**2
            weight = rng.standard_normal((out_channels, channels, kernel, kernel), dtype=np.float32)
            weight *= np.float32((2 / fan_in) ** 0.5)
            bias = rng.standard_normal(out_channels, dtype=np.float32) / 10
            self.weights.update({f"w{name}": weight, f"b{name}": bias})
            source, target = outputs[name]
            pads, strides = [kernel // 2] * 4, [step] * 2
            inputs = [source, f"w{name}", f"b{name}"]
            self.nodes.append(helper.make_node("Conv", inputs, [target], pads=pads, strides=strides))
            if name == "1":
                self.nodes.append(helper.make_node("Relu", ["a"], ["r"]))
            self._packed[name] = convgrad.prepack_conv2d(
                weight,
                bias,
                input_shape=self.x.shape if source == "x" else small,
                stride=step,
                padding=kernel // 2,
                activation=None if name == "s" else "relu",
            )
            self.flops += 2 * batch * out_channels * fan_in * small[2] * small[3]
        self.nodes.append(helper.make_node("Add", ["c", "d" if stride == 2 else "x"], ["e"]))
        self.nodes.append(helper.make_node("Relu", ["e"], ["y"]))

    def __call__(self):
        """The block as written by hand."""
        shortcut = self._packed["s"](self.x) if "s" in self._packed else self.x
        return self._packed["2"](self._packed["1"](self.x), residual=shortcut)


def blocks(rng, only):
    """Each block by hand, and as `prepare` runs its model."""
    for sizes in BLOCKS:
        names = [f"block {','.join(map(str, sizes))} {how}" for how in ("prepack_conv2d", "prepare")]
        if not any(only in name for name in names):
            continue
        block = Block(rng, *sizes)
        model = model_of(block.nodes, block.x.shape, block.weights)
        prepared = prepare(model)
        calls = (block, lambda x=block.x, run=prepared.run: run([x])[0])
        for name, call in zip(names, calls, strict=True):
            if only in name:
                yield name, f"basic block, {name.split()[-1]}", (block.x, model, call, block.flops / 1e9)


def check(name, ours, theirs):
    """Raise where the two disagree by more than float32 sums of this length explain."""
    if ours.shape != theirs.shape:
        raise AssertionError(f"{name}: shapes {ours.shape} and {theirs.shape}")
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    if not error < 1e-4:
        raise AssertionError(f"{name}: the two differ by {error:.1e} of the largest value")


def run(options):
    """(case, family, pass, gigaflops or gigabytes, calls) of every case chosen."""
    rng = np.random.default_rng(0)
    for part in (convolutions, pools, activations, blocks):
        for name, family, (x, model, ours, amount) in part(rng, options.only):
            theirs = session(model, convgrad.get_num_threads(), x)
            check(name, ours(), theirs())
            yield name, family, "inference", amount, [ours, theirs]


SUITE = Suite(
    name="ort",
    run=run,
    passes=("inference",),
    columns=("onnxruntime",),
    unit="GFLOP/s or GB/s",
    data="float32 NCHW",
    package="onnxruntime",
    pause=PAUSE,
)
