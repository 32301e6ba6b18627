"""The timing phase of a suite: every trained row once, after all training is over, alone on the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.data.prepared import Prepared
from harness.learn.checkpoint import CheckpointError, Checkpoints
from harness.measure.cost import BUDGET_S, Contender, is_current, measure, workload
from harness.phases import given
from harness.phases.train import load_model
from harness.progress import Start
from harness.record import Store
from harness.spec.given import family, same_split
from harness.spec.job import Job


def phase(jobs: Sequence[Job], store: Store, watch: Start, *, rounds: int, budget_s: float = BUDGET_S) -> Iterator[str]:
    """Times one trained job per row unless all stored samples are current.  Yields lines for people.

    Methods take turns within one process, so if one row lacks its samples all rows are timed again.  Rows that do not
    read captions alike (another length at which they are cut, another text model) take turns among themselves, and get
    a line of their own.
    """
    rows = [job for job in first_trained(jobs, store) if job.data.ranked == "test" and family(job.model)]
    if not rows:
        yield "timing  nothing to time"  # or settings are being chosen on dev
        return
    alike: dict[tuple, list[Job]] = {}
    for job in sorted(rows, key=lambda job: bool(job.model.given)):
        alike.setdefault(_reading(job, alike), []).append(job)
    for part in alike.values():
        yield _time_alike(part, store, watch, rounds, budget_s)


def _reading(job: Job, alike: Mapping[tuple, Sequence[Job]]) -> tuple:
    """What rows must have in common to take turns.  Rows from files read no captions: they join those on their data."""
    if not job.model.given:
        return (job.settings.min_count, job.settings.max_words, job.settings.text_model)
    return next((key for key, rows in alike.items() if same_split(rows[0].data, job.data)), (job.data,))


def _time_alike(rows: Sequence[Job], store: Store, watch: Start, rounds: int, budget_s: float) -> str:
    data = given.prepared(rows)
    load = workload(data.ranked)
    if all(is_current(store.cost(job.key), job, load, rounds, budget_s) for job in rows):
        return f"cached  timing of {len(rows)} rows"
    contenders = [found for job in rows if (found := contender(job, data, store)) is not None]
    for cost in measure(contenders, data.ranked, rounds, watch("timing phase, methods take turns"), budget_s):
        store.save_cost(cost)
    lost = [job.model.label for job in rows if job.key not in {c.job.key for c in contenders}]
    missing = f"; no weights for {', '.join(lost)} (--force trains again)" if lost else ""
    return f"timed   {len(contenders)} rows, {rounds} rounds{missing}"


def first_trained(jobs: Sequence[Job], store: Store) -> list[Job]:
    """The first job of each row that ended well."""
    rows: dict[str, Job] = {}
    for job in jobs:
        record = store.record(job.key)
        if record is not None and record.status == "ok":
            rows.setdefault(job.model.label, job)
    return list(rows.values())


def contender(job: Job, data: Prepared, store: Store) -> Contender | None:
    """The row as it is timed; None where its weights are gone, or it is nothing but scores."""
    if job.model.given:
        return given.contender(job, data.ranked.split)
    model = load_model(job, data)
    try:
        Checkpoints(store.checkpoints(job.key)).load_best(model)
    except CheckpointError:
        return None
    return Contender(job, model)
