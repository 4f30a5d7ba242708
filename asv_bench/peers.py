"""convgrad against other libraries, in one process: `python asv_bench/peers.py conv`.

Both sides get the same float32 arrays and the same number of threads and return fresh arrays; weights are packed inside
the time. Calls alternate; a ratio is the median over rounds of (peer's time / ours), so above 1 ours is faster. Rounds
in which other processes took more than a twentieth of the machine are set aside and counted; a lock keeps two runs of
this script apart.

Writes asv_bench/results/peers-SUITE.json, .md and, with matplotlib, .png. Runs over a part of the cases write nothing.
"""

import argparse
import contextlib
import fcntl
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from measure import clean_environment, cpu_name, geometric_mean

if __name__ == "__main__":
    clean_environment()

import cases
import numpy as np
import peers_calls
import peers_linear
import peers_optimizers
import peers_rows
import suites
import torch

import convgrad
from convgrad._native import runtime

RESULTS = Path(__file__).parent / "results"
PASSES = ("forward", "grad_input", "grad_weight")
DISTURBED = 0.05  # of all CPU time of the machine
SUITES = {
    "rows": peers_rows,
    "linear": peers_linear,
    "optimizers": peers_optimizers,
    "calls": peers_calls,
}


@contextlib.contextmanager
def machine_lock():
    """Hold a lock that only one timing run of this machine can hold."""
    path = Path(tempfile.gettempdir()) / "convgrad-timing.lock"
    with open(path, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another timing run holds the lock; waiting for it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class OutsideLoad:
    """Share of the machine's CPU time that other processes took since the last look."""

    def __init__(self):
        self._last = self._now()

    @staticmethod
    def _now():
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, idle, iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        own = time.process_time()
        return busy - own, time.monotonic()

    def look(self):
        """Return the share, from 0 to 1; /proc counts in hundredths of a second, so short spans are rough."""
        outside, moment = self._now()
        before, then = self._last
        self._last = outside, moment
        return max(0.0, outside - before) / ((moment - then) * os.cpu_count())


def measure(calls, rounds, min_seconds):
    """Time the callables in turns.

    Returns {"seconds": median of each, "ratios": median of (time of i / time of 0), "spread": (lowest, highest) for
    each, "disturbed": rounds set aside}.
    """
    repeats = []
    for call in calls:
        call()
        start = time.perf_counter()
        call()
        repeats.append(max(1, min(1000, int(min_seconds / max(time.perf_counter() - start, 1e-9)))))
    load = OutsideLoad()
    good, bad = [], []
    while len(good) < rounds and len(good) + len(bad) < 3 * rounds:
        order = range(len(calls)) if (len(good) + len(bad)) % 2 == 0 else reversed(range(len(calls)))
        times = [0.0] * len(calls)
        load.look()
        for i in order:
            start = time.perf_counter()
            for _ in range(repeats[i]):
                calls[i]()
            times[i] = (time.perf_counter() - start) / repeats[i]
        (bad if load.look() > DISTURBED else good).append(times)
    kept = good if len(good) >= 3 else good + bad
    seconds = [statistics.median(column) for column in zip(*kept, strict=True)]
    ratios = [[times[i] / times[0] for times in kept] for i in range(1, len(calls))]
    return {
        "seconds": seconds,
        "ratios": [statistics.median(values) for values in ratios],
        "spread": [(min(values), max(values)) for values in ratios],
        "disturbed": len(bad),
    }


# ---------------------------------------------------------------- convolution


def conv_calls(case, last):
    """{pass: (ours, PyTorch, PyTorch channels_last)} on seeded data; without `last` only the first two."""
    rng = np.random.default_rng(0)
    x, weight, grad = (
        rng.standard_normal(shape, dtype=np.float32) for shape in (case.x_shape, case.weight_shape, case.output_shape)
    )
    options = {"stride": case.stride, "padding": case.padding, "groups": case.groups}
    if case.transposed:
        forward = lambda: convgrad.conv_transpose2d(x, weight, **options)
        by_x, by_weight = (
            lambda: convgrad.conv_transpose2d_backward(grad, x, weight, weight_grad=False, bias=False, **options)[0],
            lambda: convgrad.conv_transpose2d_backward(grad, x, weight, input_grad=False, bias=False, **options)[1],
        )
    else:
        forward = lambda: convgrad.conv2d(x, weight, **options)
        by_x = lambda: convgrad.conv2d_grad_input(grad, weight, x.shape, **options)
        by_weight = lambda: convgrad.conv2d_grad_weight(grad, x, case.kernel, **options)
    calls = {"forward": [forward], "grad_input": [by_x], "grad_weight": [by_weight]}
    for layout in (torch.contiguous_format, torch.channels_last)[: 1 + last]:
        tx, tw, tg = (torch.from_numpy(a).to(memory_format=layout) for a in (x, weight, grad))

        def peer(mask, tx=tx, tw=tw, tg=tg):
            return torch.ops.aten.convolution_backward(
                tg, tx, tw, None, case.stride, case.padding, (1, 1), case.transposed, (0, 0), case.groups, mask
            )

        calls["forward"].append(
            lambda tx=tx, tw=tw: torch.ops.aten.convolution(
                tx, tw, None, case.stride, case.padding, (1, 1), case.transposed, (0, 0), case.groups
            )
        )
        calls["grad_input"].append(lambda peer=peer: peer((True, False, False))[0])
        calls["grad_weight"].append(lambda peer=peer: peer((False, True, False))[1])
    return calls


def check(case, name, ours, theirs):
    """Raise where the two disagree by more than float32 sums of this length explain."""
    mine, peer = np.asarray(ours()), theirs().numpy()
    error = np.abs(mine - peer).max() / np.abs(peer).max()
    if not error < 1e-4:
        raise AssertionError(f"{case.name} {name}: the two differ by {error:.1e} of the largest value")


def run_conv(options):
    """One row for each case, pass and number of threads."""
    chosen = [case for family in cases.FAMILIES.values() for case in family if options.only in case.name]
    rows = []
    for n_threads in options.threads:
        torch.set_num_threads(n_threads)
        with convgrad.threads(n_threads):
            for case in chosen:
                calls = conv_calls(case, last=not options.no_channels_last)
                for name in options.passes:
                    check(case, name, *calls[name][:2])
                    outcome = measure(calls[name], options.rounds, options.min_seconds)
                    rows.append(
                        {
                            "case": case.name,
                            "family": case.family,
                            "pass": name,
                            "threads": n_threads,
                            "gflop": case.flops / 1e9,
                            **outcome,
                        }
                    )
                    last = f"{outcome['ratios'][1]:7.2f}" if len(outcome["ratios"]) > 1 else ""
                    speed = case.flops / outcome["seconds"][0] / 1e9
                    print(
                        f"{n_threads} thr  {case.name:46} {name:12} {speed:7.1f} GF/s"
                        f" {outcome['ratios'][0]:7.2f}{last}{'  <' if outcome['ratios'][0] < 1 else ''}"
                        f"{'  disturbed ' + str(outcome['disturbed']) if outcome['disturbed'] else ''}",
                        flush=True,
                    )
    return rows


# ---------------------------------------------------------------- summary and files


def summarise(rows, column=0):
    """Means by family, pass and threads; the worst; every row below 1."""
    rows = [row for row in rows if len(row["ratios"]) > column]
    ratio = lambda row: row["ratios"][column]

    def by(key, chosen):
        groups = {}
        for row in chosen:
            groups.setdefault(row[key], []).append(ratio(row))
        return {name: geometric_mean(values) for name, values in groups.items()}

    large = [row for row in rows if row["family"] not in cases.APART]
    families = by("family", large)
    return {
        "families": families,
        "apart": by("family", [row for row in rows if row["family"] in cases.APART]),
        "passes": by("pass", large),
        "threads": by("threads", large),
        "geometric_mean": geometric_mean(list(families.values())) if families else None,
        "worst": min(rows, key=ratio, default=None),
        "below_one": sorted((row for row in rows if ratio(row) < 1), key=ratio),
    }


def scaling(rows):
    """Time with one thread / time with two, compute-bound cases above 50 MFLOP."""
    times = {(row["case"], row["pass"], row["threads"]): row["seconds"][0] for row in rows if row["gflop"] > 0.05}
    return [
        seconds / times[case, name, 2]
        for (case, name, n), seconds in times.items()
        if n == 1 and (case, name, 2) in times
    ]


def label(row):
    return f"{row['case']} {row['pass']} ({row['threads']} thr)"


def report_lines(report):
    """The summary as Markdown."""
    host = report["host"]
    lines = [
        f"# {report['suite']}: convgrad against PyTorch {host['torch']}",
        "",
        f"{host['cpu']}; kernels: {host['isa']}; {report['rounds']} rounds interleaved, median of paired ratios "
        "(above 1: convgrad is faster).",
        f"Reproduce: `python asv_bench/peers.py {report['suite']}`.",
        "",
    ]
    for title, summary in report["summaries"].items():
        if summary["geometric_mean"] is None:
            continue
        worst = summary["worst"]
        column = 0 if title == "PyTorch" else 1
        lines += [
            f"## Against {title}",
            "",
            f"Geometric mean of the families **{summary['geometric_mean']:.2f}x**; "
            f"worst {worst['ratios'][column]:.2f}x ({label(worst)}).",
            "",
            "| family | geometric mean |",
            "|---|---|",
            *(f"| {name} | {value:.2f}x |" for name, value in {**summary["families"], **summary["apart"]}.items()),
            "",
            "By pass: "
            + ", ".join(f"{name} {value:.2f}x" for name, value in summary["passes"].items())
            + "; by threads: "
            + ", ".join(f"{n}: {value:.2f}x" for n, value in summary["threads"].items())
            + ".",
            "",
            f"Below 1.0x ({len(summary['below_one'])} of {len(report['rows'])}): "
            + ("; ".join(f"{label(row)} {row['ratios'][column]:.2f}" for row in summary["below_one"]) or "none")
            + ".",
            "",
        ]
    if report["scaling"]:
        lines += [
            f"Two threads against one, cases above 50 MFLOP: geometric mean {geometric_mean(report['scaling']):.2f}x.",
            "",
        ]
    lines += [
        "| case | pass | threads | GFLOP/s | PyTorch | lowest - highest | channels_last | disturbed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        low, high = row["spread"][0]
        last = f"{row['ratios'][1]:.2f}x" if len(row["ratios"]) > 1 else ""
        lines.append(
            f"| {row['case']} | {row['pass']} | {row['threads']} | {row['gflop'] / row['seconds'][0]:.1f} "
            f"| {row['ratios'][0]:.2f}x | {low:.2f} - {high:.2f} | {last} | {row['disturbed']} |"
        )
    return lines


def draw(report, path):
    """A dot for each case and pass, one row for each family, on a logarithmic axis of ratios."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    families = list(dict.fromkeys(row["family"] for row in report["rows"]))
    figure = Figure(figsize=(9, 1.5 + 0.38 * len(families)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for offset, (name, colour) in enumerate(zip(PASSES, ("#1b6ca8", "#d1495b", "#3a7d44"), strict=True)):
        rows = [row for row in report["rows"] if row["pass"] == name]
        axes.scatter(
            [row["ratios"][0] for row in rows],
            [families.index(row["family"]) + 0.22 * (offset - 1) for row in rows],
            s=14,
            alpha=0.7,
            color=colour,
            label=name,
            linewidths=0,
        )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    ticks = [0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(families)), families)
    axes.invert_yaxis()
    axes.set_xlabel(f"time of PyTorch {report['host']['torch']} / time of convgrad, float32 NCHW")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("suite", choices=("conv", *SUITES))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=PASSES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--min-seconds", type=float, default=0.01, help="length of one sample")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only cases with TEXT in their label; writes no files"
    )
    parser.add_argument("--no-channels-last", action="store_true", help="leave out the second column; writes no files")
    options = parser.parse_args()
    if options.suite in SUITES:
        with machine_lock():
            suites.report(options.suite, SUITES[options.suite], options, measure)
        return
    with machine_lock():
        rows = run_conv(options)
    if not rows:
        parser.error(f"no case contains {options.only!r}")
    report = {
        "suite": options.suite,
        "host": {"cpu": cpu_name(), "isa": runtime.isa(), "torch": torch.__version__, "numpy": np.__version__},
        "rounds": options.rounds,
        "summaries": {"PyTorch": summarise(rows), "PyTorch channels_last": summarise(rows, 1)},
        "scaling": scaling(rows),
        "rows": rows,
    }
    lines = report_lines(report)
    print("\n".join(lines[: next(i for i, line in enumerate(lines) if line.startswith("| case"))]))
    if options.only or options.no_channels_last or tuple(options.passes) != PASSES:
        return
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"peers-{options.suite}"
    stem.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with contextlib.suppress(ImportError):
        draw(report, stem.with_suffix(".png"))


if __name__ == "__main__":
    main()
