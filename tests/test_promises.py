"""Every promise of CONTRIBUTING.md names tests that are there."""

from __future__ import annotations

import ast
import re

import pytest

from harness import ROOT

TABLE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## What is promised")[2].partition("\n## ")[0]
FILE = re.compile(r"`(tests/[\w/]+\.py)`|`python -m (tests\.\w+)")
TEST = re.compile(r"`(test_\w+)`")


def promises() -> list[tuple[str, str]]:
    """What is promised and what proves it, a row of the table each."""
    lines = [line for line in TABLE.splitlines() if line.startswith("| ")][1:]
    return [(promise, proof) for promise, proof in (line.strip("| ").split(" | ") for line in lines)]


def missing(proof: str) -> list[str]:
    """Files and tests that a proof names and that are not there; a proof names a file before its tests."""
    lost = []
    for part in proof.split("; "):
        named = FILE.search(part)
        if named is None:
            lost.append(f"no file in {part!r}")
            continue
        path = ROOT / (named[1] or named[2].replace(".", "/") + ".py")
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], [])
        there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        lost += [] if path.exists() else [path.name]
        lost += [f"{path.name}: {test}" for test in TEST.findall(part) if test not in there]
    return lost


@pytest.mark.parametrize(("promise", "proof"), promises())
def test_what_proves_a_promise_is_there(promise, proof):
    assert missing(proof) == [], promise


def test_the_table_is_found():
    assert len(promises()) > 10


@pytest.mark.parametrize(
    ("proof", "lost"),
    [
        ("`tests/test_promises.py`: `test_the_table_is_found`", []),
        ("`tests/test_promises.py`: `test_gone`", ["test_promises.py: test_gone"]),
        ("`tests/test_gone.py`: `test_gone`", ["test_gone.py", "test_gone.py: test_gone"]),
        ("`tests/test_promises.py`; trust me", ["no file in 'trust me'"]),
        ("`python -m tests.kill_campaign --kills 100`", []),
        ("`python -m tests.gone`", ["gone.py"]),
    ],
)
def test_what_is_not_there_is_found(proof, lost):
    assert missing(proof) == lost
