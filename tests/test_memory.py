"""Recycled memory: results own theirs, blocks come back, limits hold, nothing grows, any thread may free."""

import gc
import os
import platform
import queue
import subprocess
import sys
import threading

import numpy as np
import pytest

import convgrad
from convgrad import functional
from convgrad._native import memory
from convgrad.threads import threads

SMALLEST = 65536  # bytes: smaller arrays are NumPy's own


@pytest.fixture(autouse=True)
def _own_cache():
    """Start from an empty cache; put the limit back afterwards."""
    limit = memory.cache_info()["limit"]
    gc.collect()
    convgrad.empty_cache()
    yield
    convgrad.set_cache_limit(limit)


def empty(n_bytes, dtype=np.float32):
    dtype = np.dtype(dtype)
    return memory.empty((n_bytes // dtype.itemsize,), dtype)


def address(array):
    return array.__array_interface__["data"][0]


def info(name):
    return memory.cache_info()[name]


@pytest.fixture(scope="module")
def large():
    """x, weight and grad_output of a convolution whose results are 800 KB."""
    rng = np.random.default_rng(5)
    shapes = ((2, 16, 80, 80), (16, 16, 3, 3), (2, 16, 80, 80))
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def train_step(x, weight, grad, algorithm="auto"):
    y = functional.conv2d(x, weight, padding=1, activation="relu", algorithm=algorithm)
    return y, *functional.conv2d_backward(grad, x, weight, padding=1, algorithm=algorithm)


# ---------------------------------------------------------------------------------------------------------------------
# What comes out
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(), (0,), (3, 0, 5), (7,), (2, 3, 4), (130, 130), (2, 3, 5, 7, 11, 13, 2), (1 << 20,)]
)
def test_empty_is_a_plain_array(shape, dtype):
    array = memory.empty(shape, np.dtype(dtype))
    assert type(array) is np.ndarray
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.owndata
    assert array.flags.writeable
    assert array.base is None
    if array.nbytes >= SMALLEST:
        assert address(array) % 64 == 0
    array.fill(3)
    assert (array == 3).all()


def test_results_of_large_calls_own_their_memory(large):
    x, weight, grad = large
    results = [*train_step(x, weight, grad), functional.max_pool2d(x, 2), functional.tanh(x), functional.softmax(x)]
    for result in results:
        assert result.flags.owndata
        assert result.flags.c_contiguous
        assert result.base is None
    addresses = [range(address(r), address(r) + r.nbytes) for r in results]
    for i, one in enumerate(addresses):
        assert not any(one.start < other.stop and other.start < one.stop for other in addresses[:i])


def test_impossible_sizes_raise_memory_error():
    for shape in ((1 << 55,), (1 << 60,), (1 << 31, 1 << 31)):
        with pytest.raises((MemoryError, ValueError)):
            memory.empty(shape, np.dtype(np.float32))
    assert empty(1 << 20).size == 1 << 18


# ---------------------------------------------------------------------------------------------------------------------
# Reuse
# ---------------------------------------------------------------------------------------------------------------------


def test_a_freed_block_serves_the_next_array_of_about_its_size():
    first = empty(1 << 20)
    where = address(first)
    taken = info("system_blocks")
    del first
    assert info("kept_blocks") == 1
    assert info("kept") >= 1 << 20
    again = empty((1 << 20) - 5000)
    assert address(again) == where
    assert info("kept_blocks") == info("kept") == 0
    other = empty(1 << 20)
    assert address(other) != where
    assert info("system_blocks") == taken + 1
    del again
    larger = empty(1 << 22)  # the block kept is too small for it
    smaller = empty(1 << 18)  # and too large for this
    assert where not in (address(larger), address(smaller))
    assert info("system_blocks") == taken + 3


