"""Columns and words of a comparison that tell how much each row was tuned, so that none is ranked by its neglect."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.formats import ABSENT, signed
from harness.report.read.groups import Group
from harness.report.read.rows import Row
from harness.report.tables.tuning import adds, at_edge

HEADINGS = ("tuning", "trials", "best at the edge", "best look at dev", "twice as long adds")
WHOSE = (
    "Tuning: own, the settings its own trials chose on dev; base, those of the row an ablation is asked of; by hand, "
    "some were set by hand; fewer trials, than other rows had; untuned, the defaults."
)
MEANINGS = f"{WHOSE}  Best look at dev: when the kept weights were found, of all looks."
UNRANKED = "Untuned, set by hand or of fewer trials, and not ranked beside the tuned rows: {}."
NONE = "Untuned: all rows have the same default settings, which suit some better than others (suite tune)."


def columns(group: Group) -> dict[str, list[str]]:
    """Heading -> a cell of every row; none where no row of the group was tuned."""
    if not group.is_tuned:
        return {}
    lines = [dict(zip(HEADINGS, _cells(row), strict=True)) for row in group.rows]
    return {heading: [line[heading] for line in lines] for heading in HEADINGS}


def notes(group: Group) -> list[str]:
    """What the columns mean and which rows stand apart; of a group of untuned rows that they are."""
    trained = [row for row in group.rows if row.runs and not row.is_elsewhere]
    if group.own_settings or not trained:
        return []
    if not group.is_tuned:
        return [NONE]
    apart = [row.name for row in trained if not row.is_settled]
    return [MEANINGS, *([UNRANKED.format(", ".join(apart))] if apart else [])]


def _cells(row: Row) -> tuple[str, ...]:
    how = ABSENT if row.is_elsewhere or (row.is_settled and not row.tuning.settled) else row.tuning.how
    trials = row.tuning.row
    if trials is None:
        return how, ABSENT, ABSENT, _best_looks(row), ABSENT
    more = adds(trials)
    return how, str(len(trials["trials"])), at_edge(trials), _best_looks(row), ABSENT if more is None else signed(more)


def _best_looks(row: Row) -> str:
    """`8 of 10`, `7 to 9 of 10` over seeds."""
    records = [run.record for run in row.runs if run.record.best_epoch is not None]
    if not records:
        return ABSENT
    return f"{_span([record.best_epoch or 0 for record in records], 1)} of {_span([len(r.history) for r in records])}"


def _span(numbers: Sequence[int], more: int = 0) -> str:
    low, high = min(numbers) + more, max(numbers) + more
    return str(low) if low == high else f"{low} to {high}"
