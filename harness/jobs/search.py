"""Ray Tune around `execute(job)`: jobs side by side on one machine or a cluster.  The only file that imports ray.

Tune schedules, restarts a trial whose worker died, and keeps its curves; what a job found and where it goes on from is
in the results folder alone, so that the same command goes on after whatever was killed.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

QUIET = {  # set before ray is imported; what the user has set stays
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # Ray's own 15 would let a job starve beside anything else
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is answered by the door
    "TUNE_MAX_PENDING_TRIALS_PG": "16",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints tables whatever it is told
}
TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
for name, value in QUIET.items():
    os.environ.setdefault(name, value)
if any(os.environ.get(name) for name in TOKENS) or (Path.home() / ".ray" / "auth_token").exists():
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray asks for it where it starts, not where it joins

import ray  # noqa: E402
import ray.exceptions  # noqa: E402
from ray import cloudpickle, tune  # noqa: E402
from ray.air.execution._internal.actor_manager import RayActorManager  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

from harness.data.split import DataError  # noqa: E402
from harness.jobs.execute import lost  # noqa: E402
from harness.jobs.place import Place, divided  # noqa: E402
from harness.jobs.shared import Shared, checkpoint_files, opened, result_files  # noqa: E402
from harness.jobs.spec import Job, SpecError  # noqa: E402
from harness.jobs.worker import Work, check_code, check_data, code_fingerprint, fresh, run_one  # noqa: E402
from harness.progress import Progress, Watch  # noqa: E402
from harness.record import Record, Store  # noqa: E402

LOCAL = "127.0.0.1"
STORE_BYTES = 256 * 2**20  # Ray's object store: it holds no data, only what trials are told
PORTS = 50  # tried for the dashboard
RETRIES = 1  # of a trial that failed
STARTS = 3  # tries: a node gives up where its agents take more than 15 s, as on a machine with much else to do
TRIALS = "trials"  # folder of Tune's own files: curves for TensorBoard, remade by every run

Start = Callable[[str], Watch]  # name of a job -> who is told how it goes
Finish = Callable[[Job, Record, float], None]  # job, outcome, seconds


# Ray ----------------------------------------------------------------------------------------------------------------


@contextmanager
def cluster(place: Place, say: Callable[[str], None]) -> Iterator[None]:
    """A Ray runtime: one started here and stopped in the end, or one that runs already.  Raises SpecError."""
    _check_address(place.address)
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial that failed has a line of ours
    shown = place.dashboard and has_dashboard()
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if place.address:
        options["address"] = place.address
    else:
        options |= {
            "num_cpus": place.workers * place.threads,
            "include_dashboard": shown,
            "object_store_memory": STORE_BYTES,
        }
        if shown:
            options |= {"dashboard_host": LOCAL, "dashboard_port": free_port(place.port)}
    try:
        context = _begun(options, 1 if place.address else STARTS)
    except Exception as error:
        where = f"reach a cluster at {place.address}" if place.address else "start"
        said = " ".join(f"{error} {error.__cause__ or ''}".split())
        raise SpecError(f"Ray did not {where}: {said[:300]}") from None
    try:
        if shown and context.dashboard_url:
            say(f"dashboard  http://{context.dashboard_url}  {login()}")
        yield
    finally:
        ray.shutdown()


def _begun(options: dict[str, Any], tries: int) -> Any:
    """The context of a runtime that was started or joined.  Raises whatever the last try did."""
    try:
        return ray.init(**options)
    except Exception:
        ray.shutdown()
        if tries == 1:
            raise
    return _begun(options, tries - 1)


def _check_address(address: str) -> None:
    """Whether anybody listens there: Ray itself would wait for minutes.  Raises SpecError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # `auto`, or a form that Ray knows better
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise SpecError(f"Ray did not reach a cluster at {address}: {error.strerror or error}") from None


def has_dashboard() -> bool:
    """Whether `ray[default]` is there, and not `ray` alone."""
    return all(find_spec(module) for module in ("aiohttp", "aiohttp_cors"))


def login() -> str:
    """How to log in, in words."""
    if os.environ.get("RAY_AUTH_MODE", "token").lower() == "token":
        return "(asks for the token that `ray get-auth-token` prints)"
    return "(open to every user of this machine: RAY_AUTH_MODE is not `token`)"


def free_port(first: int) -> int:
    """The first free one of some.  Raises SpecError."""
    last = min(first + PORTS, 2**16) - 1
    for port in range(first, last + 1):
        with socket.socket() as probe:
            try:
                probe.bind((LOCAL, port))
            except OSError:
                continue
            return port
    raise SpecError(f"no free port for the dashboard from {first} to {last}: --dashboard-port, or --no-dashboard")


