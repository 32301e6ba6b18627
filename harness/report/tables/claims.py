"""Does SelfAlign help its host, does it reach the interactive models, and at what time?  As far as records can tell.

All hosts are tested together, and so are all SelfAlign rows beside one interactive row, which they should reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from harness.measure import verdicts
from harness.report.formats import ABSENT, Sheet, significant
from harness.report.read.contrasts import DIFFERENCE, WORDS, Contrast, compared, detectable, untold
from harness.report.read.groups import Group
from harness.report.read.rows import Row
from harness.report.tables.comparison import QUERY_STAGES, left_out_lines, stage_ms, timing_conflict


@dataclass(frozen=True)
class Claim:
    """One SelfAlign row beside one other row."""

    contrast: Contrast
    verdict: str
    time_ratio: float | None  # score+rank per query, row over other

    @property
    def row(self) -> Row:
        return self.contrast.row

    @property
    def other(self) -> Row:
        return self.contrast.other


def claims(group: Group) -> list[Claim]:
    """Every SelfAlign row against its host, then against each interactive row; ensembles among themselves."""
    timed = not timing_conflict(group.rows)
    found = [(contrast, contrast.word) for contrast in against_hosts(group)]
    for other in (row for row in group.rows if row.family == "interactive"):
        rows = [row for row in _aligned(group) if row.is_ensemble == other.is_ensemble]
        contrasts = compared([(row, other) for row in rows], bound=-verdicts.MARGIN)
        found += [(contrast, verdicts.reach(contrast.interval)) for contrast in contrasts]
    place = {id(row): number for number, row in enumerate(group.rows)}
    return [
        Claim(contrast, verdict, _time_ratio(contrast.row, contrast.other) if timed else None)
        for contrast, verdict in sorted(found, key=lambda pair: place[id(pair[0].row)])
    ]


def against_hosts(group: Group) -> list[Contrast]:
    """Every SelfAlign row beside its host."""
    return compared(
        [
            (row, host)
            for row in _aligned(group)
            for host in group.rows
            if is_host(host, row) and host.is_ensemble == row.is_ensemble
        ]
    )


def _aligned(group: Group) -> list[Row]:
    return [row for row in group.rows if row.model.selfalign is not None]


def is_host(host: Row, row: Row) -> bool:
    """Whether a row is what another one has SelfAlign on."""
    bare = host.model.selfalign is None and not host.model.control
    return bare and host.model.label == row.model.host and host.model.options == row.model.options


def _time_ratio(row: Row, other: Row) -> float | None:
    own, base = (stage_ms(r.cost, QUERY_STAGES, "queries") for r in (row, other))
    return own / base if own and base else None


PLAIN = {
    "better": "SelfAlign helps {host}; Rsum {difference}, seeds compared: {seeds}.",
    "worse": "SelfAlign does not help {host}, it is worse; Rsum {difference}, seeds compared: {seeds}.",
    "equivalent": "SelfAlign makes no difference to {host} that matters; Rsum {difference}, seeds compared: {seeds}.",
    "undecided": "Undecided: these records do not show whether SelfAlign helps {host}; Rsum {difference}, "
    "seeds compared: {seeds}.",
}
REACHES = (
    "Reaches: not worse than the interactive row by "
    f"{verdicts.MARGIN:g} Rsum or more, by its whole interval; falls short: worse by more. Intervals are corrected "
    "by Holm for all hosts, and beside an interactive row for all SelfAlign rows that are tested against it, so that "
    f"some better, worse, reaches or falls short of such a family is false in {verdicts.RATE:.0%} of cases at most."
)
TIME = (
    "Time per query: scoring and ranking, SelfAlign row over the other. Every verdict is for these data and settings."
)


def claims_sheet(group: Group) -> Sheet:
    found = claims(group)
    contrasts = [claim.contrast for claim in found]
    flat = pd.DataFrame([_flat(claim) for claim in found], columns=pd.Index(FLAT_COLUMNS), dtype=str)
    text = pd.DataFrame([_text(claim) for claim in found], columns=pd.Index(TEXT_COLUMNS), dtype=str)
    notes = [
        *plain_words(group, contrasts),
        detectable([(pair.other.name, pair) for pair in contrasts if is_host(pair.other, pair.row)]),
        *([f"{DIFFERENCE} {WORDS}", REACHES, TIME] if found else []),
        untold(contrasts),
        timing_conflict(group.rows),
        *left_out_lines(group),
    ]
    return Sheet("Does SelfAlign help?", text, flat, notes=tuple(note for note in notes if note), names=2)


def plain_words(group: Group, contrasts: Sequence[Contrast]) -> list[str]:
    """One sentence for each host: does SelfAlign help it?"""
    rows = _aligned(group)
    if not rows:
        return ["No SelfAlign row is among these records: there is nothing to confirm or refute."]
    sentences = []
    for row in rows:
        pairs = [pair for pair in contrasts if pair.row is row and is_host(pair.other, row)]
        sentences += [
            PLAIN[pair.word].format(host=pair.other.name, difference=pair.shown, seeds=_seeds(pair)) for pair in pairs
        ]
        if not pairs:
            sentences.append(f"Open: {row.name} has no row of its host to compare with.")
    return sentences


TEXT_COLUMNS = ("SelfAlign row", "against", "seeds", "Rsum difference", "P above zero", "verdict", "time per query")
FLAT_COLUMNS = ("row", "against", "seeds", "rsum_difference", "low", "high", "p_above_zero", "verdict", "time_ratio")


def _text(claim: Claim) -> tuple[str, ...]:
    ratio = ABSENT if claim.time_ratio is None else f"{significant(claim.time_ratio)}×"
    return (*_names(claim), claim.contrast.shown, claim.contrast.probability, claim.verdict, ratio)


def _flat(claim: Claim) -> tuple[str, ...]:
    ratio = ABSENT if claim.time_ratio is None else significant(claim.time_ratio)
    return (*_names(claim), *claim.contrast.cells, claim.contrast.probability, claim.verdict, ratio)


def _names(claim: Claim) -> tuple[str, str, str]:
    return claim.row.name, claim.other.name, _seeds(claim.contrast)


def _seeds(contrast: Contrast) -> str:
    return str(contrast.seeds or ABSENT)
