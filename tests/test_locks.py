"""A lock keeps others out, and its file is gone afterwards, however its holder ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import Timeout

from harness import locks
from tests.processes import kill

HOLDER = """
import sys; from pathlib import Path; from harness import locks
with locks.held(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


@contextmanager
def other(folder: Path) -> Iterator[subprocess.Popen]:
    """Another process that holds the lock of a folder until it reads a line, or is killed in the end."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            kill(process.pid)


def test_one_holds_it_and_nothing_is_left(tmp_path):
    with other(tmp_path) as holder:
        with pytest.raises(Timeout), locks.held(tmp_path):
            pass
        holder.communicate("\n")
    assert list(tmp_path.iterdir()) == []


def test_one_that_waits_gets_a_lock_that_others_see(tmp_path):
    """The file that it waited for is gone by then."""
    with other(tmp_path) as holder:
        assert holder.stdin is not None
        holder.stdin.write("\n")
        holder.stdin.flush()
        with locks.held(tmp_path, timeout_s=60):
            assert (tmp_path / locks.NAME).exists()
            with pytest.raises(Timeout), locks.held(tmp_path):
                pass


def test_an_error_within_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), locks.held(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_what_the_killed_left_goes_and_what_is_held_stays(tmp_path):
    left, kept, none = (tmp_path / name for name in ("left", "kept", "none"))
    for folder in (left, kept, none):
        folder.mkdir()
    with other(left):
        pass
    assert (left / locks.NAME).exists()
    with other(kept):
        locks.remove_free((left, kept, none))
        assert not (left / locks.NAME).exists()
        assert (kept / locks.NAME).exists()
