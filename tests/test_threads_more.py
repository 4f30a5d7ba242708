"""Any function in many threads at once; settings changed meanwhile; what limits threads; other libraries beside us."""

import os
import sys
import threading

import numpy as np
import pytest
from test_kernel_table import CALLS, Arrays, call_of
from test_threads import BITS, in_effect, openmp, python

import convgrad
from convgrad import functional
from convgrad._native import runtime
from convgrad.threads import _cgroup_cpus


@pytest.fixture(autouse=True)
def _settings_afterwards():
    before = runtime.get_threads()
    yield
    convgrad.set_num_threads(before)
    convgrad.set_backend("native")
    convgrad.set_precision("fast")


def in_threads(n, work):
    """Run work(i) in n threads at once; reraise what any of them raised."""
    errors, barrier = [], threading.Barrier(n)

    def run(i):
        try:
            barrier.wait(60)
            work(i)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(n)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
        assert not worker.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def in_hurried_threads(n, work):
    """The same, threads taking turns as often as Python lets them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        in_threads(n, work)
    finally:
        sys.setswitchinterval(interval)


def assert_same(actual, expected, what):
    """The same bits, whatever a functional returns."""
    if isinstance(expected, (tuple, list)):
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other, what)
    elif isinstance(expected, np.ndarray):
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), what
        assert actual.tobytes() == expected.tobytes(), what
    else:
        assert actual == expected, what


# Calls large enough for several threads, one for each of the ways in which work is cut into blocks.
def large_calls():
    a = Arrays("float32")
    x, g, weight = a(2, 32, 40, 40), a(2, 32, 40, 40), a(32, 32, 3, 3)
    rows = a(600, 400)
    return {
        "winograd": lambda: functional.conv2d(x, weight, padding=1),
        "winograd gradients": lambda: functional.conv2d_backward(g, x, weight, padding=1),
        "direct": lambda: functional.conv2d_backward(g, x, weight, padding=1, algorithm="direct"),
        "depthwise": lambda: functional.conv2d(x, weight[:, :1], padding=1, groups=32),
        "prepacked": lambda: functional.prepack_conv2d(weight, input_shape=x.shape, padding=1)(x),
        "max_pool2d": lambda: functional.max_pool2d(x, 3, stride=1, return_indices=True),
        "avg_pool2d": lambda: functional.avg_pool2d(x, 3, stride=1),
        "gelu": lambda: functional.gelu(x),
        "activation_backward_bias": lambda: functional.activation_backward_bias("tanh", g, x),
        "softmax": lambda: functional.softmax(rows),
        "softmax_cross_entropy": lambda: functional.softmax_cross_entropy(rows, np.arange(600) % 400),
        "batch_norm": lambda: functional.batch_norm(x, x[0, :, 0, 0], x[0, :, 0, 0], training=True),
        "layer_norm": lambda: functional.layer_norm(rows, rows[0], rows[1]),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Any function, eight threads
# ---------------------------------------------------------------------------------------------------------------------


def test_every_function_in_eight_threads_at_once_gives_the_bits_of_one():
    calls = {(label, dtype): call_of(label, dtype) for label in CALLS for dtype in ("float32", "float64")}
    with convgrad.threads(1):
        calls |= {(label, "large"): call for label, call in large_calls().items()}
        expected = {key: call() for key, call in calls.items()}
    keys = list(calls)

    def work(i):
        with convgrad.threads(1 + i % 3):
            for key in np.random.default_rng(i).permutation(len(keys)):
                label = keys[key]
                if label[0] != "explain_conv2d":
                    assert_same(calls[label](), expected[label], label)

    in_threads(8, work)


def test_settings_changed_by_other_threads_change_no_bits():
    """Process-wide settings turn while calls run; what is set for a context stays in force there."""
    calls, stop = large_calls(), threading.Event()
    names = ("winograd", "direct", "max_pool2d", "gelu")
    expected = {}
    for backend in ("native", "numpy"):
        for precision in ("fast", "strict"):
            with convgrad.backend(backend), convgrad.precision(precision), convgrad.threads(1):
                expected[backend, precision] = {name: calls[name]() for name in names}
    assert expected["native", "fast"]["winograd"].tobytes() != expected["native", "strict"]["winograd"].tobytes()

    def work(i):
        if i == 0:  # the process's settings
            for turn in range(10**6):
                convgrad.set_num_threads(1 + turn % 4)
                convgrad.set_backend(("native", "numpy")[turn % 2])
                convgrad.set_precision(("fast", "strict")[turn % 3 % 2])
                if stop.wait(0.001):
                    return
        try:
            own = ("native", "numpy")[i == 1], ("fast", "strict")[i % 2]
            with convgrad.backend(own[0]), convgrad.precision(own[1]), convgrad.threads(i):
                for turn in range(4):
                    name = names[(i + turn) % len(names)]
                    assert_same(calls[name](), expected[own][name], (own, name))
                    assert convgrad.get_num_threads() == in_effect(i)
                    assert (convgrad.get_backend(), convgrad.get_precision()) == own
        finally:
            if i == 7:
                stop.set()

    try:
        in_threads(8, work)
    finally:
        stop.set()


def test_a_call_under_turning_settings_is_computed_by_one_of_them():
    calls, stop = large_calls(), threading.Event()
    allowed = set()
    for backend in ("native", "numpy"):
        with convgrad.backend(backend):
            allowed.add(calls["winograd"]().tobytes())

    def turn():
        backends = ("native", "numpy")
        while not stop.wait(0.0005):
            backends = backends[::-1]
            convgrad.set_backend(backends[0])

    turner = threading.Thread(target=turn)
    turner.start()

    def work(i):
        for _ in range(5):
            assert calls["winograd"]().tobytes() in allowed

    try:
        in_threads(3, work)
    finally:
        stop.set()
        turner.join(60)


def test_one_packed_convolution_and_one_layer_serve_many_threads(rng):
    x, weight = rng.standard_normal((2, 8, 20, 20), np.float32), rng.standard_normal((16, 8, 3, 3), np.float32)
    packed = functional.prepack_conv2d(weight, input_shape=x.shape, padding=1)
    layer = convgrad.layers.Conv2D(8, 16, 3, padding=1, rng=1).eval()
    expected = packed(x), layer(x)

    def work(i):
        for _ in range(20):
            assert_same((packed(x), layer(x)), expected, i)

    in_threads(8, work)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (lambda L: L.Conv2D(2, 4, 3, activation="gelu", rng=1), (1, 2, 5, 5)),
        (lambda L: L.Dense(8, 4, activation="silu", rng=1), (1, 8)),
        (lambda L: L.Softmax(), (1, 8)),
        (lambda L: L.Sequential([L.Conv2D(2, 4, 3, rng=1), L.MaxPool2D(2), L.Flatten(), L.BatchNorm(4)]), (1, 2, 5, 5)),
    ],
    ids=["conv2d", "dense", "softmax", "sequential"],
)  # fmt: skip
def test_a_layer_in_evaluation_mode_gives_each_thread_its_own_result(layer, shape, rng):
    layer = layer(convgrad.layers).eval()
    inputs = [rng.standard_normal(shape, np.float32) for _ in range(8)]
    expected = [layer(x) for x in inputs]

    def work(i):
        for _ in range(1500):
            assert layer(inputs[i]).tobytes() == expected[i].tobytes()

    in_hurried_threads(8, work)


def test_packed_weights_of_many_sizes_in_many_threads(rng):
    """More sizes of images than are kept packed, so that threads throw away what others look for."""
    layer = convgrad.layers.Conv2D(2, 4, 3, rng=1).eval()
    inputs = [rng.standard_normal((1, 2, 4 + i, 5), np.float32) for i in range(40)]
    expected = [layer(x) for x in inputs]

    def work(i):
        for turn in range(200):
            which = (i * 5 + turn) % len(inputs)
            assert layer(inputs[which]).tobytes() == expected[which].tobytes()

    in_hurried_threads(8, work)


# ---------------------------------------------------------------------------------------------------------------------
# Limits from outside
# ---------------------------------------------------------------------------------------------------------------------

V1, V2 = "4:cpu,cpuacct:/docker/7f\n3:memory:/docker/7f\n", "0::/user.slice/app one.scope\n"


@pytest.mark.parametrize(
    "files, cpus",
    [
        ({}, 1024),
        ({"sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, 1024),
        ({"sys/fs/cgroup/cpu.max": "max"}, 1024),
        ({"sys/fs/cgroup/cpu.max": "nonsense"}, 1024),
        ({"sys/fs/cgroup/cpu.max": "100000 0"}, 1024),
        ({"sys/fs/cgroup/cpu.max": "\xff\xfe"}, 1024),
        ({"sys/fs/cgroup/cpu.max": "99999999999999999999999 1"}, 1024),
        # the cgroup's own file, and the limits of those around it
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/user.slice/app one.scope/cpu.max": "300000 100000"}, 3),
        (
            {
                "proc/self/cgroup": V2,
                "sys/fs/cgroup/user.slice/app one.scope/cpu.max": "max 100000",
                "sys/fs/cgroup/user.slice/cpu.max": "200000 100000",
            },
            2,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ({"proc/self/cgroup": "0::/../..\ngarbage\n:::\n"}, 1024),
        # version 1: a quota of -1 is none; inside a container and outside
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 1024),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 1),
        (
            {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "150000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "50000",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/docker/7f/cpu.cfs_quota_us": "200000",
                "sys/fs/cgroup/cpu,cpuacct/docker/7f/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/docker/7f/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/memory/docker/7f/cpu.cfs_period_us": "100000",
            },
            2,
        ),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000"}, 1024),
    ],
)
def test_quotas_of_cgroups(files, cpus, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="latin-1")
    assert _cgroup_cpus(str(tmp_path)) == cpus


CONTAINER = """
import builtins, io
real = open
def fake(path, *args, **kwargs):
    return io.StringIO({text!r}) if path == {path!r} else real(path, *args, **kwargs)
