"""Waits for the end of a driver, however it comes, and leaves nothing of its Ray runtime: a process of its own.

Run as a file, with the runtime's folder, by `harness.schedule.session`; its standard input ends when the driver does.
Ray's own agents outlive a driver that was killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

MARK = "HARNESS_RAY_SESSION"  # in the environment of every process of a runtime: its folder
TRIES, PAUSE_S = 100, 0.1  # a process may start another while it is being ended
QUIET = 3  # looks that find none: one that is just starting tells no environment yet


def members(folder: str) -> list[int]:
    """Processes of the runtime of a folder; none where the system does not tell of processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone meanwhile, or another user's
            if int(path.name) != os.getppid() and _belongs(path, folder):  # the driver ends by itself
                found.append(int(path.name))
    return found


def _belongs(process: Path, folder: str) -> bool:
    """By its environment, or by files that it has open: one that gives itself another title loses its environment."""
    if f"{MARK}={folder}".encode() in (process / "environ").read_bytes().split(b"\0"):
        return True
    return any(os.readlink(link).startswith(f"{folder}/") for link in (process / "fd").iterdir())  # noqa: PTH115


def clear(folder: str) -> None:
    """Ends the processes and removes the folder."""
    quiet = 0
    for _ in range(TRIES):
        left = members(folder)
        for number in left:
            with suppress(OSError):
                os.kill(number, signal.SIGKILL)
        quiet = 0 if left else quiet + 1
        if quiet == QUIET:
            break
        time.sleep(PAUSE_S)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    clear(sys.argv[1])
