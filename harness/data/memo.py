"""What was found out about files, kept so that only files that changed are read again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.atomic import write_atomically

Stamp = tuple[int, int]  # size in bytes, time of change in ns


def stamp(path: Path) -> Stamp:
    """Raises OSError where there is no such file."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def file_digest(path: Path) -> str:
    """sha256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Memo:
    """A JSON file {key: [size, time of change, what was found]}; one that cannot be read is begun anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            found = {}
        self._kept: dict[str, list[Any]] = found if isinstance(found, dict) else {}

    def of(self, key: str, now: Stamp, find: Callable[[], Any]) -> Any:
        """What `find` found (JSON) when the file had its present size and time of change."""
        kept = self._kept.get(key)
        if not isinstance(kept, list) or len(kept) != 3 or kept[:2] != list(now):
            kept = self._kept[key] = [*now, find()]
        return kept[2]

    def digest(self, path: Path) -> str:
        """`file_digest`, as long as the file stays as it is."""
        return self.of(str(path.resolve()), stamp(path), lambda: file_digest(path))

    def save(self) -> None:
        write_atomically(self._path, lambda file: file.write(json.dumps(self._kept).encode()))
