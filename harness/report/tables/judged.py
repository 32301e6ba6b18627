"""How far rows agree with what people said of pairs, and what they find of all that people call right: a line a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import pandas as pd

from harness.measure.intervals import Interval
from harness.measure.judged import RESAMPLES, RIGHT, SHARE, Tau, agreement, found, plain_agreement, right
from harness.record import Judged
from harness.report.formats import ABSENT, Sheet, decimals
from harness.report.read.groups import Group
from harness.report.read.rows import Row
from harness.report.tables.comparison import Column, best_marks
from harness.store import Store

TAU, WITHIN, CROWD = "tau", "tau within", "crowd tau"
FOUND = {"R@1": "r1", "R@5": "r5", "R@10": "r10", "mAP@R": "map_at_r"}  # heading -> number of a summary
WAYS, GALLERIES = ("t2i", "i2t"), ("judged", "whole")
TITLES = (TAU, WITHIN, CROWD, *(f"{way} {gallery} {title}" for way in WAYS for gallery in GALLERIES for title in FOUND))

AGREES = (
    f"{TAU}: Kendall's tau-b of scores and the mean of three experts' scores, over all pairs of an image and the "
    f"caption of another; {WITHIN}: its mean over the captions of which it is defined; 95% by a bootstrap of captions, "
    f"{RESAMPLES:,} samples; {CROWD}: with the share of a crowd who say yes. Means over seeds."
)
FINDS = (
    f"Recall and mAP@R in percent. Right are the pairs of the data, those of a mean of {RIGHT // 3} or more by "
    f"experts, and those to which at least {SHARE[0]} in {SHARE[1]} of the crowd say yes; queries are those with a "
    "pair judged beyond the data's own. judged: only judged pairs and the data's own are ranked; whole: the "
    "whole gallery, where what nobody judged counts as wrong, though it need not be. Ties count against the row."
)
SOURCE = "Judgements: Hodosh, Young and Hockenmaier, JAIR 47 (2013)."


@dataclass(frozen=True)
class Line:
    """What is told of one row; None where it is not defined."""

    row: Row
    numbers: Mapping[str, float | None]  # heading -> mean over seeds
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)


def judged_sheet(group: Group, store: Store) -> Sheet | None:
    """None where no row was put beside judgements; those by different ones are told apart and never ranked together."""
    rows = _by_digest(group, store)
    if not rows:
        return None
    several = len(rows) > 1
    text: list[dict[str, str]] = []
    flat: list[dict[str, str]] = []
    notes, best = [AGREES, FINDS], {}
    for digest, beside in rows.items():
        lines = [_line(row, stored) for row, stored in beside]
        for (place, title), how in _best(lines).items():
            best[place + len(text), title] = how
        for line in lines:
            name = {"method": line.row.name} | ({"judgements": digest[:6]} if several else {})
            text.append(name | _cells(line, apart=False))
            flat.append(name | _cells(line, apart=True))
        notes.append((f"{digest[:6]}: " if several else "") + _counted(beside[0][1][0]))
    return Sheet(
        "Agreement with people",
        pd.DataFrame(text, dtype=str),
        pd.DataFrame(flat, dtype=str),
        notes=(*notes, SOURCE),
        marks=best,
        names=1 + several,
        better=dict.fromkeys(TITLES, "higher"),
    )


def _by_digest(group: Group, store: Store) -> dict[str, list[tuple[Row, list[Judged]]]]:
    """Digest of the judgements -> rows with what is stored of their runs, in the order of the group."""
    rows: dict[str, list[tuple[Row, list[Judged]]]] = {}
    for row in group.rows:
        own: dict[str, list[Judged]] = {}
        for run in row.runs:
            if (stored := store.judged(run.record.key)) is not None:
                own.setdefault(stored.digest.item(), []).append(stored)
        for digest, runs in own.items():
            rows.setdefault(digest, []).append((row, runs))
    return rows


def _line(row: Row, runs: Sequence[Judged]) -> Line:
    """runs: of one digest, so that they have the same pairs."""
    one = runs[0]
    experts, crowd = _asked(one)
    scores = np.stack([run.scores[-1] for run in runs]).astype(np.float64)
    over_all = within = Tau(None)
    if experts.any():
        agreed = agreement(scores[:, experts], one.experts[experts], one.captions[experts])
        over_all, within = agreed.over_all, agreed.within
    share = one.yes[crowd] / one.votes[crowd]
    numbers = {
        TAU: over_all.value,
        WITHIN: within.value,
        CROWD: plain_agreement(scores[:, crowd], share),
    }
    for way in WAYS:
        for gallery in GALLERIES:
            numbers |= _found(runs, way, gallery)
    return Line(row, numbers, {TAU: over_all.interval, WITHIN: within.interval})


def _asked(one: Judged) -> tuple[np.ndarray, np.ndarray]:
    """(P,) bool each, pairs of an image and the caption of another that experts and crowd judged."""
    return (one.experts > 0) & ~one.own, (one.votes > 0) & ~one.own


def _found(runs: Sequence[Judged], way: str, gallery: str) -> dict[str, float | None]:
    one, whole = runs[0], gallery == "whole"
    truth, asked = right(one.own, one.experts, one.yes, one.votes), np.logical_or(*_asked(one))
    query = one.captions if way == "t2i" else one.images
    summaries = []
    for run in runs:
        places = (run.t2i_above if way == "t2i" else run.i2t_above) if whole else None
        answers = found(run.scores[-1 if way == "t2i" else 0], truth, asked, query, places)
        if answers is not None:
            summaries.append(answers.summary())
    return {
        f"{way} {gallery} {title}": fmean(summary[number] for summary in summaries) if summaries else None
        for title, number in FOUND.items()
    }


def _best(lines: Sequence[Line]) -> dict[tuple[int, str], str]:
    """Marks of the lines, from 0, as the comparison sets them."""
    rows = [line.row for line in lines]
    values = {title: [line.numbers[title] for line in lines] for title in TITLES}
    columns = [Column(title, lambda _: None, _shown(title), "higher") for title in values]
    estimates = {title: [None if value is None else (value, None) for value in own] for title, own in values.items()}
    return best_marks(rows, columns, estimates)


def _shown(title: str) -> Callable[[float], str]:
    return decimals(3) if title in (TAU, WITHIN, CROWD) else decimals(1)


def _cells(line: Line, *, apart: bool) -> dict[str, str]:
    """apart: both ends of an interval in columns of their own, as CSV has them."""
    cells = {}
    for title, value in line.numbers.items():
        show = _shown(title)
        cells[title] = ABSENT if value is None else show(value)
        if title in line.intervals:
            bounds = line.intervals[title]
            low, high = (ABSENT, ABSENT) if bounds is None else map(show, bounds)
            if apart:
                cells |= {f"{title} low": low, f"{title} high": high}
            else:
                cells[f"{title} 95%"] = ABSENT if bounds is None else f"[{low}, {high}]"
    return cells


def _counted(one: Judged) -> str:
    """How many pairs, queries and lines there were."""
    experts, crowd = _asked(one)
    yes = right(one.own, one.experts, one.yes, one.votes)
    either = experts | crowd
    captions, images = (len(np.unique(side[either])) for side in (one.captions, one.images))
    damaged, outside = one.damaged.tolist(), one.outside.tolist()
    return (
        f"Judged beyond the data's own pairs: {experts.sum():,} pairs of {len(np.unique(one.captions[experts])):,} "
        f"captions by experts, {crowd.sum():,} by the crowd; {(either & yes).sum():,} of them are right, among "
        f"{captions:,} captions and {images:,} images as queries. Left out: {sum(damaged):,} damaged lines, "
        f"{sum(outside):,} judgements of what was not ranked."
    )