def test_the_best_fit_is_taken():
    arrays = [empty(n_bytes) for n_bytes in (1_500_000, 1_100_000, 1_250_000)]
    where = [address(array) for array in arrays]
    arrays.clear()
    assert address(empty(1_090_000)) == where[1]
    kept = [empty(1_090_000), empty(1_090_000), empty(1_090_000)]
    assert [address(array) for array in kept] == [where[1], where[2], where[0]]


def test_views_keep_their_block(large):
    x, weight, _ = large
    y = functional.conv2d(x, weight, padding=1)
    view, expected, where = y[1, 3], y[1, 3].copy(), address(y)
    del y
    assert info("kept_blocks") < 10
    others = [functional.conv2d(x * 0, weight, padding=1) for _ in range(5)]
    assert where not in [address(other) for other in others]
    np.testing.assert_array_equal(view, expected)


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_a_training_loop_soon_takes_no_new_blocks(large, algorithm):
    for n in (1, 2):
        with threads(n):
            for _ in range(3):
                results = train_step(*large, algorithm=algorithm)
            before = memory.cache_info()
            for _ in range(20):
                results = train_step(*large, algorithm=algorithm)
            assert memory.cache_info() == before
            del results


def test_errors_and_refused_calls_leak_nothing(large):
    x, weight, grad = large
    wrong = np.ones((16, 15, 3, 3), np.float32)
    packed = functional.prepack_conv2d(weight, input_shape=x.shape, padding=1)
    small = np.ones((2, 16, 79, 80), np.float32)

    def fail():
        for call in (
            lambda: functional.conv2d(x, wrong),
            lambda: functional.conv2d(x, weight, activation="none"),
            lambda: functional.conv2d_backward(grad, x, weight, padding=2),
            lambda: functional.conv2d(x, weight, padding=1, out=small),
            lambda: packed(x, out=small),
        ):
            with pytest.raises(ValueError):
                call()

    fail()
    train_step(*large)
    train_step(*large)
    before = memory.cache_info()
    for _ in range(5):
        fail()
        train_step(*large)
    gc.collect()
    assert memory.cache_info() == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts page faults as Linux does")
def test_page_faults_settle():
    """In a process whose C library hands large blocks back to the system at once: only the cache can keep them."""
    program = """
import resource, convgrad, numpy as np
x, weight = np.ones((2, 16, 160, 160), np.float32), np.ones((32, 16, 3, 3), np.float32)
grad = np.ones((2, 32, 160, 160), np.float32)  # 6.5 MB: 1600 pages of 4 KB

def faults(n):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n):
        y = convgrad.conv2d(x, weight, padding=1, activation="relu")
        convgrad.conv2d_backward(grad, x, weight, padding=1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(4)
settled = faults(10)
convgrad.set_cache_limit(0)
print(settled, faults(10))
"""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    output = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    with_cache, without = map(int, output.split())
    assert with_cache < 100
    assert without > 2 * with_cache + 100  # one fault for 2 MB where the system has huge pages


# ---------------------------------------------------------------------------------------------------------------------
# Limits
# ---------------------------------------------------------------------------------------------------------------------


def test_empty_cache_gives_everything_back(large):
    train_step(*large)
    gc.collect()
    assert info("kept_blocks") > 0
    convgrad.empty_cache()
    assert info("kept_blocks") == info("kept") == 0
    convgrad.empty_cache()
    assert info("limit") == 256 << 20


def test_a_limit_of_zero_keeps_nothing(large):
    convgrad.set_cache_limit(0)
    for _ in range(3):
        results = train_step(*large)
        assert info("kept_blocks") == info("kept") == 0
    del results
    assert info("kept_blocks") == info("kept") == 0
    before = info("system_blocks")
    train_step(*large)
    assert info("system_blocks") > before


