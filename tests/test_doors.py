"""Options that cannot be are refused in one line before any work."""

from __future__ import annotations

import errno
from importlib import import_module
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from harness import ROOT, doors
from harness.atomic import Unwritable
from harness.commands import DOORS
from harness.run import app


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", ","], "--only names nothing"),
        (["--seeds", ","], "--seeds names nothing"),
        (["--seeds", str(2**64)], "--seeds takes numbers from 0 to"),
        (["--seeds", "1" * 5000], "(5,000 characters)"),
        (["--threads", "100000"], "settings.threads must be at most 1024"),
        (["--timing-budget", "inf"], "--timing-budget must be finite"),
        (["--gpus-per-job", "inf"], "--gpus-per-job must be finite"),
        (["--set", "settings.lr=" + "[" * 100_000], "nested too deeply"),
        (["--set", "settings.epochs=" + "1" * 5000], "5,000 characters is too long"),
        (["--only", "vsepp\x1b[31m"], "--only holds characters"),
        (["--data", "a\nb"], "--data holds characters"),
        (["--results", "a\udc80"], "--results holds characters"),
        (["--device", "cpu:5"], "cpu:5"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments, says):
    assert says in refusal(app, *arguments, "--dry-run")


@pytest.mark.parametrize("option", ["--workers", "--timing-rounds", "--train-images"])
def test_no_number_is_too_large_to_be_refused(option):
    assert option in refusal(app, option, str(10**12), "--dry-run")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--epoch", "3"], "no such option '--epoch'; did you mean --epochs"),
        (["--zzz"], "no such option '--zzz'; -h tells those there are"),
        (["--\x1b[31m"], "no such option '--\\x1b[31m'"),
        (["--epochs"], "option '--epochs' requires an argument"),
        (["--epochs", "few"], "invalid value for '--epochs'"),
        (["--epochs", "1" * 5000], "invalid value for '--epochs'"),
        (["vsepp"], "unexpected extra argument(s) (vsepp)"),
    ],
)
def test_words_that_are_no_options_are_refused_in_one_line(arguments, says):
    assert says in refusal(app, *arguments)


@pytest.mark.parametrize("name", DOORS)
def test_every_door_refuses_an_unknown_option_in_one_line(name):
    assert "no such option '--no-such'" in refusal(door(name), "--no-such", "a", "b")


@pytest.mark.parametrize("name", [name for name in DOORS if name != "features"])
def test_every_door_that_looks_at_methods_can_leave_those_of_others_out(name):
    found = CliRunner().invoke(door(name), ["-h"], env={"COLUMNS": "200"})
    assert "--no-plugins" in found.output


def door(name: str) -> Any:
    module = f"harness.{name}"
    return import_module(f"{module}.__main__" if (ROOT / "harness" / name).is_dir() else module).app


def refusal(app: Any, *arguments: str) -> str:
    """The one line of exit 2."""
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 2, found.output
    assert found.stderr.startswith("error: ")
    (line,) = found.stderr.splitlines()
    assert line.isprintable()
    return line


@pytest.mark.parametrize("below", ["", "deep", "deep/er"])
def test_a_file_where_results_should_go_is_told_by_name(tmp_path, below):
    (tmp_path / "afile").write_text("no folder")
    said = refusal(app, "--suite", "smoke", "--only", "chance", "--results", str(tmp_path / "afile" / below))
    assert said == f"error: cannot write to {tmp_path / 'afile'}: not a directory"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (Unwritable(errno.ENOSPC, "No space left on device", "a/b"), "cannot write to a/b: no space left on device"),
        (Unwritable(errno.EEXIST, "File exists", "nowhere"), "cannot write to nowhere: not a directory"),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), "a/b: permission denied"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "nowhere/b"), "nowhere/b: not a directory"),
        (OSError(errno.EBADF, "Bad file descriptor", 7), "[Errno 9] Bad file descriptor: 7"),
        (OSError(errno.ENOSPC, "No space left on device"), "[Errno 28] No space left on device"),
        (OSError("another run is writing to here"), "another run is writing to here"),
    ],
)
def test_errors_of_the_system_are_told_by_path_and_reason(error, says, capsys):
    with pytest.raises(typer.Exit) as left, doors.refusals():
        raise error
    assert left.value.exit_code == 2
    assert capsys.readouterr().err == f"error: {says}\n"


def test_no_argument_at_all_is_no_mistake():
    """Parsed as the full suite; stops here before any work for want of a folder that can be written."""
    from harness.phases.order import OptionalTrace

    command = OptionalTrace("run", callback=lambda: None)
    assert command.parse_args(command.context_class(command), []) == []
