"""Accuracy against time of retrieve-then-rerank: one curve per pair, from the retriever alone to the reranker alone.

Pure: stored pairs in, a figure out; nothing is written here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.record import RerankRecord
from harness.report.rerank_tables import Point, conflict, is_power_of_ten, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vP*X<>"  # one per retriever, so that no curve is known by its colour alone
PANEL = (5.5, 4.5)  # inches


def rerank_figure(pairs: Sequence[RerankRecord], title: str = "", caption: str = "") -> Figure | None:
    """Rsum over milliseconds per caption query (log), one panel per reranker, one curve per retriever.

    The dotted line is what the shortlist allows.  None where no pair was timed or times must not share an axis.
    """
    every = [] if conflict(pairs) else [point for point in points(pairs) if point.t2i_ms is not None]
    if not every:
        return None
    from matplotlib.figure import Figure  # takes a second to import, and most reports have no such figure

    rerankers = list(dict.fromkeys(point.reranker for point in every))
    retrievers = list(dict.fromkeys(point.retriever for point in every))
    width = PANEL[0] * len(rerankers)
    figure = Figure(figsize=(width, PANEL[1]), layout="constrained")
    panels = figure.subplots(1, len(rerankers), sharey=True, squeeze=False)[0]
    for panel, reranker in zip(panels, rerankers, strict=True):
        for number, retriever in enumerate(retrievers):
            curve = [point for point in every if (point.retriever, point.reranker) == (retriever, reranker)]
            if curve:
                _draw(panel, curve, number)
        panel.set(xscale="log", xlabel="ms per caption query", title=f"reranked by {reranker}")
        panel.legend(title="retrieved by (dotted: what its shortlist allows)", fontsize=7, title_fontsize=7)
    panels[0].set_ylabel("Rsum (sum of six recalls, %)")
    figure.suptitle(title)
    figure.supxlabel("\n".join(textwrap.wrap(caption, int(width * 17))), fontsize=7, ha="left", x=0.01)
    return figure


def _draw(panel: Axes, curve: Sequence[Point], number: int) -> None:
    """One pair from k = 1 to the whole gallery; powers of ten are named."""
    times, colour = [point.t2i_ms or 0.0 for point in curve], f"C{number % 10}"
    marker = MARKERS[number % len(MARKERS)]
    rsums, ceilings = ([point.accuracy[name] for point in curve] for name in ("rsum", "rsum_ceiling"))
    panel.plot(times, rsums, color=colour, marker=marker, markersize=4, label=curve[0].retriever)
    panel.plot(times, ceilings, color=colour, linestyle=":", linewidth=1)
    for point, time, rsum in zip(curve, times, rsums, strict=True):
        if is_power_of_ten(point.k):
            panel.annotate(f"k={point.k}", (time, rsum), xytext=(2, 3), textcoords="offset points", fontsize=6)
