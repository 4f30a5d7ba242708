"""The large initialisers of a model file told apart from the rest, so that they are read once and not held twice.

Source: Protocol Buffers, "Encoding" (wire types 0, 1, 2 and 5); onnx.proto: ModelProto.graph = 7,
GraphProto.initializer = 5, TensorProto.raw_data = 9.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

LARGE = 1 << 16  # bytes
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(number, where it starts, where its contents start, where it ends) of every field; number 0 if not a string."""
    while at < end:
        start = at
        tag, at = _varint(data, at)
        kind, body = tag & 7, at
        if kind == 0:
            _, at = _varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, body = _varint(data, at)
            at = body + length
        else:
            raise IndexError
        if at > end:
            raise IndexError
        yield (tag >> 3 if kind == 2 else 0), start, body, at


def _field(number: int, parts: list[bytes]) -> bytes:
    """A string field of these contents."""
    body = b"".join(parts)
    length, head = len(body), bytearray([number << 3 | 2])
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + body


def split(data: mmap.mmap) -> tuple[bytes, dict[int, tuple[int, int]]]:
    """The model without the raw data of large initialisers, and (offset, length) of those by their position.

    IndexError : not a model, or written in a way that no known writer has
    """
    model: list[bytes] = []
    cut: dict[int, tuple[int, int]] = {}
    for number, start, body, end in _fields(data, 0, len(data)):
        if number != _GRAPH:
            model.append(data[start:end])
            continue
        graph, count = [], 0
        if cut:
            raise IndexError  # two graphs
        for inner, inner_start, inner_body, inner_end in _fields(data, body, end):
            if inner == _INITIALIZER:
                tensor = []
                for name, first, contents, last in _fields(data, inner_body, inner_end):
                    if name == _RAW_DATA and last - contents >= LARGE:
                        cut[count] = (contents, last - contents)
                    else:
                        tensor.append(data[first:last])
                graph.append(_field(_INITIALIZER, tensor))
                count += 1
            else:
                graph.append(data[inner_start:inner_end])
        model.append(_field(_GRAPH, graph))
    return b"".join(model), cut