builtins.open = fake
import os, convgrad
print(convgrad.get_num_threads())
"""


@openmp
@pytest.mark.parametrize(
    "path, text, most",
    [("/sys/fs/cgroup/cpu.max", "100000 100000", 1), ("/sys/fs/cgroup/cpu.max", "max 100000", None)],
)
def test_a_container_with_one_cpu_gets_one_thread(path, text, most):
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    printed = python(CONTAINER.format(path=path, text=text), CONVGRAD_NUM_THREADS=None).stdout
    assert int(printed) == (most or min(cpus, _cgroup_cpus()))


@openmp
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity of processes on this system")
def test_a_call_on_one_cpu_starts_no_thread():
    program = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import numpy as np, convgrad
convgrad.conv2d(np.ones((4, 32, 64, 64), np.float32), np.ones((32, 32, 3, 3), np.float32))
print(convgrad.get_num_threads(), len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1)
"""
    quiet = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # NumPy's BLAS has threads of its own
    assert python(program, CONVGRAD_NUM_THREADS=None, **quiet).stdout.split() == ["1", "1"]


# ---------------------------------------------------------------------------------------------------------------------
# Other libraries in the same process
# ---------------------------------------------------------------------------------------------------------------------


@openmp
def test_threadpoolctl_sees_and_limits_us():
    """OpenMP's own number, lowered, is a limit here too; it never adds threads."""
    program = """
import threadpoolctl, convgrad
found = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "openmp"]
assert found, threadpoolctl.threadpool_info()
account = lambda: convgrad.explain_conv2d((8, 64, 56, 56), (64, 64, 3, 3))["threads"]
convgrad.set_num_threads(4)
seen = [(convgrad.get_num_threads(), account())]
with threadpoolctl.threadpool_limits(1):
    seen += [(convgrad.get_num_threads(), account())]
    with convgrad.threads(3):
        seen += [(convgrad.get_num_threads(), account())]
with threadpoolctl.threadpool_limits(2, user_api="openmp"):
    seen += [(convgrad.get_num_threads(), account())]
with threadpoolctl.threadpool_limits(64):
    seen += [(convgrad.get_num_threads(), account())]
seen += [(convgrad.get_num_threads(), account())]
print(seen)
"""
    pytest.importorskip("threadpoolctl")
    printed = python(program, OMP_NUM_THREADS="8", OMP_THREAD_LIMIT=None).stdout
    assert printed.strip() == str([(4, 4), (1, 1), (1, 1), (2, 2), (4, 4), (4, 4)])


