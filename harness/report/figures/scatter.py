"""How accurate at what time?  Rsum with its interval against time per query, and the front no method is above."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.report.figures.labels import label_points, named
from harness.report.figures.looks import GREY, LOOKS, look
from harness.report.figures.style import (
    ends_with_data,
    family_entries,
    frame,
    plain_numbers,
    text_inches,
)
from harness.report.figures.values import Point, front

DASHES = (0, (4, 2))
HEIGHT = 4.2  # inches
LARGE, SMALL = 6, 4.5  # points: marks of the legend, and of what a shortlist serves


def accuracy_time(
    points: Sequence[Point], chance: float | None, title: str, caption: str, axis: str = "ms per query (log scale)"
) -> Figure:
    """axis: which time that is.  Raises ValueError where there is no point."""
    if not points:
        raise ValueError("no point to draw")
    best = front(points)
    told = named([(p.family, p.ms, p.rsum) for p in points], [point in best or bool(point.serves) for point in points])
    figure, place = frame(title, caption, 7.2, HEIGHT, margins=(0.62, 0.15, 0.5, 0.48))
    axes = figure.subplots(gridspec_kw=place)
    for family in dict.fromkeys([*LOOKS, *(p.family for p in points)]):
        for point in (p for p in points if p.family == family):
            _draw(axes, point)
    tops = [p.interval[1] if p.interval else p.rsum for p in points]
    lows = [p.interval[0] if p.interval else p.rsum for p in points]
    low, high = min([0.0, *lows]), max(tops)
    axes.set_ylim(low - 0.03 * (high - low), high + 0.06 * (high - low or 1))
    _time_axis(axes, [p.ms for p in points], text_inches(figure, [points[at].name for at in told], 8) / 6.4)
    axes.set_ylabel("Rsum (sum of six recalls, %)")
    axes.set_xlabel(axis)
    axes.plot(
        [p.ms for p in best],
        [p.rsum for p in best],
        drawstyle="steps-post",
        linestyle=DASHES,
        color=GREY,
        linewidth=1.1,
        zorder=1.2,
    )
    if chance is not None:
        axes.axhline(chance, color=GREY, linewidth=0.8, linestyle=":", zorder=1)
        axes.text(0.995, chance, "chance", transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=7)
    drawn = [family for family in LOOKS if any(p.family == family for p in points)]
    others = sorted({p.family for p in points} - set(LOOKS))
    entries = [*family_entries([*drawn, *others]), Line2D([], [], color=GREY, linestyle=DASHES, label="Pareto front")]
    if any(point.ensemble for point in points):
        entries.append(_hollow_entry("hollow: two models"))
    if any(point.serves for point in points):
        entries.append(_hollow_entry("small: by a shortlist", SMALL))
    axes.legend(handles=entries, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8, handletextpad=0.4)
    shown = [points[at] for at in told]
    in_front = [point in best for point in shown]
    label_points(axes, [p.ms for p in shown], [p.rsum for p in shown], [p.name for p in shown], in_front)
    return figure


def _hollow_entry(said: str, size: float = LARGE) -> Line2D:
    """What a hollow mark is, for the legend."""
    return Line2D([], [], color=GREY, marker="o", markersize=size, markerfacecolor="white", linestyle="", label=said)


def _draw(axes, point: Point) -> None:
    style = look(point.family)
    if point.interval:
        axes.plot([point.ms] * 2, point.interval, color=style.colour, linewidth=1.3, alpha=0.65, zorder=2)
    hollow = point.ensemble or bool(point.serves)
    axes.plot(
        point.ms,
        point.rsum,
        marker=style.marker,
        color=style.colour,
        markerfacecolor="white" if hollow else style.colour,
        markeredgecolor=style.colour if hollow else "white",
        markersize=SMALL if point.serves else 8,
        linestyle="",
        zorder=3,
    )


def _time_axis(axes, times: Sequence[float], label_share: float) -> None:
    """A log axis with room for names right of the last point."""
    axes.set_xscale("log")
    ratio = max(max(times) / min(times), 10.0)
    room = min(0.85, label_share + 0.06)
    axes.set_xlim(min(times) / ratio**0.06, max(times) * ratio ** (room / (1 - room)) * 1.05)
    ends_with_data(axes, min(times), max(times))
    plain_numbers(axes.xaxis)
