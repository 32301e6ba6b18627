"""What a frozen model made of an item, kept on disk by the item's content: it is computed once, whatever asks again.

A shelf is two files that only grow: values, rows of float32 of one width, and an index of 32 bytes an item (a hash of
its content, its first row, its number of rows, a checksum).  Values are written before the index names them, and what
does not have its checksum is not believed.  Where the folder cannot be written, everything is computed anew.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock, Timeout

ENTRY = np.dtype([("content", "V16"), ("start", "<i8"), ("rows", "<u4"), ("check", "<u4")])
PATIENCE_S = 60.0  # for another process that writes to the same shelf


def digest(content: bytes) -> bytes:
    """16 bytes that name an item by its content."""
    return hashlib.blake2b(content, digest_size=16).digest()


def folder(name: str) -> Path:
    """Where shelves of that name lie, in the user's cache."""
    return platformdirs.user_cache_path("selfalign") / "kept" / name


class Shelf:
    """Arrays (n, width) of float32 by the content they were made from; n may differ from item to item."""

    def __init__(self, place: Path, width: int) -> None:
        self.place, self.width = place, width
        self._places: dict[bytes, tuple[int, int, int]] = {}  # content -> first row, rows, checksum
        self._checked: set[bytes] = set()  # found as they were written
        self._read_entries = 0
        self._values = np.empty((0, width), np.float32)
        self.computed = 0  # items that were not there

    def of(self, contents: Sequence[bytes], compute: Callable[[list[int]], Sequence[np.ndarray]]) -> list[np.ndarray]:
        """One array an item, not to be written to; `compute` gets the places among `contents` of those not kept.

        An item that comes twice is computed once.
        """
        self._refresh()
        first = {content: place for place, content in reversed(list(enumerate(contents)))}
        kept = {content: array for content in first if (array := self._kept(content)) is not None}
        missing = sorted(place for content, place in first.items() if content not in kept)
        if missing:
            made = compute(missing)
            new = {contents[p]: np.ascontiguousarray(array, np.float32) for p, array in zip(missing, made, strict=True)}
            self.computed += len(new)
            self._append(new)
            kept |= new
        return [kept[content] for content in contents]

    def _kept(self, content: bytes) -> np.ndarray | None:
        """As it lies in the file, which is checked the first time."""
        start, rows, check = self._places.get(content, (0, 0, 0))
        array = self._values[start : start + rows]
        if content not in self._checked and (not rows or zlib.crc32(array.data) != check):
            return None
        self._checked.add(content)
        return array

    def _refresh(self) -> None:
        """Reads what was added since, by whichever process."""
        try:
            index, values = self.place / "index", self.place / "values"
            entries = np.fromfile(index, ENTRY, offset=self._read_entries * ENTRY.itemsize)
            rows = values.stat().st_size // (4 * self.width)
            if not len(entries):
                return
            for entry in entries:
                start, count, check = (int(entry[name]) for name in ("start", "rows", "check"))
                if start >= 0 and start + count <= rows:
                    self._places[bytes(entry["content"])] = start, count, check
            self._read_entries += len(entries)
            self._values = np.asarray(np.memmap(values, np.float32, "r", shape=(rows, self.width)))
        except (OSError, ValueError):
            return  # nothing is kept, or nothing can be read

    def _append(self, new: dict[bytes, np.ndarray]) -> None:
        try:
            with self._alone():
                values = self.place / "values"
                start = values.stat().st_size // (4 * self.width) if values.exists() else 0
                entries = np.empty(len(new), ENTRY)
                with values.open("r+b" if values.exists() else "wb") as file:
                    file.truncate(start * 4 * self.width)  # what a killed process left of a row
                    file.seek(0, 2)
                    for number, (content, array) in enumerate(new.items()):
                        file.write(array.tobytes())
                        entries[number] = (np.void(content), start, len(array), zlib.crc32(array.tobytes()))
                        start += len(array)
                with (self.place / "index").open("ab") as file:
                    file.truncate(file.tell() // ENTRY.itemsize * ENTRY.itemsize)
                    file.write(entries.tobytes())
        except (OSError, Timeout):
            return  # it is computed again next time

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.place.mkdir(parents=True, exist_ok=True)
        with FileLock(self.place / ".lock", timeout=PATIENCE_S):
            yield


@contextmanager
def keeping(model: Any) -> Iterator[None]:
    """Meanwhile those modules of a model that can (they have a switch `keeps`) keep what they compute.

    Not while anything is timed: reading what is kept takes no time to speak of.
    """
    found = able(model)
    for module in found:
        module.keeps = True
    try:
        yield
    finally:
        for module in found:
            module.keeps = False


def able(model: Any) -> list[Any]:
    """The modules of a model that can keep what they compute."""
    return [module for module in model.modules() if hasattr(module, "keeps")]
