"""ONNX models read into a graph of our own: nodes in the order in which they can run, and named constants.

Everything in a file is taken to be hostile until it has been checked here: sizes are multiplied out as Python integers
before anything is allocated, and data outside the file is read only from regular files inside the model's folder.

Source: ONNX intermediate representation (onnx/docs/IR.md) and ExternalData.md, versions 3 to current.
"""

from __future__ import annotations

import heapq
import math
import mmap
import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, ModelProto, TensorProto, defs, helper, numpy_helper

from . import wire

OLDEST_OPSET = 6

# Arrays larger than this are refused, whether a file declares them or a node would make them.
MAX_ARRAY_BYTES = 2**33
LATER = 1 << 25  # bytes from which a matrix is read when it is packed, so that two of them need never lie side by side

Value = Any  # an array, or None where an optional input is left out


class ModelError(ValueError):
    """A model that is corrupt or does not fit together, or inputs that do not fit the model."""


class UnsupportedModelError(ModelError):
    """A sound model with operators or attribute values that this backend lacks; `problems` lists all of them."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("prepare: this backend cannot run the model:\n" + "\n".join(f"  {line}" for line in problems))


@dataclass(slots=True)
class Node:
    """One application of an operator. `a` holds its attributes, those left out with the operator's defaults, and

    a.op, a.version : the operator, and the operator set that last changed it
    a.outputs : how many of its results are named
    a.fixed_weight, a.fixed_bias, a.activation : what `fusion` made of constant inputs and of following nodes
    a.packs : packed weights by shape of one sample; a.once : whether there will be one shape only
    """

    op: str
    name: str
    inputs: list[str]  # "" where an optional input is left out
    outputs: list[str]
    a: SimpleNamespace

    def __str__(self) -> str:
        return f"{self.op} {self.name!r}"


@dataclass(slots=True)
class Port:
    """An input or output of the model: sizes that are not fixed are None or the name of a free dimension."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...] | None

    @property
    def is_fixed(self) -> bool:
        """Whether every size is known."""
        return self.shape is not None and all(isinstance(size, int) for size in self.shape)

    def sizes(self) -> tuple[int, ...]:
        """The shape, with 1 for what is free."""
        return tuple(size if isinstance(size, int) else 1 for size in self.shape or ())


@dataclass(slots=True)
class Unread:
    """An array that has its shape and its memory, which is not taken before it is touched, but not yet its numbers."""

    array: Value
    path: Path
    offset: int

    def read(self) -> None:
        """Fill the array from the file; ModelError where the file no longer holds it."""
        rest = memoryview(self.array.reshape(-1)).cast("B")
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset)
            while rest and (count := file.readinto(rest)):
                rest = rest[count:]
        if rest:
            raise ModelError(f"prepare: {self.path.name!r} became {len(rest)} bytes too short while it was read")
        if sys.byteorder != "little":
            self.array.byteswap(inplace=True)


