"""What a worker does, without Ray: the driver's code and data or none, a job once, and all of it carried to and fro."""

from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness import ROOT
from harness.learn.checkpoint import Checkpoints
from harness.phases import train
from harness.progress import Progress, unwatched
from harness.schedule import worker
from harness.schedule.storage import Shared, checkpoint_files, opened, result_files
from harness.schedule.worker import JobFailed, Work, run_one
from harness.spec import registry
from harness.spec.job import Data, Job, Settings, SpecError
from harness.spec.override import override
from harness.store import Store

pytestmark = pytest.mark.usefixtures("same_torch_after")
NOW = "2000-01-01T00:00:00+00:00"  # every record of a test is from after it
SMALL = {"settings.min_count": 1, "settings.batch": 13, "settings.dim": 8, "settings.epochs": 3}


class Killed(BaseException):
    """Not caught by anything, like a signal."""


@pytest.fixture
def job(data_folder: Path) -> Job:
    from harness.data import sources

    data = Data(name="zoo", path=str(data_folder), fingerprint=sources.find(str(data_folder)).fingerprint)
    return override(Job(data, registry.model("vsepp"), Settings()), SMALL)


@pytest.fixture
def work(job: Job, tmp_path: Path) -> Work:
    return Work((job,), tmp_path / "results", None, worker.code_fingerprint(), NOW)


def elsewhere(work: Work, tmp_path: Path) -> Work:
    return replace(work, shared=Shared((tmp_path / "far").as_uri(), "results"))


def found(store: Store, job: Job):
    record, ranks = store.record(job.key), store.ranks(job.key)
    assert record is not None
    assert ranks is not None
    return [{**epoch, "train_s": None} for epoch in record.history], ranks.i2t.tolist(), ranks.t2i.tolist()


def killed_after(epoch: int):
    def watch(progress: Progress) -> None:
        if progress.stage == "epoch" and progress.epoch == epoch:
            raise Killed

    return watch


def test_epochs_report_their_terms_once_their_checkpoint_is_written(job, work):
    seen = []

    def watch(progress: Progress) -> None:
        if progress.stage == "epoch":
            state = Checkpoints(Store(work.folder).checkpoints(job.key)).load_last("cpu")
            assert state is not None
            seen.append((progress.epoch, len(state["history"]), progress.losses, progress.rsum))

    record = run_one(job, work, watch)
    assert [(epoch, saved) for epoch, saved, _, _ in seen] == [(0, 1), (1, 2), (2, 3)]
    assert [losses for _, _, losses, _ in seen] == [{"hinge": e["losses"]["hinge"]} for e in record.history]
    assert [rsum for *_, rsum in seen] == [e["dev_rsum"] for e in record.history]


@pytest.mark.parametrize("far", [False, True])
def test_a_job_goes_on_from_its_last_epoch_and_ends_with_the_same_numbers(job, work, tmp_path, far):
    alone = Store(tmp_path / "alone")
    train.execute(job, alone)
    work = elsewhere(work, tmp_path) if far else work
    with pytest.raises(Killed):
        run_one(job, work, killed_after(1))
    epochs = []
    run_one(job, work, lambda progress: epochs.append(progress.epoch) if progress.stage == "epoch" else None)
    assert epochs == [2]
    store = Store(work.folder)
    if work.shared is not None:
        assert store.record(job.key) is None  # this node has no such folder
        work.shared.fetch(store.folder, [*checkpoint_files(job.key), *result_files(job.key)])
    assert found(store, job) == found(alone, job)
    assert Checkpoints(store.checkpoints(job.key)).best.exists()
    assert not Checkpoints(store.checkpoints(job.key)).last.exists()


def test_a_job_that_this_run_has_recorded_is_not_run_again(job, work, monkeypatch):
    run_one(job, work, unwatched)
    monkeypatch.setattr(train, "execute", lambda *_, **__: pytest.fail("ran again"))
    assert run_one(job, work, unwatched).status == "ok"
    with pytest.raises(BaseException, match="ran again"):
        run_one(job, replace(work, started="2999-01-01T00:00:00+00:00"), unwatched)  # an earlier run's is of no account


def test_other_code_and_other_data_are_refused(job, work):
    with pytest.raises(SpecError, match="the code differs from the driver's"):
        run_one(job, replace(work, code="0123456789abcdef"), unwatched)
    with pytest.raises(SpecError, match="data zoo differ from the driver's"):
        worker.check_data(replace(job.data, fingerprint="another"))
    worker.check_data(job.data)
    worker.check_code(worker.code_fingerprint())


def test_a_job_that_breaks_is_recorded_and_raised(job, work, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Checkpoints, "save_last", full)
    with pytest.raises(JobFailed, match="No space left on device"):
        run_one(job, work, unwatched)
    record = Store(work.folder).record(job.key)
    assert record is not None
    assert (record.status, record.error) == ("failed", "OSError: [Errno 28] No space left on device")


@pytest.mark.slow
def test_a_checkpoint_that_no_longer_fits_makes_no_failed_record_and_earlier_ones_stay(data_folder, tmp_path):
    """Files may not grow beyond what a record needs: as on a full disk, writing fails midway."""
    limit = 24 * 1024
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); from harness.run import app; app()"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    options = [f"--set={name}={value}" for name, value in SMALL.items()]
    arguments = ["--suite", "smoke", "--data", str(data_folder), "--results", str(tmp_path), "--only", "chance,vsepp"]
    command = [sys.executable, "-c", code, *arguments, *options, "--set", "settings.dim=32", "--timing-rounds", "0"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "file too large" in done.stderr
    assert "checkpoints" in done.stderr  # the job goes on when there is room
    records = {record.label: record for record in Store(tmp_path / "smoke-zoo").records()}
    assert {label: record.status for label, record in records.items()} == {"chance": "ok"}
    assert not list((tmp_path / "smoke-zoo").glob("**/.*.tmp"))


def test_a_place_that_nothing_can_open_is_refused():
    with pytest.raises(SpecError, match="--storage 'nowhere://here' cannot be opened"):
        opened("nowhere://here")


def test_what_is_gone_here_goes_there(tmp_path):
    shared = Shared((tmp_path / "far").as_uri(), "results")
    near = tmp_path / "near"
    (near / "a").mkdir(parents=True)
    (near / "a" / "one").write_text("1")
    shared.push(near, ["a/one", "a/none"])
    shared.fetch(tmp_path / "other", ["a/one", "a/none"])
    assert (tmp_path / "other" / "a" / "one").read_text() == "1"
    (near / "a" / "one").unlink()
    shared.push(near, ["a/one"])
    assert not (tmp_path / "far" / "results" / "a" / "one").exists()
    assert not list((tmp_path / "far").rglob("*.part"))


def test_a_lost_job_has_a_record_that_reads(job, tmp_path):
    store = Store(tmp_path)
    store.save(train.lost(job, "OutOfMemoryError: the node ran low on memory"))
    record = store.record(job.key)
    assert record is not None
    assert (record.status, record.label, record.error) == (
        "failed",
        "vsepp",
        "OutOfMemoryError: the node ran low on memory",
    )
