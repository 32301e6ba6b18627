"""The caption files of Karpathy and Fei-Fei (CVPR 2015): which picture is in which split, and what people said of it.

    {"images": [{"filename", "imgid"?, "cocoid"?, "filepath"?, "split", "sentences": [{"raw", "tokens"}]}]}

`val` is our `dev`; `restval`, the pictures of COCO's own validation part that are in no split, belong to `train`, as in
the field's usual splits.  Plain JSON or gzip.
"""

from __future__ import annotations

import gzip
import json
import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.split import SPLITS, DataError

BYTE_ORDER_MARK = "\ufeff"
SPLIT_OF = {"train": "train", "restval": "train", "val": "dev", "test": "test"}


@dataclass(frozen=True)
class Picture:
    """A picture that has not been looked at yet."""

    filename: str  # as on disk; COCO's `filepath/filename`
    id: str  # `cocoid`, else `imgid`, else the file name
    captions: tuple[str, ...]  # one line each, no stray blanks


def _json(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        data = path.read_bytes()
        return json.loads(gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from error


def _need(found: object, keys: tuple[str, ...], where: str) -> Mapping[str, Any]:
    """`found`, if it is an object that has all `keys`."""
    if not isinstance(found, Mapping):
        raise DataError(f"{where} is a {type(found).__name__}, not an object with {', '.join(keys)}")
    if missing := [key for key in keys if key not in found]:
        raise DataError(f"{where} lacks {', '.join(missing)}; it has {', '.join(found) or 'nothing'}")
    return found


def _list(found: object, where: str) -> list[Any]:
    if not isinstance(found, list):
        raise DataError(f"{where} is a {type(found).__name__}, not a list")
    return found


def _text(found: object, where: str) -> str:
    """`found`, if it is a text that a line of a UTF-8 file can hold; white space and byte order marks are no matter."""
    if not isinstance(found, str):
        raise DataError(f"{where} is {_shown(found)}, not a text")
    line = " ".join(found.replace(BYTE_ORDER_MARK, " ").split())
    if bad := next((c for c in line if unicodedata.category(c) in ("Cc", "Cs")), ""):
        raise DataError(f"{where} has the character U+{ord(bad):04X}, which no line of text can hold")
    return line


def _shown(found: object) -> str:
    return json.dumps(found) if found is None or isinstance(found, bool | float) else f"a {type(found).__name__}"


def _caption(sentence: object, where: str) -> str:
    """The sentence as it was written (`raw`, else its `tokens`), on one line."""
    if isinstance(sentence, Mapping) and "raw" not in sentence and "tokens" in sentence:
        tokens = _list(sentence["tokens"], f"{where}: tokens")
        caption = " ".join(_text(token, f"{where}: token {i}") for i, token in enumerate(tokens)).strip()
    else:
        caption = _text(_need(sentence, ("raw",), where)["raw"], f"{where}: raw")
    if not caption:
        raise DataError(f"{where} is empty")
    return " ".join(caption.split())


def _id(entry: Mapping[str, Any], where: str) -> str:
    """The first that is given of `cocoid`, `imgid` and the file name, as a line of its own can hold it."""
    key = next((key for key in ("cocoid", "imgid") if entry.get(key) is not None), "filename")
    found = entry[key]
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if not (line := _text(found, f"{where}: {key}")) or line != found:
        raise DataError(f"{where}: {key} is {found!r}, which is no id: it is blank or has white space to spare")
    return line


def _path(found: object, where: str) -> str:
    if not isinstance(found, str):
        raise DataError(f"{where} is {_shown(found)}, not a text")
    if not found.isprintable():
        raise DataError(f"{where} is {found!r:.80}, which is not printable")
    return found


def _picture(entry: Mapping[str, Any], where: str) -> Picture:
    filename, folder = _path(entry["filename"], f"{where}: filename"), entry.get("filepath")
    folder = "" if folder is None else _path(folder, f"{where}: filepath")
    sentences = _list(entry["sentences"], f"{where}: sentences")
    if not sentences:
        raise DataError(f"{where} ({filename}) has no sentences")
    return Picture(
        filename=f"{folder}/{filename}" if folder else filename,
        id=_id(entry, where),
        captions=tuple(_caption(s, f"{where}: sentence {i}") for i, s in enumerate(sentences)),
    )


def read(path: Path) -> dict[str, list[Picture]]:
    """The pictures of each split, in the file's order; splits without pictures are left out.

    Raises DataError (one line, naming the file and the entry) for anything that is not such a file.
    """
    entries = _list(_need(_json(path), ("images",), f"{path}: the file")["images"], f"{path}: images")
    splits: dict[str, list[Picture]] = {split: [] for split in SPLITS}
    owner: dict[str, int] = {}  # image id -> its entry
    for number, found in enumerate(entries):
        where = f"{path}: image {number}"
        entry = _need(found, ("filename", "split", "sentences"), where)
        if not isinstance(entry["split"], str) or entry["split"] not in SPLIT_OF:
            raise DataError(f"{where}: split {entry['split']!r:.80} is none of {', '.join(SPLIT_OF)}")
        picture = _picture(entry, where)
        if (first := owner.setdefault(picture.id, number)) != number:
            raise DataError(f"{where} has the id of image {first}: {picture.id}")
        splits[SPLIT_OF[entry["split"]]].append(picture)
    if not owner:
        raise DataError(f"{path}: images is empty")
    return {split: pictures for split, pictures in splits.items() if pictures}
