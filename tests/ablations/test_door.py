"""Asking a question from the command line: its arms run once, and its table is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.run import app

SMALL = ("--set", "settings.min_count=1", "--set", "settings.batch=13", "--set", "settings.dim=8", "--threads", "1")

pytestmark = pytest.mark.usefixtures("same_torch_after")


def ask(data: Path, results: Path, *arguments: str) -> Result:
    where = ("--data", str(data), "--results", str(results), "--timing-rounds", "0", "--epochs", "1")
    return CliRunner().invoke(app, [*where, *SMALL, *arguments])


def test_a_question_makes_its_table_in_the_folder_of_ablations(data_folder, tmp_path):
    done = ask(data_folder, tmp_path, "--only", "ablations/retrieval_blocks", "--seeds", "0,1")
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert "done    vsepp+selfalign training-only seed 1: test Rsum" in done.output
    table = (tmp_path / f"ablations-{data_folder.name}" / "tables" / "ablation-retrieval_blocks.md").read_text()
    assert table.startswith("# Do the context blocks help in retrieval, or is it enough to train with them?")
    assert "| training-only |" in table.replace("  ", "")
    again = ask(data_folder, tmp_path, "--only", "ablations/retrieval_blocks", "--seeds", "0,1")
    assert "cached  4 of 4 jobs" in again.output


def test_every_control_of_the_width_trains(data_folder, tmp_path):
    done = ask(data_folder, tmp_path, "--suite", "smoke", "--only", "ablations/dimension_control/vsepp*")
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert done.output.count("done    vsepp host") == 4
    tables = tmp_path / f"smoke-{data_folder.name}" / "tables"
    assert (tables / "ablation-dimension_control.csv").read_text().count("undecided") == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "ablations/prototype"], "no ablation 'ablations/prototype'; did you mean ablations/prototypes"),
        (
            ["--only", "ablations/relu", "--set", "selfalign.relu=false"],
            "arm 'linear' of ablations/relu changes nothing",
        ),
        (["--only", "ablations/relu", "--workers", "999"], "999 workers of 1 threads need more than the"),
        (
            ["--only", "ablations/relu", "--workers", "1", "--threads", "999"],
            "a job of 999 threads needs as many CPUs",
        ),
        (["--only", "ablations/relu", "--workers", "1", "--gpus-per-job", "99"], "--gpus-per-job 99 cannot be had"),
        (["--only", "ablations/relu", "--address", "auto", "--workers", "0"], "choose one"),
    ],
)
def test_what_cannot_be_asked_or_placed_is_refused_in_one_line(data_folder, tmp_path, arguments, says):
    done = ask(data_folder, tmp_path, *arguments)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert not list(tmp_path.glob("ablations-*"))


def test_asking_for_ray_where_there_is_none_is_refused_in_one_line(data_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.schedule.division.installed", lambda: False)
    done = ask(data_folder, tmp_path, "--only", "ablations/relu", "--workers", "2")
    assert (done.exit_code, done.stderr) == (
        2,
        "error: Ray is not installed: pip install 'selfalign-harness[ray]', or run with --workers 0\n",
    )
