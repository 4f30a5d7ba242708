"""An ONNX backend for convolutional networks: `prepare`, `run_model`, `run_node`, `supports_device`, `is_compatible`.

    from convgrad.integrations import onnx as backend

    model = backend.prepare("squeezenet.onnx")
    scores, = model.run([image])

Operator sets 6 to current; float32 and float64 where kernels compute, any number elsewhere. `prepare` reads the graph
once: constants are folded, batch normalisation and scales go into weights, activations into the pass before them, and
weights are packed. What a model needs and this backend lacks is listed, all of it, in one `UnsupportedModelError`.

Source: onnx/docs/ImplementingAnOnnxBackend.md and onnx/backend/base.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper
from onnx.backend.base import Backend, BackendRep, namedtupledict

from ...typing import AnyArray
from . import kernels as kernels
from . import moving as moving
from .fusion import FAILURES, check_operators, simplify
from .graph import Graph, ModelError, Port, UnsupportedModelError, check_size, read
from .program import Program

__all__ = [
    "ConvgradBackend",
    "ModelError",
    "PreparedModel",
    "UnsupportedModelError",
    "is_compatible",
    "prepare",
    "run_model",
    "run_node",
    "supports_device",
]

_PLANS = 4  # shapes of inputs whose plans are kept

Model = ModelProto | bytes | str | os.PathLike[str]
Inputs = Mapping[str, AnyArray] | Sequence[AnyArray] | AnyArray


class PreparedModel(BackendRep):
    """A model ready to run; any thread may call `run`, calls with the same shapes take turns.

    ports : the inputs, each with name, dtype and shape (None or a name where a size is free)
    input_names, output_names : list of str
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._programs: dict[tuple[Any, ...], Program] = {}
        self.ports = tuple(graph.inputs)
        self.input_names = [port.name for port in graph.inputs]
        self.output_names = [port.name for port in graph.outputs]
        self._named = namedtupledict("Outputs", self.output_names)
        if all(port.is_fixed for port in graph.inputs):
            program = Program(graph)
            if program.static:  # everything that may fail does so here
                zeros = {port.name: np.zeros(port.sizes(), port.dtype) for port in graph.inputs}
                program.run(zeros)
                self._programs[_key(zeros)] = program
        for node in graph.nodes:
            if node.a.unread is not None:
                node.a.unread = node.a.unread.read()

    def run(self, inputs: Inputs, **kwargs: Any) -> tuple[AnyArray, ...]:
        """The model's outputs, as a named tuple.

        Parameters
        ----------
        inputs : one array, a sequence of arrays in the order of `input_names`, or a mapping of names to arrays

        Raises
        ------
        ModelError : inputs that do not fit the model, or each other
        TypeError : an unknown keyword
        """
        if kwargs:
            raise TypeError(f"run: unknown options {sorted(kwargs)}; there are none")
        return self._named(*self._run(inputs)[0])

    def profile(self, inputs: Inputs) -> tuple[tuple[AnyArray, ...], list[tuple[str, str, float]]]:
        """As `run`, with (name, operator, seconds) of every node that was run, those that were fused left out."""
        self._run(inputs)
        outputs, program = self._run(inputs, profile=True)
        times = [(step.node.name, step.node.op, program.times[step.node.name]) for step in program.steps]
        program.times.clear()
        return self._named(*outputs), times

    def _run(self, inputs: Inputs, profile: bool = False) -> tuple[list[AnyArray], Program]:
        feeds = self._feeds(inputs)
        key = _key(feeds)
        program = self._programs.get(key)
        if program is None:
            while len(self._programs) >= _PLANS:
                self._programs.pop(next(iter(self._programs)), None)
            program = self._programs.setdefault(key, Program(self._graph))
        return program.run(feeds, profile), program

    def _wanted(self) -> str:
        names = ", ".join(map(repr, self.input_names[:20]))
        return names if len(self.input_names) <= 20 else f"{names} and {len(self.input_names) - 20} more"

    def _feeds(self, inputs: Inputs) -> dict[str, AnyArray]:
        if isinstance(inputs, np.ndarray) or np.isscalar(inputs):
            inputs = [inputs]  # type: ignore[list-item]
        if isinstance(inputs, Mapping):
            feeds = dict(inputs)
        else:
            feeds = dict(zip(self.input_names, inputs, strict=False))
            if len(inputs) != len(self.input_names):
                raise ModelError(f"run: {len(inputs)} inputs were given, the model has {self._wanted()}")
        if set(feeds) != set(self.input_names):
            raise ModelError(f"run: inputs {sorted(feeds)[:20]} were given, the model has {self._wanted()}")
        return {port.name: _feed(port, feeds[port.name]) for port in self._graph.inputs}


