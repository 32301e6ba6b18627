"""Names beside points such that no two names overlap, whatever the points.

Points that stand close in x share a column of names to their right, in the order of their heights and pushed apart just
as far as the names are high.  (Force-based placement gives up after some rounds and may leave names on one another.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

GAP = 9.0  # points from the rightmost marker of a column to its names
SPACING = 1.18  # line height of names, in heights of a name
PAPER = {"boxstyle": "square,pad=0.08", "facecolor": "white", "edgecolor": "none", "alpha": 0.55}


def label_points(
    axes: Axes, x: Sequence[float], y: Sequence[float], names: Sequence[str], bold: Sequence[bool], size: float = 8
) -> list[Text]:
    """Writes the names beside points in data coordinates; call when the limits of the axes are final."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer, scale = FigureCanvasAgg(figure).get_renderer(), figure.dpi / 72
    # (P, 2) pixels; rounded, so that no last bit decides which names share a column
    points = axes.transData.transform(np.column_stack([x, y])).round(3)
    texts = [
        axes.text(left, middle, name, fontsize=size, fontweight="bold" if strong else "normal", va="center", bbox=PAPER)
        for left, middle, name, strong in zip(x, y, names, bold, strict=True)
    ]
    boxes = [text.get_window_extent(renderer) for text in texts]
    widths = [round(box.width, 3) for box in boxes]
    height = round(max(box.height for box in boxes) * SPACING, 3)
    low, high = axes.get_window_extent(renderer).intervaly
    for column in columns(points[:, 0], widths, GAP * scale):
        left = points[column, 0].max() + GAP * scale
        heights = spread_apart(points[column, 1], height, low + height / 2, high - height / 2)
        for place, middle in zip(column, heights, strict=True):
            _put(axes, texts[place], points[place], (left, middle), scale)
    return texts


def named(rows: Sequence[tuple[str, float, float]], also: Sequence[bool]) -> list[int]:
    """Places of the points that get a name, so that names can be read: of each family the highest and the lowest, and
    those that are asked for besides.

    rows: family, x, y of each point.
    """
    found = {place for place, wanted in enumerate(also) if wanted}
    for family in {family for family, _, _ in rows}:
        own = [place for place, row in enumerate(rows) if row[0] == family]
        found |= {max(own, key=lambda place: rows[place][2]), min(own, key=lambda place: rows[place][2])}
    return sorted(found)


def columns(x: np.ndarray, widths: Sequence[float], gap: float) -> list[list[int]]:
    """Indices of points that share a column: those that would stand under the names of another.  From left to right."""
    found: list[list[int]] = []
    end = -np.inf
    for place in np.argsort(x, kind="stable").tolist():
        if not found or x[place] - gap > end:
            found.append([])
        found[-1].append(place)
        end = x[place] + gap + max(widths[p] for p in found[-1])
    return found


def spread_apart(wanted: np.ndarray, distance: float, low: float, high: float) -> np.ndarray:
    """Places as near as may be to the wanted ones, in their order, at least `distance` apart, within low to high.

    Least squares: neighbours that collide move together (pool adjacent violators).  Where there is no room for all,
    they keep their distance and leave the range at the top.
    """
    order = np.argsort(wanted, kind="stable")
    blocks: list[list[float]] = []  # [sum of slack places, how many]
    for step, place in enumerate(wanted[order]):
        blocks.append([place - step * distance, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    slack = np.concatenate([np.full(int(count), total / count) for total, count in blocks])
    slack = np.maximum(np.minimum(slack, high - (len(wanted) - 1) * distance), low)
    found = np.empty(len(wanted))
    found[order] = slack + np.arange(len(wanted)) * distance
    return found


def _put(axes: Axes, text: Text, point: np.ndarray, place: tuple[float, float], scale: float) -> None:
    """Moves a name there, with a thin line from its point where it is not level with it."""
    inverse = axes.transData.inverted()
    text.set_position(tuple(inverse.transform(place)))
    if abs(place[1] - point[1]) > 2 * scale or place[0] - point[0] > (GAP + 4) * scale:
        ends = inverse.transform(np.array([point, (place[0] - 1.5 * scale, place[1])]))
        axes.plot(*ends.T, color="#9a9a9a", linewidth=0.6, zorder=1.5, scalex=False, scaley=False)
