"""The front page: headline ratios with the worst case beside the best, families, regressions, how it was measured."""

from .charts import Axis, axis_strip, family_strip, histogram, legend, steps_chart
from .markup import join, page, tag, threads, times
from .results import HEADLINES, TITLES, command_of, mean_of

COLOURS = (("faster", "convgrad faster"), ("slower", "the peer faster"), ("mean", "geometric mean"))
PEERS = {"conv": "PyTorch", "twin": "the NumPy twin", "ort": "onnxruntime"}


def front_page(comparisons, gate, history, site):
    """index.html. `gate` may be None, `history` tells how many commits have curves, `site` describes the build."""
    axis = Axis([row.ratio for c in comparisons for row in c.rows])
    shown = {c.key: c for c in reversed(comparisons)}  # the first of a key is its main peer
    headlines = [card(shown[key], axis, large=True) if key in shown else missing(key) for key in HEADLINES]
    main = [c for key, c in shown.items() if key in HEADLINES]
    others = [card(c, axis) for c in comparisons if not any(c is one for one in main)]
    main = [
        opening(comparisons, site),
        section("headlines", "Headlines", [tag("div", headlines, class_="cards large")]),
        section("others", "Every comparison", [tag("div", others, class_="cards")]) if others else None,
        families(comparisons, axis),
        regressions(gate),
        curves(history),
        method(),
    ]
    foot = join(
        [
            f"Built {site['date']}",
            [" from commit ", tag("code", site["commit"])] if site["commit"] else None,
            " by ",
            tag("code", "python asv_bench/dashboard.py build"),
            ". Nothing on these pages is fetched from elsewhere.",
        ]
    )
    return page("index.html", "convgrad performance", main, script="copy.js", foot=foot)


def section(name, title, children):
    """A part of the page with a heading that the navigation of a screen reader finds."""
    return tag("section", tag("h2", title, id=name), children, aria_labelledby=name)


def opening(comparisons, site):
    """Title, what a ratio is, and the machine."""
    hosts = {}  # every value once; files may come from different machines
    for comparison in comparisons:
        for key, value in comparison.host.items():
            hosts.setdefault(key, {})[str(value).split("+")[0]] = None
    names = {"cpu": "Processor", "cores": "Cores", "isa": "Kernels", "torch": "PyTorch", "numpy": "NumPy"}
    names["onnxruntime"] = "onnxruntime"
    facts = [(title, ", ".join(hosts[key])) for key, title in names.items() if key in hosts]
    counted = sum(len(c.rows) for c in comparisons)
    facts.append(("Ratios measured", f"{counted:,}".replace(",", " ")))
    if site["commit"]:
        facts.append(("This page", tag("code", site["commit"])))
    return tag(
        "div",
        tag("h1", "How fast is convgrad, and against what?"),
        tag(
            "p",
            "Each figure is another library’s time divided by ours. Both sides take turns in one process, on the same "
            "arrays with the same number of threads. Above 1× convgrad is faster, below 1× it is slower, and "
            "the worst case always stands beside the best.",
            class_="lead",
        ),
        tag("dl", [tag("div", tag("dt", title), tag("dd", value)) for title, value in facts], class_="facts"),
        class_="opening",
    )


def card(comparison, axis, large=False):
    """One comparison: the mean, its chart, the worst and the best, and how to measure it again."""
    c = comparison
    extremes = [
        tag(
            "div",
            tag("dt", word),
            tag("dd", tag("b", times(row.ratio)), " ", tag("span", f"{row.label}, {threads(row.threads)}")),
            class_=f"{kind} {'slower' if row.ratio < 1 else 'faster'}",
        )
        for word, kind, row in (("Worst", "worst", c.worst), ("Best", "best", c.best))
    ]
    ahead = f"{len(c.rows) - c.slower} of {len(c.rows)} cases faster"
    anchor = anchor_of(c)
    return tag(
        "article",
        tag("h3", c.title, " ", tag("span", f"against {c.peer}"), id=f"card-{anchor}"),
        tag("p", tag("strong", times(c.mean)), tag("span", f" geometric mean; {ahead}"), class_="figure"),
        histogram(c, axis),
        tag("dl", extremes, class_="extremes"),
        tag(
            "p",
            tag("a", f"All {len(c.rows)} cases" if len(c.rows) > 1 else "Its one case", href=f"cases.html#of={anchor}"),
            " · ",
            tag("a", "by family", href=f"#{anchor}"),
            class_="links",
        ),
        provenance(c),
        class_="card large" if large else "card",
        aria_labelledby=f"card-{anchor}",
    )


