"""What scoring in less than float32 did to the ranks of each run (`settings.score_precision`).

Pure: a group in, a sheet out.
"""

from __future__ import annotations

import pandas as pd

from harness.report.formats import Sheet, decimals
from harness.report.read.groups import Group
from harness.report.read.rows import Row
from harness.report.read.runs import Run

COLUMNS = ("method", "seed", "Rsum", "Rsum fp32", "tied", "tied fp32", "i2t changed %", "t2i changed %")
NOTE = (
    "The same weights scored twice; changed are queries whose rank is another in float32. "
    "Ties count against the model. "
    "Independent methods are always scored in float32."
)


def precision_sheet(group: Group) -> Sheet | None:
    """One line per run that was scored in less; None where none was."""
    lines = [_line(row, run) for row in group.rows for run in row.runs if run.record.fp32]
    if not lines:
        return None
    text = pd.DataFrame(lines, columns=pd.Index(COLUMNS), dtype=str)
    return Sheet("Precision of scores", text, text, notes=(NOTE,), names=2)


def _line(row: Row, run: Run) -> tuple[str, ...]:
    exact = run.record.fp32 or {}
    one = decimals(1)
    return (
        row.name,
        str(run.seed),
        one(run.accuracy["rsum"]),
        one(exact["rsum"]),
        str(run.record.tied_queries),
        f"{exact['tied_queries']:.0f}",
        one(100 * exact["changed_i2t"]),
        one(100 * exact["changed_t2i"]),
    )
