"""The script for a lent machine, rehearsed on a CPU where neither Ray nor anything else can be installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import ROOT
from harness.store import Store

SCRIPT = ROOT / "tools" / "gpu_reference.sh"
SMALL = "--set settings.min_count=1 --set settings.batch=13 --set settings.dim=8 --updates 10"


def call(work: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """On a machine whose Ray cannot be imported."""
    (work / "none" / "ray").mkdir(parents=True, exist_ok=True)
    (work / "none" / "ray" / "__init__.py").write_text("raise ImportError('there is no Ray here')\n")
    own = {"WORK": str(work), "RESULTS": str(work / "results"), "PYTHON": sys.executable, "DEVICE": "cpu"}
    env = os.environ | own | {"PYTHONPATH": str(work / "none")} | settings
    return subprocess.run([SCRIPT, *arguments], env=env, capture_output=True, text=True, timeout=900, check=False)


def keys(store: Store) -> set[str]:
    return {record.key for record in store.records() if record.status == "ok"}


@pytest.mark.slow
def test_rows_are_tuned_trained_side_by_side_and_timed_and_nothing_twice(data_folder, tmp_path):
    rows = {"DATA": str(data_folder), "ROWS": "vsepp vsepp+selfalign", "PROCESSES": "2", "SEEDS": "1"}
    rows |= {"TIMING": "1"}
    done = call(tmp_path, "run", **rows, ALL=SMALL, TUNE="--trials 2")
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert "will fit   vsepp vsepp+selfalign" in said
    told = sorted(line for line in said if line.startswith("finished"))
    assert told == ["finished  vsepp", "finished  vsepp+selfalign"]
    trials, finals = (Store(tmp_path / "results" / f"{suite}-{data_folder.name}") for suite in ("tune", "full"))
    assert {record.label for record in finals.records()} == {"vsepp", "vsepp+selfalign"}
    assert all(finals.cost(key) for key in keys(finals))
    assert len(list((tmp_path / "results" / "tuned").glob("*.json"))) == 1
    assert (tmp_path / "records.tgz").stat().st_size
    before = keys(trials) | keys(finals)
    shutil.rmtree(tmp_path / "rows")  # as on a fresh machine, to which the records were brought
    again = call(tmp_path, "run", **rows | {"ROWS": "vsepp"}, ALL=SMALL, TUNE="--trials 2")
    assert again.returncode == 0, again.stderr
    assert "2 of 2 trials are recorded already" in (tmp_path / "rows" / "vsepp.log").read_text()
    assert keys(trials) | keys(finals) == before


def test_what_is_missing_is_said_in_one_line_before_anything_starts(tmp_path):
    """A Python that sees no package but its own."""
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    done = call(tmp_path / "work", "run", PYTHON=str(bare), DATA="any")
    assert done.returncode == 2
    assert done.stderr.startswith("missing: torch>=2.6, transformers>=")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "work" / "results").exists()


def test_parts_of_the_pictures_are_kept_and_data_without_any_refused(tmp_path):
    for name in ("part.aa", "part.ab"):
        (tmp_path / name).write_text(name)
        assert call(tmp_path / "work", "keep", str(tmp_path / name)).returncode == 0
    assert sorted(path.name for path in (tmp_path / "work" / "parts").iterdir()) == ["part.aa", "part.ab"]
    done = call(tmp_path / "work", "run", DATA=str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "name the captions of kept pictures by CAPTIONS=" in done.stderr


def test_without_a_word_it_says_what_it_takes(tmp_path):
    done = call(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "gpu_reference.sh keep FILE" in done.stderr