def test_the_limit_holds_and_the_oldest_blocks_go_first():
    size = (1 << 20) - 64  # with what the cache adds, just 1 MB
    convgrad.set_cache_limit(5 * size + size // 2)
    arrays = [empty(size) for _ in range(8)]
    where = [address(array) for array in arrays]
    for _ in range(8):
        del arrays[0]
        assert info("kept") <= 5 * size + size // 2
    assert info("kept_blocks") == 5
    survivors = {address(array) for array in [empty(size) for _ in range(5)]}
    assert survivors == set(where[3:])
    too_large = empty(8 * size)
    del too_large
    assert info("kept") <= 5 * size + size // 2
    kept = info("kept")
    convgrad.set_cache_limit(max(kept - 1, 0))
    assert info("kept") == 0  # what is above a lowered limit is given back at once


def test_the_number_of_kept_blocks_is_bounded():
    arrays = [empty(SMALLEST + 4096) for _ in range(200)]
    arrays.clear()
    assert info("kept_blocks") == 128


@pytest.mark.parametrize(
    "value, error, message",
    [
        (-1, ValueError, "set_cache_limit: n_bytes must be at least 0, got -1"),
        (1.5, TypeError, "set_cache_limit: n_bytes must be an integer, got 1.5"),
        ("1", TypeError, "set_cache_limit: n_bytes must be an integer, got '1'"),
        (None, TypeError, "set_cache_limit: n_bytes must be an integer, got None"),
        (True, TypeError, "set_cache_limit: n_bytes must be an integer, got True"),
        (np.bool_(True), TypeError, f"set_cache_limit: n_bytes must be an integer, got {np.bool_(True)!r}"),
        (np.float32(3), TypeError, f"set_cache_limit: n_bytes must be an integer, got {np.float32(3)!r}"),
    ],
)
def test_errors_of_set_cache_limit(value, error, message):
    before = info("limit")
    with pytest.raises(error) as caught:
        convgrad.set_cache_limit(value)
    assert str(caught.value) == message
    assert info("limit") == before


def test_limits_of_any_integer_type_and_size():
    for value, expected in ((np.int64(12345), 12345), (10**30, 1 << 62), (np.uint8(7), 7)):
        convgrad.set_cache_limit(value)
        assert info("limit") == expected


# ---------------------------------------------------------------------------------------------------------------------
# What else NumPy does with the memory
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 1000, (1 << 18) + 1, 1 << 20, 1 << 22])
def test_resize_in_place(size):
    array = empty(1 << 20)
    array[:] = np.arange(array.size)
    array.resize((size,), refcheck=False)
    assert array.flags.owndata
    held = min(size, 1 << 18)
    np.testing.assert_array_equal(array[:held], np.arange(held, dtype=np.float32))
    assert (array[1 << 18 :] == 0).all()  # resize fills with zeros
    array.resize((1 << 18,), refcheck=False)
    np.testing.assert_array_equal(array[:held], np.arange(held, dtype=np.float32))


def test_resizing_a_result(large):
    x, weight, _ = large
    y = functional.conv2d(x, weight, padding=1)
    expected = y.copy()
    y.resize((4, *y.shape[1:]), refcheck=False)
    np.testing.assert_array_equal(y[:2], expected)
    assert not y[2:].any()


def test_numpys_own_arrays_stay_numpys(large):
    """The allocator is in force only inside `empty`."""
    functional.conv2d(large[0], large[1], padding=1)
    gc.collect()
    before = memory.cache_info()
    arrays = [np.empty(1 << 20), np.zeros(1 << 20), large[0].copy(), np.ones((100, 1000))]
    assert memory.cache_info() == before
    del arrays
    assert memory.cache_info() == before
    core = np._core if hasattr(np, "_core") and hasattr(np._core, "multiarray") else np.core
    handler = getattr(core.multiarray, "get_handler_name", None)
    if handler is not None:
        assert handler() == "default_allocator"
        assert handler(empty(1 << 20)) == "convgrad"
        assert handler(empty(1 << 10)) == "default_allocator"


def test_copies_pickles_and_byte_order(large):
    import pickle

    y = functional.conv2d(large[0], large[1], padding=1)
    for copy in (y.copy(), pickle.loads(pickle.dumps(y)), y.astype(">f4").astype(np.float32), y + 0):
        np.testing.assert_array_equal(copy, y)


