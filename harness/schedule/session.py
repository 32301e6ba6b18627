"""The surroundings of a Ray runtime of our own: a folder with a short path, the loopback interface alone, a guard.

Nothing here imports ray.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

from harness.schedule import guard
from harness.spec.job import SpecError

SOCKET = 107  # bytes that the path of a socket may have
LONGEST = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"  # that Ray puts below its folder
NAME = "harness-"  # and eight letters
ROOM = SOCKET - len(LONGEST) - len(f"/{NAME}") - 8
ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # as on a desktop: the node's address is that of the loopback interface
    "RAY_enable_metrics_collection": "0",  # which would be served without a token
}
CAPTURES = ("RAY_ADDRESS", "RAY_NAMESPACE")  # what a shell has set for another cluster


@contextmanager
def own() -> Iterator[Path]:
    """The folder of a runtime that starts and ends within; the environment is as its processes inherit it.

    Whatever becomes of this process, a guard ends theirs and removes the folder.  Raises SpecError.
    """
    folder = _folder()
    watcher = subprocess.Popen(
        [sys.executable, guard.__file__, str(folder)], stdin=subprocess.PIPE, start_new_session=True
    )
    environment = {name: value for name, value in os.environ.items() if name not in CAPTURES}
    try:
        with patch.dict(os.environ, environment | ALONE | {guard.MARK: str(folder)}, clear=True):
            yield folder
    finally:
        watcher.communicate()  # ends its input; it is done when nothing is left


def _folder() -> Path:
    """A new one where Ray's sockets have room: a batch system's TMPDIR may be long.  Raises SpecError."""
    bases = [os.environ.get("RAY_TMPDIR", ""), tempfile.gettempdir(), "/tmp", "/dev/shm", str(Path.home())]
    for base in filter(None, bases):
        if len(os.fsencode(base)) <= ROOM:
            with suppress(OSError):
                return Path(tempfile.mkdtemp(prefix=NAME, dir=base))
    raise SpecError(
        f"Ray's sockets need a folder that can be written and whose path has at most {ROOM} characters: "
        "name one by RAY_TMPDIR, or run with --workers 0"
    )


def keep_token_private(path: Path) -> None:
    """What opens the dashboard is for nobody else to read."""
    with suppress(OSError):  # none there, or another user's
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
