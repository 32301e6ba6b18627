"""What older records, stored without who asked for them, must have been asked: by today's questions and folder names.

A job that is a row of its own, or that no other job has as an arm, is a base, and the arms of a question applied to it
name the jobs to look for.  So one record may answer several questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness.record import PosedQuestion
from harness.report.read.runs import Run
from harness.spec import questions, registry
from harness.spec.job import Job, Model, SpecError, with_seed
from harness.spec.questions import Question

OWN_SETTINGS = "paper-"  # folders of suite `paper` begin so: their rows do not share settings


def published(folder: Path) -> bool:
    return folder.resolve().name.startswith(OWN_SETTINGS)


def posed(runs: Sequence[Run]) -> tuple[list[PosedQuestion], frozenset[str]]:
    """Every question that the runs answer, bases in the order of its file; and the keys of what are arms alone."""
    stored = {run.job.key: run for run in sorted(runs, key=lambda run: bool(run.problem), reverse=True)}
    asked = {name: _by_base(question, stored) for name, question in questions.questions().items()}
    reached = {job.key for by_base in asked.values() for arms in by_base.values() for job in arms.values()}
    bases = {key for key, run in stored.items() if key not in reached or is_usual(run.job.model)}
    found = []
    for name, by_base in asked.items():
        question = questions.questions()[name]
        order = sorted(by_base.keys() & bases, key=lambda key: _place(question, stored[key]))
        found += [_posed(question, key, by_base[key], stored) for key in order if _is_told(by_base[key], key, stored)]
    arms = {key for question in found for _, key in question.arms if not is_usual(stored[key].job.model)}
    return found, frozenset(arms)


def is_usual(model: Model) -> bool:
    """Whether every option is as the row of this label has it."""
    return registry.is_row(model.label) and model == registry.model(model.label)


def _place(question: Question, run: Run) -> tuple[int, str, int]:
    """Bases in the order of the file, runs of one base by their seed."""
    without_seed = with_seed(run.job, 0)
    return question.bases.index(run.job.model.label), without_seed.key, run.seed


def _posed(question: Question, base: str, arms: Mapping[str, Job], stored: Mapping[str, Run]) -> PosedQuestion:
    ran = [(name, job.key) for name, job in arms.items() if job.key in stored]
    return PosedQuestion(question.name, question.question, base, ran)


def _is_told(arms: Mapping[str, Job], base: str, stored: Mapping[str, Run]) -> bool:
    """Nothing is asked where all arms that ran are rows of their own: those stand in the comparison.

    Told by all seeds of a base together would be the same: an arm is a row of its own whatever its seed.
    """
    ran = [job for job in arms.values() if job.key in stored]
    return any(not _stands_beside(stored[job.key].job, stored[base].job) for job in ran)


def _by_base(question: Question, stored: Mapping[str, Run]) -> dict[str, dict[str, Job]]:
    """Key of every job that the question could be asked of -> its arms."""
    return {key: _arms(question, run.job) for key, run in stored.items() if run.job.model.label in question.bases}


def _stands_beside(job: Job, base: Job) -> bool:
    """Whether an arm's job is a row of the comparison that its base is in."""
    return is_usual(job.model) and (job.data, with_seed(job, 0).settings) == (base.data, with_seed(base, 0).settings)


def _arms(question: Question, base: Job) -> dict[str, Job]:
    """The arms that this job can have: one that is an arm itself lacks its own, and an old one those of new options."""
    found = {}
    for name, changes in question.arms.items():
        with suppress(SpecError):
            found |= questions.arms(replace(question, arms={name: changes}), base)
    return found