@dataclass(slots=True)
class Graph:
    """Nodes in the order in which they can run. `unread`: the constants that `read` must be called for before use."""

    nodes: list[Node]
    constants: dict[str, Value]
    inputs: list[Port]
    outputs: list[Port]
    unread: dict[str, Unread]

    def read(self, names: Iterable[str]) -> None:
        """Make sure that constants hold their numbers."""
        for name in names:
            if name in self.unread:
                self.unread.pop(name).read()

    def consumers(self) -> dict[str, list[Node]]:
        """For every value the nodes that read it, one entry for each reading."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                readers.setdefault(name, []).append(node)
        return readers


def check_size(what: str, shape: tuple[int, ...], dtype: Any) -> None:
    """Refuse shapes with negative sizes and arrays above MAX_ARRAY_BYTES."""
    if any(size < 0 for size in shape):
        raise ModelError(f"{what}: sizes must not be negative, got shape {tuple(shape)}")
    n_bytes = math.prod(map(int, shape)) * np.dtype(dtype).itemsize
    if n_bytes > MAX_ARRAY_BYTES:
        raise ModelError(
            f"{what}: an array of shape {tuple(shape)} and {np.dtype(dtype)} would take {n_bytes} bytes, more than the "
            f"{MAX_ARRAY_BYTES} of convgrad.integrations.onnx.graph.MAX_ARRAY_BYTES"
        )


@dataclass(slots=True)
class Source:
    """Where a model came from: its file (None: memory) and where in it the data of some initialisers lies."""

    path: Path | None = None
    cut: dict[int, tuple[int, int]] = field(default_factory=dict)


def load(model: ModelProto | bytes | str | os.PathLike[str]) -> tuple[ModelProto, Source]:
    """Return a model, the data of its large initialisers left in the file if there is one."""
    if isinstance(model, ModelProto):
        return model, Source()
    source = Source()
    if isinstance(model, (str, os.PathLike)):
        source.path = Path(model).resolve()
        with open(source.path, "rb") as file:
            try:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    model, source.cut = wire.split(data)
            except (IndexError, ValueError):  # let protobuf say what is wrong
                model = file.read()
    elif not isinstance(model, bytes):
        raise TypeError(f"prepare: model must be an onnx.ModelProto, its bytes or a path, got {type(model).__name__}")
    try:
        return onnx.load_model_from_string(model), source
    except DecodeError as error:
        raise ModelError(f"prepare: not an ONNX model: {error}") from None


def read(model: ModelProto | bytes | str | os.PathLike[str]) -> Graph:
    """Read a model; ModelError where it is corrupt, UnsupportedModelError where its kind is not for this backend."""
    proto, source = load(model)
    folder = source.path and source.path.parent
    graph = proto.graph
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if not proto.opset_import or not graph.output:
        raise ModelError("prepare: the model names no operator set or has no outputs: the file is corrupt")
    if not opset:
        raise UnsupportedModelError(
            [f"operator set {entry.domain!r}, and none of ONNX" for entry in proto.opset_import]
        )
    if not OLDEST_OPSET <= opset <= defs.onnx_opset_version():
        raise UnsupportedModelError(
            [f"operator set {opset}: {OLDEST_OPSET} to {defs.onnx_opset_version()} are known; convert the model with "
             "onnx.version_converter"]
        )  # fmt: skip
    if graph.sparse_initializer:
        raise UnsupportedModelError([f"sparse initialiser {t.values.name!r}" for t in graph.sparse_initializer])
    constants: dict[str, Value] = {}
    waiting: dict[str, Unread] = {}
    unread: list[Unread] = []
    for i, tensor in enumerate(graph.initializer):
        what = f"initialiser {tensor.name!r}"
        if not tensor.name or tensor.name in constants:
            raise ModelError(f"prepare: {what} has an empty name, or one used twice")
        if i in source.cut:
            dtype, dims = _declared(tensor, what)
            constants[tensor.name] = _from_file(source.path, *source.cut[i], dtype, dims, what, unread)
        else:
            constants[tensor.name] = read_tensor(tensor, folder, what, unread)
        if unread:
            waiting[tensor.name] = unread.pop()
    inputs = [_port(port) for port in graph.input if port.name not in constants]
    nodes = _sorted(graph, opset, folder, constants, inputs)
    return Graph(nodes, constants, inputs, [_port(port) for port in graph.output], waiting)


def _port(info: onnx.ValueInfoProto) -> Port:
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        raise UnsupportedModelError([f"{info.name!r} is a {kind or 'value without type'}: only tensors are known"])
    dtype = element_type(info.type.tensor_type.elem_type, f"{info.name!r}")
    if not info.type.tensor_type.HasField("shape"):
        return Port(info.name, dtype, None)
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in info.type.tensor_type.shape.dim
    )
    check_size(f"prepare: {info.name!r}", tuple(size for size in shape if isinstance(size, int)), dtype)
    return Port(info.name, dtype, shape)


def element_type(code: int, what: str) -> np.dtype[Any]:
    """The dtype of a number of TensorProto.DataType."""
    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(code))
    except KeyError:
        raise ModelError(f"prepare: {what} has the unknown element type {code}") from None


def _declared(tensor: TensorProto, what: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    dtype, dims = element_type(tensor.data_type, what), tuple(tensor.dims)
    check_size(f"prepare: {what}", dims, dtype)
    return dtype, dims


def read_tensor(tensor: TensorProto, folder: Path | None, what: str, unread: list[Unread] | None = None) -> Value:
    """The array of a tensor; ModelError where its data is not exactly what its shape and type ask for.

    unread : where to put what is large enough to be read later; None: read everything now
    """
    dtype, dims = _declared(tensor, what)
    count = math.prod(dims)
    external = tensor.data_location == TensorProto.EXTERNAL
    if external:
        if not (dtype.isbuiltin and dtype != np.dtype(object)):
            raise UnsupportedModelError([f"{what}: external data of type {dtype}"])
        return _external(tensor, folder, dtype, dims, what, unread)
    field_name = helper.tensor_dtype_to_field(tensor.data_type)
    if dtype.isbuiltin and dtype != np.dtype(object):
        raw = tensor.HasField("raw_data")
        found = len(tensor.raw_data) if raw else len(getattr(tensor, field_name))
        wanted = count * dtype.itemsize if raw else count * (2 if dtype.kind == "c" else 1)
        if found != wanted:
            raise ModelError(
                f"prepare: {what} of shape {dims} and {dtype} needs {wanted} {'bytes' if raw else 'entries'} of data "
                f"but has {found}: the file is corrupt"
            )
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, IndexError) as error:
        raise ModelError(f"prepare: {what}: {error}") from None
    if array.dtype != object:
        array.flags.writeable = False
    return array


def _external(
    tensor: TensorProto, folder: Path | None, dtype: np.dtype[Any], dims: tuple[int, ...], what: str,
    unread: list[Unread] | None,
) -> Value:  # fmt: skip
    """The array of a tensor in a file of its own, which must be a regular file inside the model's folder."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise ModelError(
            f"prepare: {what} lies in the external file {location[:200]!r} but the model came without its folder; "
            "pass the path of the model's file, or load it with onnx.load"
        )
    try:
        path = (folder / location).resolve()
        found = bool(location) and path.is_relative_to(folder) and path.is_file()
    except (OSError, ValueError, RuntimeError):  # a name too long, with a zero byte, or a link to itself
        found = False
    if not found:
        raise ModelError(
            f"prepare: {what} points to {location[:200]!r}, which is not a file inside the model's folder {folder}; "
            "move the data there"
        )
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", math.prod(dims) * dtype.itemsize))
    except ValueError:
        raise ModelError(f"prepare: {what} has an offset or length that is not a number: {entries}") from None
    return _from_file(path, offset, length, dtype, dims, what, unread)


