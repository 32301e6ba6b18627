"""What a worker process does with one job: the same as `execute`, once, on code and data that are the driver's."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness import ROOT, contents, locks
from harness.progress import Progress, Watch
from harness.record import Record
from harness.schedule import guard
from harness.schedule.storage import Shared, checkpoint_files, result_files
from harness.spec import plugins, pretrained, registry
from harness.spec.job import Data, Job, SpecError
from harness.spec.pretrained import Pretrained
from harness.store import Store

PACKAGES = ("harness", "models", "baselines", "ablations")
ORPHAN_SECONDS = 60.0  # a worker whose driver was killed may finish a step before it notices


class JobFailed(RuntimeError):
    """The job's record says how."""


@dataclass(frozen=True)
class Work:
    """What every worker is told of a run."""

    jobs: tuple[Job, ...]
    folder: Path  # of results, on the driver
    shared: Shared | None  # where nodes do not see that folder
    code: str  # fingerprint
    started: str  # ISO time; a record from before is of an earlier run
    averaged: frozenset[str] = frozenset()  # keys of jobs whose scores an ensemble will want
    plugins: tuple[tuple[str, bytes], ...] = ()  # name and content of the files of `--plugin`
    installed: bool = True  # whether installed plugins are looked at
    models: tuple[Pretrained, ...] = ()  # pretrained rows; their folders must lie where they do on the driver


@cache
def code_fingerprint() -> str:
    """Changes whenever a Python file of ours does."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def check_code(expected: str) -> None:
    """Raises SpecError where this node has other code than the driver."""
    if code_fingerprint() != expected:
        raise SpecError(f"the code differs from the driver's ({code_fingerprint()} instead of {expected})")


def plugin_files() -> tuple[tuple[str, bytes], ...]:
    """The files of `--plugin`, to be carried to workers."""
    return tuple((file.name, file.read_bytes()) for file in plugins.chosen().files)


def receive_plugins(work: Work) -> None:
    """Makes this process look at the driver's plugins and pretrained models.

    Raises SpecError where an installed plugin or a model differs here.
    """
    _choose(work.plugins, work.installed)
    pretrained.choose(work.models)
    for model in work.models:
        if not model.folder.is_dir() or contents.digest(model.folder) != model.digest:
            raise SpecError(f"{model.name}: the folder {model.folder} is not here as it is on the driver")
    for job in work.jobs:
        method = registry.methods().get(job.model.method)
        here = method.origin if method else "nothing"
        if here != job.model.origin:
            raise SpecError(f"{job.model.method} is of {job.model.origin} on the driver, of {here} on this node")


@cache
def _choose(files: tuple[tuple[str, bytes], ...], installed: bool) -> None:
    """Once a process, for the files are written where this node can import them."""
    # in the folder of the runtime, where there is one of its own: it goes with it
    folder = Path(tempfile.mkdtemp(prefix="harness-plugins-", dir=os.environ.get(guard.MARK))) if files else Path()
    for name, content in files:
        (folder / name).write_bytes(content)
    plugins.choose([folder / name for name, _ in files], installed)


def check_data(data: Data) -> None:
    """Raises DataError or SpecError where this node lacks the data or has others."""
    from harness.data import sources

    found = sources.find(data.path or data.name)
    if found.fingerprint != data.fingerprint:
        raise SpecError(f"data {data.name} differ from the driver's")


def run_one(job: Job, work: Work, watch: Watch) -> Record:
    """Runs the job, or finds that this run did so before its worker died.  Raises JobFailed, DataError, SpecError."""
    check_code(work.code)
    receive_plugins(work)
    record = _in_place(job, work, watch) if work.shared is None else _elsewhere(job, work, work.shared, watch)
    if record.status == "failed":
        raise JobFailed(record.error)
    return record


def _in_place(job: Job, work: Work, watch: Watch) -> Record:
    """Straight into the results folder; nobody else works on this job meanwhile."""
    store = Store(work.folder)
    checkpoints = store.checkpoints(job.key)
    checkpoints.mkdir(parents=True, exist_ok=True)
    try:
        with locks.held(checkpoints, ORPHAN_SECONDS):
            return _executed(job, store, work, watch)
    finally:
        with suppress(OSError):  # there are weights
            checkpoints.rmdir()


def _elsewhere(job: Job, work: Work, shared: Shared, watch: Watch) -> Record:
    """In a folder of this node, with checkpoints and results carried to and from the shared place."""
    with tempfile.TemporaryDirectory(prefix="harness-") as scratch:
        store = Store(Path(scratch))
        shared.fetch(store.folder, [*checkpoint_files(job.key), *result_files(job.key)])

        def carried(progress: Progress) -> None:
            if progress.stage == "epoch":
                shared.push(store.folder, checkpoint_files(job.key))
            watch(progress)

        record = _executed(job, store, work, carried)
        shared.push(store.folder, [*result_files(job.key), *checkpoint_files(job.key)])
        return record


def _executed(job: Job, store: Store, work: Work, watch: Watch) -> Record:
    from harness.phases.train import execute

    record = store.record(job.key)
    if record is not None and fresh(record, work.started) and record.status == "ok":
        return record
    return execute(job, store, watch, keep_scores=job.key in work.averaged)


def fresh(record: Record, since: str) -> bool:
    """Whether a record was made in a run that started at an ISO time."""
    finished = record.provenance.get("finished", "") if isinstance(record.provenance, Mapping) else ""
    return str(finished) >= since
