"""One writer at a time: a lock file that is there only as long as somebody holds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

NAME = ".lock"


@contextmanager
def held(folder: Path, timeout_s: float = 0.0) -> Iterator[None]:
    """The lock of a folder that exists.  It goes while it is still held: who waits for it sees that and makes another.

    Raises filelock.Timeout where another process holds it for longer, OSError where the folder cannot be written.
    """
    lock = folder / NAME
    with FileLock(lock, timeout=timeout_s):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def remove_free(folders: Iterable[Path]) -> None:
    """Lock files of processes that were killed."""
    for folder in folders:
        if (folder / NAME).exists():
            with suppress(Timeout), held(folder):
                pass
