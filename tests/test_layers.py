"""Imports go downwards only, and heavy libraries stay where they belong."""

import ast
from pathlib import Path

import pytest

from harness import ROOT

# From the ground up.  A file may import what lies on floors below its own, and what is of its own part (a folder's own
# files; a file alone is a part of its own).  Parts on one floor do not know one another.
FLOORS = (
    ("harness/__init__.py",),
    ("harness/protocol.py", "harness/schema.py", "harness/contents.py", "harness/locks.py", "harness/atomic.py"),
    ("harness/record.py",),
    ("harness/store.py",),
    ("harness/tuned.py",),
    ("harness/spec",),
    ("harness/allocator.py",),
    ("harness/precision.py", "harness/progress.py"),
    ("harness/console.py", "harness/listing.py", "harness/expected.py", "harness/options.py", "harness/commands.py"),
    ("models",),
    ("baselines",),
    ("ablations",),
    ("harness/data",),
    ("harness/doors.py",),
    ("harness/pretrained",),
    ("harness/learn", "harness/measure"),
    ("harness/phases", "harness/parameters.py"),
    ("harness/schedule", "harness/contract.py", "harness/searching.py"),
    ("harness/searching_given.py",),
    ("harness/report",),
    ("harness/choices.py", "harness/settled.py", "harness/api.py", "harness/results.py"),
    ("harness/evaluation.py",),
    ("harness/run.py", "harness/features.py", "harness/compare.py", "harness/choose.py"),
    ("harness/check.py", "harness/export.py", "harness/search.py", "harness/search_index.py", "harness/__main__.py"),
)
REPORT = (  # the wings of the report, likewise
    ("harness/report/formats.py", "harness/report/alike.py"),
    ("harness/report/read",),
    ("harness/report/tables",),
    ("harness/report/figures", "harness/report/compare"),
    ("harness/report/page", "harness/report/texts"),
    ("harness/report/outputs.py",),
    ("harness/report/__init__.py",),
    ("harness/report/__main__.py",),
)
ONLY = {  # parts that know less than what lies below them
    "models": {"harness.protocol"},
    "baselines": {"harness.protocol", "models"},
    "ablations": set(),
}
NO_TORCH = (
    "harness/__init__.py",
    "harness/schema.py",
    "harness/atomic.py",
    "harness/record.py",
    "harness/store.py",
    "harness/tuned.py",
    "harness/settled.py",
    "harness/locks.py",
    "harness/doors.py",
    "harness/spec",
    "harness/progress.py",
    "harness/console.py",
    "harness/listing.py",
    "harness/expected.py",
    "harness/options.py",
    "harness/commands.py",
    "harness/choices.py",
    "harness/check.py",
    "harness/export.py",
    "harness/phases/placed.py",
    "harness/measure/extended.py",
    "harness/measure/identities.py",
    "harness/measure/judged.py",
    "harness/schedule/division.py",
    "harness/schedule/tune.py",
    "harness/phases/tune.py",
    "harness/schedule/storage.py",
    "harness/report",
    "harness/choose.py",
    "harness/compare.py",
    "harness/search.py",
    "harness/contents.py",
    "harness/data/split.py",
    "harness/data/texts.py",
    "harness/data/scenes.py",
    "harness/data/scenes_scale.py",
    "harness/data/precomp.py",
    "harness/data/sources.py",
    "harness/data/vocabulary.py",
    "harness/data/drawing.py",
    "harness/data/karpathy.py",
    "harness/data/pictures.py",
    "harness/data/extracted/detector.py",
    "harness/data/given",
    "harness/data/captioned",
    "harness/data/truths.py",
    "harness/data/judgements.py",
    "harness/measure/metrics.py",
    "harness/measure/sampled.py",
    "harness/phases/recorded.py",
    "harness/phases/order.py",
    "harness/measure/intervals.py",
    "harness/measure/estimates.py",
    "harness/measure/verdicts.py",
    "harness/measure/tuning_curve.py",
)
OURS = ("harness", "models", "baselines", "ablations")
EVERY = sorted(path for part in OURS for path in (ROOT / part).rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part_of(path: Path, floors: tuple[tuple[str, ...], ...]) -> tuple[int, str]:
    """Floor and part of a file.  Raises AssertionError where it has none, or two."""
    found = [
        (floor, part)
        for floor, parts in enumerate(floors)
        for part in parts
        if name(path) == part or name(path).startswith(f"{part}/")
    ]
    assert len(found) == 1, f"{name(path)} is on {len(found)} floors"
    return found[0]


def imported(path: Path) -> set[Path]:
    """Files of ours that a file imports, wherever it does; of a package its `__init__.py`, unless a module is meant."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {file for module in modules if (file := file_of(module)) is not None}
    return found


def file_of(module: str) -> Path | None:
    """The file of a module, or of the module whose name it is; None where it is none of ours."""
    if module.split(".")[0] not in OURS:
        return None
    path = ROOT / module.replace(".", "/")
    for candidate in (path.with_suffix(".py"), path / "__init__.py", path.parent.with_suffix(".py")):
        if candidate.exists():
            return candidate
    return path.parent / "__init__.py"


def heavy(path: Path) -> set[str]:
    """Heavy libraries that a file imports, wherever it does."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module.split(".")[0])
    return modules & {"torch", "ray", "transformers"}


@pytest.mark.parametrize("path", EVERY, ids=name)
def test_nothing_climbs(path):
    floor, part = part_of(path, FLOORS)
    for other in imported(path):
        below, its = part_of(other, FLOORS)
        assert below < floor or its == part, f"{name(path)} imports {name(other)}, which does not lie below it"


@pytest.mark.parametrize("path", [p for p in EVERY if name(p).startswith("harness/report/")], ids=name)
def test_nothing_climbs_within_the_report(path):
    floor, part = part_of(path, REPORT)
    for other in (o for o in imported(path) if name(o).startswith("harness/report/")):
        below, its = part_of(other, REPORT)
        assert below < floor or its == part, f"{name(path)} imports {name(other)}, which does not lie below it"


@pytest.mark.parametrize("part", ONLY)
def test_methods_know_the_protocol_and_models_alone(part):
    allowed = {file_of(module) for module in ONLY[part]}
    for path in (p for p in EVERY if name(p).startswith(f"{part}/")):
        strange = {
            name(other)
            for other in imported(path)
            if other not in allowed and not any(name(other).startswith(f"{a}/") for a in (*ONLY[part], part))
        }
        assert not strange, f"{name(path)} imports {strange}"


@pytest.mark.parametrize("part", NO_TORCH)
def test_light_parts_stay_light(part):
    for path in (p for p in EVERY if name(p) == part or name(p).startswith(f"{part}/")):
        assert not heavy(path), f"{name(path)} imports {heavy(path)}"


def test_baselines_do_not_import_one_another():
    for path in (p for p in EVERY if name(p).startswith("baselines/")):
        assert not {other for other in imported(path) if name(other).startswith("baselines/")}


def test_ray_is_an_adapter():
    users = {name(path) for path in EVERY if "ray" in heavy(path)}
    assert users == {f"harness/schedule/{part}.py" for part in ("cluster", "loggers", "shards", "trials")}
