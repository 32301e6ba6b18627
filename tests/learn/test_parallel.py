"""Two processes take the steps of one that has the whole batch; what goes wrong in one is told, and none hangs."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from harness.data.prepared import prepare, update_batches
from harness.learn import processes
from harness.learn.build import build
from harness.learn.checkpoint import Checkpoints
from harness.learn.parallel import ALONE, Alone, ProcessLost, Together, check
from harness.learn.trainer import train_step
from harness.phases.train import execute
from harness.progress import Watch, unwatched
from harness.run import app
from harness.spec import registry
from harness.spec.job import Data, Job, Settings, SpecError
from harness.store import Store

SETTINGS = Settings(epochs=2, batch=9, dim=8, word_dim=7, min_count=1, lr=5e-3, threads=1)  # 5 pairs and 4
STEPS = 3
# hinge alone; batch norm, a captioner and losses over all fragments; scores of pairs; losses of their own
ROWS = ("vsepp", "vsrn+selfalign", "scan:t2i-lse", "naaf", "two_stage")

pytestmark = pytest.mark.usefixtures("same_torch_after")


def job_of(data: Path, label: str) -> Job:
    return Job(Data(name="zoo", path=str(data)), registry.model(label), SETTINGS)


def steps(data: Path, label: str, team: Alone) -> dict[str, Tensor]:
    """Losses of a few plain steps of gradient descent, in double precision, and the weights they end with."""
    job = job_of(data, label)
    found = prepare(job.data, SETTINGS)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = build(job.model, found.inputs(SETTINGS), 0).double().train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        told = []
        for batch in update_batches(found.train, SETTINGS.batch, 0, 0, STEPS, model.needs):
            fragments = batch.images.fragments.double()
            batch = replace(batch, images=replace(batch.images, fragments=fragments))
            told.append(train_step(model, batch, optimizer, SETTINGS, "here", team))
    finally:
        torch.set_default_dtype(usual)
    losses = {f"loss {name}": torch.tensor([step[name] for step in told]) for name in told[0]}
    return losses | dict(model.state_dict())


def stored(data: Path, place: Path, team: Together, watch: Watch) -> None:  # noqa: ARG001
    """What a process of the group does: the steps of every row, kept of each process."""
    torch.set_num_threads(1)
    torch.save({label: steps(data, label, team) for label in ROWS}, place / f"{team.rank}.pt")


def test_two_processes_take_the_steps_of_one_with_the_whole_batch(data_folder, tmp_path):
    processes.run(partial(stored, data_folder, tmp_path), 2, "cpu", unwatched)
    both = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for label in ROWS:
        alone = steps(data_folder, label, ALONE)
        for found in both:
            assert found[label].keys() == alone.keys()
            for name, value in alone.items():
                torch.testing.assert_close(found[label][name], value, rtol=1e-7, atol=1e-9, msg=f"{label} {name}")


def test_a_job_of_two_processes_ends_as_it_does_in_one(data_folder, tmp_path):
    job = job_of(data_folder, "scan:t2i-lse")
    seen = []
    one, two = (Store(tmp_path / name) for name in ("one", "two"))
    alone, shared = execute(job, one), execute(job, two, seen.append, processes=2)
    assert (alone.status, shared.status) == ("ok", "ok")
    assert shared.provenance["processes"] == 2
    assert shared.best_epoch == alone.best_epoch
    for ours, theirs in zip(shared.history, alone.history, strict=True):
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-5)
        assert ours["dev_rsum"] == theirs["dev_rsum"]
    ranks = [store.ranks(job.key) for store in (one, two)]
    assert ranks[0] is not None
    assert ranks[1] is not None
    np.testing.assert_array_equal(ranks[1].i2t, ranks[0].i2t)
    np.testing.assert_array_equal(ranks[1].t2i, ranks[0].t2i)
    assert [p.epoch for p in seen if p.stage == "epoch"] == [0, 1]
    assert not Checkpoints(two.checkpoints(job.key)).last.exists()


def breaking(how: str, team: Together, watch: Watch) -> None:  # noqa: ARG001
    """The second process ends while the first waits for it."""
    if team.rank == 1 and how == "raises":
        raise SpecError("this cannot be")
    if team.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    team.wait()


@pytest.mark.parametrize(
    ("how", "kind", "says"),
    [
        ("raises", SpecError, "^this cannot be$"),
        ("is killed", ProcessLost, "^a process of the group was ended by SIGKILL$"),
    ],
)
def test_what_ends_one_process_ends_all_and_is_told(how, kind, says):
    with pytest.raises(kind, match=says):
        processes.run(partial(breaking, how), 2, "cpu", unwatched)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--workers", "2"), "--processes train one row after the other, --workers several at a time: choose one"),
        (("--suite", "tune"), "suite tune runs its trials side by side: leave --processes out"),
    ],
)
def test_processes_are_of_rows_that_run_in_turn(more, says, data_folder, tmp_path):
    words = ["--data", str(data_folder), "--only", "vsepp", "--results", str(tmp_path / "none"), "--processes", "2"]
    result = CliRunner().invoke(app, [*words, *more])
    assert (result.exit_code, result.stderr.strip()) == (2, f"error: {says}")
    assert not (tmp_path / "none").exists()


def test_a_model_with_batch_statistics_of_another_kind_is_refused():
    check(nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.1)))
    with pytest.raises(SpecError, match="normalises by statistics of its batch in 1, a BatchNorm1d"):
        check(nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)))
