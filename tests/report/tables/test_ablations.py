"""Ablation tables: arms find their base by themselves, pair by seed, and are tested together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.measure.estimates import difference
from harness.measure.verdicts import corrected
from harness.report.figures import gather
from harness.report.formats import ABSENT, interval
from harness.report.outputs import texts
from harness.report.read import answers, rows
from harness.report.read.groups import collect
from harness.report.read.tuning import Tuning
from harness.report.tables.ablations import ablation_sheets, by_question, named
from harness.spec import questions, registry
from harness.spec.job import Data, Job, Settings
from harness.spec.override import override

# first ranks of 2 image and 5 caption queries, of three seeds; Rsum of each worked out below
BASE = (([0, 10], [0, 0, 10, 10, 10]), ([0, 10], [0, 10, 10, 10, 10]), ([10, 10], [0, 10, 10, 10, 10]))
BETTER = (([0, 0], [0, 0, 0, 10, 10]), ([0, 0], [0, 0, 10, 10, 10]), ([0, 10], [0, 0, 10, 10, 10]))
BASE_RSUM = (270.0, 210.0, 60.0)  # 3 x (50 + 40), 3 x (50 + 20), 3 x 20: a hit counts for every K
BETTER_RSUM = (480.0, 420.0, 270.0)  # 210 more each


def arm(base, question: str, name: str):
    return override(base, questions.questions()[question].arms[name])


def ablations(groups):
    return [ablation for found in by_question(groups).values() for ablation in found]


@pytest.fixture
def asked(make):
    """VSE++ with SelfAlign over three seeds, an arm that is better by the same each time, and one that failed once."""
    for seed in range(3):
        base = make.job("vsepp+selfalign", seed)
        make.add(base, make.ranks(*BASE[seed]))
        make.add(arm(base, "prototypes", "256"), make.ranks(*BETTER[seed]))
        if seed < 2:
            make.add(arm(base, "prototypes", "64"), make.ranks(*BASE[1 - seed]))
        else:
            make.add(arm(base, "prototypes", "64"), None, status="failed", error="OSError: disk full")
    return make


def test_arms_are_compared_with_their_base_seed_by_seed(asked):
    (found,) = ablations(collect(asked.folder))
    assert (found.name, found.base.name) == ("prototypes", "vsepp+selfalign")
    assert tuple(found.base.rsums.values()) == pytest.approx(BASE_RSUM)
    swapped, better = found.arms.values()
    assert tuple(better.row.rsums.values()) == pytest.approx(BETTER_RSUM)
    assert list(found.arms) == ["64", "256"]  # in the order of the file
    assert (swapped.seeds, better.seeds) == (2, 3)
    assert (swapped.value, better.value) == (pytest.approx(0), pytest.approx(210))


def test_arms_of_a_table_are_tested_together(asked):
    swapped, better = ablations(collect(asked.folder))[0].arms.values()
    better_ranks, base_ranks = ([asked.ranks(*one) for one in many] for many in (BETTER, BASE))
    i2t, t2i = (np.array([getattr(one, way) for one in better_ranks]) for way in ("i2t", "t2i"))
    base = np.array([one.i2t for one in base_ranks]), np.array([one.t2i for one in base_ranks])
    alone = difference((i2t, t2i), base, base_ranks[0].caption_to_image)
    assert better.estimate == alone
    assert swapped.estimate is not None
    assert [swapped.interval, better.interval] == corrected([swapped.estimate, alone])
    narrow, wide = alone.interval(), better.interval
    assert narrow is not None
    assert wide is not None
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_arms_stand_in_tables_of_their_own_alone(asked):
    made = texts(asked.folder, collect(asked.folder))
    lines = made["comparison.md"].splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| vsepp")] == ["vsepp+selfalign"]
    assert "- In the tables of ablations alone: vsepp+selfalign (prototypes=256)" in made["comparison.md"]
    assert "256" in made["ablation-prototypes.md"]


def test_a_row_that_no_question_asks_for_stays_in_the_comparison(make):
    base = make.job("vsepp+selfalign", 0)
    make.add(base, make.ranks(*BASE[0]))
    make.add(override(base, {"selfalign.prototypes": 77}), make.ranks(*BETTER[0]))
    assert "prototypes=77" in texts(make.folder, collect(make.folder))["comparison.md"]


def test_the_answer_is_drawn(asked):
    (found,) = ablations(collect(asked.folder))
    drawn = gather.draw(collect(asked.folder)).pictures["ablation-prototypes"]
    assert drawn.title == questions.questions()["prototypes"].question
    assert drawn.caption.endswith("Base: vsepp+selfalign.")
    assert f"+210.0 {interval(found.arms['256'].interval)}".encode() in drawn.svg


def test_the_table_reads_as_it_should(asked):
    sheet = ablation_sheets(collect(asked.folder))["prototypes"]
    table = sheet.text.set_index("arm")
    assert sheet.title == questions.questions()["prototypes"].question
    assert table.loc["(base)", "Rsum"] == "180.0 ± 108.2"
    assert table.loc["(base)", "Rsum difference"] == ABSENT
    (found,) = ablations(collect(asked.folder))
    assert table.loc["256", "Rsum difference"] == f"+210.0 {interval(found.arms['256'].interval)}"
    assert (table.loc["256", "P above zero"], table.loc["256", "verdict"]) == ("1.00", "better")
    assert (table.loc["64", "seeds"], table.loc["64", "verdict"]) == ("2", "undecided")
    flat = sheet.flat.set_index("arm")
    assert (flat.loc["256", "rsum_difference"], flat.loc["256", "p_above_zero"]) == ("+210.0", "1.00")
    assert flat.loc["256", "low"] == f"{(found.arms['256'].interval or (0, 0))[0]:+.1f}"
    assert flat.loc["(base)", "low"] == ABSENT
    assert any(note.startswith("A true difference of so many Rsum") and "64 " in note for note in sheet.notes)


def test_the_files_are_there(asked):
    made = texts(asked.folder, collect(asked.folder))
    assert {"ablation-prototypes.md", "ablation-prototypes.csv"} <= made.keys()
    assert (
        "Data scenes, split test. Made by `python -m harness.report results/full-scenes`."
        in made["ablation-prototypes.md"]
    )
    assert not {name for name in made if name.startswith("ablation") and "prototypes" not in name}


def test_one_seed_is_not_enough_and_has_no_interval(make):
    base = make.job("vsepp+selfalign")
    make.add(base, make.ranks(*BASE[0]))
    make.add(arm(base, "prototypes", "256"), make.ranks(*BETTER[0]))
    (found,) = ablations(collect(make.folder))
    assert (found.arms["256"].shown, found.arms["256"].word) == ("+210.0", "undecided")
    assert gather.forest_rows(named([found])) == [("256", pytest.approx(210), None, None)]


def test_an_arm_of_which_nothing_can_be_used_keeps_its_line(make):
    base = make.job("vsepp+selfalign")
    make.add(base, make.ranks(*BASE[0]))
    make.add(arm(base, "prototypes", "256"), None, status="failed", error="OSError: disk full")
    sheet = ablation_sheets(collect(make.folder))["prototypes"]
    table = sheet.text.set_index("arm")
    assert set(table.loc["256", ["seeds", "Rsum", "Rsum difference", "P above zero"]]) == {ABSENT}
    assert "No run of 256 on vsepp+selfalign can be used." in sheet.notes


def test_an_arm_of_one_question_is_no_base_of_another(asked):
    """The host without SelfAlign is an arm of `dimension_control`, whatever the prototypes were."""
    for seed in range(3):
        host = asked.job("vsepp", seed)
        asked.add(host, asked.ranks(*BASE[seed]))
        asked.add(override(host, {"control": "width"}), asked.ranks(*BETTER[seed]))
    found = {a.name: a for a in ablations(collect(asked.folder))}
    assert set(found) == {"prototypes", "dimension_control"}
    assert list(found["dimension_control"].arms) == ["host", "host-width"]
    assert found["dimension_control"].base.model == asked.job("vsepp+selfalign").model


def test_rows_that_stand_in_the_comparison_anyway_are_asked_nothing(stored):
    assert ablations(collect(stored.folder)) == []


def test_a_base_with_another_setting_has_its_own_arms(asked):
    for seed in range(2):
        base = override(asked.job("vsepp+selfalign", seed), {"selfalign.temperature": 0.3})
        asked.add(base, asked.ranks(*BASE[seed]))
        asked.add(arm(base, "prototypes", "256"), asked.ranks(*BETTER[seed]))
    found = [a for a in ablations(collect(asked.folder)) if a.name == "prototypes"]
    assert [a.base.name for a in found] == ["vsepp+selfalign (temperature=0.3)", "vsepp+selfalign"]
    assert [len(a.arms) for a in found] == [1, 2]


def test_an_arm_may_have_other_settings_than_its_base(make, monkeypatch):
    wider = questions.Question("wider", "Does a wider one help?", ("vsepp",), {"wide": {"settings.dim": 512}})
    monkeypatch.setattr("harness.spec.questions.questions", lambda: {"wider": wider})
    for seed in range(2):
        base = make.job("vsepp", seed)
        make.add(base, make.ranks(*BASE[seed]))
        make.add(override(base, {"settings.dim": 512}), make.ranks(*BETTER[seed]))
    groups = collect(make.folder)
    assert len(groups) == 2  # never in one comparison
    (found,) = ablations(groups)
    assert found.arms["wide"].value == pytest.approx(210)


def test_rows_of_a_forest_plot_are_those_of_the_table(asked):
    found = ablations(collect(asked.folder))
    assert gather.forest_rows(named(found)) == [
        (name, arm.value, *(arm.interval or ())) for name, arm in found[0].arms.items()
    ]


def run_of(job, problem: str = "") -> Any:
    record = SimpleNamespace(key=job.key, family="independent")
    return SimpleNamespace(job=job, seed=job.settings.seed, record=record, problem=problem)


def test_an_arm_that_was_run_before_and_after_its_own_trials_is_of_these_alone():
    jobs = [
        Job(Data(), registry.model("vsepp"), Settings(seed=seed, lr=lr))
        for seed, lr in ((1, 0.1), (2, 0.1), (3, 0.1), (1, 0.2), (2, 0.2))
    ]
    runs = [run_of(job) for job in jobs]
    of_base = {job.key: Tuning("base") for job in jobs[:3]}
    arm = answers._arm("half", runs, {**of_base, **{job.key: Tuning("own") for job in jobs[3:]}})
    assert [(run.seed, run.job.settings.lr) for run in arm.runs] == [(1, 0.2), (2, 0.2)]
    assert arm.tuning.how == "own"
    arm = answers._arm("half", runs, of_base)
    assert ([run.seed for run in arm.runs], arm.tuning.how) == ([1, 2, 3], "base")


def test_an_arm_with_trials_of_its_own_takes_no_row_its_name():
    row, arm = (run_of(Job(Data(), registry.model("vsepp"), Settings(lr=lr))) for lr in (0.1, 0.2))
    tuning = {row.record.key: Tuning("own"), arm.record.key: Tuning("own", is_arm=True)}
    assert rows._name(row, [row, arm], tuning) == "vsepp"
