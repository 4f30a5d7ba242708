"""The asv suite: every class sets up and runs, compares before it times, and skips what a commit does not have."""

import importlib
import inspect
import itertools
import os
import pkgutil
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import convgrad

sys.path.append(str(Path(__file__).resolve().parents[1] / "asv_bench"))

with mock.patch.dict(os.environ, CONVGRAD_BENCH="short"):
    import benchmarks
    from benchmarks import common, conv, startup

    MODULES = [importlib.import_module(f"benchmarks.{item.name}") for item in pkgutil.iter_modules(benchmarks.__path__)]

CLASSES = [
    value
    for module in MODULES
    for name, value in inspect.getmembers(module, inspect.isclass)
    if value.__module__ == module.__name__ and not name.startswith("_")
]
COMPARED = [value for value in CLASSES if issubclass(value, common._Compared)]


@pytest.mark.parametrize("benchmark", COMPARED, ids=lambda value: value.__name__)
def test_every_class_runs(benchmark):
    """The first parameters only: asv runs the rest."""
    params = next(itertools.product(*benchmark.params))
    instance = benchmark()
    instance.setup(*params)
    try:
        for method in (instance.time_native, instance.time_twin, instance.peakmem_native):
            method(*params)
    finally:
        instance.teardown(*params)


def test_what_is_there():
    assert {"Conv2d", "Conv2dGradInput", "MaxPool2d", "Softmax", "Linear", "TrainingStep"} <= {
        c.__name__ for c in COMPARED
    }
    for benchmark in CLASSES:
        assert benchmark.__doc__, benchmark
        tracked = [value for name, value in inspect.getmembers(benchmark) if name.startswith("track_")]
        assert all(value.unit for value in tracked), benchmark
        if benchmark in COMPARED:
            assert benchmark.param_names[:3] == ["layer", "dtype", "n_threads"]
            assert len(benchmark.param_names) == len(benchmark.params)
            assert all(hasattr(convgrad, name) for name in benchmark.needs)


def test_a_ratio_is_below_one_where_native_is_faster(monkeypatch):
    monkeypatch.setattr(common, "paired", lambda native, twin, **options: mock.Mock(ratio=4.0))  # twin / native
    assert conv.Conv2d().track_ratio.__func__(mock.Mock()) == 0.25


def test_a_wrong_result_is_never_timed(capfd):
    class Wrong(conv.Conv2d):
        def operation(self, module, *params):
            call = super().operation(module, *params)
            return (lambda: call() * 1.001) if module is convgrad else call

    params = next(itertools.product(*Wrong.params))
    with pytest.raises(AssertionError, match="would time a wrong result"):
        Wrong().setup(*params)
    assert "Wrong: native and twin disagree" in capfd.readouterr().err


def test_a_commit_without_the_operation_is_skipped():
    class Missing(conv.Conv2d):
        needs = ("conv9d",)

    instance = Missing()
    params = next(itertools.product(*Missing.params))
    with pytest.raises(NotImplementedError, match=r"this commit has no conv9d, reference\.conv9d"):
        instance.setup(*params)
    instance.teardown(*params)


def test_the_check_leaves_no_memory_behind():
    """What the twin allocates in `setup` belongs to a child: nothing of it is in this process."""
    seen = []
    common.apart(lambda: seen.append(1))
    assert not seen or not hasattr(os, "fork")


def test_results_are_close_or_not():
    a = np.ones(4, np.float32)
    common.close((a, None), (a * (1 + 1e-6), None), 1e-4, "f")
    with pytest.raises(AssertionError, match="f: native and twin disagree"):
        common.close(a, a * 1.01, 1e-4, "f")
    with pytest.raises(AssertionError):
        common.close(a, np.full(4, np.nan), 1e-4, "f")


def test_the_size_of_the_wheel_is_plausible(monkeypatch):
    package = Path(convgrad.__file__).parent
    files = []
    for path in package.rglob("*.py"):
        file = mock.Mock(suffix=path.suffix, locate=lambda path=path: path)
        file.__str__ = lambda self, path=path: str(path.relative_to(package))
        files.append(file)
    monkeypatch.setattr(startup.importlib.metadata, "files", lambda name: files)
    total = sum(path.stat().st_size for path in package.rglob("*.py"))
    assert total // 6 < startup.Size().track_wheel_bytes() < total


def test_an_unknown_profile_is_refused(monkeypatch):
    monkeypatch.setenv("CONVGRAD_BENCH", "tiny")
    with pytest.raises(ValueError, match="CONVGRAD_BENCH='tiny' is neither 'full' nor 'short'"):
        importlib.reload(importlib.import_module("benchmarks.common"))
