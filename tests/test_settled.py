"""Which rows a suite that reads tuned settings runs, and what it says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import settled, tuned
from harness.data import sources
from harness.run import app
from harness.spec import methods, plugins, suites
from harness.spec.asked import Asked
from harness.spec.job import Data, Settings
from tests.methods_of_others import written
from tests.tuned_values import row, value

SCENES = Data()
HELD = Settings(batch=64, dim=64, word_dim=64)


def asked(data: Data = SCENES, rows: dict | None = None, **choices) -> Asked:
    found = {"vsepp": row("vsepp", 10.0, 20.0, 30.0, 25.0)} if rows is None else rows
    return suites.asked("full", data, tuned=value(data, HELD, **found), **choices)


def labels(of: Asked) -> set[str]:
    return {job.model.label for job in of.rows}


def test_embedded_data_run_the_rows_that_can_be_ranked_and_name_the_others():
    every = asked()
    found, lines = settled.ranked(every)
    assert labels(found) == {"vsepp", "chance", "bag", "oracle"}
    assert found.posed == every.posed
    (line,) = lines
    assert "imram:full, " in line
    assert line.endswith("--only '*' runs them too")
    assert labels(asked(only=["*"])) == labels(every)  # which names the rows, and is not asked here (harness.run)


@pytest.mark.parametrize(
    ("data", "changes"),
    [(replace(SCENES, own=True), {}), (SCENES, {"settings.dim": 32}), (SCENES, {"settings.updates": 30})],
    ids=["a folder of one's own", "other conditions", "another length"],
)
def test_all_rows_stay_where_the_data_are_ones_own_or_no_row_is_tuned(data, changes):
    every = asked(data, changes=changes)
    assert settled.ranked(every) == (every, [])


def test_nothing_is_said_where_every_row_is_tuned():
    found = asked(only=["vsepp", "chance"])
    assert settled.ranked(found) == (found, [])


def test_the_base_of_a_question_counts_among_the_rows():
    held = value(SCENES, HELD, vsepp=row("vsepp", 10.0, 20.0, 30.0, 25.0))
    found = (Path("results/tuned/scenes.json"), held)
    told = settled.lines(asked(only=["ablations/submodules/vsepp"]), found)
    assert list(told) == [
        f"tuned      1 of 1 rows have the settings of tuned/scenes.json ({held.key}), 20 updates long"
    ]
    told = settled.lines(asked(only=["ablations/submodules/camera"]), found)
    assert [line[:64] for line in told] == ["untuned    tuned/scenes.json says nothing of these rows: other r"]


@pytest.fixture
def as_before():
    yield
    plugins.choose()
    methods._methods.cache_clear()


@pytest.mark.usefixtures("as_before")
def test_a_method_of_others_runs_untuned(tmp_path: Path):
    plugins.choose([written(tmp_path, "bags")])
    found, lines = settled.ranked(asked())
    assert "bags" in labels(found)
    assert "vsrn" not in labels(found)
    assert "bags" in "".join(settled.lines(found, (Path("tuned/scenes.json"), value(SCENES, HELD))))
    assert "bags" not in "".join(lines)


def test_rows_of_the_scale_are_not_called_untuned():
    found, _ = settled.ranked(asked())
    assert len(list(settled.lines(found, (Path("tuned/scenes.json"), value(SCENES, HELD))))) == 1


def test_the_door_leaves_them_out_unless_rows_are_named(tmp_path: Path):
    data, _ = sources.described("scenes")
    tuned.store(tmp_path / "tuned" / "scenes.json", value(data, HELD, vsepp=row("vsepp", 10.0, 20.0, 30.0, 25.0)))

    def said(*more: str) -> str:
        arguments = ["--suite", "full", "--dry-run", "--results", str(tmp_path), *more]
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
        assert result.exit_code == 0, result.output + repr(result.exception)
        return result.output

    assert "left out   camera, " in said()
    assert "camera seed 1" not in said()
    assert "camera seed 1" in said("--only", "*")
    assert "camera seed 1" in said("--untuned")
