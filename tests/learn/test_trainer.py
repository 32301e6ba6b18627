"""The one training loop: its schedule, the epoch it keeps, and that a run cut short ends with the same numbers."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from torch import nn

from harness import ROOT
from harness.atomic import Unwritable
from harness.data.prepared import Prepared, prepare
from harness.learn import trainer
from harness.learn.build import build
from harness.learn.checkpoint import CheckpointError, Checkpoints
from harness.learn.schedule import Plan
from harness.learn.trainer import NonFiniteLoss, fit
from harness.phases import train
from harness.progress import Progress
from harness.protocol import Retriever
from harness.record import Ranks, Record
from harness.spec import registry
from harness.spec.job import Data, Job, Settings
from harness.spec.override import override
from harness.store import Store

SETTINGS = Settings(epochs=4, batch=8, dim=8, word_dim=7, min_count=1, lr=5e-3)  # 26 captions: 3 steps an epoch
STEPS = 3

pytestmark = pytest.mark.usefixtures("same_torch_after")


class Killed(BaseException):
    """As abrupt as Ctrl-C: nothing in the harness may catch it."""


class WithDropout(nn.Module):
    """Word states that draw from the random stream in training."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.width = 7
        self.table = nn.Embedding(words, self.width)
        self.dropout = nn.Dropout(0.3)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.table(tokens)) * mask[..., None]


def job_of(folder: Path, label: str = "vsrn+selfalign", **settings: Any) -> Job:
    job = Job(Data(name="zoo", path=str(folder)), registry.model(label), replace(SETTINGS, **settings))
    return override(job, {"selfalign.prototypes": 11} if label.endswith("+selfalign") else {})


