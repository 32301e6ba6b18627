"""`--suite tune` from the command line on a tiny folder: estimate, trials, value, and the suite that reads it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from harness import tuned
from harness.run import app
from harness.schedule import dispatch
from harness.store import Store

SMALL = ("--set", "settings.min_count=1", "--set", "settings.batch=13", "--set", "settings.dim=8", "--threads", "1")
BUDGET = ("--trials", "2", "--updates", "10")

pytestmark = pytest.mark.usefixtures("same_torch_after")


class Door:
    def __init__(self, data: Path, results: Path) -> None:
        self.data, self.results = data, results
        self.trials = Store(results / "tune-zoo")

    def __call__(self, suite: str, *more: str, code: int = 0, data: Path | None = None) -> Result:
        where = ("--data", str(data or self.data), "--results", str(self.results), "--workers", "0")
        arguments = ["--suite", suite, *where, "--timing-rounds", "0", *SMALL, *more]
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
        assert result.exit_code == code, result.output + repr(result.exception)
        return result

    def tune(self, *more: str, code: int = 0) -> Result:
        return self("tune", "--only", "vsepp", *BUDGET, *more, code=code)

    @property
    def value(self) -> Path:
        (path,) = (self.results / "tuned").glob("*.json")
        return path

    def refused(self, suite: str, *more: str) -> str:
        message = self(suite, *more, code=2).stderr
        assert message.count("\n") == 1
        return message.removeprefix("error: ").strip()


@pytest.fixture
def door(data_folder: Path, tmp_path: Path) -> Door:
    return Door(data_folder, tmp_path / "results")


def settings(store: Store, label: str) -> dict:
    return dict(next(record.job["settings"] for record in store.records() if record.label == label))


def test_tuned_once_then_read(door):
    said = door.tune().output
    assert "estimate   vsepp: 3 runs of 40 updates in all" in said
    value = tuned.load(door.value)
    row = value.rows["vsepp"]
    assert door.value.name == f"zoo-{value.data['fingerprint'][:8]}.json"
    assert (len(row["trials"]) - row["outward"], row["doubled"] is None) == (2, False)
    assert {record.job["data"]["ranked"] for record in door.trials.records()} == {"dev"}
    kept = [path.parent.name for path in door.trials.folder.glob("checkpoints/*/best.safetensors")]
    assert kept == [row["trials"][row["winner"]]["key"]]
    written = {path: path.stat().st_mtime_ns for path in door.trials.folder.glob("records/*")}

    again = door.tune().output
    assert "estimate" not in again
    assert {path: path.stat().st_mtime_ns for path in door.trials.folder.glob("records/*")} == written
    assert tuned.load(door.value) == value

    said = door("full", "--only", "vsepp,scan:t2i-lse").output
    assert f"tuned      1 of 2 rows have the settings of tuned/{door.value.name} ({value.key}), 10 updates long" in said
    assert "untuned    scan:t2i-lse" in said
    store = Store(door.results / "full-zoo")
    best = row["trials"][row["winner"]]
    own = settings(store, "vsepp")
    assert (own["lr"], own["warmup_updates"], own["updates"], own["seed"]) == (
        best["lr"],
        best["warmup_updates"],
        10,
        1,
    )
    assert "updates" not in settings(store, "scan:t2i-lse")
    assert tuned.kept(store.folder) == {value.key: value}
    tables = {path.name: path.read_text() for path in (store.folder / "tables").iterdir()}
    assert "not ranked beside the tuned rows: scan:t2i-lse." in tables["comparison.md"]
    assert "| vsepp " in tables["tuning.md"]


def test_a_killed_run_goes_on_and_finds_the_same(door, monkeypatch):
    whole = Door(door.data, door.results.parent / "whole")
    whole.tune()
    executed = dispatch._in_turn

    def killed(jobs, *more):
        executed(jobs[:1], *more)
        raise KeyboardInterrupt

    monkeypatch.setattr(dispatch, "_in_turn", killed)
    assert "the same command goes on" in door.tune(code=130).stderr
    assert not (door.results / "tuned").exists() or not list((door.results / "tuned").glob("*.json"))
    monkeypatch.setattr(dispatch, "_in_turn", executed)
    assert "1 of 2 trials are recorded already" in door.tune().output

    def found(path):
        row = tuned.load(path).rows["vsepp"]
        return [(trial["key"], trial["dev_rsum"]) for trial in (*row["trials"], row["doubled"])]

    assert found(door.value) == found(whole.value)


def test_a_dry_run_says_how_long_and_writes_nothing(door):
    said = door.tune("--dry-run").output
    assert "vsepp lr 0.0032 warm-up 8 of 10 seed 0" in said
    assert "estimate   all rows: " in said
    assert not door.results.exists()


def test_other_data_of_the_same_name_are_untuned(door):
    door.tune()
    value = tuned.load(door.value)
    changed = np.load(door.data / "train_ims.npy") + 1
    np.save(door.data / "train_ims.npy", changed)
    said = door("full", "--only", "vsepp").output
    assert "no row has tuned settings on zoo" in said
    assert "updates" not in settings(Store(door.results / "full-zoo"), "vsepp")
    # nor does a file that only goes by the name of these data
    stored = json.loads(door.value.read_text())
    other = door.results / "tuned" / "zoo.json"
    other.write_text(json.dumps(stored))
    shutil.rmtree(door.results / "full-zoo")
    assert "no row has tuned settings on zoo" in door("full", "--only", "vsepp", "--dry-run").output
    assert tuned.load(other) == value


def test_a_damaged_value_is_one_line_that_names_file_and_field(door):
    door.tune()
    stored = json.loads(door.value.read_text())
    stored["rows"]["vsepp"]["trials"][0]["lr"] = "fast"
    door.value.write_text(json.dumps(stored))
    for suite in ("full", "tune"):
        message = door.refused(suite, "--only", "vsepp", *(BUDGET if suite == "tune" else ()))
        assert f"tuned/{door.value.name}: rows" in message
        assert "lr must be a float, got 'fast'" in message
    assert "vsepp seed 1" in door("full", "--only", "vsepp", "--untuned", "--dry-run").output


def test_trials_of_another_length_are_refused_before_they_run(door):
    door.tune()
    message = door.refused("tune", "--only", "vsepp", "--trials", "2", "--updates", "20")
    assert message.endswith("(design.updates 10 and 20); remove it, or name another --results")
    assert len(door.trials.records()) in (3, 4)  # with a step outward


def test_a_row_without_weights_has_nothing_to_tune(door):
    door("tune", "--only", "chance", *BUDGET, code=2)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--epochs", "3", "--updates", "10"), "--epochs and --updates are two lengths of one training"),
        (("--trace",), "suite tune keeps none but of winners"),
        (("--set", "settings.lr=0.1"), "suite tune has its own settings.lr"),
        (("--seeds", "3"), "suite tune has one seed, 0"),
        (("--updates", "9"), "tuning takes at least 10 updates"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(door, more, says):
    assert says in door.refused("tune", "--only", "vsepp", *more)
    assert not door.results.exists()


TEACHER = "scan:t2i-lse"
TAUGHT = ("--only", "vsepp+distilled", "--set", f"distilled.teacher={TEACHER}")


def test_a_student_learns_from_the_best_trial_of_its_teacher(door):
    refused = door.refused("tune", *TAUGHT, *BUDGET)
    assert refused.startswith(f"distilled.teacher takes the weights of {TEACHER}")
    assert refused.endswith("tune-zoo has none that fits: it was not run there")
    door("tune", "--only", TEACHER, *BUDGET)
    row = tuned.load(door.value).rows[TEACHER]
    best = row["trials"][row["winner"]]["key"]
    assert [path.parent.name for path in door.trials.folder.glob("checkpoints/*/best.safetensors")] == [best]
    door("tune", *TAUGHT, *BUDGET)
    students = [record for record in door.trials.records() if record.label == "vsepp+distilled"]
    assert {record.job["model"]["taken"]["distilled.teacher"].partition(".")[0] for record in students} == {best}
    door("full", "--only", TEACHER, "--seeds", "1")

    # another teacher is another row, and neither's trials speak of the other
    door("tune", "--only", "vsepp+distilled", "--set", "distilled.teacher=smoothed", *BUDGET)
    assert [*tuned.load(door.value).rows] == [
        TEACHER,
        f"vsepp+distilled (teacher={TEACHER})",
        "vsepp+distilled (teacher=smoothed)",
    ]
    said = door("full", *TAUGHT, "--seeds", "1").output
    assert "tuned      1 of 1 rows have the settings of" in said
    sources = [source for each in Store(door.results / "full-zoo").asked() for source in each.tuning.values()]
    assert {(source["row"], source["how"]) for source in sources} == {
        (TEACHER, "own"),
        (f"vsepp+distilled (teacher={TEACHER})", "own"),
    }
    said = door("full", "--only", "vsepp+distilled", "--set", "distilled.teacher=peer", "--seeds", "1").output
    assert "says nothing of these rows" in said
