"""ONNX models whose first steps run sample by sample: same bits, less memory, every node's time told once."""

import threading

import numpy as np
import pytest

pytest.importorskip("onnx")

from test_onnx import chain, check, dense_block, model_of, norm_constants, normal

import convgrad
from convgrad.integrations import onnx as backend
from convgrad.integrations.onnx import program as programs
from convgrad.integrations.onnx import slices


@pytest.fixture
def sliced(monkeypatch):
    """Whatever may run sample by sample does."""
    monkeypatch.setattr(slices, "CACHED", 0)
    monkeypatch.setattr(slices, "CALL", 0)
    monkeypatch.setattr(slices, "_weight_bytes", lambda node: 0)


def whole(model, feeds):
    """The outputs of a model no step of which runs sample by sample."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "cut", lambda *given: 0)
        prepared = backend.prepare(model)
        prepared.run(feeds)
        outputs = prepared.run(feeds)
        (program,) = prepared._programs.values()
        assert not program._workers
    return outputs, program


def same_bits(model, feeds, threads=1):
    """Prepare and run the model several times with slices; every bit is that of a run without. Returns its program."""
    with convgrad.threads(threads):
        expected, _ = whole(model, feeds)
        prepared = backend.prepare(model)
        runs = [prepared.run(feeds) for _ in range(3)]
    for outputs in runs:
        for actual, wanted in zip(outputs, expected, strict=True):
            assert (actual.dtype, actual.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_array_equal(actual, wanted)
    assert not any(np.may_share_memory(a, b) for a in runs[0] for b in runs[2])
    (program,) = prepared._programs.values()
    return program


def names(program):
    """Of the nodes that run sample by sample, and of the others."""
    first = [step.node.name for step in program._workers[0].steps] if program._workers else []
    return first, [step.node.name for step in program.rest.steps]


def network(rng, batch):
    """Two inputs; residuals, concatenations, norms and pools; an output and values read later made on the way."""
    constants = norm_constants(rng, 24) | {
        "w": normal(rng, 16, 3, 3, 3) / 4, "v": normal(rng, 16, 16, 1, 1) / 4, "u": normal(rng, 8, 16, 3, 3) / 8,
        "t": normal(rng, 8, 24, 2, 2) / 4, "scale": normal(rng, 24, 1, 1), "slope": normal(rng, 8, 1, 1),
        "low": np.float32(-3), "f": normal(rng, 24 * 25, 10) / 8,
    }  # fmt: skip
    pads = dict(pads=[1, 1, 1, 1])
    nodes = [
        ("Conv", "x w", "a", pads),
        ("Relu", "a", "a1", {}),
        ("Conv", "a1 v", "b", {}),
        ("Add", "b a1", "c", {}),
        ("Relu", "c", "c1", {}),
        ("Add", "c1 z", "d", {}),
        ("Conv", "d u", "e", pads),
        ("PRelu", "e slope", "e1", {}),
        ("Concat", "e1 c1", "g", dict(axis=1)),
        ("BatchNormalization", "g bn_s bn_b bn_m bn_v", "h", {}),
        ("Tanh", "h", "h1", {}),
        ("LRN", "h1", "l", dict(size=3, beta=0.5)),
        ("ConvTranspose", "e1 t", "m", dict(strides=[2, 2])),
        ("MaxPool", "m", "p", dict(kernel_shape=[2, 2], strides=[2, 2])),
        ("Mul", "p scale", "q", {}),
        ("Max", "q l low", "r", {}),
        ("Softmax", "r", "s", dict(axis=1)),
        ("AveragePool", "s", "k", dict(kernel_shape=[3, 3], strides=[3, 3])),
        ("Flatten", "k", "k1", {}),
        ("MatMul", "k1 f", "y", {}),
        ("ReduceMean", "r", "y2", dict(axes=[0], keepdims=0)),
        ("Transpose", "h1", "y3", dict(perm=[1, 0, 2, 3])),
        ("Neg", "y3", "y4", {}),
    ]
    shapes = {"x": (batch, 3, 16, 16), "z": (batch, 16, 16, 16)}
    model = model_of(nodes, shapes, "y y2 y4 d k", constants)
    return model, {name: normal(rng, *shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("batch", [1, 2, 4, 6, 7, 8])
def test_same_bits_and_less_memory(rng, sliced, batch, threads):
    model, feeds = network(rng, batch)
    program = same_bits(model, feeds, threads)
    first, rest = names(program)
    busy = batch / (threads * -(-batch // threads))
    assert len(program._workers) == (threads if batch > 1 and busy >= slices.BUSY else 0)
    if program._workers:
        assert (first[0], first[-1]) == ("n0", "n17")
        assert rest == ["n18", "n19", "n20", "n22"]  # n21 makes a view, once
        if batch >= 4 * threads:
            assert program.block.nbytes < whole(model, feeds)[1].block.nbytes
    check(model, feeds, 1e-4)


def test_memory_is_that_of_one_sample_for_each_thread(rng, sliced):
    nodes, constants = chain(rng, 6)
    nodes.append(("GlobalAveragePool", "x6", "y", {}))
    model = model_of(nodes, {"x0": (8, 8, 16, 16)}, "y", constants)
    feeds = {"x0": normal(rng, 8, 8, 16, 16)}
    for threads in (1, 2, 4):
        program = same_bits(model, feeds, threads)
        assert program.block.nbytes <= threads * 2 * 4 * 8 * 16 * 16 + programs.ALIGNMENT
        assert program.rest.steps == []


def test_dense_blocks_are_joined_sample_by_sample(rng, sliced):
    nodes, constants = dense_block(rng)
    program = same_bits(model_of(nodes, {"x": (3, 8, 13, 13)}, "y", constants), {"x": normal(rng, 3, 8, 13, 13)})
    assert program.block.nbytes <= -(-4 * 24 * 169 // 64) * 64 + programs.ALIGNMENT


def test_what_crosses_may_be_joined_written_over_and_viewed(rng, sliced):
    nodes = [
        ("Relu", "x", "a", {}),
        ("Sigmoid", "x", "b", {}),
        ("Neg", "a", "c", {}),
        ("Concat", "b c", "d", dict(axis=0)),  # of the batch: the first that needs it whole
        ("Abs", "c", "e", {}),
        ("Slice", "a s0 s1", "f", {}),
        ("Add", "f e", "g", {}),
        ("Concat", "d g", "y", dict(axis=0)),
    ]
    constants = {"s0": np.array([0]), "s1": np.array([4])}
    program = same_bits(model_of(nodes, {"x": (4, 6)}, "y a", constants), {"x": normal(rng, 4, 6)})
    assert names(program)[0] == ["n0", "n1", "n2"]


@pytest.mark.parametrize("threads", [1, 2])
def test_random_graphs_have_the_same_bits(rng, sliced, threads):
    """Layers, sums and concatenations in random order: any flaw of the plan shows as a wrong number."""
    lengths = set()
    for _ in range(25):
        made, nodes = ["x", "z"], []
        for i in range(16):
            op = rng.choice(["Relu", "Tanh", "Neg", "Add", "Mul", "Concat", "Conv", "Residual", "MaxPool", "Flatten"])
            a, b = rng.choice(made[-5:], 2)
            o = f"v{i}"
            if op in ("Add", "Mul"):
                nodes.append((op, f"{a} {b}", o, {}))
            elif op == "Concat":
                nodes += [(op, f"{a} {b}", f"{o}c", dict(axis=1)), ("Conv", f"{o}c half", o, {})]
            elif op == "Conv":
                nodes.append((op, f"{a} {rng.choice(['w1', 'w3'])}", o, dict(auto_pad="SAME_UPPER")))
            elif op == "Residual":
                nodes += [("Conv", f"{a} w1", f"{o}r", {}), ("Add", f"{b} {o}r", f"{o}s", {}), ("Relu", f"{o}s", o, {})]
            elif op == "MaxPool":
                nodes.append((op, a, o, dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1])))
            elif op == "Flatten" and i > 8:
                nodes += [(op, a, f"{o}f", {}), ("Reshape", f"{o}f shape", o, {})]
            else:
                nodes.append(("Relu" if op == "Flatten" else op, a, o, {}))
            made.append(o)
        constants = {
            "w1": normal(rng, 16, 16, 1, 1) / 4, "w3": normal(rng, 16, 16, 3, 3) / 12,
            "half": normal(rng, 16, 32, 1, 1) / 6, "shape": np.array([0, 16, 13, 13]),
        }  # fmt: skip
        shape = (4, 16, 13, 13)
        model = model_of(nodes, {"x": shape, "z": shape}, f"{made[-1]} {made[-4]} {made[6]}", constants)
        program = same_bits(model, {"x": normal(rng, *shape), "z": normal(rng, *shape)}, threads)
        lengths.add(len(names(program)[0]))
    assert len(lengths) > 1
    assert min(lengths) > 0


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Flatten", "x", {}),
        ("Transpose", "x", dict(perm=[1, 0, 2, 3])),
        ("Concat", "x x", dict(axis=0)),
        ("Concat", "x samples", dict(axis=1)),
        ("Softmax", "x", dict(axis=0)),
        ("MatMul", "x w", {}),
        ("Add", "x samples", {}),
        ("Add", "x z", {}),
        ("Add", "rows x", {}),
        ("Where", "truth x samples", {}),
        ("Exp", "x", {}),
        ("Mean", "x x", {}),
        ("ReduceSum", "x", dict(keepdims=1)),
        ("BatchNormalization", "x c c c z1", {}),
        ("Conv", "x v", {}),
    ],
    ids=lambda value: str(value).replace(" ", "-"),
)
def test_other_nodes_end_the_slices(rng, sliced, op, inputs, attributes):
    constants = {
        "samples": normal(rng, 4, 4, 5, 5), "w": normal(rng, 5, 5), "c": np.ones(4, np.float32),
        "truth": np.ones((4, 1, 1, 1), bool),
    }  # fmt: skip
    given = {"z": (1, 4, 5, 5), "rows": (5,), "z1": (4,), "v": (4, 4, 1, 1)}
    shapes = {"x": (4, 4, 5, 5)} | {name: given[name] for name in inputs.split() if name in given}
    nodes = [("Relu", "x", "a", {}), (op, inputs.replace("x", "a"), "y", attributes)]
    feeds = {name: np.abs(normal(rng, *shape)) for name, shape in shapes.items()}
    program = same_bits(model_of(nodes, shapes, "y", constants), feeds)
    assert names(program)[0] == ["n0"]


@pytest.mark.parametrize("batch", [1, 4])
def test_inputs_of_any_strides(rng, sliced, batch):
    """Also as what a convolution adds."""
    nodes = [("Conv", "x w", "a", {}), ("Add", "a x", "y", {})]
    model = model_of(nodes, {"x": (batch, 16, 14, 13)}, "y", {"w": normal(rng, 16, 16, 1, 1)})
    x = normal(rng, 14, 16, 13, batch).transpose(3, 1, 0, 2)
    same_bits(model, {"x": x})
    check(model, {"x": x}, 1e-4)


# ---------------------------------------------------------------- the rule


def test_weights_and_calls_decide_where_the_cut_lies(rng, monkeypatch):
    nodes = [
        ("Conv", "x w", "a", dict(pads=[1, 1, 1, 1])),
        ("MaxPool", "a", "b", dict(kernel_shape=[4, 4], strides=[4, 4])),
        ("Conv", "b v", "c", dict(pads=[1, 1, 1, 1])),
        ("ReduceMean", "c", "y", {}),
    ]
    constants = {"w": normal(rng, 8, 3, 3, 3), "v": normal(rng, 64, 8, 3, 3)}
    model = model_of(nodes, {"x": (4, 3, 52, 52)}, "y", constants)
    feeds = {"x": normal(rng, 4, 3, 52, 52)}

    def cut_at():
        return len(names(same_bits(model, feeds))[0])

    assert cut_at() == 0  # everything fits
    monkeypatch.setattr(slices, "CACHED", 20_000)
    monkeypatch.setattr(slices, "CALL", 0)
    # Bytes read and written: 475,904, 367,744 and 194,688. Weights: 864 and 18,432, in Winograd's form four times as
    # many, for each of three more samples.
    assert cut_at() == 2
    monkeypatch.setattr(slices, "WINOGRAD", 1)
    assert cut_at() == 3
    monkeypatch.setattr(slices, "CALL", 60_000)
    assert cut_at() == 2
    monkeypatch.setattr(slices, "CALL", 150_000)
    assert cut_at() == 1
    monkeypatch.setattr(slices, "CALL", 200_000)
    assert cut_at() == 0


def test_each_node_is_told_once(rng, sliced):
    model, feeds = network(rng, 4)
    with convgrad.threads(2):
        prepared = backend.prepare(model)
        outputs, rows = prepared.profile(feeds)
        again, _ = prepared.profile(feeds)
    (program,) = prepared._programs.values()
    assert [name for name, _, _ in rows] == [name for part in names(program) for name in part]
    assert len({name for name, _, _ in rows}) == len(rows)
    assert all(second > 0 for _, _, second in rows)
    assert program.times == {}
    for a, b in zip(outputs, again, strict=True):
        np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------- threads


@pytest.mark.parametrize(
    ("planned", "allowed", "workers", "each"), [(4, 4, 4, 1), (4, 2, 2, 1), (4, 1, 1, 1), (1, 3, 1, 3)]
)
def test_the_limit_of_threads_holds(rng, sliced, monkeypatch, planned, allowed, workers, each):
    nodes, constants = chain(rng, 3)
    model = model_of(nodes, {"x0": (8, 8, 16, 16)}, "x3", constants)
    x = normal(rng, 8, 8, 16, 16)
    with convgrad.threads(planned):
        prepared = backend.prepare(model)
        expected = prepared.run([x])[0]
    met, limits, run = threading.Barrier(workers), [], programs.Plan.run

    def watched(plan, table, times):
        if plan.steps:
            if plan not in plans:
                plans.append(plan)
                met.wait(30)  # all of them at the same time
            limits.append(convgrad.get_num_threads())
        return run(plan, table, times)

    plans = []
    monkeypatch.setattr(programs.Plan, "run", watched)
    before = threading.active_count()
    with convgrad.threads(allowed):
        actual = prepared.run([x])[0]
    assert len(plans) == workers
    assert limits == [each] * 8
    assert threading.active_count() == before
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("where", [0, 1])
def test_a_workers_error_is_the_callers(rng, sliced, monkeypatch, where):
    nodes, constants = chain(rng, 2)
    x = normal(rng, 4, 8, 16, 16)
    with convgrad.threads(2):
        prepared = backend.prepare(model_of(nodes, {"x0": x.shape}, "x2", constants))
        expected = prepared.run([x])[0]
        (program,) = prepared._programs.values()
        run, met = programs.Plan.run, threading.Barrier(2)

        def fails(plan, table, times):
            if plan is program._workers[where]:
                met.wait(30)
                raise MemoryError("none left")
            if plan is program._workers[1 - where] and plan not in begun:
                begun.append(plan)
                met.wait(30)
            run(plan, table, times)

        begun = []
        with monkeypatch.context() as patch:
            patch.setattr(programs.Plan, "run", fails)
            with pytest.raises(MemoryError, match="none left"):
                prepared.run([x])
        np.testing.assert_array_equal(prepared.run([x])[0], expected)
