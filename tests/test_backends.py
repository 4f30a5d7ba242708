"""Choosing who computes: process-wide, and for one context; what `show_config` prints."""

import asyncio
import contextvars
import io
import threading

import numpy as np
import pytest

import convgrad
from convgrad import functional, reference
from convgrad._native import runtime


@pytest.fixture(autouse=True)
def _native_afterwards():
    yield
    convgrad.set_backend("native")


def computes_natively():
    """Whether a call made here runs a kernel."""
    before = runtime.kernel_calls()
    functional.conv2d(np.ones((1, 2, 5, 5)), np.ones((3, 2, 3, 3)))
    return runtime.kernel_calls() != before


def check(name):
    assert convgrad.get_backend() == name
    assert computes_natively() == (name == "native")


def test_native_is_the_default():
    check("native")


def test_set_backend_is_process_wide():
    convgrad.set_backend("numpy")
    check("numpy")
    seen = []
    worker = threading.Thread(target=lambda: seen.append((convgrad.get_backend(), computes_natively())))
    worker.start()
    worker.join()
    assert seen == [("numpy", False)]
    convgrad.set_backend("native")
    check("native")


def test_backend_nests_and_ends_with_its_block():
    with convgrad.backend("numpy"):
        check("numpy")
        with convgrad.backend("native"):
            check("native")
        check("numpy")
        convgrad.set_backend("numpy")
        with convgrad.backend("native"):  # what a context says goes before what the process says
            check("native")
        convgrad.set_backend("native")
        check("numpy")
    check("native")
    with pytest.raises(KeyError), convgrad.backend("numpy"):
        raise KeyError
    check("native")


def test_backend_is_local_to_its_thread():
    inside, leave, seen = threading.Event(), threading.Event(), []

    def work():
        with convgrad.backend("numpy"):
            inside.set()
            leave.wait(30)
            seen.append(convgrad.get_backend())
        seen.append(convgrad.get_backend())

    worker = threading.Thread(target=work)
    worker.start()
    assert inside.wait(30)
    check("native")
    with convgrad.backend("native"):
        leave.set()
        worker.join(30)
    assert seen == ["numpy", "native"]


def test_backend_is_local_to_its_task():
    async def task(name, turns):
        with convgrad.backend(name):
            for _ in range(turns):
                await asyncio.sleep(0)
                check(name)

    async def tasks():
        await asyncio.gather(task("numpy", 3), task("native", 4), task("numpy", 5))
        check("native")

    asyncio.run(tasks())


def test_a_copied_context_keeps_its_backend():
    with convgrad.backend("numpy"):
        context = contextvars.copy_context()
    check("native")
    context.run(check, "numpy")


def test_both_backends_compute_the_same(rng, check_close):
    x, weight, bias = rng.uniform(-1, 1, (2, 3, 7, 8)), rng.uniform(-1, 1, (4, 3, 3, 3)), rng.uniform(-1, 1, 4)
    native = convgrad.conv2d(x, weight, bias)
    with convgrad.backend("numpy"):
        twin = convgrad.conv2d(x, weight, bias)
    np.testing.assert_array_equal(twin, reference.conv2d(x, weight, bias))
    check_close(native, twin, 27)


@pytest.mark.parametrize("name", ["set_backend", "backend"])
@pytest.mark.parametrize(
    "value, error, text",
    [
        ("torch", ValueError, "name must be one of 'native', 'numpy'; got 'torch'"),
        ("Native", ValueError, "name must be one of 'native', 'numpy'; got 'Native'"),
        ("", ValueError, "name must be one of 'native', 'numpy'; got ''"),
        (None, TypeError, "name must be a string, one of 'native', 'numpy'; got NoneType"),
        (1, TypeError, "name must be a string, one of 'native', 'numpy'; got int"),
    ],
)
def test_errors(name, value, error, text):
    with pytest.raises(error) as caught:
        if name == "set_backend":
            convgrad.set_backend(value)
        else:
            with convgrad.backend(value):
                pass
    assert str(caught.value) == f"{name}: {text}"
    check("native")


def test_show_config_says_what_is_in_force():
    def shown():
        file = io.StringIO()
        convgrad.show_config(file)
        return dict(map(str.strip, line.split(":", 1)) for line in file.getvalue().splitlines())

    facts = shown()
    assert facts["convgrad"] == convgrad.__version__
    assert facts["backend"] == "native"
    assert facts["isa"] == runtime.isa()
    assert facts["isas"].split(", ") == runtime.isas()
    assert facts["precision"] == "fast"
    assert facts["numpy"] == np.__version__
    with convgrad.backend("numpy"), convgrad.precision("strict"), convgrad.threads(3):
        facts = shown()
    assert facts["backend"] == "numpy"
    assert facts["precision"] == "strict"
    assert facts["threads"] == ("3" if runtime.has_openmp else "1")


def test_show_config_prints_to_standard_output(capsys):
    convgrad.show_config()
    assert f"backend: {convgrad.get_backend()}" in capsys.readouterr().out
