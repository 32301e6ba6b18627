"""The accuracy-time chart of the page as plotly takes it: one trace a method, its row told where it is pointed at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from harness.report.figures.looks import GREY, LOOKS, look
from harness.report.figures.values import Point, front
from harness.report.formats import decimals, significant, six_figures
from harness.report.read.times import TimeAxis


def chart(
    points: Sequence[Point],
    told: Mapping[str, Mapping[str, str]],
    chance: float | None,
    rows: Mapping[str, Mapping[str, Any]],
    axis: TimeAxis,
) -> dict[str, Any]:
    """{data, layout}.  told: name of a point -> what its hover says besides, label -> value; rows: name -> what the
    page filters by; axis: which time.  Colours of text, grid and ground are the page's, which has a light and a dark
    scheme."""
    one = decimals(1)
    families = [*LOOKS, *sorted({p.family for p in points} - set(LOOKS))]
    data = [_line([(point.ms, point.rsum) for point in front(points)], "Pareto front of single models")]
    for family in families:
        members = sorted((p for p in points if p.family == family), key=lambda p: p.ensemble)  # the first in the legend
        data += [
            _mark(point, told.get(point.name, {}), rows[point.row], axis.name, first=not place)
            for place, point in enumerate(members)
        ]
    layout = {
        "margin": {"l": 55, "r": 15, "t": 10, "b": 50},
        "font": {"family": "system-ui, DejaVu Sans, sans-serif", "size": 12},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "xaxis": {
            "type": "log",
            "title": {"text": axis.label},
            "dtick": 1,
        },
        "yaxis": {"title": {"text": "Rsum"}, "rangemode": "tozero"},
    }
    if chance is not None:
        level = float(one(chance))
        layout["shapes"] = [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level, "line": DOTS},
        ]
        layout["annotations"] = [
            {"xref": "paper", "x": 1, "y": level, "text": "chance", "showarrow": False, "yanchor": "bottom"}
        ]
    return {"data": data, "layout": layout}


DOTS = {"color": GREY, "width": 1, "dash": "dot"}


def _line(points: Sequence[tuple[float, float]], name: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [six_figures(x) for x, _ in points],
        "y": [six_figures(y) for _, y in points],
        "line": {"color": GREY, "width": 1.5, "dash": "dash", "shape": "hv"},
        "hoverinfo": "skip",
    }


def _mark(point: Point, told: Mapping[str, str], row: Mapping[str, Any], time: str, first: bool) -> dict[str, Any]:
    style = look(point.family)
    lines = [f"<b>{escape(point.name)}</b>", escape(point.family)]
    lines += [f"{escape(label)}: {escape(value)}" for label, value in told.items()]
    lines.append(f"{time}: {significant(point.ms)} ms/query")
    mark: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "name": point.family,
        "legendgroup": point.family,
        "showlegend": first,
        "x": [six_figures(point.ms)],
        "y": [six_figures(point.rsum)],
        "marker": {
            "color": style.colour,
            "symbol": style.symbol + ("-open" if point.ensemble or point.serves else ""),
            "size": 8 if point.serves else 12,
            "line": {"color": style.colour if point.ensemble or point.serves else "white", "width": 1.5},
        },
        "text": ["<br>".join(lines)],
        "hoverinfo": "text",
        "meta": {name: row[name] for name in ("name", "family", "kind", "aligned", "seeds")},
    }
    if point.interval is not None:
        low, high = point.interval
        mark["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [six_figures(high - point.rsum)],
            "arrayminus": [six_figures(point.rsum - low)],
            "color": style.colour,
            "thickness": 1.3,
            "width": 3,
        }
    return mark
