"""Modules on a host: found by file name, written in a label, varied by path, part of the identity."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness import ROOT
from harness.spec import registry, suites
from harness.spec.job import Data, Job, Model, Settings, SpecError
from harness.spec.override import override, paths


def job(label: str) -> Job:
    return Job(Data(), registry.model(label), Settings())


def test_every_file_is_a_module_and_none_is_called_like_a_method():
    files = {path.stem.replace("_", "-") for path in (ROOT / "models" / "modules").glob("[!_]*.py")}
    assert registry.modules().keys() == {"selfalign", *files}
    assert not registry.modules().keys() & registry.methods().keys()


def test_a_label_has_one_order():
    model = registry.model("vsepp+efa+a-sdm+selfalign")
    assert model.label == "vsepp+selfalign+a-sdm+efa"
    assert model.host == "vsepp"
    assert model == registry.model(model.label)
    assert set(model.recipes) == {"vsepp", "selfalign", "a-sdm", "efa"}


def test_modules_are_part_of_the_identity_and_their_lack_is_not():
    plain = job("vsepp")
    assert "modules" not in plain.model.as_dict()
    keys = {plain.key, job("vsepp+efa").key, job("vsepp+a-sdm").key, job("vsepp+a-sdm+efa").key}
    assert len(keys) == 4
    weaker = override(job("vsepp+efa"), {"efa.weight": 0.5})
    assert weaker.key not in keys


def test_a_record_gives_the_job_back():
    stored = json.loads(json.dumps(job("vsrn+selfalign+efa").as_dict()))
    assert Job.from_dict(stored).key == job("vsrn+selfalign+efa").key


def test_no_suite_grows():
    assert not any("efa" in label or "a-sdm" in label for label in suites.find("full").labels())


def test_rows_aside_are_chosen_by_name_in_any_order_and_by_pattern():
    def labels(*only: str) -> list[str]:
        return list(dict.fromkeys(j.model.label for j in suites.jobs("full", Data(), only=only)))

    assert labels("vsepp+efa+selfalign") == ["vsepp+selfalign+efa"]
    assert labels("vs*+efa") == ["vse_infty+efa", "vsepp+efa", "vsrn+efa"]
    assert labels("vsepp", "vsepp+efa") == ["vsepp", "vsepp+efa"]


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("vsepp+efaa", "unknown module 'efaa'.*did you mean efa"),
        ("vsepp+efa+efa", "names module 'efa' twice"),
        ("scan:t2i-lse+efa", "efa cannot be put on scan: scores come from both sides"),
        ("chance+a-sdm", "a-sdm cannot be put on chance: it has no encoder"),
    ],
)
def test_wrong_labels_are_answered(label, says):
    with pytest.raises(SpecError, match=says):
        registry.parse(label)
    with pytest.raises(SpecError, match=says):
        suites.jobs("full", Data(), only=[label])


def test_modules_are_varied_by_path():
    on = override(job("vsepp"), {"a-sdm": True, "a-sdm.adaptive": 0})
    assert on.model.label == "vsepp+a-sdm"
    assert on.model.modules["a-sdm"]["adaptive"] == 0.0
    assert override(on, {"a-sdm": False}).key == job("vsepp").key
    kept = override(on, {"selfalign": True, "efa": True})
    assert kept.model.label == "vsepp+selfalign+a-sdm+efa"
    assert kept.model.modules["a-sdm"]["adaptive"] == 0.0
    assert "a-sdm.adaptive" in paths(on)


def test_what_cannot_be_set_is_answered():
    with pytest.raises(SpecError, match=r"vsepp has no efa module to set weight on; use vsepp.efa"):
        override(job("vsepp"), {"efa.weight": 2.0})
    with pytest.raises(SpecError, match="efa has no option 'wieght'; did you mean"):
        override(job("vsepp+efa"), {"efa.wieght": 2.0})
    with pytest.raises(SpecError, match=r"efa.weight reaches no row: none of those chosen has efa"):
        suites.jobs("full", Data(), only=["vsepp"], changes={"efa.weight": 2.0})
    with pytest.raises(SpecError, match=r"control width is for a host without SelfAlign, vsepp.efa is not one"):
        override(job("vsepp+efa"), {"control": "width"})


def test_settings_of_a_module_go_to_the_rows_that_have_it():
    found = suites.jobs("full", Data(), only=["vsepp", "vsepp+efa"], seeds=[0], changes={"efa.weight": 2.0})
    assert [j.model.modules.get("efa", {}).get("weight") for j in found] == [None, 2.0]


def test_a_module_of_an_older_recipe_is_not_current():
    model = registry.model("vsepp+efa")
    assert registry.current(model)
    assert not registry.current(replace(model, recipes={**model.recipes, "efa": 0}))
    assert not registry.current(replace(model, recipes={**model.recipes, "gone": 1}))


def test_the_published_suite_has_no_rows_of_that_kind():
    with pytest.raises(SpecError, match="names no row of this suite"):
        suites.jobs("paper", Data(), only=["vsrn+efa"], paper_of="f30k")


def test_records_of_before_are_read():
    assert Model(method="vsepp", recipes={"vsepp": 1}).label == "vsepp"
