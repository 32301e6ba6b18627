"""What the questions of ablations found: base and arms as rows, seeds of one base together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.record import PosedQuestion
from harness.report.read.nested import flatten
from harness.report.read.rows import Row
from harness.report.read.runs import Run
from harness.report.read.tuning import UNTUNED, Tuning
from harness.spec.job import Job, with_seed


@dataclass(frozen=True)
class Answer:
    """A question asked of one base over all its seeds, with what its arms found."""

    name: str  # of the question's file
    question: str
    base: Row
    arms: Mapping[str, Row]  # in the order of the file, those that were run; without runs where none can be used
    conditions: Mapping[str, Any]  # flat: data, model and settings of the base, without its seed


def answers(
    posed: Sequence[PosedQuestion],
    rows: Sequence[Row],
    failed: Sequence[Run],
    known: Mapping[str, Run],
    tuning: Mapping[str, Tuning],
) -> tuple[Answer, ...]:
    """Those whose base is a run of one of these rows, or one that failed beside them.

    known: key -> its run.  tuning: key of a run -> whose settings it has.
    """
    of_key = {run.record.key: row for row in rows for run in row.runs}
    here = of_key.keys() | {run.record.key for run in failed}
    found: dict[tuple[str, str], list[PosedQuestion]] = {}
    for one in posed:
        base = known.get(one.base)
        if base is not None and base.record.key in here:
            found.setdefault((one.name, with_seed(base.job, 0).key), []).append(one)
    return tuple(_answer(seeds, of_key, known, tuning) for seeds in found.values())


def _answer(
    posed: Sequence[PosedQuestion],
    of_key: Mapping[str, Row],
    known: Mapping[str, Run],
    tuning: Mapping[str, Tuning],
) -> Answer:
    """posed: one question asked of one base, seed by seed."""
    first = known[posed[0].base]
    bases = [of_key[known[one.base].record.key] for one in posed if known[one.base].record.key in of_key]
    ran: dict[str, list[Run]] = {}
    for one in posed:
        for name, key in one.arms:
            if key in known and known[key] not in ran.get(name, []):
                ran.setdefault(name, []).append(known[key])
    return Answer(
        posed[-1].name,
        posed[-1].question,
        bases[0] if bases else Row(first.job.model.label, first.job.model, first.record.family, ()),
        {name: _arm(name, runs, tuning) for name, runs in ran.items()},
        flatten(_without_seed(first.job)),
    )


def _arm(name: str, runs: Sequence[Run], tuning: Mapping[str, Tuning]) -> Row:
    """Of one job, seed by seed: where an arm was run before and after it had trials of its own, of these."""
    by_job: dict[str, list[Run]] = {}
    for run in runs:
        by_job.setdefault(with_seed(run.job, 0).key, []).append(run)

    def told(some: Sequence[Run]) -> Tuning:
        return tuning.get(some[0].record.key, UNTUNED)

    chosen = max(by_job.values(), key=lambda some: (told(some).how == "own", sum(not run.problem for run in some)))
    usable = sorted((run for run in chosen if not run.problem), key=lambda run: run.seed)
    return Row(name, chosen[0].job.model, chosen[0].record.family, tuple(usable), tuning=told(chosen))


def _without_seed(job: Job) -> dict[str, Any]:
    whole = job.as_dict()
    return {**whole, "settings": {name: value for name, value in whole["settings"].items() if name != "seed"}}
