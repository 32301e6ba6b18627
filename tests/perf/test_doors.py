"""Seconds of the processor that a user waits for at each door, a process of its own: what is listed, planned, reported.

The folder is the largest reference list; its figures are drawn once before anything is timed, as a user's are.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import ROOT

FOLDER = ROOT / "results" / "reference" / "full-scenes"
KEPT = ("records", "ranks", "concepts", "costs", "asked", "tuned")
DOORS = {
    "run --list": ("run", "--list"),
    "run --dry-run": ("run", "--suite", "smoke", "--dry-run"),
    "report": ("report",),
    "report --check": ("report", "--check"),
}


def cpu_seconds(*words: str) -> float:
    """Of a process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "harness", *words]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    copy = tmp_path_factory.mktemp("doors") / FOLDER.name
    for part in KEPT:
        shutil.copytree(FOLDER / part, copy / part)
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_door(benchmark, request, folder, door):
    rounds = 1 if request.config.getoption("benchmark_disable") else 5
    words = (*DOORS[door], str(folder)) if door.startswith("report") else DOORS[door]
    if words[0] == "report":
        cpu_seconds("report", str(folder))
    benchmark.name = f"door[{door}]"
    seconds: list[float] = []
    benchmark.pedantic(lambda: seconds.append(cpu_seconds(*words)), rounds=rounds)
    benchmark.extra_info["cpu_s"] = seconds
    assert len(seconds) == rounds
