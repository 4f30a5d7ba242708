"""Every instruction set: CONVGRAD_ISA picks it or the import fails, the suite passes on it, and all agree.

The other test files run on the set in use, the best of this CPU unless CONVGRAD_ISA says otherwise; here a selection of
them runs again in a process of its own on each of the others.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_kernel_table import CALLS, DTYPES, call_of

from convgrad import reference
from convgrad._native import runtime

TESTS = Path(__file__).parent
ALL_ISAS = ("scalar", "sse2", "neon", "avx2", "avx512")
PACKAGE = str(Path(runtime.__file__).parents[2])

# The files whose tests run again on every instruction set, and those that would say nothing new, with the reason.
SELECTED = (
    "test_activation.py",
    "test_conv.py",
    "test_conv_grad.py",
    "test_conv_rows.py",
    "test_conv_scale.py",
    "test_conv_unstaged.py",
    "test_convolve.py",
    "test_dense.py",
    "test_dropout.py",
    "test_fuzz.py",
    "test_inputs.py",
    "test_kernel_table.py",
    "test_local.py",
    "test_loss.py",
    "test_norm.py",
    "test_optimizers.py",
    "test_pool.py",
    "test_pool_quick.py",
    "test_pool_small.py",
    "test_pool_average.py",
    "test_prepack.py",
    "test_winograd.py",
    "test_winograd_axis.py",
    "test_winograd_numbers.py",
)
LEFT_OUT = {
    "test_conv_errors.py": "refusals come before any kernel",
    "test_errors.py": "refusals come before any kernel",
    "test_errors_elsewhere.py": "refusals come before any kernel",
    "test_pool_errors.py": "refusals come before any kernel",
}
SELECTION = "native or test_kernel_table or test_winograd or test_a_short_run"


def python(*arguments, **environment):
    """Run this Python; a variable set to None is taken out of its environment."""
    path = os.pathsep.join(filter(None, [PACKAGE, os.environ.get("PYTHONPATH")]))
    merged = os.environ | {"PYTHONPATH": path} | environment
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={name: value for name, value in merged.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def skip_unless_here(isa):
    if isa not in runtime.isas():
        pytest.skip(f"{isa} cannot run here; available: {', '.join(runtime.isas())}")


# ---------------------------------------------------------------------------------------------------------------------
# The choice
# ---------------------------------------------------------------------------------------------------------------------

SHOW = "from convgrad._native import runtime; print(runtime.isa(), runtime.lanes('float32'), *runtime.isas())"


def test_scalar_is_always_there_and_the_best_is_the_default():
    assert runtime.isas()[0] == "scalar"
    assert [isa for isa in ALL_ISAS if isa in runtime.isas()] == runtime.isas()  # slowest first
    for value in (None, ""):
        isa, _, *isas = python("-c", SHOW, CONVGRAD_ISA=value).stdout.split()
        assert isas == runtime.isas()
        assert isa == isas[-1]


@pytest.mark.parametrize("isa", ALL_ISAS)
def test_the_variable_picks_an_instruction_set(isa):
    skip_unless_here(isa)
    lanes = {"scalar": 1, "sse2": 4, "neon": 4, "avx2": 8, "avx512": 16}[isa]
    assert python("-c", SHOW, CONVGRAD_ISA=isa).stdout.split() == [isa, str(lanes), *runtime.isas()]


@pytest.mark.parametrize(
    "name", ["avx9", "AVX2", "avx2,fma", " ", "neon" if platform.machine() != "aarch64" else "sse2"]
)
def test_a_name_that_is_not_available_fails_the_import_and_lists_what_is(name):
    result = python("-c", "import convgrad", CONVGRAD_ISA=name)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1] == (
        f"ImportError: convgrad: CONVGRAD_ISA={name!r} is not available on this CPU in this build; "
        f"available: {', '.join(runtime.isas())}"
    )


@pytest.mark.parametrize(
    "cpu, isas", [("Nehalem", ["scalar", "sse2"]), ("Haswell", ["scalar", "sse2", "avx2"])], ids=["Nehalem", "Haswell"]
)
def test_an_emulated_cpu_gets_what_it_has(cpu, isas, computed, tmp_path):
    emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if platform.machine() != "x86_64" or not emulator:
        pytest.skip("not installed: qemu-x86_64 (emulates an older x86-64 CPU)")

    def emulated(program, **environment):
        path = os.pathsep.join(filter(None, [PACKAGE, os.environ.get("PYTHONPATH")]))
        environment = (
            os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | environment
        )
        return subprocess.run(
            [emulator, "-cpu", cpu, sys.executable, "-c", program, tmp_path / "results.npz", TESTS],
            env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    # Every functional, on the set that this CPU has: no illegal instruction, and the bits of the same set here.
    check = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[2])
import test_isa
results = test_isa.every_functional()
np.savez(sys.argv[1], **results)
"""
    result = emulated(SHOW + check, CONVGRAD_ISA="")
    assert result.returncode == 0, result.stderr
    isa, _, *found = result.stdout.split()
    assert found == isas
    assert isa == isas[-1]
    results = dict(np.load(tmp_path / "results.npz"))
    assert len(results) > 2 * len(CALLS)
    for label, result in results.items():
        np.testing.assert_array_equal(result, computed[isa][label], err_msg=label)
    refused = emulated("import convgrad", CONVGRAD_ISA="avx512")
    assert refused.returncode == 1
    assert refused.stderr.rstrip().endswith(f"; available: {', '.join(isas)}")


