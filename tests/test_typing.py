"""Type hints: every public name has them, they say what the code says, and a strict checker is content with them."""

import importlib
import inspect
import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import convgrad
from convgrad import activations, backends, functional, options, reference, shapes
from convgrad import typing as types
from convgrad.precision import PRECISIONS

ROOT = Path(__file__).resolve().parents[1]
SOURCES = Path(convgrad.__file__).parents[1]

# What people write: no complaint, and nothing they get is an Any.
GOOD = """
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import convgrad
from convgrad import augmentation, callbacks, checkpoints, datasets, gan, layers, optimizers, schedules, training
from convgrad.typing import Array, FloatArray, Padding, PlaneIndices, WindowIndices

F32 = Array[np.float32]
F64 = Array[np.float64]


def block(x: NDArray[np.float32], weight: NDArray[np.float32], padding: Padding) -> NDArray[np.float32]:
    return convgrad.conv2d(x, weight, padding=padding, activation=("leaky_relu", 0.1))


def either(x: FloatArray, weight: FloatArray, flag: bool) -> FloatArray:
    convgrad.max_pool2d(x, 2, return_indices=flag)
    convgrad.conv2d_backward(x, x, weight, bias=flag)
    return convgrad.conv2d(x, weight)


rng = np.random.default_rng(0)
x = rng.standard_normal((2, 3, 8, 8), dtype=np.float32)
weight = rng.standard_normal((4, 3, 3, 3), dtype=np.float32)
y = convgrad.conv2d(x, weight, stride=(2, 1), padding="same", activation="relu")
assert_type(y, F32)
assert_type(y.shape, tuple[int, ...])
assert_type(convgrad.conv2d(x.astype(np.float64), weight.astype(np.float64)), F64)
assert_type(convgrad.conv1d(x[:, :, 0], weight[:, :, 0], layout="NCW"), F32)
assert_type(convgrad.conv2d_grad_input(y, weight, x.shape, stride=(2, 1), padding="same"), F32)
assert_type(convgrad.conv2d_grad_weight(y, x, 3), F32)
assert_type(convgrad.conv2d_backward(y, x, weight, padding=1), tuple[F32, F32, F32])
assert_type(convgrad.conv2d_backward(y, x, weight, bias=False), tuple[F32 | None, F32 | None, F32 | None])
assert_type(convgrad.max_pool2d(x, 2), F32)
assert_type(convgrad.max_pool2d(x, 2, return_indices=True, stride=1), tuple[F32, WindowIndices])
assert_type(convgrad.global_max_pool2d(x, return_indices=True), tuple[F32, PlaneIndices])
assert_type(convgrad.softmax_cross_entropy(y[:, :, 0, 0], np.array([1, 2])), tuple[float, F32])
assert_type(convgrad.least_squares(x, x, reduction="none"), tuple[F32, F32])
assert_type(convgrad.batch_norm(x, None, None, training=True), tuple[F32, F32, F32, None, None])
assert_type(convgrad.dropout(x, rng=1)[0], F32)
assert_type(convgrad.reference.conv2d(x, weight), F32)
assert_type(convgrad.reference.max_pool2d(x, 2), F32)
assert_type(convgrad.prepack_conv2d(weight, input_shape=x.shape)(x), F32)
assert_type(convgrad.explain_conv2d(x.shape, weight.shape)["threads"], int)
assert_type(convgrad.get_num_threads(), int)
with convgrad.backend("numpy"), convgrad.precision("strict"), convgrad.threads(2):
    block(x, weight, ((0, 1), (1, 0)))

images, labels = datasets.load_digits()
assert_type(images, F32)
model = layers.Sequential([layers.Conv2D(1, 8, 3, activation="relu"), layers.Flatten(), layers.Dense(288, 10, rng=0)])
assert_type(model(images), FloatArray)
assert_type(model.backward(y), FloatArray)
assert_type(model[0], layers.Layer)
assert_type(layers.ReLU().train(), layers.ReLU)
history = training.fit(
    model,
    images,
    labels,
    loss="softmax_cross_entropy",
    optimizer=optimizers.Adam(1e-3, betas=(0.9, 0.99)),
    epochs=1,
    validation_data=(images, labels),
)
assert_type(history["loss"], list[float])
assert_type(training.evaluate(model, images, labels).accuracy, float | None)
assert_type(training.predict(model, images), FloatArray)
checkpoints.save(model, "model.safetensors")
training.fit(
    model,
    lambda: iter([(images, labels)]),
    epochs=2,
    augment=augmentation.chain(augmentation.shift((1, 2)), augmentation.flip("vertical")),
    schedule=schedules.with_warmup(schedules.cosine(0.1, 10), 1),
    callbacks=[callbacks.EarlyStopping("loss"), lambda run: run.say("one more")],
    resume="run.safetensors",
)
assert_type(model.summary((1, 8, 8)).n_parameters, int)
critic = layers.Sequential([layers.Flatten(), layers.Dense(64, 1)])
both = gan.GAN(model, critic, 16, "minimax", generator_optimizer=optimizers.SGD(0.1), label_smoothing=0.1)
assert_type(both.sample(3, rng=0), FloatArray)
assert_type(both.fit(images, n_iterations=10)["js"], list[float])
assert_type(both.diagnose().failures, list[str])
assert_type(gan.js_divergence([0.5, 0.5], [1.0, 0.0]), float)
convgrad.empty_cache()
"""