def with_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every job reads words through `WithDropout`."""

    def load(job: Job, data: Prepared) -> Retriever:
        inputs = replace(data.inputs(job.settings), token_states=lambda: WithDropout(data.vocabulary_size))
        return build(job.model, inputs, job.settings.seed)

    monkeypatch.setattr(train, "load_model", load)


def killer(epoch: int, step: int) -> Callable[[Progress], None]:
    """A watch that kills after this step (both 1-based) of training."""

    def watch(progress: Progress) -> None:
        if progress.stage == "train" and (progress.epoch + 1, progress.done) == (epoch, step):
            raise Killed

    return watch


def outcome(store: Store, job: Job) -> tuple[list[dict[str, Any]], int | None, dict[str, list[Any]]]:
    """All that must not depend on interruptions."""
    record, ranks = store.record(job.key), store.ranks(job.key)
    assert record is not None
    assert ranks is not None
    history = [{name: value for name, value in epoch.items() if name != "train_s"} for epoch in record.history]
    arrays = {name: value.tolist() for name, value in vars(ranks).items() if isinstance(value, np.ndarray)}
    return history, record.best_epoch, arrays


@dataclass
class Scripted:
    """A dev Rsum that is what the test says, epoch by epoch."""

    rsums: list[float]
    asked: int = 0

    def __call__(self) -> float:
        self.asked += 1
        return self.rsums[self.asked - 1]


def ready(folder: Path, **settings: Any) -> tuple[Retriever, Prepared, Settings]:
    job = job_of(folder, "vsepp", **settings)
    data = prepare(job.data, job.settings)
    return build(job.model, data.inputs(job.settings), 0), data, job.settings


# Schedule ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"lr_drop": 0.1, "drop_every": 2}, {"schedule": "cosine"}])
def test_the_rate_of_the_schedule_is_the_one_used(data_folder, tmp_path, monkeypatch, changes):
    used: list[float] = []

    class Spy(torch.optim.Adam):
        def step(self, closure: Any = None) -> None:
            used.extend(group["lr"] for group in self.param_groups)
            super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    model, data, settings = ready(data_folder, **changes)
    found = fit(model, data.train, lambda: 0.0, settings, Checkpoints(tmp_path / "c"))
    assert used == [Plan(settings, STEPS).rate(update) for update in range(4 * STEPS)]
    assert len(set(used)) > 1
    last = [(epoch, (epoch + 1) * STEPS, used[(epoch + 1) * STEPS - 1]) for epoch in range(4)]
    assert [(epoch["epoch"], epoch["updates"], epoch["lr"]) for epoch in found.history] == last


def test_a_length_in_updates_is_looked_at_in_equal_parts(data_folder, tmp_path):
    model, data, settings = ready(data_folder, updates=11, parts=4)
    seen: list[Progress] = []
    found = fit(model, data.train, Scripted([1.0, 2.0, 4.0, 3.0]), settings, Checkpoints(tmp_path / "c"), seen.append)
    assert [entry["updates"] for entry in found.history] == [2, 5, 8, 11]
    assert found.best_epoch == 2
    trained = [(p.epoch, p.done, p.total, p.epochs, p.unit) for p in seen if p.stage == "train"]
    assert trained == [(part, n + 1, of, 4, "part") for part, of in enumerate((2, 3, 3, 3)) for n in range(of)]


def test_a_run_that_collapses_is_stopped_and_says_so(data_folder, tmp_path):
    rsums = [100.0, 60.0, 50.0, 49.9]
    model, data, settings = ready(data_folder, epochs=6, stop_below=0.5)
    checkpoints = Checkpoints(tmp_path / "c")
    found = fit(model, data.train, Scripted(rsums), settings, checkpoints)
    assert [entry["dev_rsum"] for entry in found.history] == rsums
    assert [entry.get("stopped") for entry in found.history[-2:]] == [
        None,
        "dev Rsum 49.9 is less than 0.5 times the best, 100.0",
    ]
    assert found.best_epoch == 0
    again = Scripted([])  # killed before its record was written: it does not go on
    assert fit(model, data.train, again, settings, checkpoints) == found
    assert not again.asked


def test_without_the_rule_a_run_that_collapses_goes_on(data_folder, tmp_path):
    model, data, settings = ready(data_folder)
    found = fit(model, data.train, Scripted([100.0, 1.0, 0.0, 0.0]), settings, Checkpoints(tmp_path / "c"))
    assert len(found.history) == 4
    assert not any("stopped" in entry for entry in found.history)


def test_gradients_are_clipped_to_the_norm_of_the_settings(data_folder, tmp_path, monkeypatch):
    norms: list[float] = []

    class Spy(torch.optim.Adam):
        def step(self, closure: Any = None) -> None:  # noqa: ARG002
            gradients = [p.grad for group in self.param_groups for p in group["params"]]
            norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    for clip in (0.5, 0.0):
        model, data, settings = ready(data_folder, clip=clip, epochs=1)
        history = fit(model, data.train, lambda: 0.0, settings, Checkpoints(tmp_path / str(clip))).history
        if clip:
            assert max(norms) <= clip * 1.001
            assert history[0]["gradient_norm"] > clip  # before clipping
            norms.clear()
        else:
            assert history[0]["gradient_norm"] == pytest.approx(np.mean(norms))


def test_every_epoch_trains_in_training_mode(data_folder, tmp_path):
    model, data, settings = ready(data_folder, epochs=2)
    modes: list[bool] = []
    model.eval()
    fit(
        model,
        data.train,
        lambda: float(not model.eval()),
        settings,
        Checkpoints(tmp_path / "c"),
        lambda progress: modes.append(model.training) if progress.stage == "train" else None,
    )
    assert modes == [True] * STEPS * 2


def test_progress_counts_steps_and_epochs(data_folder, tmp_path):
    model, data, settings = ready(data_folder, epochs=2)
    seen: list[Progress] = []
    fit(model, data.train, Scripted([7.0, 9.0]), settings, Checkpoints(tmp_path / "c"), seen.append)
    steps, epochs = ([p for p in seen if p.stage == stage] for stage in ("train", "epoch"))
    assert [(p.epoch, p.done, p.total) for p in steps] == [(e, s + 1, STEPS) for e in range(2) for s in range(STEPS)]
    assert [p.rsum for p in steps] == [None] * STEPS + [7.0] * STEPS
    assert [(p.epoch, p.rsum) for p in epochs] == [(0, 7.0), (1, 9.0)]


# The epoch that is kept ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rsums", "best"), [([1, 3, 2, 0], 1), ([5, 5, 5, 5], 0), ([1, 2, 4, 4], 2), ([0, 1, 2, 3], 3)]
)
def test_the_first_of_the_best_epochs_is_kept(data_folder, tmp_path, rsums, best):
    model, data, settings = ready(data_folder)
    weights: list[torch.Tensor] = []
    script = Scripted([float(rsum) for rsum in rsums])

    def dev_rsum() -> float:
        weights.append(model.state_dict()["regions.linear.weight"].clone())
        return script()

    found = fit(model, data.train, dev_rsum, settings, Checkpoints(tmp_path / "c"))
    assert found.best_epoch == best
    assert torch.equal(model.state_dict()["regions.linear.weight"], weights[best])
    assert not torch.equal(weights[0], weights[1])


def test_a_method_that_learns_nothing_is_not_trained(data_folder, tmp_path):
    job = job_of(data_folder, "chance")
    store = Store(tmp_path / "r")
    record = train.execute(job, store)
    assert (record.status, record.best_epoch, record.history, record.parameters) == ("ok", None, [], 0)
    assert Checkpoints(store.checkpoints(job.key)).best.exists()


# Cut short and gone on with ------------------------------------------------------------------------------------------


IN_UPDATES = {"updates": 13, "parts": 4, "schedule": "cosine", "warmup_updates": 5, "train_share": 0.9}


@pytest.mark.parametrize(
    ("place", "changes"), [((1, 2), {}), ((2, 1), {}), ((3, STEPS), {}), ((4, 2), {}), ((3, 2), IN_UPDATES)]
)
def test_a_killed_run_ends_with_the_same_numbers(data_folder, tmp_path, monkeypatch, place, changes):
    with_dropout(monkeypatch)  # and batch normalisation is in the model
    job = job_of(data_folder, **changes)
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    train.execute(job, whole)
    with pytest.raises(Killed):
        train.execute(job, cut, killer(*place))
    assert cut.record(job.key) is None
    torch.manual_seed(12345)  # another process is in another state
    seen: list[Progress] = []
    train.execute(job, cut, seen.append)
    assert seen[0].epoch == place[0] - 1  # finished epochs are not done again
    assert outcome(cut, job) == outcome(whole, job)
    assert len({epoch["dev_rsum"] for epoch in outcome(whole, job)[0]}) > 1  # there is something to compare


def test_a_run_killed_after_its_last_epoch_only_evaluates(data_folder, tmp_path, monkeypatch):
    job = job_of(data_folder)
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    train.execute(job, whole)
    with monkeypatch.context() as patch:
        patch.setattr(cut, "save", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            train.execute(job, cut)
    seen: list[Progress] = []
    train.execute(job, cut, seen.append)
    assert not [progress for progress in seen if progress.stage == "train"]
    assert outcome(cut, job) == outcome(whole, job)


def test_two_interruptions_are_as_good_as_none(data_folder, tmp_path):
    job = job_of(data_folder)
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    train.execute(job, whole)
    for place in ((2, 2), (4, 1)):
        with pytest.raises(Killed):
            train.execute(job, cut, killer(*place))
    train.execute(job, cut)
    assert outcome(cut, job) == outcome(whole, job)


@pytest.mark.slow
def test_a_process_killed_by_the_system_can_go_on(data_folder, tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from harness.phases.train import execute;"
        "from harness.store import Store; from harness.spec import registry; from harness.spec.job import *;"
        f"data, settings = Data(name='zoo', path={str(data_folder)!r}), Settings(**{vars(SETTINGS)!r});"
        "job = Job(data, registry.model('vsrn'), settings);"
        "execute(job, Store(Path(sys.argv[1])), lambda p: time.sleep(0.2))"
    )
    job = job_of(data_folder, "vsrn")
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    train.execute(job, whole)
    last = Checkpoints(cut.checkpoints(job.key)).last
    with subprocess.Popen([sys.executable, "-c", code, str(cut.folder)], cwd=ROOT) as process:
        deadline = time.monotonic() + 120
        while not last.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)  # into the next epoch
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert cut.record(job.key) is None
    train.execute(job, cut)
    assert outcome(cut, job) == outcome(whole, job)


# A loss that is no number --------------------------------------------------------------------------------------------


def spoilt(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """From update `step` (1-based, over all epochs) on the second of two terms is NaN."""
    real, count = trainer.total, [0]

    def total(losses: dict[str, torch.Tensor], where: str) -> torch.Tensor:
        count[0] += 1
        extra = torch.tensor(torch.nan if count[0] >= step else 0.0)
        return real({**losses, "extra": extra}, where)

    monkeypatch.setattr(trainer, "total", total)


def test_a_loss_that_is_no_number_names_epoch_step_and_term(data_folder, tmp_path, monkeypatch):
    model, data, settings = ready(data_folder)
    spoilt(monkeypatch, STEPS + 2)
    with pytest.raises(NonFiniteLoss, match=r"^loss term extra is nan at epoch 2, step 2$"):
        fit(model, data.train, lambda: 0.0, settings, Checkpoints(tmp_path / "c"))


def test_a_gradient_that_is_no_number_is_no_update(data_folder, tmp_path, monkeypatch):
    model, data, settings = ready(data_folder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setattr(
        trainer, "total", lambda losses, _: (losses["hinge"] * 0).sqrt() + losses["hinge"]
    )  # slope: inf * 0
    with pytest.raises(NonFiniteLoss, match=r"^the gradient norm is nan at epoch 1, step 1$"):
        fit(model, data.train, lambda: 0.0, settings, Checkpoints(tmp_path / "c"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_job_that_breaks_leaves_a_record_that_says_how(data_folder, tmp_path, monkeypatch):
    spoilt(monkeypatch, 2)
    job, store = job_of(data_folder), Store(tmp_path / "r")
    record = train.execute(job, store)
    assert (record.status, record.error) == ("failed", "NonFiniteLoss: loss term extra is nan at epoch 1, step 2")
    assert store.record(job.key) == record
    assert store.ranks(job.key) is None
    assert (record.label, record.job["settings"]["lr"]) == ("vsrn+selfalign", 5e-3)


def test_scores_that_are_no_numbers_leave_a_record_too(data_folder, tmp_path, monkeypatch):
    job, store = job_of(data_folder, "vsepp"), Store(tmp_path / "r")
    monkeypatch.setattr(
        "models.retrievers.Independent.similarity", lambda _, i, t: torch.full((len(i), len(t)), torch.nan)
    )
    monkeypatch.setattr("models.retrievers.Ranked.losses", lambda _, i, t, __: {"x": (i.embedding + t.embedding).sum()})
    record = train.execute(job, store)
    assert record.status == "failed"
    assert record.error == "ScoreError: VSEpp, images 0 to 5, captions 0 to 10: 50 of 50 scores are not finite"


# Files ---------------------------------------------------------------------------------------------------------------


def test_a_crash_while_saving_leaves_the_old_file(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_last({"epoch": 1, "weights": torch.ones(3)})

    def half(_: object, file: BinaryIO) -> None:
        file.write(b"half a file")
        raise Killed

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(Killed):
        checkpoints.save_last({"epoch": 2, "weights": torch.ones(3)})
    state = checkpoints.load_last("cpu")
    assert state is not None
    assert state["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def with_no_room(call: Callable[[], object]) -> None:
    """No file of this process grows beyond some bytes meanwhile, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1009, hard))
    try:
        call()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_weights_that_find_no_room_name_their_file_and_leave_the_old_one(tmp_path):
    checkpoints, small = Checkpoints(tmp_path), nn.Linear(3, 2)
    checkpoints.save_best(small)
    with pytest.raises(Unwritable, match=r"File too large: '.*best\.safetensors'"):
        with_no_room(lambda: checkpoints.save_best(nn.Linear(97, 89)))
    with pytest.raises(Unwritable, match=r"File too large: '.*last\.pt'"):
        with_no_room(lambda: checkpoints.save_last({"weights": torch.ones(9973)}))
    checkpoints.load_best(small)
    assert [path.name for path in tmp_path.iterdir()] == ["best.safetensors"]


