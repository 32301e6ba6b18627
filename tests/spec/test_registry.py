"""Methods are found by their file names, and every wrong name is answered with the nearest right one."""

import subprocess
import sys

import pytest

from harness import ROOT
from harness.spec import registry
from harness.spec.job import Model, SpecError
from harness.spec.names import fitted


def test_every_file_is_a_method():
    files = {
        p.stem
        for family in ("independent", "interactive", "scale")
        for p in (ROOT / "baselines" / family).glob("[!_]*.py")
    }
    assert set(registry.methods()) == files


def test_labels_name_variants_and_hosts():
    labels = registry.labels()
    assert {"chance", "vsepp", "vsrn", "scan:t2i-lse", "vsepp+selfalign", "vsrn+selfalign"} <= set(labels)
    assert len(labels) == len(set(labels))
    assert not any(label.startswith("chance+") or (label.startswith("scan") and "+" in label) for label in labels)


def test_a_label_and_its_model_agree():
    for label in registry.labels():
        assert registry.model(label).label == label


def test_variants_override_the_defaults():
    assert registry.model("scan:i2t-lse").options["direction"] == "i2t"
    assert registry.model("scan:t2i-lse").options["direction"] == "t2i"


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("vsep", "unknown method 'vsep'; did you mean vsepp"),
        ("aladi", "unknown method 'aladi'; did you mean aladin"),  # which stands aside
        ("scan:t2i", "scan has no variant 't2i'; did you mean scan:t2i-"),
        ("vsepp+selfaling", "unknown module 'selfaling'.*did you mean selfalign"),
        ("scan:t2i-lse+selfalign", "SelfAlign cannot be put on scan: .*no embedding of one side"),
        ("chance+selfalign", "SelfAlign cannot be put on chance: it has no encoder"),
        ("", "unknown method ''"),
    ],
)
def test_wrong_labels_are_answered(label, says):
    with pytest.raises(SpecError, match=says):
        registry.parse(label)


def test_wrong_options_are_answered():
    with pytest.raises(SpecError, match="vsrn has no option 'layer'; did you mean layers"):
        registry.model("vsrn", {"layer": 2})
    with pytest.raises(SpecError, match=r"vsrn.layers must be int like 4, got 'two'"):
        registry.model("vsrn", {"layers": "two"})
    with pytest.raises(SpecError, match="vsepp has no SelfAlign module to set prototypes on"):
        registry.model("vsepp", selfalign_options={"prototypes": 8})


def test_an_int_may_stand_for_a_float():
    assert fitted(1, 0.5, "x") == 1.0
    with pytest.raises(SpecError, match="x must be float"):
        fitted(True, 0.5, "x")


def test_models_of_older_recipes_are_not_current():
    model = registry.model("vsepp+selfalign")
    assert registry.current(model)
    for name in ("vsepp", "selfalign"):
        assert not registry.current(type(model)(**{**vars(model), "recipes": {**model.recipes, name: 0}}))
    assert not registry.current(type(model)(method="gone", recipes={"gone": 1}))


def test_an_ensemble_is_as_current_as_its_members():
    members = [registry.model(label) for label in ("bfan:equal", "bfan:prob")]
    recipes = {name: recipe for member in members for name, recipe in member.recipes.items()}
    assert registry.current(Model("bfan*", recipes=recipes))
    assert not registry.current(Model("bfan*", recipes={name: recipe - 1 for name, recipe in recipes.items()}))


def test_the_list_and_the_report_need_no_torch():
    code = (
        "import sys, harness.spec.registry as r, harness.spec.suites as s, harness.record;"
        "r.labels(); s.find('full').labels();"
        "sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("label", "options", "name"),
    [
        ("vsepp+distilled", {}, "vsepp+distilled"),
        ("vsepp+distilled", {"teacher": "peer"}, "vsepp+distilled (teacher=peer)"),
        ("vsepp+distilled", {"teacher": "chan@0123", "sides": "rows"}, "vsepp+distilled (sides=rows, teacher=chan)"),
        ("vsepp+a-sdm", {"weight": 3.0}, "vsepp+a-sdm"),
    ],
)
def test_rows_that_learn_from_others_have_trials_of_their_own_each(label, options, name):
    model = registry.model(label, module_options={label.partition("+")[2]: options})
    assert registry.named(model) == name


def test_what_the_trials_of_a_row_that_stands_on_another_are_called():
    assert registry.named(registry.model("two_stage")) == "two_stage"
    assert registry.named(registry.model("two_stage", {"encoder": "vsrn"})) == "two_stage (encoder=vsrn)"
    assert registry.named(registry.model("scan:t2i-lse")) == "scan:t2i-lse"
    assert registry.named(registry.model("vsepp+selfalign", None, {"prototypes": 64})) == "vsepp+selfalign"
