"""Which methods exist: one file each, found by its name, read without importing it (so `--list` needs no torch)."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from harness import ROOT
from harness.spec import plugins, pretrained
from harness.spec.job import SpecError
from harness.spec.names import nearest
from harness.spec.plugins import Plugin
from harness.spec.pretrained import Pretrained

SELFALIGN = "selfalign"
LITERALS: Mapping[str, Any] = {  # what a file may say of its method, and the type of it
    "RECIPE": int,
    "PAPER": str,
    "VARIANTS": dict,
    "ADDED": (list, tuple),
    "NEEDS": (list, tuple),
    "SPARED": dict,
    "HOSTS": bool,
    "FAMILY": str,
    "FLOOR": bool,
    "TITLE": str,
    "ON": (list, tuple),
    "ASIDE": bool,
    "ROWS": dict,
}
NESTED = ("VARIANTS", "SPARED")  # whose values are mappings too
FITS = ("truth", "bag")  # what a row of the scale is told: which images a caption fits, by its truth or its words
NEEDS = ("fragments", "boxes", "tokens", "pixels", "strings", *FITS)  # what a method may read of an item
FAMILIES = ("independent", "interactive", "scale")  # folders of `baselines`
USUAL = ("fragments", "tokens")  # where a file does not say


@dataclass(frozen=True)
class Method:
    """What a method's file says of itself."""

    name: str  # file name
    family: str  # one of `FAMILIES`: folder, or what a plugin says
    summary: str  # first line of the docstring
    paper: str
    recipe: int  # raised when behaviour changes; older records are stale
    variants: Mapping[str, Mapping[str, Any]]  # name ("" = the only one) -> option overrides
    options: Mapping[str, Any]  # defaults
    added: tuple[str, ...] = ()  # options that came after records were stored: written out only where not the default
    needs: tuple[str, ...] = USUAL  # what it reads, some of `NEEDS`
    spared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # need -> options under which there is none
    hosts: bool = False  # whether SelfAlign can be put on it
    floor: bool = False  # what every other method must beat: beside the others, never ranked among them
    title: str = ""  # of a module: what tables call it, where its name alone would claim too much
    on: tuple[str, ...] = ("independent",)  # of a module: families it can be put on
    aside: bool = False  # no row of a suite unless it is named
    # options that name another row, whose stored weights are taken -> values that are no row
    rows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    plugin: Plugin | None = None  # who brings it, where it is not ours
    origin: str = ""  # of a plugin: distribution, version and a hash of its source
    pretrained: Pretrained | None = None  # a model of transformers, where it is one

    @property
    def module(self) -> str:
        return f"baselines.{self.family}.{self.name}"

    @property
    def labels(self) -> tuple[str, ...]:
        """Its rows in a comparison."""
        return tuple(f"{self.name}:{variant}" if variant else self.name for variant in self.variants)

    def needed(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """What it reads under these options."""
        return tuple(
            need
            for need in self.needs
            if need not in self.spared or any(options[name] != value for name, value in self.spared[need].items())
        )


def methods() -> Mapping[str, Method]:
    """Every method by its name: our own by file, those of chosen plugins, then pretrained ones.  Raises SpecError."""
    known, models = _methods(plugins.chosen())[0], pretrained.chosen()
    return {**known, **{model.name: _pretrained(model) for model in models}} if models else known


def _pretrained(model: Pretrained) -> Method:
    return Method(
        name=model.name,
        family=model.family,
        summary=f"{model.kind} of {model.folder.name}, pretrained",
        paper="",
        recipe=pretrained.RECIPE,
        variants={"": {}},
        options=dict(model.options),
        needs=("pixels", "strings"),
        pretrained=model,
    )


def left_out() -> tuple[str, ...]:
    """A line for every method of an installed package that is broken, or goes by a name of ours.  Raises SpecError."""
    return _methods(plugins.chosen())[1]


@cache
def _methods(chosen: plugins.Chosen) -> tuple[Mapping[str, Method], tuple[str, ...]]:
    ours = _built_in()
    for file in chosen.files:
        if file.stem in ours:
            raise SpecError(f"{file} and selfalign-harness both bring a method {file.stem!r}: rename the file")
    found, lines = plugins.found(chosen)
    theirs = {}
    for name, plugin in found.items():
        if name in ours:
            lines.append(
                f"{plugin.giver} and selfalign-harness both bring a method {name!r}: the built-in one is taken"
            )
            continue
        try:
            theirs[name] = _by_others(plugin)
        except Exception as error:
            if plugin.path in chosen.files:  # given by hand
                raise
            lines.append(f"{plugin.giver} brings no method {name!r}: {error}")
    return {**ours, **theirs}, tuple(lines)


def _by_others(plugin: Plugin) -> Method:
    method = read(plugin.path, "")
    return replace(method, name=plugin.name, plugin=plugin, origin=plugin.origin)


@cache
def _built_in() -> Mapping[str, Method]:
    found = {}
    for family in FAMILIES:
        for path in sorted((ROOT / "baselines" / family).glob("[!_]*.py")):
            found[path.stem] = read(path, family)
    return found


@cache
def modules() -> Mapping[str, Method]:
    """All that can be put on a host, by its name in a label: SelfAlign, then one file each in `models/modules`.

    `a_sdm.py` is `+a-sdm`.
    """
    own = sorted((ROOT / "models" / "modules").glob("[!_]*.py"))
    read_ = [read(path, "independent") for path in (ROOT / "models" / f"{SELFALIGN}.py", *own)]
    return {method.name: method for method in (replace(m, name=m.name.replace("_", "-")) for m in read_)}


def selfalign() -> Method:
    """The module that turns an independent host into a SelfAlign model."""
    return modules()[SELFALIGN]


def read(path: Path, family: str) -> Method:
    """What the file says.  Raises SpecError, naming it, for a need that is not known."""
    try:
        docstring, constants, options = _literals(path)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise SpecError(f"{path}: cannot be read as a method: {error}") from None
    for name, value in constants.items():
        inner = value.values() if name in NESTED and isinstance(value, dict) else ()
        if not isinstance(value, LITERALS[name]) or not all(isinstance(one, dict) for one in inner):
            raise SpecError(f"{path}: {name} cannot be {value!a:.60}")
    family = family or constants.get("FAMILY", "")
    lacking = [name for name in ("RECIPE", "PAPER") if name not in constants]
    if lacking or family not in FAMILIES:
        wanted = lacking or ['FAMILY = "independent" or "interactive"']
        raise SpecError(f"{path}: no method, for it does not say {' and '.join(wanted)}")
    needs = tuple(constants.get("NEEDS", USUAL))
    for need in needs:
        if need not in NEEDS:
            raise SpecError(f"{path}: unknown need {need!r} in NEEDS{nearest(need, NEEDS)}")
    return Method(
        name=path.stem,
        family=family,
        summary=docstring.partition("\n")[0],
        paper=constants["PAPER"],
        recipe=constants["RECIPE"],
        variants=constants.get("VARIANTS", {"": {}}),
        options=options,
        added=constants.get("ADDED", ()),
        needs=needs,
        spared=constants.get("SPARED", {}),
        floor=constants.get("FLOOR", False),
        title=constants.get("TITLE", ""),
        on=tuple(constants.get("ON", ("independent",))),
        aside=constants.get("ASIDE", False),
        rows=constants.get("ROWS", {}),
        hosts=constants.get("HOSTS", family == "independent" and set(USUAL) <= set(needs)),
    )


def _literals(path: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Docstring, module-level literals and the defaults of `class Options` of a Python file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id in LITERALS:
                constants[target.id] = ast.literal_eval(node.value)
        if isinstance(node, ast.ClassDef) and node.name == "Options":
            options = {
                item.target.id: ast.literal_eval(item.value)
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is not None
            }
    return ast.get_docstring(tree) or "", constants, options
