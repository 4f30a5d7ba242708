"""Fuzz the reader of ONNX models: `python tests/fuzz/models.py --cases N --seed S`; see docs/robustness.md.

Each case damages a small sound model and prepares and runs what comes of it: bytes of its file (see `files`), fields of
its protobuf message anywhere in the tree (set to odd values, to each other's, cleared, repeated, removed), or where its
external data lies. It must run or be refused with a ModelError; whatever the damage, no file outside the model's folder
may be opened. The process has a limit on its address space and arrays one of 16 MB.
"""

import argparse
import collections
import contextlib
import os
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import onnx
from files import MOST_SHOWN, damaged_bytes, limit_address_space
from onnx import TensorProto, helper, numpy_helper

from convgrad.integrations import onnx as backend
from convgrad.integrations.onnx import graph as graphs

LARGEST = 1 << 24  # bytes
NUMBERS = [0, 1, -1, 2, -2, 3, 7, 11, 13, 16, 17, 64, 99, 2**15, 2**20, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1,
           -(2**63)]  # fmt: skip
REALS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e30, 1e-30, float("nan"), float("inf"), -float("inf")]
STRINGS = ["", "x", "y", "w0", "Conv", "Relu", "Reshape", "Loop", "location", "offset", "length", "pads", "SAME_UPPER",
           "..", "\0", "a" * 5000]  # fmt: skip
LOCATIONS = ["../secret.bin", "../../secret.bin", "/etc/passwd", "link.bin", "loop.bin", "w.bin/../../secret.bin", ".",
             "", "sub/up/secret.bin", "w.bin\0", "a" * 5000, "/dev/zero", "pipe", "./w.bin", "~/secret.bin",
             "\\\\host\\x"]  # fmt: skip


class Mismatch(Exception):
    """The reader did what it must not."""


# ---------------------------------------------------------------- sound models


