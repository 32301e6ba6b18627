"""Ray Tune around `execute(job)`: jobs side by side on one machine or a cluster.

Tune schedules, restarts a trial whose worker died, and keeps its curves; what a job found and where it goes on from is
in the results folder alone, so that the same command goes on after whatever was killed.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

# first: it sets what Ray reads as it is imported
from harness.schedule.cluster import check_nodes, one_line  # isort: split

import ray.exceptions
from ray import cloudpickle, tune
from ray.air.execution._internal.actor_manager import RayActorManager

from harness.atomic import Unwritable
from harness.data.split import DataError
from harness.phases.train import lost
from harness.progress import Progress, Start, Watch
from harness.record import Record
from harness.schedule import loggers
from harness.schedule.division import Place
from harness.schedule.storage import Shared, checkpoint_files, result_files
from harness.schedule.worker import Work, code_fingerprint, fresh, plugin_files, run_one
from harness.spec import plugins, pretrained
from harness.spec.job import Job, SpecError
from harness.store import Store

RETRIES = 1  # of a trial that failed
TRIALS = "trials"  # folder of Tune's own files: a trial's curves for TensorBoard, remade by every run

Finish = Callable[[Job, Record, float], None]  # job, outcome, seconds


def trial(config: dict[str, Any], work: Work) -> None:
    """One job as a function of Tune: reports every epoch; its lines are in the worker's log, which the dashboard shows.

    Bad input or a full disk is reported and ends the run.  Raises JobFailed.
    """
    job = work.jobs[config["job"]]
    began = time.perf_counter()
    print(f"{job.name}: {job.settings.threads} threads", flush=True)
    try:
        run_one(job, work, lambda progress: _report(job, progress))
        tune.report({"seconds": time.perf_counter() - began})
    except (SpecError, DataError, Unwritable) as error:
        tune.report({"refused": f"{job.name}: {error}"})


def _report(job: Job, progress: Progress) -> None:
    if progress.stage != "epoch":
        return
    terms = {f"loss_{name}": value for name, value in (progress.losses or {}).items()}
    tune.report(
        {"epoch": progress.epoch, "epochs": progress.epochs, "unit": progress.unit}
        | {"loss": progress.loss, "dev_rsum": progress.rsum, **terms}
    )
    part = f"{progress.unit} {progress.epoch + 1}/{progress.epochs}"
    print(f"{job.name}: {part}, dev Rsum {progress.rsum:.1f}", flush=True)


@dataclass
class Desk(tune.Callback):
    """What the driver does when a trial starts, reports or ends."""

    work: Work
    store: Store
    start: Start
    finish: Finish
    refused: str = ""
    _watches: dict[int, Watch] = field(default_factory=dict)
    _seconds: dict[int, float] = field(default_factory=dict)  # of the job itself, without its worker's start

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes its callbacks down to restore them; runs here go on from the results folder instead."""
        return {"refused": self.refused}

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:  # noqa: ARG002
        place = trial.config["job"]
        name = self.work.jobs[place].name
        _listed(trial, name)
        self._watches[place] = self.start(name)

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:  # noqa: ARG002
        self.refused = self.refused or result.get("refused", "")
        if "seconds" in result:
            self._seconds[trial.config["job"]] = result["seconds"]
        if "epoch" in result:
            watch = self._watches[trial.config["job"]]
            done = [result[name] for name in ("epoch", "epochs", "loss", "dev_rsum")]
            watch(Progress("epoch", 1, 1, *done, unit=result["unit"]))

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:  # noqa: ARG002
        if not self.refused:
            self._ended(trial, "its worker left no record")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:  # noqa: ARG002
        self._ended(trial, one_line(_failure(trial)))

    def _ended(self, trial: Any, reason: str) -> None:
        """A record always exists: of a job that ran to its end the worker's, of one whose worker was lost ours."""
        place = trial.config["job"]
        job = self.work.jobs[place]
        if self.work.shared is not None:
            self.work.shared.fetch(self.store.folder, [*checkpoint_files(job.key), *result_files(job.key)])
        record = self.store.record(job.key)
        if record is None or not fresh(record, self.work.started):
            record = lost(job, reason)
            self.store.save(record)
        self.finish(job, record, self._seconds.get(place, sum(record.seconds.values())))