def _from_file(
    path: Any, offset: int, length: int, dtype: np.dtype[Any], dims: tuple[int, ...], what: str,
    unread: list[Unread] | None,
) -> Value:  # fmt: skip
    """The array whose little-endian data lies in a file."""
    needed, size = math.prod(dims) * dtype.itemsize, path.stat().st_size
    if length != needed or offset < 0 or offset + length > size or dtype.isbuiltin != 1 or dtype.kind == "O":
        raise ModelError(
            f"prepare: {what} of shape {dims} and {dtype} needs {needed} bytes but asks for {length} at {offset} of "
            f"{path.name!r}, which has {size}"
        )
    later = Unread(np.empty(dims, dtype), path, offset)
    if unread is not None and len(dims) == 2 and needed >= LATER and dtype.kind == "f":
        unread.append(later)
    else:
        later.read()
    return later.array


def _sorted(
    graph: onnx.GraphProto, opset: int, folder: Path | None, constants: dict[str, Value], inputs: list[Port]
) -> list[Node]:
    """The nodes in an order in which they can run; ModelError for cycles and for values that nothing defines."""
    protos = list(graph.node)
    names = [name for p in protos for name in (p.op_type, p.domain, p.name, *p.input, *p.output)]
    names += [*constants, *(port.name for port in [*inputs, *graph.output])]
    broken = [name for name in names if not isinstance(name, str)]
    if broken:
        raise ModelError(f"prepare: names that are not UTF-8: {broken[:5]}: the file is corrupt")
    defined = Counter([*constants, *(port.name for port in inputs)])
    producer = {}
    for i, proto in enumerate(protos):
        for name in filter(None, proto.output):
            defined[name] += 1
            producer[name] = i
    twice = sorted(name for name, times in defined.items() if times > 1)
    if twice:
        raise ModelError(f"prepare: values are defined more than once: {', '.join(map(repr, twice))}")
    missing = [f"{_name(p, i)} reads {name!r}" for i, p in enumerate(protos) for name in p.input
               if name and name not in defined]  # fmt: skip
    missing += [f"the model returns {port.name!r}" for port in graph.output if port.name not in defined]
    if missing:
        raise ModelError(f"prepare: no node, input or initialiser defines what is read here: {'; '.join(missing)}")
    waiting = [len({name for name in proto.input if name in producer}) for proto in protos]
    readers: dict[str, list[int]] = {}
    for i, proto in enumerate(protos):
        for name in {name for name in proto.input if name in producer}:
            readers.setdefault(name, []).append(i)
    ready = [i for i, count in enumerate(waiting) if not count]  # a heap: the file's order wherever it will do
    order = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for name in filter(None, protos[i].output):
            for reader in readers.get(name, ()):
                waiting[reader] -= 1
                if not waiting[reader]:
                    heapq.heappush(ready, reader)
    if len(order) < len(protos):
        stuck = [_name(protos[i], i) for i, count in enumerate(waiting) if count]
        raise ModelError(f"prepare: the graph has a cycle; these nodes wait for each other: {', '.join(stuck[:10])}")
    problems: list[str] = []
    nodes = [_node(protos[i], i, opset, folder, problems) for i in order]
    if problems:
        raise UnsupportedModelError(problems)
    return nodes


