"""Hugging Face `datasets`: a folder that `save_to_disk` wrote, or .parquet or .arrow files, opened by the library.

A row is a picture with its captions (a text, a list of texts, or Karpathy's sentences), or one of its captions: rows of
one text with the same id, or without ids with the same picture, are one picture in the place of the first.  The split
is that of the row's column, else of the `DatasetDict`, else a word in the file's name.  Without a column of ids, ids
are numbers of rows: `train-17`.  What the library makes of .parquet is in its own cache; .arrow is read in place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from harness.data.captioned import columns
from harness.data.captioned.columns import Columns
from harness.data.captioned.picture import (
    Captioned,
    Picture,
    captions,
    checked,
    digest,
    files_below,
    identity,
    split_of,
    split_of_path,
)
from harness.data.memo import Stamp, stamp
from harness.data.pictures import Container
from harness.data.split import DataError

SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` leaves
FILES = (".parquet", ".arrow")

Value = Callable[[int], Any]  # row -> what its column of pictures holds


class Rows(Container):
    """Pictures of tables, by the number of their row."""

    def __init__(self, root: Path, files: Sequence[Path]) -> None:
        """files: all that the tables lie in.  Raises OSError."""
        self.root = root
        stamps = [stamp(file) for file in files]
        self._stamp = sum(size for size, _ in stamps), max((changed for _, changed in stamps), default=0)
        self._values: dict[str, tuple[Value, int]] = {}

    def add(self, path: str, value: Value, row: int) -> str:
        """A picture, and how to come by the value of its row."""
        self._values[path] = (value, row)
        return path

    def read(self, path: str) -> bytes:
        """Bytes, a file's name or an object of both; of a picture that is null b"", which is of no format."""
        value, row = self._values[path]
        found = value(row)
        if isinstance(found, Mapping):
            found = found.get("path") if found.get("bytes") is None else found["bytes"]
        if isinstance(found, str):
            return ((self.root if self.root.is_dir() else self.root.parent) / found).read_bytes()
        return found if isinstance(found, bytes) else b""

    def stamp(self, path: str) -> Stamp:  # noqa: ARG002
        """Of all files together: a picture may lie in any."""
        return self._stamp


def library() -> Any:
    """Raises DataError where it is not installed."""
    try:
        return import_module("datasets")
    except ImportError as error:
        raise DataError(f"Hugging Face data need `pip install 'selfalign-harness[hf]'` ({error})") from error


def is_saved(path: Path) -> bool:
    """Whether `save_to_disk` wrote the folder."""
    return any((path / name).is_file() for name in SAVED)


def files_of(path: Path) -> list[Path]:
    """The .parquet or .arrow files in a folder, or the one that it is."""
    if path.is_file():
        return [path] if path.suffix in FILES else []
    return files_below(path, FILES)


def read(path: Path, told: Columns) -> Captioned:
    """Raises DataError (one line, naming the table and the row) for anything that is not such data."""
    lib = library()
    with _one_line(path):
        tables = _tables(lib, path)
    container = Rows(path, files_of(path))
    splits: dict[str, list[Picture]] = {}
    for name, table in tables.items():
        for split, pictures in _pictures(lib, table, name, container, told).items():
            splits.setdefault(split, []).extend(pictures)
    if not splits:
        raise DataError(f"{path}: no rows in it")
    chosen = checked(splits, str(path))
    return Captioned(chosen, container, digest(chosen))


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Whatever the library and what lies below it raise of damaged files becomes a DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: cannot be read: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    """Of what is below it, where the library only says that something is."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__


def _tables(lib: Any, path: Path) -> dict[str, Any]:
    """Name -> table; a name is a split's, or "" where none is told.  The library's bars stay away."""
    lib.disable_progress_bars()
    if is_saved(path):
        found = lib.load_from_disk(str(path))
        tables = dict(found) if isinstance(found, lib.DatasetDict) else {str(found.split or ""): found}
        return {name: table.with_format(None) for name, table in tables.items()}
    grouped: dict[str, list[Path]] = {}
    for file in files_of(path):
        named = split_of_path(file.relative_to(path if path.is_dir() else path.parent).as_posix())
        grouped.setdefault(named or "", []).append(file)
    return {name: lib.concatenate_datasets([_table(lib, file) for file in files]) for name, files in grouped.items()}


def _table(lib: Any, file: Path) -> Any:
    if file.suffix == ".arrow":
        return lib.Dataset.from_file(str(file))
    return lib.Dataset.from_parquet(str(file))


def _pictures(lib: Any, table: Any, name: str, container: Rows, told: Columns) -> dict[str, list[Picture]]:
    """Those of each split, in the order of the rows.  Raises DataError."""
    where = f"{container.root}: {name or 'the table'}"
    there = list(table.column_names)
    image = _image_column(lib, table, told, where)
    said = columns.needed("captions", there, told, where)
    ids, parts = (columns.chosen(role, there, told, where) for role in ("id", "split"))
    view = table.select_columns([image])
    if isinstance(table.features[image], lib.Image):
        view = view.cast_column(image, lib.Image(decode=False))
    with _one_line(container.root):
        texts = table.select_columns(list(dict.fromkeys((*said, *ids, *parts))))[:]
    found: dict[tuple[str, str], Picture] = {}
    for row in range(len(table)):
        entry = {column: values[row] for column, values in texts.items()}
        place = f"{where}: row {row}"
        of_row = entry[parts[0]] if parts else None
        if of_row is None and not name:
            raise DataError(f"{place} is of no split, which a DatasetDict, names of files or a column may say")
        split = split_of(name if of_row is None else of_row, place)
        lines = [caption for column in said for caption in captions(entry[column], f"{place}: {column}")]
        path = container.add(f"{name}-{row}" if name else str(row), lambda at: view[at][image], row)
        one = len(said) == 1 and isinstance(entry[said[0]], str)
        id_ = identity(entry, ids, place) if ids else path
        key = id_ if ids or not one else hashlib.sha256(container.read(path) or path.encode()).hexdigest()
        known = found.get((split, key))
        if known is None:
            found[split, key] = Picture(path, id_, tuple(lines))
            continue
        if not one:
            raise DataError(f"{place}: two images have the id {id_}")
        if ids and container.read(path) != container.read(known.filename):
            raise DataError(f"{place} has the id {id_}, as row {known.filename} has, and another picture")
        found[split, key] = replace(known, captions=(*known.captions, *lines))
    splits: dict[str, list[Picture]] = {}
    for (split, _), picture in found.items():
        splits.setdefault(split, []).append(picture)
    return splits


def _image_column(lib: Any, table: Any, told: Columns, where: str) -> str:
    """The one told, the only one of pictures, or the first of a usual name.  Raises DataError."""
    kinds = [name for name, kind in table.features.items() if isinstance(kind, lib.Image)]
    if "image" not in told and len(kinds) == 1:
        return kinds[0]
    return columns.needed("image", list(table.column_names), told, where)[0]