def _failure(trial: Any) -> object:
    """Why a trial failed, from where Tune writes it first: `get_error` reads a copy that may come seconds later."""
    if trial.pickled_error_file:
        return cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    return Path(trial.error_file).read_text() if trial.error_file else "no reason given"


def _listed(trial: Any, name: str) -> None:
    """Has the worker run a task of that name, by which the dashboard lists the trial: workers are reused, nameless."""
    trial.temporary_state.ray_actor.__ray_call__.options(name=name).remote(_nothing)


def _nothing(_: object) -> None:
    """All that such a task does."""


class _Refusal(tune.Stopper):
    """Ends everything once a trial has met bad input."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        return "refused" in result

    def stop_all(self) -> bool:
        return bool(self.desk.refused)


def run(
    jobs: Sequence[Job],
    place: Place,
    store: Store,
    start: Start,
    finish: Finish,
    force: bool = False,
    averaged: Collection[str] = (),
) -> None:
    """Every job as a trial, within `cluster`; records and best weights are in `store` in the end.

    Raises SpecError where nodes do not fit and DataError where a trial met bad input.
    """
    shared = Shared(place.storage, store.folder.name) if place.storage else None
    here = tuple(_anywhere(job, place.threads) for job in jobs)
    began = datetime.now(UTC).isoformat(timespec="seconds")
    work = Work(
        here,
        store.folder.resolve(),
        shared,
        code_fingerprint(),
        began,
        frozenset(averaged),
        plugin_files(),
        plugins.chosen().installed,
        pretrained.chosen(),
    )
    if place.address:
        check_nodes(work)
    if shared is not None and force:
        for job in jobs:
            shared.discard([*checkpoint_files(job.key), *result_files(job.key)])
    desk = Desk(work, store, start, finish)
    shutil.rmtree(store.folder / TRIALS, ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trial, work=work), {"cpu": place.threads, "gpu": place.gpus}),
        param_space={
            "job": tune.grid_search(list(range(len(jobs)))),
            "row": tune.sample_from(lambda config: here[config["job"]].model.label),  # for whoever reads the trials
            "seed": tune.sample_from(lambda config: here[config["job"]].settings.seed),
            "key": tune.sample_from(lambda config: here[config["job"]].key),
        },
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=place.workers,
            trial_name_creator=lambda t: here[t.config["job"]].name,
            trial_dirname_creator=lambda t: folder_name(here[t.config["job"]]),
        ),
        run_config=tune.RunConfig(
            name=TRIALS,
            storage_path=str(store.folder.resolve()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            callbacks=[desk, *loggers.callbacks(place.loggers, store.folder)],
            stop=_Refusal(desk),
        ),
    )
    with _memory_kills_as_deaths():
        tuner.fit()
    if desk.refused:
        raise DataError(desk.refused)


def folder_name(job: Job) -> str:
    """`vsepp+selfalign-seed-0-0123456789abcdef`: by what TensorBoard lists a trial's curves."""
    return f"{re.sub(r'[^A-Za-z0-9_+.]+', '-', job.name)}-{job.key}"


class OutOfMemory(ray.exceptions.RayActorError):
    """Ray killed a worker for want of memory."""


def _memory_kills_as_deaths() -> AbstractContextManager[Any]:
    """Tune replaces a worker that died, but broke off everything where Ray killed one for want of memory."""
    answered = RayActorManager._actor_task_failed

    def answer(manager: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, ray.exceptions.OutOfMemoryError):
            exception = OutOfMemory(error_msg=str(exception))
        answered(manager, tracked_actor_task=tracked_actor_task, exception=exception)

    return patch.object(RayActorManager, "_actor_task_failed", answer)


def _anywhere(job: Job, threads: int) -> Job:
    """The same job whatever folder its process is in."""
    path = job.data.path and str(Path(job.data.path).resolve())
    model = job.settings.text_model
    model = str(Path(model).resolve()) if model and Path(model).is_dir() else model
    settings = replace(job.settings, threads=threads, text_model=model)
    return replace(job, data=replace(job.data, path=path), settings=settings)
