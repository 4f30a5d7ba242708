"""Native convolution against its NumPy twin: `python asv_bench/twin.py`.

Prints, for the direct table of cases.py, how many times faster the native kernels are than im2col by
`sliding_window_view` and one BLAS product: forward, gradient by input, gradient by weight; float32, one thread each.
Each ratio is the median over rounds of (twin's time / native time), the two interleaved. Both results are compared
before they are timed. Writes asv_bench/results/twin.json and twin.md.
"""

import argparse
import json
from pathlib import Path

from cases import DIRECT
from measure import clean_environment, describe_host, geometric_mean, paired

if __name__ == "__main__":
    clean_environment()

import numpy as np
import threadpoolctl

import convgrad
from convgrad import reference

RESULTS = Path(__file__).parent / "results"
PASSES = ("forward", "grad_input", "grad_weight")


def calls(case, algorithm="auto", seed=0):
    """{pass: (native call, twin call)} for one case, on seeded float32 data."""
    rng = np.random.default_rng(seed)
    x, weight, grad_output = (
        rng.standard_normal(shape, dtype=np.float32) for shape in (case.x_shape, case.weight_shape, case.output_shape)
    )

    def of(module, algorithm):
        options = {**case.options, "algorithm": algorithm}
        return (
            lambda: module.conv2d(x, weight, **options),
            lambda: module.conv2d_grad_input(grad_output, weight, x.shape, **options),
            lambda: module.conv2d_grad_weight(grad_output, x, case.kernel, **options),
        )

    return dict(zip(PASSES, zip(of(convgrad, algorithm), of(reference, "auto"), strict=True), strict=True))


def check(case, name, native, twin):
    """Raise where the two disagree by more than float32 sums of this length explain."""
    ours, theirs = native(), twin()
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    if not error < 1e-4:
        raise AssertionError(f"{case.name} {name}: native and twin differ by {error:.1e} of the largest value")


def measure(cases, algorithm, rounds, min_seconds):
    """One row per case: its name and the `Paired` outcome of each pass."""
    rows = []
    for case in cases:
        row = {"case": case.name, "gflop": case.flops / 1e9}
        for name, (native, twin) in calls(case, algorithm).items():
            check(case, name, native, twin)
            outcome = paired(native, twin, rounds=rounds, min_seconds=min_seconds)
            row[name] = {field: getattr(outcome, field) for field in outcome.__slots__}
        rows.append(row)
        print(f"{case.name:34}" + "".join(f"{row[name]['ratio']:12.2f}" for name in PASSES), flush=True)
    return rows


def summary(rows):
    """Geometric mean of each pass and of all, and the worst ratio with its case and pass."""
    ratios = {name: [row[name]["ratio"] for row in rows] for name in PASSES}
    worst, where = min((row[name]["ratio"], f"{row['case']} {name}") for row in rows for name in PASSES)
    return {
        "geometric_mean": {name: geometric_mean(values) for name, values in ratios.items()},
        "geometric_mean_all": geometric_mean([value for values in ratios.values() for value in values]),
        "worst": worst,
        "worst_case": where,
    }


def markdown(report):
    """The report as a page: conditions, table, summary."""
    total, host = report["summary"], report["host"]
    lines = [
        "# Native against the NumPy twin",
        "",
        f"float32, one thread each, {report['rounds']} rounds interleaved. Each cell: median of the paired ratios "
        "twin / native (above 1 native is faster), then the native GFLOP/s.",
        f"{host['cpu']}; kernels: {host['isa']}; NumPy {host['numpy']}, BLAS: {host['blas']}.",
        "Reproduce: `python asv_bench/twin.py`.",
        "",
        "| case | " + " | ".join(PASSES) + " |",
        "|---|" + "---|" * len(PASSES),
    ]
    for row in report["rows"]:
        cells = [f"{row[name]['ratio']:.2f}x, {row['gflop'] / row[name]['ours']:.0f}" for name in PASSES]
        lines.append(f"| {row['case']} | {' | '.join(cells)} |")
    means = " | ".join(f"**{total['geometric_mean'][name]:.2f}x**" for name in PASSES)
    lines += [
        f"| geometric mean | {means} |",
        "",
        f"All passes: geometric mean {total['geometric_mean_all']:.2f}x; worst {total['worst']:.2f}x "
        f"({total['worst_case']}).",
    ]
    return "\n".join(lines) + "\n"


def blas_kernels():
    """What NumPy's BLAS runs, e.g. "openblas SkylakeX, 1 thread"."""
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return "; ".join(
        f"{pool['internal_api']} {pool.get('architecture') or 'unknown kernel'}, {pool['num_threads']} thread(s)"
        for pool in pools
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=11, help="paired rounds per case and pass (default: 11)")
    parser.add_argument("--min-seconds", type=float, default=0.02, help="length of one sample (default: 0.02)")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only cases with TEXT in their label; writes no files"
    )
    parser.add_argument(
        "--algorithm", choices=("auto", "direct"), default="auto", help="of the native side; direct writes no files"
    )
    options = parser.parse_args()
    cases = [case for case in DIRECT if options.only in case.name]
    if not cases:
        parser.error(f"no case contains {options.only!r}; the cases are: " + "; ".join(case.name for case in DIRECT))

    with threadpoolctl.threadpool_limits(1, user_api="blas"), convgrad.threads(1), convgrad.backend("native"):
        host = {**describe_host(), "blas": blas_kernels()}
        print(f"{host['cpu']}; kernels: {host['isa']}; BLAS: {host['blas']}")
        print(f"{'twin / native':34}" + "".join(f"{name:>12}" for name in PASSES))
        rows = measure(cases, options.algorithm, options.rounds, options.min_seconds)
    report = {"host": host, "rounds": options.rounds, "rows": rows, "summary": summary(rows)}
    total = report["summary"]
    means = "".join(f"{total['geometric_mean'][name]:12.2f}" for name in PASSES)
    print(f"{'geometric mean':34}{means}\nall passes {total['geometric_mean_all']:.2f}")
    print(f"worst {total['worst']:.2f}: {total['worst_case']}")
    if not options.only and options.algorithm == "auto":
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "twin.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (RESULTS / "twin.md").write_text(markdown(report), encoding="utf-8")


if __name__ == "__main__":
    main()
