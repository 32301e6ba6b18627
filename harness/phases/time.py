"""The timing phase of a suite: every trained row once, after all training is over, alone on the machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.data.prepared import Prepared
from harness.learn.checkpoint import CheckpointError, Checkpoints
from harness.measure.cost import Contender, measure
from harness.measure.sampled import BUDGET_S
from harness.phases import given
from harness.phases.recorded import timed, timed_alike, timed_line
from harness.phases.train import load_model
from harness.progress import Start, counted
from harness.spec.job import Job
from harness.store import Store


def phase(jobs: Sequence[Job], store: Store, watch: Start, *, rounds: int, budget_s: float = BUDGET_S) -> Iterator[str]:
    """Times one trained job per row unless all stored samples are current.  Yields lines for people.

    Methods take turns within one process, so if one row lacks its samples all rows are timed again.  Rows that do not
    read captions alike (another length at which they are cut, another text model) take turns among themselves, and get
    a line of their own.
    """
    alike = timed_alike(jobs, store)
    if not alike:
        yield "timing  nothing to time"  # or settings are being chosen on dev
    for part in alike:
        yield _time_alike(part, store, watch, rounds, budget_s)


def _time_alike(rows: Sequence[Job], store: Store, watch: Start, rounds: int, budget_s: float) -> str:
    if timed(rows, store, rounds, budget_s):
        return timed_line(rows)
    data = given.prepared(rows)
    contenders = [found for job in rows if (found := contender(job, data, store)) is not None]
    for cost in measure(contenders, data.ranked, rounds, watch("timing phase, methods take turns"), budget_s):
        store.save_cost(cost)
    lost = [job.model.label for job in rows if job.key not in {c.job.key for c in contenders}]
    missing = f"; no weights for {', '.join(lost)} (--force trains again)" if lost else ""
    return f"timed   {counted(len(contenders), 'row')}, {counted(rounds, 'round')}{missing}"


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
