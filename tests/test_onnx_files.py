"""ONNX models from files: large matrices read one at a time, and a short run of the fuzzer in tests/fuzz/models.py."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import helper, numpy_helper

import convgrad
from convgrad.integrations import onnx as backend
from convgrad.integrations.onnx import graph as graphs
from convgrad.integrations.onnx import operators

FOLDER = Path(__file__).parent / "fuzz"
sys.path.insert(0, str(FOLDER))

import models  # noqa: E402  (a program of a folder, not a package)

PACKAGE = Path(convgrad.__file__).parent

# ---------------------------------------------------------------- large matrices


def write(path, nodes, constants, shape=(2, 300), **options):
    """A model file of (operator, inputs, outputs, attributes) nodes with input x and output y."""
    graph = helper.make_graph(
        [helper.make_node(op, i.split(), o.split(), name=f"n{k}", **a) for k, (op, i, o, a) in enumerate(nodes)],
        "g",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path, **options)
    return path


def matrix(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


CHAIN = [("Gemm", "x a", "h", dict(transB=1)), ("Relu", "h", "i", {}), ("MatMul", "i b", "y", {})]


@pytest.mark.parametrize("shape", [(2, 300), ("n", 300)], ids=str)
@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize(
    "nodes",
    [
        CHAIN,
        [("Gemm", "x a", "h", dict(transB=1, alpha=0.5)), ("MatMul", "h b", "y", {})],
        [("Gemm", "x a", "h", dict(transB=1)), ("Mul", "h s", "i", {}), ("MatMul", "i b", "y", {})],
        [("Gemm", "x a", "h", dict(transB=1)), ("Gemm", "x a", "i", dict(transB=1)), ("Add", "h i", "y", {})],
        [("MatMul", "x b", "h", {}), ("Add", "h b", "y", {})],
        [("Transpose", "a", "c", dict(perm=[1, 0])), ("MatMul", "x c", "y", {})],
        [("MatMul", "x b", "h", {}), ("Gemm", "h a b", "y", dict(transB=1))],
    ],
    ids=["chain", "alpha", "scaled", "shared", "added", "folded", "bias"],
)
def test_matrices_read_late_are_the_same(tmp_path, rng, monkeypatch, nodes, external, shape):
    size = 300
    constants = {"a": matrix(rng, size, size), "b": matrix(rng, size, size), "s": matrix(rng, size)}
    if nodes[-1][1] in ("h b", "h a b"):
        shape = (size, size)
    options = dict(save_as_external_data=True, location="data.bin") if external else {}
    path = write(tmp_path / "m.onnx", nodes, constants, shape, **options)
    x = matrix(rng, shape[0] if isinstance(shape[0], int) else 3, size)
    (expected,) = backend.run_model(path, [x])
    assert not graphs.read(path).unread
    monkeypatch.setattr(graphs, "LATER", 1 << 17)
    read = graphs.read(path)
    assert sorted(read.unread) == ["a", "b"]
    prepared = backend.prepare(path)
    if not external:
        path.unlink()  # nothing is read after `prepare`
    for _ in range(3):
        np.testing.assert_array_equal(prepared.run([x])[0], expected)


def test_only_one_large_matrix_lies_beside_its_packed_form(tmp_path, rng, monkeypatch):
    """Four matrices of 4 MB: packed memory is not NumPy's, so what tracemalloc sees is what was read."""
    monkeypatch.setattr(graphs, "LATER", 1 << 20)
    nodes = [("MatMul", f"{'xabc'[k]} w{k}", "abcy"[k], {}) for k in range(4)]
    path = write(tmp_path / "m.onnx", nodes, {f"w{k}": matrix(rng, 1000, 1000) for k in range(4)}, (1, 1000))
    del nodes
    reads = []
    fill = graphs.Unread.read
    monkeypatch.setattr(graphs.Unread, "read", lambda self: (reads.append(alive()), fill(self))[1])
    arrays = []
    make = graphs._from_file
    monkeypatch.setattr(graphs, "_from_file", lambda *a: arrays.append(weak(make(*a))) or arrays[-1]())

    def weak(array):
        import weakref

        return weakref.ref(array)

    def alive():
        return sum(array() is not None for array in arrays)

    prepared = backend.prepare(path)
    assert reads == [4, 3, 2, 1]
    assert alive() == 0
    assert prepared.run([np.ones((1, 1000), np.float32)])[0].shape == (1, 1000)


