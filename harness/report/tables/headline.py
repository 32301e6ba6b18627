"""What a reader wants first: which row for which time, what SelfAlign adds, and how sure both are.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log10

from harness.measure.intervals import mean_sd
from harness.report.formats import decimals
from harness.report.read.contrasts import Contrast, compared
from harness.report.read.groups import Group
from harness.report.read.rows import Row
from harness.report.read.times import GALLERY, QueryTime, query_times
from harness.report.tables.claims import against_hosts

ROUNDING = 1e-9  # of a logarithm: 10 ms are within 10 ms


@dataclass(frozen=True)
class Choice:
    """The best single model that answers within a budget of time."""

    budget_ms: float
    row: Row
    time: QueryTime  # of one caption
    level: tuple[Row, ...]  # others within the budget that its lead over is not sure of, best first
    unsure: bool  # whether it has one seed, so that nothing can be said of its lead


@dataclass(frozen=True)
class Headline:
    """The answer of one group of records."""

    choices: tuple[Choice, ...]  # by budget, from the shortest; none where nothing was timed alike
    added: tuple[Contrast, ...]  # every SelfAlign row beside its host, single models
    rising: tuple[int, int]  # training runs that end at their best dev epoch, of how many


def headline(group: Group) -> Headline:
    """See the classes.  Raises RecordError."""
    added = tuple(found for found in against_hosts(group) if not found.row.is_ensemble and found.estimate)
    trained = [run.record for row in group.rows for run in row.runs if run.record.history]
    ended = sum(record.best_epoch == len(record.history) - 1 for record in trained)
    return Headline(choices(group.rows), added, (ended, len(trained)))


def choices(rows: Sequence[Row]) -> tuple[Choice, ...]:
    """The best row within each power of ten of milliseconds that some row needs; scale and ensembles aside."""
    times = query_times(rows, GALLERY)
    timed = [(row, times[row.name]) for row in ranked(rows) if row.name in times]
    orders = [ceil(log10(time.ms) - ROUNDING) for _, time in timed]
    found = []
    for order in range(min(orders, default=0), max(orders, default=-1) + 1):
        within = [pair for pair, own in zip(timed, orders, strict=True) if own <= order]
        within.sort(key=lambda pair: -mean_rsum(pair[0]))
        (best, time), others = within[0], [row for row, _ in within[1:]]
        found.append(Choice(10.0**order, best, time, _level(best, others), len(best.runs) < 2))
    return tuple(found)


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Single models trained here, the scale aside; where some are tuned none that is not, for it had less effort."""
    single = [row for row in rows if row.runs and not (row.is_scale or row.is_ensemble or row.is_elsewhere)]
    return [row for row in single if row.is_settled] if any(row.tuning.settled for row in single) else single


def _level(best: Row, others: Sequence[Row]) -> tuple[Row, ...]:
    """Rows of several seeds whose difference to the best one may be none, all tested together."""
    several = [row for row in others if len(best.runs) > 1 and len(row.runs) > 1]
    return tuple(pair.other for pair in compared([(best, row) for row in several]) if pair.word != "better")


def mean_rsum(row: Row) -> float:
    """Over seeds."""
    return mean_sd(list(row.rsums.values()))[0]


def shown_rsum(row: Row) -> str:
    """`168.0 ± 5.7`, one value of one seed."""
    mean, sd = mean_sd(list(row.rsums.values()))
    return decimals(1)(mean) + ("" if sd is None else f" ± {decimals(1)(sd)}")
