"""The door: what is asked for runs once and is kept, what cannot be is refused, a broken job harms no other."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from harness import ROOT, locks, parameters
from harness.learn import trainer
from harness.learn.checkpoint import Checkpoints
from harness.measure import scoring
from harness.record import SCHEMA, Record
from harness.run import app
from harness.spec import registry, suites
from harness.spec.ensembles import ENSEMBLES
from harness.store import Store

SMALL = ("--set", "settings.min_count=1", "--set", "settings.batch=13", "--set", "settings.dim=8", "--threads", "1")
BRIEF = ("--timing-rounds", "1", "--timing-budget", "0.2")
INTERRUPTIBLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from harness.run import app; app()"
)

pytestmark = pytest.mark.usefixtures("same_torch_after")


class Door:
    """The command line on a small folder of data, with results beside it."""

    def __init__(self, data: Path, results: Path) -> None:
        self.data, self.results = data, results
        self.store = Store(results / f"smoke-{data.name}")

    def arguments(self, *more: str) -> list[str]:
        where = ("--data", str(self.data), "--results", str(self.results))
        return ["--suite", "smoke", *where, "--only", "chance,vsepp", *BRIEF, *SMALL, *more]

    def __call__(self, *more: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, self.arguments(*more))
        assert result.exit_code == code, result.output + repr(result.exception)
        return result

    def refused(self, *more: str) -> str:
        """One line, exit 2."""
        message = self(*more, code=2).stderr
        assert message.startswith("error: ")
        assert message.count("\n") == 1
        return message.removeprefix("error: ").strip()

    def records(self) -> dict[str, Record]:
        return {record.label: record for record in self.store.records()}

    def written(self) -> dict[str, int]:
        """When each record, rank and cost file was written."""
        kinds = ("records", "ranks", "costs")
        return {str(p): p.stat().st_mtime_ns for kind in kinds for p in self.store.folder.glob(f"{kind}/*")}


@pytest.fixture
def door(data_folder: Path, tmp_path: Path) -> Door:
    return Door(data_folder, tmp_path / "results")


def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """VSE++ loses more than there are numbers for."""

    def losses(_: object, images: Any, *__: object) -> dict[str, torch.Tensor]:
        return {"hinge": images.embedding.sum() * torch.nan}

    monkeypatch.setattr("baselines.independent.vsepp.VSEpp.losses", losses)


# What there is -------------------------------------------------------------------------------------------------------


def test_the_list_names_every_row_and_suite():
    shown = CliRunner().invoke(app, ["--list"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    for label in registry.labels():
        assert label in shown.output
    assert all(suite in shown.output for suite in suites.SUITES)
    assert all(ensemble.name in shown.output for ensemble in ENSEMBLES)


def test_the_list_is_readable_at_80_columns():
    lines = CliRunner().invoke(app, ["--list", "--parameters"], env={"COLUMNS": "80"}).output.splitlines()
    assert max(map(len, lines)) <= 80
    methods = lines[: next(place for place, line in enumerate(lines) if line.startswith("Suites"))]
    listed = {words[0]: words[1] for line in methods if len(words := line.split()) > 1}
    counts = {label: parameters.counted(label) for label in ("chance", "vsepp", "vsepp+selfalign", "scan:t2i-lse")}
    assert {label: listed[label] for label in counts} == {label: f"{count:,}" for label, count in counts.items()}
    assert set(registry.labels()) <= set(listed)


@pytest.mark.parametrize("arguments", [["--list"], ["--dry-run", "--suite", "smoke"]], ids=["list", "dry-run"])
def test_what_only_shows_needs_no_torch(arguments, tmp_path):
    code = (
        "import sys; from harness.run import app; app(standalone_mode=False);"
        "sys.exit(bool({'torch', 'transformers', 'ray', 'pandas', 'scipy', 'matplotlib', 'PIL'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, *arguments, "--results", str(tmp_path / "results")]
    assert subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert not (tmp_path / "results").exists()


def test_a_run_that_finds_everything_recorded_needs_no_torch(door):
    door()
    before = door.written()
    code = (
        "import sys; from harness.run import app; app(standalone_mode=False);"
        "sys.exit(' '.join({'torch', 'transformers', 'ray', 'scipy.stats'} & set(sys.modules)) or 0)"
    )
    command = [sys.executable, "-c", code, *door.arguments()]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cached  2 of 2 jobs" in done.stdout
    assert "cached  timing of 2 rows" in done.stdout
    assert door.written() == before


def test_a_dry_run_says_what_would_run_and_writes_nothing(door):
    shown = door("--dry-run").output
    assert "vsepp seed 0" in shown
    assert "to run" in shown
    assert "cached" not in shown
    assert not door.results.exists()


# Running -------------------------------------------------------------------------------------------------------------


def test_a_run_leaves_records_ranks_costs_weights_tables_figures_and_a_page(door):
    shown = door().output
    assert "done    chance seed 0: test Rsum" in shown
    assert "done    vsepp seed 0: test Rsum" in shown
    assert "timed   2 rows, 1 round" in shown
    for label, record in door.records().items():
        assert (record.status, record.label, record.error) == ("ok", label, None)
        ranks, cost = door.store.ranks(record.key), door.store.cost(record.key)
        assert ranks is not None
        assert (len(ranks.i2t), len(ranks.t2i)) == (7, 14)
        assert cost is not None
        assert Checkpoints(door.store.checkpoints(record.key)).best.exists()
    assert set(door.records()) == {"chance", "vsepp"}
    assert {path.suffix for path in (door.store.folder / "tables").iterdir()} >= {".md", ".csv", ".tex"}
    assert {path.suffix for path in (door.store.folder / "figures").iterdir()} == {".svg", ".png"}
    assert (door.store.folder / "index.html").exists()


def test_a_selfalign_row_leaves_what_its_words_picked(door):
    door("--only", "vsepp,vsepp+selfalign")
    records = door.records()
    found = door.store.concepts(records["vsepp+selfalign"].key)
    assert found is not None
    assert len(found.captions) == 14
    assert door.store.concepts(records["vsepp"].key) is None


def test_a_second_run_does_nothing_and_says_so(door):
    door()
    before = door.written()
    shown = door().output
    assert "cached  2 of 2 jobs are recorded already" in shown
    assert "cached  timing of 2 rows" in shown
    assert "done" not in shown
    assert door.written() == before
    assert door("--dry-run").output.count("cached") == 2


def test_force_runs_again_and_finds_the_same(door):
    door()
    before = door.records(), door.written()
    shown = door("--force").output
    assert shown.count("done") == 2
    assert "recorded already" not in shown
    after = door.records(), door.written()
    assert after[1].keys() == before[1].keys()
    assert all(after[1][path] != before[1][path] for path in after[1] if "costs" not in path)
    for label, record in after[0].items():
        old = [{**epoch, "train_s": 0} for epoch in before[0][label].history]
        assert [{**epoch, "train_s": 0} for epoch in record.history] == old


def test_a_record_without_its_ranks_runs_again(door):
    door()
    door.store.ranks_path(door.records()["vsepp"].key).unlink()
    shown = door().output
    assert "cached  1 of 2" in shown
    assert "done    vsepp" in shown


def test_lost_weights_are_named_where_they_are_missed(door):
    door("--timing-rounds", "0")
    assert not list(door.store.folder.glob("costs/*"))
    Checkpoints(door.store.checkpoints(door.records()["vsepp"].key)).discard()
    assert "timed   1 row, 1 round; no weights for vsepp (--force trains again)" in door().output


def test_settings_and_seeds_of_the_command_line_reach_the_jobs(door):
    more = ("--seeds", "3,5", "--epochs", "1", "--train-images", "4", "--set", "settings.lr=0.002", "--only", "vsepp")
    door(*more, "--timing-rounds", "0")
    settings = [record.job["settings"] for record in door.store.records()]
    assert [(s["seed"], s["epochs"], s["lr"], s["batch"]) for s in settings] == [(3, 1, 0.002, 13), (5, 1, 0.002, 13)]
    assert {record.data["train"]["images"] for record in door.store.records()} == {4}


def test_other_settings_are_other_jobs(door):
    door("--timing-rounds", "0", "--only", "chance")
    door("--timing-rounds", "0", "--only", "chance", "--set", "settings.dim=16")
    assert len(door.store.records()) == 2


def test_a_score_budget_reaches_the_scorer_and_one_too_small_says_the_least_that_will_do(door, monkeypatch):
    monkeypatch.setattr(scoring, "PAIR_ARRAYS", 2**14)  # a pair of these few fragments then takes more than 1 MiB
    scan = ("--only", "scan:t2i-lse", "--epochs", "1", "--timing-rounds", "0")
    shown = door(*scan, "--score-memory", "1", code=1)
    found = re.search(r"the budget is 1 MiB: --score-memory (\d+) at least", door.records()["scan:t2i-lse"].error or "")
    assert found, shown.output
    assert int(found[1]) > 1
    door(*scan, "--score-memory", "1000")
    assert door.records()["scan:t2i-lse"].job["settings"]["score_memory_mib"] == 1000


def test_a_training_of_fewer_updates_than_looks_at_dev_has_one_after_each(door):
    door("--only", "vsepp", "--updates", "3")
    (record,) = door.records().values()
    assert (record.job["settings"]["updates"], len(record.history)) == (3, 3)


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--suite", "smok"], "unknown suite 'smok'; did you mean smoke?"),
        (["--only", "vsep"], "unknown method 'vsep'; did you mean vsepp"),
        (["--only", "saem*"], "'saem*' names no row of this suite; known: chance"),
        (["--only", ""], "--only is given, but empty"),
        (["--seeds", ""], "--seeds is given, but empty"),
        (["--only", "scan:t2i-lse+selfalign"], "SelfAlign cannot be put on scan: scores come from both sides together"),
        (["--suite", "paper"], "hyper-parameters were published for f30k and coco, not for zoo; --paper-of f30k"),
        (["--suite", "paper", "--paper-of", "coc"], "unknown --paper-of 'coc'; did you mean coco?"),
        (["--paper-of", "coco"], "--paper-of belongs to suite paper, not to smoke"),
        (["--only", "scan:t2i-avg"], "'scan:t2i-avg' names no row of this suite; did you mean scan:t2i-lse?"),
        (["--set", "settings.learning=1"], "settings has no field 'learning'"),
        (["--set", "setings.lr=1"], "unknown setting 'setings.lr'; did you mean settings.lr"),
        (["--set", "settings.lr"], "--set takes path=value, got 'settings.lr'"),
        (["--set", "settings.lr=fast"], "settings.lr must be float like"),
        (["--set", "settings.lr=NaN"], "settings.lr must be"),
        (["--set", "settings.lr=Infinity"], "settings.lr must be"),
        (["--set", "settings.margin=NaN"], "settings.margin must be"),
        (["--set", "settings.clip=-1.0"], "settings.clip must be"),
        (["--set", "settings.epochs=0"], "settings.epochs must be at least 1, got 0"),
        (["--set", "data.ranked=tset"], "data.ranked must be one of train, dev, test, got 'tset'"),
        (["--set", "data.train_images=-1"], "data.train_images must be from 0 to 1000000000, got -1"),
        (["--seeds", "one"], "--seeds takes whole numbers such as 0,1,2, got 'one'"),
        (["--seeds", "0,0"], "--seeds must be different, got '0,0'"),
        (["--data", "scen"], "no data 'scen': not a folder; did you mean scenes?"),
        (["--data", "/no/such/folder"], "/no/such/folder: no such folder"),
        (["--device", "tpu"], "unknown device 'tpu'; known: cpu, cuda, cuda:N"),
        (["--device", "mps"], "device 'mps' is not supported; known: cpu, cuda, cuda:N"),
        (["--device", "cuda:99"], "device 'cuda:99' is not here: torch"),
        (["--set", "settings.text_model=/no/such/model"], "text model /no/such/model"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(door, arguments, says):
    assert says in door.refused(*arguments)
    assert door.written() == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused_in_one_line(door):
    assert (
        door.refused("--device", "cuda") == f"device 'cuda' is not here: torch {torch.__version__} sees 0 CUDA devices"
    )
    assert door.written() == {}


def nan_features(folder: Path) -> None:
    features = np.load(folder / "train_ims.npy")
    features[3, 1, 2:4] = np.nan
    np.save(folder / "train_ims.npy", features)


def one_caption_less(folder: Path) -> None:
    path = folder / "test_caps.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def truncated(folder: Path) -> None:
    path = folder / "train_ims.npy"
    path.write_bytes(path.read_bytes()[:-50])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "dev_caps.txt").unlink(), "dev_caps.txt: no such file"),
        (lambda folder: (folder / "dev_ims.npy").unlink(), "dev_ims.npy: no such file"),
        (one_caption_less, "captions do not spread evenly over 7 images (13 captions, 7 feature rows, no ids)"),
        (nan_features, "2 features are not finite, first in row 3 (image train-3)"),
        (truncated, "train_ims.npy: truncated or damaged"),
        (
            lambda folder: np.save(folder / "train_ims.npy", np.ones((13, 3, 2, 2), np.float32)),
            "features have shape (13, 3, 2, 2)",
        ),
        (lambda folder: np.save(folder / "train_ims.npy", np.ones((13, 3, 11), int)), "features are int64"),
    ],
    ids=["captions", "features", "count", "nan", "truncated", "shape", "dtype"],
)
def test_bad_data_are_refused_in_one_line_and_leave_no_record(door, spoil, says):
    spoil(door.data)
    assert says in door.refused()
    assert door.written() == {}


def spoil_late(door: Door) -> None:
    """That a number is beyond float32 is found as it is read."""
    features = np.random.default_rng(0).standard_normal((97, 3, 11))
    features[50, 0, 0] = 1e300
    for name in ("boxes", "img_sizes", "counts"):
        (door.data / f"train_{name}.npy").unlink()
    np.save(door.data / "train_ims.npy", features)
    (door.data / "train_caps.txt").write_text("an ant\n" * 97)


def test_a_results_folder_of_refused_data_alone_does_not_stay(door):
    spoil_late(door)
    assert "feature row 50" in door.refused("--set", "data.train_images=0", "--only", "vsepp")
    assert not door.results.exists()


def test_a_run_says_from_where_it_goes_on(door, monkeypatch):
    parts = trainer._part

    def interrupted(*arguments):
        if len(arguments[5]) == 2:  # of the history
            raise KeyboardInterrupt
        return parts(*arguments)

    monkeypatch.setattr(trainer, "_part", interrupted)
    length = ("--only", "vsepp", "--epochs", "3", "--timing-rounds", "0")
    assert "resumed" not in door(*length, code=130).output
    monkeypatch.undo()
    said = door(*length).output
    assert "resumed vsepp seed 0: epoch 2 of 3 was its last" in said
    assert said.count("resumed") == 1


def test_a_run_removes_what_a_killed_one_was_writing(door):
    left = [door.store.folder / place / f".a.{10**30}.tmp" for place in ("", "records", "checkpoints/0123", "tables")]
    left += [door.store.folder / place / locks.NAME for place in ("", "checkpoints/0123")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    door("--timing-rounds", "0")
    assert [path for path in left if path.exists()] == []


def test_bad_features_found_late_leave_no_record_of_that_job(door):
    spoil_late(door)
    says = f"{door.data / 'train_ims.npy'}: 1 features are beyond float32 in this batch, first in feature row 50"
    assert door.refused("--set", "data.train_images=0") == says
    assert set(door.records()) == {"chance"}  # which reads no training images


@pytest.mark.parametrize("place", ["results", "suite", "records"])
def test_a_place_that_cannot_be_written_is_refused_in_one_line(door, place):
    """Something else lies where a folder should be."""
    path = {"results": door.results, "suite": door.store.folder, "records": door.store.folder / "records"}[place]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("no folder")
    assert str(path.name) in door.refused()
    assert path.read_text() == "no folder"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda stored: {**stored, "schema": SCHEMA + 1}, "update the harness"),
        (lambda stored: {**stored, "colour": "red"}, "unknown or missing fields: colour"),
    ],
    ids=["newer", "unknown"],
)
def test_a_record_that_cannot_be_trusted_is_refused(door, change, says):
    door("--only", "chance", "--timing-rounds", "0")
    path = door.store.record_path(door.records()["chance"].key)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    for more in ((), ("--dry-run",)):
        message = door.refused(*more)
        assert f"records/{path.name}" in message
        assert says in message


def test_two_runs_do_not_share_a_folder(door):
    door.store.folder.mkdir(parents=True)
    holder = (
        "import sys; from filelock import FileLock;"
        "lock = FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", holder, str(door.store.folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert door.refused() == f"another run is writing to {door.store.folder}"
        other.communicate("\n")
    door("--only", "chance", "--timing-rounds", "0")
    assert not (door.store.folder / ".lock").exists()


def test_captions_without_a_word_are_said(door):
    (door.data / "test_caps.txt").write_text("...\n" * 14)
    assert "; 14 captions without a word" in door("--only", "vsepp", "--timing-rounds", "0").output


# Jobs that fail ------------------------------------------------------------------------------------------------------


def test_a_job_that_fails_is_recorded_and_the_others_go_on(door, monkeypatch):
    with monkeypatch.context() as patch:
        broken(patch)
        shown = door("--only", "vsepp,vsepp+selfalign,chance", "--suite", "smoke", code=1)
    found = door.records()
    assert {label: record.status for label, record in found.items()} == {
        "chance": "ok",
        "vsepp": "failed",
        "vsepp+selfalign": "ok",
    }
    assert found["vsepp"].error == "NonFiniteLoss: loss term hinge is nan at epoch 1, step 1"
    assert "failed  vsepp seed 0: NonFiniteLoss: loss term hinge is nan at epoch 1, step 1" in shown.output
    assert "timed   2 rows" in shown.output
    assert "cached  1 of 2" in door().output  # the one that failed runs again
    assert door.records()["vsepp"].status == "ok"


def test_a_rate_that_blows_up_is_a_failed_job(door):
    door("--set", "settings.lr=1e38", "--set", "settings.clip=0.0", "--only", "vsepp", code=1)
    record = door.records()["vsepp"]
    assert record.status == "failed"
    assert record.error is not None
    assert "\n" not in record.error


def test_what_an_error_says_is_shown_as_it_is(door, monkeypatch):
    def losses(*_: object) -> dict[str, torch.Tensor]:
        raise RuntimeError("no [bold]such[/bold] thing [/]")

    monkeypatch.setattr("baselines.independent.vsepp.VSEpp.losses", losses)
    assert (
        "failed  vsepp seed 0: RuntimeError: no [bold]such[/bold] thing [/]" in door("--only", "vsepp", code=1).output
    )


def test_ranks_of_an_earlier_run_do_not_stay_with_a_failed_record(door, monkeypatch):
    door("--timing-rounds", "0")
    broken(monkeypatch)
    door("--timing-rounds", "0", "--force", code=1)
    assert door.records()["vsepp"].status == "failed"
    assert door.store.ranks(door.records()["vsepp"].key) is None


# Cut short -----------------------------------------------------------------------------------------------------------


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_keeps_what_is_finished(door, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("baselines.independent.vsepp.VSEpp.losses", interrupted)
        shown = door(code=130)
    assert shown.stderr == "interrupted: finished records are kept; the same command goes on from the last epoch\n"
    assert {label: record.status for label, record in door.records().items()} == {"chance": "ok"}
    assert "cached  1 of 2" in door().output


def test_force_starts_anew_where_a_checkpoint_is_of_no_use(door, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("harness.learn.checkpoint.Checkpoints.load_best", interrupted)  # all epochs are over by then
        door("--only", "vsepp", code=130)
    (last,) = door.store.folder.glob("checkpoints/*/last.pt")
    last.write_bytes(b"damaged")
    door("--only", "vsepp", code=1)
    assert "last.pt" in str(door.records()["vsepp"].error)
    door("--only", "vsepp", "--force")
    assert door.records()["vsepp"].status == "ok"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")], ids=["ctrl-c", "sigterm"]
)
def test_ending_a_process_leaves_valid_records_and_a_way_on(door, sent, said):
    command = [sys.executable, "-c", INTERRUPTIBLE, *door.arguments("--epochs", "100000")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while (
            not list(door.store.folder.glob("checkpoints/*/last.pt"))
            and process.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        os.kill(process.pid, sent)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 128 + sent
    assert complaint == f"{said}: finished records are kept; the same command goes on from the last epoch\n"
    assert {label: record.status for label, record in door.records().items()} == {"chance": "ok"}
    (last,) = door.store.folder.glob("checkpoints/*/last.pt")
    state = Checkpoints(last.parent).load_last("cpu")
    assert state is not None
    assert len(state["history"]) >= 1
    assert not list(door.store.folder.glob("**/.*"))  # neither half a file nor a lock
    shown = door("--epochs", "100000", "--dry-run").output
    assert (shown.count("cached"), shown.count("to run")) == (1, 1 + 1)  # a row of the table, and the sum below it
