"""The ONNX backend beyond the standard suite: what is fused, how memory is planned, hostile files, the command."""

import re
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, helper, numpy_helper

import convgrad
from convgrad import __main__
from convgrad.integrations import onnx as backend
from convgrad.integrations.onnx import graph as graphs
from convgrad.integrations.onnx import program as programs

F32 = TensorProto.FLOAT


def model_of(nodes, inputs, outputs, constants=None, opset=17, output_type=F32):
    """A model of (operator, inputs, outputs, attributes) nodes; `inputs` maps names to shapes."""
    graph = helper.make_graph(
        [helper.make_node(op, i.split(), o.split(), name=f"n{k}", **a) for k, (op, i, o, a) in enumerate(nodes)],
        "g",
        [helper.make_tensor_value_info(name, F32, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, output_type, None) for name in outputs.split()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def reference(model, feeds):
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(None, feeds)


def check(model, feeds, tolerance=1e-5):
    """Run three times; every output is the reference's each time. Returns the prepared model."""
    prepared = backend.prepare(model)
    expected = reference(model, feeds)
    for _ in range(3):
        for actual, wanted in zip(prepared.run(feeds), expected, strict=True):
            assert actual.dtype == wanted.dtype
            np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance)
    return prepared


def operators(prepared):
    return [node.op for node in prepared._graph.nodes]


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


# ---------------------------------------------------------------- what is folded and fused


def norm_constants(rng, channels, name="bn"):
    return {
        f"{name}_s": normal(rng, channels),
        f"{name}_b": normal(rng, channels),
        f"{name}_m": normal(rng, channels),
        f"{name}_v": rng.random(channels, dtype=np.float32) + 0.5,
    }


def test_conv_norm_scale_shift_activation_become_one_step(rng):
    constants = norm_constants(rng, 8) | {
        "w": normal(rng, 8, 3, 3, 3),
        "scale": normal(rng, 8, 1, 1),
        "shift": normal(rng, 1, 8, 1, 1),
    }
    nodes = [
        ("Identity", "x", "x0", {}),
        ("Conv", "x0 w", "a", dict(pads=[1, 1, 1, 1])),
        ("BatchNormalization", "a bn_s bn_b bn_m bn_v", "b", {}),
        ("Mul", "scale b", "c", {}),
        ("Sub", "c shift", "d", {}),
        ("Dropout", "d", "e", {}),
        ("LeakyRelu", "e", "y", dict(alpha=0.3)),
    ]
    prepared = check(model_of(nodes, {"x": (2, 3, 9, 9)}, "y", constants), {"x": normal(rng, 2, 3, 9, 9)}, 1e-4)
    assert operators(prepared) == ["Conv"]
    assert prepared._graph.constants == {}  # the weights live in their packed form


@pytest.mark.parametrize("order", ["y s", "s y"])
def test_silu_is_seen_in_either_order(rng, order):
    nodes = [("Conv", "x w", "y", {}), ("Sigmoid", "y", "s", {}), ("Mul", order, "z", {})]
    model = model_of(nodes, {"x": (1, 3, 5, 5)}, "z", {"w": normal(rng, 4, 3, 3, 3)})
    assert operators(check(model, {"x": normal(rng, 1, 3, 5, 5)})) == ["Conv"]


def test_transposed_convolution_with_groups_takes_a_norm(rng):
    constants = norm_constants(rng, 6) | {"w": normal(rng, 4, 3, 3, 3), "b": normal(rng, 6)}
    nodes = [
        ("ConvTranspose", "x w b", "a", dict(group=2, strides=[2, 2], pads=[1, 0, 1, 1], output_padding=[1, 1])),
        ("BatchNormalization", "a bn_s bn_b bn_m bn_v", "c", {}),
        ("Relu", "c", "y", {}),
    ]
    x = normal(rng, 2, 4, 5, 6)
    prepared = backend.prepare(model_of(nodes, {"x": x.shape}, "y", constants))
    a = convgrad.conv_transpose2d(
        x, constants["w"], constants["b"], stride=2, padding=((1, 1), (0, 1)), output_padding=1, groups=2
    )
    norm = [constants[f"bn_{part}"] for part in "sbmv"]
    expected = convgrad.relu(convgrad.batch_norm(a, *norm)[0])
    for _ in range(2):
        np.testing.assert_allclose(prepared.run([x])[0], expected, rtol=1e-4, atol=1e-4)
    assert operators(prepared) == ["ConvTranspose"]


def test_a_value_that_others_read_is_not_fused_away(rng):
    nodes = [("Conv", "x w", "a", {}), ("Relu", "a", "b", {}), ("Add", "a b", "y", {})]
    model = model_of(nodes, {"x": (1, 3, 5, 5)}, "y a", {"w": normal(rng, 4, 3, 3, 3)})
    assert "Relu" in operators(check(model, {"x": normal(rng, 1, 3, 5, 5)}))


@pytest.mark.parametrize("activation", [("Relu", {}), ("LeakyRelu", {"alpha": 0.25}), ("Tanh", {})], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 4, 5), (2, 3, 15, 14), (2, 3, 200)], ids=str)
def test_norms_take_scales_shifts_and_the_activation_behind_them(rng, shape, activation):
    nodes = [
        ("BatchNormalization", "x bn_s bn_b bn_m bn_v", "a", {}),
        ("Mul", "a scale", "b", {}),
        ("Add", "b shift", "c", {}),
        (activation[0], "c", "y", activation[1]),
    ]
    ones = (1,) * (len(shape) - 2)
    constants = norm_constants(rng, 3) | {"scale": normal(rng, 3, *ones), "shift": normal(rng, 3, *ones)}
    x = normal(rng, *shape)
    assert operators(check(model_of(nodes, {"x": shape}, "y", constants), {"x": x})) == ["(scale, shift, activation)"]
    twice = model_of(nodes, {"x": shape}, "c y", constants)
    assert operators(check(twice, {"x": x})) == ["(scale and shift)", activation[0]]


