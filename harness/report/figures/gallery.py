"""What happens as the gallery grows?  Time per query and memory of the index against the number of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from harness.report.figures.labels import label_points, named
from harness.report.figures.looks import GREY, LOOKS, look
from harness.report.figures.style import ends_with_data, family_entries, frame, plain_numbers, text_inches

MIB = 2**20
HEIGHT = 4.2  # inches


def gallery(rows: Sequence[tuple[str, str, Sequence[Mapping[str, Any]]]], title: str, caption: str) -> Figure:
    """Both axes logarithmic; what was measured is filled, what is extrapolated hollow and dashed.

    rows: name, family, points with `items`, `p50_ms`, `p95_ms`, `measured` (bool) and `bytes` (None where not known).
    Raises ValueError where there is nothing to draw.
    """
    rows = [(name, family, sorted(points, key=lambda p: p["items"])) for name, family, points in rows if points]
    if not rows:
        raise ValueError("no gallery size to draw")
    figure, place = frame(title, caption, 8.4, HEIGHT, (0.85, 0.12, 0.5, 0.5))
    panels = figure.subplots(1, 2, gridspec_kw={**place, "wspace": 0.3})
    room = text_inches(figure, [name for name, _, _ in rows], 8) / 3.3
    for axes, values, label in (
        (panels[0], lambda p: p["p50_ms"], "ms per query, median (log scale)"),
        (panels[1], lambda p: None if p.get("bytes") is None else p["bytes"] / MIB, "index, MiB (log scale)"),
    ):
        drawn = [(name, family, [(p, values(p)) for p in points if values(p)]) for name, family, points in rows]
        _panel(axes, [row for row in drawn if row[2]], label, room)
    for name, family, points in rows:
        del name
        for point in points:
            ends = [point["p50_ms"], point["p95_ms"]]
            panels[0].plot([point["items"]] * 2, ends, color=look(family).colour, linewidth=1, alpha=0.5)
    families = [family for family in LOOKS if any(f == family for _, f, _ in rows)]
    told = [
        Line2D([], [], color=GREY, marker="o", label="measured"),
        Line2D([], [], color=GREY, marker="o", markerfacecolor="white", linestyle="--", label="extrapolated"),
    ]
    figure.legend(
        handles=[*family_entries(families), *told],
        loc="upper left",
        bbox_to_anchor=(0.05, 1 - 0.36 / figure.get_figheight()),
        ncols=5,
        fontsize=8,
    )
    return figure


def _panel(axes: Axes, rows: Sequence[tuple[str, str, list]], label: str, room: float) -> None:
    axes.set_xlabel("images in the gallery (log scale)")
    axes.set_ylabel(label)
    if not rows:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=GREY)
        axes.set(xticks=[], yticks=[])
        return
    for _, family, points in rows:
        _line(axes, family, [(p["items"], value, bool(p["measured"])) for p, value in points])
    axes.set(xscale="log", yscale="log")
    sizes = [p["items"] for _, _, points in rows for p, _ in points]
    span = max(max(sizes) / min(sizes), 10.0)
    share = min(0.6, room + 0.08)
    axes.set_xlim(min(sizes) / span**0.06, max(sizes) * span ** (share / (1 - share)))
    ends_with_data(axes, min(sizes), max(sizes))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    plain_numbers(axes.yaxis)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    ends = [(family, points[-1][0]["items"], points[-1][1]) for _, family, points in rows]
    told = named(ends, [False] * len(rows))
    x, y = [ends[place][1] for place in told], [ends[place][2] for place in told]
    label_points(axes, x, y, [rows[place][0] for place in told], [False] * len(told))


def _line(axes: Axes, family: str, points: Sequence[tuple[int, float, bool]]) -> None:
    """points: items, value, whether it was measured."""
    style = look(family)
    for (x, y, known), (to_x, to_y, to_known) in pairwise(points):
        axes.plot(
            [x, to_x], [y, to_y], color=style.colour, linewidth=1.2, linestyle="-" if known and to_known else "--"
        )
    for x, y, known in points:
        face = style.colour if known else "white"
        axes.plot(x, y, marker=style.marker, color=style.colour, markerfacecolor=face, markersize=5.5, zorder=3)


def short(items: float) -> str:
    """`1K`, `1M`"""
    for size, letter in ((1e6, "M"), (1e3, "K")):
        if items >= size:
            return f"{items / size:g}{letter}"
    return f"{items:g}"
