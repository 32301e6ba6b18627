"""Text from outside: JSON files, captions and names that end in tables, terminals and folder names."""

from __future__ import annotations

import gzip
import json
import unicodedata
import zlib
from pathlib import Path
from typing import Any, NoReturn

from harness.data.split import DataError

BYTE_ORDER_MARK = "\ufeff"  # readers of files take it away where it comes first
LONGEST_NAME = 200  # bytes; a results folder adds its suite, and file systems end at 255


def read_json(path: Path) -> Any:
    """The content of a JSON file, plain or gzip.  Raises DataError where it is none; NaN and Infinity are none."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return parse_json(data, str(path))


def parse_json(data: bytes, where: str) -> Any:
    """Raises DataError where it is none; NaN and Infinity are none."""
    try:
        return json.loads(data, parse_constant=_no_constant)
    except RecursionError:
        raise DataError(f"{where}: not JSON: nested too deeply") from None
    except ValueError as error:
        raise DataError(f"{where}: not JSON: {error}") from error


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON value")


def one_line(text: str, where: str) -> str:
    """Without stray blanks; control characters count as blanks.  Raises DataError for half a character (surrogate)."""
    if not text.isprintable():  # one quick pass; most lines are
        kinds = [unicodedata.category(c) for c in text]
        if "Cs" in kinds:
            raise DataError(f"{where} holds half a character (a surrogate): {ascii(text)[:80]}")
        text = "".join(" " if kind == "Cc" or c == BYTE_ORDER_MARK else c for c, kind in zip(text, kinds, strict=True))
    return " ".join(text.split())


def checked_name(found: object, where: str) -> str:
    """A text that can be shown on one line and written to a file.  Raises DataError."""
    if not isinstance(found, str) or not found.strip():
        raise DataError(f"{where} is {ascii(found)[:80]}, need a text")
    if BYTE_ORDER_MARK in found or any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in found):
        raise DataError(f"{where} is {ascii(found)[:80]}, which holds control characters or half characters")
    return found


def folder_name(found: object, where: str) -> str:
    """A text that can name a folder.  Raises DataError."""
    name = checked_name(found, where)
    if name in (".", "..") or Path(name).name != name or len(name.encode()) > LONGEST_NAME:
        raise DataError(f"{where} is {ascii(name)[:80]}, need a text that can name a folder")
    return name
