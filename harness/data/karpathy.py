"""The caption files of Karpathy and Fei-Fei (CVPR 2015): which picture is in which split, and what people said of it.

    {"images": [{"filename", "imgid"?, "cocoid"?, "filepath"?, "split", "sentences": [{"raw", "tokens"}]}]}

`val` is our `dev`; `restval`, the pictures of COCO's own validation part that are in no split, belong to `train`, as in
the field's usual splits.  Plain JSON or gzip.  COCO's own files are read too, split by the file's name:

    captions_train2014.json: {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.data.captioned.picture import Picture, checked, identity, line, listed, need, sentence
from harness.data.split import SPLITS, DataError
from harness.data.texts import checked_name, read_json

SPLIT_OF = {"train": "train", "restval": "train", "val": "dev", "test": "test"}


def _picture(entry: Mapping[str, Any], where: str) -> Picture:
    filename = checked_name(entry["filename"], f"{where}: filename")
    sentences = listed(entry["sentences"], f"{where}: sentences")
    if not sentences:
        raise DataError(f"{where} ({filename}) has no sentences")
    folder = checked_name(entry["filepath"], f"{where}: filepath") if entry.get("filepath") else ""
    return Picture(
        filename=f"{folder}/{filename}" if folder else filename,
        id=identity(entry, ("cocoid", "imgid", "filename"), where),
        captions=tuple(sentence(said, f"{where}: sentence {i}") for i, said in enumerate(sentences)),
    )


def _coco(found: Mapping[str, Any], path: Path) -> list[Picture]:
    """The pictures of a file of COCO's own, those with captions, in the file's order."""
    said: dict[object, list[str]] = {}
    for number, annotation in enumerate(listed(found["annotations"], f"{path}: annotations")):
        where = f"{path}: annotation {number}"
        entry = need(annotation, ("image_id", "caption"), where)
        said.setdefault(identity(entry, ("image_id",), where), []).append(line([entry["caption"]], where))
    pictures = []
    for number, image in enumerate(listed(found["images"], f"{path}: images")):
        where = f"{path}: image {number}"
        entry = need(image, ("id", "file_name"), where)
        id_, filename = identity(entry, ("id",), where), checked_name(entry["file_name"], f"{where}: file_name")
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


def read(path: Path) -> dict[str, Sequence[Picture]]:
    """The pictures of each split, in the file's order; splits without pictures are left out.

    Raises DataError (one line, naming the file and the entry) for anything that is not such a file.
    """
    return of(read_json(path), path)


def of(stored: object, path: Path) -> dict[str, Sequence[Picture]]:
    """The same of what such a file holds."""
    found = need(stored, ("images",), f"{path}: the file")
    splits = {_coco_split(path): _coco(found, path)} if "annotations" in found else _karpathy(found, path)
    found_there = checked(splits, str(path))
    if not found_there:
        raise DataError(f"{path}: images is empty")
    return found_there


def _karpathy(found: Mapping[str, Any], path: Path) -> dict[str, list[Picture]]:
    splits: dict[str, list[Picture]] = {split: [] for split in SPLITS}
    for number, image in enumerate(listed(found["images"], f"{path}: images")):
        where = f"{path}: image {number}"
        entry = need(image, ("filename", "split", "sentences"), where)
        split = entry["split"]
        if not isinstance(split, str) or split not in SPLIT_OF:
            raise DataError(f"{where}: split {ascii(split)[:80]} is none of {', '.join(SPLIT_OF)}")
        splits[SPLIT_OF[split]].append(_picture(entry, where))
    return splits