def anchor_of(comparison):
    """A name for links: conv-pytorch, twin-numpy."""
    words = comparison.peer.replace("the ", "").lower().split()
    return "-".join([comparison.key, *(word for word in words if word[0].isalpha())]).replace("_", "-")


def provenance(c):
    """The command that measures it, with a button that copies it, and the commit it ran on."""
    facts = [f"{c.rounds} rounds", f"{c.host.get('cpu', 'processor not told')}, {c.host.get('isa', '?')}"]
    where = ["commit ", tag("code", c.commit)] if c.commit else "commit not known"
    return tag("div", command(c.command), tag("p", where, "; ", "; ".join(facts), class_="origin"), class_="again")


def command(words):
    """A shell command that can be copied."""
    return tag(
        "div",
        tag("code", words),
        tag("button", "Copy", type="button", class_="copy", data_copy=words, aria_label=f"Copy: {words}", hidden=True),
        class_="command",
    )


def missing(key):
    """A headline that nothing was measured for."""
    return tag(
        "article",
        tag("h3", TITLES[key], " ", tag("span", f"against {PEERS[key]}"), id=f"card-{key}"),
        tag("p", "Not measured yet. This writes the figures:", class_="note"),
        command(command_of(key)),
        class_="card large absent",
        aria_labelledby=f"card-{key}",
    )


def families(comparisons, axis):
    """A table for each comparison: a family to a row, its cases as dots, worst, mean and best in words."""
    tables = []
    for index, c in enumerate(comparisons):
        body = []
        for name, rows in c.families().items():
            ratios, mean = [row.ratio for row in rows], mean_of(rows)
            cells = [
                tag("td", times(ratio), class_=f"{kind} {'slower' if ratio < 1 else ''}".strip(), data_label=word)
                for kind, word, ratio in (
                    ("low", "worst ", min(ratios)),
                    ("middle", "mean ", mean),
                    ("high", "best ", max(ratios)),
                )
            ]
            strip = tag("td", family_strip(rows, mean, axis), class_="dots", aria_hidden="true")
            body.append(tag("tr", tag("th", name, scope="row"), strip, *cells))
        heads = [tag("th", word, scope="col") for word in ("Worst", "Mean", "Best")]
        top = tag("tr", tag("th", "Family", scope="col"), tag("td", axis_strip(axis), aria_hidden="true"), *heads)
        title = [tag("b", c.title), f" against {c.peer}: ", times(c.worst.ratio), " to ", times(c.best.ratio)]
        table = tag("table", tag("caption", title, class_="sr"), tag("thead", top), tag("tbody", body))
        tables.append(tag("details", tag("summary", title), table, class_="families", id=anchor_of(c), open=index == 0))
    return section("families", "By family", [legend(*COLOURS), *tables])


def regressions(gate):
    """What the gate found, commit by commit; never read off absolute times."""
    what = tag(
        "p",
        "A commit is built next to an earlier one; both are loaded into one process and alternate. A case counts as "
        "slower only where the median of the paired rounds says so again when it is repeated. Absolute times, which a "
        "shared machine shifts by a third, play no part.",
    )
    if gate is None:
        empty = tag("p", "No commits have been compared yet. This compares a dozen of them:", class_="note")
        again = command("python asv_bench/gate.py --history 12")
        return section("regressions", "Regressions", [what, empty, again])
    found = [regression for step in gate.steps for regression in step.regressions]
    measured = sum(len(step.cases) for step in gate.steps)
    verdict = f"{len(gate.steps)} steps between commits, {measured} paired ratios: " + (
        f"{len(found)} confirmed as slower." if found else "no case became slower."
    )
    children = [what, tag("p", tag("strong", verdict), class_="verdict")]
    if gate.steps:
        colours = legend(("slower", "confirmed as slower"), ("quiet", "within the noise"), ("faster", "faster"))
        children.append(tag("figure", steps_chart(gate.steps, gate.limit), colours))
    if found:
        children.append(regression_table(gate))
    children += [
        all_steps(gate),
        command(gate.command),
        tag("p", f"{gate.machine}; {gate.date[:16].replace('T', ' ')}", class_="origin"),
    ]
    return section("regressions", "Regressions", children)