def test_a_job_that_finds_no_room_is_no_failed_one_and_goes_on_when_there_is(data_folder, tmp_path):
    job, store = job_of(data_folder, "vsepp"), Store(tmp_path / "r")
    with pytest.raises(Unwritable, match=r"best\.safetensors"):
        with_no_room(lambda: train.execute(job, store))
    assert store.record(job.key) is None
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []
    assert train.execute(job, store).status == "ok"


def test_what_is_left_after_success_is_the_best_weights(data_folder, tmp_path):
    job, store = job_of(data_folder, "vsepp"), Store(tmp_path / "r")
    train.execute(job, store)
    kept = sorted(path.name for path in store.checkpoints(job.key).iterdir())
    assert kept == ["best.safetensors", "vocabulary.npz"]


def test_a_vocabulary_comes_back_as_it_was(tmp_path):
    checkpoints, captions = Checkpoints(tmp_path), np.array([[1, 70_000, 2], [1, 2, 0]], np.int32)
    for words in ((), ("<pad>", "ant", "\u4e00", "don't")):
        checkpoints.save_vocabulary(words, captions)
        found = checkpoints.load_vocabulary()
        assert found[0] == words
        assert found[1].dtype == np.int32
        np.testing.assert_array_equal(found[1], captions)


def test_a_checkpoint_holds_no_code(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    torch.save({"model": print}, checkpoints.last)
    with pytest.raises(CheckpointError, match=r"^last.pt of .* cannot be read"):
        checkpoints.load_last("cpu")


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all"])
def test_damaged_files_are_refused(tmp_path, content):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.last.write_bytes(content)
    checkpoints.best.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"^last.pt of"):
        checkpoints.load_last("cpu")
    with pytest.raises(CheckpointError, match=r"^best.safetensors of"):
        checkpoints.load_best(nn.Linear(3, 2))


