"""Accuracy against time of retrieve-then-rerank: one curve per pair, from the retriever alone to the reranker alone.

Pure: stored pairs in, a figure out; nothing is written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.record import RerankRecord
from harness.report.rerank_tables import conflict, points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = "osD^vP*X<>"  # one per retriever, so that no curve is known by its colour alone


def rerank_figure(pairs: Sequence[RerankRecord]) -> Figure | None:
    """Rsum over milliseconds per caption query (log), one panel per reranker, one curve per retriever.

    The dotted line is the shortlist's ceiling.  None where no pair was timed or times must not share an axis.
    """
    every = [] if conflict(pairs) else [point for point in points(pairs) if point.t2i_ms is not None]
    if not every:
        return None
    from matplotlib.figure import Figure  # takes a second to import, and most reports have no such figure

    rerankers = list(dict.fromkeys(point.reranker for point in every))
    retrievers = list(dict.fromkeys(point.retriever for point in every))
    figure = Figure(figsize=(5.5 * len(rerankers), 4.5), layout="constrained")
    panels = figure.subplots(1, len(rerankers), sharey=True, squeeze=False)[0]
    for panel, reranker in zip(panels, rerankers, strict=True):
        for number, retriever in enumerate(retrievers):
            curve = [p for p in every if (p.retriever, p.reranker) == (retriever, reranker)]
            if not curve:
                continue
            times = [p.t2i_ms for p in curve]
            look = {"color": f"C{number % 10}", "marker": MARKERS[number % len(MARKERS)], "markersize": 4}
            panel.plot(times, [p.accuracy["rsum"] for p in curve], label=retriever, **look)
            panel.plot(times, [p.accuracy["rsum_ceiling"] for p in curve], color=look["color"], linestyle=":", lw=1)
            for p in curve:
                if str(p.k).strip("0") == "1":
                    panel.annotate(f"k={p.k}", (p.t2i_ms, p.accuracy["rsum"]), fontsize=6, textcoords="offset points", xytext=(2, 3))  # fmt: skip
        panel.set(xscale="log", xlabel="ms per caption query, encoded", title=f"reranked by {reranker}")
        panel.grid(alpha=0.3)
        panel.legend(title="retrieved by (dotted: its ceiling)", fontsize=7, title_fontsize=7)
    panels[0].set_ylabel("Rsum (%)")
    return figure
