"""What the benchmark classes share: parameters, seeded data, and the check that no benchmark times the wrong function.

Every class takes the parameters layer x dtype x n_threads (x algorithm for convolution). `time_` is the native call,
`track_ratio` native / NumPy twin, measured interleaved (asv reads lower as better).
"""

import contextlib
import sys
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

import convgrad
from convgrad import reference

# asv imports `benchmarks` as a package and nothing above it, where the cases and the paired timer are.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import cases
from measure import paired

DTYPES = ["float32", "float64"]
N_THREADS = [1, 2]
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}

# One layer of each kind, small enough that the whole suite stays within minutes.
LAYERS = {
    case.name: case
    for case in (
        cases.DIRECT[1],
        cases.DIRECT[2],
        cases.DIRECT[4],
        cases.DIRECT[9],
        cases.WINOGRAD[2],
        cases.MOBILENET_DEPTHWISE[2],
        cases.INCEPTION[5],
        cases.DCGAN[1],
        cases.DIGITS[2],
        cases.TINY[0],
    )
}

# Shapes of pooling layers: (x, kernel size, stride), from LeNet-5, VGG-16, ResNet-50 and Inception v3.
POOLS = {
    "lenet 2x2": ((64, 6, 28, 28), 2, 2),
    "vgg 2x2": ((32, 64, 56, 56), 2, 2),
    "resnet 3x3 s2": ((8, 64, 112, 112), 3, 2),
    "inception 3x3 s1": ((8, 192, 35, 35), 3, 1),
}


def data(*shapes, dtype, seed=0):
    """Seeded normal arrays of the shapes given."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


class _Compared:
    """Base of every class; underscored, or asv would run it. Subclasses give `operation(module, ...)`: a call to time.

    `module` is convgrad for the native call and convgrad.reference for the twin.
    """

    timeout = 300

    def setup(self, layer, dtype, n_threads, *rest):
        self.limits = contextlib.ExitStack()
        self.limits.enter_context(convgrad.threads(n_threads))
        self.limits.enter_context(threadpool_limits(n_threads, user_api="blas"))
        self.native = self.operation(convgrad, layer, dtype, *rest)
        self.twin = self.operation(reference, layer, dtype, *rest)
        close(self.native(), self.twin(), TOLERANCE[dtype], type(self).__name__)

    def teardown(self, *params):
        self.limits.close()

    def time_native(self, *params):
        self.native()

    def peakmem_native(self, *params):
        self.native()

    def track_ratio(self, *params):
        outcome = paired(self.native, self.twin, rounds=7, min_seconds=0.01)
        return 1 / outcome.ratio

    track_ratio.unit = "native / twin"


def close(ours, theirs, tolerance, name):
    """Raise where the two results differ by more than `tolerance` times the largest value."""
    if isinstance(ours, tuple):
        for a, b in zip(ours, theirs, strict=True):
            close(a, b, tolerance, name)
        return
    scale = np.abs(theirs).max(initial=1)
    if ours.shape != theirs.shape or not np.abs(ours - theirs).max(initial=0) <= tolerance * scale:
        raise AssertionError(f"{name}: native and twin disagree; the benchmark would time a wrong result")
