"""A picture of ratios: a dot for each case, one row for each family, one panel for each library compared with."""

COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#8f6bb3")


def draw(path, panels):
    """Write a PNG; ImportError without matplotlib.

    panels : {label of the axis: [(family, group, ratio), ...]}; groups have colours of their own
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    families = list(dict.fromkeys(family for rows in panels.values() for family, _, _ in rows))
    groups = list(dict.fromkeys(group for rows in panels.values() for _, group, _ in rows))
    figure = Figure(figsize=(3 + 4 * len(panels), 1.5 + 0.38 * len(families)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (label, rows) in zip(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels.items(),
                                   strict=True):  # fmt: skip
        for index, (group, colour) in enumerate(zip(groups, COLOURS * len(groups), strict=False)):
            own = [(ratio, families.index(family)) for family, name, ratio in rows if name == group]
            offset = 0.16 * (index - (len(groups) - 1) / 2)
            axes.scatter([ratio for ratio, _ in own], [row + offset for _, row in own], s=18, color=colour, label=group,
                         linewidths=0)  # fmt: skip
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xscale("log")
        values = [ratio for _, _, ratio in rows]
        ticks = [0.25, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200]
        ticks = [tick for tick in ticks if min(*values, 1) / 1.6 < tick < max(*values, 1) * 1.6]
        axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
        axes.minorticks_off()
        axes.set_yticks(range(len(families)), families)
        axes.set_xlabel(label)
        axes.grid(axis="x", alpha=0.3)
    axes.invert_yaxis()
    if len(groups) > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(groups), frameon=False)
    figure.savefig(path, dpi=130)
