"""Winograd against our own direct convolution: `python asv_bench/algorithms.py`, the figures behind algorithm="auto".

One thread, padding that keeps the size; 3x3 kernels, others, which are filtered along one axis, and 3x3 in float64,
where Winograd is F(2x2, 3x3). Both algorithms take turns; a ratio is the least time of the direct one over the least
time of Winograd's, of many short samples each, so that other tenants of the machine do not show. Above 1 Winograd is
faster. Writes asv_bench/results/algorithms.json and .md.
"""

import json
import time
from pathlib import Path

from measure import clean_environment, cpu_name, machine_lock

if __name__ == "__main__":
    clean_environment()

import numpy as np

import convgrad
from convgrad import shapes
from convgrad._native import runtime

RESULTS = Path(__file__).parent / "results"
DIRECTIONS = ("forward", "grad_input", "grad_weight")
SAMPLES, FEWEST_SAMPLES, SECONDS = 25, 5, 0.001  # of one sample
ALL_SECONDS = 0.15  # after which only the fewest samples are taken
# batch, channels in, channels out, height and width
SHAPES = [
    *((16, c, k, 28) for c, k in ((3, 16), (3, 64), (4, 32), (8, 8), (8, 16), (16, 8), (8, 64), (64, 8))),
    *((16, c, k, 28) for c, k in ((12, 12), (12, 16), (16, 12), (12, 32), (32, 12), (16, 16), (16, 64), (64, 64))),
    *((64, 64, 64, size) for size in (2, 3, 4, 5, 6, 7, 8, 14)),
    *((16, 256, 256, size) for size in (3, 4, 5, 7, 14)),
    *((n, 512, 512, size) for n, size in ((1, 2), (64, 2), (1, 7), (8, 7))),
    (8, 128, 32, 56),
    (1, 64, 64, 112),
]
# Besides the kernels that are filtered along one axis.
AXIS_SHAPES = [
    *((4, c, k, 28) for c, k in ((16, 16), (24, 24), (32, 32), (48, 48), (64, 64))),
    *((16, 64, 64, size) for size in (2, 4, 6, 7, 14)),
    *((n, c, c, size) for c, size in ((128, 17), (384, 8)) for n in (1, 8)),
]
# In float64, 3x3.
WIDE_SHAPES = [
    *((16, c, k, 24) for c, k in ((8, 64), (64, 8), (16, 16), (24, 24), (16, 32), (32, 16), (32, 32), (64, 64))),
    *((64, 64, 64, size) for size in (2, 3, 4, 7, 14)),
    (1, 512, 512, 7),
    (8, 128, 32, 56),
]
AXIS_KERNELS = ((1, 3), (3, 1), (1, 7), (7, 1), (5, 5))


def least_times(calls):
    """Least seconds of each callable."""
    repeats = []
    for call in calls:
        call()
        start = time.perf_counter()
        call()
        repeats.append(max(1, int(SECONDS / (time.perf_counter() - start))))
    least = [float("inf")] * len(calls)
    deadline = time.perf_counter() + ALL_SECONDS
    for taken in range(SAMPLES):
        if taken >= FEWEST_SAMPLES and time.perf_counter() > deadline:
            break
        for i, call in enumerate(calls):
            start = time.perf_counter()
            for _ in range(repeats[i]):
                call()
            least[i] = min(least[i], (time.perf_counter() - start) / repeats[i])
    return least


def calls_of(direction, x, weight, grad):
    """The two callables of a direction: direct, Winograd."""
    kernel = weight.shape[2:]

    def call(algorithm):
        options = {"padding": "same", "algorithm": algorithm}
        if direction == "forward":
            return lambda: convgrad.conv2d(x, weight, **options)
        if direction == "grad_input":
            return lambda: convgrad.conv2d_grad_input(grad, weight, x.shape, **options)
        return lambda: convgrad.conv2d_grad_weight(grad, x, kernel, **options)

    return call("direct"), call("winograd")


def measured(rng, kernel, batch, channels, out_channels, size, dtype="float32"):
    """What one row of the table says."""
    x = rng.standard_normal((batch, channels, size, size), dtype=dtype)
    weight = rng.standard_normal((out_channels, channels, *kernel), dtype=dtype)
    grad = rng.standard_normal((batch, out_channels, size, size), dtype=dtype)
    row = {"kernel": kernel, "dtype": dtype, "shape": (batch, channels, out_channels, size)}
    for direction in DIRECTIONS:
        direct, winograd = least_times(calls_of(direction, x, weight, grad))
        account = convgrad.explain_conv2d(x.shape, weight.shape, padding="same", direction=direction, dtype=dtype)
        row[direction] = direct / winograd, account["algorithm"].split()[0].rstrip(",")
    return row


def main():
    convgrad.set_num_threads(1)
    shapes._check_algorithm = lambda *_: None  # along one axis too, which only "auto" offers
    rng = np.random.default_rng(0)
    with machine_lock():
        rows = [measured(rng, (3, 3), *shape) for shape in SHAPES]
        rows += [measured(rng, kernel, *shape) for shape in AXIS_SHAPES for kernel in AXIS_KERNELS]
        with convgrad.precision("strict"):  # what "auto" takes in float64
            rows += [measured(rng, (3, 3), *shape, dtype="float64") for shape in WIDE_SHAPES]
    lines = [
        '# Winograd against direct convolution, and what `algorithm="auto"` takes',
        "",
        f"{cpu_name()}; kernels: {runtime.isa()}; one thread; above 1 Winograd is faster. "
        "Reproduce: `python asv_bench/algorithms.py`.",
        "",
        "| kernel | N | C | K | size | " + " | ".join(f"{direction} | auto" for direction in DIRECTIONS) + " |",
        "|---|---|---|---|---|" + "---|---|" * len(DIRECTIONS),
    ]
    for row in rows:
        cells = " | ".join(f"{row[direction][0]:.2f}x | {row[direction][1]}" for direction in DIRECTIONS)
        kernel = "x".join(map(str, row["kernel"])) + (" float64" if row["dtype"] == "float64" else "")
        cells = f"{kernel} | " + " | ".join(map(str, row["shape"])) + f" | {cells}"
        lines.append(f"| {cells} |")
    chosen = [
        ratio if algorithm == "winograd" else 1 / ratio
        for row in rows
        for ratio, algorithm in (row[direction] for direction in DIRECTIONS)
    ]
    lines += ["", f"The worst choice costs {1 / min(chosen):.2f} times the other algorithm's time.", ""]
    RESULTS.mkdir(exist_ok=True)
    report = {"cpu": cpu_name(), "isa": runtime.isa(), "rows": rows}
    (RESULTS / "algorithms.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "algorithms.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