def test_constants_that_broadcast_along_other_axes_are_not_folded(rng):
    for shape in [(4,), (3, 1), (2, 1, 1, 1), (4, 3, 1), (1, 1, 1, 4)]:
        nodes = [("Conv", "x w", "a", {}), ("Mul", "a c", "y", {})]
        model = model_of(nodes, {"x": (2, 3, 5, 6)}, "y", {"w": normal(rng, 4, 3, 3, 3), "c": normal(rng, *shape)})
        assert operators(check(model, {"x": normal(rng, 2, 3, 5, 6)})) == ["Conv", "Mul"]


@pytest.mark.parametrize("c_shape", [(), (1,), (4,), (1, 4), (1, 1), (3, 4), (3, 1)])
def test_gemm_with_every_kind_of_bias(rng, c_shape):
    for transposed in (0, 1):
        weight = normal(rng, 4, 5) if transposed else normal(rng, 5, 4)
        nodes = [("Gemm", "x w c", "a", dict(alpha=0.5, beta=2.0, transB=transposed)), ("Relu", "a", "y", {})]
        model = model_of(nodes, {"x": (3, 5)}, "y", {"w": weight, "c": np.float32(normal(rng, *c_shape))})
        prepared = check(model, {"x": normal(rng, 3, 5)})
        assert len(operators(prepared)) == (2 if c_shape in ((3, 4), (3, 1)) else 1)


def test_matmul_takes_the_bias_behind_it(rng):
    nodes = [("MatMul", "x w", "a", {}), ("Add", "a b", "c", {}), ("Tanh", "c", "y", {})]
    model = model_of(nodes, {"x": (2, 3, 5)}, "y", {"w": normal(rng, 5, 4), "b": normal(rng, 4)})
    assert operators(check(model, {"x": normal(rng, 2, 3, 5)})) == ["MatMul"]


def test_padding_goes_into_the_convolution(rng):
    pads = np.array([0, 0, 1, 2, 0, 0, 2, 1])
    constants = {"p": pads, "w": normal(rng, 4, 3, 3, 3)}
    nodes = [("Pad", "x p", "a", {}), ("Conv", "a w", "y", dict(pads=[1, 0, 0, 1]))]
    assert operators(
        check(model_of(nodes, {"x": (1, 3, 5, 5)}, "y", constants), {"x": normal(rng, 1, 3, 5, 5)}, 1e-4)
    ) == ["Conv"]
    reflected = [("Pad", "x p", "a", dict(mode="reflect")), nodes[1]]
    prepared = check(model_of(reflected, {"x": (1, 3, 5, 5)}, "y", constants), {"x": normal(rng, 1, 3, 5, 5)}, 1e-4)
    assert operators(prepared) == ["Pad", "Conv"]
    channels = constants | {"p": np.array([0, 1, 1, 2, 0, 0, 2, 1])}
    prepared = check(model_of(nodes, {"x": (1, 2, 5, 5)}, "y", channels), {"x": normal(rng, 1, 2, 5, 5)}, 1e-4)
    assert operators(prepared) == ["Pad", "Conv"]


