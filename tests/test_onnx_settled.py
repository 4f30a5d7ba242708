"""Settled runs of ONNX models: steps go to their kernels without checks and give what the first run gave."""

import numpy as np
import pytest

pytest.importorskip("onnx")

from test_onnx import check, model_of, normal

import convgrad
from convgrad.integrations import onnx as backend

WINDOW = dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0])


def steps(prepared):
    (program,) = prepared._programs.values()
    return {step.node.op: step for step in program.steps}


@pytest.mark.parametrize("op, attributes", [
    ("MaxPool", WINDOW),
    ("AveragePool", WINDOW),
    ("AveragePool", {**WINDOW, "count_include_pad": 1, "ceil_mode": 1}),
    ("GlobalAveragePool", {}),
    ("GlobalMaxPool", {}),
    ("LeakyRelu", {"alpha": 0.3}),
    ("Sigmoid", {}),
    ("Softmax", {"axis": 1}),
    ("Softmax", {"axis": -1}),
    ("LogSoftmax", {"axis": 1}),
])  # fmt: skip
@pytest.mark.parametrize("place", ["first", "between", "last"])
def test_steps_are_bound(op, attributes, place, rng):
    nodes = [("Neg", "x", "a", {}), (op, "a", "b", attributes), ("Neg", "b", "y", {})]
    if place == "first":
        nodes = [(op, "x", "b", attributes), ("Neg", "b", "y", {})]
    elif place == "last":
        nodes = [("Neg", "x", "a", {}), (op, "a", "y", attributes)]
    x = normal(rng, 2, 5, 9, 7)
    prepared = check(model_of(nodes, {"x": x.shape}, "y"), {"x": x})
    step = steps(prepared)[op]
    assert step.bound is not None
    assert (step.arguments is not None) == (place == "between")
    for other in (np.asfortranarray(x), normal(rng, 4, 5, 9, 7)[::2], normal(rng, 2, 5, 9, 14)[:, :, :, ::2]):
        copy = np.ascontiguousarray(other)
        assert prepared.run(other)[0].tobytes() == prepared.run(copy)[0].tobytes()


def test_softmax_of_old_operator_sets_takes_all_axes_from_one_on(rng):
    nodes = [("Neg", "x", "a", {}), ("Softmax", "a", "b", {"axis": 2}), ("Neg", "b", "y", {})]
    x = normal(rng, 2, 5, 9, 7)
    prepared = backend.prepare(model_of(nodes, {"x": x.shape}, "y", opset=11))
    e = np.exp(-x.astype(np.float64))
    for _ in range(3):
        np.testing.assert_allclose(prepared.run(x)[0], -e / e.sum(axis=(2, 3), keepdims=True), rtol=1e-5)
    assert steps(prepared)["Softmax"].arguments is not None


@pytest.mark.parametrize("op, attributes", [("MaxPool", {**WINDOW, "dilations": [2, 1]}), ("MaxPool", WINDOW),
                                            ("AveragePool", {**WINDOW, "dilations": [2, 2]})])  # fmt: skip
def test_pools_with_holes_and_pools_that_give_indices(op, attributes, rng):
    outputs = "b i" if op == "MaxPool" and "dilations" not in attributes else "b"
    nodes = [("Neg", "x", "a", {}), (op, "a", outputs, attributes), ("Neg", "b", "y", {})]
    model = model_of(nodes, {"x": (2, 3, 9, 8)}, "y", opset=19)
    prepared = check(model, {"x": normal(rng, 2, 3, 9, 8)})
    bound = steps(prepared)[op].bound is not None
    assert bound == (outputs == "b" and op == "MaxPool")


@pytest.mark.parametrize("batch", [1, 3])
def test_products_with_constant_matrices(batch, rng):
    nodes = [("Neg", "x", "a", {}), ("Gemm", "a w c", "b", {"transB": 1}), ("MatMul", "b v", "d", {}),
             ("Neg", "d", "y", {})]  # fmt: skip
    constants = {"w": normal(rng, 6, 5), "c": normal(rng, 6), "v": normal(rng, 6, 4)}
    prepared = check(model_of(nodes, {"x": (batch, 5)}, "y", constants), {"x": normal(rng, batch, 5)})
    assert all(steps(prepared)[op].arguments is not None for op in ("Gemm", "MatMul"))


@pytest.mark.parametrize("batch", [1, 2])
def test_concatenations_copy_only_what_lies_elsewhere(batch, rng):
    nodes = [("Neg", "x", "a", {}), ("Abs", "x", "b", {}), ("Concat", "a b k", "c", {"axis": 1}),
             ("Neg", "c", "y", {})]  # fmt: skip
    constants = {"k": normal(rng, batch, 2, 4, 4)}
    prepared = check(model_of(nodes, {"x": (batch, 3, 4, 4)}, "y", constants), {"x": normal(rng, batch, 3, 4, 4)})
    assert len(steps(prepared)["Concat"].arguments) == (1 if batch == 1 else 3)
    del nodes[2], constants["k"]
    nodes.insert(2, ("Concat", "a b", "c", {"axis": 1}))
    prepared = check(model_of(nodes, {"x": (batch, 3, 4, 4)}, "y"), {"x": normal(rng, batch, 3, 4, 4)})
    assert ("Concat" in steps(prepared)) == (batch == 2)  # nothing is left of it where both lie in place


