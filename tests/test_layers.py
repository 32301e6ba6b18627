"""Imports go downwards only, and heavy libraries stay where they belong."""

import ast
from pathlib import Path

import pytest

from harness import ROOT

# what each part may import of ours; `harness` alone means the package itself (ROOT)
MAY_IMPORT = {
    "harness/protocol.py": set(),
    "harness/progress.py": set(),
    "harness/record.py": set(),
    "harness/jobs/spec.py": set(),
    "harness/jobs/registry.py": {"harness", "harness.jobs"},
    "harness/jobs/override.py": {"harness", "harness.jobs"},
    "harness/jobs/questions.py": {"harness", "harness.jobs"},
    "harness/jobs/suites.py": {"harness", "harness.jobs"},
    "harness/jobs/ensembles.py": {"harness.jobs"},
    "harness/jobs/paper.py": {"harness.jobs"},
    "models": {"harness.protocol", "models"},
    "baselines": {"harness.protocol", "models"},
    "ablations": {"baselines", "models"},
    "harness/precision.py": {"harness.jobs.spec"},
    "harness/data": {"harness.data", "harness.protocol", "harness.jobs.spec"},
    "harness/learn": {
        "harness.learn",
        "harness.data",
        "harness.precision",
        "harness.progress",
        "harness.protocol",
        "harness.record",
        "harness.jobs.spec",
    },
    "harness/measure": {
        "harness",
        "harness.measure",
        "harness.data",
        "harness.precision",
        "harness.progress",
        "harness.protocol",
        "harness.record",
        "harness.jobs.spec",
    },
    "harness/report": {
        "harness",
        "harness.report",
        "harness.record",
        "harness.measure.metrics",
        "harness.measure.intervals",
        "harness.jobs.spec",
        "harness.jobs.registry",
        "harness.data",
        "harness.jobs.questions",
    },
}
NO_TORCH = (
    "harness/record.py",
    "harness/jobs/spec.py",
    "harness/jobs/registry.py",
    "harness/jobs/override.py",
    "harness/jobs/place.py",
    "harness/jobs/questions.py",
    "harness/jobs/shared.py",
    "harness/jobs/suites.py",
    "harness/jobs/ensembles.py",
    "harness/jobs/paper.py",
    "harness/report",
    "harness/compare.py",
    "harness/data/split.py",
    "harness/data/scenes.py",
    "harness/data/precomp.py",
    "harness/data/sources.py",
    "harness/data/vocabulary.py",
    "harness/data/drawing.py",
    "harness/data/karpathy.py",
    "harness/data/pictures.py",
    "harness/measure/metrics.py",
    "harness/measure/intervals.py",
)
OURS = ("harness", "models", "baselines", "ablations")


def files(part: str) -> list[Path]:
    path = ROOT / part
    return [path] if path.suffix else sorted(path.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module a file imports, wherever it does; `from a import b` counts as a.b where that is a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                inner = ROOT / node.module.replace(".", "/") / name.name
                found.add(
                    f"{node.module}.{name.name}" if inner.with_suffix(".py").exists() or inner.is_dir() else node.module
                )
    return found


def within(module: str, allowed: set[str]) -> bool:
    return any(module == a or (a != "harness" and module.startswith(f"{a}.")) for a in allowed)


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_go_downwards(part):
    for path in files(part):
        ours = {m for m in imports(path) if m.split(".")[0] in OURS}
        wrong = {m for m in ours if not within(m, MAY_IMPORT[part])}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("part", NO_TORCH)
def test_light_parts_stay_light(part):
    for path in files(part):
        heavy = {m for m in imports(path) if m.split(".")[0] in ("torch", "ray", "transformers")}
        assert not heavy, f"{path.relative_to(ROOT)} imports {heavy}"


def test_baselines_do_not_import_one_another():
    for path in files("baselines"):
        assert not {m for m in imports(path) if m.startswith("baselines")}


def test_ray_is_an_adapter():
    users = {str(p.relative_to(ROOT)) for p in files("harness") if any(m.split(".")[0] == "ray" for m in imports(p))}
    assert users <= {"harness/jobs/search.py"}
