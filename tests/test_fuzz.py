"""A short run of the fuzzer in `tests/fuzz`, and that it speaks: of overruns on both sides, wrong numbers, writes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import convgrad
from convgrad._native import memory

FOLDER = Path(__file__).parent / "fuzz"
sys.path.insert(0, str(FOLDER))

import fuzz  # noqa: E402  (a program's folder, not a package)
import run  # noqa: E402

SEED = 20240817
CASES = 4000
PACKAGE = str(Path(convgrad.__file__).parents[1])


@pytest.fixture
def fuzzer():
    yield fuzz.Fuzzer(SEED)
    memory.set_junk(0)


def test_a_short_run(fuzzer):
    functions = {fuzzer.run(index) for index in range(CASES)}
    assert functions == set(convgrad.functional.__all__) - {"explain_conv2d"}


def test_a_case_is_the_same_whenever_it_is_drawn(fuzzer):
    case, dtype, arguments = fuzzer.drawn(7)
    drawn = {name: value.tobytes() for name, value in arguments.items()}
    fuzzer.run(3)
    again, again_dtype, arguments = fuzzer.drawn(7)
    assert (again.function, again.options, again_dtype) == (case.function, case.options, dtype)
    assert {name: value.tobytes() for name, value in arguments.items()} == drawn
    assert fuzz.describe(SEED, 7).startswith(f"seed {SEED} case 7: {case.function}, {dtype}")


def index_of(fuzzer, function):
    """The first case that calls `function` with a result that is not empty."""
    for index in range(5000):
        case, _, arguments = fuzzer.drawn(index)
        if case.function == function and all(value.size for value in arguments.values()):
            return index
    raise AssertionError(f"no case of {function}")


def spoil(monkeypatch, change):
    call = fuzz._call

    def spoilt(module, case, arrays, out):
        result = call(module, case, arrays, out)
        return change(result, arrays) if module is convgrad.functional else result

    monkeypatch.setattr(fuzz, "_call", spoilt)


def one_wrong(result, arrays):
    result[(-1,) * result.ndim] += 0.01
    return result


def one_nan(result, arrays):
    result[(0,) * result.ndim] = np.nan
    return result


def an_input_written(result, arrays):
    for array in arrays.values():
        array.flags.writeable = True
        array[(-1,) * array.ndim] = 0.125
    return result


@pytest.mark.parametrize(
    "change, says",
    [(one_wrong, "differs by more than"), (one_nan, "1 NaN misplaced"), (an_input_written, "changed"),
     (lambda result, arrays: result[..., :-1], "has shape|is not out")],
)  # fmt: skip
@pytest.mark.parametrize("function", ["conv2d", "conv1d_grad_input", "avg_pool2d", "linear", "global_avg_pool2d"])
def test_a_wrong_result_is_found(fuzzer, function, change, says, monkeypatch):
    index = index_of(fuzzer, function)
    fuzzer.run(index)
    spoil(monkeypatch, change)
    with pytest.raises(fuzz.Mismatch, match=says):
        fuzzer.run(index)


def test_a_write_beside_an_array_is_found(fuzzer, monkeypatch):
    index = index_of(fuzzer, "conv2d")

    def beside(result, arrays):
        fuzzer.arenas.all[0].margins[0 if fuzzer.arenas.all[0].margins[0].size else 1][-1:] = 0
        return result

    spoil(monkeypatch, beside)
    with pytest.raises(fuzz.Mismatch, match="written beside an array"):
        fuzzer.run(index)


OVERRUN = """
import ctypes, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from guarded import Arena
at_end = sys.argv[2] == "after"
array = Arena(10_000).array((3, 5), np.float32, [5, 1], at_end=at_end)
array[...] = 1
address = array.ctypes.data
print("ready", array.sum(), flush=True)
if sys.argv[3] == "read":
    ctypes.string_at(address + array.nbytes if at_end else address - 1, 1)
else:
    ctypes.memset(address + array.nbytes if at_end else address - 1, 0, 1)
print("survived")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect")
@pytest.mark.parametrize("access", ["read", "write"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_guard_pages_end_a_process_that_touches_them(side, access):
    arguments = [sys.executable, "-c", OVERRUN, FOLDER, side, access]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.stdout.split() == ["ready", "15.0"]
    assert result.returncode < 0  # by a signal


def test_the_program(capfd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", PACKAGE)
    isa = convgrad._native.runtime.isas()[0]
    assert run.main(["--cases", "30", "--seed", "5", "--isa", isa]) == 0
    assert f"{isa}: 30 cases of seed 5 from 0, 0 failed" in capfd.readouterr().out
    assert run.main(["--seed", "5", "--show", "3"]) == 0
    assert "seed 5 case 3: " in capfd.readouterr().out
