"""The door as a process of its own, with a Ray runtime that no other test shares and that must be gone in the end."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness import ROOT
from harness.record import Record
from harness.store import Store
from tests.processes import PATIENCE, below, kill, processes, until

SMALL = ("--set", "settings.min_count=1", "--set", "settings.batch=13", "--set", "settings.dim=8", "--threads", "1")
PAIR = ("--only", "vsepp,vsepp+selfalign", "--epochs", "240")  # long enough to be killed midway
TRIAL = b"ray::ImplicitFunc"  # how Ray calls a process that runs a function of Tune


class RayDoor:
    """Commands on a small folder of data, results beside it."""

    until, below, kill = staticmethod(until), staticmethod(below), staticmethod(kill)
    pair, patience = PAIR, PATIENCE

    def __init__(self, data: Path, results: Path, temporary: Path) -> None:
        self.data, self.results, self.temporary = data, results, temporary
        self.store = Store(results / f"smoke-{data.name}")
        self.token = secrets.token_hex(32)
        self._sessions: list[int] = []  # a process of each command leads one, all of its Ray are in it
        self.environment = {name: value for name, value in os.environ.items() if name not in ("HARNESS_WORKERS",)} | {
            "RAY_AUTH_TOKEN": self.token,
            "RAY_AUTH_MODE": "token",
            "RAY_TMPDIR": str(temporary),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            "RAY_worker_niceness": "0",  # of nodes that a test starts itself
            "RAY_gcs_rpc_server_reconnect_timeout_s": "5",  # a driver waits for a lost runtime, usually 60
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }

    @contextmanager
    def process(self, *command: str, shown: int = subprocess.PIPE, **environment: str) -> Iterator[subprocess.Popen]:
        """A command that is over in the end, and all that it started with it."""
        started = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment | environment,
            stdout=shown,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._sessions.append(started.pid)
        try:
            yield started
        finally:
            if started.poll() is None:
                kill(*below(started.pid), started.pid)
            started.communicate(timeout=60)

    def start(self, *more: str, **environment: str):
        where = ("--data", str(self.data), "--results", str(self.results), "--timing-rounds", "0")
        command = (sys.executable, "-m", "harness.run", "--suite", "smoke", *where, *SMALL, *more)
        return self.process(*command, **environment)

    def __call__(self, *more: str, code: int = 0, **environment: str) -> str:
        with self.start(*more, **environment) as driver:
            return self.end(driver, code)

    def end(self, driver: subprocess.Popen, code: int = 0) -> str:
        """What a command showed, once it has ended as it should."""
        shown, _ = driver.communicate(timeout=2 * PATIENCE)
        assert driver.returncode == code, shown
        return shown

    def record(self, label: str) -> Record:
        (record,) = (record for record in self.store.records() if record.label == label)
        return record

    def found(self) -> dict[str, Any]:
        """What was measured, to the last digit: of every record its history, of every ranking its ranks."""
        records = self.store.records()
        assert {record.status for record in records} == {"ok"}
        return {record.key: self.measured(record) for record in records}

    def measured(self, record: Record) -> tuple:
        """History, best epoch and ranks."""
        ranks = self.store.ranks(record.key)
        assert ranks is not None
        history = [{**epoch, "train_s": None} for epoch in record.history]
        return history, record.best_epoch, ranks.i2t.tolist(), ranks.t2i.tolist()

    def under_way(self, since: float = 0.0) -> list[str]:
        """Keys of jobs of which an epoch is over, since some time, and that are not over themselves."""
        found = []
        for path in self.store.folder.glob("checkpoints/*/last.pt"):
            with suppress(FileNotFoundError):
                found += [path.parent.name] if path.stat().st_mtime > since else []
        return found

    def workers(self, driver: int) -> list[int]:
        """Numbers of the processes of a driver that run a trial."""
        return [number for number, line in below(driver).items() if line.startswith(TRIAL)]

    def left(self) -> dict[int, bytes]:
        """Processes of the commands that still run."""
        return {number: line for number, (_, session, line) in processes().items() if session in self._sessions}


@pytest.fixture(scope="module")
def ray_data(tmp_path_factory: pytest.TempPathFactory, write_data: Callable[[Path], Path]) -> Path:
    """The same for all tests of a module, so that they may be compared with one run."""
    return write_data(tmp_path_factory.mktemp("data") / "zoo")


@contextmanager
def _door(data: Path, results: Path) -> Iterator[RayDoor]:
    """Nothing that it started is left, whatever becomes of the test."""
    temporary = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets need a short path
    door = RayDoor(data, results, temporary)
    try:
        yield door
        until(lambda: not door.left(), "end of Ray's processes", 60)
    finally:
        kill(*door.left())
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture
def ray_door(ray_data: Path, tmp_path: Path) -> Iterator[RayDoor]:
    pytest.importorskip("ray")
    lock = Path(tempfile.gettempdir()) / "harness-tests-of-ray.lock"
    with FileLock(lock), _door(ray_data, tmp_path / "results") as door:  # an agent of Ray has one port a machine
        yield door


@pytest.fixture(scope="module")
def undisturbed(ray_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two jobs find in one process, one after the other."""
    pytest.importorskip("ray")
    with _door(ray_data, tmp_path_factory.mktemp("undisturbed")) as door:
        door(*PAIR, "--workers", "0")
        return door.found()
