"""Who asked for a run: as the run stored it, and for records of before that, as they must have been asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from harness.record import PosedQuestion
from harness.report.read import inferred
from harness.report.read.runs import Run
from harness.report.read.tuning import PUBLISHED, Tuning, of_runs, values_of
from harness.spec.job import Settings
from harness.spec.tuning import BY_HAND
from harness.store import Store
from harness.tuned import TunedRecord, kept


@dataclass(frozen=True)
class Asked:
    """What a results folder was asked."""

    posed: tuple[PosedQuestion, ...]
    arms_alone: frozenset[str]  # keys of runs that are arms and nothing else: no rows of a comparison
    published: bool  # rows have settings of their own, as they were published
    tuning: Mapping[str, Tuning] = field(default_factory=dict)  # key of a run -> whose tuned settings it has
    values: Mapping[str, TunedRecord] = field(default_factory=dict)  # that those are from, by key

    @property
    def own(self) -> frozenset[str]:
        """Names of settings that may differ from row to row."""
        if self.published:
            return frozenset(f.name for f in fields(Settings))
        return frozenset(BY_HAND) if self.tuning else frozenset()


def asked(store: Store, runs: Sequence[Run]) -> Asked:
    """Raises RecordError where what is stored cannot be trusted."""
    stored = store.asked()
    posed = [question for record in stored for question in record.posed]
    named = {key for question in posed for key in (question.base, *(key for _, key in question.arms))}
    rows = {key for record in stored for key in record.rows} | {question.base for question in posed}
    older = [run for run in runs if run.record.key not in named | rows]
    old_posed, old_arms = inferred.posed(older)
    published = any(record.published for record in stored) or (not stored and inferred.published(store.folder))
    values = values_of(stored, kept(store.folder))
    return Asked(
        posed=(*posed, *old_posed),
        arms_alone=frozenset((named - rows) | old_arms),
        published=published,
        tuning=dict.fromkeys((run.record.key for run in runs), PUBLISHED)
        if published
        else of_runs(runs, stored, values),
        values=values,
    )


def by_key(runs: Sequence[Run]) -> Mapping[str, Run]:
    """Runs by the key of their record, and by today's key of their job; one that can be used goes first."""
    ordered = sorted(runs, key=lambda run: not run.problem)
    return {run.job.key: run for run in ordered} | {run.record.key: run for run in ordered}
