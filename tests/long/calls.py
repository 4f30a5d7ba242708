"""Memory over a million mixed calls: `python tests/long/calls.py --calls 1000000`; see docs/robustness.md.

Every functional in both dtypes with small arrays, convolutions and pools of random shapes and options with fresh
arrays, refused calls, training steps of a layer, one to three threads, both backends and precisions. Prints resident
memory and what the pool of recycled blocks keeps; the exit status is 1 where memory beside that pool grows by more than
a twentieth and 4 MB after the first two tenths, in which caches of shapes fill.
"""

import argparse
import ctypes
import gc
import os
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from test_kernel_table import CALLS, call_of

import convgrad
from convgrad import layers, optimizers
from convgrad._native import memory

SLACK = 4 << 20


def resident():
    """Bytes of this process in memory, without what the C library holds free."""
    gc.collect()
    if hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def convolution(draw, rng):
    """Forward and backward of a random shape; about one in ten has results that come from the pool."""
    dtype = draw.choice((np.float32, np.float64))
    groups, size = draw.choice((1, 1, 2)), draw.choice((5, 8, 13, 24, 40))
    channels, out_channels = groups * draw.randint(1, 12), groups * draw.randint(1, 12)
    x = rng.standard_normal((draw.randint(1, 3), channels, size, size + draw.randint(0, 3))).astype(dtype)
    weight = rng.standard_normal((out_channels, channels // groups, draw.choice((1, 3)), 3)).astype(dtype)
    options = dict(stride=draw.choice((1, 2)), padding=draw.choice((1, "same", ((0, 1), (1, 2)))), groups=groups)
    y = convgrad.conv2d(x, weight, activation=draw.choice((None, "relu", ("elu", 0.5))), **options)
    convgrad.conv2d_backward(y, x, weight, **options)


def pooling(draw, rng):
    x = rng.standard_normal((2, draw.randint(1, 20), draw.randint(6, 30), draw.randint(6, 30)))
    y, indices = convgrad.max_pool2d(x, draw.choice((2, 3)), stride=2, return_indices=True)
    convgrad.avg_pool2d(x, 2, ceil_mode=draw.random() < 0.5)
    convgrad.gelu(x)


def refused(draw, rng):
    x, weight = np.ones((1, draw.randint(1, 4), 4, 4)), np.ones((2, 5, 3, 3))
    for call in (
        lambda: convgrad.conv2d(x, weight),
        lambda: convgrad.max_pool2d(x, draw.randint(10, 10**6)),
        lambda: convgrad.relu([1.0]),
        lambda: convgrad.sigmoid(np.ones(20000), out=np.ones(3)),
    ):
        try:
            call()
        except (TypeError, ValueError):
            continue
        raise AssertionError("not refused")


class Network:
    """Steps of a small network, whose weights are packed again now and then."""

    def __init__(self):
        self.model = layers.Sequential(
            [layers.Conv2D(1, 8, 3, activation="relu", rng=0), layers.Flatten(), layers.Dense(288, 10, rng=0)]
        )
        self.optimizer = optimizers.Adam(learning_rate=1e-5)

    def __call__(self, draw, rng):
        x = rng.standard_normal((draw.randint(1, 9), 1, 8, 8), dtype=np.float32)
        _, grad = convgrad.softmax_cross_entropy(self.model(x), np.arange(len(x)))
        self.model.backward(grad)
        self.optimizer.step(self.model.parameters())
        if draw.random() < 0.1:
            self.model.eval()(x)
            self.model.train()


def run(n_calls, every, seed=1, say=print):
    """Resident bytes, the pool's left out, after each `every` calls: of a functional, or of a mix of those above."""
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    table = [call_of(label, dtype) for label in CALLS for dtype in ("float32", "float64")]
    mixes = [convolution, pooling, refused, Network()]
    figures, start = [], time.perf_counter()
    for n in range(1, n_calls + 1):
        with convgrad.threads(draw.randint(1, 3)), convgrad.precision(draw.choice(("fast", "strict"))):
            if draw.random() < 0.85:
                if draw.random() < 0.02:
                    with convgrad.backend("numpy"):
                        draw.choice(table)()
                else:
                    draw.choice(table)()
            else:
                draw.choice(mixes)(draw, rng)
        if n % every == 0:
            info = memory.cache_info()
            here = resident()
            figures.append(here - info["kept"])
            say(
                f"| {n:,} | {here / 1e6:.1f} | {info['kept'] / 1e6:.2f} | {info['kept_blocks']} "
                f"| {info['system_blocks']:,} | {time.perf_counter() - start:.0f} |"
            )
    return figures


def grew(figures):
    """Whether memory goes up after the first two figures."""
    return max(figures[2:]) > figures[1] + max(figures[1] // 20, SLACK)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print("| calls | resident, MB | kept by the pool, MB | blocks kept | blocks taken from the system | seconds |")
    print("|---" * 6 + "|")
    figures = run(options.calls, max(1, options.calls // 10), options.seed, lambda text: print(text, flush=True))
    return int(grew(figures))


if __name__ == "__main__":
    sys.exit(main())
