"""How much of a row's score is its tuning?  Expected best dev Rsum by the number of trials, a panel a host."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.measure.tuning_curve import tuning_curve
from harness.report.figures.looks import look
from harness.report.figures.panels import grid


def tuning_curves(rows: Sequence[tuple[str, str, Sequence[float]]], title: str, caption: str) -> Figure:
    """rows: host, family, dev Rsum of each trial; rows of one host share a panel."""
    hosts = list(dict.fromkeys(host for host, _, _ in rows))

    def draw(axes: Axes, place: int) -> None:
        for host, family, scores in rows:
            if host == hosts[place]:
                style, curve = look(family), tuning_curve(scores)
                axes.plot(
                    range(1, len(curve) + 1),
                    curve,
                    color=style.colour,
                    linewidth=1.3,
                    marker=style.marker,
                    markersize=3,
                )

    def scale(axes: Axes) -> None:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))

    return grid(hosts, draw, scale, title, caption, ("trials", "expected best dev Rsum"), below=0.46)