def test_a_file_cut_while_it_is_read_is_refused(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(graphs, "LATER", 1 << 17)
    path = write(tmp_path / "m.onnx", CHAIN, {"a": matrix(rng, 300, 300), "b": matrix(rng, 300, 300)})
    read = graphs.read(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(backend.ModelError, match=r"'m.onnx' became \d+ bytes too short while it was read"):
        read.read(["a"])


# ---------------------------------------------------------------- hostile files


def test_a_short_run_of_the_fuzzer():
    """In a process of its own, whose address space is limited."""
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, FOLDER / "models.py", "--cases", "2000", "--seed", "31"],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2000 models of seed 31 from 0, 0 failed" in done.stdout
    for outcome in ("ran", "refused", "unsupported"):
        assert f" {outcome}\n" in done.stdout


@pytest.fixture
def fuzzer(tmp_path):
    return models.Fuzzer(31, tmp_path)


def test_the_models_it_starts_from_are_sound(fuzzer):
    for data in fuzzer.models:
        prepared = backend.prepare(data)
        assert np.isfinite(prepared.run([np.ones(prepared.ports[0].shape, np.float32)])[0]).all()


def failures(fuzzer, cases=400):
    found = set()
    for index in range(cases):
        try:
            fuzzer.run(index)
        except Exception as error:
            found.add(str(error)[:10] if isinstance(error, models.Mismatch) else type(error).__name__)
    return found


def test_it_notices_what_is_opened_outside_the_folder(fuzzer, monkeypatch):
    monkeypatch.setattr(Path, "is_relative_to", lambda self, other: True)
    assert "opened " in {failure[:7] for failure in failures(fuzzer)}


def test_it_notices_other_errors(fuzzer, monkeypatch):
    monkeypatch.setattr(graphs, "check_size", lambda *a: None)
    assert failures(fuzzer) & {"MemoryError", "TypeError", "ValueError", "OverflowError"}


@pytest.mark.parametrize("variance", [np.ones(5, np.float32), np.ones((4, 1), np.float32)], ids=["long", "column"])
def test_norms_whose_parameters_differ_in_shape(tmp_path, rng, variance):
    constants = {name: matrix(rng, 4) for name in "sbm"} | {"v": variance}
    path = write(tmp_path / "m.onnx", [("BatchNormalization", "x s b m v", "y", {})], constants, (2, 4))
    with pytest.raises(backend.ModelError, match="scale, B, mean and variance must have one shape"):
        backend.prepare(path)


@pytest.mark.parametrize("size", [1, 2, 4, 7, 2**40])
def test_normalisation_over_more_channels_than_there_are(tmp_path, rng, monkeypatch, size):
    monkeypatch.setattr(operators, "_CACHED", 5 * 4 * 20)  # 20 columns at a time, of 7 x 7
    path = write(tmp_path / "m.onnx", [("LRN", "x", "y", dict(size=size, alpha=0.5, bias=2.0))], {}, (2, 5, 7, 7))
    x = matrix(rng, 2, 5, 7, 7)
    before, after = (size - 1) // 2, size // 2
    sums = [np.square(x[:, max(0, c - before) : c + after + 1]).sum(1) for c in range(5)]
    expected = x / (2 + 0.5 / size * np.stack(sums, 1)) ** 0.75
    np.testing.assert_allclose(backend.run_model(path, [x])[0], expected, rtol=1e-5)


def test_attributes_of_another_type(tmp_path):
    path = write(tmp_path / "m.onnx", [("Softmax", "x", "y", {"axis": 1.0})], {})
    with pytest.raises(backend.ModelError, match="attribute 'axis' is of type FLOAT, not INT"):
        backend.prepare(path)
    path = write(tmp_path / "m.onnx", [("Cast", "x", "y", {"to": 99})], {})
    with pytest.raises(backend.ModelError, match="Cast has the unknown element type 99"):
        backend.prepare(path)


@pytest.mark.parametrize(
    "location", ["a" * 5000, "w.bin\0", "loop.bin", "pipe", "sub/up/secret.bin", "..", "/dev/zero"]
)
def test_places_that_are_no_file_in_the_folder(fuzzer, location):
    model = onnx.ModelProto.FromString(fuzzer.models[0])
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (fuzzer.folder / "case.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(backend.ModelError, match="not a file inside the model's folder"):
        backend.prepare(fuzzer.folder / "case.onnx")
