"""A graph for inputs of certain shapes: steps in order, each with its place in one block of memory.

The first run with given shapes is watched: every value's shape, and which steps always make the same ones. From that
the block is planned. Each value lives from the step that makes it to the last that reads it; values whose lives do not
meet share memory. An elementwise step writes over its input where that dies; the inputs of a concatenation along the
outermost axis are written where its result wants them; views (Reshape, Slice, ...) of such memory are made once. A
later run with the same shapes takes fresh memory only for the model's outputs, and for steps whose results depend in
shape on the numbers that they are given.

Greedy placement by size: Pisarchyk, Lee (2020), arXiv 2001.03288, section 5.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..._native.memory import cache_info, empty, empty_cache
from .fusion import call
from .graph import Graph, Node, Value, check_size
from .joined import Seen, with_residuals, with_shuffles
from .kernels import adds_in_place
from .operators import TABLE
from .settled import Run, copies_of, copy_all, kernel_of

ALIGNMENT = 64  # bytes
_KEPT = 1 << 22  # bytes of freed memory that the watched run, whose results no plan puts together yet, keeps for reuse
_DYNAMIC: tuple[int, ...] | None = None


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


@dataclass(eq=False, slots=True)
class Step:
    """One node with the numbers of its values in the table of a run."""

    node: Node
    inputs: list[int]  # -1: left out
    outputs: list[int]
    out: Value | None = None  # where the first result goes
    fresh: tuple[tuple[int, ...], np.dtype[Any]] | None = None  # or: what to allocate for it, an output of the model
    views: bool = False  # made once, nothing to run
    bound: Run | None = None  # run(x, out, *others) without checks
    arguments: tuple[Any, ...] | None = None  # of `bound`, where they are the same in every run


@dataclass(eq=False)
class Program:
    """See the module. `steps` and `block` are None until the first run."""

    graph: Graph
    steps: list[Step] = field(default_factory=list)
    block: Value | None = None
    ready: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    times: dict[str, float] = field(default_factory=dict)

    @property
    def static(self) -> bool:
        """Whether no node's shapes depend on the numbers in the inputs of the model."""
        known = set(self.graph.constants)
        for node in self.graph.nodes:
            if node.op in ("Shape", "Size") or all(name in known for name in node.inputs if name):
                known.update(node.outputs)
            if any(name and name not in known for name in _shaping(node)):
                return False
        return True

    def run(self, inputs: dict[str, Value], profile: bool = False) -> list[Value]:
        """The model's outputs; with `profile`, seconds by node are added up in `times`."""
        with self.lock:
            return self._settled(inputs, profile) if self.ready else self._watched(inputs)

    # ------------------------------------------------------------ the first run

    def _watched(self, inputs: dict[str, Value]) -> list[Value]:
        graph = self.graph
        values = dict(graph.constants)
        constant = set(values)
        seen = {name: Seen(x.shape, x.dtype, False) for name, x in inputs.items()}
        values.update(inputs)
        last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
        wanted = {port.name for port in graph.outputs}
        kept: list[Node] = []
        for i, node in enumerate(graph.nodes):
            given = [values[name] if name else None for name in node.inputs]
            results = call(node, given)
            known = [name for name in node.inputs if name]
            from_shape = node.op in ("Shape", "Size") and (node.inputs[0] in constant or not seen[known[0]].dynamic)
            folded = from_shape or all(name in constant for name in known)
            dynamic = any(name and name not in constant for name in _shaping(node)) or any(
                seen[name].dynamic for name in known if name not in constant
            )
            for name, result in zip(node.outputs, results, strict=False):
                if not name:
                    continue
                check_size(f"{node}, result {name!r}", result.shape, result.dtype)
                values[name] = result
                if folded:
                    constant.add(name)
                    continue
                seen[name] = Seen(result.shape, result.dtype, dynamic)
                if given and given[0] is not None and result.size and np.may_share_memory(result, given[0]):
                    seen[name].view_of = node.inputs[0]
                seen[name].contiguous = result.flags.c_contiguous
            if not folded:
                kept.append(node)
            for name in node.inputs:
                if name and last[name] == i and name not in wanted and name not in constant:
                    values.pop(name, None)
            del given, results
            if cache_info()["kept"] > _KEPT:
                empty_cache()
        kept_arrays = [*inputs.values(), *(values[name] for name in constant)]
        outputs = [_own(values[port.name], kept_arrays) for port in graph.outputs]
        self._plan(kept, {name: values[name] for name in constant}, seen)
        return outputs

    # ------------------------------------------------------------ planning

    def _plan(self, nodes: list[Node], constants: dict[str, Value], seen: dict[str, Seen]) -> None:
        wanted = {port.name for port in self.graph.outputs}
        nodes = with_shuffles(with_residuals(nodes, seen, wanted), seen, wanted)
        last: dict[str, int] = {}
        for i, node in enumerate(nodes):
            last.update((name, i) for name in node.inputs)
        made = {name for node in nodes for name in node.outputs}
        homes: dict[str, Storage] = {name: Storage(0, -1, 2**62, fixed=True) for name in seen if name not in made}
        placed = self._homes(nodes, seen, homes, last, wanted)
        size = _place(list({id(home.family()): home.family() for home in placed.values()}.values()))
        empty_cache()  # what the first run took need not stay beside the block
        self.block = np.empty(size + ALIGNMENT, np.uint8)
        start = -self.block.ctypes.data % ALIGNMENT

        def view(name: str) -> Value:
            found, at = seen[name], start + placed[name].at()
            n_bytes = math.prod(found.shape) * found.dtype.itemsize
            return self.block[at : at + n_bytes].view(found.dtype).reshape(found.shape)  # type: ignore[index]

        numbers = {name: i for i, name in enumerate([*constants, *seen])}
        table: list[Value | None] = [None] * len(numbers)
        for name, value in constants.items():
            table[numbers[name]] = value
        for node in nodes:
            step = Step(node, [numbers[name] if name else -1 for name in node.inputs],
                        [numbers[name] if name else -1 for name in node.outputs])  # fmt: skip
            name = node.outputs[0]
            found = seen[name]
            if name in placed and found.view_of is None:
                step.out = table[numbers[name]] = view(name)
            elif found.view_of is not None and table[step.inputs[0]] is not None and not found.dynamic:
                results = call(node, [None if i < 0 else table[i] for i in step.inputs])
                if all(np.may_share_memory(result, self.block) or not result.size for result in results):
                    for i, result in zip(step.outputs, results, strict=False):
                        table[i] = result
                    step.views = True
            elif name in wanted and not found.dynamic and TABLE[node.op].out:
                step.fresh = (found.shape, found.dtype)
            if not step.views and self._settle(step, table, seen):
                self.steps.append(step)
        self._table = table
        self._inputs = [(port.name, numbers[port.name]) for port in self.graph.inputs]
        self._outputs = [numbers[port.name] for port in self.graph.outputs]
        self._fresh = {step.outputs[0] for step in self.steps if step.fresh is not None}
        self.ready = True

    @staticmethod
    def _settle(step: Step, table: list[Value | None], seen: dict[str, Seen]) -> bool:
        """Bind a step to its kernel, and to its arrays where they are the same in every run; whether anything is left
        of it."""
        if (step.out is None and step.fresh is None) or not step.inputs or step.inputs[0] < 0:
            return True
        node, given = step.node, [None if i < 0 else table[i] for i in step.inputs]
        x = given[0]
        settled = step.out is not None and all(i < 0 or table[i] is not None for i in step.inputs)
        copies = copies_of(node, given, step.out) if settled else None
        if copies is not None:
            step.bound, step.arguments = copy_all, tuple(copies)
            return bool(copies)
        found = seen[node.inputs[0]] if x is None else Seen(x.shape, x.dtype, False)
        run = None if found.dynamic else kernel_of(node, np.broadcast_to(np.empty((), found.dtype), found.shape))
        if run is not None and settled and x.flags.c_contiguous:  # type: ignore[union-attr]
            step.bound, step.arguments = run, (x, step.out, *given[1:])
        elif run is not None:
            step.bound = lambda x, out, *others: run(np.ascontiguousarray(x), out, *others)
        return True

    def _homes(
        self, nodes: list[Node], seen: dict[str, Seen], homes: dict[str, Storage], last: dict[str, int],
        wanted: set[str],
    ) -> dict[str, Storage]:  # fmt: skip
        """Storage for every value that has a place in the block."""
        placed: dict[str, Storage] = {}
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
                n_bytes = math.prod(found.shape) * found.dtype.itemsize
                ours = entry.out and not found.dynamic and name not in wanted and len(node.outputs) == 1 and n_bytes
                home = Storage(n_bytes, i, end, fixed=not ours)
                over = self._overwritten(node, i, seen, homes, placed) if ours else None
                if over is not None:
                    home = over
                    home.overwritten, home.rewritten = min(home.overwritten, i), i
                    home.last = end
                homes[name] = home
                if ours:
                    placed[name] = home
        for i, node in enumerate(nodes):
            if node.op == "Concat" and node.outputs[0] in placed:
                self._join(i, node, seen, placed)
        return placed

    def _overwritten(
        self, node: Node, i: int, seen: dict[str, Seen], homes: dict[str, Storage], placed: dict[str, Storage]
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

    def _join(self, i: int, node: Node, seen: dict[str, Seen], placed: dict[str, Storage]) -> None:
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
                offset += self.graph.constants[name].nbytes if name in self.graph.constants else 2**62
                continue
            n_bytes = math.prod(found.shape) * found.dtype.itemsize
            fits = child is not None and not child.fixed and child.parent is None and child.n_bytes == n_bytes
            fits = fits and found.contiguous and found.view_of is None and node.inputs.count(name) == 1
            # Neither may write over the other's values while they are read.
            fits = fits and child.last < home.overwritten and child.rewritten < i  # type: ignore[union-attr]
            if fits and child is not home:
                child.parent, child.offset = home, offset  # type: ignore[union-attr]
                home.first = min(home.first, child.first)  # type: ignore[union-attr]
                home.last = max(home.last, child.last)  # type: ignore[union-attr]
            offset += n_bytes

    # ------------------------------------------------------------ later runs

    def _settled(self, inputs: dict[str, Value], profile: bool) -> list[Value]:
        table = self._table.copy()
        for name, i in self._inputs:
            table[i] = inputs[name]
        with np.errstate(all="ignore"):
            for step in self.steps:
                start = time.perf_counter() if profile else 0.0
                if step.arguments is not None:
                    step.bound(*step.arguments)  # type: ignore[misc]
                else:
                    self._run_step(step, table)
                if profile:
                    name = step.node.name
                    self.times[name] = self.times.get(name, 0.0) + time.perf_counter() - start
        return [table[i] if i in self._fresh else table[i].copy() for i in self._outputs]  # type: ignore[union-attr]

    @staticmethod
    def _run_step(step: Step, table: list[Value | None]) -> None:
        """A step of arrays that differ from run to run."""
        out = step.out if step.fresh is None else empty(*step.fresh)
        given = [None if i < 0 else table[i] for i in step.inputs]
        if step.bound is not None:
            step.bound(given[0], out, *given[1:])
            table[step.outputs[0]] = out
            return
        for i, result in zip(step.outputs, call(step.node, given, out), strict=False):
            if i >= 0:
                table[i] = result


def _own(value: Value, others: list[Value]) -> Value:
    """A value that the caller may keep and write to."""
    mine = value.flags.owndata and value.flags.writeable and not any(value is other for other in others)
    return value if mine else value.copy()


def _shaping(node: Node) -> list[str]:
    """The inputs of a node whose numbers decide the shapes of its results."""
    positions = TABLE[node.op].shaping
    return [name for i, name in enumerate(node.inputs) if i in positions]


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
    return size
