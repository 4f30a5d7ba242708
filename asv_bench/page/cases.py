"""The page with every case in one table, to sort and filter; complete without JavaScript."""

from .front import anchor_of
from .markup import page, seconds, tag, threads, times

COLUMNS = (
    ("Comparison", "text"),
    ("Case", "text"),
    ("Threads", "number"),
    ("convgrad", "number"),
    ("Peer", "number"),
    ("Ratio", "number"),
    ("Lowest – highest", None),
)


def cases_page(comparisons):
    """cases.html."""
    rows = [row for comparison in comparisons for row in table_rows(comparison)]
    heads = [
        tag(
            "th", tag("button", name, type="button", data_kind=kind) if kind else name, scope="col", role="columnheader"
        )
        for name, kind in COLUMNS
    ]
    table = tag(
        "table",
        tag("caption", "Every case measured; ratios above 1 have convgrad faster", class_="sr"),
        tag("thead", tag("tr", *heads, role="row"), role="rowgroup"),
        tag("tbody", rows, role="rowgroup"),
        id="cases",
        role="table",
    )
    main = [
        tag("h1", "Every case"),
        tag(
            "p",
            "Each row is one thing timed on both sides. Sort by the head of a column. The filters work together and "
            "are kept in the address, to be passed on.",
            class_="lead",
        ),
        filters(comparisons),
        tag("p", f"{len(rows)} cases", id="count", role="status", aria_live="polite"),
        table,
        tag("p", tag("button", "Show more", type="button", id="more", hidden=True)),
    ]
    return page("cases.html", "Every case · convgrad performance", main, script="cases.js")


def filters(comparisons):
    """The form above the table; without JavaScript it stays hidden."""
    options = [tag("option", f"{c.title} against {c.peer}", value=anchor_of(c)) for c in comparisons]
    counts = sorted({row.threads for c in comparisons for row in c.rows})
    numbers = [tag("option", threads(n), value=str(n)) for n in counts]
    sides = (("faster", "convgrad faster"), ("slower", "the peer faster"))
    fields = [
        field("of", "Comparison", tag("select", tag("option", "All", value=""), options, id="of", name="of")),
        field(
            "threads", "Threads", tag("select", tag("option", "All", value=""), numbers, id="threads", name="threads")
        ),
        field(
            "side",
            "Result",
            tag(
                "select",
                tag("option", "All", value=""),
                [tag("option", words, value=value) for value, words in sides],
                id="side",
                name="side",
            ),
        ),
        field("text", "Case contains", tag("input", type="search", id="text", name="text", autocomplete="off")),
        tag("button", "Clear", type="reset"),
    ]
    return tag("form", fields, id="filters", role="search", aria_label="Filter the cases", hidden=True)


def field(name, title, control):
    """A control under its label."""
    return tag("div", tag("label", title, for_=name), control, class_="field")


def table_rows(comparison):
    """The rows of one comparison."""
    anchor, title = anchor_of(comparison), f"{comparison.title}, {comparison.peer}"
    for row in comparison.rows:
        spread = "" if row.lowest is None else f"{row.lowest:.2f} – {row.highest:.2f}"
        cells = (
            (title, None, "of"),
            (row.label, None, "case"),
            (threads(row.threads), row.threads, ""),
            (seconds(row.ours), f"{row.ours:.3e}", ""),
            (seconds(row.peer), f"{row.peer:.3e}", ""),
            (times(row.ratio), f"{row.ratio:.4f}", f"ratio {'slower' if row.ratio < 1 else 'faster'}"),
            (spread, None, "spread"),
        )
        yield tag(
            "tr",
            [
                tag(
                    "td",
                    words,
                    data_v=value,
                    class_=f"number {kind}".strip() if value or not words else kind,
                    role="cell",
                )
                for words, value, kind in cells
            ],
            role="row",
            data_of=anchor,
        )