def test_channels_are_shuffled(rng):
    nodes = [("Neg", "x", "a", {}), ("Reshape", "a five", "b", {}), ("Transpose", "b", "c", {"perm": [0, 2, 1, 3, 4]}),
             ("Reshape", "c four", "d", {}), ("Neg", "d", "y", {})]  # fmt: skip
    constants = {"five": np.array([2, 3, 2, 4, 5]), "four": np.array([2, 6, 4, 5])}
    prepared = check(model_of(nodes, {"x": (2, 6, 4, 5)}, "y", constants), {"x": normal(rng, 2, 6, 4, 5)}, 0)
    assert steps(prepared)["Reshape"].arguments is not None


def test_plans_of_the_numpy_backend_call_no_kernels(rng):
    nodes = [("Neg", "x", "a", {}), ("MaxPool", "a", "b", WINDOW), ("Softmax", "b", "c", {}), ("Neg", "c", "y", {})]
    x = normal(rng, 1, 3, 8, 8)
    with convgrad.backend("numpy"):
        prepared = check(model_of(nodes, {"x": x.shape}, "y"), {"x": x})
    assert all(steps(prepared)[op].bound is None for op in ("MaxPool", "Softmax"))


def test_profiles_name_the_steps_that_run(rng):
    nodes = [("Neg", "x", "a", {}), ("Relu", "a", "b", {}), ("MaxPool", "b", "y", WINDOW)]
    prepared = backend.prepare(model_of(nodes, {"x": (1, 3, 8, 8)}, "y"))
    _, times = prepared.profile(normal(rng, 1, 3, 8, 8))
    assert [(name, op) for name, op, _ in times] == [("n0", "Neg"), ("n1", "Relu"), ("n2", "MaxPool")]
    assert all(seconds > 0 for _, _, seconds in times)


def shuffle(groups, channels, H=9, W=11, N=1):
    """Nodes and constants of a shuffle of channels from a to d."""
    nodes = [("Reshape", "a five", "b", {}), ("Transpose", "b", "c", {"perm": [0, 2, 1, 3, 4]}),
             ("Reshape", "c four", "d", {})]  # fmt: skip
    constants = {"five": np.array([N, groups, channels // groups, H, W]), "four": np.array([N, channels, H, W])}
    return nodes, constants


@pytest.mark.parametrize("stride, kernel", [(1, 3), (2, 3), (2, 5)])
@pytest.mark.parametrize("groups, N", [(2, 1), (3, 2), (4, 1), (12, 3)])
def test_depthwise_convolutions_take_shuffled_channels(groups, N, stride, kernel, rng):
    links, constants = shuffle(groups, 12, N=N)
    conv = ("Conv", "d w k", "e", {"group": 12, "strides": [stride] * 2, "pads": [kernel // 2] * 4})
    nodes = [("Neg", "x", "a", {}), *links, conv, ("Relu", "e", "f", {}), ("Neg", "f", "y", {})]
    constants |= {"w": normal(rng, 12, 1, kernel, kernel), "k": normal(rng, 12)}
    x = normal(rng, N, 12, 9, 11)
    prepared = check(model_of(nodes, {"x": x.shape}, "y", constants), {"x": x})
    assert set(steps(prepared)) == {"Neg", "Conv"}


@pytest.mark.parametrize("case", ["channels", "read", "returned", "full", "perm", "one tap", "no image"])
def test_shuffles_that_stay(case, rng):
    links, constants = shuffle(3, 12)
    constants |= {"w": normal(rng, 12, 1, 3, 3)}
    nodes = [("Neg", "x", "a", {}), *links, ("Conv", "d w", "e", {"group": 12}), ("Neg", "e", "y", {})]
    outputs = "y"
    if case == "channels":  # no whole groups come back
        constants["five"], nodes[2] = np.array([1, 2, 3, 18, 11]), ("Transpose", "b", "c", {"perm": [0, 2, 1, 3, 4]})
    elif case == "read":
        nodes.append(("Abs", "d", "z", {}))
        outputs = "y z"
    elif case == "returned":
        outputs = "y d"
    elif case == "full":
        constants["w"], nodes[4] = normal(rng, 5, 12, 3, 3), ("Conv", "d w", "e", {})
    elif case == "perm":
        constants["five"] = np.array([1, 3, 4, 9, 11])
        nodes[2] = ("Transpose", "b", "c", {"perm": [0, 2, 1, 4, 3]})
    elif case == "one tap":
        constants["w"] = normal(rng, 12, 1, 1, 1)
    else:
        constants["four"] = np.array([1, 12, 11, 9])
    prepared = check(model_of(nodes, {"x": (1, 12, 9, 11)}, outputs, constants), {"x": normal(rng, 1, 12, 9, 11)})
    assert "Reshape" in steps(prepared) or case == "no image"


def test_shuffles_before_residual_blocks(rng):
    links, constants = shuffle(3, 12)
    constants |= {"w": normal(rng, 12, 1, 3, 3)}
    nodes = [("Neg", "x", "a", {}), *links, ("Conv", "d w", "e", {"group": 12, "pads": [1] * 4}),
             ("Add", "e a", "f", {}), ("Relu", "f", "g", {}), ("Neg", "g", "y", {})]  # fmt: skip
    prepared = check(model_of(nodes, {"x": (1, 12, 9, 11)}, "y", constants), {"x": normal(rng, 1, 12, 9, 11)})
    assert set(steps(prepared)) == {"Neg", "Conv"}
