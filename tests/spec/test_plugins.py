"""Methods by others are found without being imported, run like ours, and fail alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import ROOT
from harness.data import sources
from harness.data.prepared import prepare
from harness.data.split import DataError
from harness.spec import methods, needs, plugins, registry, suites
from harness.spec.job import Data, Settings, SpecError
from harness.store import Store
from tests.methods_of_others import INDEPENDENT, INTERACTIVE, PIXELS, STRINGS, installed, packaged, written


@pytest.fixture(autouse=True)
def as_before():
    yield
    plugins.choose()
    methods._methods.cache_clear()


def test_a_file_is_a_row_with_its_source_in_the_key(tmp_path):
    file = written(tmp_path, "bags")
    plugins.choose([file])
    assert "bags" in registry.labels()
    assert "bags+selfalign" not in registry.labels()
    first = suites.jobs("full", Data(), only=["bags"], seeds=[0])[0]
    assert first.as_dict()["model"]["origin"].startswith("bags.py ")
    assert registry.current(first.model)
    file.write_text(INDEPENDENT + "\n# another day\n")
    methods._methods.cache_clear()
    assert suites.jobs("full", Data(), only=["bags"], seeds=[0])[0].key != first.key
    assert not registry.current(first.model)
    assert "origin" not in registry.model("vsepp").as_dict()
    plugins.choose()
    assert registry.current(first.model)  # a report without the plugin has no reason to call it stale


def test_an_installed_one_is_read_and_never_imported(tmp_path, monkeypatch):
    installed(tmp_path, "of-others", "module_of_others", "bags", INDEPENDENT + "\nraise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    methods._methods.cache_clear()
    assert registry.methods()["bags"].origin.startswith("of-others 1.0 ")
    plugins.choose(installed=False)
    assert "bags" not in registry.methods()
    methods._methods.cache_clear()


def test_of_two_names_ours_wins_and_two_others_clash(tmp_path, monkeypatch):
    installed(tmp_path / "a", "first", "module_a", "vsrn", INDEPENDENT)
    monkeypatch.syspath_prepend(str(tmp_path / "a"))
    methods._methods.cache_clear()
    assert registry.methods()["vsrn"].plugin is None
    assert methods.left_out() == (
        "first 1.0 and selfalign-harness both bring a method 'vsrn': the built-in one is taken",
    )
    installed(tmp_path / "b", "second", "module_b", "vsrn", INDEPENDENT)
    monkeypatch.syspath_prepend(str(tmp_path / "b"))
    methods._methods.cache_clear()
    assert methods.left_out() == ("first 1.0 and second 1.0 both bring a method 'vsrn': neither is taken",)
    assert registry.methods()["vsrn"].plugin is None
    plugins.choose([written(tmp_path, "bags")])
    installed(tmp_path / "c", "third", "module_c", "bags", INDEPENDENT)
    monkeypatch.syspath_prepend(str(tmp_path / "c"))
    with pytest.raises(SpecError, match=r"bags\.py and third 1\.0 both bring a method 'bags'"):
        registry.methods()


@pytest.mark.parametrize(
    ("text", "module", "says"),
    [
        ("x = (", "module_bad", "of-others 1.0 brings no method 'bags': {0}: cannot be read as a method: "),
        ("RECIPE = 1", "module_bad", "of-others 1.0 brings no method 'bags': {0}: no method, for it does not say"),
        ("NEEDS = 3\nRECIPE = 1\nPAPER = ''\nFAMILY = 'independent'", "module_bad",
         "of-others 1.0 brings no method 'bags': {0}: NEEDS cannot be 3"),
        (INDEPENDENT, "module_gone", "of-others 1.0 brings no method 'bags': there is no file of module module_gone"),
    ],
)  # fmt: skip
def test_a_broken_installed_one_is_a_line_and_stops_nothing(tmp_path, monkeypatch, text, module, says):
    installed(tmp_path, "of-others", module, "bags", text)
    if module == "module_gone":
        (tmp_path / "module_gone.py").unlink()
    monkeypatch.syspath_prepend(str(tmp_path))
    methods._methods.cache_clear()
    assert "bags" not in registry.methods()
    assert "vsepp" in registry.methods()
    (line,) = methods.left_out()
    assert line.startswith(says.format(tmp_path / f"{module}.py"))


DATA = """
import harness.data.scenes as scenes

print("imported")

def small():
    return scenes.source(scenes.Settings(seed=7, train_images=11, dev_images=5, test_images=3))

def broken():
    raise OSError("no disk")

def nothing():
    return 3
