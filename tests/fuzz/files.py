"""Fuzz the readers of files: `python tests/fuzz/files.py --cases N --seed S`; see docs/robustness.md.

Each case damages a good file (bytes flipped, cut, inserted, repeated; numbers of the header changed; its JSON rebuilt
with something else in one place; compressed again) and reads it. The reader must return, or raise a ValueError that
names itself and the file; it must leave what it reads into as it was where it raises; and it may take no more memory
than a small multiple of the file. The process has a limit on its address space, so that memory nobody counts shows too.
"""

import argparse
import collections
import copy
import functools
import gzip
import json
import os
import random
import struct
import sys
import tempfile
import time
import traceback
import tracemalloc
import zlib
from pathlib import Path

import numpy as np

from convgrad import callbacks, checkpoints, datasets, gan, layers, optimizers, runs

SPACE = 1 << 30  # bytes of address space beyond what the process has at its start
FLOOR = 1 << 20  # bytes that reading may take however small the file is
TIMES = 16  # and times the file's size
MOST_SHOWN = 20

ODD = [None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, float("nan"), float("inf"), 255, 2**31, 2**32 - 1, 2**53, 2**63,
       2**64 - 1, 2**64, 10**30, 10**400, -(2**63), "", "x", "F32", "\0", "\ud800", "0" * 5000, [], {}, [[]], [0], [-1],
       [2**63, 0], [2**62, 2], [1] * 70, {"": 0}, {"dtype": "F64"}, [0, 0], [8, 4], "BF16", "I64", "/"]  # fmt: skip


class Mismatch(Exception):
    """A reader did what it must not."""


# ---------------------------------------------------------------- damage


