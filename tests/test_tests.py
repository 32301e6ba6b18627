"""What no test may do: let a clock decide whether it passes."""

import ast
from pathlib import Path

import pytest

from harness import ROOT

CLOCKS = {
    *(
        f"time.{name}{unit}"
        for name in ("time", "perf_counter", "process_time", "thread_time", "monotonic")
        for unit in ("", "_ns")
    ),
    *("resource.getrusage", "os.times", "timeit.timeit", "timeit.repeat", "timeit.default_timer"),
    *("datetime.datetime.now", "datetime.now", "datetime.datetime.utcnow", "psutil.cpu_times"),
}
CAMPAIGN = "kill_campaign.py"  # no test: it measures how long a run takes here, to strike at any moment of the next
TESTS = sorted(
    p for p in (ROOT / "tests").rglob("*.py") if "perf" not in p.parts and p.name != CAMPAIGN and p != Path(__file__)
)


def clocks(source: str) -> list[str]:
    """Readings of a clock that are not a deadline: `line: name`."""
    tree = ast.parse(source)
    names = _imported(tree)
    waiting = {id(node) for loop in ast.walk(tree) if isinstance(loop, ast.While) for node in ast.walk(loop.test)}
    ends = {name.id for loop in ast.walk(tree) if isinstance(loop, ast.While) for name in _names(loop.test)}
    asserted = {name.id for check in ast.walk(tree) if isinstance(check, ast.Assert) for name in _names(check.test)}
    waiting |= {
        id(node)
        for found in ast.walk(tree)
        if isinstance(found, ast.Assign) and {name.id for name in _names(found.targets[0])} <= ends - asserted
        for node in ast.walk(found.value)
    }
    read = []
    for node in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        head, dot, tail = ast.unparse(node.func).partition(".")
        called = names.get(head, head) + dot + tail
        deadline = called == "time.monotonic" and id(node) in waiting
        if called in CLOCKS and not deadline:
            read.append(f"{node.lineno}: {called}")
    return read


def _imported(tree: ast.AST) -> dict[str, str]:
    """Name in the file -> what it is of, as in `time.perf_counter`."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _names(tree: ast.AST) -> list[ast.Name]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Name)]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.relative_to(ROOT / "tests").as_posix())
def test_no_test_reads_a_clock(path):
    assert clocks(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time\nstart = time.perf_counter()", ["2: time.perf_counter"]),
        ("from time import process_time\nassert process_time() < 5", ["2: time.process_time"]),
        ("import resource\nresource.getrusage(resource.RUSAGE_SELF)", ["2: resource.getrusage"]),
        ("import time\nassert time.monotonic() < 5", ["2: time.monotonic"]),
        ("import time as t\nt.time()", ["2: time.time"]),
        ("from time import perf_counter as now\nnow()", ["2: time.perf_counter"]),
        ("import datetime\ndatetime.datetime.now()", ["2: datetime.datetime.now"]),
        ("import timeit\ntimeit.timeit(f)", ["2: timeit.timeit"]),
        ("import time\npatience = time.monotonic()\nassert f() < patience", ["2: time.monotonic"]),
        ("import time\ndeadline = time.monotonic() + 5\nwhile time.monotonic() < deadline: time.sleep(1)", []),
    ],
)
def test_a_clock_is_found_and_a_deadline_is_not_meant(source, found):
    assert clocks(source) == found
