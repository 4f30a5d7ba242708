"""Denormal numbers read and written as zero where asked: values, restored modes, threads, every instruction set."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import convgrad
from convgrad import functional
from convgrad._native import runtime
from convgrad.layers import Parameter
from convgrad.optimizers import SGD, Adam, AdamW, RMSprop

pytestmark = pytest.mark.skipif(not runtime.can_flush_denormals, reason="this processor has no such mode")

TINY = {np.dtype(np.float32): 1e-40, np.dtype(np.float64): 1e-310}


@pytest.fixture(autouse=True)
def _off_afterwards():
    yield
    convgrad.set_flush_denormals(False)


def tiny(shape, dtype):
    return np.full(shape, TINY[np.dtype(dtype)], dtype)


def caller_keeps_denormals():
    """Whether this thread still computes with denormals; on arrays, so that nothing is folded beforehand."""
    return all((np.full(9, value, dtype) * dtype.type(0.5)).all() for dtype, value in TINY.items())


def calls(dtype):
    """{name: call whose result is denormal throughout}, small ones and ones for several threads."""
    dtype = np.dtype(dtype)
    weight, one = np.ones((16, 16, 3, 3), dtype), np.ones((16, 16, 1, 1), dtype)
    x, small = tiny((2, 16, 40, 40), dtype), tiny((1, 16, 5, 5), dtype)
    return {
        "direct": lambda: functional.conv2d(x, weight, algorithm="direct"),
        "small": lambda: functional.conv2d(small, weight, algorithm="direct"),
        "winograd": lambda: functional.conv2d(x, weight, algorithm="winograd"),
        "1x1": lambda: functional.conv2d_backward(x, x, one)[0],
        "depthwise": lambda: functional.conv2d(x, weight[:, :1], groups=16),
        "linear": lambda: functional.linear(x.reshape(400, -1), np.ones((40, 128), dtype)),
        "avg_pool2d": lambda: functional.avg_pool2d(x, 2),
        "relu_backward": lambda: functional.leaky_relu_backward(x, -np.ones_like(x), 0.5),
        "silu": lambda: functional.silu(x),
    }


def test_off_unless_asked_for():
    assert convgrad.get_flush_denormals() is False
    for dtype in TINY:
        for name, call in calls(dtype).items():
            assert np.all(call() != 0), name


@pytest.mark.parametrize("dtype", TINY, ids=str)
@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("name", calls(np.float32))
def test_denormals_are_zero_where_asked_and_back_afterwards(name, n_threads, dtype):
    call = calls(dtype)[name]
    with convgrad.threads(n_threads):
        kept = call()
        with convgrad.flush_denormals():
            flushed = call()
            assert caller_keeps_denormals()
        again = call()
    assert np.all(kept != 0)
    assert np.all(flushed == 0)
    assert again.tobytes() == kept.tobytes()


@pytest.mark.parametrize("dtype", TINY, ids=str)
def test_normal_numbers_have_the_same_bits(dtype, rng):
    x, weight = rng.standard_normal((2, 16, 20, 20)).astype(dtype), rng.uniform(-0.1, 0.1, (16, 16, 3, 3)).astype(dtype)

    def compute():
        y = functional.conv2d(x, weight, padding=1, activation="gelu")
        return [y, *functional.conv2d_backward(y, x, weight, padding=1), functional.softmax(y), functional.tanh(x)]

    expected = compute()
    with convgrad.flush_denormals():
        for result, right in zip(compute(), expected, strict=True):
            assert result.tobytes() == right.tobytes()
        special = np.array([np.nan, np.inf, -np.inf, np.finfo(dtype).tiny, -np.finfo(dtype).tiny], dtype)
        np.testing.assert_array_equal(functional.relu(special), np.maximum(special, 0))


def test_for_the_process_and_for_a_context():
    x = tiny(70, np.float32)
    half = lambda: functional.leaky_relu(-x, 0.5)
    seen = []
    convgrad.set_flush_denormals(True)
    assert convgrad.get_flush_denormals() is True
    worker = threading.Thread(target=lambda: seen.append((half().any(), caller_keeps_denormals())))
    worker.start()
    worker.join()
    assert seen == [(False, True)]
    with convgrad.flush_denormals(False):
        assert half().all()
        with convgrad.flush_denormals():
            assert not half().any()
        assert half().all()
        worker = threading.Thread(target=lambda: seen.append(bool(half().any())))
        worker.start()
        worker.join()
        assert seen[1] is False  # the block is of its own thread
    assert not half().any()
    convgrad.set_flush_denormals(np.False_)
    assert convgrad.get_flush_denormals() is False
    assert half().all()
    with pytest.raises(KeyError), convgrad.flush_denormals():
        raise KeyError
    assert half().all()


FADING = {
    "momentum": lambda **options: SGD(0.1, momentum=0.7, **options),
    "nesterov": lambda **options: SGD(0.1, momentum=0.7, nesterov=True, **options),
    "adam": lambda **options: Adam(betas=(0.7, 0.8), **options),
    "adamw": lambda **options: AdamW(betas=(0.7, 0.8), **options),
    "rmsprop": lambda **options: RMSprop(alpha=0.7, **options),
    "centered": lambda **options: RMSprop(alpha=0.7, momentum=0.8, centered=True, **options),
}


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("name", FADING)
def test_optimizers_leave_no_denormals_where_gradients_stay_zero(name, n_threads, rng):
    """Means decay to zero and not to denormal numbers; the parameters are those of float64, where nothing is lost."""
    start, grad = rng.standard_normal((2, 70_000)).astype(np.float32)
    grad[::2] = 0
    ours, exact = Parameter(start.copy()), Parameter(start.astype(np.float64))
    optimizer, peer = FADING[name](), FADING[name]()
    with convgrad.threads(n_threads):
        for t in range(500):
            ours.grad, exact.grad = grad, grad.astype(np.float64)
            optimizer.step([ours])
            assert caller_keeps_denormals()
            if t < 20:
                with convgrad.backend("numpy"):
                    peer.step([exact])
            grad = np.zeros_like(grad) if t == 0 else grad
    states = [value for value in optimizer.state_dict([ours]).values() if value.shape == start.shape]
    assert states
    for state in states:
        assert np.all((state == 0) | (np.abs(state) >= np.finfo(np.float32).tiny))
    if name in ("momentum", "nesterov"):  # after 20 steps, 0.7^20 of the first step is left to go
        np.testing.assert_allclose(ours.data, exact.data, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name, eps", [("adam", 1e-30), ("rmsprop", 1e-30), ("adam", 1e-11), ("rmsprop", 1e-11)])
def test_squares_count_where_eps_is_as_small_as_they(name, eps):
    """g^2 is denormal, sqrt(g^2) is not: a step is as in float64, whether it divides by the root or by eps."""
    start = np.zeros(33, np.float32)
    ours, exact = Parameter(start), Parameter(start.astype(np.float64))
    for parameter in (ours, exact):
        parameter.grad = np.full(33, 1e-20, parameter.dtype)
        FADING[name](eps=eps).step([parameter])
    np.testing.assert_allclose(ours.data, exact.data, rtol=1e-2)
    assert np.all(ours.data != 0)


@pytest.mark.parametrize("name", FADING)
def test_optimizers_take_denormal_parameters_as_zero_and_leave_others(name):
    parameter = Parameter(np.array([1e-40, -1e-40, 1e-37, np.nan], np.float32))
    parameter.grad = np.zeros(4, np.float32)
    FADING[name]().step([parameter])
    np.testing.assert_array_equal(parameter.data[:2], 0)
    np.testing.assert_allclose(parameter.data[2:], [1e-37, np.nan], rtol=0.01)


def test_threads_with_either_mode_at_once():
    work = {mode: calls(np.float32)["direct"] for mode in (False, True)}
    errors = []

    def run(mode):
        try:
            with convgrad.flush_denormals(mode), convgrad.threads(2):
                for _ in range(10):
                    assert bool(work[mode]().any()) is not mode
                    assert caller_keeps_denormals()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i % 2 == 0,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors


def test_the_workers_of_openmp_keep_their_mode_too():
    """What ran on OpenMP's threads after a flushed call computes with denormals: no mode is left on them."""
    call = calls(np.float64)["direct"]
    with convgrad.threads(4):
        expected = call()
        for _ in range(3):
            with convgrad.flush_denormals():
                assert not call().any()
            assert call().tobytes() == expected.tobytes()


