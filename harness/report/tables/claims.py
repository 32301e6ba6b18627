"""Does SelfAlign help its host, does it reach the interactive models, and at what time?  As far as records can tell.

A difference counts as shown only where its 95% interval over seeds leaves zero out: paired by seed against the host,
Welch's against an interactive model.  The interval over queries (paired bootstrap, hits averaged over the seeds
compared) says how much the choice of test queries matters; no verdict rests on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from harness.measure.intervals import Difference, Interval, paired_bootstrap, paired_difference, welch_difference
from harness.report.formats import ABSENT, Sheet, interval, signed, significant
from harness.report.read.groups import Group
from harness.report.read.rows import Row
from harness.report.tables.comparison import QUERY_STAGES, left_out_lines, stage_ms, timing_conflict


@dataclass(frozen=True)
class Claim:
    """One SelfAlign row beside one other row."""

    row: Row
    other: Row
    seeds: str  # how many were compared
    difference: Difference | None  # of Rsum, row minus other
    queries: Interval | None  # the same, over queries
    verdict: str
    time_ratio: float | None  # score+rank per query, row over other


def claims(group: Group) -> list[Claim]:
    """Every SelfAlign row against its host, then against each interactive row; ensembles among themselves."""
    timed = not timing_conflict(group.rows)
    found = []
    for row in group.rows:
        if row.model.selfalign is not None:
            alike = [other for other in group.rows if other.is_ensemble == row.is_ensemble]
            found += [_against_host(row, host, timed) for host in alike if is_host(host, row)]
            found += [_against_interactive(row, other, timed) for other in alike if other.family == "interactive"]
    return found


def is_host(host: Row, row: Row) -> bool:
    """Whether a row is what another one has SelfAlign on."""
    bare = host.model.selfalign is None and not host.model.control
    return bare and host.model.label == row.model.host and host.model.options == row.model.options


def _against_host(row: Row, host: Row, timed: bool) -> Claim:
    shared = sorted(row.rsums.keys() & host.rsums.keys())
    difference = paired_difference(row.rsums, host.rsums) if shared else None
    return Claim(
        row=row,
        other=host,
        seeds=str(len(shared) or ABSENT),
        difference=difference,
        queries=paired_bootstrap(row.ranks(shared), host.ranks(shared)) if shared else None,
        verdict=host_verdict(difference.interval if difference else None),
        time_ratio=_time_ratio(row, host) if timed else None,
    )


def _against_interactive(row: Row, other: Row, timed: bool) -> Claim:
    both = bool(row.runs and other.runs)
    difference = welch_difference(list(row.rsums.values()), list(other.rsums.values())) if both else None
    return Claim(
        row=row,
        other=other,
        seeds=f"{len(row.runs) or ABSENT} : {len(other.runs) or ABSENT}",
        difference=difference,
        queries=paired_bootstrap(row.ranks(), other.ranks()) if both else None,
        verdict=interactive_verdict(difference),
        time_ratio=_time_ratio(row, other) if timed else None,
    )


def host_verdict(over_seeds: Interval | None) -> str:
    if over_seeds is None:
        return "not enough seeds"
    low, high = over_seeds
    return "better" if low > 0 else "worse" if high < 0 else "no difference shown"


def interactive_verdict(difference: Difference | None) -> str:
    if difference is None:
        return "nothing to compare"
    if difference.interval is None:
        return "one seed, no interval"
    low, high = difference.interval
    return "reaches" if low >= 0 else "falls short" if high < 0 else "no difference shown"


def _time_ratio(row: Row, other: Row) -> float | None:
    own, base = (stage_ms(r.cost, QUERY_STAGES, "queries") for r in (row, other))
    return own / base if own and base else None


PLAIN = {
    "better": "Confirmed: SelfAlign helps {host}; Rsum {difference}, seeds compared: {seeds}.",
    "worse": "Refuted: SelfAlign does not help {host}, it is worse; Rsum {difference}, seeds compared: {seeds}.",
    "no difference shown": "Not confirmed: these records do not show that SelfAlign helps {host}; Rsum {difference}, "
    "seeds compared: {seeds}.",
    "not enough seeds": "Open: not enough seeds to say whether SelfAlign helps {host}; Rsum {difference}, "
    "seeds compared: {seeds}.",
}
LEGEND = (
    "Rsum difference: SelfAlign row minus the other, with its 95% interval over seeds: Student's t of the pairs of "
    "equal seed for a host, Welch's t (no pairs; seeds a : b) for an interactive row. Better, worse, reaches and falls "
    "short are said only where that interval leaves zero out (reaches: lies at or above it). Over queries: 95% paired "
    "bootstrap, 10,000 resamples of the queries of each direction, hits averaged over the seeds compared. "
    "Time per query: scoring and ranking, SelfAlign row over the other. Every verdict is for these data and settings."
)


def claims_sheet(group: Group) -> Sheet:
    found = claims(group)
    flat = pd.DataFrame([_flat(claim) for claim in found], columns=pd.Index(FLAT_COLUMNS), dtype=str)
    text = pd.DataFrame([_text(claim) for claim in found], columns=pd.Index(TEXT_COLUMNS), dtype=str)
    notes = [
        *plain_words(group, found),
        *([LEGEND] if found else []),
        timing_conflict(group.rows),
        *left_out_lines(group),
    ]
    return Sheet("Does SelfAlign help?", text, flat, notes=tuple(note for note in notes if note), names=2)


def plain_words(group: Group, found: list[Claim]) -> list[str]:
    """One sentence for each host: does SelfAlign help it?"""
    rows = [row for row in group.rows if row.model.selfalign is not None]
    if not rows:
        return ["No SelfAlign row is among these records: there is nothing to confirm or refute."]
    sentences = []
    for row in rows:
        pairs = [claim for claim in found if claim.row is row and is_host(claim.other, row)]
        sentences += [
            PLAIN[pair.verdict].format(host=pair.other.name, difference=_difference(pair.difference), seeds=pair.seeds)
            for pair in pairs
        ]
        if not pairs:
            sentences.append(f"Open: {row.name} has no row of its host to compare with.")
    return sentences


TEXT_COLUMNS = ("SelfAlign row", "against", "seeds", "Rsum difference", "over queries", "verdict", "time per query")
FLAT_COLUMNS = (
    "row",
    "against",
    "seeds",
    "rsum_difference",
    "low",
    "high",
    "low_over_queries",
    "high_over_queries",
    "verdict",
    "time_ratio",
)


def _text(claim: Claim) -> tuple[str, ...]:
    ratio = ABSENT if claim.time_ratio is None else f"{significant(claim.time_ratio)}×"
    names = (claim.row.name, claim.other.name, claim.seeds)
    return (*names, _difference(claim.difference), interval(claim.queries), claim.verdict, ratio)


def _flat(claim: Claim) -> tuple[str, ...]:
    over_seeds = claim.difference.interval if claim.difference else None
    bounds = [
        ABSENT if bounds is None else signed(bounds[end]) for bounds in (over_seeds, claim.queries) for end in (0, 1)
    ]
    ratio = ABSENT if claim.time_ratio is None else significant(claim.time_ratio)
    mean = signed(claim.difference.mean) if claim.difference else ABSENT
    return (claim.row.name, claim.other.name, claim.seeds, mean, *bounds, claim.verdict, ratio)


def _difference(difference: Difference | None) -> str:
    """`+1.8 [0.3, 3.2]`, without the interval where there is none."""
    if difference is None:
        return ABSENT
    return signed(difference.mean) + (f" {interval(difference.interval)}" if difference.interval else "")
