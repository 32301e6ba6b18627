"""Rows beside those that lack a part of them, and students beside controls: who stands beside whom, what is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.report.read.groups import collect
from harness.report.tables import additions
from harness.report.tables.additions import beside
from harness.spec import registry

LOW, MIDDLE, HIGH = ([9, 10], [9, 10, 10, 10, 10]), ([0, 10], [0, 0, 0, 10, 10]), ([0, 0], [0, 0, 0, 0, 10])
SCAN = "scan:t2i-lse"


def model(label, selfalign=None, **options):
    """A row, `options` those of the lesson of distillation."""
    lesson = {"distilled": options} if "distilled" in label else None
    return registry.model(label, selfalign_options=selfalign, module_options=lesson)


TAUGHT = model("vsepp+distilled", teacher=SCAN)


@pytest.mark.parametrize(
    ("row", "other", "what"),
    [
        (model("vsepp+a-sdm"), model("vsepp"), "without a-sdm"),
        (model("vsepp+selfalign+a-sdm"), model("vsepp+selfalign"), "without a-sdm"),
        (model("vsepp+selfalign+a-sdm"), model("vsepp+a-sdm"), "without SelfAlign"),
        (model("vsepp+a-sdm+efa"), model("vsepp"), ""),  # two parts away
        (model("vsepp+a-sdm"), model("vsrn"), ""),
        (model("vsepp+selfalign+a-sdm"), model("vsepp+selfalign", selfalign={"prototypes": 8}), ""),
        (TAUGHT, model("vsepp"), "without distilled"),
        (TAUGHT, model("vsepp+distilled", teacher="smoothed"), "label smoothing"),
        (TAUGHT, model("vsepp+distilled", teacher="peer"), "another student as teacher"),
        (TAUGHT, model("vsepp+distilled", teacher=SCAN, shuffled=True), "its scores shuffled"),
        (TAUGHT, model("vsepp+distilled", teacher="chan"), ""),  # another teacher is no control
        (TAUGHT, model("vsepp+distilled", teacher="joint"), ""),
        (TAUGHT, model("vsepp+distilled", teacher="smoothed", entropy=0.25), ""),  # nor is another lesson
        (model("vsepp+distilled", teacher="peer"), model("vsepp+distilled", teacher="smoothed"), ""),
        (model("vsepp+distilled", teacher=SCAN, shuffled=True), model("vsepp+distilled", teacher="smoothed"), ""),
        (
            model("vsepp+selfalign+distilled", teacher=SCAN),
            model("vsepp+selfalign+distilled", teacher="smoothed"),
            "label smoothing",
        ),
    ],
)
def test_who_stands_beside_whom(row, other, what):
    assert beside(row, other) == what


def test_a_control_of_another_width_is_none():
    assert beside(model("vsepp+a-sdm"), replace(model("vsepp"), control="width")) == ""


@pytest.fixture
def group(make):
    for seed in (0, 1, 2):
        taken = {"distilled.teacher": f"key{seed}.hash"}
        rows = {
            model("vsepp").label: (model("vsepp"), LOW),
            "taught": (replace(TAUGHT, taken=taken), HIGH),
            "smoothed": (model("vsepp+distilled", teacher="smoothed"), MIDDLE),
            "sum": (replace(model("vsepp+selfalign+distilled", teacher=SCAN), taken=taken), HIGH),
        }
        for row, ranks in rows.values():
            make.add(make.job(row, seed), make.ranks(*ranks))
    (found,) = collect(make.folder)
    return found


def test_all_are_tested_together_and_untuned_rows_give_no_verdict(group):
    found = additions.additions(group)
    told = {(one.contrast.row.model.label, one.beside) for one in found}
    assert told == {
        ("vsepp+distilled", "without distilled"),
        ("vsepp+distilled", "label smoothing"),
        ("vsepp+selfalign+distilled", "without SelfAlign"),
    }
    taught = [one for one in found if "teacher=scan" in one.contrast.row.name]
    assert [one.contrast.value for one in taught if one.beside == "without distilled"] == [pytest.approx(540.0 - 70.0)]
    assert {one.verdict for one in found} == {"untuned host"}


def test_the_table_and_the_sentences(group):
    sheet = additions.additions_sheet(group)
    assert f"All {len(sheet.text)} differences are corrected together (Holm)." in sheet.notes
    assert list(sheet.flat.columns) == list(additions.FLAT)
    told = additions.lessons(group)
    assert len(told) == 3
    assert any("label smoothing" in sentence and "without distilled" in sentence for sentence in told)


def test_without_modules_there_is_no_table(make):
    for row in ("vsepp", "vsepp+selfalign"):
        make.add(make.job(row), make.ranks(*LOW))
    (found,) = collect(make.folder)
    assert additions.additions_sheet(found) is None
    assert additions.lessons(found) == []


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"teacher": "joint"}, [" (distilled.teacher=joint)", " (distilled.teacher=scan:t2i-lse)"]),
        ({"teacher": SCAN, "every": 8}, ["", " (distilled.every=8)"]),
    ],
    ids=["another teacher, though the usual one", "what is usual goes without saying"],
)
def test_rows_of_one_label_tell_whom_each_learns_from(make, other, told):
    for each in (replace(TAUGHT, taken={"distilled.teacher": "a.b"}), model("vsepp+distilled", **other)):
        make.add(make.job(each), make.ranks([9, 9], [9] * 5))
    (group,) = collect(make.folder)
    names = [row.name for row in group.rows if row.model.label == "vsepp+distilled"]
    assert names == [f"vsepp+distilled{words}" for words in told]
