"""A run in a TOML file: what is written is what is read, and what cannot be is refused in one line that names it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.choices import Afterwards, How, Once, What, Where
from harness.options import written
from harness.run import app

SMOKE = ["--suite", "smoke", "--only", "vsepp", "--set", "settings.lr=0.5", "--epochs", "4", "--threads", "1"]


def asked(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [*words, "--dry-run"], env={"COLUMNS": "80"})
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def refused(*words: str) -> str:
    message = asked(*words, code=2).stderr
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message.removeprefix("error: ").strip()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.toml"


def test_a_run_is_written_and_repeated(file):
    first = asked(*SMOKE, "--save-config", str(file)).output
    assert tomllib.loads(file.read_text())["how"] == {"epochs": 4, "untuned": False, "set": ["settings.lr=0.5"]}
    assert asked("--config", str(file)).output == first
    assert asked("--suite", "smoke", "--only", "vsepp").output != first


def test_every_option_but_those_of_one_call_is_kept():
    values = (
        What("smoke", "d", "o", "1", ["clip=m"], ["mine.py"], True, "coco", False),
        How(1, 2, 3, True, 4, ["a=b"]),
        Where("cuda", 1, 2, 3, 2, 4, 0.5, "auto", "s3://x", False, "mlflow", 2000, Path("elsewhere")),
        Afterwards(1, 2.0, True, "t", "j"),
    )
    stored = tomllib.loads(written(values))
    assert stored.pop("version") == 1
    assert {name: len(table) for name, table in stored.items()} == {"what": 9, "how": 6, "where": 13, "afterwards": 5}
    assert stored["where"]["results"] == "elsewhere"
    assert "results" not in tomllib.loads(written((Where(),)))["where"]  # a folder of this machine


def test_what_the_command_line_adds_to_the_file_counts(file):
    file.write_text('version = 1\n[what]\nsuite = "smoke"\nonly = "vsepp"\n')
    assert asked("--config", str(file), "--seeds", "3").output.count("vsepp seed 3") == 1
    assert asked("--config", str(file), "--only", "vsepp").exit_code == 0  # the same said twice


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version = 1\n[how]\nepoch = 2\n", "[how] has no key 'epoch'; did you mean epochs?"),
        ("version = 1\n[hw]\n", "has no table 'hw'; did you mean how?"),
        ("version = 1\nepochs = 2\n", "has no table 'epochs'"),
        ("version = 2\n", "has version 2, this harness reads up to 1: update the harness"),
        ("[how]\nepochs = 2\n", "must say version = 1, got None"),
        ("version = true\n", "must say version = 1, got True"),
        ("version = 1\n[how]\nepochs = 0\n", "how.epochs must be at least 1, got 0"),
        ("version = 1\n[how]\nepochs = true\n", "how.epochs must be a whole number, got True"),
        ("version = 1\n[how]\nepochs = '2'\n", "how.epochs must be a whole number, got '2'"),
        ("version = 1\n[how]\nset = 'a=b'\n", "how.set must be a list of texts, got 'a=b'"),
        ("version = 1\n[how]\nset = [1]\n", "how.set must be a list of texts, got [1]"),
        ("version = 1\n[where]\ndashboard = 1\n", "where.dashboard must be true or false, got 1"),
        ("version = 1\n[where]\nresults = 1\n", "where.results must be text, got 1"),
        ("version = 1\n[where]\ndashboard_port = 1\n", "must be at least 1024 and at most 65535, got 1"),
        ("version = 1\n[afterwards]\ntiming_budget = nan\n", "timing_budget must be at least 0.1, got nan"),
        ("version = 1\n[how\n", "is not TOML"),
    ],
)
def test_a_file_that_cannot_be_is_refused_in_one_line(text, says, file):
    file.write_text(text)
    message = refused("--config", str(file))
    assert message.startswith(str(file))
    assert says in message


def test_a_file_that_is_not_there_is_refused(file):
    assert refused("--config", str(file)) == f"{file} cannot be read: No such file or directory"


def test_a_file_and_a_command_line_that_differ_are_refused(file):
    file.write_text("version = 1\n[how]\nepochs = 2\n")
    assert refused("--config", str(file), "--epochs", "3") == f"--epochs 3 contradicts {file}: how.epochs = 2"


def test_help_comes_in_groups():
    shown = CliRunner().invoke(app, ["-h"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).output
    places = [shown.index(f"─ {panel} ─") for panel in ("Options", "What", "How", "Where", "Afterwards")]
    assert places == sorted(places)
    assert Once().config is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--only", "VSEPP"], "did you mean vsepp?"),
        (["--only", "VSE++"], "did you mean vsepp?"),
        (["--set", "lr=1e-3"], "did you mean settings.lr?"),
        (["--set", "learning_rate=1e-3"], "did you mean settings.lr?"),
        (["--set", "settings.learning_rate=1"], "did you mean lr?"),
        (["--seeds", "0-2"], "did you mean 0,1,2?"),
        (["--data", "Scenes"], "did you mean scenes?"),
        (["--data", "flickr8k"], "no data 'flickr8k': neither scenes nor a folder here"),
    ],
)
def test_near_misses_are_named(words, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refused("--suite", "smoke", *words)


def test_a_logger_that_is_not_known_is_refused_before_anything_runs():
    said = refused("--suite", "smoke", "--log", "neptune", "--timing-rounds", "0")
    assert "--log takes mlflow and wandb, got 'neptune'" in said
