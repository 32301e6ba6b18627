"""Whatever is killed, the same command goes on and ends with the numbers of a run that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

EPOCHS = ("--epochs", "150")
PAIR = ("--only", "vsepp,vsepp+selfalign", *EPOCHS, "--no-dashboard")

pytestmark = pytest.mark.slow


@contextmanager
def under_way(door, *arguments: str) -> Iterator[subprocess.Popen]:
    """A driver whose first job is in the middle of its epochs; it is over in the end."""
    with door.start(*arguments) as driver:
        try:
            door.until(lambda: door.under_way() or driver.poll() is not None, "checkpoint")
            assert driver.poll() is None, driver.communicate()[0]
            yield driver
        finally:
            if driver.poll() is None:
                driver.kill()
            driver.communicate(timeout=60)


def undisturbed(door) -> dict:
    """The same jobs in one process, one after the other."""
    door.results = door.results.with_name("undisturbed")
    kept, door.store = door.store, type(door.store)(door.results / door.store.folder.name)
    door(*PAIR[:-1], "--workers", "0")
    found, door.store = door.found(), kept
    return found


def runtime(door, driver: int) -> list[int]:
    """The processes that are Ray, not its workers."""
    below = door.below(driver)
    return [pid for pid, line in below.items() if b"/raylet/raylet" in line or b"gcs_server" in line.split(b"\0")[0]]


@pytest.mark.parametrize("victim", ["driver", "runtime"])
def test_the_same_command_goes_on_after_a_kill(ray_door, victim):
    arguments = (*PAIR, "--workers", "2")
    with under_way(ray_door, *arguments) as driver:
        for pid in (
            [driver.pid] if victim == "driver" else ray_door.until(lambda: runtime(ray_door, driver.pid), "raylet")
        ):
            os.kill(pid, signal.SIGKILL)
        assert ray_door.until(lambda: driver.poll() is not None, "end of the driver")
        assert driver.returncode != 0
    assert len(ray_door.store.records()) < 2
    assert ray_door.under_way()  # there is something to go on from
    ray_door.until(lambda: not ray_door.left(), "end of Ray's processes")
    shown = ray_door(*arguments)
    assert shown.count("done    vsepp") == 2 - shown.count("cached  1 of 2")
    assert ray_door.found() == undisturbed(ray_door)
    assert not list(ray_door.store.folder.glob("**/.*.tmp"))


def test_a_worker_that_dies_is_replaced_and_the_job_goes_on(ray_door):
    with under_way(ray_door, *PAIR, "--workers", "1") as driver:
        for pid in ray_door.until(lambda: ray_door.workers(driver.pid), "worker"):
            os.kill(pid, signal.SIGKILL)
        shown, _ = driver.communicate(timeout=2 * ray_door.patience)
        assert driver.returncode == 0, shown
    assert shown.count("done    vsepp") == 2
    assert ray_door.found() == undisturbed(ray_door)


def test_a_job_whose_worker_dies_twice_is_recorded_as_failed_and_others_go_on(ray_door):
    with under_way(ray_door, *PAIR, "--workers", "1") as driver:
        (first,) = ray_door.until(lambda: ray_door.workers(driver.pid), "worker")
        os.kill(first, signal.SIGKILL)
        (second,) = ray_door.until(lambda: set(ray_door.workers(driver.pid)) - {first}, "second worker")
        os.kill(second, signal.SIGKILL)
        shown, _ = driver.communicate(timeout=2 * ray_door.patience)
        assert driver.returncode == 1, shown
    failed = ray_door.record("vsepp")
    assert failed.status == "failed"
    assert "died" in (failed.error or "")
    assert f"failed  vsepp seed 0: {failed.error}" in shown
    assert ray_door.record("vsepp+selfalign").status == "ok"
