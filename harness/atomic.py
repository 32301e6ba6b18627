"""Files that are there whole or not at all, whenever the process that writes them may die."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """The whole file or none of it, whenever the process may die.  Raises Unwritable."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            write(file)
        except OSError as error:
            if error.errno is None:  # numpy tells how many items were written, and not where or why
                raise Unwritable(f"{path} cannot be written: {error}") from None
            raise
        file.flush()
        os.fsync(file.fileno())


class Unwritable(OSError):
    """A file that could not be written, of which nothing is there now; it names the file and why."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path to write to, renamed to `path` on success and removed on failure.  Raises Unwritable."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}@{_host()}.tmp")
    try:
        make_folder(path.parent)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise Unwritable(error.errno, error.strerror, str(path)) from None  # a full disk has no name of its own
    finally:
        with suppress(OSError):  # there is none, or no folder for it
            temporary.unlink()


def make_folder(folder: Path) -> None:
    """With those it lies in, unless it is there.  Raises Unwritable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unwritable(error.errno, error.strerror, error.filename) from None


FORGOTTEN_S = 7 * 24 * 3600  # nobody writes to one file for so long without changing it


def remove_leftovers(*folders: Path) -> None:
    """What processes of this machine that are gone were writing to these folders when they ended.

    Others may be writing there from another machine, whose processes cannot be seen from here: what is theirs goes
    when it has not changed for a week.
    """
    for path in (path for folder in folders for path in folder.glob(".*.tmp")):
        process, _, host = (path.suffixes[-2] if len(path.suffixes) > 1 else "").removeprefix(".").partition("@")
        here = host in ("", _host())  # none: of a version that did not tell
        if process.isdecimal() and (not _lives(int(process)) if here else _forgotten(path)):
            path.unlink(missing_ok=True)


def _forgotten(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > FORGOTTEN_S
    return False


@cache
def _host() -> str:
    """The name of this machine, as a part of the name of a file."""
    return re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:40]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
