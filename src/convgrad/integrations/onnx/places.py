"""Where each value of a list of nodes lives in one block of memory.

Each value lives from the step that makes it to the last that reads it; values whose lives do not meet share memory.

Greedy placement by size: Pisarchyk, Lee (2020), arXiv 2001.03288, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .graph import Node, Value
from .joined import Seen
from .kernels import adds_in_place
from .operators import TABLE

ALIGNMENT = 64  # bytes


@dataclass(eq=False, slots=True)
class Storage:
    """Memory that one value, or several in turn, live in."""

    n_bytes: int
    first: int  # the step that makes it
    last: int  # the last step that reads it
    overwritten: int = 2**62  # the first step that writes over one of its values
    rewritten: int = -1  # the last one
    fixed: bool = False  # not ours to place: inputs, constants, outputs
    parent: Storage | None = None  # a concatenation's result
    offset: int = 0

    def at(self) -> int:
        """Bytes from the beginning of the block."""
        return self.offset + (self.parent.at() if self.parent else 0)

    def family(self) -> Storage:
        """The storage that is placed."""
        return self.parent.family() if self.parent else self


def lay_out(
    nodes: list[Node], constants: Mapping[str, Value], seen: dict[str, Seen], wanted: set[str],
    before: Collection[str] = (), scratch: int = 0,
) -> tuple[dict[str, Storage], Storage, int]:  # fmt: skip
    """The storage of every value that has a place in the block, that of `scratch` bytes which are needed before the
    first node only, and the size of the block.

    wanted : values that have places elsewhere, as the inputs have
    before : values that are in the block when the first node runs
    """
    last = {name: i for i, node in enumerate(nodes) for name in node.inputs}
    made = {name for node in nodes for name in node.outputs}
    placed = {name: Storage(seen[name].n_bytes, -1, last.get(name, -1)) for name in before}
    homes = {name: Storage(0, -1, 2**62, fixed=True) for name in seen if name not in made}
    homes.update(placed)
    for i, node in enumerate(nodes):
        entry = TABLE[node.op]
        for name in filter(None, node.outputs):
            found = seen[name]
            end = 2**62 if name in wanted else last.get(name, i)
            if found.view_of is not None:
                home = homes.get(found.view_of)
                if home is None:
                    home = Storage(0, i, end, fixed=True)
                home.last = max(home.last, end)
                homes[name] = home
                if found.view_of in placed:
                    placed[name] = home
                continue
            n_bytes = found.n_bytes
            ours = entry.out and not found.dynamic and name not in wanted and len(node.outputs) == 1 and n_bytes
            home = Storage(n_bytes, i, end, fixed=not ours)
            over = _overwritten(node, i, seen, homes, placed) if ours else None
            if over is not None:
                home = over
                home.overwritten, home.rewritten = min(home.overwritten, i), i
                home.last = end
            homes[name] = home
            if ours:
                placed[name] = home
    for i, node in enumerate(nodes):
        if node.op == "Concat" and node.outputs[0] in placed:
            _join(i, node, constants, seen, placed)
    free = Storage(scratch, -1, -1)
    families = {id(home.family()): home.family() for home in placed.values()}
    return placed, free, _place([*families.values(), free])


def _overwritten(
    node: Node, i: int, seen: dict[str, Seen], homes: dict[str, Storage], placed: dict[str, Storage]
) -> Storage | None:
    """The storage of an input that step i may write over: its last reader, of the same size throughout."""
    result = seen[node.outputs[0]]
    names = node.inputs if TABLE[node.op].in_place else []
    if node.op == "Conv" and len(node.inputs) > 1 and adds_in_place(node.a, seen[node.inputs[0]].shape):
        names = node.inputs[1:]
    for name in names:
        home = placed.get(name)
        if home is None or home.fixed or home.last != i:
            continue
        found = seen[name]
        same = found.shape == result.shape and found.dtype == result.dtype and found.view_of is None
        if same and found.contiguous and [homes.get(other) for other in node.inputs].count(home) == 1:
            return home
    return None


def _join(
    i: int, node: Node, constants: Mapping[str, Value], seen: dict[str, Seen], placed: dict[str, Storage]
) -> None:
    """Put the inputs of a concatenation where its result wants them, if each is one run of bytes there."""
    result, home = seen[node.outputs[0]], placed[node.outputs[0]]
    axis = node.a.axis % len(result.shape)
    if math.prod(result.shape[:axis]) != 1 or home.first != i:
        return
    offset = 0
    for name in node.inputs:
        found = seen.get(name)
        child = placed.get(name)
        if found is None:  # a constant: copied in every run
            offset += constants[name].nbytes if name in constants else 2**62
            continue
        n_bytes = found.n_bytes
        fits = child is not None and not child.fixed and child.parent is None and child.n_bytes == n_bytes
        fits = fits and found.contiguous and found.view_of is None and node.inputs.count(name) == 1
        # Neither may write over the other's values while they are read.
        fits = fits and child.last < home.overwritten and child.rewritten < i  # type: ignore[union-attr]
        if fits and child is not home:
            child.parent, child.offset = home, offset  # type: ignore[union-attr]
            home.first = min(home.first, child.first)  # type: ignore[union-attr]
            home.last = max(home.last, child.last)  # type: ignore[union-attr]
        offset += n_bytes


def _place(storages: list[Storage]) -> int:
    """Give each an offset such that those whose lives meet do not; return the size of the block."""
    done: list[Storage] = []
    size = 0
    for storage in sorted((s for s in storages if not s.fixed), key=lambda s: -s.n_bytes):
        n_bytes = -(-storage.n_bytes // ALIGNMENT) * ALIGNMENT
        meets = sorted((o for o in done if o.first <= storage.last and storage.first <= o.last), key=lambda o: o.offset)
        best, at, tightest = None, 0, math.inf
        for other in meets:
            gap = other.offset - at
            if n_bytes <= gap < tightest:
                best, tightest = at, gap
            at = max(at, other.offset + -(-other.n_bytes // ALIGNMENT) * ALIGNMENT)
        storage.offset = at if best is None else best
        done.append(storage)
        size = max(size, storage.offset + n_bytes)
    return size  # a multiple of ALIGNMENT
