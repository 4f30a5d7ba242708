"""Gradients of convolutions through HIPS autograd, against its own convolution: `python asv_bench/peers.py autograd`.

Both compute sum(y^2) of the same float64 convolution and its gradients by image and kernel; results must agree. Runs
alternate; a ratio is the median over rounds of (autograd's time / ours). Writes asv_bench/results/peers-autograd.json,
.md and, with matplotlib, .png: half a minute.
"""

import argparse
import contextlib
import json
import statistics
import time
from pathlib import Path

from measure import clean_environment, describe_host, geometric_mean, paired

if __name__ == "__main__":
    clean_environment()

import autograd
import autograd.numpy as anp
import dots
import numpy as np
from autograd.extend import defvjp, primitive
from autograd.scipy.signal import convolve

import convgrad
from convgrad.integrations.autograd import conv2d, convolve2d

RESULTS = Path(__file__).parent / "results"

# One image with one kernel, then batches (N, C, H, W) with weights (K, C, R, S).
SINGLE = [((28, 28), (5, 5)), ((64, 64), (3, 3)), ((128, 128), (7, 7))]
LAYERS = [((16, 1, 28, 28), (6, 1, 5, 5)), ((16, 6, 12, 12), (16, 6, 5, 5)), ((8, 16, 32, 32), (16, 16, 3, 3))]


def ours(x, w):
    y = convolve2d(x, w, "valid") if x.ndim == 2 else conv2d(x, w)
    return anp.sum(y**2)


def theirs(x, w):
    if x.ndim == 2:
        return anp.sum(convolve(x, w, mode="valid") ** 2)
    flipped = w[:, :, ::-1, ::-1]  # theirs is a true convolution
    return anp.sum(convolve(x, flipped, axes=([2, 3], [2, 3]), dot_axes=([1], [1]), mode="valid") ** 2)


def tape_seconds(x, w):
    """What autograd itself takes: the same graph of a convolution whose results lie ready."""
    y = convolve2d(x, w, "valid") if x.ndim == 2 else conv2d(x, w)
    ready = primitive(lambda x, w: y)
    defvjp(ready, lambda *a: lambda g: x, lambda *a: lambda g: w)
    gradient = autograd.grad(lambda x, w: anp.sum(ready(x, w) ** 2), (0, 1))
    times = []
    for _ in range(100):
        start = time.perf_counter()
        gradient(x, w)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main(arguments=None):
    parser = argparse.ArgumentParser("peers.py autograd", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", metavar="TEXT", help="only shapes with TEXT in them; writes nothing")
    parser.add_argument("--results", type=Path, help="write whatever was run into this folder")
    options = parser.parse_args(arguments)
    rng, rows = np.random.default_rng(0), []
    chosen = [shapes for shapes in SINGLE + LAYERS if options.only in f"x {shapes[0]}, w {shapes[1]}"]
    if not chosen:
        parser.error(f"no case contains {options.only!r}")
    with convgrad.threads(1):
        for x_shape, w_shape in chosen:
            x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
            gradients = [autograd.grad(function, (0, 1)) for function in (ours, theirs)]
            for a, b in zip(gradients[0](x, w), gradients[1](x, w), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8 * np.abs(b).max())
            found = paired(*(lambda g=g, x=x, w=w: g(x, w) for g in gradients), rounds=options.rounds, min_seconds=0.01)
            case = {"family": "gradients", "case": f"x {x_shape}, w {w_shape}", "threads": 1}
            figures = {"ratios": [found.ratio], "spread": [(found.lowest, found.highest)]}
            rows.append({**case, "seconds": (found.ours, found.theirs), "tape": tape_seconds(x, w), **figures})
            print(f"x {x_shape}, w {w_shape}: {1e3 * found.ours:.3f} ms, {found.ratio:.1f}x", flush=True)
    host = describe_host("autograd")
    mean = geometric_mean([row["ratios"][0] for row in rows])
    lines = [
        "# autograd: convgrad's primitives against autograd.scipy.signal.convolve",
        "",
        f"{host['cpu']}; one thread, float64; value and both gradients; {options.rounds} rounds interleaved.",
        "Reproduce: `python asv_bench/peers.py autograd`.",
        "",
        f"Geometric mean **{mean:.1f}x**, worst {min(row['ratios'][0] for row in rows):.1f}x.",
        "",
        "`tape`: what autograd itself takes of both, by the same graph with results that lie ready; no convolution, "
        "however fast, gets below it.",
        "",
        "| case | ms | tape, ms | ratio |",
        "|---|---|---|---|",
        *(
            f"| {row['case']} | {1e3 * row['seconds'][0]:.3f} | {1e3 * row['tape']:.3f} | {row['ratios'][0]:.1f}x |"
            for row in rows
        ),
    ]
    print(lines[5])
    if options.only and options.results is None:
        return
    results = options.results or RESULTS
    results.mkdir(exist_ok=True)
    report = {"suite": "autograd", "peer": "autograd", "host": host, "rounds": options.rounds, "rows": rows}
    (results / "peers-autograd.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (results / "peers-autograd.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    label = f"time of autograd {host['autograd']} / time of convgrad, value and both gradients"
    with contextlib.suppress(ImportError):
        dots.draw(results / "peers-autograd.png", {label: [(row["case"], "float64", row["ratios"][0]) for row in rows]})


if __name__ == "__main__":
    main()
