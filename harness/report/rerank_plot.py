"""Accuracy against time of retrieve-then-rerank: one curve per pair, from the retriever alone to the reranker alone.

Pure: stored pairs in, a figure out; nothing is written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.record import RerankRecord
from harness.report.rerank_tables import Point, conflict, is_power_of_ten, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vP*X<>"  # one per retriever, so that no curve is known by its colour alone
ACROSS, PANEL = 3, (3.0, 2.4)  # panels in a row; inches of one
ENTRY, GAP = 0.2, 0.75  # inches: a line of the legend, what stands between two rows of panels


def rerank_figure(pairs: Sequence[RerankRecord], title: str = "", caption: str = "") -> Figure | None:
    """Rsum over milliseconds per caption query (log), one panel per reranker, one curve per retriever.

    The dotted line is what the shortlist allows; the axis ends where the curves do.  None where no pair was timed or
    times must not share an axis.
    """
    every = [] if conflict(pairs) else [point for point in points(pairs) if point.t2i_ms is not None]
    if not every:
        return None
    from matplotlib.lines import Line2D  # takes a second to import, and most reports have no such figure

    from harness.report.plots.style import GREY, frame

    rerankers = list(dict.fromkeys(point.reranker for point in every))
    retrievers = list(dict.fromkeys(point.retriever for point in every))
    across = min(ACROSS, len(rerankers))
    down = -(-len(rerankers) // across)
    width = max(6.4, 0.75 + across * PANEL[0])
    above = 0.3 + ENTRY * -(-(len(retrievers) + 1) // 3)
    height = above + down * PANEL[1] + (down - 1) * GAP + 0.5
    figure, place = frame(title, caption, width, height, (0.62, 0.15, 0.5, above))
    spaces = {"wspace": 0.08, "hspace": GAP / PANEL[1]}
    panels = figure.subplots(down, across, sharey=True, squeeze=False, gridspec_kw={**place, **spaces}).ravel()
    for panel in panels[len(rerankers) :]:
        panel.remove()
    for panel, reranker in zip(panels, rerankers, strict=False):
        of_panel = [point for point in every if point.reranker == reranker]
        for number, retriever in enumerate(retrievers):
            _draw(panel, [point for point in of_panel if point.retriever == retriever], number)
        _scale(panel, of_panel)
        panel.set_title(f"reranked by {reranker}", fontsize=9, loc="left")
        panel.set_xlabel("ms per caption query (log scale)", fontsize=8)
    rsums = [point.accuracy["rsum"] for point in every]
    room = 0.12 * (max(rsums) - min(rsums)) or 1.0
    panels[0].set_ylim(min(rsums) - room, max(rsums) + room)
    for panel in panels[: len(rerankers) : across]:
        panel.set_ylabel("Rsum (%)")
    entries = [Line2D([], [], **_look(number), label=f"retrieved by {name}") for number, name in enumerate(retrievers)]
    entries.append(Line2D([], [], color=GREY, linestyle=":", label="what the shortlist allows"))
    under_title = 1 - 0.36 / figure.get_figheight()
    figure.legend(handles=entries, loc="upper left", bbox_to_anchor=(0.02, under_title), ncols=3, fontsize=8)
    return figure


def _look(number: int) -> dict[str, Any]:
    from harness.report.plots.style import PALETTE

    return {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)]}


def _draw(panel: Axes, curve: Sequence[Point], number: int) -> None:
    """One pair from k = 1 to the whole gallery."""
    if curve:
        times = [point.t2i_ms or 0.0 for point in curve]
        rsums, ceilings = ([point.accuracy[name] for point in curve] for name in ("rsum", "rsum_ceiling"))
        panel.plot(times, rsums, **_look(number), markersize=4, linewidth=1.2)
        panel.plot(times, ceilings, color=_look(number)["color"], linestyle=":", linewidth=1)


def _scale(panel: Axes, drawn: Sequence[Point]) -> None:
    """A log axis of plain numbers; powers of ten among the shortlists are named, above the highest of all curves."""
    from harness.report.plots.style import plain_numbers

    panel.set_xscale("log")
    plain_numbers(panel.xaxis)
    for k in sorted({point.k for point in drawn if is_power_of_ten(point.k)}):
        top = max((point for point in drawn if point.k == k), key=lambda point: point.accuracy["rsum"])
        at = (top.t2i_ms or 0.0, top.accuracy["rsum"])
        panel.annotate(f"k={k}", at, xytext=(0, 5), textcoords="offset points", ha="center", fontsize=6.5)
