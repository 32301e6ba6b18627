"""A recorded row looked at once more, whatever it is: trained here, from files, averaged, or weights on other data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.given.lists import Lists
from harness.data.given.matrix import Scores
from harness.data.given.vectors import Embeddings
from harness.data.prepared import Side, prepare, prepare_ranked
from harness.data.split import Split
from harness.learn.stored import load
from harness.measure import given as measured
from harness.phases import average, given
from harness.phases.time import contender
from harness.progress import Watch
from harness.protocol import Retriever
from harness.spec.ensembles import Plan
from harness.spec.given import same_split
from harness.spec.job import Job, Settings
from harness.store import Store

NO_WEIGHTS = "no weights here (--force trains it again)"


@dataclass(frozen=True)
class Live:
    """A model before the split that is ranked."""

    model: Retriever
    side: Side
    settings: Settings


Opened = Live | Scores | Lists | str  # a text says why there is nothing


@dataclass(frozen=True)
class Row:
    """One recorded run of a row."""

    key: str  # of its record
    job: Job  # as that tells it
    open: Callable[[Watch], Opened]

    @property
    def name(self) -> str:
        return self.job.name

    @property
    def split(self) -> Split:
        """That is ranked.  Raises DataError."""
        return prepare_ranked(self.job.data).ranked.split


def rows(jobs: Sequence[Job], plans: Sequence[Plan], store: Store) -> list[Row]:
    """Jobs and ensembles that are recorded."""
    found = [Row(job.key, job, lambda _, job=job: _of_job(job, store)) for job in jobs]
    found += [Row(plan.key, plan.job, lambda watch, plan=plan: _of_ensemble(plan, store, watch)) for plan in plans]
    return [row for row in found if store.finished(row.key) is not None]


def _of_job(job: Job, store: Store) -> Opened:
    if job.model.given:
        side = prepare_ranked(job.data).ranked
        found = given.read_row(job, side.split)
        if not isinstance(found, Embeddings):
            return found
        return Live(measured.model_of(found, side.split, job.settings), side, job.settings)
    data = prepare(job.data, job.settings)
    row = contender(job, data, store)
    return NO_WEIGHTS if row is None else Live(row.model, data.ranked, job.settings)


def _of_ensemble(plan: Plan, store: Store, watch: Watch) -> Opened:
    try:
        return Scores(average.mean_of([average.scores_of(job, store, watch) for job in plan.jobs], watch))
    except average.Unmade as reason:
        return str(reason)


def evaluated(job: Job, folder: Path, key: str, text_model: str, place: dict[str, Any]) -> Row:
    """Weights that a run kept, before the data of `job`.  The rest as `harness.learn.stored.load` takes it."""

    def opened(_: Watch) -> Opened:
        trained = load(folder, key, text_model=text_model, **place)
        return Live(trained.model, trained.read(prepare_ranked(job.data).ranked.split), job.settings)

    return Row(job.key, job, opened)


def by_split(found: Sequence[Row]) -> Iterator[list[Row]]:
    """Those that rank the same queries together, in their order."""
    left = list(found)
    while left:
        part = [row for row in left if same_split(row.job.data, left[0].job.data)]
        left = [row for row in left if row not in part]
        yield part