TOGETHER = (
    BITS
    + """
import threading
import torch
from sklearn.cluster import KMeans

expected, errors = bits(2), []
data = np.random.default_rng(0).standard_normal((800, 16))
product = data @ data.T

def blas():
    for _ in range(5):
        np.testing.assert_allclose(data @ data.T, product)

def pytorch():
    x = torch.ones(2, 16, 40, 40, requires_grad=True)
    for _ in range(5):
        torch.nn.functional.conv2d(x, torch.ones(16, 16, 3, 3)).sum().backward()

def sklearn():
    for _ in range(3):
        KMeans(4, n_init=1, random_state=0).fit(data)

def convgrads():
    for n in (1, 2, 3, 2):
        assert bits(n) == expected

def guarded(work):
    try:
        work()
    except BaseException as error:
        errors.append(error)

torch.set_num_threads(2)
works = (blas, pytorch, sklearn, convgrads, convgrads)
for round in range(2):
    workers = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors, errors
    for work in (pytorch, convgrads, sklearn, convgrads, blas):  # one after another, each after each
        work()
    child = os.fork()
    if child == 0:
        os._exit(0 if bits(2) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("done")
"""
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_beside_blas_pytorch_and_scikit_learn():
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    result = python(TOGETHER, check=False, seconds=300)
    assert result.stdout == "done\n", result.stderr
