"""Nodes of known shapes that a convolution takes in: the addition of a residual and the activation behind it, and the
shuffle of channels before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from .graph import Node
from .kernels import ACTIVATIONS, activation_of, bound


@dataclass(eq=False, slots=True)
class Seen:
    """What the watched run told of a value."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    dynamic: bool
    view_of: str | None = None
    contiguous: bool = True

    @property
    def n_bytes(self) -> int:
        """Bytes that the value takes where it is contiguous."""
        return math.prod(self.shape) * self.dtype.itemsize


def with_residuals(nodes: list[Node], seen: dict[str, Seen], wanted: set[str]) -> list[Node]:
    """Nodes where a convolution adds the other operand of the addition behind it, and does the activation behind that.

    Where both operands are convolutions the later one adds. It runs where it stood, or at the addition if the other
    operand is made in between.
    """
    made = {name: i for i, node in enumerate(nodes) for name in node.outputs}
    readers: dict[str, list[int]] = {}
    for i, node in enumerate(nodes):
        for name in node.inputs:
            readers.setdefault(name, []).append(i)
    result: list[Node | None] = list(nodes)
    for i, node in enumerate(nodes):
        if node.op not in ("Add", "Sum") or len(node.inputs) != 2 or seen[node.outputs[0]].dynamic:
            continue
        if any(name not in seen for name in node.inputs):
            continue  # a constant
        shapes = [(seen[name].shape, seen[name].dtype) for name in node.inputs]
        for at in sorted((made.get(name, -1) for name in node.inputs), reverse=True):
            conv = result[at] if at >= 0 else None
            if conv is None or conv.op != "Conv" or len(conv.inputs) > 1 or conv.a.activation or len(shapes[0][0]) != 4:
                continue
            name = conv.outputs[0]
            free = readers[name] == [i] and name not in wanted and name in node.inputs
            if not free or shapes[0] != shapes[1] or bound(conv.a, seen[conv.inputs[0]].shape, None) is None:
                continue
            other = node.inputs[1 - node.inputs.index(name)]
            if not seen[other].contiguous:
                continue
            output, result[i], activation = node.outputs[0], None, None
            following = readers.get(output, [])
            if len(following) == 1 and output not in wanted and nodes[following[0]].op in ACTIVATIONS:
                activation = activation_of(nodes[following[0]].a)
                output, result[following[0]] = nodes[following[0]].outputs[0], None
            a = SimpleNamespace(**{**vars(conv.a), "activation": activation})
            place = at if made.get(other, -1) < at else i
            result[at] = None
            result[place] = Node("Conv", conv.name, [conv.inputs[0], other], [output], a)
            made[output] = place
            break
    return [node for node in result if node is not None]


def with_shuffles(nodes: Sequence[Node], seen: dict[str, Seen], wanted: set[str]) -> list[Node]:
    """Nodes where a depthwise convolution takes its channels from each group in turn, in place of a Reshape into
    (groups, channels), a Transpose of the two and a Reshape back.

    Source: Zhang, Zhou, Lin, Sun (2018), ShuffleNet, arXiv 1707.01083, section 3.1.
    """
    maker = {name: node for node in nodes for name in node.outputs}
    n_readers: dict[str, int] = {}
    for name in (name for node in nodes for name in node.inputs):
        n_readers[name] = n_readers.get(name, 0) + 1
    gone: set[int] = set()
    result = []
    for node in nodes:
        chain, name = [], node.inputs[0] if node.op == "Conv" else ""
        for op in ("Reshape", "Transpose", "Reshape"):
            before = maker.get(name)
            if before is None or before.op != op or n_readers[name] > 1 or name in wanted or seen[name].dynamic:
                break
            chain.append(before)
            name = before.inputs[0]
        groups = (
            _shuffled_groups(
                [seen[name].shape, *(seen[link.outputs[0]].shape for link in reversed(chain))], chain[1].a.perm
            )
            if len(chain) == 3 and name in seen
            else 0
        )
        if groups and seen[name].contiguous and node.a.fixed_weight is not None:
            a = SimpleNamespace(**{**vars(node.a), "shuffle": groups})
            if bound(a, seen[name].shape, a.activation) is not None:
                gone.update(map(id, chain))
                node = Node("Conv", node.name, [name, *node.inputs[1:]], node.outputs, a)
        result.append(node)
    return [node for node in result if id(node) not in gone]


def _shuffled_groups(shapes: Sequence[tuple[int, ...]], perm: Any) -> int:
    """Groups of a shuffle of channels through these shapes; 0 where it is none."""
    x, split, _, back = shapes
    if len(x) != 4 or len(split) != 5 or x != back or tuple(perm or ()) != (0, 2, 1, 3, 4) or not math.prod(x):
        return 0
    return split[1] if split == (x[0], split[1], x[1] // split[1], *x[2:]) else 0
