"""What a suite of `peers.py` is, how it is timed, and the files that come of it.

A row is a dictionary: case, family, pass, threads, amount (of work, in the suite's unit times a second), and what
`measure.interleaved` returns.
"""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from measure import describe_host, geometric_mean, interleaved

import convgrad

RESULTS = Path(__file__).parent / "results"
COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#7d5ba6")


@dataclass(frozen=True, slots=True)
class Suite:
    """`run(options)` yields (case, family, pass, amount, [ours, peer, second peer or comparison]) for each thing timed.

    The first column is the peer, which `package` names as pip does: its ratios count in all means. `notes(rows)`
    returns lines of Markdown for the report. `pause` is in seconds, before each sample.
    """

    name: str
    run: Callable
    passes: tuple
    columns: tuple
    unit: str
    data: str
    apart: tuple = ()
    notes: Callable = lambda rows: []
    summarised: int = 2  # columns that get a section of their own
    package: str = "torch"
    pause: float = 0.0


def time_suite(suite, options):
    """One row for each case, pass and number of threads."""
    rows = []
    for n_threads in options.threads:
        torch.set_num_threads(n_threads)
        with convgrad.threads(n_threads):
            for case, family, name, amount, calls in suite.run(options):
                outcome = interleaved(calls, options.rounds, options.min_seconds, suite.pause)
                row = {"case": case, "family": family, "pass": name, "threads": n_threads, "amount": amount}
                rows.append({**row, **outcome})
                ratios = "".join(f"{ratio:8.2f}" for ratio in outcome["ratios"])
                print(
                    f"{n_threads} thr  {case:46} {name:12} {amount / outcome['seconds'][0]:7.1f} {suite.unit}{ratios}"
                    f"{'  <' if outcome['ratios'][0] < 1 else ''}"
                    f"{'  disturbed ' + str(outcome['disturbed']) if outcome['disturbed'] else ''}",
                    flush=True,
                )
    return rows


def summarise(suite, rows, column=0):
    """Means by family, pass and threads; the worst; every row below 1."""
    rows = [row for row in rows if len(row["ratios"]) > column]
    ratio = lambda row: row["ratios"][column]

    def by(key, chosen):
        groups = {}
        for row in chosen:
            groups.setdefault(row[key], []).append(ratio(row))
        return {name: geometric_mean(values) for name, values in groups.items()}

    large = [row for row in rows if row["family"] not in suite.apart]
    families = by("family", large)
    return {
        "families": families,
        "apart": by("family", [row for row in rows if row["family"] in suite.apart]),
        "passes": by("pass", large),
        "threads": by("threads", large),
        "geometric_mean": geometric_mean(list(families.values())) if families else None,
        "worst": min(rows, key=ratio, default=None),
        "below_one": sorted((row for row in rows if ratio(row) < 1), key=ratio),
    }


def make_report(suite, options, rows):
    """All that the files hold."""
    titles = suite.columns[: suite.summarised]
    return {
        "suite": suite.name,
        "host": describe_host(suite.package),
        "rounds": options.rounds,
        "summaries": {title: summarise(suite, rows, column) for column, title in enumerate(titles)},
        "notes": suite.notes(rows),
        "rows": rows,
    }


def label(row):
    """The case with its pass and threads."""
    return f"{row['case']} {row['pass']} ({row['threads']} thr)"


def summary_lines(suite, report):
    """The summary as Markdown."""
    host = report["host"]
    lines = [
        f"# {suite.name}: convgrad against {suite.columns[0]} {host[suite.package]}",
        "",
        f"{host['cpu']}; kernels: {host['isa']}; {report['rounds']} rounds interleaved, median of paired ratios "
        "(above 1: convgrad is faster).",
        f"Reproduce: `python asv_bench/peers.py {suite.name}`.",
        "",
    ]
    for column, (title, summary) in enumerate(report["summaries"].items()):
        if summary["geometric_mean"] is None:
            continue
        worst = summary["worst"]
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
    return lines + report["notes"]


def table_lines(suite, report):
    """Every row as Markdown."""
    peer, *more = suite.columns
    heads = ["case", "pass", "threads", suite.unit, peer, "lowest - highest", *more, "disturbed"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in report["rows"]:
        low, high = row["spread"][0]
        others = [f"{ratio:.2f}x" for ratio in row["ratios"][1:]]
        others += [""] * (len(more) - len(others))
        speed = f"{row['amount'] / row['seconds'][0]:.1f}"
        cells = [row["case"], row["pass"], row["threads"], speed, f"{row['ratios'][0]:.2f}x", f"{low:.2f} - {high:.2f}"]
        lines.append(f"| {' | '.join(map(str, [*cells, *others, row['disturbed']]))} |")
    return lines


def draw(suite, report, path):
    """A dot for each case and pass, one row for each family, on a logarithmic axis of ratios."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    families = list(dict.fromkeys(row["family"] for row in report["rows"]))
    figure = Figure(figsize=(9, 1.5 + 0.38 * len(families)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for index, name in enumerate(suite.passes):
        rows = [row for row in report["rows"] if row["pass"] == name]
        axes.scatter(
            [row["ratios"][0] for row in rows],
            [families.index(row["family"]) + 0.22 * (index - (len(suite.passes) - 1) / 2) for row in rows],
            s=14,
            alpha=0.7,
            color=COLOURS[index],
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
    axes.set_xlabel(f"time of {suite.columns[0]} {report['host'][suite.package]} / time of convgrad, {suite.data}")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=130)


def write(suite, report):
    """results/peers-SUITE.json, .md and, with matplotlib, .png."""
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"peers-{suite.name}"
    lines = [*summary_lines(suite, report), *table_lines(suite, report)]
    stem.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with contextlib.suppress(ImportError):
        draw(suite, report, stem.with_suffix(".png"))
