"""Damaged files: a short run of tests/fuzz/files.py, that it speaks, what it found, and no pickle anywhere."""

import ast
import gzip
import json
import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import convgrad
from convgrad import callbacks, checkpoints, datasets, gan, layers, optimizers, runs

pytest.importorskip("safetensors")
FOLDER = Path(__file__).parent / "fuzz"
sys.path.insert(0, str(FOLDER))

import files  # noqa: E402  (a program of a folder, not a package)

PACKAGE = Path(convgrad.__file__).parent


def test_a_short_run():
    """In a process of its own, whose address space is limited."""
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, FOLDER / "files.py", "--cases", "4000", "--seed", "20"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4000 files of seed 20 from 0, 0 failed" in done.stdout
    for name in ("load_idx", "load_idx, mapped", "checkpoints.load", "checkpoints.load, model", "Run.load", "GAN.load"):
        assert f"{name}: refused" in done.stdout
        assert f"{name}: read" in done.stdout


# ---------------------------------------------------------------------------------------------------------------------
# The fuzzer speaks
# ---------------------------------------------------------------------------------------------------------------------


def first_failure(fuzzer, cases=300):
    for index in range(cases):
        try:
            fuzzer.run(index)
        except files.Mismatch as error:
            return str(error)
        except Exception as error:
            return type(error).__name__
    return None


@pytest.fixture
def fuzzer(tmp_path):
    return files.Fuzzer(20, tmp_path)


def replaced(fuzzer, name, read):
    """The fuzzer with another reader in place of one, and no others."""
    _, state, good, damage = fuzzer.readers.table[name]
    fuzzer.readers.table = {name: (read, state, good, damage)}
    return fuzzer


def test_it_notices_errors_of_other_kinds(fuzzer):
    def read(path):
        data = Path(path).read_bytes()
        return np.zeros({0: 1}[data[0]])

    assert first_failure(replaced(fuzzer, "load_idx", read)) == "KeyError"


def test_it_notices_messages_that_name_no_file(fuzzer):
    read = lambda path: np.frombuffer(Path(path).read_bytes(), np.int64)
    assert "without function and file" in first_failure(replaced(fuzzer, "load_idx", read))


def test_it_notices_memory(fuzzer):
    def read(path):
        data = Path(path).read_bytes()
        return np.zeros(min(1 << 25, int.from_bytes(data[4:8], "big")), np.uint8)  # as the header claims

    assert "took" in first_failure(replaced(fuzzer, "load_idx, mapped", read))


def test_it_notices_readers_that_change_what_they_read_into(fuzzer):
    def read(path):
        fuzzer.readers.model.parameters()[0].data[...] += 1
        return checkpoints.load(path, fuzzer.readers.model)

    said = first_failure(replaced(fuzzer, "checkpoints.load, model", read))
    assert said.startswith("changed what it reads into")


def test_it_notices_strange_results(fuzzer):
    assert first_failure(replaced(fuzzer, "load_idx", lambda path: np.array([None]))) == "returned object"


def test_a_case_is_the_same_whenever_it_is_drawn(fuzzer, tmp_path):
    (tmp_path / "other").mkdir()
    other = files.Fuzzer(20, tmp_path / "other")
    for index in (5, 3):
        assert fuzzer.draw(index) == fuzzer.draw(index)
        assert fuzzer.draw(index)[0] == other.draw(index)[0]


# ---------------------------------------------------------------------------------------------------------------------
# What it found
# ---------------------------------------------------------------------------------------------------------------------


def test_a_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.gz"
    claimed = 200 << 20
    path.write_bytes(gzip.compress(b"\0\0\x08\1" + struct.pack(">I", claimed) + bytes(claimed), 1))
    packed = path.stat().st_size
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught:
            datasets.load_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert str(caught.value) == (
        f"load_idx: {str(path)!r} claims {claimed} bytes, more than 64 times the {packed} of the compressed file; "
        "unpack it first if you trust it"
    )


def test_well_compressed_files_of_ordinary_size_are_read(tmp_path):
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\1" + struct.pack(">I", 10_000_000) + bytes(10_000_000)))
    labels = datasets.load_idx(path)
    assert labels.shape == (10_000_000,)
    assert not labels.any()


def test_what_cannot_be_mapped_and_what_is_empty(tmp_path):
    head = b"\0\0\x08\2" + struct.pack(">II", 0, 4)
    (tmp_path / "empty").write_bytes(head)
    assert datasets.load_idx(tmp_path / "empty", memory_map=True).shape == (0, 4)
    (tmp_path / "packed").write_bytes(gzip.compress(head))
    assert datasets.load_idx(tmp_path / "packed").shape == (0, 4)
    with pytest.raises(ValueError) as caught:
        datasets.load_idx(tmp_path / "packed", memory_map=True)
    assert str(caught.value) == (
        f"load_idx: {str(tmp_path / 'packed')!r} is compressed; unpack it first to map it into memory"
    )


