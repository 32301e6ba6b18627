"""A picture that has not been looked at yet, and what every reader asks of its captions, its id and its split."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.pictures import Container
from harness.data.split import SPLITS, DataError
from harness.data.texts import checked_name, one_line

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "restval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "dev"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Picture:
    """A picture that has not been looked at yet."""

    filename: str  # by which its container finds it; in JSON as on disk, COCO's `filepath/filename`
    id: str  # `cocoid`, else `imgid`, else the file name; of other forms theirs
    captions: tuple[str, ...]  # one line each, no stray blanks
    identity: str | None = None  # whom it shows, in data of persons


@dataclass(frozen=True)
class Captioned:
    """What a form of data holds."""

    splits: Mapping[str, Sequence[Picture]]  # those with pictures, in the order of `SPLITS`
    container: Container
    digest: str  # of what was said of which picture


def need(found: object, keys: tuple[str, ...], where: str) -> Mapping[str, Any]:
    """`found`, if it is an object that has all `keys`.  Raises DataError."""
    if not isinstance(found, Mapping):
        raise DataError(f"{where} is a {type(found).__name__}, not an object with {', '.join(keys)}")
    if missing := [key for key in keys if key not in found]:
        raise DataError(f"{where} lacks {', '.join(missing)}; it has {', '.join(map(str, found)) or 'nothing'}")
    return found


def listed(found: object, where: str) -> list[Any]:
    """Raises DataError where it is no list."""
    if not isinstance(found, list):
        raise DataError(f"{where} is a {type(found).__name__}, not a list")
    return found


def sentence(found: object, where: str) -> str:
    """Karpathy's sentence as it was written (`raw`, else its `tokens`), on one line.  Raises DataError."""
    if isinstance(found, Mapping) and found.get("raw") is None and "tokens" in found:
        said = listed(found["tokens"], f"{where}: tokens")
    else:
        said = [need(found, ("raw",), where)["raw"]]
    return line(said, where)


def line(said: list[Any], where: str) -> str:
    """Raises DataError where one is no text, or all are empty."""
    for word in said:
        if not isinstance(word, str):
            raise DataError(f"{where} is {json.dumps(word, default=str)[:80]}, not a text")
    found = one_line(" ".join(said), where)
    if not found:
        raise DataError(f"{where} is empty")
    return found


def captions(found: object, where: str) -> list[str]:
    """A text, texts, or sentences as Karpathy has them.  Raises DataError where there is none or one is null."""
    if isinstance(found, Mapping) and isinstance(found.get("raw"), list):  # how a column of sentences may be stored
        found = found["raw"]
    if not isinstance(found, list):
        return [line([found], f"{where}: its caption")]
    if not found:
        raise DataError(f"{where} has no captions")
    return [
        sentence(said, f"{where}: caption {i}") if isinstance(said, Mapping) else line([said], f"{where}: caption {i}")
        for i, said in enumerate(found)
    ]


def identity(entry: Mapping[str, Any], keys: tuple[str, ...], where: str) -> str:
    """The first of `keys` that is there and not null.  Raises DataError where it is neither number nor text."""
    found = next((entry[key] for key in keys if entry.get(key) is not None), None)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    name = checked_name(found, f"{where}: {keys[0]}")
    if name != " ".join(name.split()):
        raise DataError(f"{where}: {keys[0]} is {ascii(name)[:80]}, an id with white space to spare")
    return name


def split_of(found: object, where: str) -> str:
    """One of `SPLITS`; a year may follow, as in `val2014`.  Raises DataError."""
    name = re.sub(r"\d{4}$", "", found.strip().lower()) if isinstance(found, str) else ""
    if name not in SPLIT_NAMES:
        raise DataError(f"{where}: split {ascii(found)[:80]} is none of {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES[name]


def files_below(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """Files of these endings in a folder and at most two folders down, by name."""
    found = (path for depth in ("*", "*/*", "*/*/*") for path in folder.glob(depth) if path.name.endswith(endings))
    return sorted(path for path in found if path.is_file())


def split_of_path(path: str) -> str | None:
    """By a word in the name of a file, or else of its folders from the innermost: `train-000.tar`, `val/0.parquet`.

    None where no name has one.  Raises DataError where a name has two.
    """
    for part in reversed(path.split("/")):
        found = {SPLIT_NAMES[word] for word in re.findall("[a-z]+", part.lower()) if word in SPLIT_NAMES}
        if len(found) > 1:
            raise DataError(f"{path}: its name says {' and '.join(s for s in SPLITS if s in found)}, need one split")
        if found:
            return found.pop()
    return None


def checked(splits: Mapping[str, Sequence[Picture]], where: str) -> dict[str, Sequence[Picture]]:
    """Those that have pictures, in the order of `SPLITS`.  Raises DataError where two pictures have one id."""
    owner: set[str] = set()
    for picture in (picture for pictures in splits.values() for picture in pictures):
        if picture.id in owner:
            raise DataError(f"{where}: two images have the id {picture.id}")
        owner.add(picture.id)
    return {split: splits[split] for split in SPLITS if splits.get(split)}


def digest(splits: Mapping[str, Sequence[Picture]]) -> str:
    """sha256 of what was said of which picture."""
    told = {split: [[p.id, p.filename, *p.captions] for p in pictures] for split, pictures in splits.items()}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
