"""Accuracy against time of retrieve-then-rerank: one curve per pair, from the retriever alone to the reranker alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.report.figures.looks import GREY, PALETTE
from harness.report.figures.style import frame, plain_numbers
from harness.report.figures.values import Curves, Shortlist

MARKERS = "osD^vP*X<>"  # one per retriever, so that no curve is known by its colour alone
ACROSS, PANEL = 3, (3.0, 2.4)  # panels in a row; inches of one
ENTRY, GAP = 0.2, 0.75  # inches: a line of the legend, what stands between two rows of panels


def rerank(curves: Curves, title: str, caption: str) -> Figure:
    """Rsum over milliseconds per caption query (log), one panel per reranker, one curve per retriever.

    The dotted line is what the shortlist allows; the axis ends where the curves do.
    """
    retrievers = list(dict.fromkeys(retriever for of_panel in curves.values() for retriever in of_panel))
    across = min(ACROSS, len(curves))
    down = -(-len(curves) // across)
    width = max(6.4, 0.75 + across * PANEL[0])
    above = 0.3 + ENTRY * -(-(len(retrievers) + 1) // 3)
    height = above + down * PANEL[1] + (down - 1) * GAP + 0.5
    figure, place = frame(title, caption, width, height, (0.62, 0.15, 0.5, above))
    spaces = {"wspace": 0.08, "hspace": GAP / PANEL[1]}
    panels = figure.subplots(down, across, sharey=True, squeeze=False, gridspec_kw={**place, **spaces}).ravel()
    for panel in panels[len(curves) :]:
        panel.remove()
    for panel, (reranker, of_panel) in zip(panels, curves.items(), strict=False):
        for number, retriever in enumerate(retrievers):
            _draw(panel, of_panel.get(retriever, ()), number)
        _scale(panel, [shortlist for curve in of_panel.values() for shortlist in curve])
        panel.set_title(f"reranked by {reranker}", fontsize=9, loc="left")
        panel.set_xlabel("ms per caption query (log scale)", fontsize=8)
    rsums = [point.rsum for of_panel in curves.values() for curve in of_panel.values() for point in curve]
    room = 0.12 * (max(rsums) - min(rsums)) or 1.0
    panels[0].set_ylim(min(rsums) - room, max(rsums) + room)
    for panel in panels[: len(curves) : across]:
        panel.set_ylabel("Rsum (%)")
    entries = [Line2D([], [], **_look(number), label=f"retrieved by {name}") for number, name in enumerate(retrievers)]
    entries.append(Line2D([], [], color=GREY, linestyle=":", label="what the shortlist allows"))
    under_title = 1 - 0.36 / figure.get_figheight()
    figure.legend(handles=entries, loc="upper left", bbox_to_anchor=(0.02, under_title), ncols=3, fontsize=8)
    return figure


def _look(number: int) -> dict[str, Any]:
    return {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)]}


def _draw(panel: Axes, curve: Sequence[Shortlist], number: int) -> None:
    """One pair from k = 1 to the whole gallery."""
    if curve:
        times = [point.ms for point in curve]
        panel.plot(times, [point.rsum for point in curve], **_look(number), markersize=4, linewidth=1.2)
        panel.plot(times, [point.ceiling for point in curve], color=_look(number)["color"], linestyle=":", linewidth=1)


def _scale(panel: Axes, drawn: Sequence[Shortlist]) -> None:
    """A log axis of plain numbers; labels stand above the highest of all curves."""
    panel.set_xscale("log")
    plain_numbers(panel.xaxis)
    for label in dict.fromkeys(point.label for point in drawn if point.label):
        top = max((point for point in drawn if point.label == label), key=lambda point: point.rsum)
        at = (top.ms, top.rsum)
        panel.annotate(label, at, xytext=(0, 5), textcoords="offset points", ha="center", fontsize=6.5)
