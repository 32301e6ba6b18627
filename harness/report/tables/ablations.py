"""Does a part earn its cost?  Every arm of an ablation beside its base; all arms of a table are tested together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.measure import verdicts
from harness.measure.intervals import mean_sd
from harness.report.formats import ABSENT, Sheet, decimals, whole
from harness.report.read.answers import Answer
from harness.report.read.contrasts import DIFFERENCE, WORDS, Contrast, compared, detectable, untold
from harness.report.read.groups import Group
from harness.report.read.nested import differing
from harness.report.read.rows import Row
from harness.report.tables.effort import WHOSE
from harness.spec.tuning import BY_HAND


@dataclass(frozen=True)
class Ablation:
    """One question, asked of one base under one set of conditions."""

    name: str  # of the question's file
    question: str
    base: Row
    arms: Mapping[str, Contrast]  # arm minus base, in the order of the file, those that were run; no runs if all failed
    conditions: Mapping[str, Any]  # flat: data and settings


def by_question(groups: Sequence[Group]) -> dict[str, list[Ablation]]:
    """Name of a question -> its ablations, of those that the records answer, ordered by name."""
    found: dict[str, list[Answer]] = {}
    for answer in sorted((a for group in groups for a in group.answers), key=lambda answer: answer.name):
        found.setdefault(answer.name, []).append(answer)
    return {name: _answered(answers) for name, answers in found.items()}


def _answered(answers: Sequence[Answer]) -> list[Ablation]:
    """The answers to one question, which share a table."""
    contrasts = iter(compared([(row, answer.base) for answer in answers for row in answer.arms.values()]))
    return [
        Ablation(a.name, a.question, a.base, {name: next(contrasts) for name in a.arms}, a.conditions) for a in answers
    ]


def named(ablations: Sequence[Ablation]) -> list[tuple[str, Contrast]]:
    """Every arm under its name, with that of its base where there are several."""
    several = len({ablation.base.name for ablation in ablations}) > 1
    return [
        (f"{ablation.base.name}: {name}" if several else name, arm)
        for ablation in ablations
        for name, arm in ablation.arms.items()
    ]


LEGEND = (
    f"Rsum in percent, mean ± standard deviation (n - 1) over seeds. {DIFFERENCE} {WORDS} Intervals are corrected by "
    f"Holm for all arms of this table, so that some better or worse is false in {verdicts.RATE:.0%} of cases at most; "
    f"{ABSENT} is a figure that is not there."
)
BASE = "(base)"
TUNING = "tuning"  # a column where some row was tuned
TEXT = ("base", "arm", TUNING, "seeds", "Rsum", "Rsum difference", "P above zero", "verdict", "parameters")
FLAT = (
    *("base", "arm", TUNING, "seeds", "rsum", "rsum_sd", "rsum_difference", "low", "high", "p_above_zero", "verdict"),
    "parameters",
)


def ablation_sheets(groups: Sequence[Group]) -> dict[str, Sheet]:
    """Name of a question -> its table."""
    return {name: _sheet(found) for name, found in by_question(groups).items()}


def _sheet(found: Sequence[Ablation]) -> Sheet:
    tuned = any(row.tuning.how in ("own", "base") for a in found for row in (a.base, *(c.row for c in a.arms.values())))
    hidden = tuple(f"settings.{name}" for name in BY_HAND if tuned)  # a row's own, an arm's may be others
    told_by = [n for n in differing([a.conditions for a in found]) if not n.startswith("model.") and n not in hidden]
    text, flat = [], []
    for ablation in found:
        told = [str(ablation.conditions.get(name, ABSENT)) for name in told_by]
        base = ablation.base
        text.append([*told, base.name, BASE, base.tuning.how, *_scores(base), *(ABSENT,) * 3, _parameters(base)])
        cells = (base.tuning.how, *_flat_scores(base), *(ABSENT,) * 5, _parameters(base, plain=True))
        flat.append([*told, base.name, BASE, *cells])
        text += [[*told, base.name, name, *_text(arm)] for name, arm in ablation.arms.items()]
        flat += [[*told, base.name, name, *_flat(arm)] for name, arm in ablation.arms.items()]
    arms = named(found)
    notes = (LEGEND, WHOSE * tuned, detectable(arms), untold([arm for _, arm in arms]), *_unused(found))
    return Sheet(
        title=found[0].question,
        text=_frame(text, [*told_by, *TEXT], tuned),
        flat=_frame(flat, [*told_by, *FLAT], tuned),
        header=() if {"data.name", "data.ranked"} & {*told_by} else (_data(found[0].conditions),),
        notes=tuple(note for note in notes if note),
        names=2 + len(told_by),
    )


def _frame(cells: Sequence[Sequence[str]], columns: Sequence[str], tuned: bool) -> pd.DataFrame:
    frame = pd.DataFrame(cells, columns=pd.Index(columns), dtype=str)
    return frame if tuned else frame.drop(columns=TUNING)


def _data(conditions: Mapping[str, Any]) -> str:
    return f"Data {conditions['data.name']}, split {conditions['data.ranked']}."


def _unused(found: Sequence[Ablation]) -> list[str]:
    return [
        f"No run of {name} on {ablation.base.name} can be used."
        for ablation in found
        for name, arm in ablation.arms.items()
        if not arm.row.runs
    ]


def _text(arm: Contrast) -> tuple[str, ...]:
    return (arm.row.tuning.how, *_scores(arm.row), arm.shown, arm.probability, arm.word, _parameters(arm.row))


def _flat(arm: Contrast) -> tuple[str, ...]:
    scores, parameters = _flat_scores(arm.row), _parameters(arm.row, plain=True)
    return (arm.row.tuning.how, *scores, *arm.cells, arm.probability, arm.word, parameters)


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
