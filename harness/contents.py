"""What a file or folder holds, as a hash of all of it, so that inputs are known by content and not by name.

Hashes of large files are kept in the user's cache with size, times and inode of the file, and believed only as long as
all of these are the same.  Where the cache cannot be written, files are hashed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from functools import lru_cache
from pathlib import Path

import platformdirs
from rich.console import Console
from rich.progress import wrap_file

KEPT_FROM = 1 << 20  # bytes; smaller files are hashed quicker than looked up
SHOWN_FROM = 1 << 30  # bytes; hashing takes seconds, so that a terminal shows progress
SETTLED_NS = 2_000_000_000  # a file changed less long ago may change again within one tick of its clock
BLOCK = 1 << 20

Stamp = tuple[int, int, int, int, int]  # size, mtime in ns, ctime in ns, inode, device


def digest(path: Path) -> str:
    """32 hex digits that change whenever the file, or any file or name in the folder, would.

    Hidden files of a folder do not count.  Raises OSError where something cannot be read.
    """
    if not path.is_dir():
        return _of_file(path)
    files = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path)))
    listed = [(p.relative_to(path).as_posix(), _of_file(p)) for p in files]
    return hashlib.blake2b(json.dumps(listed).encode(), digest_size=16).hexdigest()


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev


def _of_file(path: Path) -> str:
    path = path.resolve()
    if not path.is_file():  # a pipe would never end
        raise OSError(f"{path}: no file that can be read")
    stamp = _stamp(path)
    if stamp[0] < KEPT_FROM or time.time_ns() - max(stamp[1:3]) < SETTLED_NS:
        return _hashed(path)
    return _of_settled(path, stamp)


@lru_cache(maxsize=4096)
def _of_settled(path: Path, stamp: Stamp) -> str:
    found = _kept(path, stamp)
    if found is None:
        found = _hashed(path)
        if _stamp(path) == stamp:
            _keep(path, stamp, found)
    return found


def _hashed(path: Path) -> str:
    sha = hashlib.blake2b(digest_size=16)
    size = path.stat().st_size
    console = Console(stderr=True)
    quiet = size < SHOWN_FROM or not console.is_terminal
    with (
        path.open("rb") as file,
        wrap_file(
            file, size, description=f"Reading {path.name}", console=console, transient=True, disable=quiet
        ) as shown,
    ):
        while block := shown.read(BLOCK):
            sha.update(block)
    return sha.hexdigest()


def _entry(path: Path) -> Path:
    name = hashlib.blake2b(os.fsencode(path), digest_size=16).hexdigest()
    return platformdirs.user_cache_path("selfalign") / "contents" / f"{name}.json"


def _kept(path: Path, stamp: Stamp) -> str | None:
    try:
        found = json.loads(_entry(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    same = isinstance(found, dict) and found.get("stamp") == list(stamp) and isinstance(found.get("digest"), str)
    return found["digest"] if same else None


def _keep(path: Path, stamp: Stamp, found: str) -> None:
    entry = _entry(path)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=entry.parent, delete=False, encoding="utf-8") as file:
            json.dump({"stamp": stamp, "digest": found}, file)
        Path(file.name).replace(entry)
    except OSError:
        return  # hashed again next time
