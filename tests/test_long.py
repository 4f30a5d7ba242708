"""Short runs of the programs in tests/long, and that they notice what they look for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import convgrad

FOLDER = Path(__file__).parent / "long"
PACKAGE = Path(convgrad.__file__).parents[1]
sys.path.insert(0, str(FOLDER))

import calls  # noqa: E402  (a program of a folder, not a package)


def run(program, *arguments):
    path = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, FOLDER / program, *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_stays_flat_over_mixed_calls():
    done = run("calls.py", "--calls", "12000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n") == 2 + 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_that_grows_is_noticed(monkeypatch):
    leaked = []
    monkeypatch.setattr(calls, "CALLS", {"relu": calls.CALLS["relu"]})
    monkeypatch.setattr(calls, "pooling", lambda draw, rng: leaked.append(bytearray(os.urandom(1024)) * 4000))
    figures = calls.run(1500, 150, say=lambda text: None)
    assert len(leaked) > 30
    assert calls.grew(figures)
    assert not calls.grew([100 << 20] * 10)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_interrupted_training_ends_with_the_same_weights():
    pytest.importorskip("safetensors")
    done = run("interrupted.py", "--times", "5", "--epochs", "40", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 interruptions" in done.stdout.splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_run_that_starts_over_with_other_numbers_is_noticed(tmp_path):
    """With another seed after each interruption the end cannot be the same."""
    pytest.importorskip("safetensors")
    text = (FOLDER / "interrupted.py").read_text()
    program = tmp_path / "other.py"
    program.write_text(text.replace("seed=3, resume=checkpoint", 'seed=__import__("os").getpid(), resume=checkpoint'))
    assert program.read_text() != text
    done = run(program, "--times", "2", "--epochs", "10")
    assert done.returncode == 1
    assert "ended with other weights, state or history" in done.stderr
