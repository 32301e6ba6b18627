"""A job is its settings: what changes them changes its identity, where it runs does not."""

from dataclasses import replace

import pytest

from harness.spec import registry
from harness.spec.job import Data, Job, Settings, SpecError, idle, parse_value, with_seed
from harness.spec.override import override, paths


@pytest.fixture
def job() -> Job:
    return Job(Data(fingerprint="abc"), registry.model("vsepp+selfalign"), Settings())


def test_identity_ignores_where_the_job_runs(job):
    elsewhere = replace(
        job, data=replace(job.data, path="elsewhere"), settings=replace(job.settings, device="cuda", threads=7)
    )
    assert elsewhere.key == job.key


@pytest.mark.parametrize(
    "change",
    [
        {"settings.lr": 1e-3},
        {"settings.seed": 1},
        {"data.fingerprint": "x"},
        {"selfalign.prototypes": 7},
        {"model.pooling": "max"},
    ],
)
def test_identity_follows_everything_else(job, change):
    assert override(job, change).key != job.key


def test_a_setting_added_later_leaves_stored_jobs_as_they_are(job):
    stored, half = job.as_dict(), override(job, {"settings.score_precision": "bf16"})
    assert "score_precision" not in stored["settings"]
    assert half.as_dict()["settings"]["score_precision"] == "bf16"
    assert Job.from_dict(half.as_dict()).key == half.key != job.key


def test_a_job_without_the_new_ways_to_train_has_its_old_identity(job):
    later = {"updates", "parts", "schedule", "warmup_updates", "train_share", "stop_below"}
    assert not later & job.as_dict()["settings"].keys()
    changed = {"settings.updates": 90, "settings.warmup_updates": 5, "settings.schedule": "cosine"}
    found = override(job, changed | {"settings.train_share": 0.9, "settings.stop_below": 0.5})
    assert later - found.as_dict()["settings"].keys() == {"parts"}
    assert Job.from_dict(found.as_dict()) == found


def test_settings_that_others_stand_in_for_are_idle():
    assert idle({}) == {"parts"}
    assert idle({"updates": 90, "warmup_updates": 0, "schedule": "step"}) == {"epochs"}
    assert idle({"updates": 90, "warmup_updates": 9, "schedule": "cosine"}) == {
        *("epochs", "warmup_epochs", "lr_drop", "drop_every")
    }


def test_a_job_survives_its_record(job):
    again = Job.from_dict(job.as_dict())
    assert again == job
    assert again.key == job.key


def test_the_path_of_the_data_stays_out_of_the_record(job):
    assert "secret" not in str(replace(job, data=replace(job.data, path="/secret/folder")).as_dict())


def test_a_text_model_in_a_folder_goes_by_its_name_and_content(job, tmp_path):
    for place in ("here", "there"):
        (tmp_path / place / "bert").mkdir(parents=True)
        (tmp_path / place / "bert" / "model.bin").write_bytes(b"weights")
    here, there = (
        override(job, {"settings.text_model": str(tmp_path / place / "bert")}) for place in ("here", "there")
    )
    assert here.key == there.key != job.key
    assert here.as_dict()["settings"]["text_model"].startswith("bert@")
    assert Job.from_dict(here.as_dict()).key == here.key
    (tmp_path / "there" / "bert" / "model.bin").write_bytes(b"others!")
    assert override(job, {"settings.text_model": str(tmp_path / "there" / "bert")}).key != here.key


def test_own_data_called_like_embedded_ones_are_told_apart(job):
    own = replace(job, data=replace(job.data, own=True))
    assert own.key != job.key
    assert "own" not in job.as_dict()["data"]  # records stored before read as they did
    assert Job.from_dict(own.as_dict()).data.own


def test_override_touches_what_it_names_alone(job):
    changed = override(job, {"selfalign.prototypes": 13, "settings.epochs": 3})
    assert changed.model.selfalign is not None
    assert changed.model.selfalign["prototypes"] == 13
    assert changed.settings.epochs == 3
    assert override(changed, {"selfalign.prototypes": 1024, "settings.epochs": job.settings.epochs}) == job


@pytest.mark.parametrize("path", ["settings.lr", "data.name", "model.pooling", "selfalign.concept"])
def test_paths_are_listed(job, path):
    assert path in paths(job)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"settings.epoch": 3}, "settings has no field 'epoch'; did you mean epochs"),
        ({"selfalign.prototype": 3}, "selfalign has no option 'prototype'; did you mean prototypes"),
        ({"setting.lr": 3}, "unknown setting 'setting.lr'; did you mean settings.lr"),
        ({"settings.epochs": "many"}, "settings.epochs must be int"),
        ({"settings.epochs": 0}, "settings.epochs must be at least 1, got 0"),
        ({"settings.lr": -1.0}, "settings.lr must be positive"),
        ({"settings.precision": "fp8"}, "settings.precision must be one of fp32, bf16"),
    ],
)
def test_wrong_overrides_are_answered(job, change, says):
    with pytest.raises(SpecError, match=says):
        override(job, change)


def test_names_are_readable(job):
    assert with_seed(job, 2).name == "vsepp+selfalign seed 2"


@pytest.mark.parametrize(("text", "value"), [("3", 3), ("2e-4", 2e-4), ("true", True), ("argmax", "argmax")])
def test_values_of_the_command_line(text, value):
    assert parse_value(text) == value