# ---------------------------------------------------------------------------------------------------------------------
# The suite on each
# ---------------------------------------------------------------------------------------------------------------------


def test_every_file_that_tests_both_backends_is_selected_or_left_out():
    using = {
        path.name
        for path in TESTS.glob("test_*.py")
        if re.search(r"^def test\w*\((\w+, )*backend\b", path.read_text(), re.MULTILINE)
    }
    assert using <= {*SELECTED, *LEFT_OUT}
    assert not set(SELECTED) & set(LEFT_OUT)


@pytest.mark.parametrize("isa", ALL_ISAS)
def test_the_suite_passes_on(isa):
    skip_unless_here(isa)
    if isa == runtime.isa():
        pytest.skip(f"{isa} is the set in use: all other test files have run on it")
    files = [TESTS / name for name in SELECTED]
    options = ("-q", "-x", "-p", "no:cacheprovider", "-k", SELECTION, "--rootdir", TESTS.parent)
    result = python("-m", "pytest", *options, *files, CONVGRAD_ISA=isa)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    passed = int(re.search(r"(\d+) passed", result.stdout)[1])
    assert passed > 1000, result.stdout[-500:]


# ---------------------------------------------------------------------------------------------------------------------
# They agree
# ---------------------------------------------------------------------------------------------------------------------

# label: (shape of x, shape of weight, options)
CONVOLUTIONS = {
    "direct": ((2, 17, 13, 19), (33, 17, 3, 3), dict(padding=1, algorithm="direct")),
    "winograd": ((2, 17, 13, 19), (33, 17, 3, 3), dict(padding=1, algorithm="winograd")),
    "strided": ((2, 12, 21, 18), (10, 6, 5, 3), dict(stride=(2, 3), dilation=(1, 2), groups=2)),
    "depthwise": ((2, 9, 16, 31), (9, 1, 3, 3), dict(padding=1, groups=9)),
    "1x1": ((3, 40, 9, 7), (24, 40, 1, 1), {}),
    "one channel": ((3, 1, 28, 28), (6, 1, 5, 5), dict(padding=2)),
}

COMPUTE = """
import sys
import numpy as np
import convgrad
sys.path.insert(0, sys.argv[2])
from test_isa import compute, every_functional
np.savez(sys.argv[1], **compute(convgrad.functional), **every_functional())
"""


