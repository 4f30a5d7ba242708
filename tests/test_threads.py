"""Threads: how many, for whom; forks, OpenMP's own settings and the GIL around them."""

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time

import numpy as np
import pytest

import convgrad
from convgrad import functional
from convgrad._native import runtime

openmp = pytest.mark.skipif(not runtime.has_openmp, reason="this build has no OpenMP: one thread")


def in_effect(n):
    """What get_num_threads says where n are allowed."""
    return n if runtime.has_openmp else 1


@pytest.fixture(autouse=True)
def _threads_afterwards():
    before = runtime.get_threads()
    yield
    convgrad.set_num_threads(before)


# ---------------------------------------------------------------------------------------------------------------------
# How many
# ---------------------------------------------------------------------------------------------------------------------


def test_set_and_get():
    for n in (1, 2, 7, 1024, np.int64(3)):
        convgrad.set_num_threads(n)
        assert convgrad.get_num_threads() == in_effect(int(n))
    seen = []
    worker = threading.Thread(target=lambda: seen.append(convgrad.get_num_threads()))
    worker.start()
    worker.join()
    assert seen == [in_effect(3)]


def test_threads_nests_and_ends_with_its_block():
    convgrad.set_num_threads(5)
    with convgrad.threads(2):
        assert convgrad.get_num_threads() == in_effect(2)
        with convgrad.threads(3):
            assert convgrad.get_num_threads() == in_effect(3)
            convgrad.set_num_threads(6)
            assert convgrad.get_num_threads() == in_effect(3)
        assert convgrad.get_num_threads() == in_effect(2)
    assert convgrad.get_num_threads() == in_effect(6)
    with pytest.raises(KeyError), convgrad.threads(2):
        raise KeyError
    assert convgrad.get_num_threads() == in_effect(6)


def test_threads_is_local_to_its_thread():
    convgrad.set_num_threads(4)
    inside, leave, seen = threading.Event(), threading.Event(), []

    def work():
        seen.append(convgrad.get_num_threads())
        with convgrad.threads(2):
            inside.set()
            leave.wait(30)
            seen.append(convgrad.get_num_threads())

    with convgrad.threads(3):
        worker = threading.Thread(target=work)
        worker.start()
        assert inside.wait(30)
        assert convgrad.get_num_threads() == in_effect(3)
    leave.set()
    worker.join(30)
    assert seen == [in_effect(4), in_effect(2)]


def test_threads_is_local_to_its_task():
    async def task(n):
        with convgrad.threads(n):
            for _ in range(n):
                await asyncio.sleep(0)
                assert convgrad.get_num_threads() == in_effect(n)
                used = functional.explain_conv2d((8, 64, 56, 56), (64, 64, 3, 3))["threads"]
                assert used == in_effect(n)

    async def tasks():
        await asyncio.gather(*(task(n) for n in (2, 3, 4, 5)))

    convgrad.set_num_threads(1)
    asyncio.run(tasks())
    assert convgrad.get_num_threads() == 1


def test_a_copied_context_keeps_its_threads():
    convgrad.set_num_threads(1)
    with convgrad.threads(6):
        context = contextvars.copy_context()
    assert convgrad.get_num_threads() == 1
    assert context.run(convgrad.get_num_threads) == in_effect(6)


@pytest.mark.parametrize("name", ["set_num_threads", "threads"])
@pytest.mark.parametrize(
    "value, error, text",
    [
        (0, ValueError, "n must be at least 1, got 0"),
        (-3, ValueError, "n must be at least 1, got -3"),
        (1025, ValueError, "n must be at most 1024, got 1025"),
        (10**20, ValueError, f"n must be at most 1024, got {10**20}"),
        (2.0, TypeError, "n must be an integer, got 2.0 (float)"),
        ("2", TypeError, "n must be an integer, got '2' (str)"),
        (None, TypeError, "n must be an integer, got None (NoneType)"),
        (True, TypeError, "n must be an integer, got True"),
    ],
)
def test_errors(name, value, error, text):
    before = convgrad.get_num_threads()
    with pytest.raises(error) as caught:
        if name == "set_num_threads":
            convgrad.set_num_threads(value)
        else:
            with convgrad.threads(value):
                pass
    assert str(caught.value) == f"{name}: {text}"
    assert convgrad.get_num_threads() == before


# ---------------------------------------------------------------------------------------------------------------------
# In a process of its own
# ---------------------------------------------------------------------------------------------------------------------


def python(program, check=True, seconds=60, **environment):
    """Run a program, its text or [path, arguments...], in a new interpreter; None takes a variable out."""
    merged = os.environ | environment
    process = subprocess.Popen(
        [sys.executable, *(["-c", program] if isinstance(program, str) else map(str, program))],
        env={name: value for name, value in merged.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # what it forked as well
        output, errors = process.communicate()
        pytest.fail(f"no end after {seconds} s; printed {output!r} {errors!r}")
    if check:
        assert process.returncode == 0, errors
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@pytest.mark.parametrize("value, expected", [("1", 1), ("3", 3), (" 1024 ", 1024)])
def test_the_environment_variable(value, expected):
    result = python("import convgrad; print(convgrad.get_num_threads())", CONVGRAD_NUM_THREADS=value)
    assert int(result.stdout) == in_effect(expected)


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "1025", "99999999999999999999", "²", "1 2", "+2"])
def test_bad_values_of_the_environment_variable(value):
    result = python("import convgrad", check=False, CONVGRAD_NUM_THREADS=value)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last == f"ImportError: convgrad: CONVGRAD_NUM_THREADS={value!r} must be an integer from 1 to 1024"


