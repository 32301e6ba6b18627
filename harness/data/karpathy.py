"""The caption files of Karpathy and Fei-Fei (CVPR 2015): which picture is in which split, and what people said of it.

    {"images": [{"filename", "imgid"?, "cocoid"?, "filepath"?, "split", "sentences": [{"raw", "tokens"}]}]}

`val` is our `dev`; `restval`, the pictures of COCO's own validation part that are in no split, belong to `train`, as in
the field's usual splits.  Plain JSON or gzip.  COCO's own files are read too, split by the file's name:

    captions_train2014.json: {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.split import SPLITS, DataError
from harness.data.texts import checked_name, one_line, read_json

SPLIT_OF = {"train": "train", "restval": "train", "val": "dev", "test": "test"}


@dataclass(frozen=True)
class Picture:
    """A picture that has not been looked at yet."""

    filename: str  # as on disk; COCO's `filepath/filename`
    id: str  # `cocoid`, else `imgid`, else the file name
    captions: tuple[str, ...]  # one line each, no stray blanks


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


def _caption(sentence: object, where: str) -> str:
    """The sentence as it was written (`raw`, else its `tokens`), on one line."""
    if isinstance(sentence, Mapping) and sentence.get("raw") is None and "tokens" in sentence:
        said = _list(sentence["tokens"], f"{where}: tokens")
    else:
        said = [_need(sentence, ("raw",), where)["raw"]]
    return _line(said, where)


def _line(said: list[Any], where: str) -> str:
    """Raises DataError where one is no text, or all are empty."""
    for word in said:
        if not isinstance(word, str):
            raise DataError(f"{where} is {json.dumps(word)[:80]}, not a text")
    line = one_line(" ".join(said), where)
    if not line:
        raise DataError(f"{where} is empty")
    return line


def _id(entry: Mapping[str, Any], keys: tuple[str, ...], where: str) -> str:
    """The first of `keys` that is there and not null.  Raises DataError where it is neither number nor text."""
    found = next((entry[key] for key in keys if entry.get(key) is not None), None)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    name = checked_name(found, f"{where}: {keys[0]}")
    if name != " ".join(name.split()):
        raise DataError(f"{where}: {keys[0]} is {ascii(name)[:80]}, an id with white space to spare")
    return name


def _picture(entry: Mapping[str, Any], where: str) -> Picture:
    filename = checked_name(entry["filename"], f"{where}: filename")
    sentences = _list(entry["sentences"], f"{where}: sentences")
    if not sentences:
        raise DataError(f"{where} ({filename}) has no sentences")
    folder = checked_name(entry["filepath"], f"{where}: filepath") if entry.get("filepath") else ""
    return Picture(
        filename=f"{folder}/{filename}" if folder else filename,
        id=_id(entry, ("cocoid", "imgid", "filename"), where),
        captions=tuple(_caption(s, f"{where}: sentence {i}") for i, s in enumerate(sentences)),
    )


def _coco(found: Mapping[str, Any], path: Path) -> list[Picture]:
    """The pictures of a file of COCO's own, those with captions, in the file's order."""
    said: dict[object, list[str]] = {}
    for number, annotation in enumerate(_list(found["annotations"], f"{path}: annotations")):
        where = f"{path}: annotation {number}"
        entry = _need(annotation, ("image_id", "caption"), where)
        said.setdefault(_id(entry, ("image_id",), where), []).append(_line([entry["caption"]], where))
    pictures = []
    for number, image in enumerate(_list(found["images"], f"{path}: images")):
        where = f"{path}: image {number}"
        entry = _need(image, ("id", "file_name"), where)
        id_, filename = _id(entry, ("id",), where), checked_name(entry["file_name"], f"{where}: file_name")
        if id_ in said:
            pictures.append(Picture(filename, id_, tuple(said[id_])))
    known = {picture.id for picture in pictures}
    if lost := [id_ for id_ in said if id_ not in known]:
        raise DataError(f"{path}: {len(lost)} of the images that annotations name are not there, first {lost[0]}")
    return pictures


def _coco_split(path: Path) -> str:
    """`captions_train2014.json` is train; raises DataError where the name says nothing."""
    named = re.fullmatch(r"(?:.*_)?(train|val|test)(?:\d{4})?\.json(?:\.gz)?", path.name)
    if named is None:
        raise DataError(f"{path}: captions in COCO's own layout go by the file's name, as captions_train2014.json")
    return SPLIT_OF[named[1]]


def read(path: Path) -> dict[str, list[Picture]]:
    """The pictures of each split, in the file's order; splits without pictures are left out.

    Raises DataError (one line, naming the file and the entry) for anything that is not such a file.
    """
    found = _need(read_json(path), ("images",), f"{path}: the file")
    splits = {_coco_split(path): _coco(found, path)} if "annotations" in found else _karpathy(found, path)
    owner: set[str] = set()
    for picture in (picture for pictures in splits.values() for picture in pictures):
        if picture.id in owner:
            raise DataError(f"{path}: two images have the id {picture.id}")
        owner.add(picture.id)
    if not owner:
        raise DataError(f"{path}: images is empty")
    return {split: pictures for split, pictures in splits.items() if pictures}


def _karpathy(found: Mapping[str, Any], path: Path) -> dict[str, list[Picture]]:
    splits: dict[str, list[Picture]] = {split: [] for split in SPLITS}
    for number, image in enumerate(_list(found["images"], f"{path}: images")):
        where = f"{path}: image {number}"
        entry = _need(image, ("filename", "split", "sentences"), where)
        split = entry["split"]
        if not isinstance(split, str) or split not in SPLIT_OF:
            raise DataError(f"{where}: split {ascii(split)[:80]} is none of {', '.join(SPLIT_OF)}")
        splits[SPLIT_OF[split]].append(_picture(entry, where))
    return splits