"""


def test_a_package_brings_data_by_name(tmp_path, monkeypatch, capsys):
    points = {name: f"module_of_data:{name}" for name in ("small", "broken", "nothing", "scenes")}
    packaged(tmp_path, "of-others", plugins.DATASETS, points | {"gone": "module_gone:small"})
    written(tmp_path, "module_of_data", DATA)
    monkeypatch.syspath_prepend(str(tmp_path))
    data, offers = sources.described("small")
    assert (data.name, data.path, data.own) == ("small", "", False)
    assert data.fingerprint != sources.described("scenes")[0].fingerprint  # of the built-in ones, which win
    assert "pixels" in offers
    assert sources.embedded("small", own=False)
    prepared = prepare(data, Settings(min_count=1))
    assert len(prepared.train.split.images) == 11
    for name, says in {
        "broken": "of-others 1.0 brings no data 'broken': OSError: no disk",
        "nothing": "brings no data 'nothing': module_of_data:nothing returns a int, not a harness.data.split.Source",
        "gone": "of-others 1.0 brings no 'gone': ModuleNotFoundError: No module named 'module_gone'",
    }.items():
        with pytest.raises(DataError, match=says):
            sources.find(name)
    assert capsys.readouterr().out == ""
    plugins.choose(installed=False)
    with pytest.raises(DataError, match="no data 'small'"):
        sources.find("small")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("mine", "x = (", "mine.py: cannot be read as a method"),
        ("mine", "RECIPE = 1\nPAPER = ''", "mine.py: no method, for it does not say FAMILY"),
        ("mine", "FAMILY = 'independent'", "mine.py: no method, for it does not say RECIPE and PAPER"),
        ("mine", f"{INDEPENDENT}\nNEEDS = 3", "mine.py: NEEDS cannot be 3"),
        ("mine", f"{INDEPENDENT}\nPAPER = 3", "mine.py: PAPER cannot be 3"),
        ("mine", f"{INDEPENDENT}\nVARIANTS = ['a']", r"mine.py: VARIANTS cannot be \['a'\]"),
        ("mine", f"{INDEPENDENT}\nVARIANTS = {{'a': 1}}", r"mine.py: VARIANTS cannot be \{'a': 1\}"),
        ("mine", f"{INDEPENDENT}\nVARIANTS = {{[]: 1}}", "mine.py: cannot be read as a method"),
        ("vsrn", INDEPENDENT, "vsrn.py and selfalign-harness both bring a method 'vsrn': rename the file"),
    ],
)
def test_a_file_that_is_no_method_is_one_line(tmp_path, name, text, says):
    plugins.choose([written(tmp_path, name, text)])
    with pytest.raises(SpecError, match=says):
        registry.methods()


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(SpecError, match="no such Python file"):
        plugins.choose([tmp_path / "mine.py"])


def ran(folder: Path, *words: str, path: Path | None = None) -> dict[str, str]:
    """Label -> status of what a run recorded."""
    base = [sys.executable, "-m", "harness.run", "--suite", "full", "--seeds", "0", "--no-ensembles", "--threads", "1"]
    small = [f"--set=data.{split}_images=16" for split in ("train", "dev", "test")]
    small += ["--epochs=1", "--set=settings.batch=8", "--timing-rounds=1", "--timing-budget=0.1", "--no-dashboard"]
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    command = [*base, *small, f"--results={folder}", *words]
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    records = [json.loads(file.read_text()) for file in folder.rglob("records/*.json")]
    return {record["label"]: record["status"] for record in records if "label" in record}


def test_one_that_fails_to_import_is_one_failed_row(tmp_path):
    bad = written(tmp_path, "bad", INDEPENDENT + "\nprint('hello')\nraise SystemExit(3)\n")
    good = written(tmp_path, "good", INDEPENDENT + "\nprint('hello')\n")
    found = ran(tmp_path / "r", "--workers=0", "--only=bad,good", f"--plugin={bad}", f"--plugin={good}")
    assert found == {"bad": "failed", "good": "ok"}


@pytest.mark.slow
def test_methods_of_strings_and_of_pixels_run_from_end_to_end(tmp_path, data_folder):
    """What reads raw captions trains, what has nothing to learn finds colours; both are timed."""
    letters, colours = written(tmp_path, "letters", STRINGS), written(tmp_path, "colours", PIXELS)
    chosen = ["--workers=0", "--only=letters,colours", f"--plugin={letters}", f"--plugin={colours}"]
    assert ran(tmp_path / "r", *chosen) == {"letters": "ok", "colours": "ok"}
    store = Store(tmp_path / "r" / "full-scenes")
    found = {record.label: record for record in store.records()}
    assert (found["colours"].parameters, found["colours"].best_epoch) == (0, None)
    assert found["letters"].best_epoch == 0
    assert all(store.cost(record.key) is not None for record in found.values())
    ranks = store.ranks(found["colours"].key)
    assert ranks is not None
    assert ranks.i2t.mean() < 6  # the best of 5 captions among 80: of chance it is (80 - 5) / 6 = 12.5
    plugins.choose([letters, colours])
    asked = suites.asked("full", Data(name="zoo"), only=["letters", "colours"], seeds=[0])
    left, lines = needs.served(asked, sources.described(str(data_folder))[1])
    assert [job.model.label for job in left.jobs] == ["letters"]
    assert lines == ["Left out: colours needs pixels, which zoo does not have"]


@pytest.mark.slow
def test_ray_workers_have_them_too(tmp_path):
    pytest.importorskip("ray")
    installed(tmp_path / "site", "of-others", "module_of_others", "crossed", INTERACTIVE)
    file = written(tmp_path, "bags")
    found = ran(tmp_path / "r", "--workers=1", "--only=bags,crossed", f"--plugin={file}", path=tmp_path / "site")
    assert found == {"bags": "ok", "crossed": "ok"}
