"""What is recorded already of the phases of a run, told by records alone: a run that finds all of it loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.measure import sampled
from harness.progress import counted
from harness.record import Record
from harness.spec.ensembles import Plan, Planned
from harness.spec.given import family, same_split
from harness.spec.job import Job
from harness.store import Store


class Unmade(ValueError):
    """An ensemble that cannot be made; one line that says which member is missing and why."""


def first_trained(jobs: Sequence[Job], store: Store) -> list[Job]:
    """The first job of each row that ended well."""
    rows: dict[str, Job] = {}
    for job in jobs:
        record = store.record(job.key)
        if record is not None and record.status == "ok":
            rows.setdefault(job.model.label, job)
    return list(rows.values())


def timed_alike(jobs: Sequence[Job], store: Store) -> list[list[Job]]:
    """One trained job per row, rows that take turns in the timing phase together; [] where nothing is to time."""
    rows = [job for job in first_trained(jobs, store) if job.data.ranked == "test" and family(job.model)]
    alike: dict[tuple, list[Job]] = {}
    for job in sorted(rows, key=lambda job: bool(job.model.given)):
        alike.setdefault(_reading(job, alike), []).append(job)
    return list(alike.values())


def _reading(job: Job, alike: Mapping[tuple, Sequence[Job]]) -> tuple:
    """What rows must have in common to take turns.  Rows from files read no captions: they join those on their data."""
    if not job.model.given:
        return (job.settings.min_count, job.settings.max_words, job.settings.text_model)
    return next((key for key, rows in alike.items() if same_split(rows[0].data, job.data)), (job.data,))


def timed(rows: Sequence[Job], store: Store, rounds: int, budget_s: float) -> bool:
    """Whether all stored samples are of this machine, of the whole split and as many as are asked for."""
    record = store.record(rows[0].key)
    told = record.data.get(rows[0].data.ranked, {}) if record is not None else {}
    images, captions = told.get("images"), told.get("captions")
    if not (isinstance(images, int) and isinstance(captions, int)):
        return False
    load = sampled.sizes(images, captions)
    return all(sampled.is_current(store.cost(job.key), job, load, rounds, budget_s) for job in rows)


def timed_line(rows: Sequence[Job]) -> str:
    return f"cached  timing of {counted(len(rows), 'row')}"


def averaged(plan: Plan, store: Store) -> bool:
    """Whether the record of an ensemble is there and its members have not run again since."""
    if store.finished(plan.key) is None:
        return False
    record = store.record(plan.key)
    try:
        made_of = [stamp(job, member(job, store)) for job in plan.jobs]
    except Unmade:
        return False
    return record is not None and record.provenance.get("members") == made_of


def averaged_lines(planned: Planned, store: Store) -> list[str] | None:
    """What averaging says where every ensemble is recorded; None where one is not."""
    if not all(averaged(plan, store) for plan in planned.plans):
        return None
    lines = [*(f"missing {line}" for line in planned.short), *(f"cached  {plan.name}" for plan in planned.plans)]
    return [*lines, *kept_lines(planned.member_keys, store)]


def member(job: Job, store: Store) -> Record:
    """The record of an ensemble's member.  Raises Unmade."""
    record = store.record(job.key)
    if record is None:
        raise Unmade(f"{job.name} is not recorded")
    if record.status != "ok":
        raise Unmade(f"{job.name} failed")
    return record


def stamp(job: Job, record: Record) -> str:
    """Which run of a member an ensemble was made of."""
    return f"{job.name}, {record.provenance.get('finished')}"


def kept_lines(keys: Iterable[str], store: Store) -> list[str]:
    """How much room the stored scores take; [] where there are none."""
    sizes = [path.stat().st_size for key in keys if (path := store.scores_path(key)).exists()]
    told = (
        f"scores  {len(sizes)} matrices for ensembles take {sum(sizes) / 2**20:.1f} MiB in "
        f"{store.folder.name}/scores, safe to delete"
    )
    return [told] if sizes else []
