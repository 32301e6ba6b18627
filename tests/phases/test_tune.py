"""Waves of trials on records made up by hand: which follow which, what is left, and the value that comes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.phases.pace import Pace
from harness.phases.tune import DIVERGED, Trials, duration
from harness.record import Ranks, Record
from harness.spec import suites
from harness.spec.job import Data
from harness.store import Store

NONE = np.zeros(0, np.int32)
RANKS = Ranks(np.zeros(1, np.int32), NONE, NONE[None], NONE[:, None], NONE, NONE, NONE, NONE, {})


@pytest.fixture
def trials(tmp_path):
    asked = suites.asked(
        "tune", Data(name="zoo", own=True), only=["vsepp*"], changes={"settings.updates": 20}, trials=3
    )
    return Trials.of(asked, Store(tmp_path))


def ran(trials: Trials, jobs, rsum=lambda _: 10.0) -> None:
    """Records of jobs that found these dev Rsum in the second of two parts; None is one that diverged."""
    for job in jobs:
        score = rsum(job)
        common = {"key": job.key, "label": job.model.label, "job": job.as_dict(), "family": "independent"}
        if score is None:
            trials.store.save(Record(**common, status="failed", error=f"{DIVERGED}loss term hinge is nan"))
            continue
        history = [{"dev_rsum": score / 2}, {"dev_rsum": score}]
        record = Record(**common, status="ok", best_epoch=1, history=history, seconds={"train": 3.0})
        trials.store.save(record, RANKS)


def through(trials: Trials, rsum) -> list[list[str]]:
    """Runs every wave; the names of its jobs."""
    names = []
    for wave in trials.waves():
        ran(trials, trials.to_run(wave), rsum)
        names.append([job.name for job in wave])
    return names


def test_first_trials_then_steps_outward_then_twice_the_length(trials):
    waves = through(trials, lambda job: 1000 * job.settings.lr)
    assert [len(wave) for wave in waves] == [6, 2, 2]
    assert waves[1][0] == "vsepp lr 0.0064 warm-up 5 of 20 seed 0"
    assert waves[2][0] == "vsepp lr 0.0064 warm-up 10 of 40 seed 0"
    row = trials.value().rows["vsepp"]
    assert (row["winner"], row["edge"], row["outward"], len(row["trials"])) == (3, "high", 1, 4)
    assert [trial["dev_rsum"] for trial in row["trials"]] == pytest.approx([1.6, 3.2, 3.2, 6.4])
    assert (row["trials"][0]["best_part"], row["trials"][0]["parts"], row["trials"][0]["seconds"]) == (2, 2, 3.0)
    assert row["doubled"]["warmup_updates"] == 10


def test_what_has_an_outcome_does_not_run_again(trials):
    first = next(trials.waves())
    ran(trials, first[:4])
    again = Trials(trials.rows, trials.design, trials.store)
    assert again.to_run(first) == first[4:]
    assert replace(again, force=True).to_run(first) == first
    assert again.left("vsepp") == [20, 40]  # of equal ones the smallest rate is the best: a step outward
    assert again.left("vsepp+selfalign") == [20, 20, 40]


def test_a_trial_that_diverged_is_an_outcome_and_one_that_broke_is_not(trials):
    through(trials, lambda job: None if job.settings.lr > 2e-3 else 9.0)
    row = trials.value().rows["vsepp"]
    assert [trial["dev_rsum"] for trial in row["trials"]] == [9.0, None, None, 9.0]
    broken = trials.design.job(trials.rows["vsepp"], trials.design.first[1])
    trials.store.save(replace(trials.store.record(broken.key), error="OSError: no space left"))
    assert list(trials.value().rows) == ["vsepp+selfalign"]
    assert trials.left("vsepp") == [20, 40]


def test_a_row_none_of_whose_trials_has_a_score_is_not_tuned(trials):
    through(trials, lambda job: None if "selfalign" in job.name else 9.0)
    assert list(trials.value().rows) == ["vsepp"]


def test_the_estimate_adds_up_what_is_left(trials):
    paces = dict.fromkeys(trials.rows, Pace(update_s=2.0, look_s=1.0))
    lines = trials.estimate(paces, workers=2)
    # three runs of 20 updates and one of 40, ten looks each
    assert lines[0] == "vsepp: 4 runs of 100 updates in all, 2000 ms an update, 1.0 s a look at dev: 4 min"
    assert lines[-1].startswith("all rows: 8 min, 4 min with 2 at a time")
    states = trials.estimate({"vsepp": Pace(2.0, 1.0, once_s=90.0), "vsepp+selfalign": Pace(2.0, 1.0)}, workers=1)
    assert states[-2:] == [
        "states of the text model, once for all rows: 90 s",
        "all rows: 8 min; steps outward, a trial each, come on top",
    ]
    through(trials, lambda _: 9.0)
    assert trials.left("vsepp") == []


@pytest.mark.parametrize(("seconds", "said"), [(40, "40 s"), (720, "12 min"), (12_000, "3 h 20 min")])
def test_durations_are_said_in_the_unit_that_matters(seconds, said):
    assert duration(seconds) == said
