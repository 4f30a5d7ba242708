"""How many steps at the beginning of a graph run for one sample at a time.

Between two steps over a whole batch, large activations leave the cache; those of one sample are still there. Threads
take samples, not parts of each step, so that a core reads what it wrote itself. But weights are read once for each
sample, and each call costs something, so that the cut lies where most is saved:

    saved(step) = bytes of activations that it reads and writes for the whole batch, where they are above CACHED
    lost(step)  = (samples - 1) * (bytes of its weights, in Winograd's form where that is likely, + CALL)

A step may run for one sample at a time if its result for a sample depends on that sample alone, bit by bit, whatever
the batch.

Two cores of a Xeon with AVX-512, batches of 8 of 224x224, against whole batches: ResNet-50 takes 0.93 of the time with
one thread and 0.95 with two (26 of 58 steps; the 3x3 layers of 56x56 and 28x28 0.6 to 0.8), DenseNet-121 0.92 and 0.90,
SqueezeNet 0.95 and 0.97, VGG-19 0.99 and 0.95, ZFNet 0.98 and 0.95, AlexNet and both Inceptions the same; blocks are
0.25 to 0.7 as large. With CACHED half or 1.5 times as large most take as long; with all steps that can, both Inceptions
take 1.05 to 1.13 times as long. Slices of two samples, a step of which both threads shared, gave nothing with two
threads: DenseNet-121 took 1.05 times as long, since copies there read what the other core had written.
"""

from __future__ import annotations

from collections.abc import Mapping

from .graph import Node, Value
from .joined import Seen
from .kernels import ACTIVATIONS, algorithm_for
from .operators import TABLE

CACHED = 1 << 24  # bytes
CALL = 1 << 17  # bytes that are read while a step is called
BUSY = 0.9  # the least part of the time, by numbers of samples, that threads may be at work
WINOGRAD = 4  # times as many weights as 3x3 has

# One variable input, with the samples along its first axis.
_WINDOWS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LRN", "DepthToSpace", "SpaceToDepth")
_NORMS = ("(scale and shift)", "(scale, shift, activation)", "BatchNormalization", "InstanceNormalization")
# What NumPy rounds exactly, or our own kernels compute; its powers and transcendental functions may depend on where in
# an array a number stands.
_ELEMENTWISE = {
    *ACTIVATIONS, "HardSigmoid", "HardSwish", "Mish", "PRelu", "Clip", "Where", "Add", "Sub", "Mul", "Div", "Sum",
    "Min", "Max", "Abs", "Neg", "Floor", "Ceil", "Round", "Sign", "Sqrt", "Reciprocal", "Not", "Equal", "Less",
    "LessOrEqual", "Greater", "GreaterOrEqual", "IsNaN", "And", "Or", "Xor",
}  # fmt: skip


def cut(nodes: list[Node], constants: Mapping[str, Value], seen: dict[str, Seen], n_threads: int) -> int:
    """How many of the steps run for one sample at a time, shared out among threads; 0: none."""
    shape = seen[nodes[0].outputs[0]].shape if nodes else ()
    n = shape[0] if shape else 0
    if n < 2 or n < BUSY * n_threads * -(-n // n_threads):
        return 0
    end, best, total = 0, 0, 0
    for i, node in enumerate(nodes, 1):
        if not splits(node, constants, seen, n):
            break
        activations = sum(seen[name].n_bytes for name in {*node.inputs, *node.outputs} if name in seen)
        total += activations if activations > CACHED else 0
        total -= (n - 1) * (_weight_bytes(node) + CALL)
        if total > best:
            end, best = i, total
    return end


def splits(node: Node, constants: Mapping[str, Value], seen: dict[str, Seen], n: int) -> bool:
    """Whether a node gives the same for each of n samples by itself as for all together."""
    names = [name for name in [*node.inputs, *node.outputs] if name and name not in constants]
    values = [seen[name] for name in names]
    whole = all(v.shape[:1] == (n,) and v.n_bytes and v.contiguous and not v.dynamic and not v.view_of for v in values)
    if not whole or len(node.outputs) != 1 or not TABLE[node.op].out or not node.inputs:
        return False
    x, y, a = values[0], values[-1], node.a
    fixed = [constants[name] for name in node.inputs if name in constants]
    if node.op in _ELEMENTWISE:
        same = all(len(v.shape) == len(y.shape) for v in values)
        return same and all(c.ndim < len(y.shape) or c.shape[0] == 1 for c in fixed)
    if node.op in ("Concat", "Softmax", "LogSoftmax"):
        return a.axis % len(y.shape) > 0 and not fixed
    if node.op == "Conv":  # with a residual or without
        rows = x.shape if len(x.shape) == 4 else (*x.shape[:2], 1, *x.shape[2:])
        return a.fixed_weight is not None and algorithm_for(rows) == algorithm_for((1, *rows[1:]))
    if len(values) != 2 or node.inputs[0] in constants:
        return False
    if node.op == "ConvTranspose":
        return a.fixed_weight is not None
    return node.op in _WINDOWS or (node.op in _NORMS and not getattr(a, "training_mode", 0))


def _weight_bytes(node: Node) -> int:
    weight = getattr(node.a, "fixed_weight", None)
    if weight is None:
        return 0
    winograd = node.op == "Conv" and weight.shape[2:] == (3, 3) and set(node.a.strides or (1,)) == {1}
    return weight.nbytes * (WINOGRAD if winograd and node.a.group == 1 else 1)
