"""What no test may do: let a clock decide whether it passes."""

import ast
from pathlib import Path

import pytest

from harness import ROOT

CLOCKS = {"time", "time_ns", "perf_counter", "perf_counter_ns", "process_time", "process_time_ns", "thread_time"}
CLOCKS |= {"monotonic", "monotonic_ns", "getrusage", "times"}
DEADLINES = {"monotonic"}  # how long to wait for another process, in the condition of a loop or the end it counts to
TESTS = sorted(p for p in (ROOT / "tests").rglob("*.py") if "perf" not in p.parts and p != Path(__file__))


def clocks(source: str) -> list[str]:
    """Readings of a clock that are not a deadline: `line: name`."""
    tree = ast.parse(source)
    waiting = {id(node) for loop in ast.walk(tree) if isinstance(loop, ast.While) for node in ast.walk(loop.test)}
    waiting |= {
        id(node)
        for found in ast.walk(tree)
        if isinstance(found, ast.Assign) and ast.unparse(found.targets[0]) in ("deadline", "patience")
        for node in ast.walk(found.value)
    }
    taken = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "resource", "timeit")
        for name in node.names
    }
    read = []
    for node in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        called = ast.unparse(node.func)
        module, _, name = called.rpartition(".")
        clock = (module in ("time", "resource", "os") and name in CLOCKS) or (not module and name in taken & CLOCKS)
        if clock and not (name in DEADLINES and id(node) in waiting):
            read.append(f"{node.lineno}: {called}")
    return read


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.relative_to(ROOT / "tests").as_posix())
def test_no_test_reads_a_clock(path):
    assert clocks(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time\nstart = time.perf_counter()", ["2: time.perf_counter"]),
        ("from time import process_time\nassert process_time() < 5", ["2: process_time"]),
        ("import resource\nresource.getrusage(resource.RUSAGE_SELF)", ["2: resource.getrusage"]),
        ("import time\nassert time.monotonic() < 5", ["2: time.monotonic"]),
        ("import time\ndeadline = time.monotonic() + 5\nwhile time.monotonic() < deadline: time.sleep(1)", []),
    ],
)
def test_a_clock_is_found_and_a_deadline_is_not_meant(source, found):
    assert clocks(source) == found
