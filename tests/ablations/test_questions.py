"""Ablations are files found by their names; each asks one question, no arm is empty, unknown or another's twin."""

from __future__ import annotations

import re

import pytest

from harness import ROOT
from harness.spec import questions, registry, suites
from harness.spec.job import CONTROLS, Data, Job, Settings, SpecError
from harness.spec.override import override
from models.selfalign import Options

GOOD = '"""Is it so?"""\n\nBASES = ("vsepp+selfalign",)\n\nARMS = {"few": {"selfalign.prototypes": 7}}\n'


def base(label: str) -> Job:
    return Job(Data(), registry.model(label), Settings())


@pytest.fixture
def written(tmp_path):
    """Writes a file of an ablation and reads it."""

    def write(text: str) -> questions.Question:
        path = tmp_path / "made_up.py"
        path.write_text(text)
        return questions.read(path)

    return write


@pytest.mark.parametrize("name", questions.questions())
def test_every_arm_changes_its_base_and_is_no_other(name):
    question = questions.questions()[name]
    for label in question.bases:
        jobs = questions.arms(question, base(label))
        assert len({job.key for job in jobs.values()} | {base(label).key}) == len(jobs) + 1
        assert [job.arm for job in jobs.values()] == [questions.title(question, arm) for arm in question.arms]


def test_every_file_is_found():
    assert set(questions.questions()) == {path.stem for path in (ROOT / "ablations").glob("*.py")} - {"__init__"}


def test_every_switch_of_selfalign_is_asked_about():
    asked = {path for q in questions.questions().values() for arm in q.arms.values() for path in arm}
    assert {f"selfalign.{name}" for name in vars(Options())} <= asked


def test_every_control_is_asked_about():
    arms = questions.questions()["dimension_control"].arms.values()
    assert {arm["control"] for arm in arms if "control" in arm} == set(CONTROLS)


def test_a_good_file_reads(written):
    question = written(GOOD)
    assert (question.name, question.question) == ("made_up", "Is it so?")
    assert questions.arms(question, base("vsepp+selfalign"))["few"].model.selfalign["prototypes"] == 7  # type: ignore[index]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "prototypes",
            "prototype",
            "arm 'few' of ablations/made_up: selfalign has no option 'prototype'; did you mean",
        ),
        ('{"selfalign.prototypes": 7}', "{}", "arm 'few' of ablations/made_up changes nothing of its base"),
        ("7", "1024", "changes nothing of its base vsepp+selfalign"),
        (
            "7}",
            '7}, "same": {"selfalign.prototypes": 7}',
            "arm 'same' of ablations/made_up is the same job as arm 'few'",
        ),
        ("7}", '7}, "few": {"selfalign.prototypes": 9}', "ablations/made_up.py names 'few' twice"),
        ("7", '7, "selfalign.prototypes": 9', "names 'selfalign.prototypes' twice"),
        ("7", "6 + 1", "ARMS must be written out in plain values"),
        ("Is it so?", "It is so.", "must open with its question"),
        ("BASES", "BASE", "must hold BASES and ARMS, got BASE, ARMS"),
        ('("vsepp+selfalign",)', '"vsepp"', "BASES must be a tuple"),
        ("BASES", "import os\nBASES", "nothing but a docstring, BASES and ARMS belongs there"),
        ("ARMS = {", "ARMS = {{", "cannot be read"),
        ('{"few": {"selfalign.prototypes": 7}}', '("few",)', "ARMS must map names to what they change"),
    ],
)
def test_a_bad_file_is_refused(written, old, new, says):
    assert old in GOOD
    with pytest.raises(SpecError, match=re.escape(says)):
        questions.arms(written(GOOD.replace(old, new, 1)), base("vsepp+selfalign"))


# In suites -----------------------------------------------------------------------------------------------------------


def test_a_question_runs_its_base_first_then_its_arms_seed_by_seed():
    jobs = suites.jobs("ablations", Data(), only=["ablations/gate"], seeds=[3, 5])
    assert [job.name for job in jobs] == [
        f"vsepp+selfalign{arm} seed {seed}" for seed in (3, 5) for arm in ("", " zero", " one", " mean")
    ]


def test_what_two_questions_share_runs_once():
    jobs = suites.jobs("ablations", Data(), only=["ablations/gate", "ablations/relu"], seeds=[0])
    assert len(jobs) == len({job.key for job in jobs}) == 1 + 3 + 1


def test_a_question_can_be_asked_of_one_base_and_beside_rows():
    names = [job.name for job in suites.jobs("full", Data(), only=["ablations/submodules/vsrn", "chance"], seeds=[0])]
    assert names == [
        "chance seed 0",
        "vsrn seed 0",
        "vsrn+selfalign both seed 0",
        "vsrn+selfalign concept-only seed 0",
        "vsrn+selfalign context-only seed 0",
    ]


def test_the_suite_ablations_asks_everything_and_full_asks_about_the_two_levels():
    asked = {job.arm for job in suites.jobs("ablations", Data(), seeds=[0])}
    assert {questions.title(q, arm) for q in questions.questions().values() for arm in q.arms} <= asked
    assert {"concept-only", "context-only"} <= {job.arm for job in suites.jobs("full", Data())}


