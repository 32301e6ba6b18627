"""Which methods exist: one file each, found by its name, read without importing it (so `--list` needs no torch)."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness import ROOT

SELFALIGN = "selfalign"


@dataclass(frozen=True)
class Method:
    """What a method's file says of itself."""

    name: str  # file name
    family: str  # folder: independent | interactive
    summary: str  # first line of the docstring
    paper: str
    recipe: int  # raised when behaviour changes; older records are stale
    variants: Mapping[str, Mapping[str, Any]]  # name ("" = the only one) -> option overrides
    options: Mapping[str, Any]  # defaults
    added: tuple[str, ...] = ()  # options that came after records were stored: written out only where not the default

    @property
    def module(self) -> str:
        return f"baselines.{self.family}.{self.name}"

    @property
    def labels(self) -> tuple[str, ...]:
        """Its rows in a comparison."""
        return tuple(f"{self.name}:{variant}" if variant else self.name for variant in self.variants)


@cache
def methods() -> Mapping[str, Method]:
    """Every method by its file name."""
    found = {}
    for family in ("independent", "interactive"):
        for path in sorted((ROOT / "baselines" / family).glob("[!_]*.py")):
            found[path.stem] = _method(path, family)
    return found


@cache
def selfalign() -> Method:
    """The module that turns an independent host into a SelfAlign model."""
    return _method(ROOT / "models" / f"{SELFALIGN}.py", "independent")


def hosting(method: Method) -> bool:
    return method.family == "independent" and method.name != "chance"


def _method(path: Path, family: str) -> Method:
    docstring, constants, options = _literals(path)
    return Method(
        name=path.stem,
        family=family,
        summary=docstring.partition("\n")[0],
        paper=constants["PAPER"],
        recipe=constants["RECIPE"],
        variants=constants.get("VARIANTS", {"": {}}),
        options=options,
        added=constants.get("ADDED", ()),
    )


def _literals(path: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Docstring, module-level literals and the defaults of `class Options` of a Python file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id in ("RECIPE", "PAPER", "VARIANTS", "ADDED"):
                constants[target.id] = ast.literal_eval(node.value)
        if isinstance(node, ast.ClassDef) and node.name == "Options":
            options = {
                item.target.id: ast.literal_eval(item.value)
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is not None
            }
    return ast.get_docstring(tree) or "", constants, options
