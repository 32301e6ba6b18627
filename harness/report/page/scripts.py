"""The libraries of the page: plotly.js draws the chart, Tabulator the table.  Both are shipped with this package.

They are copied beside results, so that a page opens from disk without a network.  A page without them still has its
answer, a table and all figures.
"""

from __future__ import annotations

from pathlib import Path

VENDOR = Path(__file__).parent / "vendor"
CHART, TABLE, STYLE, LICENCES = "plotly-basic.min.js", "tabulator.min.js", "tabulator.min.css", "LICENSES.txt"


def files(charted: bool) -> dict[str, bytes]:
    """Name -> bytes of all that a page loads.  charted: whether it has a chart."""
    names = (*((CHART,) if charted else ()), TABLE, STYLE, LICENCES)
    return {name: (VENDOR / name).read_bytes() for name in names}
