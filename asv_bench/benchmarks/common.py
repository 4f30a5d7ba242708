"""What the benchmark classes share: parameters, seeded data, and the check that no benchmark times the wrong function.

One class for each operation, with the parameters layer x dtype x n_threads (x algorithm or name). `time_native` is the
native call and `time_twin` the NumPy twin's, `track_ratio` native / twin, timed in turns (asv reads lower as better),
`peakmem_native` the memory of a process that makes the call. CONVGRAD_BENCH=short leaves one or two sets of
parameters of each class.
"""

import contextlib
import os
import sys
import traceback
import warnings
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

import convgrad

try:
    from convgrad import reference
except ImportError:  # the first commits have kernels and no package around them yet
    reference = None

# asv imports `benchmarks` as a package and nothing above it, where the cases and the paired timer are.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import cases
from measure import paired

PROFILE = os.environ.get("CONVGRAD_BENCH") or "full"
if PROFILE not in ("full", "short"):
    raise ValueError(f"CONVGRAD_BENCH={PROFILE!r} is neither 'full' nor 'short'")
SHORT = PROFILE == "short"


def some(values, n=1):
    """All values, or the first `n` in the short profile."""
    values = list(values)
    return values[:n] if SHORT else values


DTYPES = some(["float32", "float64"])
N_THREADS = some([1, 2])
ALGORITHMS = some(["auto", "direct"])
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}

# One layer of each kind, small enough that the whole suite stays within hours; those of the short profile come first.
LAYERS = {
    case.name: case
    for case in some(
        (
            cases.BATCH1[2],
            cases.DIGITS[2],
            cases.MOBILENET_DEPTHWISE[4],
            cases.DIRECT[1],
            cases.DIRECT[2],
            cases.DIRECT[4],
            cases.DIRECT[9],
            cases.WINOGRAD[2],
            cases.MOBILENET_DEPTHWISE[2],
            cases.INCEPTION[5],
            cases.DCGAN[1],
            cases.TINY[0],
        ),
        3,
    )
}

# Shapes of pooling layers: (x, kernel size, stride), from LeNet-5, VGG-16, ResNet-50 and Inception v3.
POOLS = {
    "lenet 2x2": ((64, 6, 28, 28), 2, 2),
    "vgg 2x2": ((32, 64, 56, 56), 2, 2),
    "resnet 3x3 s2": ((8, 64, 112, 112), 3, 2),
    "inception 3x3 s1": ((8, 192, 35, 35), 3, 1),
}
POOLS = {name: POOLS[name] for name in some(POOLS)}


def data(*shapes, dtype, seed=0):
    """Seeded normal arrays of the shapes given."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


class _Compared:
    """Base of every class; underscored, or asv would run it. Subclasses give `operation(module, ...)`: a call to time.

    `module` is convgrad for the native call and convgrad.reference for the twin. `needs` names functions of convgrad,
    and of the twin where `twin_needs` does not; a commit without them skips the benchmark, and says so.
    """

    timeout = 300
    needs = ()
    twin_needs = None
    # asv's own default goes on for 20 seconds: what is compared here is measured in turns anyway.
    repeat = (2, 10, 2.0)
    warmup_time = 0.05
    processes = 1

    def setup(self, layer, dtype, n_threads, *rest):
        if reference is None:
            raise NotImplementedError("this commit has no importable package")
        absent = [name for name in self.needs if not hasattr(convgrad, name)]
        twins = self.needs if self.twin_needs is None else self.twin_needs
        absent += [f"reference.{name}" for name in twins if not hasattr(reference, name)]
        if absent:
            raise NotImplementedError(f"this commit has no {', '.join(absent)}")
        self.limits = contextlib.ExitStack()
        self.limits.enter_context(convgrad.threads(n_threads))
        self.limits.enter_context(threadpool_limits(n_threads, user_api="blas"))
        self.native = self.operation(convgrad, layer, dtype, *rest)
        self.twin = self.twin_of(layer, dtype, *rest)
        apart(lambda: close(self.native(), self.twin(), TOLERANCE[dtype], type(self).__name__))
        self.native()

    def twin_of(self, *params):
        """The NumPy twin's call."""
        return self.operation(reference, *params)

    def teardown(self, *params):
        if hasattr(self, "limits"):
            self.limits.close()

    def time_native(self, *params):
        self.native()

    def time_twin(self, *params):
        self.twin()

    def peakmem_native(self, *params):
        self.native()

    def track_ratio(self, *params):
        outcome = paired(self.native, self.twin, rounds=7, min_seconds=0.01)
        return 1 / outcome.ratio

    track_ratio.unit = "native / twin"


def apart(check):
    """Run `check` in a child, so that the memory it takes is not this process's peak; raise where it fails."""
    if not hasattr(os, "fork"):
        check()
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: BLAS has threads, which are idle here
        child = os.fork()
    if child == 0:
        status = 1
        try:
            check()
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise AssertionError("native and twin disagree, as told above; the benchmark would time a wrong result")


def close(ours, theirs, tolerance, name):
    """Raise where the two results differ by more than `tolerance` times the largest value."""
    if isinstance(ours, tuple):
        for a, b in zip(ours, theirs, strict=True):
            close(a, b, tolerance, name)
        return
    if ours is None and theirs is None:
        return
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    scale = np.abs(theirs).max(initial=1)
    if ours.shape != theirs.shape or not np.abs(ours - theirs).max(initial=0) <= tolerance * scale:
        raise AssertionError(f"{name}: native and twin disagree")
