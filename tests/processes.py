"""Processes that tests start, watch and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

PATIENCE = 240.0  # seconds at most, for machines that have much else to do


def until(holds: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """The first true answer.  Fails where there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError(f"in {seconds:.0f} s no {what}")


def imported_by_a_report(folder: Path) -> set[str]:
    """Names of the modules that `harness.report` of a folder loads, in a process of its own.  Fails where it fails."""
    code = (
        "import sys; from harness.report.__main__ import app\n"
        "try: app([sys.argv[1]])\n"
        "except SystemExit as end: assert not end.code\n"
        "print(); print(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def _stat(path: Path) -> tuple[int, int, bytes] | None:
    """Parent, session and command line of a process folder, None where it is gone or a zombie."""
    try:
        status = (path / "stat").read_text().rpartition(")")[2].split()
        return None if status[0] == "Z" else (int(status[1]), int(status[3]), (path / "cmdline").read_bytes())
    except OSError:
        return None


def processes() -> dict[int, tuple[int, int, bytes]]:
    """Number -> parent, session and command line of all that run."""
    found = {int(path.name): _stat(path) for path in Path("/proc").glob("[0-9]*")}
    return {number: stat for number, stat in found.items() if stat is not None}


def below(root: int) -> dict[int, bytes]:
    """Number -> command line of every process that descends from one."""
    known = processes()
    found: dict[int, bytes] = {}
    front = [root]
    while front:
        front = [number for number, (parent, *_) in known.items() if parent in front and number not in found]
        found |= {number: known[number][2] for number in front}
    return found


def kill(*numbers: int) -> None:
    for number in numbers:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
