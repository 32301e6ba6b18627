"""What the paper says of SelfAlign, one check after the other: confirmed, refuted or undecided, and by what.

It gains recall on its host "with comparable time cost", and it reaches interactive models "with orders of magnitude
decrease in retrieval time" (arXiv 2308.14009, abstract).  A check is one SelfAlign row beside one other row: Rsum, or
the time of a query among so many images.  It follows from nothing but the interval of a difference or of a ratio; a row
without trials of its own gives no verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from harness.measure import verdicts
from harness.measure.intervals import Interval, ratio_interval
from harness.report.formats import ABOUT, ABSENT, Sheet, signed, significant
from harness.report.read.groups import Group
from harness.report.read.machines import machine_words
from harness.report.read.published import gains
from harness.report.read.rows import Row
from harness.report.read.times import EITHER, QueryTime, query_times, search_times, timing_conflict, without_time
from harness.report.tables.claims import UNTUNED, Claim, claims, claims_sheet, is_host, said, time_words
from harness.report.tables.single_queries import shown_items

Measure = Literal["Rsum", "end to end", "search alone", "in batches"]
GAIN, REACH = "gains recall on its host", "recall of an interactive row"
SAME, LESS = "time comparable to its host's", "an order of magnitude below an interactive row's time"
MEASURES: tuple[Measure, ...] = ("Rsum", "end to end", "search alone", "in batches")
ORDER = (GAIN, REACH, SAME, LESS)
VERDICTS = ("confirmed", "refuted", "undecided", UNTUNED)


@dataclass(frozen=True)
class Check:
    """One claim of one SelfAlign row beside one other row."""

    claim: str  # of ORDER
    pair: Claim
    measure: Measure
    items: int | None  # images searched; None for Rsum
    value: float | None  # difference of Rsum, or the row's time over the other's
    interval: Interval | None
    measured: bool  # else along the law of a row
    verdict: str  # of VERDICTS


def checks(group: Group, found: Sequence[Claim] | None = None) -> list[Check]:
    """Every claim of every pair: recall, then time by what is timed and by the size of the gallery."""
    pairs = claims(group) if found is None else found
    times = _times(group.rows)
    batches = {} if times else search_times(group.rows)
    return [check for pair in pairs for check in (_recall(pair), *_timed(pair, batches, times))]


def _recall(pair: Claim) -> Check:
    found, claim = pair.contrast, GAIN if is_host(pair.other, pair.row) else REACH
    return Check(claim, pair, "Rsum", None, found.value, found.interval, measured=True, verdict=pair.confirmed)


def _times(rows: Sequence[Row]) -> Mapping[int, Mapping[str, QueryTime]]:
    """Images -> row -> time, of every gallery that was timed."""
    sizes = sorted({entry["items"] for row in rows if row.cost for entry in row.cost.galleries})
    return {size: found for size in sizes if (found := query_times(rows, size))}


def _timed(pair: Claim, ms: Mapping[str, float], times: Mapping[int, Mapping[str, QueryTime]]) -> list[Check]:
    """ms: of search in batches, where no query was timed alone."""
    row, other = pair.row.name, pair.other.name
    if not times:
        known = row in ms and ms.get(other)
        return [_time_check(pair, "in batches", None, ms[row] / ms[other], None, measured=True)] if known else []
    found: list[Check] = []
    for items, by_row in times.items():
        if row in by_row and other in by_row:
            mine, theirs = by_row[row], by_row[other]
            measured = mine.measured and theirs.measured
            told: tuple[tuple[Measure, float, float, Interval | None], ...] = (
                ("end to end", mine.ms, theirs.ms, ratio_interval(mine.bounds, theirs.bounds)),
                (
                    "search alone",
                    mine.search_ms,
                    theirs.search_ms,
                    ratio_interval(mine.search_bounds, theirs.search_bounds),
                ),
            )
            found += [
                _time_check(pair, measure, items, ours / others, bounds, measured=measured)
                for measure, ours, others, bounds in told
                if others
            ]
    return sorted(found, key=lambda check: check.measure)


def _time_check(
    pair: Claim, measure: Measure, items: int | None, value: float, bounds: Interval | None, *, measured: bool
) -> Check:
    claim, limit = (SAME, verdicts.COMPARABLE) if is_host(pair.other, pair.row) else (LESS, verdicts.FAR_LESS)
    verdict = said(verdicts.below(bounds, limit), pair.row, pair.other, UNTUNED)
    return Check(claim, pair, measure, items, value, bounds, measured, verdict)


def checklist(group: Group) -> list[Sheet]:
    """The claims with what became of them; the recall of the pairs behind them; their times, where there are any.

    The flat cells of the first hold every check, a line each.  Raises RecordError and OSError.
    """
    found = claims(group)
    made = checks(group, found)
    return [_summary(made), claims_sheet(group, found), *([_ratios(group, found, made)] if found else [])]


MEANING = (
    "Confirmed, refuted: the whole interval says so; undecided: it says neither, or there is none; untuned: one of the "
    "two rows has had no trials of its own, which gives no verdict. Single models alone; named are the hosts, counted "
    "the pairs of a SelfAlign row and an interactive row."
)
LIMITS = (
    f"Comparable: at most {verdicts.COMPARABLE:g} times the host's time, the limit within which ratios count as "
    "equivalent (Schuirmann 1987). An order of magnitude: at most a tenth of the interactive row's time. Times are "
    "end to end (one caption alone, read, encoded, scored and ranked) and of search alone, without encoding it."
)
PUBLISHED = (
    "Published: {gains} Rsum, over a host that is not named, on other features, printed with a percent sign. A gain "
    "here is asked to be above zero, not to be of that size."
)


def _summary(made: Sequence[Check]) -> Sheet:
    single = [check for check in made if not check.pair.row.is_ensemble]
    kinds = sorted({_kind(check) for check in single})
    lines = [(_asked(kind), *_counts([check for check in single if _kind(check) == kind])) for kind in kinds]
    text = pd.DataFrame(lines, columns=pd.Index(["claim", *VERDICTS]), dtype=str)
    flat = pd.DataFrame([_flat(check) for check in made], columns=pd.Index(FLAT), dtype=str)
    published = ", ".join(f"{signed(gain)} on {data}" for data, gain in gains().items())
    notes = [MEANING, *([PUBLISHED.format(gains=published)] if published else []), LIMITS] if made else []
    return Sheet("What the paper claims", text, flat, notes=tuple(notes))


def _kind(check: Check) -> tuple[int, int, int]:
    """What is counted together, in the order of the table."""
    return ORDER.index(check.claim), MEASURES.index(check.measure), check.items or 0


def _asked(kind: tuple[int, int, int]) -> str:
    """`time comparable to its host's: end to end, 1K images`"""
    claim, measure, items = ORDER[kind[0]], MEASURES[kind[1]], kind[2]
    if measure == "Rsum":
        return claim
    return f"{claim}: {measure}" + (f", {shown_items(items)} images" if items else "")


def _counts(alike: Sequence[Check]) -> list[str]:
    """A cell for each verdict: the hosts it is said of, or of how many pairs."""
    cells = []
    for verdict in VERDICTS:
        of = [check.pair.other.name for check in alike if check.verdict == verdict]
        named = ", ".join(of) if alike[0].claim in (GAIN, SAME) else str(len(of) or "")
        cells.append(named or ABSENT)
    return cells


FLAT = ("claim", "row", "against", "seeds", "measure", "images", "value", "low", "high", "p_above_zero", "extrapolated")
FLAT += ("word", "verdict", "device")


def _flat(check: Check) -> tuple[str, ...]:
    pair, numbers = check.pair, (check.value, *(check.interval or (None, None)))
    names = (check.claim, pair.row.name, pair.other.name, str(pair.contrast.seeds or ABSENT), check.measure)
    if check.measure == "Rsum":
        return (
            *names,
            ABSENT,
            *pair.contrast.cells,
            pair.contrast.probability,
            ABSENT,
            pair.verdict,
            check.verdict,
            ABSENT,
        )
    told = (ABSENT if number is None else significant(number) for number in numbers)
    device = machine_words(pair.row.cost.machine) if pair.row.cost else ABSENT
    images = str(check.items) if check.items else ABSENT
    return (*names, images, *told, ABSENT, "no" if check.measured else "yes", ABSENT, check.verdict, device)


RATIO = (
    "Times of the SelfAlign row over the other's, on {device}. In brackets where the ratio of the medians lies, each "
    f"end right in {1 - EITHER:.0%} of cases: from the order of the timed queries (Thompson 1936); {ABOUT} where one "
    "of the two is extrapolated from smaller galleries, by as much as its law is off what it was fitted to. Queries of "
    "one timing: another day's medians may differ by more."
)


def _ratios(group: Group, found: Sequence[Claim], made: Sequence[Check]) -> Sheet:
    timed = [check for check in made if check.measure != "Rsum"]
    columns = list(dict.fromkeys(_column(check) for check in sorted(timed, key=lambda check: check.items or 0)))
    by_line: dict[tuple[str, str, str], dict[str, str]] = {}
    for check in timed:
        line = (check.pair.row.name, check.pair.other.name, check.measure)
        by_line.setdefault(line, dict.fromkeys(columns, ABSENT))[_column(check)] = _ratio(check)
    lines = [(*line, *cells.values()) for line, cells in by_line.items()]
    text = pd.DataFrame(lines, columns=pd.Index(["SelfAlign row", "against", "time", *columns]), dtype=str)
    device = next((machine_words(check.pair.row.cost.machine) for check in timed if check.pair.row.cost), "")
    notes = [
        *time_words(found),
        *([RATIO.format(device=device)] if timed else []),
        timing_conflict(group.rows) or without_time(group.rows),
    ]
    return Sheet("At what time?", text, text, notes=tuple(note for note in notes if note), names=3)


def _column(check: Check) -> str:
    return f"{shown_items(check.items)} images" if check.items else "all"


def _ratio(check: Check) -> str:
    """`1.34× [1.30, 1.38] refuted`"""
    bounds = "" if check.interval is None else f" [{', '.join(map(significant, check.interval))}]"
    return f"{'' if check.measured else ABOUT}{significant(check.value or 0.0)}×{bounds} {check.verdict}"
