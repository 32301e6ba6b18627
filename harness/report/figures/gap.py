"""How much of the gap to its teacher does a row close, at what time a query?  One point a row, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from harness.report.figures.labels import label_points
from harness.report.figures.looks import GREY, LOOKS, look
from harness.report.figures.style import family_entries, frame, plain_numbers
from harness.report.figures.values import Share


def gap_time(shares: Sequence[Share], title: str, caption: str) -> Figure:
    """Raises ValueError where there is no point."""
    if not shares:
        raise ValueError("no point to draw")
    figure, place = frame(title, caption, 7.2, max(3.2, 0.2 * len(shares) + 1.8), margins=(0.62, 0.15, 0.5, 0.28))
    axes = figure.subplots(gridspec_kw=place)
    for share in shares:
        style = look(share.family)
        if share.interval:
            axes.plot([share.ms] * 2, share.interval, color=style.colour, linewidth=1.3, alpha=0.65, zorder=2)
        axes.plot(
            share.ms, share.percent, marker=style.marker, color=style.colour, markersize=8, linestyle="", zorder=3
        )
    for level, word in ((0, "student"), (100, "teacher")):
        axes.axhline(level, color=GREY, linewidth=0.8, linestyle=":", zorder=1)
        axes.text(0.995, level, word, transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=7)
    axes.set_xscale("log")
    times = [share.ms for share in shares]
    axes.set_xlim(min(times) / 1.3, max(times) * 6)  # names stand right of their points
    plain_numbers(axes.xaxis)
    axes.set_xlabel("one caption end to end: encode, search, rank; ms (log scale)")
    axes.set_ylabel("gap closed (%)")
    drawn = [family for family in LOOKS if any(share.family == family for share in shares)]
    axes.legend(handles=family_entries(drawn), loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=8)
    label_points(
        axes, times, [share.percent for share in shares], [share.name for share in shares], [True] * len(times)
    )
    return figure
