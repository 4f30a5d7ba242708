"""A graph for inputs of certain shapes: steps in order, each with its place in one block of memory.

The first run with given shapes is watched: every value's shape, and which steps always make the same ones. From that
the block is planned (see `places`): an elementwise step writes over its input where that dies; the inputs of a
concatenation along the outermost axis are written where its result wants them; views (Reshape, Slice, ...) of such
memory are made once. A later run with the same shapes takes fresh memory only for the model's outputs, and for steps
whose results depend in shape on the numbers that they are given.

The first steps may run for one sample at a time (see `slices`). Each thread has a plan of its own for them, whose
memory is free for others once all samples are through; what other steps read of theirs is whole and written sample by
sample.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..._native.memory import cache_info, empty, empty_cache
from ...threads import get_num_threads, threads
from .fusion import call
from .graph import Graph, Node, Value, check_size
from .joined import Seen, with_residuals, with_shuffles
from .operators import TABLE
from .places import ALIGNMENT, lay_out
from .settled import Run, copies_of, copy_all, kernel_of
from .slices import cut

_KEPT = 1 << 22  # bytes of freed memory that the watched run, whose results no plan puts together yet, keeps for reuse


@dataclass(eq=False, slots=True)
class Step:
    """One node with the numbers of its values in the table of a run."""

    node: Node
    inputs: list[int]  # -1: left out
    outputs: list[int]
    out: Value | None = None  # where the first result goes
    fresh: bool = False  # or: it goes where the table of the run says
    views: bool = False  # made once, nothing to run
    bound: Run | None = None  # run(x, out, *others) without checks
    arguments: tuple[Any, ...] | None = None  # of `bound`, where they are the same in every run


class Plan:
    """Steps and their places in `n_bytes` bytes, which `attach` gives them.

    The numbers of values in a table are those of their names in [*constants, *seen].
    """

    def __init__(
        self, nodes: list[Node], constants: dict[str, Value], seen: dict[str, Seen], wanted: set[str],
        before: Sequence[str] = (), scratch: int = 0,
    ) -> None:  # fmt: skip
        """wanted, before, scratch : as for `lay_out`"""
        self.steps: list[Step] = []
        self._nodes, self._constants, self._seen, self._wanted, self._before = nodes, constants, seen, wanted, before
        self._placed, self._scratch, self.n_bytes = lay_out(nodes, constants, seen, wanted, before, scratch)

    def attach(self, block: Value) -> Value:
        """Make steps that work in `block`, n_bytes bytes at a multiple of ALIGNMENT; return the bytes of `scratch`."""
        seen, placed = self._seen, self._placed

        def view(name: str) -> Value:
            found, at = seen[name], placed[name].at()
            return block[at : at + found.n_bytes].view(found.dtype).reshape(found.shape)

        numbers = {name: i for i, name in enumerate([*self._constants, *seen])}
        self.table: list[Value | None] = [None] * len(numbers)  # as a run begins
        table = self.table
        for name, value in self._constants.items():
            table[numbers[name]] = value
        for name in self._before:
            table[numbers[name]] = view(name)
        for node in self._nodes:
            step = Step(node, [numbers[name] if name else -1 for name in node.inputs],
                        [numbers[name] if name else -1 for name in node.outputs])  # fmt: skip
            name = node.outputs[0]
            found = seen[name]
            if name in placed and found.view_of is None:
                step.out = table[numbers[name]] = view(name)
            elif found.view_of is not None and table[step.inputs[0]] is not None and not found.dynamic:
                results = call(node, [None if i < 0 else table[i] for i in step.inputs])
                if all(np.may_share_memory(result, block) or not result.size for result in results):
                    for i, result in zip(step.outputs, results, strict=False):
                        table[i] = result
                    step.views = True
            elif name in self._wanted and not found.dynamic and TABLE[node.op].out:
                step.fresh = True
            if not step.views and self._settle(step):
                self.steps.append(step)
        return block[self._scratch.offset : self._scratch.offset + self._scratch.n_bytes]

    def _settle(self, step: Step) -> bool:
        """Bind a step to its kernel, and to its arrays where they are the same in every run; whether anything is left
        of it."""
        if (step.out is None and not step.fresh) or not step.inputs or step.inputs[0] < 0:
            return True
        node, given = step.node, [None if i < 0 else self.table[i] for i in step.inputs]
        x = given[0]
        settled = step.out is not None and all(i < 0 or self.table[i] is not None for i in step.inputs)
        copies = copies_of(node, given, step.out) if settled else None
        if copies is not None:
            step.bound, step.arguments = copy_all, tuple(copies)
            return bool(copies)
        found = self._seen[node.inputs[0]] if x is None else Seen(x.shape, x.dtype, False)
        run = None if found.dynamic else kernel_of(node, np.broadcast_to(np.empty((), found.dtype), found.shape))
        if run is not None and settled and x.flags.c_contiguous:  # type: ignore[union-attr]
            step.bound, step.arguments = run, (x, step.out, *given[1:])
        elif run is not None:
            step.bound = lambda x, out, *others: run(np.ascontiguousarray(x), out, *others)
        return True

    def run(self, table: list[Value | None], times: dict[str, float] | None) -> None:
        """Run the steps; add seconds by node to `times`."""
        with np.errstate(all="ignore"):
            for step in self.steps:
                start = 0.0 if times is None else time.perf_counter()
                if step.arguments is not None:
                    step.bound(*step.arguments)  # type: ignore[misc]
                else:
                    _run_step(step, table)
                if times is not None:
                    name = step.node.name
                    times[name] = times.get(name, 0.0) + time.perf_counter() - start


def _run_step(step: Step, table: list[Value | None]) -> None:
    """A step of arrays that differ from run to run."""
    out = table[step.outputs[0]] if step.fresh else step.out
    given = [None if i < 0 else table[i] for i in step.inputs]
    if step.bound is not None:
        step.bound(given[0], out, *given[1:])
        table[step.outputs[0]] = out
        return
    for i, result in zip(step.outputs, call(step.node, given, out), strict=False):
        if i >= 0:
            table[i] = result


@dataclass(eq=False)
class Program:
    """See the module. `block` is None, and there are no steps, until the first run."""

    graph: Graph
    rest: Plan | None = None  # the steps that run for the whole batch
    block: Value | None = None
    ready: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    times: dict[str, float] = field(default_factory=dict)
    _workers: list[Plan] = field(default_factory=list)  # the steps before, for one sample; one for each thread
    _parts: list[slice] = field(default_factory=list)  # of the batch
    _split: list[int] = field(default_factory=list)  # the values of which workers read or write a part

    @property
    def steps(self) -> list[Step]:
        """All steps, in order."""
        return [step for plan in (*self._workers[:1], self.rest) if plan for step in plan.steps]

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
        numbers = {name: i for i, name in enumerate([*constants, *seen])}
        end = cut(nodes, constants, seen, get_num_threads())
        first, others = nodes[:end], nodes[end:]
        made = {name for node in first for name in node.outputs}
        crossing = sorted(made & wanted.union(*(node.inputs for node in others)))
        if first:
            read = {name for node in first for name in node.inputs if name not in constants}
            one = {name: replace(seen[name], shape=(1, *seen[name].shape[1:])) for name in read | made}
            n = seen[first[0].outputs[0]].shape[0]
            self._parts = [slice(i, i + 1) for i in range(n)]
            self._split = [numbers[name] for name in [*sorted(read - made), *crossing]]
            self._workers = [
                Plan(first, constants, {**seen, **one}, {*crossing}) for _ in range(min(n, get_num_threads()))
            ]
        scratch = sum(plan.n_bytes for plan in self._workers)
        self.rest = Plan(others, constants, seen, wanted, [name for name in crossing if name not in wanted], scratch)
        empty_cache()  # what the first run took need not stay beside the block
        self.block = np.empty(self.rest.n_bytes + ALIGNMENT, np.uint8)
        start = -self.block.ctypes.data % ALIGNMENT
        free = self.rest.attach(self.block[start : start + self.rest.n_bytes])
        for plan in self._workers:
            plan.attach(free)
            free = free[plan.n_bytes :]
        self._inputs = [(port.name, numbers[port.name]) for port in self.graph.inputs]
        self._outputs = [numbers[port.name] for port in self.graph.outputs]
        fresh = {step.outputs[0] for step in self.steps if step.fresh}
        self._fresh = {
            numbers[name]: (seen[name].shape, seen[name].dtype) for name in wanted if numbers.get(name) in fresh
        }
        self.ready = True

    # ------------------------------------------------------------ later runs

    def _settled(self, inputs: dict[str, Value], profile: bool) -> list[Value]:
        table, times = self.rest.table.copy(), self.times if profile else None  # type: ignore[union-attr]
        for name, i in self._inputs:
            x = inputs[name]
            table[i] = x if x.flags.c_contiguous else x.copy()  # as kernels want it; `copy` is in C order
        for i, (shape, dtype) in self._fresh.items():
            table[i] = empty(shape, dtype)
        if self._workers:
            self._sliced(table, times)
        self.rest.run(table, times)  # type: ignore[union-attr]
        return [table[i] if i in self._fresh else table[i].copy() for i in self._outputs]  # type: ignore[union-attr]

    def _sliced(self, table: list[Value | None], times: dict[str, float] | None) -> None:
        """The first steps: each worker takes the next sample until none is left."""
        limit = get_num_threads()
        workers = self._workers[:limit]
        parts = deque([*self._parts, *[None for _ in workers]])

        def work(plan: Plan) -> dict[str, float] | None:
            seconds: dict[str, float] | None = None if times is None else {}
            with threads(limit // len(workers)):
                for part in iter(parts.popleft, None):
                    few = plan.table.copy()
                    for i in self._split:
                        few[i] = table[i][part]  # type: ignore[index]
                    plan.run(few, seconds)
            return seconds

        with ThreadPoolExecutor(max(1, len(workers) - 1)) as pool:  # starts threads as work is submitted
            futures = [pool.submit(contextvars.copy_context().run, work, plan) for plan in workers[1:]]
            found = [work(workers[0]), *(future.result() for future in futures)]
        for seconds in found:
            for name, second in (seconds or {}).items():
                times[name] = times.get(name, 0.0) + second / len(workers)  # type: ignore[index, union-attr]


def _own(value: Value, others: list[Value]) -> Value:
    """A value that the caller may keep and write to."""
    mine = value.flags.owndata and value.flags.writeable and not any(value is other for other in others)
    return value if mine else value.copy()


def _shaping(node: Node) -> list[str]:
    """The inputs of a node whose numbers decide the shapes of its results."""
    positions = TABLE[node.op].shaping
    return [name for i, name in enumerate(node.inputs) if i in positions]