def test_the_callers_own_flush_mode_stays_on():
    """A process that flushes by itself goes on doing so after a call, and while a call keeps the default."""
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("PyTorch cannot set the mode here")
    try:
        assert not caller_keeps_denormals()
        with convgrad.flush_denormals(), convgrad.threads(1):
            functional.tanh(np.ones(100_000, np.float32))
        assert not caller_keeps_denormals()
    finally:
        torch.set_flush_denormal(False)
    assert caller_keeps_denormals()


def test_the_twin_computes_as_numpy_does():
    with convgrad.flush_denormals(), convgrad.backend("numpy"):
        assert functional.relu(tiny(9, np.float32)).all()


PROGRAM = """
import numpy as np, convgrad
from convgrad._native import runtime
x = np.full((2, 16, 40, 40), 1e-40, np.float32)
weight = np.ones((16, 16, 3, 3), np.float32)
for n in (1, 3):
    for algorithm in ("direct", "winograd"):
        for on in (False, True, False):
            with convgrad.threads(n), convgrad.flush_denormals(on):
                y = convgrad.conv2d(x, weight, algorithm=algorithm)
            assert bool(y.any()) is not on, (n, algorithm, on)
            assert (x * np.float32(0.5)).all()
print(runtime.isa())
"""


@pytest.mark.parametrize("isa", runtime.isas())
def test_every_instruction_set_flushes(isa):
    package = os.path.dirname(os.path.dirname(convgrad.__file__))
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"CONVGRAD_ISA": isa, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.strip() == isa, done.stderr


@pytest.mark.parametrize("name", ["set_flush_denormals", "flush_denormals"])
@pytest.mark.parametrize("value", [1, 0, None, "on", 1.0, [True]])
def test_errors(name, value):
    with pytest.raises(TypeError) as caught:
        if name == "set_flush_denormals":
            convgrad.set_flush_denormals(value)
        else:
            with convgrad.flush_denormals(value):
                pass
    assert str(caught.value) == f"{name}: on must be True or False, got {type(value).__name__}"
    assert convgrad.get_flush_denormals() is False


def test_where_the_mode_cannot_be_set(monkeypatch):
    monkeypatch.setattr(runtime, "can_flush_denormals", False)
    with pytest.raises(
        ValueError, match="^set_flush_denormals: on=True needs a 64-bit x86 or ARM processor; pass on=F"
    ):
        convgrad.set_flush_denormals(True)
    convgrad.set_flush_denormals(False)
