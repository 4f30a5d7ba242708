"""The bounds on the error of the activations, on a sample of what tests/accuracy/ulp.py can check in full."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import convgrad
from convgrad._native import runtime

SCRIPT = Path(__file__).parent / "accuracy" / "ulp.py"
PACKAGE = str(Path(convgrad.__file__).parents[1])
pytest.importorskip("scipy")


def script():
    spec = importlib.util.spec_from_file_location("ulp", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("sample", [("--step", "6007"), ("--float64", "300000")], ids=["float32", "float64"])
@pytest.mark.parametrize("isa", runtime.isas())
def test_errors_stay_within_their_bounds(isa, sample):
    if sample[0] == "--float64" and np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps:
        pytest.skip("long double is double here")
    path = os.pathsep.join(filter(None, [PACKAGE, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, SCRIPT, *sample],
        env=os.environ | {"CONVGRAD_ISA": isa, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"| {isa}, {sample[0].strip('-').replace('step', 'float32')} |")
    without_gelu = "gelu is left out" in done.stderr
    assert not without_gelu or shutil.which("cc") is None
    assert done.stdout.count("\n") == 2 + 7 - without_gelu


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("tanh", lambda x: np.tanh(x) * np.float32(1.0000004)),
        ("sigmoid", lambda x: np.where(x < -100, 0, 1 / (1 + np.exp(-x))).astype(np.float32)),  # the denormal tail
        ("elu", lambda x: np.where(x > 0, x, np.exp(x) - 1).astype(np.float32)),  # cancellation near 0
        ("gelu", lambda x: np.where(x < -4, np.float32(-2e-7), convgrad.reference.gelu(x))),
    ],
)
def test_errors_are_noticed(name, wrong, monkeypatch):
    ulp = script()
    assert not ulp.exceeds(name, ulp.check(name, ulp.float32_chunks(20_011)))
    monkeypatch.setattr(convgrad, name, wrong)
    with np.errstate(all="ignore"):
        assert ulp.exceeds(name, ulp.check(name, ulp.float32_chunks(20_011)))


def test_units():
    ulp = script()
    for dtype in (np.float32, np.float64):
        x = np.array([0, 1e-45, 1e-38, 0.1, -0.75, 1, 3.4e38], dtype)
        np.testing.assert_array_equal(ulp.unit_of(x), np.spacing(np.abs(x)).astype(np.float64))