def test_shape_arithmetic_is_done_once(rng):
    nodes = [
        ("Shape", "x", "s", {}),
        ("Gather", "s zero", "n", dict(axis=0)),
        ("Unsqueeze", "n axes", "n1", {}),
        ("Concat", "n1 rest", "shape", dict(axis=0)),
        ("Reshape", "x shape", "r", {}),
        ("Relu", "r", "y", {}),
    ]
    constants = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}
    model = model_of(nodes, {"x": ("batch", 3, 4)}, "y", constants)
    prepared = check(model, {"x": normal(rng, 2, 3, 4)})
    (program,) = prepared._programs.values()
    assert [step.node.op for step in program.steps] == ["Reshape", "Relu"]
    check(model, {"x": normal(rng, 5, 3, 4)})


@pytest.mark.parametrize("order", ["a b", "b a"])
@pytest.mark.parametrize("op", ["Add", "Sum"])
def test_residual_blocks_add_inside_the_convolution(rng, order, op):
    constants = {"w": normal(rng, 8, 3, 3, 3), "v": normal(rng, 8, 3, 1, 1), "u": normal(rng, 8, 8, 3, 3)}
    nodes = [
        ("Conv", "x w", "a", dict(pads=[1, 1, 1, 1])),
        ("Conv", "x v", "b0", {}),
        ("Neg", "b0", "b", {}),  # after the convolution that adds it
        (op, order, "c", {}),
        ("Relu", "c", "d", {}),
        ("Conv", "d u", "e", dict(pads=[1, 1, 1, 1])),
        (op, "d e" if order == "a b" else "e d", "f", {}),
        ("Exp", "f", "y", {}),
    ]
    for batch in (1, 3):
        model = model_of(nodes, {"x": (batch, 3, 9, 9)}, "y", constants)
        x = normal(rng, batch, 3, 9, 9) / 8
        prepared = check(model, {"x": x}, 1e-3)
        (program,) = prepared._programs.values()
        assert [step.node.op for step in program.steps] == ["Conv", "Neg", "Conv", "Conv", "Exp"]


