"""Reports read who asked for a job: from what the run stored, whatever today's question files and folder names say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.record import RecordError
from harness.report.outputs import texts
from harness.report.read.groups import collect
from harness.report.tables.ablations import ablation_sheets, by_question
from harness.spec import questions
from harness.spec.asked import Asked, Posed
from harness.spec.questions import Question

HITS = ([0, 10], [0, 0, 10, 10, 10])
MORE = ([0, 0], [0, 0, 0, 10, 10])
MARGINS = Question(
    "margin", "Which margin?", ("vsepp",), {"0.1": {"settings.margin": 0.1}, "0.3": {"settings.margin": 0.3}}
)


def ask(make, question, label, seeds=(0, 1), rows=(), suite="full") -> Asked:
    """Stores what was asked, and a record of every job of it; arms find more than their base."""
    bases = [make.job(label, seed) for seed in seeds]
    posed = tuple(Posed(question, base, questions.arms(question, base)) for base in bases)
    asked = Asked(suite, suite == "paper", tuple(rows), posed)
    make.store.save_asked(asked.record())
    for job in asked.jobs:
        make.add(job, make.ranks(*(MORE if any(job in one.arms.values() for one in posed) else HITS)))
    return asked


def test_arms_that_change_a_setting_have_one_base(make):
    ask(make, MARGINS, "vsepp")
    (group,) = collect(make.folder)
    assert [row.name for row in group.rows] == ["vsepp"]
    ((found,),) = by_question([group]).values()
    assert (found.name, found.base.name, list(found.arms)) == ("margin", "vsepp", ["0.1", "0.3"])
    assert [arm.value for arm in found.arms.values()] == pytest.approx([210, 210])
    assert list(ablation_sheets([group])["margin"].text["arm"]) == ["(base)", "0.1", "0.3"]


def test_a_question_that_is_gone_or_edited_changes_no_stored_answer(make, monkeypatch):
    ask(make, questions.questions()["prototypes"], "vsepp+selfalign")
    before = texts(make.folder, collect(make.folder))
    known = dict(questions.questions())
    edited = replace(known["prototypes"], question="Another?", arms={"64": {"selfalign.prototypes": 65}})
    for changed in ({**known, "prototypes": edited}, {n: q for n, q in known.items() if n != "prototypes"}):
        monkeypatch.setattr("harness.spec.questions.questions", lambda changed=changed: changed)
        assert texts(make.folder, collect(make.folder)) == before
    assert "| 512 " in before["ablation-prototypes.md"]


def test_an_arm_that_is_asked_for_as_a_row_stands_in_the_comparison(make):
    question = questions.questions()["submodules"]
    base = make.job("vsepp")
    both = questions.arms(question, base)["both"]
    ask(make, question, "vsepp", seeds=(0,), rows=(base, both))
    (group,) = collect(make.folder)
    assert [row.name for row in group.rows] == ["vsepp", "vsepp+selfalign"]
    assert len(group.arms) == 2  # one level each
    ((found,),) = by_question([group]).values()
    assert list(found.arms) == ["both", "concept-only", "context-only"]


def test_a_suite_is_known_whatever_its_folder_is_called(make):
    rows = (make.job("vsepp", batch=64), make.job("vsrn", batch=128))
    make.store.save_asked(Asked("paper", True, rows, ()).record())
    for job in rows:
        make.add(job, make.ranks(*HITS))
    (group,) = collect(make.folder)
    assert group.own_settings
    assert [row.name for row in group.rows] == ["vsepp", "vsrn"]


def test_two_runs_of_one_question_are_one_table(make):
    ask(make, MARGINS, "vsepp", seeds=(0,))
    ask(make, MARGINS, "vsepp", seeds=(1, 2))
    ((found,),) = by_question(collect(make.folder)).values()
    assert [arm.seeds for arm in found.arms.values()] == [3, 3]


def test_asking_the_same_again_stores_nothing_new(make):
    first, again = (ask(make, MARGINS, "vsepp").record() for _ in range(2))
    assert first == again
    assert len(make.store.asked()) == 1
    assert make.store.asked()[0].posed[0].arms[0][0] == "0.1"


def test_a_base_that_was_not_run_yet_leaves_its_question_out(make):
    asked = ask(make, MARGINS, "vsepp", seeds=(0,))
    make.store.remove(asked.posed[0].base.key)
    assert by_question(collect(make.folder)) == {}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda text: text.replace('"rows"', '"lines"'), "unknown or missing fields: lines, rows"),
        (lambda text: text.replace('"base"', '"ground"'), "questions.0: has unknown or missing fields: base, ground"),
        (lambda _: "{", "is not JSON"),
    ],
)
def test_what_cannot_be_trusted_is_named(make, spoil, says):
    asked = ask(make, MARGINS, "vsepp", seeds=(0,))
    path = make.folder / "asked" / f"{asked.record().key}.json"
    path.write_text(spoil(path.read_text()))
    with pytest.raises(RecordError, match=says):
        collect(make.folder)