def damaged_bytes(data, draw):
    """Bytes changed in one of the ways in which files go bad."""
    data = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 5, 20))):
        at, n = draw.randrange(len(data) + 1), draw.choice((1, 1, 2, 4, 8, 64))
        if draw.random() < 0.5:
            at = min(at, draw.randrange(16))  # headers are short and matter most
        what = draw.randrange(8)
        if what == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif what == 1 and at < len(data):
            data[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        elif what == 2:
            del data[at:]
        elif what == 3:
            del data[at : at + n]
        elif what == 4:
            data[at:at] = draw.randbytes(n)
        elif what == 5:
            data[at : at + n] = data[at : at + n] * draw.choice((2, 2, 3, 50))
        elif what == 6:
            number = draw.choice((0, 1, -1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, draw.getrandbits(64)))
            raw = struct.pack(draw.choice("<>") + "Q", number & 2**64 - 1)
            data[at : at + 8] = raw[: draw.choice((4, 8))]
        else:
            data += draw.randbytes(n)
    return bytes(data)


def places(value, found=None):
    """Every (container, key) within nested lists and dicts."""
    found = [] if found is None else found
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        found.append((value, key))
        if isinstance(item, (dict, list)):
            places(item, found)
    return found


def damaged_tree(tree, draw):
    """A copy of nested lists and dicts with something else in one or two places."""
    tree = copy.deepcopy(tree)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        all_places = places(tree)
        if not all_places:
            return tree
        holder, key = draw.choice(all_places)
        what = draw.randrange(6)
        if what == 0:
            del holder[key]
        elif what == 1 and isinstance(holder, dict):
            holder[draw.choice(("", "x", "weight", key + "0", *map(str, holder)))] = holder.pop(key)
        elif what == 2:
            other, name = draw.choice(all_places)
            if name in other if isinstance(other, dict) else name < len(other):
                holder[key] = copy.deepcopy(other[name])
        elif what == 3 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif isinstance(holder[key], (int, float)) and draw.random() < 0.5:
            holder[key] = draw.choice(
                (holder[key] + 1, -holder[key], holder[key] - 1, 2 * holder[key], holder[key] + 8)
            )
        else:
            holder[key] = copy.deepcopy(draw.choice(ODD))
    return tree


def to_json(tree, draw):
    if draw.random() < 0.02:
        return draw.choice("[{") * draw.choice((50, 127, 128, 500, 100_000))
    if draw.random() < 0.02:
        return '{"a":' * 3000 + "0" + "}" * 3000
    return json.dumps(tree, ensure_ascii=draw.random() < 0.5)


def damaged_safetensors(data, draw):
    """The JSON header, or the JSON text within its metadata, rebuilt with something else in it."""
    length = int.from_bytes(data[:8], "little")
    header, cells = json.loads(data[8 : 8 + length]), data[8 + length :]
    inner = header.get("__metadata__", {}).get("convgrad.run")
    if inner is not None and draw.random() < 0.7:
        header["__metadata__"]["convgrad.run"] = to_json(damaged_tree(json.loads(inner), draw), draw)
        text = json.dumps(header)
    else:
        text = to_json(damaged_tree(header, draw), draw)
    text = text.encode("utf-8", "surrogatepass")
    if draw.random() < 0.1:
        cells = damaged_bytes(cells, draw)
    return len(text).to_bytes(8, "little") + text + cells


def damaged_idx(data, draw):
    """Another type code, number of axes or length of an axis; now and then compressed again."""
    raw = bytearray(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    for _ in range(draw.choice((1, 1, 2))):
        what = draw.randrange(4)
        if what == 0:
            raw[2] = draw.choice((8, 9, 10, 11, 12, 13, 14, 0, 255))
        elif what == 1:
            raw[3] = draw.choice((0, 1, 2, 3, 4, 31, 32, 33, 64, 255))
        elif what == 2:
            at = 4 + 4 * draw.randrange(max(1, raw[3]))
            raw[at : at + 4] = struct.pack(">I", draw.choice((0, 1, 2, 255, 2**31, 2**32 - 1, 10**6, 10**8)))
        else:
            raw = bytearray(damaged_bytes(raw, draw)) + bytes(4)
    if draw.random() < 0.4:
        packed = gzip.compress(bytes(raw), draw.choice((0, 1, 9)), mtime=0)
        return packed + (packed if draw.random() < 0.1 else b"")
    return bytes(raw)


# ---------------------------------------------------------------- readers


@functools.cache
def bombs():
    """Gzipped IDX files that expand a thousandfold: as claimed, as part of what is claimed, beyond it."""
    files, size = [], 100  # MB
    for claim in (size << 20, 2**32 - 1, 10):
        head, piece = b"\0\0\x08\1" + struct.pack(">I", claim), bytes(1 << 20)
        pack = zlib.compressobj(9, zlib.DEFLATED, -15)
        parts = [pack.compress(data) + pack.flush(zlib.Z_FULL_FLUSH) for data in (head, piece)]  # each stands alone
        check = zlib.crc32(head)
        for _ in range(size):
            check = zlib.crc32(piece, check)
        tail = struct.pack("<II", check, len(head) + (size << 20))
        files.append(b"".join([gzip.compress(b"", mtime=0)[:10], parts[0], *[parts[1]] * size, b"\3\0", tail]))
    return files


def _model():
    rng = np.random.default_rng(0)
    return layers.Sequential(
        [layers.Conv2D(1, 3, 3, rng=rng), layers.BatchNorm(3), layers.ReLU(), layers.Flatten(),
         layers.Dropout(0.5, rng=1), layers.Dense(12, 4, rng=rng)]
    )  # fmt: skip


def _run(model, optimizer):
    run = runs.Run(model, optimizer, 5, runs.History(["loss", "accuracy"]), False)
    run.generators = {"order": np.random.default_rng(3)}
    run.callbacks = (callbacks.EarlyStopping("loss"), callbacks.ReduceOnPlateau("loss"), print)
    return run


def _gan():
    rng = np.random.default_rng(0)
    return gan.GAN(
        layers.Sequential([layers.Dense(2, 4, activation="relu", rng=rng), layers.Dense(4, 2, rng=rng)]),
        layers.Sequential([layers.Dense(2, 4, activation="relu", rng=rng), layers.Dense(4, 1, rng=rng)]),
        noise=2,
    )


class Readers:
    """What reads files, what it reads into, and good files for it: {name: (read, state, files, damage)}."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.model, self.optimizer = _model(), optimizers.Adam()
        self.run, self.gan = _run(self.model, self.optimizer), _gan()
        self.table = {
            "load_idx": (datasets.load_idx, None, self.idx_files(), damaged_idx),
            "load_idx, mapped": (self.mapped, None, self.idx_files(), damaged_idx),
            "checkpoints.load": (checkpoints.load, None, self.weights(), damaged_safetensors),
            "checkpoints.load, model": (
                lambda path: checkpoints.load(path, self.model), self.model_state, self.weights(), damaged_safetensors,
            ),
            "Run.load": (self.run.load, self.run_state, self.run_files(), damaged_safetensors),
            "GAN.load": (self.gan.load, self.gan_state, self.gan_files(), damaged_safetensors),
        }  # fmt: skip

    @staticmethod
    def mapped(path):
        return datasets.load_idx(path, memory_map=True)

    def saved(self, save):
        path = self.folder / "good"
        save(path)
        return path.read_bytes()

    def idx_files(self):
        rng, files = np.random.default_rng(5), []
        for code, dtype in ((8, ">u1"), (9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")):
            for shape in ((7,), (3, 4, 5), (0, 4), (2, 1, 3, 2)):
                cells = rng.integers(0, 100, shape).astype(dtype)
                head = bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
                files += [head + cells.tobytes(), gzip.compress(head + cells.tobytes(), mtime=0)]
        return [*files, *bombs()]

    def weights(self):
        rng = np.random.default_rng(6)
        every = {str(name): rng.integers(0, 2, (2, 3)).astype(name) for name in ("f2", "f4", "f8", "?", "i1", "u8")}
        return [
            self.saved(lambda path: checkpoints.save(self.model, path)),
            self.saved(lambda path: checkpoints.save(every, path, metadata={"epoch": "3", "": "x"})),
            self.saved(lambda path: checkpoints.save({"": np.float32(1), "empty": np.zeros((0, 5))}, path)),
        ]

    def run_files(self):
        self.step()
        self.run.epoch = 2
        self.run.history.update({"loss": [2.0, 1.5], "accuracy": [0.5, 0.75]})
        for callback in self.run.callbacks[:2]:
            callback(self.run)
        return [self.saved(self.run.save)]

    def step(self):
        for parameter in self.model.parameters():
            parameter.grad = np.ones(parameter.shape, parameter.dtype)
        self.optimizer.step(self.model.parameters())

    def gan_files(self):
        x = np.random.default_rng(7).standard_normal((64, 2)).astype(np.float32)
        self.gan.fit(x, n_iterations=2, batch_size=16, progress=False)
        return [self.saved(self.gan.save)]

    def model_state(self):
        return [array.tobytes() for array in self.model.state_dict().values()]

    def run_state(self):
        run = self.run
        return [
            self.model_state(),
            {key: array.tobytes() for key, array in run.optimizer.state_dict(run.model.parameters()).items()},
            run.generators["order"].bit_generator.state, run.epoch, run.stopped, copy.deepcopy(dict(run.history)),
            [copy.deepcopy(callback.state) for callback in run.callbacks[:2]],
        ]  # fmt: skip

    def gan_state(self):
        networks = self.gan.generator, self.gan.discriminator
        return [array.tobytes() for network in networks for array in network.state_dict().values()]


class Fuzzer:
    """Cases of one seed; each depends on the seed and its number alone."""

    def __init__(self, seed, folder):
        self.seed, self.path = seed, Path(folder) / "case"
        self.readers = Readers(folder)
        self.good = {}
        for name, (read, _, files, _) in self.readers.table.items():
            self.path.write_bytes(files[0])
            read(self.path)
            self.good[name] = files[0]

    def draw(self, index):
        """(name of the reader, bytes of the file)"""
        draw = random.Random(f"{self.seed} {index}")
        name = draw.choice(list(self.readers.table))
        _, _, files, damage = self.readers.table[name]
        data = draw.choice(files)
        how = draw.random()
        if how < 0.65 and len(data) < 20_000:
            data = damage(data, draw)
        return name, data if 0.05 < how < 0.6 else damaged_bytes(data, draw)

    def run(self, index):
        """Read one damaged file; "name: refused" or "name: read", or Mismatch where the reader misbehaves."""
        name, data = self.draw(index)
        read, state, _, _ = self.readers.table[name]
        self.path.unlink(missing_ok=True)  # an earlier case may have it mapped
        self.path.write_bytes(data)
        before = state() if state else None
        tracemalloc.start()
        try:
            result = read(self.path)
        except ValueError as error:
            peak = tracemalloc.get_traced_memory()[1]
            where = name.split(",")[0].replace("Run.", "checkpoints.load_run").replace("load_runload", "load_run")
            if not str(error).startswith((f"{where}:", "checkpoints.load_run:")) or repr(str(self.path)) not in str(
                error
            ):
                raise Mismatch(f"{type(error).__name__} without function and file: {error}") from error
            outcome = "refused"
            if state and state() != before:
                raise Mismatch(f"changed what it reads into, then raised: {error}") from error
        else:
            peak, outcome = tracemalloc.get_traced_memory()[1], "read"
            self.check_result(name, result)
        finally:
            tracemalloc.stop()
        if peak > self.allowed(name, len(data)):
            raise Mismatch(f"took {peak:,} bytes for a file of {len(data):,}")
        if outcome == "read" and state:  # back to a good state for the next case
            self.path.write_bytes(self.good[name])
            read(self.path)
        return f"{name}: {outcome}"

    @staticmethod
    def allowed(name, size):
        if name == "load_idx":  # compressed files: what they may expand to, with one copy in native byte order
            return FLOOR + 2.3 * max(datasets.LARGEST_UNPACKED, datasets.LARGEST_RATIO * size)
        return FLOOR + TIMES * size

    @staticmethod
    def check_result(name, result):
        for array in result.values() if isinstance(result, dict) else [result]:
            if isinstance(array, np.ndarray):
                if array.dtype == object or not array.dtype.isnative:
                    raise Mismatch(f"returned {array.dtype}")
                np.array_equal(array, array)  # reads every cell
            elif not isinstance(array, gan.GAN) and array is not None:
                raise Mismatch(f"returned {type(array).__name__}")


def limit_address_space():
    """No more than SPACE beyond what the process has: allocations of other libraries count as well."""
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPACE, used + SPACE))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--keep", help="write the file of the first case here and stop")
    given = parser.parse_args(arguments)
    started, counts, failed = time.process_time(), collections.Counter(), 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        fuzzer = Fuzzer(given.seed, folder)
        if given.keep:
            name, data = fuzzer.draw(given.first)
            Path(given.keep).write_bytes(data)
            print(f"{name}: {len(data)} bytes")
            return 0
        if sys.platform.startswith("linux"):
            limit_address_space()
        for index in range(given.first, given.first + given.cases):
            try:
                counts[fuzzer.run(index)] += 1
            except BaseException as error:
                if isinstance(error, (KeyboardInterrupt, SystemExit)):
                    raise
                failed += 1
                if failed <= MOST_SHOWN:
                    print(
                        f"seed {given.seed} case {index}: {fuzzer.draw(index)[0]}: {type(error).__name__}: {error}"[
                            :600
                        ]
                    )
                    if not isinstance(error, Mismatch):
                        print("  " + "".join(traceback.format_tb(error.__traceback__)[-2:]).rstrip(), flush=True)
                fuzzer = Fuzzer(given.seed, folder)
    for what in sorted(counts):
        print(f"{counts[what]:>9,} {what}")
    print(f"{given.cases} files of seed {given.seed} from {given.first}, {failed} failed, "
          f"{time.process_time() - started:.0f} s")  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