@pytest.mark.parametrize("channels", [8, 12, 40])  # below, at and above the fewest that kernels add in place
@pytest.mark.parametrize("kernel", [1, 3])
def test_convolutions_write_over_a_residual_that_nobody_reads_later(rng, channels, kernel):
    constants = {"v": normal(rng, 40, channels, kernel, kernel) / 16, "w": normal(rng, 40, 40, 1, 1) / 16}
    pads = dict(pads=[kernel // 2] * 4)
    nodes = [
        ("Conv", "x v", "a", pads),
        ("Exp", "x", "z", {}),
        ("Conv", "z v", "b", pads),
        ("Add", "a b", "c", {}),  # b was made for this alone
        ("Relu", "c", "d", {}),
        ("Conv", "d w", "e", {}),
        ("Add", "d e", "f", {}),  # and d is read again below
        ("Conv", "d w", "g", {}),
        ("Add", "f g", "h", {}),
        ("Exp", "h", "y", {}),
    ]
    for batch in (1, 2):
        model = model_of(nodes, {"x": (batch, channels, 7, 9)}, "y", constants)
        prepared = check(model, {"x": normal(rng, batch, channels, 7, 9) / 8}, 1e-3)
        (program,) = prepared._programs.values()
        adding = [step for step in program.steps if step.node.op == "Conv" and len(step.inputs) > 1]
        residuals = [program.rest.table[step.inputs[1]] for step in adding]
        over = [np.may_share_memory(step.out, z) for step, z in zip(adding, residuals, strict=True)]
        native = convgrad.get_backend() == "native"
        assert over == [native and channels >= 12 and kernel == 1, False, native]


def test_additions_that_broadcast_or_are_returned_stay(rng):
    nodes = [
        ("Conv", "x w", "a", {}),
        ("Add", "a z", "b", {}),
        ("Conv", "x w", "c", {}),
        ("Add", "c b", "d", {}),
        ("Relu", "d", "y", {}),
    ]
    model = model_of(nodes, {"x": (2, 3, 4, 4), "z": (1, 8, 4, 4)}, "y d c", {"w": normal(rng, 8, 3, 1, 1)})
    prepared = check(model, {"x": normal(rng, 2, 3, 4, 4), "z": normal(rng, 1, 8, 4, 4)})
    (program,) = prepared._programs.values()
    assert [step.node.op for step in program.steps] == ["Conv", "Add", "Conv", "Add", "Relu"]


# ---------------------------------------------------------------- memory


def chain(rng, length, channels=8):
    nodes, constants = [], {}
    for i in range(length):
        constants[f"w{i}"] = normal(rng, channels, channels, 3, 3) / 8
        nodes.append(("Conv", f"x{i} w{i}", f"x{i + 1}", dict(pads=[1, 1, 1, 1])))
    return nodes, constants


def test_a_chain_of_layers_needs_two_buffers(rng):
    nodes, constants = chain(rng, 12)
    model = model_of(nodes, {"x0": (1, 8, 16, 16)}, "x12", constants)
    prepared = check(model, {"x0": normal(rng, 1, 8, 16, 16)})
    (program,) = prepared._programs.values()
    assert program.block.nbytes <= 2 * 4 * 8 * 16 * 16 + programs.ALIGNMENT


def test_elementwise_steps_work_in_place_only_where_the_input_dies(rng):
    nodes = [
        ("Relu", "x", "a", {}),
        ("Exp", "a", "b", {}),
        ("Sqrt", "b", "c", {}),
        ("Add", "a c", "d", {}),
        ("Sub", "d d", "e", {}),
        ("Add", "e d", "y", {}),
    ]
    prepared = check(model_of(nodes, {"x": (64,)}, "y"), {"x": normal(rng, 64)})
    (program,) = prepared._programs.values()
    assert program.block.nbytes <= 3 * 256 + programs.ALIGNMENT


def dense_block(rng):
    """Each result is read by the next concatenation and by a layer of its own."""
    nodes, constants = [("Relu", "x", "c0", {})], {}
    for i in range(4):
        constants[f"w{i}"] = normal(rng, 4, 8 + 4 * i, 3, 3) / 8
        nodes += [
            ("Conv", f"c{i} w{i}", f"g{i}", dict(pads=[1, 1, 1, 1])),
            ("Concat", f"c{i} g{i}", f"c{i + 1}", dict(axis=1)),
        ]
    nodes.append(("Sigmoid", "c4", "y", {}))
    return nodes, constants


def test_concatenations_are_written_in_place(rng):
    nodes, constants = dense_block(rng)
    model = model_of(nodes, {"x": (1, 8, 6, 6)}, "y", constants)
    prepared = check(model, {"x": normal(rng, 1, 8, 6, 6)})
    (program,) = prepared._programs.values()
    assert program.block.nbytes <= -(-4 * 24 * 36 // 64) * 64 + programs.ALIGNMENT
    check(model_of(nodes, {"x": (2, 8, 6, 6)}, "y", constants), {"x": normal(rng, 2, 8, 6, 6)})


def test_a_concatenation_that_is_written_over_leaves_its_inputs_alone(rng):
    nodes = [
        ("Relu", "x", "a", {}),
        ("Tanh", "x", "b", {}),
        ("Concat", "a b", "c", dict(axis=0)),
        ("Exp", "c", "d", {}),  # over c
        ("Concat", "d a", "y0", dict(axis=0)),
        ("Neg", "y0", "y", {}),
    ]
    check(model_of(nodes, {"x": (3, 4)}, "y"), {"x": normal(rng, 3, 4)})


def test_views_keep_their_memory(rng):
    nodes = [
        ("Relu", "x", "a", {}),
        ("Reshape", "a shape", "b", {}),
        ("Split", "b", "p q", dict(axis=0)),
        ("Exp", "a", "c", {}),
        ("Transpose", "q", "t", dict(perm=[1, 0])),
        ("MatMul", "p t", "m", {}),
        ("Flatten", "c", "f", dict(axis=0)),
        ("Add", "m f", "y", {}),
    ]
    model = model_of(nodes, {"x": (2, 2, 3)}, "y b", {"shape": np.array([2, 6])}, opset=11)
    check(model, {"x": normal(rng, 2, 2, 3)})


def test_random_graphs_give_what_the_reference_gives(rng):
    """Elementwise operators, views and concatenations in random order: any flaw of the plan shows as a wrong number."""
    for _ in range(40):
        names, nodes = ["x", "z"], []
        for i in range(18):
            op = rng.choice(["Relu", "Tanh", "Neg", "Add", "Mul", "Concat", "Slice", "Reshape", "Transpose"])
            a, b = rng.choice(names[-6:], 2)
            o = f"v{i}"
            if op in ("Add", "Mul"):
                nodes.append((op, f"{a} {b}", o, {}))
            elif op == "Concat":
                nodes += [(op, f"{a} {b}", f"{o}c", dict(axis=0)), ("Slice", f"{o}c s{i % 2} e{i % 2}", o, {})]
            elif op == "Slice":
                nodes += [(op, f"{a} s0 half", f"{o}s", {}), ("Concat", f"{o}s {o}s", o, dict(axis=0))]
            elif op == "Reshape":
                nodes += [(op, f"{a} flat", f"{o}r", {}), (op, f"{o}r square", o, {})]
            elif op == "Transpose":
                nodes.append((op, a, o, dict(perm=[1, 0])))
            else:
                nodes.append((op, a, o, {}))
            names.append(o)
        constants = {
            "s0": np.array([0]), "e0": np.array([4]), "s1": np.array([2]), "e1": np.array([6]),
            "half": np.array([2]), "flat": np.array([16]), "square": np.array([4, 4]),
        }  # fmt: skip
        model = model_of(nodes, {"x": (4, 4), "z": (4, 4)}, f"{names[-1]} {names[-4]}", constants)
        check(model, {"x": normal(rng, 4, 4), "z": normal(rng, 4, 4)}, 1e-5)


def test_a_settled_run_allocates_only_its_outputs(rng):
    nodes, constants = chain(rng, 6)
    nodes += [("MaxPool", "x6", "p", dict(kernel_shape=[2, 2], strides=[2, 2])), ("Relu", "p", "r", {}),
              ("GlobalAveragePool", "r", "g", {}), ("Flatten", "g", "y", {})]  # fmt: skip
    prepared = backend.prepare(model_of(nodes, {"x0": (1, 8, 64, 64)}, "y", constants))
    x = normal(rng, 1, 8, 64, 64)
    for _ in range(3):
        prepared.run([x])
    tracemalloc.start()
    try:
        prepared.run([x])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000  # one intermediate takes 131,072


def test_inputs_are_not_modified_and_outputs_are_the_callers_own(rng):
    nodes = [("Identity", "x", "same", {}), ("Relu", "x", "y", {}), ("Reshape", "x s", "r", {})]
    model = model_of(nodes, {"x": (2, 3)}, "same y r k", {"s": np.array([6]), "k": np.ones(2, np.float32)})
    prepared = backend.prepare(model)
    x = normal(rng, 2, 3)
    before = x.copy()
    first = prepared.run([x])
    for value in first:
        value[...] = 7
    second = prepared.run([x])
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(second.same, before)
    np.testing.assert_array_equal(second.k, 1)
    x.flags.writeable = False
    prepared.run([x])


def test_threads_take_turns(rng):
    nodes, constants = chain(rng, 4)
    prepared = backend.prepare(model_of(nodes, {"x0": ("n", 8, 16, 16)}, "x4", constants))
    inputs = [normal(rng, 1 + i % 2, 8, 16, 16) for i in range(6)]
    expected = [prepared.run([x])[0] for x in inputs]
    wrong = []

    def work(i):
        for _ in range(10):
            if not np.array_equal(prepared.run([inputs[i]])[0], expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---------------------------------------------------------------- the interface


def test_interface(rng):
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    x, w = normal(rng, 1, 2, 5, 5), normal(rng, 3, 2, 3, 3)
    (y,) = backend.run_node(node, [x, w])
    np.testing.assert_allclose(y, convgrad.conv2d(x, w, padding=1), rtol=1e-6)
    np.testing.assert_array_equal(backend.run_node(node, {"x": x, "w": w})[0], y)
    model = model_of([("Relu", "x", "y", {})], {"x": (3,)}, "y")
    np.testing.assert_array_equal(backend.run_model(model, np.array([-1, 0, 2], np.float32)).y, [0, 0, 2])
    assert backend.supports_device("CPU")
    assert not backend.supports_device("CUDA")
    assert backend.is_compatible(model)
    assert not backend.is_compatible(model_of([("Det", "x", "y", {})], {"x": (3, 3)}, "y"))
    with pytest.raises(ValueError, match="device 'CUDA' is not supported; use 'CPU'"):
        backend.prepare(model, "CUDA")
    with pytest.raises(TypeError, match="unknown options"):
        backend.prepare(model, threads=2)


def test_numpy_backend_computes_the_same(rng):
    nodes, constants = chain(rng, 2)
    model = model_of(nodes, {"x0": (1, 8, 6, 6)}, "x2", constants)
    x = normal(rng, 1, 8, 6, 6)
    expected = backend.run_model(model, [x])[0]
    with convgrad.backend("numpy"):
        np.testing.assert_allclose(backend.run_model(model, [x])[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "feeds, message",
    [
        (lambda x: [], "0 inputs were given, the model has"),
        (lambda x: {"z": x}, "inputs .'z'. were given, the model has 'x'"),
        (lambda x: [x.astype(np.float64)], "input 'x' must be float32, got float64"),
        (lambda x: [x[:2]], r"input 'x' must have shape \(3, 'n'\), got \(2, 4\)"),
    ],
)
def test_inputs_that_do_not_fit(rng, feeds, message):
    prepared = backend.prepare(model_of([("Relu", "x", "y", {})], {"x": (3, "n")}, "y"))
    with pytest.raises(backend.ModelError, match=message):
        prepared.run(feeds(normal(rng, 3, 4)))


def test_everything_that_is_missing_is_listed_at_once(rng):
    nodes = [
        ("Det", "x", "a", {}),
        ("Resize", "x  scales", "b", dict(mode="linear")),
        ("Erf", "a", "c", {}),
        ("Pad", "b p", "d", dict(mode="constant")),
        ("MaxPool", "i", "y", dict(kernel_shape=[2, 2, 2])),
    ]
    model = model_of(nodes, {"x": (1, 1, 4, 4), "i": (1, 1, 4, 4, 4), "scales": (4,), "p": (8,)}, "y")
    with pytest.raises(backend.UnsupportedModelError) as caught:
        backend.prepare(model)
    assert caught.value.problems == [
        "Det 'n0': this operator is not supported",
        "Erf 'n2': this operator is not supported",
        "MaxPool 'n4': a window with 3 spatial axes (1 and 2 are supported) is not supported",
    ]


# ---------------------------------------------------------------- corrupt and hostile files


def refused(model, message):
    with pytest.raises(backend.ModelError, match=message):
        backend.prepare(model)


def test_not_a_model():
    refused(b"\x08\x07garbage\xff\xff", "not an ONNX model|no operator set")
    refused(b"", "no operator set or has no outputs")
    with pytest.raises(TypeError, match="must be an onnx.ModelProto, its bytes or a path, got int"):
        backend.prepare(3)
    with pytest.raises(FileNotFoundError):
        backend.prepare("no such file.onnx")


def test_truncated_models_are_refused_or_run(rng):
    nodes, constants = chain(rng, 2)
    whole = model_of(nodes, {"x0": (1, 8, 6, 6)}, "x2", constants).SerializeToString()
    for size in range(0, len(whole), 97):
        with pytest.raises(backend.ModelError):
            backend.prepare(whole[:size])


def test_flipped_bytes_never_crash(rng):
    nodes, constants = chain(rng, 1, channels=2)
    nodes += [("Reshape", "x1 s", "r", {}), ("Softmax", "r", "y", dict(axis=1))]
    whole = model_of(nodes, {"x0": (1, 2, 4, 4)}, "y", constants | {"s": np.array([1, -1])}).SerializeToString()
    for _ in range(400):
        broken = bytearray(whole)
        for position in rng.integers(len(whole), size=2):
            broken[position] = rng.integers(256)
        try:
            prepared = backend.prepare(bytes(broken))
            prepared.run([np.zeros((1, 2, 4, 4), np.float32)])
        except (backend.ModelError, MemoryError):
            pass


def test_a_cycle_is_named():
    nodes = [("Relu", "c", "a", {}), ("Relu", "a", "b", {}), ("Relu", "b", "c", {}), ("Relu", "x", "y", {})]
    refused(
        model_of(nodes, {"x": (1,)}, "y"), "cycle; these nodes wait for each other: Relu 'n0', Relu 'n1', Relu 'n2'"
    )


def test_nodes_may_come_in_any_order(rng):
    nodes = [("Neg", "a", "y", {}), ("Relu", "x", "a", {})]
    prepared = backend.prepare(model_of(nodes, {"x": (3,)}, "y"))
    np.testing.assert_array_equal(prepared.run([np.array([1, -1, 2], np.float32)])[0], [-1, 0, -2])


def test_missing_and_repeated_values_are_named():
    refused(
        model_of([("Conv", "x w", "y", {})], {"x": (1, 1, 3, 3)}, "y"), "defines what is read here: Conv 'n0' reads 'w'"
    )
    refused(model_of([("Relu", "x", "y", {})], {"x": (1,)}, "z"), "the model returns 'z'")
    refused(model_of([("Relu", "x", "y", {})] * 2, {"x": (1,)}, "y"), "defined more than once: 'y'")


def tensor(dims, data_type=F32, **fields):
    proto = TensorProto(name="w", data_type=data_type, dims=dims, **fields)
    model = model_of([("Add", "x w", "y", {})], {"x": (1,)}, "y")
    model.graph.initializer.append(proto)
    return model


def test_tensors_that_lie():
    refused(tensor([-1], raw_data=b""), "sizes must not be negative, got shape .-1,.")
    refused(tensor([2**40, 2**40], raw_data=b""), "would take .* bytes")
    refused(tensor([2**62, 4], raw_data=b""), "would take .* bytes")
    refused(tensor([4], raw_data=b"123"), "needs 16 bytes of data but has 3: the file is corrupt")
    refused(tensor([4], float_data=[1.0]), "needs 4 entries of data but has 1")
    refused(tensor([1], data_type=99, raw_data=b"1"), "unknown element type 99")
    refused(model_of([("Relu", "x", "y", {})], {"x": (-1,)}, "y"), "'x': sizes must not be negative")


@pytest.mark.parametrize(
    "nodes, constants",
    [
        ([("ConstantOfShape", "s", "w", {}), ("Add", "x w", "y", {})], {"s": np.array([2**20, 2**20])}),
        ([("Expand", "x s", "y", {})], {"s": np.array([2**20, 2**20, 1])}),
        ([("Tile", "x s", "y", {})], {"s": np.array([2**40])}),
        ([("Range", "a b c", "w", {}), ("Add", "x w", "y", {})], {"a": 0, "b": 2**60, "c": 1}),
        ([("Pad", "x s", "y", {})], {"s": np.array([2**40, 2**40])}),
        ([("Reshape", "x s", "a", {}), ("Conv", "a w", "y", dict(pads=[2**20] * 4))],
         {"s": np.array([1, 1, 1, 1]), "w": np.ones((1, 1, 1, 1), np.float32)}),
        ([("Reshape", "x s", "a", {}), ("Resize", "a  f", "y", {})],
         {"s": np.array([1, 1, 1, 1]), "f": np.array([1, 1, 1e6, 1e6], np.float32)}),
        ([("Reshape", "x s", "y", {})], {"s": np.array([-5])}),
        ([("ConstantOfShape", "s", "w", {}), ("Add", "x w", "y", {})], {"s": np.array([-1])}),
    ],
)  # fmt: skip
def test_shapes_that_overflow_are_refused_at_once(nodes, constants):
    nodes = [(op, i.replace("a  f", "a roi f"), o, a) for op, i, o, a in nodes]
    model = model_of(nodes, {"x": (1,)}, "y", constants | {"roi": np.zeros(0, np.float32)})
    refused(model, "bytes, more than|sizes must not be negative|is not one|memory can address")


def test_external_data_stays_inside_the_folder(tmp_path, rng):
    folder = tmp_path / "model"
    folder.mkdir()
    weight = normal(rng, 4, 3, 3, 3)
    model = model_of([("Conv", "x w", "y", {})], {"x": (1, 3, 5, 5)}, "y", {"w": weight})
    onnx.save_model(model, str(folder / "m.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0)
    x = normal(rng, 1, 3, 5, 5)
    np.testing.assert_allclose(
        backend.run_model(folder / "m.onnx", [x])[0], convgrad.conv2d(x, weight), rtol=1e-4, atol=1e-5
    )
    (tmp_path / "secret.bin").write_bytes((folder / "w.bin").read_bytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")

    def pointing(message, **entries):
        proto = onnx.load(str(folder / "m.onnx"), load_external_data=False)
        (external,) = proto.graph.initializer
        for entry in external.external_data:
            entry.value = str(entries.pop(entry.key, entry.value))
        for key, value in entries.items():
            external.external_data.add(key=key, value=str(value))
        (folder / "bad.onnx").write_bytes(proto.SerializeToString())
        refused(folder / "bad.onnx", message)

    pointing("not a file inside the model's folder", location="../secret.bin")
    pointing("not a file inside the model's folder", location=str(tmp_path / "secret.bin"))
    pointing("not a file inside the model's folder", location="link.bin")
    pointing("not a file inside the model's folder", location=".")
    pointing("not a file inside the model's folder", location="")
    pointing("which has 432", offset=64)
    pointing("which has 432", offset=-4)
    pointing("which has 432", length=2**62)
    pointing("not a number", length="many")
    refused(onnx.load(str(folder / "m.onnx"), load_external_data=False), "came without its folder")


def test_large_initialisers_are_read_from_the_file(tmp_path, rng):
    """Broken anywhere, the file is refused or runs, as it is from memory."""
    weight = normal(rng, 64, 32, 3, 3)  # 73,728 bytes
    model = model_of([("Conv", "x w b", "y", {})], {"x": (1, 32, 5, 5)}, "y", {"b": normal(rng, 64), "w": weight})
    path, x = tmp_path / "m.onnx", normal(rng, 1, 32, 5, 5)
    onnx.save(model, path)
    assert list(graphs.load(path)[1].cut) == [1]
    np.testing.assert_array_equal(backend.run_model(path, [x])[0], backend.run_model(model, [x])[0])
    whole = path.read_bytes()
    for start in (0, len(whole) - 90):
        for _ in range(150):
            broken = bytearray(whole)
            broken[start + rng.integers(90)] = rng.integers(256)
            path.write_bytes(bytes(broken))
            outcomes = []
            for source in (path, bytes(broken)):
                try:
                    outcomes.append(backend.run_model(source, [x])[0].tobytes())
                except (backend.ModelError, MemoryError):
                    outcomes.append("refused")
            assert outcomes[0] == outcomes[1]
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "not an ONNX model")


def test_limit_on_arrays_can_be_set(monkeypatch):
    monkeypatch.setattr(graphs, "MAX_ARRAY_BYTES", 100)
    refused(model_of([("Relu", "x", "y", {})], {"x": (26,)}, "y"), "would take 104 bytes")


# ---------------------------------------------------------------- the command


def test_run_command(tmp_path, rng, capsys):
    nodes, constants = chain(rng, 1)
    nodes.append(("Flatten", "x1", "y", {}))
    path = tmp_path / "m.onnx"
    onnx.save(model_of(nodes, {"x0": (1, 8, 6, 6)}, "y", constants), path)
    x = normal(rng, 1, 8, 6, 6)
    np.save(tmp_path / "x.npy", x)
    arguments = [
        "run",
        str(path),
        "--input",
        f"x0={tmp_path / 'x.npy'}",
        "--threads",
        "1",
        "--top",
        "2",
        "--repeat",
        "1",
    ]
    assert __main__.main([*arguments, "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    expected = backend.run_model(path, [x])[0]
    best = np.argsort(-expected[0])[:2]
    assert f"top 2: {best[0]}: {expected[0, best[0]]:.6g}, {best[1]}: {expected[0, best[1]]:.6g}" in printed
    assert "Conv n0" in printed
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "y.npy"), expected)
    assert __main__.main(["run", str(path), "--repeat", "1"]) == 0
    capsys.readouterr()
    assert __main__.main(["run", str(path), "--input", "x.txt"]) == 1
    assert "'x.txt' is no input; pass FILE.npy" in capsys.readouterr().err
    assert __main__.main(["run", str(tmp_path / "none.onnx")]) == 1


def test_examples_of_the_page_run(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "integrations.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(examples) == 2
    for text in examples:
        done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
