"""Options that cannot be are refused in one line before any work."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

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
    found = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert found.exit_code == 2
    assert says in found.stderr
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize("option", ["--workers", "--timing-rounds", "--train-images"])
def test_no_number_is_too_large_to_be_refused(option):
    found = CliRunner().invoke(app, [option, str(10**12), "--dry-run"], env={"COLUMNS": "200"})
    assert found.exit_code == 2
    assert option in found.stderr


def test_no_argument_at_all_is_no_mistake():
    """Parsed as the full suite; stops here before any work for want of a folder that can be written."""
    from harness.phases.order import OptionalTrace

    command = OptionalTrace("run", callback=lambda: None)
    assert command.parse_args(command.context_class(command), []) == []
