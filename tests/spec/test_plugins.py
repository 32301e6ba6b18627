"""Methods by others are found without being imported, run like ours, and fail alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import ROOT
from harness.record import Store
from harness.spec import methods, plugins, registry, suites
from harness.spec.job import Data, SpecError
from tests.methods_of_others import INDEPENDENT, INTERACTIVE, PIXELS, STRINGS, installed, written


@pytest.fixture(autouse=True)
def as_before():
    yield
    plugins.choose()


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
    assert methods.clashes() == [
        "first 1.0 and selfalign-harness both bring a method 'vsrn': the built-in one is taken"
    ]
    installed(tmp_path / "b", "second", "module_b", "vsrn", INDEPENDENT)
    monkeypatch.syspath_prepend(str(tmp_path / "b"))
    methods._methods.cache_clear()
    with pytest.raises(SpecError, match=r"first 1\.0 and second 1\.0 both bring a method 'vsrn'"):
        registry.methods()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("mine", "x = (", "mine.py: cannot be read as a method"),
        ("mine", "RECIPE = 1\nPAPER = ''", "mine.py: no method, for it does not say FAMILY"),
        ("mine", "FAMILY = 'independent'", "mine.py: no method, for it does not say RECIPE and PAPER"),
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
    plain = ran(tmp_path / "r", *chosen, f"--data={data_folder}", "--set=settings.min_count=1")
    assert plain == {"letters": "ok", "colours": "ok"}
    assert [record.label for record in Store(tmp_path / "r" / "full-zoo").records()] == ["letters"]


def test_ray_workers_have_them_too(tmp_path):
    pytest.importorskip("ray")
    installed(tmp_path / "site", "of-others", "module_of_others", "crossed", INTERACTIVE)
    file = written(tmp_path, "bags")
    found = ran(tmp_path / "r", "--workers=1", "--only=bags,crossed", f"--plugin={file}", path=tmp_path / "site")
    assert found == {"bags": "ok", "crossed": "ok"}