def test_every_job_has_a_name_of_its_own():
    for suite in ("ablations", "full"):
        jobs = suites.jobs(suite, Data(), seeds=[0, 1])
        assert len({job.name for job in jobs}) == len(jobs)
    asked = suites.jobs("ablations", Data(), only=["ablations/prototypes", "ablations/negatives"], seeds=[0])
    assert {"vsepp+selfalign prototypes=64 seed 0", "vsepp+selfalign negatives=64 seed 0"} <= {
        job.name for job in asked
    }


def test_the_suite_goes_by_what_is_asked():
    assert suites.named("", ["ablations/gate", "ablations/relu"]) == "ablations"
    assert suites.named("", ["ablations/gate", "vsepp"]) == suites.named("", []) == "full"
    assert suites.named("smoke", ["ablations/gate"]) == "smoke"


def test_settings_reach_base_and_arms_alike():
    changes = {"selfalign.temperature": 0.3, "settings.lr": 1e-3}
    jobs = suites.jobs("ablations", Data(), only=["ablations/relu"], seeds=[0], changes=changes)
    assert [(j.model.selfalign or {})["temperature"] for j in jobs] == [0.3, 0.3]
    assert [j.settings.lr for j in jobs] == [1e-3, 1e-3]


def test_settings_of_a_module_reach_the_arms_that_bring_it():
    changes = {"selfalign.prototypes": 33, "a-sdm.temperature": 0.5}
    only = ["ablations/submodules/vsepp", "ablations/full_mode/vsepp"]
    jobs = {job.arm: job.model for job in suites.jobs("ablations", Data(), only=only, seeds=[0], changes=changes)}
    assert {(jobs[arm].selfalign or {})["prototypes"] for arm in ("both", "concept-only", "context-only")} == {33}
    assert jobs["a-sdm-and-efa"].modules["a-sdm"]["temperature"] == 0.5
    assert jobs["context-only"].selfalign["concept"] is False  # type: ignore[index]
    assert (jobs[""].selfalign, jobs[""].modules) == (None, {})


@pytest.mark.parametrize(
    ("only", "changes", "says"),
    [
        ("ablations/prototype", {}, "no ablation 'ablations/prototype'; did you mean ablations/prototypes"),
        ("ablations/gate/vsrn", {}, "no ablation 'ablations/gate/vsrn'; did you mean ablations/"),
        ("vsepp", {}, "'vsepp' names no row of this suite, which asks questions"),
        ("ablations/relu", {"selfalign.relu": False}, "changes nothing of its base"),
        ("ablations/scan_softmax", {"selfalign.prototypes": 7}, "selfalign.prototypes reaches no row"),
    ],
)
def test_what_cannot_be_asked_is_refused(only, changes, says):
    with pytest.raises(SpecError, match=says):
        suites.jobs("ablations", Data(), only=[only], changes=changes)


# Switches ------------------------------------------------------------------------------------------------------------


def test_the_module_goes_on_and_off():
    host, whole = base("vsepp"), base("vsepp+selfalign")
    assert override(host, {"selfalign": True}) == whole
    assert override(whole, {"selfalign": False}) == host
    assert override(host, {"selfalign": True, "selfalign.relu": False}).model.selfalign["relu"] is False  # type: ignore[index]


@pytest.mark.parametrize(
    ("label", "changes", "says"),
    [
        ("vsepp", {"control": "hight"}, "control must be one of final-width, parameters, width, got 'hight'"),
        ("vsepp+selfalign", {"control": "width"}, "control width is for a host without SelfAlign, vsepp.selfalign"),
        ("scan:t2i-lse", {"control": "width"}, "scan:t2i-lse is not one"),
        ("scan:t2i-lse", {"selfalign": True}, "SelfAlign cannot be put on scan"),
        ("vsepp", {"selfalign": 1}, "selfalign must be bool"),
    ],
)
def test_switches_that_cannot_be_turned(label, changes, says):
    with pytest.raises(SpecError, match=says):
        override(base(label), changes)


def test_an_arm_and_its_control_have_keys_of_their_own_and_a_name_is_no_identity():
    host = base("vsepp")
    controls = [override(host, {"control": control}) for control in CONTROLS]
    assert len({job.key for job in (host, *controls)}) == len(CONTROLS) + 1
    assert "control" not in host.as_dict()["model"]
    assert Job.from_dict(controls[0].as_dict()) == controls[0]


def test_a_control_of_as_many_parameters_is_another_for_another_selfalign():
    changes = {"selfalign": False, "control": "parameters"}
    aligned = base("vsepp+selfalign")
    usual, few = (override(job, changes) for job in (aligned, override(aligned, {"selfalign.prototypes": 9})))
    assert usual.key != few.key
    assert override(few, {"settings.seed": 3}).model == few.model
    assert "matched" not in override(aligned, {**changes, "control": "width"}).as_dict()["model"]


def test_what_was_added_to_selfalign_is_written_only_where_it_is_told():
    assert [
        name for name in registry.selfalign().added if name in (base("vsepp+selfalign").model.selfalign or {})
    ] == []