def _name(proto: onnx.NodeProto, position: int) -> str:
    return f"{proto.op_type} {proto.name or f'#{position}'!r}"


def _node(proto: onnx.NodeProto, position: int, opset: int, folder: Path | None, problems: list[str]) -> Node:
    """One node with the defaults of its operator; what cannot be read goes to `problems`."""
    what = _name(proto, position)
    attributes: dict[str, Any] = {}
    version = 0
    try:
        if proto.domain not in ("", "ai.onnx"):
            raise defs.SchemaError
        schema = defs.get_schema(proto.op_type, opset, "")
    except defs.SchemaError:
        problems.append(f"{what}: no such operator in operator set {opset} of ONNX (domain {proto.domain!r})")
    else:
        version = schema.since_version
        if schema.deprecated:
            problems.append(f"{what}: no longer an operator of operator set {opset}")
        if not schema.min_input <= len(proto.input) <= schema.max_input or len(proto.output) > schema.max_output:
            raise ModelError(f"prepare: {what} has {len(proto.input)} inputs and {len(proto.output)} outputs, which "
                             f"operator set {opset} does not allow")  # fmt: skip
        for name, known in schema.attributes.items():
            if known.required and name not in {attribute.name for attribute in proto.attribute}:
                raise ModelError(f"prepare: {what} lacks its attribute {name!r}")
            default = known.default_value
            attributes[name] = helper.get_attribute_value(default) if default.type else None
        for attribute in proto.attribute:
            if attribute.name not in schema.attributes:
                raise ModelError(f"prepare: {what} has no attribute {attribute.name!r} in operator set {opset}")
            wanted = schema.attributes[attribute.name].type.name  # type: ignore[attr-defined]
            if wanted != AttributeProto.AttributeType.Name(attribute.type):
                raise ModelError(f"prepare: {what}: attribute {attribute.name!r} is of type "
                                 f"{AttributeProto.AttributeType.Name(attribute.type)}, not {wanted}")  # fmt: skip
            attributes[attribute.name] = _attribute(attribute, folder, f"{what}, attribute {attribute.name!r}")
    attributes = {key: value.decode(errors="replace") if isinstance(value, bytes) else value
                  for key, value in attributes.items()}  # fmt: skip
    a = SimpleNamespace(**attributes, op=proto.op_type, version=version, outputs=len(proto.output))
    return Node(proto.op_type, proto.name or f"#{position}", list(proto.input), list(proto.output), a)


def _attribute(attribute: AttributeProto, folder: Path | None, what: str) -> Any:
    if attribute.type == AttributeProto.TENSOR:
        return read_tensor(attribute.t, folder, what)
    value = helper.get_attribute_value(attribute)
    return tuple(value) if isinstance(value, (list, tuple)) or hasattr(value, "add") else value
