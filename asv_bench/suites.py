"""Suites of `peers.py` other than convolution: cases in families, a ratio each, a table and a chart.

A suite is a module with a docstring that says what is compared, and `cases(n_threads)`, which yields `Case`s one at a
time, so that the arrays of one are gone before the next. `NOTES()`, where it is there, returns lines for the report.
"""

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measure import describe_host, geometric_mean

import convgrad

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison; `check` runs before it is timed and raises where the two sides disagree."""

    family: str
    name: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    check: Callable[[], None] = lambda: None


def agree(ours, theirs, tolerance=2e-5):
    """Raise AssertionError where two arrays differ by more than `tolerance` of the largest value."""
    mine = np.asarray(ours, dtype=np.float64)
    peer = np.asarray(theirs.detach() if isinstance(theirs, torch.Tensor) else theirs, dtype=np.float64)
    if mine.shape != peer.shape:
        raise AssertionError(f"shapes {mine.shape} and {peer.shape}")
    error = np.abs(mine - peer).max(initial=0) / max(np.abs(peer).max(initial=0), 1e-30)
    if not error <= tolerance:
        raise AssertionError(f"the two differ by {error:.1e} of the largest value")


def report(name, suite, options, measure):
    """Run a suite, print a line for each case and the summary; write the files unless only a part was asked for."""
    rows = []
    for n_threads in options.threads:
        torch.set_num_threads(n_threads)
        with convgrad.threads(n_threads):
            for case in suite.cases(n_threads):
                if options.only in f"{case.family} {case.name}":
                    rows.append(_row(case, n_threads, options, measure))
    if not rows:
        sys.exit(f"no case of {name} contains {options.only!r}")
    notes = suite.notes() if hasattr(suite, "notes") else []
    content = {"suite": name, "host": describe_host("torch"), "threads": options.threads, "rounds": options.rounds}
    content.update(notes=notes, rows=rows)
    lines = _lines(content, suite.__doc__.strip())
    print("\n".join(lines[: lines.index(_HEAD[0])]))
    if options.only:
        return
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"peers-{name}"
    stem.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with contextlib.suppress(ImportError):
        _draw(content, stem.with_suffix(".png"))


def _row(case, n_threads, options, measure):
    try:
        case.check()
    except AssertionError as error:
        raise AssertionError(f"{case.family} {case.name}: {error}") from None
    outcome = measure([case.ours, case.theirs], options.rounds, options.min_seconds)
    ratio = outcome["ratios"][0]
    print(
        f"{n_threads} thr  {case.family:24} {case.name:34} {outcome['seconds'][0] * 1e6:10.1f} us {ratio:7.2f}"
        f"{'  <' if ratio < 1 else ''}",
        flush=True,
    )
    return {"family": case.family, "case": case.name, "threads": n_threads, **outcome}


_HEAD = (
    "| family | case | threads | convgrad, us | PyTorch, us | ratio | lowest - highest | disturbed |",
    "|---|---|---|---|---|---|---|---|",
)


def _lines(content, what):
    host, rows, threads = content["host"], content["rows"], " ".join(map(str, content["threads"]))
    ratio = lambda row: row["ratios"][0]
    label = lambda row: f"{row['family']} {row['case']} ({row['threads']} thr) {ratio(row):.2f}x"
    lines = [
        f"# {content['suite']}: convgrad against PyTorch {host['torch']}",
        "",
        what,
        "",
        f"{host['cpu']}; kernels: {host['isa']}; {content['rounds']} rounds interleaved, median of paired ratios "
        "(above 1: convgrad is faster).",
        f"Reproduce: `python asv_bench/peers.py {content['suite']} --threads {threads}`.",
        *content["notes"],
        "",
        "| family | geometric mean | worst |",
        "|---|---|---|",
    ]
    for family in dict.fromkeys(row["family"] for row in rows):
        own = [row for row in rows if row["family"] == family]
        worst = min(own, key=ratio)
        lines.append(
            f"| {family} | {geometric_mean([ratio(row) for row in own]):.2f}x "
            f"| {ratio(worst):.2f}x ({worst['case']}, {worst['threads']} thr) |"
        )
    below = sorted((row for row in rows if ratio(row) < 1), key=ratio)
    lines += [
        "",
        f"All: geometric mean **{geometric_mean([ratio(row) for row in rows]):.2f}x**; "
        f"worst {label(min(rows, key=ratio))}.",
        "",
        f"Below 1.0x ({len(below)} of {len(rows)}): {'; '.join(map(label, below)) or 'none'}.",
        "",
        *_HEAD,
    ]
    for row in rows:
        (ours, theirs), (low, high) = row["seconds"], row["spread"][0]
        lines.append(
            f"| {row['family']} | {row['case']} | {row['threads']} | {ours * 1e6:.1f} | {theirs * 1e6:.1f} "
            f"| {ratio(row):.2f}x | {low:.2f} - {high:.2f} | {row['disturbed']} |"
        )
    return lines


def _draw(content, path):
    """A dot for each case, one row for each family, on a logarithmic axis of ratios."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = content["rows"]
    families = list(dict.fromkeys(row["family"] for row in rows))
    figure = Figure(figsize=(9, 1.5 + 0.38 * len(families)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    threads = sorted({row["threads"] for row in rows})
    for offset, (n, colour) in enumerate(zip(threads, ("#1b6ca8", "#d1495b", "#3a7d44") * len(threads), strict=False)):
        own = [row for row in rows if row["threads"] == n]
        axes.scatter(
            [row["ratios"][0] for row in own],
            [families.index(row["family"]) + 0.2 * (offset - (len(threads) - 1) / 2) for row in own],
            s=16,
            alpha=0.7,
            color=colour,
            label=f"{n} thread{'s' if n > 1 else ''}",
            linewidths=0,
        )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    ticks = [0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(families)), families)
    axes.invert_yaxis()
    axes.set_xlabel(f"time of PyTorch {content['host']['torch']} / time of convgrad, float32")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=130)
