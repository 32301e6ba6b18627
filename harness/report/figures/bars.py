"""Where does the time go, and what does a change bring?  Bars of every stage, and differences with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from harness.report.figures.looks import GREY, INK, LOOKS, OTHER, PALE, PALETTE, look
from harness.report.figures.style import family_entries, frame, text_inches
from harness.report.formats import ABSENT, interval, signed, significant

SHADES = (PALETTE[4], "#4d4d4d", PALE)  # of the parts of a bar, in order: apart in a grey print too

ForestRow = tuple[str, float, float | None, float | None]  # label, difference, low, high; None where not known


def stages(
    rows: Sequence[tuple[str, str, Mapping[str, float | None]]], units: Mapping[str, str], title: str, caption: str
) -> Figure:
    """One panel a stage, one bar a method, each panel on a linear axis of its own from 0.

    rows: name, family, stage -> time, None where it was not timed.  units: stage -> what its time is of, in order.
    """
    names = [name for name, _, _ in rows]
    width, height = 8.4, max(1.3, 0.19 * len(rows) + 0.85)
    figure, place = frame(title, caption, width, height, (0.2, 0.15, 0.12, 0.62))
    place["left"] = (text_inches(figure, names, 8) + 0.25) / width
    panels = figure.subplots(1, len(units), sharey=True, squeeze=False, gridspec_kw={**place, "wspace": 0.12})[0]
    for axes, (stage, unit) in zip(panels, units.items(), strict=True):
        times = [measured.get(stage) for _, _, measured in rows]
        longest = max((time for time in times if time is not None), default=0.0) or 1.0
        for place_, ((_, family, _), time) in enumerate(zip(rows, times, strict=True)):
            style = look(family)
            axes.barh(place_, time or 0, height=0.62, color=style.colour, hatch=style.hatch, edgecolor="white", lw=0)
            text = ABSENT if time is None else significant(time)
            axes.text((time or 0) + 0.03 * longest, place_, text, va="center", fontsize=7)
        axes.set_title(f"{stage}\n{unit}", fontsize=8, loc="left")
        axes.set_xlim(0, 1.38 * longest)
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(rows)), names, fontsize=8)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    families = [family for family in [*LOOKS, "chance"] if any(f == family for _, f, _ in rows)]
    _legend(figure, families)
    return figure


def divided(
    rows: Sequence[tuple[str, str, Mapping[str, float]]], parts: Sequence[str], title: str, caption: str
) -> Figure:
    """One bar a row, as long as all others, cut into the shares of its parts; their sum beside it.

    rows: name, family, part -> milliseconds, without those that are not known.  parts: in order.  Raises ValueError
    where there is no row, or one whose parts are nothing.
    """
    if not rows or not all(sum(times.values()) > 0 for _, _, times in rows):
        raise ValueError("no time to divide")
    names = [name for name, _, _ in rows]
    width, height = 7.2, max(1.3, 0.19 * len(rows) + 0.85)
    figure, place = frame(title, caption, width, height, (0.2, 0.95, 0.42, 0.3))
    place["left"] = (text_inches(figure, names, 8) + 0.25) / width
    axes = figure.subplots(gridspec_kw=place)
    for level, (_, family, times) in enumerate(rows):
        whole, start = sum(times.values()), 0.0
        for part in parts:
            share = 100 * times.get(part, 0.0) / whole
            axes.barh(level, share, left=start, height=0.66, color=SHADES[parts.index(part)], edgecolor="white", lw=0.5)
            start += share
        text = f"{significant(whole)} ms"
        axes.text(1.02, level, text, transform=axes.get_yaxis_transform(), va="center", fontsize=7)
        axes.plot(-1.5, level, marker=look(family).marker, color=look(family).colour, markersize=4, clip_on=False)
    axes.set_xlim(-3, 100)
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("share of the time of one query, %")
    families = [family for family in [*LOOKS, "chance"] if any(f == family for _, f, _ in rows)]
    entries = [Patch(color=shade, label=part) for part, shade in zip(parts, SHADES, strict=False)]
    axes.legend(
        handles=[*entries, *family_entries(families)],
        loc="lower left",
        bbox_to_anchor=(-0.12, 1),
        ncols=7,
        fontsize=7,
        handlelength=1,
        columnspacing=1,
        handletextpad=0.4,
    )
    return figure


def _legend(figure: Figure, families: Sequence[str]) -> None:
    """At the top right, beside the title."""
    height = figure.get_figheight()
    figure.legend(
        handles=family_entries(families), loc="upper right", bbox_to_anchor=(1, 1 - 0.05 / height), ncols=4, fontsize=8
    )


def forest(
    rows: Sequence[ForestRow], title: str, caption: str, axis: str = "Rsum, difference to the base (percentage points)"
) -> Figure:
    """Differences to a base, one line each, from the first at the top; filled where the interval leaves zero out.

    Raises ValueError where there is no row, or an interval that its difference is not in.
    """
    if not rows:
        raise ValueError("no difference to draw")
    for label, difference, low, high in rows:
        if low is not None and high is not None and not low <= difference <= high:
            raise ValueError(f"{label}: {difference} lies outside its interval {low} to {high}")
    width, height = 7.2, 0.24 * len(rows) + 0.75
    figure, place = frame(title, caption, width, height, (0.2, 1.45, 0.5, 0.1))
    place["left"] = (text_inches(figure, [label for label, *_ in rows]) + 0.3) / width
    axes = figure.subplots(gridspec_kw=place)
    axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
    for level, (_, difference, low, high) in enumerate(rows):
        colour = LOOKS["independent"].colour if difference >= 0 else OTHER.colour
        sure, bounds = False, ""
        if low is not None and high is not None:
            sure, bounds = low > 0 or high < 0, f" {interval((low, high))}"
            axes.plot([low, high], [level] * 2, color=colour, linewidth=1.6, zorder=2)
        axes.plot(
            difference,
            level,
            marker="o" if difference >= 0 else "v",
            markersize=7,
            color=colour,
            markerfacecolor=colour if sure else "white",
            zorder=3,
        )
        axes.text(1.02, level, f"{signed(difference)}{bounds}", transform=axes.get_yaxis_transform(), va="center")
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.set_xlabel(axis)
    return figure
