"""Does SelfAlign help its host, does it reach the interactive models, and at what time?  As far as records can tell.

What the answers say of the paper's claims, one by one, tells `checklist`.

All hosts are tested together, and so are all SelfAlign rows beside one interactive row, which they should reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from harness.measure import verdicts
from harness.report.formats import ABSENT, Sheet, signed, significant
from harness.report.read.contrasts import DIFFERENCE, WORDS, Contrast, compared, detectable, untold
from harness.report.read.groups import Group
from harness.report.read.published import gains
from harness.report.read.rows import Row
from harness.report.read.times import query_times, search_times
from harness.report.tables.comparison import left_out_lines


@dataclass(frozen=True)
class Claim:
    """One SelfAlign row beside one other row."""

    contrast: Contrast
    verdict: str
    end_to_end: float | None  # time of a query from its caption on, row over other
    search: float | None  # of search alone

    @property
    def confirmed(self) -> str:
        """`confirmed`, `refuted`, `undecided` or `untuned`: what the verdict says of the claim."""
        return verdicts.CLAIM.get(self.verdict, UNTUNED)

    @property
    def row(self) -> Row:
        return self.contrast.row

    @property
    def other(self) -> Row:
        return self.contrast.other


def claims(group: Group) -> list[Claim]:
    """Every SelfAlign row against its host, then against each interactive row; ensembles among themselves."""
    ends, alone = _ends(group), search_times(group.rows)
    found = [(contrast, host_verdict(contrast)) for contrast in against_hosts(group)]
    for other in (row for row in group.rows if row.family == "interactive" and not row.is_elsewhere):
        rows = [row for row in _aligned(group) if row.is_ensemble == other.is_ensemble]
        contrasts = compared([(row, other) for row in rows], bound=-verdicts.MARGIN)
        found += [(one, _verdict(one, verdicts.reach(one.interval), UNTUNED_ROW)) for one in contrasts]
    place = {id(row): number for number, row in enumerate(group.rows)}
    return [
        Claim(
            contrast, verdict, _ratio(contrast.row, contrast.other, ends), _ratio(contrast.row, contrast.other, alone)
        )
        for contrast, verdict in sorted(found, key=lambda pair: place[id(pair[0].row)])
    ]


UNTUNED = "untuned"
UNTUNED_HOST, UNTUNED_ROW = "untuned host", "untuned row"


def host_verdict(contrast: Contrast) -> str:
    """Of a SelfAlign row beside its host."""
    return _verdict(contrast, contrast.word, UNTUNED_HOST)


def _verdict(contrast: Contrast, word: str, untuned: str) -> str:
    """Where nothing can be compared the word stands."""
    return word if contrast.value is None else said(word, contrast.row, contrast.other, untuned)


def said(word: str, row: Row, other: Row, untuned: str = UNTUNED_HOST) -> str:
    """Nothing is said over a row that is not at its best, nor of one."""
    return word if row.is_settled and other.is_settled else untuned


def against_hosts(group: Group) -> list[Contrast]:
    """Every SelfAlign row beside its host: a tuned one beside a tuned one, where there is."""
    pairs = []
    for row in _aligned(group):
        hosts = [host for host in group.rows if is_host(host, row) and host.is_ensemble == row.is_ensemble]
        alike = [host for host in hosts if host.is_settled == row.is_settled]
        pairs += [(row, host) for host in alike or hosts]
    return compared(pairs)


def _aligned(group: Group) -> list[Row]:
    return [row for row in group.rows if row.model.selfalign is not None]


def is_host(host: Row, row: Row) -> bool:
    """Whether a row is what another one has SelfAlign on."""
    bare = host.model.selfalign is None and not host.model.control
    same = all(getattr(host.model, name) == getattr(row.model, name) for name in ("host", "options", "modules"))
    return bare and same


def _ends(group: Group) -> dict[str, float]:
    return {name: time.ms for name, time in query_times(group.rows).items()}


def _ratio(row: Row, other: Row, ms: Mapping[str, float]) -> float | None:
    return ms[row.name] / ms[other.name] if row.name in ms and ms.get(other.name) else None


PLAIN = {
    "better": "SelfAlign helps {host}; Rsum {difference}, seeds compared: {seeds}.",
    "worse": "SelfAlign does not help {host}, it is worse; Rsum {difference}, seeds compared: {seeds}.",
    "equivalent": "SelfAlign makes no difference to {host} that matters; Rsum {difference}, seeds compared: {seeds}.",
    "undecided": "Undecided: these records do not show whether SelfAlign helps {host}; Rsum {difference}, "
    "seeds compared: {seeds}.",
    UNTUNED_HOST: "Untuned: {host} or its row with SelfAlign has had no trials of its own, so nothing can be said of "
    "what SelfAlign adds; Rsum {difference}, seeds compared: {seeds}.",
}
REACHES = (
    "Reaches: not worse than the interactive row by "
    f"{verdicts.MARGIN:g} Rsum or more, by its whole interval; falls short: worse by more. Intervals are corrected "
    "by Holm for all hosts, and beside an interactive row for all SelfAlign rows that are tested against it, so that "
    f"some better, worse, reaches or falls short of such a family is false in {verdicts.RATE:.0%} of cases at most. "
    "Untuned host or row: one of the two has not had the trials of suite tune, which would change the difference."
)
CLAIM = (
    "What a verdict says of the claim: better and reaches confirm it; worse, equivalent and falls short refute it; "
    "untuned rows say nothing. Every verdict is for these data and settings."
)


def claims_sheet(group: Group, found: Sequence[Claim] | None = None) -> Sheet:
    """The recall of every pair.  found: its claims, where they are known.  Raises RecordError and OSError."""
    found = claims(group) if found is None else found
    contrasts = [claim.contrast for claim in found]
    published = " / ".join(map(signed, gains().values())) or ABSENT
    text = pd.DataFrame([_text(claim, published) for claim in found], columns=pd.Index(COLUMNS), dtype=str)
    notes = [
        *plain_words(group, contrasts),
        detectable([(pair.other.name, pair) for pair in contrasts if is_host(pair.other, pair.row)]),
        *([f"{DIFFERENCE} {WORDS}", REACHES, CLAIM] if found else []),
        untold(contrasts),
        *left_out_lines(group),
    ]
    return Sheet("Does SelfAlign help?", text, text, notes=tuple(note for note in notes if note), names=2)


def plain_words(group: Group, contrasts: Sequence[Contrast]) -> list[str]:
    """One sentence for each host: does SelfAlign help it?"""
    rows = _aligned(group)
    if not rows:
        return ["No SelfAlign row is among these records: there is nothing to confirm or refute."]
    sentences = []
    for row in rows:
        pairs = [pair for pair in contrasts if pair.row is row and is_host(pair.other, row)]
        sentences += [
            PLAIN[host_verdict(pair)].format(host=pair.other.name, difference=pair.shown, seeds=_seeds(pair))
            for pair in pairs
        ]
        if not pairs:
            sentences.append(f"Open: {row.name} has no row of its host to compare with.")
    return sentences


def time_words(found: Sequence[Claim]) -> list[str]:
    """One sentence for each SelfAlign row: its time beside its host's and beside the fastest interactive row's."""
    sentences = []
    for row in {id(claim.row): claim.row for claim in found}.values():
        own = [claim for claim in found if claim.row is row and claim.search is not None]
        host = next((claim for claim in own if is_host(claim.other, row)), None)
        rivals = [claim for claim in own if claim.other.family == "interactive"]
        rival = max(rivals, key=lambda claim: claim.end_to_end or claim.search or 0.0, default=None)
        told = []
        if host is not None:
            told.append(_said(host.end_to_end, host.search, f"the time of {host.other.name}"))
        if rival is not None:
            end_to_end, search = (ratio and 1 / ratio for ratio in (rival.end_to_end, rival.search))
            told.append(_said(end_to_end, search, f"as fast as {rival.other.name}, the fastest interactive row,"))
        if told:
            sentences.append(f"A query of {row.name}: {'; '.join(told)}.")
    return sentences


def _said(end_to_end: float | None, search: float | None, than: str) -> str:
    """`1.2× the time of vsepp end to end, 2.0× in search alone`"""
    alone = f"{significant(search or 0.0)}×"
    if end_to_end is None:
        return f"{alone} {than} in search alone"
    return f"{significant(end_to_end)}× {than} end to end, {alone} in search alone"


COLUMNS = ("SelfAlign row", "against", "seeds", "published", "Rsum difference", "P above zero", "verdict", "claim")


def _text(claim: Claim, published: str) -> tuple[str, ...]:
    beside = published if is_host(claim.other, claim.row) else ABSENT
    found = (claim.contrast.shown, claim.contrast.probability, claim.verdict, claim.confirmed)
    return (claim.row.name, claim.other.name, _seeds(claim.contrast), beside, *found)


def _seeds(contrast: Contrast) -> str:
    return str(contrast.seeds or ABSENT)