@openmp
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity of processes on this system")
def test_the_default_is_the_number_of_cpus_of_this_process():
    program = "import os; {}; import convgrad; print(convgrad.get_num_threads(), len(os.sched_getaffinity(0)))"
    for value in (None, ""):
        threads, cpus = python(program.format("pass"), CONVGRAD_NUM_THREADS=value).stdout.split()
        assert 1 <= int(threads) <= int(cpus)  # fewer where a cgroup grants fewer
    one = min(os.sched_getaffinity(0))
    pinned = python(program.format(f"os.sched_setaffinity(0, {{{one}}})"), CONVGRAD_NUM_THREADS=None)
    assert pinned.stdout.split() == ["1", "1"]


BITS = """
import hashlib, os, sys
import numpy as np
import convgrad

def bits(n):
    rng = np.random.default_rng(1)
    x, weight = rng.standard_normal((3, 32, 40, 40), np.float32), rng.standard_normal((48, 32, 3, 3), np.float32)
    with convgrad.threads(n):
        y = convgrad.conv2d(x, weight, padding=1)
        grads = convgrad.conv2d_backward(y, x, weight, padding=1, algorithm="direct")
        pooled = convgrad.max_pool2d(convgrad.tanh(y), 2)
    return hashlib.sha256(b"".join(array.tobytes() for array in (y, *grads, pooled))).hexdigest()
"""

AFFINITY = """
import time
tasks = lambda: sorted(os.listdir("/proc/self/task"))
allowed = os.sched_getaffinity(0)
expected = bits(1)
for i in range(20):
    assert bits(2 + i % 3) == expected
    time.sleep(0.02)  # workers fall asleep and are woken again
assert len(tasks()) > 1
print(*[os.sched_getaffinity(int(task)) == allowed for task in tasks()])
"""


@openmp
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity of processes on this system")
def test_workers_keep_the_processors_that_they_may_use():
    """They may move to another processor, but not for good, and whoever has only one shares it."""
    one = min(os.sched_getaffinity(0))
    for first in ("", f"import os; os.sched_setaffinity(0, {{{one}}})\n"):
        assert set(python(first + BITS + AFFINITY).stdout.split()) == {"True"}


def test_openmps_own_settings_do_not_change_the_bits():
    expected = python(BITS + "print(bits(1))").stdout
    for settings in (
        {"OMP_THREAD_LIMIT": "1"},
        {"OMP_THREAD_LIMIT": "2", "OMP_DYNAMIC": "true"},
        {"OMP_NUM_THREADS": "1"},
        {"OMP_SCHEDULE": "dynamic,1", "OMP_MAX_ACTIVE_LEVELS": "0"},
    ):
        assert python(BITS + "print(bits(4))", **settings).stdout == expected, settings


FORK = (
    BITS
    + """
import threading, warnings
warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads

expected = bits(2)
def wait(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

for generation in range(5):
    child = os.fork()
    if child == 0:
        same = bits(3) == expected
        grandchild = os.fork()  # the child has run parallel regions as well
        if grandchild == 0:
            os._exit(0 if same and bits(2) == expected else 1)
        os._exit(wait(grandchild))
    assert wait(child) == 0
    assert bits(2) == expected  # the parent gets new workers

# beside another thread that computes
stop = threading.Event()
def compute():
    while not stop.is_set():
        bits(2)
worker = threading.Thread(target=compute)
worker.start()
for generation in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0 if bits(2) == expected else 1)
    assert wait(child) == 0
stop.set()
worker.join()
print("done")
"""
)

POOL = (
    BITS
    + """
import multiprocessing

if __name__ == "__main__":
    expected = bits(2)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert set(pool.map(bits, [1, 2, 3, 2, 1, 4])) == {expected}
    print("done")
"""
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("program", [FORK, POOL], ids=["os.fork", "multiprocessing"])
def test_fork_after_use_works(program):
    result = python(program, check=False)
    assert result.stdout == "done\n", result.stderr


# ---------------------------------------------------------------------------------------------------------------------
# The GIL
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this interpreter always has a GIL")
def test_importing_leaves_the_gil_off():
    program = "import sys, convgrad.layers; print(sys._is_gil_enabled())"
    assert python(program, PYTHON_GIL=None).stdout == "False\n"


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    "call",
    [
        lambda x, w: functional.conv2d(x, w, algorithm="direct"),
        lambda x, w: functional.conv2d_grad_weight(x, x, 1),
        lambda x, w: functional.gelu(x.view(np.float64)),
    ],
    ids=["conv2d", "conv2d_grad_weight", "gelu"],
)
def test_large_calls_release_the_gil(call, n_threads):
    """Another thread goes on while the call runs. With the GIL held it could take a step or two between bytecodes.

    On a busy machine the other thread may not get a processor meanwhile, hence several tries.
    """
    x, weight = np.ones((4, 64, 100, 100), np.float32), np.ones((64, 64, 3, 3), np.float32)
    steps, stop, started = [0], threading.Event(), threading.Event()

    def count():
        started.set()
        while not stop.is_set():
            steps[0] += 1
            time.sleep(0)  # lets go of the GIL

    worker = threading.Thread(target=count)
    worker.start()
    started.wait(30)
    try:
        most = 0
        with convgrad.threads(n_threads):
            for _ in range(100):
                before = steps[0]
                call(x, weight)
                most = max(most, steps[0] - before)
                if most > 20:
                    break
    finally:
        stop.set()
        worker.join(30)
    assert most > 20


def test_small_calls_keep_to_one_thread():
    account = functional.explain_conv2d((1, 1, 28, 28), (6, 1, 5, 5))
    with convgrad.threads(8):
        assert functional.explain_conv2d((1, 1, 28, 28), (6, 1, 5, 5))["threads"] == account["threads"] == 1
