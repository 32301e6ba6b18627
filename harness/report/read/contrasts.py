"""Rows beside one another: how far their Rsum differs, how sure that is, and what may be said of it.

One rule for all tables and figures: what is tested together is corrected together, and a word follows from nothing but
the corrected interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.measure import verdicts
from harness.measure.estimates import Estimate, difference
from harness.measure.intervals import Interval
from harness.report.formats import ABSENT, decimals, shown, signed
from harness.report.read.rows import Row, owners

DIFFERENCE = (
    "Rsum difference: over the seeds both ran, with one interval for seeds and images at once: the variance over seeds "
    "and that of a bootstrap of 10,000 draws of images, each with all its captions and in both directions, are added "
    "up, the degrees of freedom are Satterthwaite's. P above zero: share of draws of one seed and of images."
)
WORDS = (
    "Better and worse: the interval leaves zero out; equivalent: it lies within "
    f"±{verdicts.MARGIN:g} Rsum; undecided: neither, or one seed, which has no interval."
)


@dataclass(frozen=True)
class Contrast:
    """Rsum of one row minus that of another."""

    row: Row
    other: Row
    estimate: Estimate | None  # None where nothing can be compared
    interval: Interval | None  # corrected for all that were tested with it; None for one seed

    @property
    def seeds(self) -> int:
        """How many were compared."""
        return self.estimate.seeds if self.estimate else 0

    @property
    def value(self) -> float | None:
        return self.estimate.value if self.estimate else None

    @property
    def shown(self) -> str:
        """`+1.8 [0.3, 3.2]`, without the interval where there is none."""
        return shown(self.value, self.interval)

    @property
    def cells(self) -> tuple[str, str, str]:
        """Difference and both ends of its interval, a number a cell."""
        low, high = self.interval or (None, None)
        first, *ends = (ABSENT if value is None else signed(value) for value in (self.value, low, high))
        return first, ends[0], ends[1]

    @property
    def probability(self) -> str:
        """How probable it is that the row is above the other, for one seed and other images."""
        return decimals(2)(self.estimate.positive) if self.estimate else ABSENT

    @property
    def word(self) -> verdicts.Word:
        return verdicts.word(self.interval)


def between(row: Row, other: Row) -> Estimate | None:
    """Of the Rsum of a row minus that of another, over the seeds both ran.

    None where they share none, or records do not tell whose captions they rank.  Raises ValueError for other queries.
    """
    shared = sorted(row.rsums.keys() & other.rsums.keys())
    known = owners([*row.runs, *other.runs])
    return difference(row.ranks(shared), other.ranks(shared), known) if shared and known is not None else None


def compared(pairs: Sequence[tuple[Row, Row]], bound: float = 0.0) -> list[Contrast]:
    """Rows beside others, as one family.  bound: what every difference is tested against."""
    estimates = [between(row, other) for row, other in pairs]
    intervals = iter(verdicts.corrected([found for found in estimates if found is not None], bound=bound))
    return [
        Contrast(row, other, found, None if found is None else next(intervals))
        for (row, other), found in zip(pairs, estimates, strict=True)
    ]


def detectable(named: Sequence[tuple[str, Contrast]]) -> str:
    """What the tests of a family could have told from zero, in a sentence; "" where nothing was tested."""
    estimates = [(name, found.estimate) for name, found in named if found.estimate and found.interval]
    level = 1 - verdicts.RATE / max(1, len(estimates))
    sizes = [(name, size) for name, found in estimates if (size := verdicts.detectable(found, level)) is not None]
    told = ", ".join(f"{name} {decimals(1)(size)}" for name, size in sizes)
    return told and f"A true difference of so many Rsum would have been seen in {verdicts.POWER:.0%} of cases: {told}."


def untold(contrasts: Sequence[Contrast]) -> str:
    """Why some rows that share seeds have no difference, in a sentence; "" where all have one."""
    none = [found for found in contrasts if found.estimate is None]
    names = dict.fromkeys(found.row.name for found in none if found.row.rsums.keys() & found.other.rsums.keys())
    return f"No difference, records do not tell which caption is whose: {', '.join(names)}." if names else ""
