"""Which form captions and pictures have, told by what is there and not by a flag."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.data import karpathy
from harness.data.captioned import persons, rows, shards
from harness.data.captioned.columns import Columns
from harness.data.captioned.picture import Captioned
from harness.data.pictures import Pictures
from harness.data.split import DataError
from harness.data.texts import read_json


def read(path: Path, pictures: Path | None, told: Columns) -> Captioned:
    """All that `path` says of pictures, which lie in `pictures` where it is JSON and else in itself.

    Raises DataError (one line, naming the file) for what is of no form, or lacks its library.
    """
    form = None
    if rows.is_saved(path) or rows.files_of(path):
        form = rows.read
    elif path.is_dir() or path.name.endswith(shards.ENDINGS):
        form = shards.read
    if form is not None:
        if pictures is not None:
            raise DataError(f"{path} holds its own pictures: leave --pictures out")
        return form(path, told)
    if told:
        raise DataError(f"{path}: JSON has no columns: leave --columns out")
    stored = read_json(path)
    found = persons.of(stored, path) if isinstance(stored, list) else karpathy.of(stored, path)
    if pictures is None:
        raise DataError(f"{path} is JSON, so that --pictures must say where its pictures lie")
    return Captioned(found, Pictures(pictures), hashlib.sha256(path.read_bytes()).hexdigest())
