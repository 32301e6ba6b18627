"""Who runs the jobs: this process, one after the other, or Ray, several at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.console import RunView
from harness.schedule.division import Place, divided, wanted
from harness.spec.job import Job, SpecError
from harness.store import Store

if TYPE_CHECKING:
    from harness.schedule.trials import Finish  # which imports ray


def placed(place: Place, workers: int | None, jobs: int, device: str) -> Place | None:
    """With workers and threads of this machine; None where jobs run in this process.  Raises SpecError.

    place: as asked for, 0 threads = the CPUs shared out; workers: None = as many as fit where Ray is installed.
    """
    if not wanted(workers, jobs, place.address):
        if place.loggers:
            raise SpecError("--log writes what Ray schedules: there is one job, or no Ray; --workers 1 asks for it")
        return None
    if device.startswith("cuda:"):
        raise SpecError(f"Ray chooses the GPU of a job: --device cuda in place of {device}, or --workers 0")
    if place.address:
        return place
    gpus = _gpu_count() if place.gpus else 0
    count, threads = divided(
        available_cpus(), jobs, workers=workers, threads=place.threads, gpus=gpus, gpus_per_job=place.gpus
    )
    return replace(place, workers=count, threads=threads)


def _gpu_count() -> int:
    import torch

    return torch.cuda.device_count()


def available_cpus() -> int:
    """Those this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    todo: Sequence[Job],
    jobs: int,
    averaged: Collection[str],
    store: Store,
    view: RunView,
    finish: Finish,
    place: Place | None,
    force: bool,
    processes: int = 1,
) -> None:
    """Every job of `todo`, where it was `placed`; `jobs`: how many there are with those that are recorded.

    averaged: keys of jobs whose score matrix is kept.  processes: that train a job together, where jobs run in turn.
    Raises SpecError and DataError.
    """
    if place is None:
        _in_turn(todo, averaged, store, view, finish, processes)
    elif todo:
        _side_by_side(todo, jobs, averaged, store, view, finish, place, force)


def _in_turn(
    jobs: Sequence[Job], averaged: Collection[str], store: Store, view: RunView, finish: Finish, processes: int
) -> None:
    """One job after the other, in this process."""
    from harness.phases.train import execute

    for job in jobs:
        started = time.perf_counter()
        record = execute(job, store, view.start(job.name), keep_scores=job.key in averaged, processes=processes)
        finish(job, record, time.perf_counter() - started)


def _side_by_side(
    todo: Sequence[Job],
    jobs: int,
    averaged: Collection[str],
    store: Store,
    view: RunView,
    finish: Finish,
    place: Place,
    force: bool,
) -> None:
    """Several jobs at a time, by Ray."""
    from harness.schedule.cluster import cluster, on_cluster
    from harness.schedule.storage import check_storage
    from harness.schedule.trials import run

    check_storage(place.storage)
    with cluster(place, view.say):
        if place.address:
            place = on_cluster(place, jobs)
        view.say(f"workers    {place.workers} at a time, {place.threads} CPU threads each")
        run(todo, place, store, view.start, finish, force, averaged)