def compute(module, dtypes=("float32", "float64")):
    """{label dtype result: array} of the functions in `module`."""
    results = {}
    for label, (x_shape, weight_shape, options) in CONVOLUTIONS.items():
        rng = np.random.default_rng(11)
        x, weight = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in (x_shape, weight_shape))
        for dtype in dtypes:
            x, weight = x.astype(dtype), weight.astype(dtype)
            y = module.conv2d(x, weight, activation="tanh", **options)
            grad = np.cos(np.arange(y.size)).reshape(y.shape).astype(np.float32).astype(dtype)
            results[f"{label} {dtype} y"] = y
            results[f"{label} {dtype} grad_input"] = module.conv2d_grad_input(grad, weight, x.shape, **options)
            results[f"{label} {dtype} grad_weight"] = module.conv2d_grad_weight(grad, x, weight.shape[2:], **options)
            results[f"{label} {dtype} grad_bias"] = module.conv2d_grad_bias(grad)
    return results


def arrays_in(result):
    """The arrays and numbers that a functional returned, one after another."""
    if isinstance(result, tuple):
        return [array for part in result for array in arrays_in(part)]
    return [np.asarray(result)] if isinstance(result, (np.ndarray, float, np.floating)) else []


def every_functional():
    """{"call dtype number": result} of every row of `test_kernel_table.CALLS`."""
    return {
        f"{label} {dtype} {i}": array
        for label in CALLS
        for dtype in DTYPES
        for i, array in enumerate(arrays_in(call_of(label, dtype)()))
    }


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """{isa or "default": results of a process on it}"""
    results = {}
    for isa in ("default", *runtime.isas()):
        path = tmp_path_factory.mktemp("isa") / f"{isa}.npz"
        ran = python("-c", COMPUTE, path, TESTS, CONVGRAD_ISA=None if isa == "default" else isa)
        assert ran.returncode == 0, ran.stderr
        results[isa] = dict(np.load(path))
    return results


def test_the_default_has_the_bits_of_the_best(computed):
    best = computed[runtime.isas()[-1]]
    assert computed["default"].keys() == best.keys()
    for label, result in computed["default"].items():
        np.testing.assert_array_equal(result, best[label], err_msg=label)


def test_all_agree_with_the_twin_and_with_each_other(computed):
    expected = compute(reference, ["float64"])
    for isa in runtime.isas():
        labels = [label for label in computed[isa] if label.split(" float")[0] in CONVOLUTIONS]
        assert len(labels) == 2 * len(expected)
        for label in labels:
            result = computed[isa][label]
            right = expected[label.replace("float32", "float64")]
            _, shape, _ = CONVOLUTIONS[label.split(" float")[0]]
            pixels = 2000  # the longest sum over pixels
            length = pixels if label.endswith(("weight", "bias")) else 2 * shape[0] * shape[2] * shape[3]
            factor = 4 if label.startswith("winograd") else 1  # F(4x4) rounds about three times as much
            tolerance = 2 * factor * np.finfo(result.dtype).eps * np.sqrt(length)
            np.testing.assert_allclose(
                result, right, rtol=tolerance, atol=tolerance * np.sqrt(length), err_msg=isa + label
            )
            np.testing.assert_allclose(
                result, computed["scalar"][label], rtol=tolerance, atol=tolerance * np.sqrt(length), err_msg=isa + label
            )


def test_every_functional_agrees_between_instruction_sets(computed):
    for isa in runtime.isas():
        labels = [label for label in computed[isa] if re.fullmatch(r".* float(32|64) \d+", label)]
        assert len(labels) > 2 * len(CALLS)
        for label in labels:
            result, plain = computed[isa][label], computed["scalar"][label]
            # Sums of up to 2340 terms; losses that are Python floats are sums of the dtype named in the label.
            eps = np.finfo(label.split()[-2]).eps
            tolerance = (500 if "winograd" in label else 60) * eps * max(1, np.abs(plain).max(initial=0))
            assert result.shape == plain.shape, isa + label
            np.testing.assert_allclose(result, plain, rtol=tolerance, atol=tolerance, err_msg=f"{isa}: {label}")
