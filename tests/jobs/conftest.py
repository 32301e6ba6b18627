"""The door as a process of its own, with a Ray runtime that no other test shares and that must be gone in the end."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness import ROOT
from harness.record import Record, Store

SMALL = ("--set", "settings.min_count=1", "--set", "settings.batch=13", "--set", "settings.dim=8", "--threads", "1")
TRIAL = b"ray::ImplicitFunc"  # how Ray calls a process that runs a function of Tune
PATIENCE = 400.0  # seconds at most, for machines that have much else to do


def until(holds: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """The first true answer.  Fails where there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.05)
    raise AssertionError(f"in {seconds:.0f} s no {what}")


def _stat(path: Path) -> tuple[int, bytes] | None:
    """Parent and command line of a process folder, None where it is gone or a zombie."""
    try:
        status = (path / "stat").read_text().rpartition(")")[2].split()
        return None if status[0] == "Z" else (int(status[1]), (path / "cmdline").read_bytes())
    except OSError:
        return None


def processes() -> dict[int, tuple[int, bytes]]:
    """Number -> parent and command line of all that run."""
    found = {int(path.name): _stat(path) for path in Path("/proc").glob("[0-9]*")}
    return {number: stat for number, stat in found.items() if stat is not None}


def below(root: int) -> dict[int, bytes]:
    """Number -> command line of every process that descends from one."""
    known = processes()
    found: dict[int, bytes] = {}
    front = [root]
    while front:
        front = [number for number, (parent, _) in known.items() if parent in front and number not in found]
        found |= {number: known[number][1] for number in front}
    return found


class RayDoor:
    """Commands on a small folder of data, results beside it."""

    until = staticmethod(until)
    below = staticmethod(below)
    patience = PATIENCE

    def __init__(self, data: Path, results: Path, temporary: Path) -> None:
        self.data, self.results, self.temporary = data, results, temporary
        self.store = Store(results / f"smoke-{data.name}")
        self.token = secrets.token_hex(32)
        self.environment = {name: value for name, value in os.environ.items() if name not in ("HARNESS_WORKERS",)} | {
            "RAY_AUTH_TOKEN": self.token,
            "RAY_AUTH_MODE": "token",
            "RAY_TMPDIR": str(temporary),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            "RAY_worker_niceness": "0",  # of nodes that a test starts itself
            "RAY_raylet_start_wait_time_s": str(int(PATIENCE)),
            "PYTHONUNBUFFERED": "1",
        }

    def command(self, *more: str) -> list[str]:
        where = ("--data", str(self.data), "--results", str(self.results), "--timing-rounds", "0")
        return [sys.executable, "-m", "harness.run", "--suite", "smoke", *where, *SMALL, *more]

    def start(self, *more: str) -> subprocess.Popen:
        return subprocess.Popen(
            self.command(*more),
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __call__(self, *more: str, code: int = 0) -> str:
        with self.start(*more) as process:
            shown, _ = process.communicate(timeout=2 * PATIENCE)
        assert process.returncode == code, shown
        return shown

    def record(self, label: str) -> Record:
        (record,) = (record for record in self.store.records() if record.label == label)
        return record

    def found(self) -> dict[str, Any]:
        """What was measured, to the last digit: of every record its history, of every ranking its ranks."""
        assert {record.status for record in self.store.records()} == {"ok"}
        ranks = {record.key: self.store.ranks(record.key) for record in self.store.records()}
        return {
            record.key: (
                [{**epoch, "train_s": None} for epoch in record.history],
                record.best_epoch,
                [way.tolist() for way in (ranks[record.key].i2t, ranks[record.key].t2i)],  # type: ignore[union-attr]
            )
            for record in self.store.records()
        }

    def under_way(self) -> bool:
        """Whether an epoch of some job is over and the job is not."""
        return bool(list(self.store.folder.glob("checkpoints/*/last.pt")))

    def workers(self, driver: int) -> list[int]:
        """Numbers of the processes of a driver that run a trial."""
        return [pid for pid, line in below(driver).items() if line.startswith(TRIAL)]

    def left(self) -> list[bytes]:
        """Processes of this Ray runtime that still run."""
        return [line for _, line in processes().values() if str(self.temporary).encode() in line]


@pytest.fixture
def ray_door(data_folder: Path, tmp_path: Path) -> Iterator[RayDoor]:
    pytest.importorskip("ray")
    temporary = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets need a short path
    door = RayDoor(data_folder, tmp_path / "results", temporary)
    with FileLock(Path(tempfile.gettempdir()) / "harness-tests-of-ray.lock"):  # an agent of Ray has one port a machine
        try:
            yield door
            until(lambda: not door.left(), "end of Ray's processes", 60)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