def _feed(port: Port, value: Any) -> AnyArray:
    value = np.asarray(value)
    if value.dtype != port.dtype:
        raise ModelError(
            f"run: input {port.name!r} must be {port.dtype}, got {value.dtype}; convert it with .astype({port.dtype!s})"
        )
    if port.shape is not None:
        fits = len(port.shape) == value.ndim and all(
            not isinstance(size, int) or size == given for size, given in zip(port.shape, value.shape, strict=True)
        )
        if not fits:
            raise ModelError(f"run: input {port.name!r} must have shape {port.shape}, got {value.shape}")
    check_size(f"run: input {port.name!r}", value.shape, value.dtype)
    return value


def _key(feeds: dict[str, AnyArray]) -> tuple[Any, ...]:
    return tuple(value.shape for value in feeds.values())


class ConvgradBackend(Backend):
    """The interface of onnx.backend.base.Backend."""

    @classmethod
    def is_compatible(cls, model: Model, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether `prepare` would take the model's operators; ModelError where the model is corrupt."""
        try:
            check_operators(read(model))
        except UnsupportedModelError:
            return False
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: Model, device: str = "CPU", **kwargs: Any) -> PreparedModel:
        """Make a model ready to run.

        Parameters
        ----------
        model : onnx.ModelProto, its bytes, or the path of its file (which external data needs)
        device : "CPU"

        Raises
        ------
        ModelError : the model is corrupt or does not fit together, or points outside its folder
        UnsupportedModelError : operators or attribute values that this backend lacks, all of them
        ValueError, TypeError : another device; an unknown keyword
        """
        if not cls.supports_device(device):
            raise ValueError(f"prepare: device {device!r} is not supported; use 'CPU'")
        if kwargs:
            raise TypeError(f"prepare: unknown options {sorted(kwargs)}; there are none")
        graph = read(model)
        try:
            with np.errstate(all="ignore"):
                check_operators(graph)
                simplify(graph)
        except ModelError:
            raise
        except (*FAILURES, KeyError) as error:
            raise ModelError(f"prepare: the model's nodes and constants do not fit together: {error}") from error
        return PreparedModel(graph)

    @classmethod
    def run_model(cls, model: Model, inputs: Inputs, device: str = "CPU", **kwargs: Any) -> tuple[AnyArray, ...]:
        """`prepare` and `run` in one call."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Inputs,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[AnyArray, ...]:
        """Run one node, of operator set `opset_version` (default: the current one); `outputs_info` is not needed."""
        opset = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        names = [name for name in node.input if name]
        given = inputs.values() if isinstance(inputs, Mapping) else [inputs] if np.isscalar(inputs) else inputs
        feeds = dict(zip(names, map(np.asarray, [given] if isinstance(given, np.ndarray) else given), strict=False))
        if isinstance(inputs, Mapping):
            feeds = {name: np.asarray(inputs[name]) for name in names}
        if set(feeds) != set(names):
            raise ModelError(f"run_node: {len(feeds)} inputs were given, the node has {names}")
        ports = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in feeds.items()
        ]
        results = [helper.make_tensor_value_info(name, 1, None) for name in node.output if name]
        model = helper.make_model(
            helper.make_graph([node], "node", ports, results), opset_imports=[helper.make_opsetid("", opset)]
        )
        return cls.run_model(model, feeds, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """True for "CPU", with or without a number."""
        return device.split(":")[0] == "CPU"


is_compatible = ConvgradBackend.is_compatible
prepare = ConvgradBackend.prepare
run_model = ConvgradBackend.run_model
run_node = ConvgradBackend.run_node
supports_device = ConvgradBackend.supports_device
