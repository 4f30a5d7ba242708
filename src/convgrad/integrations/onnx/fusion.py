"""The graph made smaller before anything runs: constants folded, norms and scales folded into weights, activations
fused into the pass that makes their input.

    conv(x, w) * s + t        = conv(x, w * s) + t         s, t: one number for each output channel
    batch_norm(x)             = x * s + t,                 s = scale / sqrt(variance + epsilon), t = B - mean * s

Source: Jacob et al. (2018), arXiv 1712.05877, section 3.2, for the folding of batch normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import functional as F
from ..._native.memory import empty
from ...functional.prepack import PackedConv2d
from .graph import Graph, ModelError, Node, UnsupportedModelError, Value
from .kernels import ACTIVATIONS, activation_of
from .operators import TABLE, Operator, node_problem

FAILURES = (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError, MemoryError, AttributeError)
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_SAME_NDIM = (
    *ACTIVATIONS,
    "(scale and shift)",
    "(scale, shift, activation)",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Concat",
    "Clip",
    "LRN",
)


def _affine(a, x, out=None):
    pixels = x if x.ndim in (2, 4) else x.reshape(*x.shape[:2], -1)
    target = None if out is None else out.reshape(pixels.shape)
    zero, one = np.zeros_like(a.fixed_bias), np.ones_like(a.fixed_bias)
    return F.batch_norm(pixels, a.fixed_weight, a.fixed_bias, zero, one, eps=0.0, out=target)[0].reshape(x.shape)


def _affine_activation(a, x, out=None):
    """One pass where there are planes, a convolution of each channel with one number."""
    run = bound_affine(a, x)
    if run is None:
        y = _affine(a, x, out)
        name, *parameter = (a.activation,) if isinstance(a.activation, str) else a.activation
        return getattr(F, name)(y, *parameter, out=y)
    out = empty(x.shape, x.dtype) if out is None else out
    run(np.ascontiguousarray(x), out)
    return out


def bound_affine(a, x):
    """run(x, out) of a scale, a shift and an activation in one pass; None where there are no planes."""
    if x.ndim != 4:
        return None
    run = a.packs.get(x.shape)
    if run is None:
        options = (1, 0, 1, x.shape[1], "NCHW", "auto")
        conv = PackedConv2d(a.fixed_weight.reshape(-1, 1, 1, 1), a.fixed_bias, (1, *x.shape[1:]), options, a.activation)
        if len(a.packs) >= 4:
            a.packs.clear()
        run = a.packs[x.shape] = conv._bound(len(x), a.activation) or conv
    return run


# What BatchNormalization with constant parameters becomes: scale and shift by channel.
TABLE["(scale and shift)"] = Operator(_affine, out=True, in_place=True, floats=True)
TABLE["(scale, shift, activation)"] = Operator(_affine_activation, out=True, floats=True)


def call(node: Node, inputs: Sequence[Value | None], out: Value | None = None) -> tuple[Value, ...]:
    """The results of a node; ModelError that names it where it fails."""
    options = {} if out is None else {"out": out}
    try:
        with np.errstate(all="ignore"):
            result = TABLE[node.op].run(node.a, *inputs, **options)
    except FAILURES as error:
        shapes = ", ".join("none" if x is None else f"{x.dtype}{list(x.shape)}" for x in inputs)
        kind = MemoryError if isinstance(error, MemoryError) else ModelError
        raise kind(f"{node}: {error}; inputs: {shapes}") from error
    return result if isinstance(result, tuple) else (np.asarray(result),)


def check_operators(graph: Graph) -> None:
    """UnsupportedModelError with everything in the graph that the table of operators lacks."""
    dtypes: dict[str, Any] = {name: value.dtype for name, value in graph.constants.items()}
    dtypes.update((port.name, port.dtype) for port in graph.inputs)
    ndims = {name: value.ndim for name, value in graph.constants.items()}
    ndims.update((port.name, len(port.shape)) for port in graph.inputs if port.shape is not None)
    problems = []
    for node in graph.nodes:
        found = [dtypes.get(name) for name in node.inputs] or [None]
        node.a.ndims = [ndims.get(name) for name in node.inputs[:2]]
        training = node.inputs[2] if node.op == "Dropout" and len(node.inputs) > 2 else ""
        node.a.training = bool(training) and np.any(graph.constants.get(training, True))
        problem = node_problem(node, found)
        if problem:
            problems.append(f"{node}: {problem} is not supported")
            continue
        rule = TABLE[node.op].dtype
        dtypes[node.outputs[0]] = rule(node.a, found) if rule else found[0]
        for name in node.outputs[1:]:
            dtypes[name] = found[0] if node.op in ("Split", "BatchNormalization") else None
    if problems:
        raise UnsupportedModelError(problems)


def simplify(graph: Graph) -> None:
    """Fold and fuse in place."""
    kept = {port.name for port in graph.outputs}
    once = all(port.is_fixed for port in graph.inputs)  # weights will be packed for one shape: no need to keep them
    _drop_copies(graph, kept)
    fold_constants(graph)
    if not once:
        graph.read(list(graph.unread))
    for node in graph.nodes:
        _bind(node, graph, once)
    _drop_constants(graph, kept)  # nodes have theirs: folding need not keep what it replaces
    graph.read(list(graph.constants))
    graph.unread.clear()
    _fuse(graph, kept)
    _drop_constants(graph, kept)


def _drop_constants(graph: Graph, kept: set[str]) -> None:
    """Let go of constants that no node reads and the model does not return."""
    used = kept | {name for node in graph.nodes for name in node.inputs}
    graph.constants = {name: value for name, value in graph.constants.items() if name in used}


def _drop_copies(graph: Graph, kept: set[str]) -> None:
    """Give the readers of an Identity, or of a Dropout (which does nothing here), its input."""
    same: dict[str, str] = {}
    remaining = []
    used = kept | {name for node in graph.nodes for name in node.inputs}
    for node in graph.nodes:
        node.inputs = [same.get(name, name) for name in node.inputs]
        training = len(node.inputs) > 2 and node.inputs[2]
        mask = len(node.outputs) > 1 and node.outputs[1] in used
        copies = node.op == "Identity" or (node.op == "Dropout" and not mask and not training)
        if copies and node.outputs[0] not in kept:
            same[node.outputs[0]] = node.inputs[0]
        else:
            remaining.append(node)
    graph.nodes = remaining


def fold_constants(graph: Graph) -> None:
    """Run the nodes whose inputs are all constant."""
    remaining = []
    for node in graph.nodes:
        if all(name in graph.constants or not name for name in node.inputs):
            graph.read(node.inputs)
            results = call(node, [graph.constants.get(name) for name in node.inputs])
            graph.constants.update((name, value) for name, value in zip(node.outputs, results, strict=False) if name)
        else:
            remaining.append(node)
    graph.nodes = remaining


def _bind(node: Node, graph: Graph, once: bool) -> None:
    """Move constant weights and biases of a node into its attributes, in the form that its kernel takes."""
    a, constants = node.a, graph.constants
    a.fixed_weight, a.fixed_bias, a.activation, a.packs, a.once, a.unread = None, None, None, {}, once, None
    others = node.inputs[1:]
    if not others or others[0] not in constants or any(name and name not in constants for name in others):
        return
    if constants[others[0]].dtype not in (np.float32, np.float64) or node.op not in (*_WEIGHTED, "BatchNormalization"):
        return
    given: list[Any] = [constants.get(name) for name in others]
    rest: list[Any]
    weight, bias, *rest = [*given, None]
    if node.op not in ("Gemm", "MatMul"):
        graph.read(others)
    if node.op == "BatchNormalization":
        if not getattr(a, "training_mode", 0) and a.outputs == 1 and getattr(a, "spatial", 1):
            if weight.ndim != 1 or any(value is None or value.shape != weight.shape for value in (bias, *rest[:2])):
                shapes = [None if value is None else value.shape for value in given]
                raise ModelError(f"{node}: scale, B, mean and variance must have one shape (C,), got {shapes}")
            mean, variance = (value.astype(np.float64) for value in rest[:2])
            scale = weight / np.sqrt(variance + a.epsilon)
            a.fixed_weight, a.fixed_bias = scale.astype(weight.dtype), (bias - mean * scale).astype(weight.dtype)
            node.op, node.inputs = "(scale and shift)", node.inputs[:1]
        return
    if node.op in ("Gemm", "MatMul"):
        if weight.ndim != 2 or 0 in weight.shape:
            return
        factor = getattr(a, "alpha", 1.0)
        if factor != 1:
            graph.read(others[:1])
        weight = weight if getattr(a, "transB", 0) else weight.T
        if bias is not None:
            if bias.ndim > 2 or bias.size not in (1, len(weight)) or bias.shape[-1:] not in ((), (1,), (len(weight),)):
                return  # one for each row
            graph.read(others[1:])
            bias = np.repeat(bias.reshape(-1) * bias.dtype.type(a.beta), len(weight) // bias.size)
        a.unread = graph.unread.get(others[0])
        weight = (weight if factor == 1 else weight * weight.dtype.type(factor))[:, :, None, None]
    elif weight.ndim not in (3, 4):
        return  # refused when it runs
    a.ndim = 4 if weight.ndim == 4 else 3
    a.fixed_weight, a.fixed_bias = weight if weight.ndim == 4 else weight[:, :, None], bias
    node.inputs = node.inputs[:1]


# ---------------------------------------------------------------- scales, shifts, activations


def _fuse(graph: Graph, kept: set[str]) -> None:
    readers = graph.consumers()
    gone: set[int] = set()
    ndims = _ndims(graph)

    def only_reader(name: str) -> Node | None:
        found = readers.get(name, ())
        return found[0] if len(found) == 1 and name not in kept else None

    def absorb(node: Node, *others: Node) -> None:
        node.outputs[0] = others[-1].outputs[0]
        gone.update(map(id, others))

    for node in graph.nodes:
        if id(node) in gone:
            continue
        if node.op == "Pad":
            _fuse_padding(node, only_reader(node.outputs[0]), graph.constants, gone)
        if node.a.fixed_weight is None:
            continue
        while (reader := only_reader(node.outputs[0])) is not None:
            if reader.op == "(scale and shift)":
                factors: Any = (reader.a.fixed_weight, reader.a.fixed_bias)
            else:
                factors = _factors(node, ndims.get(id(node)), reader, graph.constants)
            if factors is None or not _fold(node, *factors):
                break
            absorb(node, reader)
        if node.op == "(scale and shift)":
            if reader is not None and (activation := _activation(reader, graph.constants)) is not None:
                node.op, node.a.activation = "(scale, shift, activation)", activation
                absorb(node, reader)
            continue
        if node.op not in _WEIGHTED:
            continue
        if reader is not None and (activation := _activation(reader, graph.constants)) is not None:
            node.a.activation = activation
            absorb(node, reader)
        elif (pair := _silu(node, readers, kept, only_reader)) is not None:
            node.a.activation = "silu"
            absorb(node, *pair)
    graph.nodes = [node for node in graph.nodes if id(node) not in gone]


def _ndims(graph: Graph) -> dict[int, int]:
    """The number of axes of the result of each node, by its id, where that is plain to see."""
    known = {name: value.ndim for name, value in graph.constants.items()}
    known.update((port.name, len(port.shape)) for port in graph.inputs if port.shape is not None)
    found = {}
    for node in graph.nodes:
        ndim = node.a.ndim if node.a.fixed_weight is not None and node.op.startswith("Conv") else None
        if node.op in _SAME_NDIM:
            ndim = known.get(node.inputs[0])
        elif node.op in ("Add", "Sub", "Mul", "Div", "Sum") and all(name in known for name in node.inputs):
            ndim = max(known[name] for name in node.inputs)
        if ndim is not None:
            known[node.outputs[0]] = found[id(node)] = ndim
    return found


def _channels(node: Node) -> int:
    if node.op == "ConvTranspose":
        return node.a.fixed_weight.shape[1] * node.a.group
    return len(node.a.fixed_weight)


def _factors(node: Node, ndim: int | None, reader: Node, constants: dict[str, Value]) -> tuple[Any, Any] | None:
    """(s, t) where `reader` computes y * s + t from the result y of `node`, which has `ndim` axes (None: not known)."""
    if reader.op not in ("Add", "Sub", "Mul", "Div"):
        return None
    position = reader.inputs.index(node.outputs[0])
    value = constants.get(reader.inputs[1 - position])
    if value is None or value.dtype != node.a.fixed_weight.dtype:
        return None
    channels = _channels(node)
    if value.ndim or value.size != 1:
        if node.op in ("Gemm", "MatMul"):
            wanted: tuple[int, ...] = (channels,)
        elif ndim is None:
            return None
        else:
            wanted = (channels, *(1,) * (ndim - 2))
        if value.ndim > max(len(wanted), ndim or 0) or value.shape[-len(wanted) :] != wanted or value.size != channels:
            return None
    value = np.broadcast_to(value.reshape(-1), channels)
    if reader.op == "Mul":
        return value, None
    if reader.op == "Add":
        return None, value
    if reader.op == "Sub":
        return (None, -value) if position == 0 else (-np.ones_like(value), value)
    return (1 / value, None) if position == 0 and np.all(value != 0) else None


def _fold(node: Node, scale: Value | None, shift: Value | None) -> bool:
    """Make `node` compute y * scale + shift; False where its weights do not fit."""
    a, channels = node.a, _channels(node)
    if scale is not None and a.unread is not None:
        a.unread = a.unread.read()
    if any(part is not None and part.shape != (channels,) for part in (scale, shift)):
        return False
    if scale is not None:
        if node.op == "(scale and shift)":
            a.fixed_weight = a.fixed_weight * scale
        elif node.op == "ConvTranspose":
            c, k, *kernel = a.fixed_weight.shape
            grouped = a.fixed_weight.reshape(a.group, c // a.group, k, *kernel) * scale.reshape(a.group, 1, k, 1, 1)
            a.fixed_weight = grouped.reshape(a.fixed_weight.shape)
        else:
            a.fixed_weight = a.fixed_weight * scale.reshape(-1, 1, 1, 1)
        a.fixed_bias = None if a.fixed_bias is None else a.fixed_bias * scale
    if shift is not None:
        a.fixed_bias = shift if a.fixed_bias is None else a.fixed_bias + shift
    return True


def _activation(reader: Node, constants: dict[str, Value]) -> Any:
    """The activation that `reader` is, as the kernels take it, or None."""
    if reader.op in ACTIVATIONS:
        return activation_of(reader.a)
    if reader.op == "PRelu" and (slope := constants.get(reader.inputs[1])) is not None and slope.size == 1:
        return ("leaky_relu", float(slope.reshape(-1)[0])) if slope.ndim <= 1 else None
    if reader.op == "Clip":
        low, high = (getattr(reader.a, name, None) for name in ("min", "max"))
        given = [constants.get(name) for name in reader.inputs[1:] if name]
        if reader.a.version < 11:
            return "relu" if low == 0 and high is not None and high > 3e38 else None
        return "relu" if len(given) == 1 and len(reader.inputs) == 2 and given[0] is not None and not given[0] else None
    return None


def _silu(node: Node, readers: dict[str, list[Node]], kept: set[str], only_reader: Any) -> tuple[Node, Node] | None:
    """The Sigmoid and the Mul of x * sigmoid(x), where nothing else reads x."""
    name = node.outputs[0]
    found = readers.get(name, [])
    if len(found) != 2 or name in kept:
        return None
    gate, product = found if found[0].op == "Sigmoid" else reversed(found)
    if gate.op != "Sigmoid" or product.op != "Mul" or only_reader(gate.outputs[0]) is not product:
        return None
    return (gate, product) if set(product.inputs) == {name, gate.outputs[0]} else None


def _fuse_padding(node: Node, reader: Node | None, constants: dict[str, Value], gone: set[int]) -> None:
    """Let a convolution do the zero padding of the Pad before it."""
    if reader is None or reader.op != "Conv" or reader.a.fixed_weight is None or node.a.mode != "constant":
        return
    given: list[Any] = [constants.get(name) if name else None for name in node.inputs[1:]]
    if any(value is None for name, value in zip(node.inputs[1:], given, strict=True) if name) or len(given) > 2:
        return
    pads = np.ravel(given[0]) if given else np.ravel(node.a.pads)
    value = (given[1] if len(given) > 1 else None) if given else np.float32(node.a.value)
    ndim = reader.a.ndim
    known = reader.a.auto_pad in ("NOTSET", "", None)
    if len(pads) != 2 * ndim or min(pads) < 0 or not known or (value is not None and np.any(value)):
        return
    pads = pads.reshape(2, ndim)
    if np.any(pads[:, :2]):
        return
    reader.a.pads = tuple(int(p) + int(q) for p, q in zip(reader.a.pads or [0] * (2 * ndim - 4), pads[:, 2:].ravel(),
                                                          strict=True))  # fmt: skip
    reader.inputs[0] = node.inputs[0]
    gone.add(id(node))