def resources() -> tuple[int, float, int]:
    """CPUs and GPUs of the cluster, and the most CPUs of one node."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    return sum(cpus), sum(node.get("GPU", 0.0) for node in nodes), max(cpus, default=0)


def check_nodes(jobs: Sequence[Job], work: Work) -> None:
    """Every node must have the driver's code and data, and see the results.  Raises SpecError naming the node."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    elsewhere = [node for node in nodes if node["NodeManagerHostname"] != socket.gethostname()]
    if elsewhere and work.shared is None:
        raise SpecError(
            f"{len(elsewhere)} of {len(nodes)} nodes are other machines: --storage must name a place all reach"
        )

    @ray.remote(num_cpus=0)
    def problem() -> str:
        try:
            check_code(work.code)
            check_data(jobs[0].data)
        except (SpecError, DataError, OSError) as error:
            return str(error)
        return ""

    asked = {
        node["NodeID"]: problem.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in nodes
    }
    for node in nodes:
        try:
            found = ray.get(asked[node["NodeID"]])
        except ray.exceptions.RayError as error:  # it has no such code at all, or is gone
            found = one_line(error)
        if found:
            raise SpecError(f"node {node['NodeManagerAddress']}: {found}")


# Trials -------------------------------------------------------------------------------------------------------------


def trial(config: dict[str, Any], work: Work) -> None:
    """One job as a function of Tune: reports every epoch; its lines are in the worker's log, which the dashboard shows.

    Bad input is reported and ends the run.  Raises JobFailed.
    """
    job = work.jobs[config["job"]]
    began = time.perf_counter()
    print(f"{job.name}: {job.settings.threads} threads", flush=True)
    try:
        run_one(job, work, lambda progress: _report(job, progress))
        tune.report({"seconds": time.perf_counter() - began})
    except (SpecError, DataError) as error:
        tune.report({"refused": f"{job.name}: {error}"})


def _report(job: Job, progress: Progress) -> None:
    if progress.stage != "epoch":
        return
    terms = {f"loss_{name}": value for name, value in (progress.losses or {}).items()}
    tune.report(
        {"epoch": progress.epoch, "epochs": progress.epochs, "loss": progress.loss, "dev_rsum": progress.rsum, **terms}
    )
    print(f"{job.name}: epoch {progress.epoch + 1}/{progress.epochs}, dev Rsum {progress.rsum:.1f}", flush=True)


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
            watch(Progress("epoch", 1, 1, result["epoch"], result["epochs"], result["loss"], result["dev_rsum"]))

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


def one_line(error: object) -> str:
    """What it was, without Ray's traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(getattr(error, "cause", None) or error).__name__ if isinstance(error, Exception) else ""
    said = lines[-1] if lines and lines[0].startswith("\x1b[36mray::") else " ".join(lines[:2])
    return ": ".join(filter(None, (kind, said)))[:300]


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
    work = Work(here, store.folder.resolve(), shared, code_fingerprint(), began, frozenset(averaged))
    if place.address:
        check_nodes(jobs, work)
    if shared is not None and force:
        for job in jobs:
            shared.discard([*checkpoint_files(job.key), *result_files(job.key)])
    desk = Desk(work, store, start, finish)
    shutil.rmtree(store.folder / TRIALS, ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trial, work=work), {"cpu": place.threads, "gpu": place.gpus}),
        param_space={"job": tune.grid_search(list(range(len(jobs))))},
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=place.workers,
            trial_name_creator=lambda t: here[t.config["job"]].name,
            trial_dirname_creator=lambda t: here[t.config["job"]].key,
        ),
        run_config=tune.RunConfig(
            name=TRIALS,
            storage_path=str(store.folder.resolve()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            callbacks=[desk],
            stop=_Refusal(desk),
        ),
    )
    with _memory_kills_as_deaths():
        tuner.fit()
    if desk.refused:
        raise DataError(desk.refused)


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


def on_cluster(place: Place, jobs: int) -> Place:
    """The place divided by what the running cluster has; a thread a job unless more are asked for.

    Raises SpecError where a job does not fit.
    """
    cpus, gpus, largest = resources()
    workers, threads = place.workers or None, place.threads or 1
    count, each = divided(cpus, jobs, workers=workers, threads=threads, gpus=gpus, gpus_per_job=place.gpus)
    if each > largest:
        raise SpecError(f"a job of {each} threads needs as many CPUs, no node has more than {largest}")
    return replace(place, workers=count, threads=each)


def check_storage(uri: str) -> None:
    """Before anything runs.  Raises SpecError."""
    if uri:
        opened(uri)