# ---------------------------------------------------------------------------------------------------------------------
# Threads
# ---------------------------------------------------------------------------------------------------------------------


def in_threads(n, work):
    """Run work(i) in n threads at once; reraise what any of them raised."""
    errors, barrier = [], threading.Barrier(n)

    def run(i):
        try:
            barrier.wait(30)
            work(i)
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    workers = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive()
    if errors:
        raise errors[0]


def test_many_threads_allocate_and_each_keeps_its_numbers():
    def work(i):
        held = []
        for step in range(200):
            array = empty(SMALLEST + 4096 * ((i * 7 + step) % 40))
            array.fill(i * 1000 + step)
            held.append((array, i * 1000 + step))
            if len(held) > 5:
                old, value = held.pop(step % 5)
                assert old[0] == old[-1] == value
                assert (old == value).all()

    in_threads(8, work)
    gc.collect()
    assert info("kept") <= info("limit")
    assert info("kept_blocks") <= 128


def test_arrays_are_freed_by_other_threads_than_made_them():
    handed = queue.Queue(maxsize=10)

    def work(i):
        if i < 2:
            for step in range(150):
                array = empty(1 << 17)
                array.fill(step)
                handed.put((array, step))
            handed.put(None)
        else:
            while (item := handed.get(timeout=30)) is not None:
                array, step = item
                assert (array == step).all()
                del array, item

    in_threads(4, work)
    assert info("system_blocks") > 0
    assert info("kept") <= info("limit")


def test_convolutions_in_threads_while_the_cache_is_emptied(large):
    expected = train_step(*large)

    def work(i):
        for step in range(4):
            if i == 0:
                convgrad.empty_cache()
            elif i == 1:
                convgrad.set_cache_limit((0, 1 << 20, 256 << 20)[step % 3])
            for result, right in zip(train_step(*large), expected, strict=True):
                np.testing.assert_array_equal(result, right)

    in_threads(4, work)


@pytest.mark.parametrize("junk", [0x7FC00000, 0x7FF80000, 1], ids=["nan-float32", "nan-float64", "denormal"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_do_not_depend_on_what_memory_held(dtype, junk, rng):
    shapes = [(2, 16, 14, 14), (1, 3, 57, 61), (3, 40, 7, 7), (2, 24, 28, 28), (1, 1, 300, 200)]
    options = [{}, {"padding": 1}, {"stride": 2, "padding": 1}]
    calls = []
    for shape in shapes:
        x = rng.standard_normal(shape).astype(dtype)
        for kernel in (1, 3, 5):
            weight = rng.standard_normal((20, shape[1], kernel, kernel)).astype(dtype)
            for option in options:
                grad = functional.conv2d(x, weight, **option)
                calls.append(lambda x=x, w=weight, o=option: functional.conv2d(x, w, **o))
                calls.append(lambda x=x, w=weight, o=option, g=grad: functional.conv2d_backward(g, x, w, **o))
    clean = [call() for call in calls]
    memory.set_junk(junk)
    try:
        for call, expected in zip(calls, clean, strict=True):
            np.testing.assert_equal(call(), expected)
    finally:
        memory.set_junk(0)


TRIM = """
import numpy as np
import convgrad


def resident():
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


convgrad.relu(np.ones(6_000_000, np.float32))  # 24 MB: from now on the C library takes smaller blocks from its heap
convgrad.empty_cache()
x = np.ones(1_000_000, np.float32)
before = resident()
kept = [convgrad.relu(x) for _ in range(10)]
during = resident()
del kept
convgrad.empty_cache()
print(during - before, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the GNU C library's heap, seen through /proc")
def test_an_emptied_cache_leaves_nothing_with_the_c_library():
    done = subprocess.run([sys.executable, "-c", TRIM], capture_output=True, text=True, timeout=120, check=False)
    assert not done.returncode, done.stderr
    during, after = map(float, done.stdout.split())
    assert during > 30
    assert after < 10
