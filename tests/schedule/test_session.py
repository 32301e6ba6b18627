"""A Ray runtime of our own: whose address it takes, who reaches it, and what is left of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from harness.schedule import guard, session
from harness.spec.job import SpecError
from tests.processes import below, kill, until

LISTENS = "0A"  # state of a socket in /proc/net/tcp
DRIVER = """
import subprocess, sys, time
from harness.schedule import session
with session.own() as folder:
    (folder / "of Ray").write_text("")
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print(folder, flush=True)
    {then}
"""


def test_a_long_temporary_folder_is_passed_over(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with session.own() as folder:
        assert not folder.is_relative_to(long)
        assert len(f"{folder}{session.LONGEST}") <= session.SOCKET
    assert not folder.exists()


def test_a_short_one_that_is_asked_for_is_taken(monkeypatch):
    base = Path("/tmp") / f"r{os.getpid()}"
    base.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(base))
    with session.own() as folder:
        assert folder.parent == base
    base.rmdir()


def test_where_no_folder_will_do_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setattr(session, "ROOM", 0)
    with pytest.raises(SpecError, match="at most 0 characters: name one by RAY_TMPDIR, or run with --workers 0"):
        session.own().__enter__()


def test_another_clusters_address_is_not_taken_and_is_there_again_afterwards(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "somebody:6379")
    with session.own() as folder:
        assert "RAY_ADDRESS" not in os.environ
        assert os.environ[guard.MARK] == str(folder)
    assert os.environ["RAY_ADDRESS"] == "somebody:6379"
    assert guard.MARK not in os.environ


@pytest.mark.parametrize("then", ["time.sleep(600)", "raise SystemExit", "pass"], ids=["killed", "raises", "ends"])
def test_nothing_is_left_however_the_driver_ends(then):
    code = DRIVER.format(then=then)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as driver:
        try:
            folder = driver.stdout.readline().strip()
            if "sleep" in then:
                until(lambda: guard.members(folder), "process that the driver started", 60)
        finally:
            if "sleep" in then:
                kill(driver.pid)
    until(lambda: not guard.members(folder) and not Path(folder).exists(), "end of the processes and their folder")


def test_a_token_that_others_could_read_is_made_private(tmp_path):
    token = tmp_path / "auth_token"
    session.keep_token_private(token)  # none there
    token.write_text("secret")
    token.chmod(0o644)
    session.keep_token_private(token)
    assert token.stat().st_mode & 0o777 == 0o600


# With Ray ------------------------------------------------------------------------------------------------------------


def listening(pids) -> set[str]:
    """Addresses on which some processes listen for others."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):
                inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == LISTENS and rest[5] in inodes:
                address = bytes.fromhex(local.partition(":")[0])
                words = [address[place : place + 4][::-1] for place in range(0, len(address), 4)]
                found.add(socket.inet_ntop(family, b"".join(words)).removeprefix("::ffff:"))
    return found


@pytest.mark.slow
def test_a_runtime_listens_to_this_machine_alone_and_leaves_nothing_when_its_driver_is_killed(ray_door):
    pytest.importorskip("ray")
    before = set(ray_door.temporary.iterdir())
    with ray_door.start(*ray_door.pair, "--workers", "2", RAY_ADDRESS="127.0.0.1:1") as driver:
        until(lambda: ray_door.under_way() or driver.poll() is not None, "checkpoint")
        assert driver.poll() is None, driver.communicate()[0]
        members = [driver.pid, *below(driver.pid)]
        assert listening(members) == {"127.0.0.1"}
        (folder,) = set(ray_door.temporary.iterdir()) - before
        assert guard.members(str(folder))
        kill(driver.pid)
        until(lambda: driver.poll() is not None, "end of the driver")
    until(lambda: not guard.members(str(folder)) and not folder.exists(), "end of the runtime")
