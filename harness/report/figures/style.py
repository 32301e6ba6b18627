"""What all figures have in common: the style, the frame with its caption, the bytes of a finished picture."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from math import ceil, floor, log10
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from harness.report.figures.looks import GREY, INK, look
from harness.report.figures.values import Picture

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a name may hold `$` and `_`
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titley": 1.0,  # found for each axes by laying out their ticks, which takes long, where it is not told
    "grid.color": "#ebebeb",
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "path",  # looks alike where the font is missing
    "svg.hashsalt": "harness.report",  # identifiers that depend on the drawing alone
    "axes.formatter.useoffset": False,
}
DPI, SLIDE_DPI = 144, 288  # of a PNG: for a page, and for a slide, where figures of this width fill 1,920 pixels
CAPTION = 7  # its letters, in points
TITLE, LINE = 0.42, 0.155  # inches: room for the title, a line of the caption


def frame(
    title: str, caption: str, width: float, height: float, margins: tuple[float, float, float, float]
) -> tuple[Figure, dict[str, float]]:
    """An empty figure under its title and above its caption.

    width, height: of the whole but title and caption.  margins: left, right, bottom, top of the axes.  All in inches.
    Returns the figure and the place of its axes as `subplots_adjust` takes it.
    """
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    lines = _wrapped(figure, caption, width - 0.25)
    below = LINE * len(lines) + 0.12
    total = height + TITLE + below
    figure.set_size_inches(width, total)
    figure.text(0.1 / width, 1 - 0.12 / total, title, va="top", fontsize=11, fontweight="bold")
    figure.text(
        0.1 / width, 0.08 / total, "\n".join(lines), va="bottom", fontsize=CAPTION, color="#555555", linespacing=1.3
    )
    left, right, bottom, top = margins
    return figure, {
        "left": left / width,
        "right": 1 - right / width,
        "bottom": (below + bottom) / total,
        "top": 1 - (TITLE + top) / total,
    }


def _wrapped(figure: Figure, caption: str, width: float) -> list[str]:
    """Lines of at most so many inches."""
    letters = max(10, round(width * 21))
    lines = textwrap.wrap(caption, letters)
    while letters > 10 and text_inches(figure, lines, CAPTION) > width:
        letters -= 3
        lines = textwrap.wrap(caption, letters)
    return lines


def picture(figure: Figure, title: str, caption: str) -> Picture:
    """The bytes of a figure."""
    svg, png = io.BytesIO(), io.BytesIO()
    about = {"Date": None, "Creator": None, "Title": title, "Description": caption}
    figure.savefig(svg, format="svg", dpi="figure", metadata=about)
    figure.savefig(png, format="png", metadata={"Software": None})
    return Picture(title, caption, svg.getvalue(), png.getvalue())


def plain_numbers(axis: Axis) -> None:
    """0.01 and 10 on a log axis that has its scale already, no powers."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def ends_with_data(axes: Axes, low: float, high: float) -> None:
    """A log x axis that ends where the data end, whatever room names need right of it: its line, ticks and grid."""
    axes.spines["bottom"].set_bounds(low, high)
    axes.xaxis.set_major_locator(FixedLocator(log_ticks(low, high) or [low]))
    axes.xaxis.set_minor_locator(NullLocator())


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from low to high, with twice and five times those where they are fewer than three."""
    orders, found = range(floor(log10(low)), ceil(log10(high)) + 1), []
    for steps in ((1.0,), (1.0, 2.0, 5.0)):
        values = [float(f"{step}e{order}") for order in orders for step in steps]
        found = [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(found) > 2:
            break
    return found


def styled(dpi: int = DPI) -> AbstractContextManager[None]:
    """A context in which figures are made and saved, PNGs with so many dots an inch."""
    finer: dict[Any, Any] = {"savefig.dpi": dpi}
    return mpl.rc_context(RC | finer)


def text_inches(figure: Figure, texts: Sequence[str], size: float = 9) -> float:
    """Width of the widest of some texts."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    drawn = [figure.text(0, 0, text, fontsize=size) for text in texts]
    widths = [text.get_window_extent(renderer).width / figure.dpi for text in drawn]
    for text in drawn:
        text.remove()
    return max(widths, default=0.0)


def family_entries(families: Sequence[str]) -> list[Line2D]:
    """One entry of a legend for each family."""
    return [
        Line2D([], [], color=look(f).colour, marker=look(f).marker, linestyle="", markersize=7, label=f)
        for f in families
    ]
