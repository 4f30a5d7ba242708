"""Processes that start other processes after use, and Python threads that go on while a call runs."""

import os
import sys
import threading

import numpy as np
import pytest
from test_threads import python

import convgrad
from convgrad import functional

# What workers import: a digest of what n threads compute, and how many threads the process then has.
WORK = """
import hashlib, os
import numpy as np
import convgrad

def bits(n):
    rng = np.random.default_rng(1)
    x, weight = rng.standard_normal((3, 32, 40, 40), np.float32), rng.standard_normal((32, 32, 3, 3), np.float32)
    with convgrad.threads(n):
        y = convgrad.conv2d(x, weight, padding=1)
        explained = convgrad.explain_conv2d(x, weight, padding=1)["threads"]
    tasks = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else explained
    return hashlib.sha256(y.tobytes()).hexdigest(), tasks >= explained

class Images:
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return {"digest": bits(1 + i % 3)[0], "process": os.getpid()}
"""

EXECUTOR = """
import multiprocessing, sys, warnings
from concurrent.futures import ProcessPoolExecutor
from work import bits

if __name__ == "__main__":
    warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
    expected = bits(3)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(sys.argv[1])) as pool:
        assert set(pool.map(bits, [3, 1, 2, 3])) == {(expected[0], True)}
    assert bits(2) == expected
    print("done")
"""

LOADER = """
import warnings
from work import Images, bits
from torch.utils.data import DataLoader

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    expected, _ = bits(2)  # used before the workers are forked
    for epoch in range(2):
        batches = list(DataLoader(Images(), batch_size=2, num_workers=2, multiprocessing_context="fork"))
        assert {digest for batch in batches for digest in batch["digest"]} == {expected}
        assert len({int(process) for batch in batches for process in batch["process"]}) == 2
        assert bits(2) == (expected, True)
    print("done")
"""


def run(folder, program, *arguments):
    (folder / "work.py").write_text(WORK)
    (folder / "main.py").write_text(program)
    return python([folder / "main.py", *arguments], check=False, seconds=300)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_process_pools_after_use(method, tmp_path):
    import multiprocessing

    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    result = run(tmp_path, EXECUTOR, method)
    assert result.stdout == "done\n", result.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_workers_of_pytorchs_data_loader(tmp_path):
    pytest.importorskip("torch")
    result = run(tmp_path, LOADER)
    assert result.stdout == "done\n", result.stderr


# ---------------------------------------------------------------------------------------------------------------------
# Two Python threads at once
# ---------------------------------------------------------------------------------------------------------------------


def steps_during(call):
    """How many steps another Python thread takes while `call` runs, in an interpreter that never switches by itself.

    The other thread goes on only where this one lets go of the GIL: in its waits, which end before the call begins, and
    in the call itself.
    """
    ready, go, steps, stop = threading.Event(), threading.Event(), [0], [False]

    def count():
        ready.set()
        go.wait(60)
        while not stop[0]:
            steps[0] += 1
            yielding.acquire(timeout=1e-6)  # lets go of the GIL, which the call may be waiting for

    yielding = threading.Lock()
    yielding.acquire()
    worker = threading.Thread(target=count, daemon=True)
    interval = sys.getswitchinterval()
    worker.start()
    assert ready.wait(60)
    sys.setswitchinterval(1000)
    try:
        go.set()
        before = steps[0]
        call()
        return steps[0] - before
    finally:
        stop[0] = True
        sys.setswitchinterval(interval)
        worker.join(60)


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="this interpreter has no GIL")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_another_python_thread_goes_on_during_a_large_call_and_not_during_a_small_one(n_threads):
    x, weight = np.ones((8, 64, 100, 100), np.float32), np.ones((64, 64, 3, 3), np.float32)
    small = np.ones((1, 1, 6, 6), np.float32), np.ones((1, 1, 3, 3), np.float32)
    functional.conv2d(*small)
    with convgrad.threads(n_threads):
        # below the threshold the GIL is kept: no step, however often
        assert [steps_during(lambda: functional.conv2d(*small)) for _ in range(5)] == [0] * 5
        # a busy machine may not give the other thread a processor in one call: several tries
        assert any(steps_during(lambda: functional.conv2d(x, weight, algorithm="direct")) > 0 for _ in range(50))
