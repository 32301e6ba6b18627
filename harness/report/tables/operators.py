"""Which operators each stage of a row spends its time in, as a traced run recorded it (`harness.run --trace`).

Pure: a group in, a sheet out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from harness.report.formats import ABSENT, Sheet, decimals, significant
from harness.report.read.groups import Group
from harness.report.read.rows import Row

COLUMNS = ("method", "stage", "operator", "calls/step", "own ms/step", "share %")
NOTE = (
    "Under the profiler, which slows what it watches: compare shares, not these times with those of the timing phase. "
    "Own time leaves out operators called inside; the share is of the stage's step. "
    "Ranges are parts of a step that the code marks, operators inside included; "
    "outside operators: Python and everything else that is none."
)


def operators_sheet(group: Group) -> Sheet | None:
    """One line per operator of every stage of every row that was traced; None where none was."""
    lines = [line for row in group.rows for line in _lines(row)]
    if not lines:
        return None
    text = pd.DataFrame(lines, columns=pd.Index(COLUMNS), dtype=str)
    untraced = [row.name for row in group.rows if not any(run.record.operators for run in row.runs)]
    notes = [NOTE, *([f"Not traced: {', '.join(untraced)}."] if untraced else [])]
    return Sheet("Operators", text, text, notes=tuple(notes), names=3)


def _lines(row: Row) -> Iterator[tuple[str, ...]]:
    """Of the first run that was traced."""
    stages = next((run.record.operators for run in row.runs if run.record.operators), {})
    for stage in sorted(stages, key=lambda name: (name != "train", name)):
        yield from ((row.name, stage, *cells) for cells in _stage(stages[stage]))


def _stage(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    step_ms = found["step_ms"]

    def cells(name: str, calls: str, ms: float) -> tuple[str, str, str, str]:
        return name, calls, significant(ms), decimals(1)(100 * ms / step_ms) if step_ms else ABSENT

    yield cells("(whole step)", ABSENT, step_ms)
    for part, ms in sorted(found["parts"].items(), key=lambda item: -item[1]):
        yield cells(f"(range {part})", ABSENT, ms)
    yield cells("(outside operators)", ABSENT, found["outside_ms"])
    for operator in found["top"]:
        yield cells(operator["name"], significant(operator["calls"]), operator["ms"])