# What nobody should write: a complaint in every line below the blank one.
BAD = """import numpy as np
import convgrad
from convgrad import layers, training
x = np.ones((1, 1, 4, 4), np.float32)

convgrad.conv2d(x.astype(np.int64), x)
convgrad.conv2d(x, x, padding="Same")
convgrad.conv2d(x, x, algorithm="fft")
convgrad.conv2d(x, x, activation="swish")
convgrad.conv2d(x, x, strides=2)
convgrad.conv2d(x, x, stride=1.5)
convgrad.conv2d_backward(x, x, x, strides=2)
convgrad.conv_transpose2d(x, x, padding="same")
convgrad.max_pool2d(x)
convgrad.conv3d(x, x)
convgrad.set_backend("cuda")
layers.Conv2D(1, 2)
training.fit(layers.ReLU(), x, x, epochs=1, loss="mse")
"""


def mypy(*options, **environment):
    """Output of mypy."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--no-pretty", *map(str, options)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=os.environ | environment, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def check(program, folder):
    """Output of mypy --strict for a program that uses the package, whose own sources are not reported on."""
    file = folder / "program.py"
    file.write_text(program, encoding="utf-8")
    found = {} if "site-packages" in SOURCES.parts else {"MYPYPATH": str(SOURCES)}
    silent = ("--strict", "--follow-imports=silent", "--config-file=")
    return mypy(*silent, "--cache-dir", folder / "cache", file, **found)


def test_the_package_passes_the_checker(tmp_path):
    output = mypy("--config-file", ROOT / "pyproject.toml", "--cache-dir", tmp_path)
    assert output.startswith("Success"), output


def test_a_program_passes_the_strict_checker(tmp_path):
    output = check(GOOD, tmp_path)
    assert output.startswith("Success"), output


def test_wrong_programs_do_not_pass(tmp_path):
    output = check(BAD, tmp_path)
    complaints = {int(line) for line in re.findall(r"program\.py:(\d+): error", output)}
    first = BAD[: BAD.index("\n\n")].count("\n") + 3
    assert complaints == set(range(first, BAD.count("\n") + 1)), output


def public_callables():
    """(name, function) of every function and method that people may call."""
    modules = [convgrad, *(importlib.import_module(f"convgrad.{name}") for name in convgrad._SUBMODULES)]
    for module in modules:
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield f"{module.__name__}.{name}", value
            elif inspect.isclass(value) and not issubclass(value, tuple):
                yield from (
                    (f"{module.__name__}.{name}.{key}", method)
                    for key, method in vars(value).items()
                    if inspect.isfunction(method)
                )


def test_every_public_callable_is_annotated():
    names = set()
    missing = []
    for name, function in public_callables():
        names.add(name)
        signature = inspect.signature(function)
        if signature.return_annotation is signature.empty:
            missing.append(f"{name}: its result")
        missing += [
            f"{name}: {parameter.name}"
            for parameter in signature.parameters.values()
            if parameter.name != "self" and parameter.annotation is parameter.empty
        ]
    assert {"convgrad.conv2d", "convgrad.layers.Conv2D.__init__", "convgrad.training.fit"} <= names
    assert not missing


@pytest.mark.parametrize("name", functional.__all__)
def test_hints_can_be_evaluated_and_the_twin_has_the_same(name):
    function = getattr(functional, name)
    assert typing.get_type_hints(function)
    if name not in ("explain_conv2d", "prepack_conv2d"):  # they say and keep what kernels do: no twin
        assert inspect.signature(getattr(reference, name)) == inspect.signature(function)


def test_all_twins_are_listed():
    assert set(functional.__all__) - set(reference.__all__) == {"explain_conv2d", "prepack_conv2d"}
    assert set(reference.__all__) <= set(functional.__all__) <= set(convgrad.__all__)


def test_literals_are_the_names_that_the_checks_allow():
    assert typing.get_args(types.ActivationName) == activations.NAMES
    assert set(typing.get_args(typing.get_args(types.Activation)[1])[0].__args__) == set(activations.DEFAULT_PARAMETERS)
    assert typing.get_args(types.Algorithm) == shapes.ALGORITHMS
    assert typing.get_args(types.Layout) == options.LAYOUTS
    assert typing.get_args(types.Layout1d) == tuple(options.LAYOUTS_1D)
    assert typing.get_args(types.Padding)[-1].__args__ == options.PADDING_NAMES
    assert typing.get_args(types.BackendName) == backends.BACKENDS
    assert typing.get_args(types.PrecisionName) == PRECISIONS


@pytest.mark.parametrize(
    "group, name",
    [
        ("Conv2dOptions", "conv2d_backward"),
        ("Conv1dOptions", "conv1d_backward"),
        ("ConvTranspose2dOptions", "conv_transpose2d_backward"),
        ("ConvTranspose1dOptions", "conv_transpose1d_backward"),
        ("PoolOptions", "max_pool2d"),
    ],
)
def test_groups_of_options_agree_with_the_signatures(group, name):
    hints = typing.get_type_hints(getattr(functional, name))
    others = {"grad_output", "x", "weight", "kernel_size", "input_grad", "weight_grad", "bias", "return_indices", "out"}
    assert typing.get_type_hints(getattr(types, group)) == {
        key: hint for key, hint in hints.items() if key not in others | {"return"}
    }
