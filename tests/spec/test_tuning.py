"""The design of the trials worked out by hand, and what a run makes of their winner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.phases.tune import Trials
from harness.spec import registry, suites, tuning
from harness.spec.job import Data, Job, Settings, SpecError
from harness.spec.override import override
from harness.spec.tuning import Design, Trial
from harness.store import Store
from tests.tuned_values import row, value

DESIGN = Design((0.01, 0.02, 0.04, 0.08), updates=40)
DATA = Data(name="zoo", fingerprint="ab" * 32, own=True)


def scores(**better: float) -> dict[Trial, float | None]:
    """Zero for every trial of the design, but for those of these rates, `r02` = 0.02."""
    return {trial: better.get(f"r{100 * trial.lr:02.0f}", 0.0) for trial in DESIGN.first}


def test_eight_trials_are_four_rates_by_two_warm_ups():
    assert sorted((trial.lr, trial.warmup_updates) for trial in DESIGN.first) == [
        (lr, warmup) for lr in (0.01, 0.02, 0.04, 0.08) for warmup in (10, 32)
    ]


def test_fewer_trials_are_the_first_ones_of_more():
    few = replace(DESIGN, trials=3).first
    assert few == (Trial(0.02, 10), Trial(0.04, 32), Trial(0.04, 10)) == DESIGN.first[:3]


@pytest.mark.parametrize(
    ("found", "step"),
    [
        (scores(r01=5.0), Trial(0.005, 10)),
        (scores(r08=5.0), Trial(0.16, 10)),
        (scores(r02=5.0), None),
        (dict.fromkeys(DESIGN.first), None),
        ({**scores(r08=5.0), Trial(0.08, 32): 6.0}, Trial(0.16, 32)),
    ],
    ids=["low", "high", "within", "none has a score", "the warm-up of the best"],
)
def test_one_step_outward_where_the_best_is_at_the_edge(found, step):
    assert DESIGN.outward(found) == step


def test_a_step_outward_does_not_lead_to_another():
    found = {**scores(r08=5.0), Trial(0.16, 10): 9.0}
    assert DESIGN.outward(found) == Trial(0.16, 10)  # the same: the first trials alone are looked at


def test_a_trial_trains_on_a_cosine_with_seed_0_and_looks_at_dev():
    (base,) = suites.jobs("smoke", DATA, only=["vsepp"], seeds=[3])
    job = DESIGN.job(base, Trial(0.02, 10))
    told = job.settings
    assert (told.seed, told.lr, told.updates, told.warmup_updates) == (0, 0.02, 40, 10)
    assert (told.schedule, told.clip, told.stop_below, told.parts) == ("cosine", 2.0, 0.5, 10)
    assert job.data.ranked == "dev"
    assert (told.batch, told.dim) == (base.settings.batch, base.settings.dim)
    twice = DESIGN.job(base, Trial(0.02, 10), doubled=True).settings
    assert (twice.updates, twice.warmup_updates, twice.lr) == (80, 20, 0.02)


def test_the_suite_gives_a_host_and_its_selfalign_row_as_many_trials():
    asked = suites.asked("tune", DATA, only=["vsepp*"], changes={"settings.updates": 40})
    labels = [job.model.label for job in asked.rows]
    assert {label: labels.count(label) for label in labels} == {"vsepp": 8, "vsepp+selfalign": 8}
    assert len({job.key for job in asked.rows}) == 16
    assert {job.settings.updates for job in asked.rows} == {40}


@pytest.mark.parametrize(
    ("name", "choices", "says"),
    [
        ("tune", {"changes": {"settings.lr": 0.1}}, "suite tune has its own settings.lr; its budget is --trials"),
        ("tune", {"changes": {"settings.epochs": 3}}, "suite tune has its own settings.epochs"),
        ("tune", {"changes": {"data.ranked": "test"}}, "never looks at another split than dev"),
        ("tune", {"changes": {"settings.updates": 9}}, "tuning takes at least 10 updates, a look at dev each, got 9"),
        ("tune", {"changes": {"settings.updates": "long"}}, "settings.updates must be"),
        ("tune", {"seeds": [1]}, "suite tune has one seed, 0"),
        ("tune", {"trials": 9}, "--trials must be from 2 to 8, got 9"),
        ("full", {"trials": 4}, "--trials is the budget of suite tune, not of full"),
    ],
)
def test_what_makes_no_sense_is_one_line(name, choices, says):
    with pytest.raises(SpecError, match=says):
        suites.asked(name, DATA, **choices)


# What suites make of a winner ----------------------------------------------------------------------------------------

TUNED = value(
    DATA,
    Settings(),
    vsepp=row("vsepp", 10.0, 20.0, 30.0, 25.0),
    vsepp__selfalign=row("vsepp+selfalign", 10.0, 40.0, 30.0, 25.0),
)


def asked(name="full", tuned=TUNED, data=DATA, **choices):
    return suites.asked(name, data, tuned=tuned, **choices)


def settings(found, label):
    job = next(job for job in found.rows if job.model.label == label)
    told = job.settings
    return found.tuning.get(job.key), (told.lr, told.warmup_updates, told.updates, told.schedule)


def test_each_row_has_its_own_winner():
    found = asked(only=["vsepp*"])
    source, told = settings(found, "vsepp")
    assert told == (0.02, 5, 20, "cosine")
    assert source == {"value": TUNED.key, "row": "vsepp", "how": "own"}
    assert settings(found, "vsepp+selfalign")[1] == (0.01, 16, 20, "cosine")
    final = {(job.settings.seed, job.settings.train_share, job.settings.stop_below) for job in found.rows}
    assert final == {(1, 0.9, 0)}


def test_a_row_without_trials_has_the_defaults():
    usual = Settings()
    assert settings(asked(only=["vsrn"]), "vsrn") == (None, (usual.lr, 0, 0, "step"))
    assert settings(asked(only=["vsepp"], tuned=None), "vsepp") == (None, (usual.lr, 0, 0, "step"))


@pytest.mark.parametrize(
    ("data", "changes", "says"),
    [
        (replace(DATA, fingerprint="cd" * 32), {}, "tuned with data.fingerprint abab"),
        (DATA, {"data.train_images": 7}, "tuned with data.train_images 0, here 7"),
        (DATA, {"settings.batch": 7}, "tuned with settings.batch 128, here 7"),
        (DATA, {"settings.dim": 7}, "tuned with settings.dim 256, here 7"),
        (DATA, {"settings.updates": 30}, ""),
        (DATA, {"settings.epochs": 3}, ""),
    ],
)
def test_a_winner_says_nothing_of_other_conditions_or_another_length(data, changes, says):
    found = asked(only=["vsepp"], data=data, changes=changes)
    assert found.tuning == {}
    assert found.rows[0].settings.schedule == "step"
    assert tuning.unfit(TUNED, found.rows[0]).startswith(says)


def test_a_recipe_that_changed_since_is_untuned():
    stale = row("vsepp", 1.0, 2.0, model={**TUNED.rows["vsepp"]["model"], "recipes": {"vsepp": 99}})
    assert asked(only=["vsepp"], tuned=value(DATA, Settings(), vsepp=stale)).tuning == {}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"settings.lr": 0.5}, (0.5, 5, 20, "cosine")),
        ({"settings.warmup_epochs": 3}, (0.02, 0, 20, "cosine")),
        ({"settings.clip": 9.0}, (0.02, 5, 20, "cosine")),
    ],
)
def test_what_is_set_by_hand_stands_and_marks_the_row(changes, told):
    source, found = settings(asked(only=["vsepp"], changes=changes), "vsepp")
    assert found == told
    assert source is not None
    assert source["how"] == "by hand"


def test_a_row_with_options_set_by_hand_is_marked_too():
    source, told = settings(asked(only=["vsepp+selfalign"], changes={"selfalign.prototypes": 11}), "vsepp+selfalign")
    assert (source or {}).get("how") == "by hand"
    assert told == (0.01, 16, 20, "cosine")


def test_the_tuned_length_said_by_hand_is_the_tuned_one():
    source, told = settings(asked(only=["vsepp"], changes={"settings.updates": 20}), "vsepp")
    assert (source or {}).get("how") == "own"
    assert told == (0.02, 5, 20, "cosine")


def test_arms_have_their_bases_settings_unless_they_are_rows_with_trials():
    found = asked(only=["ablations/submodules/vsepp"])
    assert [posed.base.settings.seed for posed in found.posed] == [1, 2, 3]
    (first, *_), arms = found.posed, found.posed[0].arms
    assert {name: (arm.settings.lr, found.tuning[arm.key]["how"]) for name, arm in arms.items()} == {
        "both": (0.01, "own"),
        "concept-only": (0.02, "base"),
        "context-only": (0.02, "base"),
    }
    assert found.tuning[first.base.key]["how"] == "own"


def test_an_arm_has_the_settings_of_its_own_trials_where_it_had_some():
    arms = {"context-only": {"selfalign": True, "selfalign.concept": False}}
    model = override(Job(DATA, registry.model("vsepp"), Settings()), arms["context-only"]).model.as_dict()
    name = "ablations/submodules/vsepp: context-only"
    tried = value(
        DATA,
        Settings(),
        **TUNED.rows,
        **{name: {**row("vsepp+selfalign", 50.0, 40.0, 30.0, 25.0), "model": model}},
    )
    found = asked(only=["ablations/submodules/vsepp"], tuned=tried)
    told = {arm: (job.settings.lr, job.settings.warmup_updates, job.arm) for arm, job in found.posed[0].arms.items()}
    assert told["context-only"] == (0.01, 5, "context-only")
    assert told["concept-only"] == (0.02, 5, "concept-only")
    source = found.tuning[found.posed[0].arms["context-only"].key]
    assert source == {"value": tried.key, "row": name, "how": "own"}


def test_the_arms_of_a_question_are_tried_as_rows_are():
    found = asked("tune", only=["ablations/submodules/vsepp", "ablations/dimension_control/vsepp+selfalign"])
    assert list(found.tried) == [
        "vsepp",
        "vsepp+selfalign",
        "ablations/submodules/vsepp: concept-only",
        "ablations/submodules/vsepp: context-only",
        "ablations/dimension_control/vsepp+selfalign: host-final-width",
        "ablations/dimension_control/vsepp+selfalign: host-parameters",
        "ablations/dimension_control/vsepp+selfalign: host-width",
    ]
    assert (len(found.rows), len(found.posed), len(found.jobs)) == (2 * 8, 2 * 8, 7 * 8)
    arm = found.posed[-1].arms["host-width"]
    assert arm.name == "vsepp host-width lr 0.0008 warm-up 500 of 2000 seed 0"
    assert arm.settings == found.posed[-1].base.settings
    assert found.record().questions[0]["name"] == "submodules"  # a row of that label is never taken for its arm
    trials = Trials.of(found, Store(Path("nowhere")))
    assert list(trials.rows) == list(found.tried)
    assert {job.key for job in next(trials.waves())} == {job.key for job in found.jobs}


def test_an_arm_of_two_questions_runs_once_and_rows_that_stand_on_others_are_found():
    found = asked("tune", only=["two_stage"], trials=2)
    stands = replace(found.rows[0].model, stands_on={"model.encoder": {"selfalign.prototypes": 7}})
    resolved = replace(found, rows=tuple(replace(job, model=stands) for job in found.rows))
    trials = Trials.of(resolved, Store(Path("nowhere")))
    assert [job.model for job in trials.rows.values()] == [stands]
    twice = replace(trials, rows={**trials.rows, "ablations/other/two_stage: same": trials.rows["two_stage"]})
    assert len(next(twice.waves())) == 2


def test_what_was_asked_stores_whose_settings_each_job_has():
    found = asked(only=["vsepp", "vsrn"])
    assert found.record().tuning == {found.rows[0].key: {"value": TUNED.key, "row": "vsepp", "how": "own"}}


def test_suites_that_are_not_of_tuned_rows_read_nothing():
    assert asked("smoke", only=["vsepp"]).tuning == {}