def regression_table(gate):
    """Each confirmed slowdown with its commit and the command that measures it alone."""
    rows = []
    for step in gate.steps:
        for one in step.regressions:
            alone = one.commits == 1
            base = f"{one.short}~1" if alone else step.base[:10]
            again = f"python asv_bench/gate.py {base} --head {one.short} --cases '{one.case}'"
            commit = [None if alone else f"one of {one.commits} up to ", tag("code", one.short), f" {one.subject}"]
            rows.append(
                tag(
                    "tr",
                    tag("td", commit, data_label="Commit"),
                    tag("td", one.case, data_label="Case"),
                    tag("td", change(one.ratio), class_="number slower", data_label="Time"),
                    tag("td", command(again), data_label="Again"),
                )
            )
    heads = [tag("th", word, scope="col") for word in ("Commit", "Case", "Time", "Measure it again")]
    caption = tag("caption", "Commits that made a case slower", class_="sr")
    return tag("table", caption, tag("thead", tag("tr", *heads)), tag("tbody", rows), class_="stacked")


def change(ratio):
    """A ratio of times as a change: +8.0 %."""
    return f"{100 * (ratio - 1):+.1f} %".replace("-", "−")


def all_steps(gate):
    """Every step, and what could not be measured."""
    rows = []
    for number, step in enumerate(gate.steps, 1):
        mean = change(mean_of(step.cases)) if step.cases else "not measured"
        skipped = step.skipped
        if len(skipped) > 4:
            skipped = [f"{len(skipped)} cases, such as {skipped[0]}"]
        left_out = "; ".join([*filter(None, [step.note]), *skipped]) or "nothing"
        cells = (
            ("Step", number, "number"),
            ("Commit", [tag("code", step.head[:10]), f" {step.subject}"], None),
            ("Commits", step.commits, "number"),
            ("Cases", len(step.cases), "number"),
            ("Mean time", mean, "number"),
            ("Left out", left_out, None),
        )
        rows.append(tag("tr", [tag("td", words, class_=kind, data_label=head) for head, words, kind in cells]))
    heads = [tag("th", word, scope="col") for word in ("Step", "Commit", "Commits", "Cases", "Mean time", "Left out")]
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", rows), class_="stacked")
    return tag("details", tag("summary", f"All {len(gate.steps)} steps"), table, class_="steps-table")


def curves(history):
    """The way to asv's pages."""
    if history:
        words = [
            tag(
                "p", tag("a", "Open the history", href="history/index.html"), f": asv’s curves over {history} commits."
            ),
            tag(
                "p",
                "Those are absolute times, good for the shape of things over many commits. They read their data with "
                "JavaScript and need a web server, such as ",
                tag("code", "python asv_bench/dashboard.py serve"),
                "; this page does not.",
            ),
        ]
    else:
        words = no_curves()
    return section("history", "History", words)


def no_curves():
    """What to do where asv has recorded nothing."""
    return [
        tag("p", "No asv results are recorded yet, so there are no curves. These write and show them:"),
        command("CONVGRAD_BENCH=short asv run HEAD^!"),
        command("python asv_bench/dashboard.py build"),
    ]


def no_curves_page():
    """history/index.html in place of asv's pages."""
    title = "History · convgrad performance"
    return page("history/index.html", title, [tag("h1", "History"), *no_curves()], script="copy.js")


def method():
    """What the figures mean and what they do not."""
    points = [
        "A ratio is the median over rounds of peer’s time / our time, the two measured within the same fraction of a "
        "second. The results of both are compared before anything is timed.",
        "Rounds in which other processes took more than a twentieth of the machine are set aside and counted.",
        "Convolutions are labelled N,C,K,size, kernel, stride and padding; pools N,C,size. The mean of convolutions "
        "and pools is taken over families, so that many small cases do not outvote few large ones.",
        "Every number here comes from a file under asv_bench/results; the command beside it writes that file again.",
    ]
    return section("method", "How it is measured", [tag("ul", [tag("li", point) for point in points])])
