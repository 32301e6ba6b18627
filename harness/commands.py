"""The commands there are: `python -m harness NAME`, each a module of that name, told by the first line of its own."""

from __future__ import annotations

import ast
from importlib.metadata import version
from typing import Any

import typer

from harness import ROOT

DOORS = ("run", "features", "compare", "choose", "check", "export", "search", "search_index", "report")
DISTRIBUTION = "selfalign-harness"
HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


def doors() -> dict[str, str]:
    """Name -> what it does; nothing is imported."""
    return {name: said for name in DOORS if (said := _summary(name))}


def _summary(name: str) -> str:
    """First line of a module's docstring; "" where there is no such module."""
    for path in (ROOT / "harness" / f"{name}.py", ROOT / "harness" / name / "__main__.py"):
        if path.exists():
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            return docstring.partition("\n")[0]
    return ""


def show_version(asked: bool) -> None:
    """Callback of `--version`."""
    if asked:
        typer.echo(version(DISTRIBUTION))
        raise typer.Exit