def _model(nodes, shape, constants, opset=17):
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(
        [helper.make_node(op, i.split(), o.split(), name=f"n{k}", **a) for k, (op, i, o, a) in enumerate(nodes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def models():
    """A few small models that between them have most kinds of operators and attributes."""
    rng = np.random.default_rng(0)
    w = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    norm = {"s": w(4), "b": w(4), "m": w(4), "v": w(4) ** 2}
    conv = {"w0": w(4, 2, 3, 3), "b0": w(4)}
    images = (1, 2, 6, 6)
    return [
        _model(
            [("Conv", "x w0 b0", "a", dict(pads=[1, 1, 1, 1], strides=[1, 1], dilations=[1, 1], kernel_shape=[3, 3])),
             ("BatchNormalization", "a s b m v", "c", dict(epsilon=1e-5)), ("Relu", "c", "d", {}),
             ("MaxPool", "d", "e", dict(kernel_shape=[2, 2], strides=[2, 2])), ("Flatten", "e", "f", {}),
             ("Gemm", "f w1 b1", "g", dict(transB=1, alpha=0.5)), ("Softmax", "g", "y", dict(axis=1))],
            images, conv | norm | {"w1": w(5, 36), "b1": w(5)},
        ),
        _model(
            [("Conv", "x w0 b0", "a", dict(auto_pad="SAME_UPPER", group=1)), ("Conv", "a w1", "b", dict(group=2)),
             ("Add", "a b", "c", {}), ("Concat", "c a", "d", dict(axis=1)), ("LRN", "d", "e", dict(size=3)),
             ("AveragePool", "e", "f", dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)),
             ("Split", "f n", "g h", dict(axis=1)), ("Mul", "g h", "y", {})],
            images, conv | {"w1": w(4, 2, 1, 1), "n": np.array([4, 4])},
        ),
        _model(
            [("ConvTranspose", "x w0", "a", dict(strides=[2, 2], output_padding=[1, 1], pads=[1, 1, 1, 1])),
             ("Resize", "a no f", "b", dict(mode="linear")), ("Pad", "b p", "c", {}), ("Slice", "c i j k", "d", {}),
             ("Transpose", "d", "e", dict(perm=[0, 2, 3, 1])), ("Reshape", "e r", "g", {}),
             ("Clip", "g lo hi", "y", {})],
            images, {"w0": w(2, 3, 3, 3), "f": w(4) * 0 + 1, "no": w(0), "p": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
                     "r": np.array([0, -1]), "i": np.array([1]), "j": np.array([9]), "k": np.array([2]),
                     "lo": np.float32(-1), "hi": np.float32(6)},
        ),
        _model(
            [("Shape", "x", "a", {}), ("Gather", "a i", "b", dict(axis=0)), ("Unsqueeze", "b ax", "c", {}),
             ("Concat", "c m", "d", dict(axis=0)), ("Reshape", "x d", "e", {}), ("MatMul", "e w0", "f", {}),
             ("ReduceMean", "f", "g", dict(axes=[1], keepdims=1)), ("Sub", "f g", "h", {}), ("Tile", "h t", "j", {}),
             ("Cast", "j", "y", dict(to=1))],
            images, {"i": np.array(0), "ax": np.array([0]), "m": np.array([-1]), "w0": w(72, 3), "t": np.array([1, 2])},
        ),
        _model(
            [("ConstantOfShape", "n", "a", {}), ("Range", "lo hi st", "b", {}), ("Expand", "b e", "c", {}),
             ("Add", "a c", "d", {}), ("Where", "t d x", "f", {}), ("HardSwish", "f", "g", {}),
             ("PRelu", "g sl", "y", {})],
            (2, 3), {"n": np.array([2, 3]), "lo": np.float32(0), "hi": np.float32(3), "st": np.float32(1),
                     "e": np.array([2, 3]), "t": np.array([True, False, True]), "sl": w(1)},
        ),
    ]  # fmt: skip


# ---------------------------------------------------------------- damage


def places(message, found=None):
    """Every (message, field) within a message."""
    found = [] if found is None else found
    for field in message.DESCRIPTOR.fields:
        repeated = hasattr(getattr(message, field.name), "extend")
        value = getattr(message, field.name)
        if field.message_type is None:
            if repeated and len(value):
                found += [(message, field)] * min(len(value), 3)
            elif not repeated and message.HasField(field.name):
                found.append((message, field))
        else:
            if repeated and len(value):
                found.append((message, field))
            for item in value if repeated else [value] * message.HasField(field.name):
                places(item, found)
    return found


def odd(field, draw, old):
    kind = field.cpp_type
    if kind == field.CPPTYPE_STRING:
        if field.type == field.TYPE_BYTES:
            return damaged_bytes(bytes(old or b""), draw)
        return draw.choice(STRINGS)
    if kind in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return draw.choice(REALS)
    number = draw.choice(NUMBERS) if draw.random() < 0.6 else int(old or 0) + draw.choice((-2, -1, 1, 2, 8))
    narrow = kind in (field.CPPTYPE_INT32, field.CPPTYPE_ENUM)
    low, high = (-(2**31), 2**31 - 1) if narrow else (-(2**63), 2**63 - 1)
    if kind == field.CPPTYPE_UINT64:
        low, high = 0, 2**64 - 1
    return max(low, min(high, number))


def damage_message(model, draw):
    """Change a field in one of the ways in which writers go wrong, or an attacker would."""
    spots = places(model)
    message, field = draw.choice(spots)
    value = getattr(message, field.name)
    if hasattr(value, "extend"):
        at, what = draw.randrange(len(value)), draw.randrange(5)
        if what == 0:
            del value[at]
        elif what == 1:
            value.extend([value[at]] * draw.choice((1, 1, 3, 70)))
        elif what == 2 and len(value) > 1:
            items = list(value)
            draw.shuffle(items)
            copies = [type(item).FromString(item.SerializeToString()) if field.message_type else item for item in items]
            del value[:]
            value.extend(copies)
        elif field.message_type is None:
            same = [getattr(m, f.name)[0] for m, f in spots if f is field and len(getattr(m, f.name))]
            value[at] = draw.choice(same) if draw.random() < 0.5 else odd(field, draw, value[at])
    elif draw.random() < 0.2:
        message.ClearField(field.name)
    elif draw.random() < 0.4:
        same = [getattr(m, f.name) for m, f in spots if f is field]
        setattr(message, field.name, draw.choice(same))
    else:
        with contextlib.suppress(ValueError):  # a number that the enumeration does not have
            setattr(message, field.name, odd(field, draw, value))


def damage_external(model, draw):
    """Data in a file: where, from which byte and how long."""
    tensor = draw.choice(model.graph.initializer)
    tensor.data_location = TensorProto.EXTERNAL
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    entries = {"location": draw.choice(LOCATIONS) if draw.random() < 0.8 else "w.bin"}
    if draw.random() < 0.5:
        entries["offset"] = str(draw.choice([0, 4, 8, *NUMBERS])) if draw.random() < 0.9 else draw.choice(STRINGS)
    if draw.random() < 0.5:
        entries["length"] = str(draw.choice([len(data), len(data), *NUMBERS]))
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


class Fuzzer:
    """Cases of one seed; each depends on the seed and its number alone. `opened`: files opened outside the folder."""

    def __init__(self, seed, folder):
        self.seed, self.folder, self.opened = seed, Path(folder).resolve() / "model", []
        self.folder.mkdir(exist_ok=True)
        (self.folder / "w.bin").write_bytes(bytes(4096))
        (self.folder.parent / "secret.bin").write_bytes(bytes(4096))
        for name, target in (("link.bin", "../secret.bin"), ("loop.bin", "loop.bin")):
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(target)
        (self.folder / "sub").mkdir(exist_ok=True)
        if not (self.folder / "sub" / "up").is_symlink():
            (self.folder / "sub" / "up").symlink_to("../..")
        if not (self.folder / "pipe").exists():
            os.mkfifo(self.folder / "pipe")
        self.models = [model.SerializeToString() for model in models()]
        self.watching = False
        sys.addaudithook(self._watch)

    def _watch(self, event, arguments):
        if self.watching and event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            inside = os.path.commonpath([path, self.folder]) == str(self.folder)
            if not inside and not path.endswith((".py", ".pyc", ".so")) and path != os.devnull:
                self.opened.append(path)

    def draw(self, index):
        """(bytes of the model, whether it is read from a file)"""
        draw = random.Random(f"{self.seed} {index}")
        data, how = draw.choice(self.models), draw.random()
        if how > 0.2:
            model = onnx.ModelProto.FromString(data)
            for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
                (damage_external if 0.2 < how < 0.35 else damage_message)(model, draw)
            data = model.SerializeToString()
        if how < 0.2 or how > 0.95:
            data = damaged_bytes(data, draw)
        return data, how < 0.5 or draw.random() < 0.3

    def run(self, index):
        """ "ran" or "refused"; Mismatch where the reader misbehaves."""
        data, from_file = self.draw(index)
        source = data
        if from_file:
            source = self.folder / "case.onnx"
            source.write_bytes(data)
        self.opened.clear()
        self.watching = True
        try:
            prepared = backend.prepare(source)
            feeds = {port.name: np.zeros(port.sizes(), port.dtype) for port in prepared.ports}
            prepared.run(feeds)
            outcome = "ran"
        except backend.UnsupportedModelError as error:
            outcome = self.refused(error, "unsupported")
        except backend.ModelError as error:
            outcome = self.refused(error, "refused")
        finally:
            self.watching = False
        if self.opened:
            raise Mismatch(f"opened {self.opened[0]}")
        return outcome

    @staticmethod
    def refused(error, outcome):
        if len(str(error)) < 20 or len(str(error)) > 20_000:
            raise Mismatch(f"{type(error).__name__} with a message of {len(str(error))} characters") from error
        return outcome


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--keep", help="write the model of the first case here and stop")
    given = parser.parse_args(arguments)
    graphs.MAX_ARRAY_BYTES = LARGEST
    started, counts, failed, slowest = time.process_time(), collections.Counter(), 0, (0.0, 0)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        fuzzer = Fuzzer(given.seed, folder)
        if given.keep:
            Path(given.keep).write_bytes(fuzzer.draw(given.first)[0])
            return 0
        if sys.platform.startswith("linux"):
            limit_address_space()
        for index in range(given.first, given.first + given.cases):
            begun = time.process_time()
            try:
                counts[fuzzer.run(index)] += 1
            except Exception as error:
                failed += 1
                if failed <= MOST_SHOWN:
                    print(f"seed {given.seed} case {index}: {type(error).__name__}: {error}"[:600])
                    if not isinstance(error, Mismatch):
                        print("  " + "".join(traceback.format_tb(error.__traceback__)[-3:]).rstrip(), flush=True)
            slowest = max(slowest, (time.process_time() - begun, index))
    for what in sorted(counts):
        print(f"{counts[what]:>9,} {what}")
    print(f"{given.cases} models of seed {given.seed} from {given.first}, {failed} failed, "
          f"{time.process_time() - started:.0f} s, the slowest {slowest[0]:.2f} s (case {slowest[1]})")  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
