"""All commands behind one name: each is listed, tells its options, and is found by a word that is nearly its own."""

from __future__ import annotations

import runpy
import sys
from importlib.metadata import version

import pytest

from harness.commands import DOORS, doors


def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit status, output and complaints of `python -m harness WORDS` at 80 columns."""
    monkeypatch.setattr(sys, "argv", ["harness", *words])
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    from harness.__main__ import main

    for name in DOORS:  # as in a process of its own
        for module in (f"harness.{name}", f"harness.{name}.__main__"):
            monkeypatch.delitem(sys.modules, module, raising=False)
    try:
        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_every_command_is_listed_with_a_line(monkeypatch, capsys):
    code, shown, _ = called(monkeypatch, capsys)
    assert code == 0
    for name, said in doors().items():
        assert f"\n{name}\n    {said}\n" in shown
        assert not said.startswith("Door")
    assert {"run", "features", "compare", "search_index", "report"} <= doors().keys()


@pytest.mark.parametrize("name", doors())
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_tells_its_options_within_80_columns(name, flag, monkeypatch, capsys):
    code, shown, _ = called(monkeypatch, capsys, name, flag)
    assert code == 0
    assert "Usage:" in shown
    assert "Door:" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_word_that_is_no_command_is_refused_with_the_nearest(monkeypatch, capsys):
    assert called(monkeypatch, capsys, "rum") == (2, "", "error: unknown command 'rum'; did you mean run?\n")


@pytest.mark.parametrize("words", [["--version"], ["run", "--version"]])
def test_the_version_is_told(words, monkeypatch, capsys):
    assert called(monkeypatch, capsys, *words) == (0, f"{version('selfalign-harness')}\n", "")


def test_the_module_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["harness", "--version"])
    monkeypatch.delitem(sys.modules, "harness.__main__", raising=False)
    runpy.run_module("harness", run_name="__main__")
    assert capsys.readouterr().out == f"{version('selfalign-harness')}\n"