def changed_run(path, change):
    """Rewrite the notes within a file of `save_run`."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    run = json.loads(header["__metadata__"]["convgrad.run"])
    change(run["notes"])
    header["__metadata__"]["convgrad.run"] = json.dumps(run)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def small_run():
    run = runs.Run(
        layers.Sequential([layers.Dense(2, 3, rng=0)]), optimizers.Adam(), 3, runs.History(["loss"]), progress=False
    )
    run.callbacks = (callbacks.EarlyStopping("loss"), print)
    run.epoch, run.history["loss"] = 2, [2.0, 1.0]
    return run


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda notes: notes.pop("stopped"), "its notes say something else ('stopped')"),
        (lambda notes: notes.update(stopped="no"), "epoch 2, stopped 'no'"),
        (lambda notes: notes.update(epoch=2.0), "epoch 2.0, stopped False"),
        (lambda notes: notes.update(epoch=3), "epoch 3 does not fit its history"),
        (lambda notes: notes["history"].update(loss=[1.0]), "epoch 2 does not fit its history"),
        (lambda notes: notes["history"].update(loss=[1.0, "x"]), "unsupported operand"),
        (lambda notes: notes["callbacks"][0].update(waited=None), "a callback's 'waited' is None, here it is 0"),
        (lambda notes: notes["callbacks"][0].update(best=[1]), "a callback's 'best' is [1], here it is None"),
        (lambda notes: notes["callbacks"][0].pop("best_epoch"), "its notes say something else ('best_epoch')"),
        (lambda notes: notes["callbacks"].pop(), "it was saved with other callbacks"),
    ],
)
def test_a_run_with_other_notes_is_refused_and_nothing_changes(tmp_path, change, says):
    path, run = tmp_path / "run", small_run()
    run.save(path)
    run.load(path)
    changed_run(path, change)
    run.model.parameters()[0].data[...] = 5
    before = run.epoch, run.stopped, dict(run.history), dict(run.callbacks[0].state)
    with pytest.raises(ValueError) as caught:
        run.load(path)
    assert str(caught.value).startswith(
        f"checkpoints.load_run: {str(path)!r} does not fit: its notes say something else"
    )
    assert says in str(caught.value)
    assert (run.epoch, run.stopped, dict(run.history), dict(run.callbacks[0].state)) == before
    assert (run.model.parameters()[0].data == 5).all()


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda notes: notes.update(seed=float("nan")), "its seed is nan"),
        (lambda notes: notes.update(seed=-1), "its seed is -1"),
        (lambda notes: notes.update(seed="1"), "its seed is '1'"),
        (lambda notes: notes.update(iteration=0.0), "iteration 0.0 does not fit its history"),
    ],
)
def test_a_gan_with_other_notes_is_refused(tmp_path, change, says):
    dense = lambda *sizes: layers.Sequential([layers.Dense(*sizes, rng=0)])
    model, path = gan.GAN(dense(2, 2), dense(2, 1), noise=2, seed=4), tmp_path / "gan"
    model.save(path)
    assert model.load(path) is model
    changed_run(path, change)
    with pytest.raises(ValueError) as caught:
        model.load(path)
    assert says in str(caught.value)
    assert (model.seed, model.iteration) == (4, 0)


# ---------------------------------------------------------------------------------------------------------------------
# Nothing in a file is executed
# ---------------------------------------------------------------------------------------------------------------------

EXECUTES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def test_no_pickle_anywhere():
    """No module of the package imports what executes files; np.load never may; nothing is evaluated."""
    sources = sorted(PACKAGE.rglob("*.py"))
    assert len(sources) > 50
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                assert not {name.name.split(".")[0] for name in node.names} & EXECUTES, where
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in EXECUTES, where
            elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), where
                assert node.value.value is False, where
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "torch.load"), where
                if called in ("np.load", "numpy.load"):
                    assert any(keyword.arg == "allow_pickle" for keyword in node.keywords), where
    for path in sorted(Path(__file__).parents[1].glob("src/convgrad/_native/*.pyx")):
        assert "pickle" not in path.read_text(encoding="utf-8"), path.name


def test_a_pickle_in_place_of_a_checkpoint_is_refused(tmp_path):
    import pickle

    class Planted:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    for name, content in (("a", pickle.dumps(Planted())), ("b", b"\0\0\x08\1" + pickle.dumps(Planted()))):
        (tmp_path / name).write_bytes(content)
        for read in (datasets.load_idx, checkpoints.load, small_run().load):
            with pytest.raises(ValueError):
                read(tmp_path / name)
    assert not (tmp_path / "executed").exists()
