"""Whatever a door is told, it works or says in one line what is wrong: exit 0, 1 or 2, and no traceback."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from harness import ROOT, choose, compare, features, run, search_index
from harness.report import __main__ as report
from harness.spec.job import Model
from tests.report.conftest import Maker

EXAMPLES = int(os.environ.get("HARNESS_FUZZ_EXAMPLES", "200"))
HOSTILE = st.sampled_from(
    [
        *(
            "",
            ",",
            "inf",
            "-inf",
            "nan",
            "-1",
            "0",
            "1e400",
            "9" * 5000,
            "[" * 10_000,
            "../x",
            "a/../../b",
            "*",
            "cpu:5",
        ),
        *(
            "a\nb",
            "\x1b[31m",
            "a\udc80",
            "\x00",
            "C" * 300,
            "*",
            "--",
            "[bold]",
            "{0}",
            "vsepp,,vsepp",
            "0,0",
            "settings.lr=",
            "--",
        ),
    ]
)
TEXT = HOSTILE | st.text(max_size=12) | st.integers().map(str) | st.floats().map(str)
FUZZ = settings(
    max_examples=max(1, EXAMPLES // 5), deadline=None, derandomize=True,
    phases=[Phase.generate],
)  # fmt: skip


def told(*options: str) -> st.SearchStrategy[list[str]]:
    """Some of these options, each with a value that may be anything."""
    given = st.lists(st.tuples(st.sampled_from(options), TEXT), min_size=1, max_size=3)
    return given.map(lambda pairs: [f"{option}={value}" for option, value in pairs])


def settle(app, arguments: list[str]) -> None:
    """Raises AssertionError where a door is left by an error of its own, or refuses at length."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code in (0, 1, 2), arguments
    assert done.exception is None or isinstance(done.exception, SystemExit), arguments
    assert "Traceback" not in done.output
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert not said or len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.output


@FUZZ
@given(
    told(
        *("--suite", "--data", "--only", "--seeds", "--epochs", "--train-images", "--device", "--threads"),
        *("--score-memory", "--workers", "--gpus-per-job", "--address", "--storage", "--timing-rounds"),
        *("--timing-budget", "--results", "--set", "--paper-of", "--dashboard-port"),
    )
)
def test_a_run(arguments):
    settle(run.app, [*arguments, "--dry-run"])


@FUZZ
@given(told("--retrieved", "--queries", "--data", "--images", "--captions"), st.booleans())
def test_a_report(arguments, check):
    settle(report.app, [*arguments, *(["--check"] if check else []), str(ROOT / "tests" / "nowhere")])


@FUZZ
@given(TEXT, TEXT)
def test_a_comparison(a, b):
    settle(compare.app, ["--out=/dev/null/x", "--", a, b])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A row of data that lie elsewhere, whose weights are gone, and an ensemble of it."""
    make = Maker(tmp_path_factory.mktemp("stored") / "full-mine")
    job = make.job("vsepp", data={"name": "mine"})
    make.add(job, make.ranks([0, 1], [0, 1]))
    make.add(replace(job, model=Model("vsepp*")), make.ranks([0, 1], [0, 1]), members=[job.key], family="independent")
    return make.folder


@FUZZ
@given(told("--gallery", "--budget-ms", "--memory", "--device", "--by"))
def test_a_choice(trained, arguments):
    settle(choose.app, ["--gallery=1M", "--budget-ms=20", *arguments, str(trained)])


@FUZZ
@given(told("--data", "--only", "--row", "--sizes", "--build-budget", "--threads"))
def test_approximate_search(trained, arguments):
    settle(search_index.app, [*arguments, str(trained)])


@pytest.fixture(scope="module")
def captions(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("captions") / "dataset.json"
    picture = {"filename": "a.jpg", "split": "train", "sentences": [{"raw": "a dog"}], "imgid": 0}
    path.write_text(json.dumps({"images": [picture]}))
    return path


@FUZZ
@given(
    told(
        *("--backbone", "--size", "--batch", "--device", "--splits", "--limit", "--name", "--out", "--captions"),
        "--columns",
    )
)
def test_features(captions, arguments):
    """There are no pictures, so that nothing is ever computed."""
    given = [f"--captions={captions}", f"--pictures={captions.parent / 'none'}", f"--out={captions.parent / 'out'}"]
    settle(features.app, [*given, *arguments])