def test_weights_of_another_model_are_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best(nn.Linear(3, 2))
    with pytest.raises(CheckpointError, match="size mismatch"):
        checkpoints.load_best(nn.Linear(5, 2))
    with pytest.raises(CheckpointError, match=r"No such file|cannot be used"):
        Checkpoints(tmp_path / "nowhere").load_best(nn.Linear(3, 2))


def test_nothing_to_go_on_from_is_no_error(tmp_path):
    assert Checkpoints(tmp_path).load_last("cpu") is None
    Checkpoints(tmp_path).finish()
    Checkpoints(tmp_path / "nowhere").discard()


def test_records_of_a_run_say_what_it_was_run_on(data_folder, tmp_path):
    job, store = job_of(data_folder, "vsepp"), Store(tmp_path / "r")
    record: Record = train.execute(job, store)
    assert record.data["train"] | {"notes": []} == {
        "images": 13,
        "captions": 26,
        "regions": 3,
        "dim": 11,
        "fold_images": 0,
        "captions_cut": 0,
        "captions_without_words": 0,
        "words_at_most": 60,
        "unknown_words": 0.0,
        "notes": [],
    }
    ranks = store.ranks(job.key)
    assert isinstance(ranks, Ranks)
    assert (len(ranks.i2t), len(ranks.t2i)) == (7, 14)
    assert set(record.seconds) == {"train", "encode_images", "encode_texts", "score", "rank"}
    assert str(data_folder) not in record.to_json()
