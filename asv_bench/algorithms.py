"""Winograd against our own direct convolution: `python asv_bench/algorithms.py`, the figures behind algorithm="auto".

One thread, float32, padding 1. Both algorithms take turns; a ratio is the least time of the direct one over the least
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
from convgrad._native import runtime

RESULTS = Path(__file__).parent / "results"
DIRECTIONS = ("forward", "grad_input", "grad_weight")
SAMPLES, SECONDS = 25, 0.001
# batch, channels in, channels out, height and width
SHAPES = [
    *((16, c, k, 28) for c, k in ((3, 16), (3, 64), (4, 32), (8, 8), (8, 16), (16, 8), (8, 64), (64, 8))),
    *((16, c, k, 28) for c, k in ((12, 12), (12, 16), (16, 12), (12, 32), (32, 12), (16, 16), (16, 64), (64, 64))),
    *((64, 64, 64, size) for size in (2, 3, 4, 5, 6, 7, 8, 14)),
    *((16, 256, 256, size) for size in (3, 4, 5, 7, 14)),
    (1, 512, 512, 7),
    (8, 512, 512, 7),
    (8, 128, 32, 56),
    (1, 64, 64, 112),
]


def least_times(calls):
    """Least seconds of each callable."""
    repeats = []
    for call in calls:
        call()
        start = time.perf_counter()
        call()
        repeats.append(max(1, int(SECONDS / (time.perf_counter() - start))))
    least = [float("inf")] * len(calls)
    for _ in range(SAMPLES):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            for _ in range(repeats[i]):
                call()
            least[i] = min(least[i], (time.perf_counter() - start) / repeats[i])
    return least


def calls_of(direction, x, weight, grad):
    """The two callables of a direction: direct, Winograd."""

    def call(algorithm):
        options = {"padding": 1, "algorithm": algorithm}
        if direction == "forward":
            return lambda: convgrad.conv2d(x, weight, **options)
        if direction == "grad_input":
            return lambda: convgrad.conv2d_grad_input(grad, weight, x.shape, **options)
        return lambda: convgrad.conv2d_grad_weight(grad, x, 3, **options)

    return call("direct"), call("winograd")


def main():
    convgrad.set_num_threads(1)
    rng = np.random.default_rng(0)
    rows = []
    with machine_lock():
        for batch, channels, out_channels, size in SHAPES:
            x = rng.standard_normal((batch, channels, size, size), dtype=np.float32)
            weight = rng.standard_normal((out_channels, channels, 3, 3), dtype=np.float32)
            grad = rng.standard_normal((batch, out_channels, size, size), dtype=np.float32)
            row = {"shape": (batch, channels, out_channels, size)}
            for direction in DIRECTIONS:
                direct, winograd = least_times(calls_of(direction, x, weight, grad))
                account = convgrad.explain_conv2d(x.shape, weight.shape, padding=1, direction=direction)
                row[direction] = direct / winograd, account["algorithm"].split()[0].rstrip(",")
            rows.append(row)
    lines = [
        '# Winograd against direct convolution, and what `algorithm="auto"` takes',
        "",
        f"{cpu_name()}; kernels: {runtime.isa()}; one thread; above 1 Winograd is faster. "
        "Reproduce: `python asv_bench/algorithms.py`.",
        "",
        "| N | C | K | size | " + " | ".join(f"{direction} | auto" for direction in DIRECTIONS) + " |",
        "|---|---|---|---|" + "---|---|" * len(DIRECTIONS),
    ]
    for row in rows:
        cells = " | ".join(f"{row[direction][0]:.2f}x | {row[direction][1]}" for direction in DIRECTIONS)
        lines.append("| " + " | ".join(map(str, row["shape"])) + f" | {cells} |")
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
