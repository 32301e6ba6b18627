"""Which methods exist: one file each, found by its name, read without importing it (so `--list` needs no torch).

A method's label is `file[:variant][+selfalign]`, as in `vsepp`, `scan:t2i-lse`, `vsrn+selfalign`; the same string is
the flag, the row and the record's name.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from harness import ROOT
from harness.jobs.spec import Model, SpecError

SELFALIGN = "selfalign"
PARAMETERS = (
    ROOT / "baselines" / "parameters.json"
)  # label -> trained ones, as `python -m tests.parameters` counts them


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


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean a, b?` or, where nothing is near, `; known: ...`."""
    known = list(known)
    near = get_close_matches(word, known, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(near)}?" if near else f"; known: {', '.join(known)}"


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


def labels() -> tuple[str, ...]:
    """Every row there can be: all variants of all methods, and every trainable independent host with SelfAlign."""
    rows = [label for method in methods().values() for label in method.labels]
    hosts = [label for method in methods().values() if hosting(method) for label in method.labels]
    return (*rows, *(f"{host}+{SELFALIGN}" for host in hosts))


@cache
def parameters() -> Mapping[str, int]:
    """Trained parameters of every row at the default settings on the embedded scenes: {} where nobody counted."""
    return json.loads(PARAMETERS.read_text(encoding="utf-8")) if PARAMETERS.exists() else {}


def hosting(method: Method) -> bool:
    return method.family == "independent" and method.name != "chance"


def parse(label: str) -> tuple[Method, str, bool]:
    """`scan:t2i-lse` -> (SCAN, "t2i-lse", no SelfAlign).  Raises SpecError with the nearest known names."""
    base, _, module = label.partition("+")
    name, _, variant = base.partition(":")
    method = methods().get(name)
    if method is None:
        raise SpecError(f"unknown method {name!r}{nearest(label, labels())}")
    if module not in ("", SELFALIGN):
        raise SpecError(f"unknown module {module!r} in {label!r}{nearest(module, [SELFALIGN])}")
    if variant not in method.variants:
        raise SpecError(f"{name} has no variant {variant!r}{nearest(label, method.labels)}")
    if module and not hosting(method):
        why = (
            "scores come from both sides together, there is no embedding of one side to align ahead of a query"
            if method.family == "interactive"
            else "it learns nothing"
        )
        raise SpecError(f"SelfAlign cannot be put on {name}: {why}")
    return method, variant, bool(module)


def _resolved(method: Method, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults with changes; a name or a type that does not fit raises SpecError."""
    where, defaults = method.name, method.options
    merged = dict(defaults)
    for name, value in changes.items():
        if name not in defaults:
            raise SpecError(f"{where} has no option {name!r}{nearest(name, defaults)}")
        merged[name] = fitted(value, defaults[name], f"{where}.{name}")
    return {name: value for name, value in merged.items() if name not in method.added or value != defaults[name]}


def fitted(value: Any, default: Any, where: str) -> Any:
    """`value` as the type of `default` (an int may stand for a float).  Raises SpecError otherwise."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise SpecError(f"{where} must be {type(default).__name__} like {default!r}, got {value!r}")
    return value


def model(
    label: str, options: Mapping[str, Any] | None = None, selfalign_options: Mapping[str, Any] | None = None
) -> Model:
    """The resolved model of a row: every option written out, with the recipes it was built by."""
    method, variant, with_module = parse(label)
    if selfalign_options and not with_module:
        raise SpecError(
            f"{label} has no SelfAlign module to set {', '.join(selfalign_options)} on; use {label}+{SELFALIGN}"
        )
    recipes = {method.name: method.recipe} | ({SELFALIGN: selfalign().recipe} if with_module else {})
    changes = {**method.variants[variant], **(options or {})}
    return Model(
        method=method.name,
        variant=variant,
        options=_resolved(method, changes),
        selfalign=_resolved(selfalign(), selfalign_options or {}) if with_module else None,
        recipes=recipes,
    )


def current(model: Model) -> bool:
    """Whether a stored model was built by today's recipes (a method that is gone is not current)."""
    known = {name: method.recipe for name, method in methods().items()} | {SELFALIGN: selfalign().recipe}
    return all(known.get(name) == recipe for name, recipe in model.recipes.items())
