"""Does a part earn its cost?  Every arm of an ablation beside its base, seed by seed and query by query.

A gain, or a loss, is said only where both intervals leave zero out; an interval that holds it is marked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from harness.measure.intervals import Difference, Interval, mean_sd, paired_bootstrap, paired_difference
from harness.report.formats import ABSENT, Sheet, decimals, interval, signed, whole
from harness.report.read.answers import Answer
from harness.report.read.groups import Group
from harness.report.read.nested import differing
from harness.report.read.rows import Row

HOLDS_ZERO = "○"
Over = Literal["seeds", "queries"]


@dataclass(frozen=True)
class Arm:
    """One arm beside its base."""

    name: str
    row: Row  # its runs that can be used, none where all failed
    base: Row

    @property
    def shared(self) -> list[int]:
        """Seeds that both ran."""
        return sorted(self.row.rsums.keys() & self.base.rsums.keys())

    @cached_property
    def difference(self) -> Difference | None:
        """Of Rsum, arm minus base, over the seeds both ran."""
        return paired_difference(self.row.rsums, self.base.rsums) if self.shared else None

    @cached_property
    def over_queries(self) -> Interval | None:
        """Of the same difference, queries drawn anew."""
        return paired_bootstrap(self.row.ranks(self.shared), self.base.ranks(self.shared)) if self.shared else None

    @property
    def over_seeds(self) -> Interval | None:
        return self.difference.interval if self.difference else None

    @property
    def verdict(self) -> str:
        return verdict(self.over_seeds, self.over_queries)


@dataclass(frozen=True)
class Ablation:
    """One question, asked of one base under one set of conditions."""

    name: str  # of the question's file
    question: str
    base: Row
    arms: tuple[Arm, ...]  # in the order of the file, those that were run
    conditions: Mapping[str, Any]  # flat: data and settings


def ablations(groups: Sequence[Group]) -> list[Ablation]:
    """Every question that the records of a folder answer, ordered by name."""
    found = [answer for group in groups for answer in group.answers]
    return [_ablation(answer) for answer in sorted(found, key=lambda answer: answer.name)]


def _ablation(answer: Answer) -> Ablation:
    arms = tuple(Arm(name, row, answer.base) for name, row in answer.arms.items())
    return Ablation(answer.name, answer.question, answer.base, arms, answer.conditions)


def verdict(over_seeds: Interval | None, over_queries: Interval | None) -> str:
    """What the two intervals of a difference allow to say."""
    if over_seeds is None or over_queries is None:
        return "not enough seeds"
    if over_seeds[0] > 0 and over_queries[0] > 0:
        return "gain"
    return "loss" if over_seeds[1] < 0 and over_queries[1] < 0 else "no difference shown"


def holds_zero(bounds: Interval | None) -> bool | None:
    """None where there is no interval."""
    return None if bounds is None else bounds[0] <= 0 <= bounds[1]


def forest_rows(
    ablations: Sequence[Ablation], over: Over = "seeds"
) -> list[tuple[str, float, float | None, float | None]]:
    """(label, difference of Rsum to the base, low, high) of every arm; no bounds where too few seeds were run."""
    several = len({ablation.base.name for ablation in ablations}) > 1
    rows = []
    for ablation in ablations:
        for arm in ablation.arms:
            if arm.difference is not None:
                low, high = (arm.over_seeds if over == "seeds" else arm.over_queries) or (None, None)
                label = f"{ablation.base.name}: {arm.name}" if several else arm.name
                rows.append((label, arm.difference.mean, low, high))
    return rows


LEGEND = (
    "Rsum in percent, mean ± standard deviation (n - 1) over seeds. Difference: arm minus base over the seeds both "
    "ran, with its 95% interval: over seeds by Student's t of the pairs of equal seed; over queries by paired "
    "bootstrap, 10,000 resamples of the queries of each direction, hits averaged over those seeds. "
    f"{HOLDS_ZERO} marks an interval that holds zero. Gain and loss are said only where neither does; "
    f"{ABSENT} is a figure that is not there. Nothing is corrected for the number of arms."
)
BASE = "(base)"
TEXT = ("base", "arm", "seeds", "Rsum", "difference, over seeds", "over queries", "verdict", "parameters")
FLAT = (
    *("base", "arm", "seeds", "rsum", "rsum_sd", "difference", "low", "high", "low_over_queries", "high_over_queries"),
    *("zero_over_seeds", "zero_over_queries", "verdict", "parameters"),
)


def by_question(groups: Sequence[Group]) -> dict[str, list[Ablation]]:
    """Name of a question -> its ablations, of those that the records answer."""
    found: dict[str, list[Ablation]] = {}
    for ablation in ablations(groups):
        found.setdefault(ablation.name, []).append(ablation)
    return found


def ablation_sheets(groups: Sequence[Group]) -> dict[str, Sheet]:
    """Name of a question -> its table."""
    return {name: _sheet(found) for name, found in by_question(groups).items()}


def _sheet(found: Sequence[Ablation]) -> Sheet:
    told_by = [name for name in differing([a.conditions for a in found]) if not name.startswith("model.")]
    text, flat = [], []
    for ablation in found:
        told = [str(ablation.conditions.get(name, ABSENT)) for name in told_by]
        base = ablation.base
        text.append([*told, base.name, BASE, *_scores(base), *(ABSENT,) * 3, _parameters(base)])
        flat.append([*told, base.name, BASE, *_flat_scores(base), *(ABSENT,) * 8, _parameters(base, plain=True)])
        text += [[*told, *_text(arm)] for arm in ablation.arms]
        flat += [[*told, *_flat(arm)] for arm in ablation.arms]
    return Sheet(
        title=found[0].question,
        text=pd.DataFrame(text, columns=pd.Index([*told_by, *TEXT]), dtype=str),
        flat=pd.DataFrame(flat, columns=pd.Index([*told_by, *FLAT]), dtype=str),
        header=() if {"data.name", "data.ranked"} & {*told_by} else (_data(found[0].conditions),),
        notes=(LEGEND, *_unused(found)),
        names=2 + len(told_by),
    )


def _data(conditions: Mapping[str, Any]) -> str:
    return f"Data {conditions['data.name']}, split {conditions['data.ranked']}."


def _unused(found: Sequence[Ablation]) -> list[str]:
    return [
        f"No run of {arm.name} on {ablation.base.name} can be used."
        for ablation in found
        for arm in ablation.arms
        if not arm.row.runs
    ]


def _text(arm: Arm) -> tuple[str, ...]:
    queries = interval(arm.over_queries) + _mark(arm.over_queries)
    return (arm.base.name, arm.name, *_scores(arm.row), shown(arm), queries, arm.verdict, _parameters(arm.row))


def shown(arm: Arm) -> str:
    """`+1.8 [0.3, 3.2]`, `+0.4 [-1.0, 1.8] ○` where the interval holds zero, no interval where it is not known."""
    if arm.difference is None:
        return ABSENT
    bounds = arm.over_seeds
    return signed(arm.difference.mean) + (f" {interval(bounds)}" if bounds else "") + _mark(bounds)


def _mark(bounds: Interval | None) -> str:
    return f" {HOLDS_ZERO}" if holds_zero(bounds) else ""


def _flat(arm: Arm) -> tuple[str, ...]:
    bounds = [
        ABSENT if known is None else signed(known[end])
        for known in (arm.over_seeds, arm.over_queries)
        for end in (0, 1)
    ]
    zeros = [{None: ABSENT, True: "yes", False: "no"}[holds_zero(b)] for b in (arm.over_seeds, arm.over_queries)]
    mean = signed(arm.difference.mean) if arm.difference else ABSENT
    scores = _flat_scores(arm.row)
    return (arm.base.name, arm.name, *scores, mean, *bounds, *zeros, arm.verdict, _parameters(arm.row, plain=True))


def _scores(row: Row) -> tuple[str, str]:
    """How many seeds, and the mean over them."""
    seeds, mean, sd = _flat_scores(row)
    return seeds, mean if sd == ABSENT else f"{mean} ± {sd}"


def _flat_scores(row: Row) -> tuple[str, str, str]:
    if not row.runs:
        return ABSENT, ABSENT, ABSENT
    mean, sd = mean_sd(list(row.rsums.values()))
    return str(len(row.runs)), decimals(1)(mean), ABSENT if sd is None else decimals(1)(sd)


def _parameters(row: Row, plain: bool = False) -> str:
    count = row.runs[0].record.parameters if row.runs else None
    return ABSENT if count is None else str(count) if plain else whole(count)
