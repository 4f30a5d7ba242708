"""Charts as inline SVG. Places across are percentages, so that a chart fits any width and its text keeps its size.

Colours come from classes of style.css; a chart is one picture to a screen reader, named by its text.
"""

import math

from .markup import tag, times

FARTHEST = 1.5  # a ratio that the chart of steps still has room for; what lies beyond stands at its edge


class Axis:
    """A logarithmic axis of ratios from a power of two to a power of two, with room at both ends."""

    def __init__(self, ratios):
        self.low = min(-1, math.floor(math.log2(min(ratios))))
        self.high = max(1, math.ceil(math.log2(max(ratios))))

    def part(self, ratio):
        """Where a ratio lies, from 0 to 1."""
        return (math.log2(ratio) - self.low) / (self.high - self.low)

    def at(self, ratio):
        """The same in percent of the width; two percent stay free on each side."""
        return 2 + 96 * self.part(ratio)

    def ticks(self):
        """Powers of two that fit, every second one where there are many."""
        step = 2 if self.high - self.low > 6 else 1
        return [2.0**k for k in range(self.low, self.high + 1) if k % step == 0]


def percent(value):
    """A coordinate across."""
    return f"{value:.2f}%"


def name_of(ratio):
    """A tick's text: ¼×, ½×, 1×, 2×."""
    return {0.0625: "1/16", 0.125: "⅛", 0.25: "¼", 0.5: "½"}.get(ratio, f"{ratio:g}") + "×"


def drawing(height, title, *parts, class_=""):
    """An SVG of full width, `height` pixels high, that reads as one picture called `title`."""
    return tag(
        "svg",
        tag("title", title),
        *parts,
        width="100%",
        height=height,
        role="img",
        aria_label=title,
        class_=f"chart {class_}".strip(),
        focusable="false",
    )


def label(x, y, words, anchor="middle", class_="tick"):
    """Text in a chart."""
    return tag("text", words, x=percent(x), y=y, text_anchor=anchor, class_=class_)


def upright(x, top, bottom, class_):
    """A line from top to bottom."""
    return tag("line", x1=percent(x), x2=percent(x), y1=top, y2=bottom, class_=class_)


def scale(axis, top, bottom):
    """The axis' lines and their names below."""
    parts = []
    for ratio in axis.ticks():
        x = axis.at(ratio)
        parts.append(upright(x, top, bottom, "even" if ratio == 1 else "grid"))
        anchor = "start" if x < 4 else "end" if x > 96 else "middle"
        parts.append(label(x, bottom + 15, name_of(ratio), anchor))
    return parts


def histogram(comparison, axis):
    """How many cases lie at which ratio, eight bars to each doubling; slower cases in the colour of a warning."""
    ratios = [row.ratio for row in comparison.rows]
    counts = {}
    for ratio in ratios:
        bar = math.floor(math.log2(ratio) * 8)
        counts[bar] = counts.get(bar, 0) + 1
    top, bottom, most = 18, 98, max(counts.values())
    width = 96 / (axis.high - axis.low) / 8
    bars = []
    for bar, count in sorted(counts.items()):
        height = max(3, (bottom - top) * count / most)
        bars.append(
            tag(
                "rect",
                x=percent(axis.at(2 ** (bar / 8)) + width * 0.08),
                width=percent(width * 0.84),
                y=f"{bottom - height:.1f}",
                height=f"{height:.1f}",
                class_="slower" if bar < 0 else "faster",
            )
        )
    mean = axis.at(comparison.mean)
    marks = [
        upright(mean, top - 4, bottom, "mean"),
        label(mean, top - 7, f"mean {times(comparison.mean)}", "middle", "mark"),
    ]
    title = (
        f"{comparison.title} against {comparison.peer}: {len(ratios)} ratios from {times(min(ratios))} to "
        f"{times(max(ratios))}, geometric mean {times(comparison.mean)}, {comparison.slower} below 1×"
    )
    return drawing(bottom + 20, title, scale(axis, top, bottom), bars, marks, class_="histogram")


def family_strip(rows, mean, axis):
    """Every case of a family as a dot on the axis, with its mean; the table around it says the same in words."""
    middle, height = 13, 26
    lines = [upright(axis.at(r), 0, height, "even" if r == 1 else "grid") for r in axis.ticks()]
    span = [axis.at(min(row.ratio for row in rows)), axis.at(max(row.ratio for row in rows))]
    parts = [tag("line", x1=percent(span[0]), x2=percent(span[1]), y1=middle, y2=middle, class_="span")]
    for row in sorted(rows, key=lambda row: -row.ratio):
        kind = "slower" if row.ratio < 1 else "faster"
        parts.append(tag("circle", cx=percent(axis.at(row.ratio)), cy=middle, r=3, class_=kind))
    parts.append(upright(axis.at(mean), 3, height - 3, "mean"))
    return tag("svg", lines, parts, width="100%", height=height, aria_hidden="true", class_="chart strip")


def axis_strip(axis):
    """The axis under or above a column of strips."""
    return tag("svg", scale(axis, 0, 3), width="100%", height=20, aria_hidden="true", class_="chart strip")


def steps_chart(steps, limit):
    """All paired ratios of every step; above the band, of `limit` on both sides, a case became slower."""
    bound = 1 + limit
    ratios = [case.ratio for step in steps for case in step.cases] or [1.0]
    farthest = max(abs(math.log2(ratio)) for ratio in ratios)
    reach = min(max(0.12, farthest * 1.1), math.log2(FARTHEST))
    top, bottom = 10, 190
    middle = (top + bottom) / 2
    height = lambda ratio: middle - max(-1, min(1, math.log2(ratio) / reach)) * (bottom - middle)
    edges = height(bound), height(1 / bound)
    parts = [
        tag("rect", x="0", width="100%", y=f"{edges[0]:.1f}", height=f"{edges[1] - edges[0]:.1f}", class_="band"),
        tag("line", x1="0", x2="100%", y1=middle, y2=middle, class_="even"),
        label(0.5, edges[0] - 5, f"{100 * limit:g} % slower", "start"),
        label(0.5, edges[1] + 14, f"{100 * limit:g} % faster", "start"),
    ]
    if farthest > reach:
        parts.append(label(99.5, top + 2, f"{FARTHEST:g} times the time or more", "end"))
        parts.append(label(99.5, bottom - 6, f"{FARTHEST:g} times as fast or more", "end"))
    for index, step in enumerate(steps):
        x = 4 + 93 * (index + 0.5) / len(steps)
        for case in sorted(step.cases, key=lambda case: case.slower):
            kind = "slower" if case.slower else "faster" if case.ratio < 1 / bound else "quiet"
            dot = dict(cx=percent(x), cy=f"{height(case.ratio):.1f}", r=5 if case.slower else 3, class_=kind)
            parts.append(tag("circle", **dot))
        if len(steps) <= 6:
            parts.append(label(x, bottom + 16, step.head[:7]))
        elif len(steps) <= 20 or (index + 1) % 5 == 0:
            parts.append(label(x, bottom + 16, index + 1))
    found = sum(case.slower for step in steps for case in step.cases)
    title = (
        f"{len(steps)} steps from commit to commit: {len(ratios)} ratios, from "
        f"{min(ratios):.2f} to {max(ratios):.2f} times the time before; {found} confirmed as slower"
    )
    return drawing(bottom + 24, title, parts, class_="steps")


def legend(*pairs):
    """Colours and what they mean: (class, words)."""
    return tag(
        "p",
        [tag("span", tag("i", class_=f"key {kind}", aria_hidden="true"), words) for kind, words in pairs],
        class_="legend",
    )
