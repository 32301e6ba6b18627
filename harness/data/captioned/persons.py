"""Captions of persons, as CUHK-PEDES (Li et al., CVPR 2017) has them: an identity, of which there are several pictures.

    [{"split": "train|val|test", "captions": [...], "file_path": "...", "id": int}, ...]

ICFG-PEDES is written alike, and so is RSTPReid, which calls the path `img_path`.  Further keys are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.data.captioned.picture import Picture, captions, checked, identity, listed, need, split_of
from harness.data.split import SPLITS, DataError
from harness.data.texts import checked_name

PATHS = ("file_path", "img_path")


def of(stored: object, path: Path) -> dict[str, Sequence[Picture]]:
    """The pictures of each split, in the file's order; splits without pictures are left out.

    A picture's id is its path.  Raises DataError (one line, naming the file and the entry) for anything else.
    """
    splits: dict[str, list[Picture]] = {split: [] for split in SPLITS}
    for number, picture in enumerate(listed(stored, f"{path}: the file")):
        where = f"{path}: picture {number}"
        called = next((name for name in PATHS if isinstance(picture, dict) and name in picture), PATHS[0])
        entry = need(picture, ("split", "captions", called, "id"), where)
        filename = checked_name(entry[called], f"{where}: {called}")
        said = captions(listed(entry["captions"], f"{where}: captions"), where)
        split = split_of(entry["split"], where)
        called_so = identity(entry, (called,), where)
        splits[split].append(Picture(filename, called_so, tuple(said), identity(entry, ("id",), where)))
    found = checked(splits, str(path))
    if not found:
        raise DataError(f"{path}: the list is empty")
    return found
