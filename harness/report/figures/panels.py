"""How did each method train, and where do its right answers stand?  One small panel a method, all on the same axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from harness.report.figures.looks import GREY, PALE, look
from harness.report.figures.style import frame

ACROSS, PANEL = 4, (1.75, 1.3)  # panels in a row; inches of one
MOST = 100  # answers a reader may look at
KS = np.arange(1, MOST + 1)


def curves(
    rows: Sequence[tuple[str, str, Sequence[Sequence[float | None]]]], title: str, caption: str, axis: str
) -> Figure:
    """One panel a method: its runs in colour, those of all others in grey behind.

    rows: name, family, one sequence of values by epoch for each run; None where an epoch has no value.
    """

    def draw(axes: Axes, place: int) -> None:
        _, family, runs = rows[place]
        others = [run for at, (_, _, found) in enumerate(rows) if at != place for run in found]
        axes.plot(*_one_line(others), color=PALE, linewidth=0.7, zorder=1)
        style = look(family)
        marker = style.marker if max(map(len, runs)) <= 12 else ""  # few epochs are marked one by one
        axes.plot(*_one_line(runs), color=style.colour, linewidth=1.3, marker=marker, markersize=3.5)

    def scale(axes: Axes) -> None:
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))

    return grid([name for name, _, _ in rows], draw, scale, title, caption, ("epoch", axis), below=0.46)


def _one_line(runs: Sequence[Sequence[float | None]]) -> tuple[list[float], list[float]]:
    """Epochs from 1 and values of all runs as one line with gaps between them; a line each takes much longer."""
    x: list[float] = []
    y: list[float] = []
    for run in runs:
        x += [*range(1, len(run) + 1), np.nan]
        y += [*(np.nan if value is None else value for value in run), np.nan]
    return x, y


def recalls(rows: Sequence[tuple[str, str, Mapping[str, np.ndarray]]], title: str, caption: str) -> Figure:
    """One panel a method: percent of queries with a right answer among the first K, for every K up to MOST.

    rows: name, family, direction ("i2t", "t2i") -> 0-based ranks of all queries, of any shape.
    """

    def draw(axes: Axes, place: int) -> None:
        _, family, ranks = rows[place]
        for way, line in LINES.items():
            axes.plot(KS, recall_by_k(ranks[way]), color=look(family).colour, linewidth=1.4, linestyle=line)

    def scale(axes: Axes) -> None:
        axes.set_xscale("log")
        axes.set_xlim(1, MOST)
        axes.set_ylim(0, 100)
        axes.set_xticks([1, 5, 10, MOST], ["1", "5", "10", str(MOST)])
        axes.xaxis.set_minor_formatter(NullFormatter())

    axis_names = ("K (log scale)", "recall@K, %")
    figure = grid([name for name, _, _ in rows], draw, scale, title, caption, axis_names, below=0.46)
    handles = [Line2D([], [], color=GREY, linestyle=line, label=WAYS[way]) for way, line in LINES.items()]
    above = (1, 1 - 0.05 / figure.get_figheight())
    figure.legend(handles=handles, loc="upper right", bbox_to_anchor=above, ncols=2, fontsize=8)
    return figure


def sweep(rows: Sequence[tuple[str, str, Sequence[float | None]]], title: str, caption: str) -> Figure:
    """One panel a method: a bar for each combination of settings, from 1; a cross where there is none.

    rows: name, family, one value a combination.  Raises ValueError where there is no row.
    """

    def draw(axes: Axes, place: int) -> None:
        _, family, values = rows[place]
        style = look(family)
        for number, value in enumerate(values, start=1):
            if value is None:
                axes.plot(number, 0, marker="x", color=GREY, markersize=4, clip_on=False)
            else:
                axes.bar(
                    number, value, width=0.7, color=style.colour, hatch=style.hatch, edgecolor="white", linewidth=0
                )
        axes.grid(visible=False, axis="x")

    def scale(axes: Axes) -> None:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))

    return grid([name for name, _, _ in rows], draw, scale, title, caption, ("settings", "Rsum"), below=0.46)


WAYS = {"i2t": "image to text", "t2i": "text to image"}


LINES: Mapping[str, Any] = {"i2t": "-", "t2i": "--"}


def recall_by_k(ranks: np.ndarray) -> np.ndarray:
    """Percent of queries with a right answer among the first K, for K of KS.  ranks: 0-based, at least one.

    Returns (MOST,), which never falls."""
    return 100 * (np.asarray(ranks).ravel()[:, None] < KS).mean(0)


def grid(
    names: Sequence[str],
    draw: Callable[[Axes, int], None],
    scale: Callable[[Axes], None],
    title: str,
    caption: str,
    axis_names: tuple[str, str],
    below: float,
) -> Figure:
    """Panels in rows of four, those that are left over taken out.

    draw: fills one panel.  scale: sets limits and ticks, once, for the axes that all panels share.
    below: inches for what stands under the last row.
    """
    if not names:
        raise ValueError("no panel to draw")
    across = min(ACROSS, len(names))
    down = -(-len(names) // across)
    width = max(5.2, 0.75 + across * PANEL[0])
    figure, place = frame(
        title, caption, width, below + 0.18 + down * PANEL[1] + (down - 1) * 0.28, (0.62, 0.12, below, 0.18)
    )
    panels = figure.subplots(
        down, across, sharex=True, sharey=True, squeeze=False, gridspec_kw={**place, "wspace": 0.12, "hspace": 0.3}
    ).ravel()
    for at, axes in enumerate(panels):
        if at >= len(names):
            axes.remove()
            continue
        axes.tick_params(labelsize=7)
        draw(axes, at)
        axes.set_title(_fitting(names[at]), fontsize=7.5, loc="left", pad=3)
        if at + across >= len(names):  # nothing stands below
            axes.tick_params(labelbottom=True)
    scale(panels[0])
    height = figure.get_figheight()
    figure.text(0.12 / width, (place["bottom"] + place["top"]) / 2, axis_names[1], rotation=90, va="center", fontsize=8)
    middle = (place["left"] + place["right"]) / 2
    figure.text(middle, place["bottom"] - (below - 0.08) / height, axis_names[0], ha="center", fontsize=8)
    return figure


def _fitting(name: str, letters: int = 30) -> str:
    """Long names on two lines."""
    return name if len(name) <= letters else f"{name[:letters]}\n{name[letters:]}"
