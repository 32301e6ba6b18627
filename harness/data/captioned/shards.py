"""WebDataset: tar files in which KEY.jpg lies beside KEY.txt or KEY.json, grouped and read by the library itself.

    train-000000.tar, val-000000.tar, test/0.tar ...   the split is a word of the shard's name or of its folders
    KEY.txt    a caption a line
    KEY.json   {"captions": [...], "id"?, "split"?}: names as in `columns`; or a list of captions
    KEY.jpg    or .png, .webp, ...: one a sample, read later and by its place, nothing is unpacked

Captions are those of KEY.json where it has some; a KEY.txt that says another is refused unless `--columns` chooses.
An id is that of KEY.json, else KEY; where two shards have one KEY, it is SHARD/KEY for all.  Only files of this machine
are opened.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
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
from harness.data.memo import Stamp
from harness.data.pictures import Container, Pictures
from harness.data.split import DataError
from harness.data.texts import parse_json

ENDINGS = (".tar", ".tar.gz", ".tgz")
PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm")
TEXTS = ("txt", "json")
MOST_SHARDS = 100_000  # of one pattern


class Shards(Container):
    """Pictures of several archives, by SHARD/MEMBER."""

    def __init__(self, root: Path, shards: Mapping[str, Path]) -> None:
        """Raises DataError where one is no tar."""
        self.root = root
        self._shards = {name: Pictures(path) for name, path in shards.items()}
        self._inside: dict[str, tuple[Pictures, str]] = {}

    def add(self, shard: str, member: str) -> str:
        """The path by which the picture is known from now on."""
        path = f"{shard}/{member}"
        self._inside[path] = (self._shards[shard], member)
        return path

    def read(self, path: str) -> bytes:
        shard, member = self._inside[path]
        return shard.read(member)

    def stamp(self, path: str) -> Stamp:
        shard, member = self._inside[path]
        return shard.stamp(member)


def library() -> Any:
    """Raises DataError where it is not installed."""
    try:
        from webdataset import tariterators
    except ImportError as error:
        raise DataError(f"shards need `pip install 'selfalign-harness[webdataset]'` ({error})") from error
    return tariterators


def is_pattern(path: Path) -> bool:
    """`shards-{000..003}.tar`, `data/*.tar`."""
    return not path.exists() and path.name.endswith(ENDINGS) and any(mark in str(path) for mark in "{*?[")


def shards_of(path: Path) -> tuple[Path, dict[str, Path]]:
    """The folder that all lie in, and name -> file, in the order of a pattern or else of their names.

    Raises DataError where there is none.
    """
    if path.is_dir():
        root, files = path, files_below(path, ENDINGS)
    elif is_pattern(path):
        files = [Path(file) for part in _expanded(path) for file in sorted(glob.glob(part)) or [part]]  # noqa: PTH207
        parents = {file.parent for file in files}
        root = parents.pop() if len(parents) == 1 else Path(*_shared([parent.parts for parent in sorted(parents)]))
    else:
        root, files = path.parent, [path]
    if missing := [file for file in files if not file.is_file()]:
        raise DataError(f"{missing[0]}: no such file")
    if not files:
        raise DataError(f"{path}: no tar in it, nor a table of Hugging Face")
    return root, {file.relative_to(root).as_posix(): file for file in files}


def _expanded(path: Path) -> list[str]:
    """`{000..003}` written out.  Raises DataError, before anything is, where it would be too many."""
    library()
    from braceexpand import braceexpand  # comes with it

    if (count := _count(str(path))) > MOST_SHARDS:
        raise DataError(f"{path}: {count:,} files, at most {MOST_SHARDS:,} can be named")
    try:
        return list(braceexpand(str(path)))
    except ValueError as error:
        raise DataError(f"{path}: no pattern of files: {error}") from None


def _count(pattern: str) -> int:
    """How many names a pattern has at most: `{0..9}` has ten, `{a,b}` two, and braces multiply."""
    found = 1
    for inner in re.findall(r"\{([^{}]*)", pattern):
        range_ = re.match(r"(-?\d{1,18})\.\.(-?\d{1,18})(?!\d)", inner)
        endless = MOST_SHARDS + 1 if ".." in inner and re.search(r"\d{19}", inner) else 1
        found *= abs(int(range_[2]) - int(range_[1])) + 1 if range_ else (inner.count(",") + 1) * endless
    return found * (pattern.count(",") + 1 if re.search(r"\{[^}]*\{", pattern) else 1)


def _shared(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The parts that all begin with."""
    shared = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return shared


def read(path: Path, told: Columns) -> Captioned:
    """Raises DataError (one line, naming shard and sample) for anything that is not such data."""
    root, files = shards_of(path)
    found = [
        (name, key, sample)
        for name, file in files.items()
        for key, sample in _samples(file, str(root / name), told).items()
    ]
    container = Shards(root, files)
    keys = [key for _, key, _ in found]
    alone = len(set(keys)) == len(keys)
    splits: dict[str, list[Picture]] = {}
    for name, key, sample in found:
        where = f"{root / name}: sample {key}"
        split, id_, said = _told(sample, name, key if alone else f"{_bare(name)}/{key}", told, where)
        splits.setdefault(split, []).append(
            Picture(container.add(name, _member(sample, told, where)), id_, tuple(said))
        )
    if not splits:
        raise DataError(f"{path}: no samples in it")
    chosen = checked(splits, str(path))
    return Captioned(chosen, container, digest(chosen))


def _bare(name: str) -> str:
    """Of a shard, without its ending."""
    return name[: -len(next(ending for ending in ENDINGS if name.endswith(ending)))]


def _samples(file: Path, where: str, told: Columns) -> dict[str, dict[str, Any]]:
    """Key -> {ending: content of a text, or name of a picture}, in the shard's order.  Raises DataError."""
    lib, members = library(), list[str]()

    def is_text(member: str) -> bool:
        members.append(member)
        return _ending(lib, member)[1] in TEXTS

    samples: dict[str, dict[str, Any]] = {}
    try:
        texts = list(_grouped(lib, file, is_text))
    except Exception as error:  # whatever the library and what lies below it raise of a damaged file
        raise DataError(f"{where}: cannot be read: {error.args[0] if error.args else type(error).__name__}") from error
    for member in members:
        key, ending = _ending(lib, member)
        if key is None or ending not in (*PICTURES, *TEXTS, *told.get("image", ())):
            continue
        sample = samples.setdefault(key, {})
        if ending in sample:
            raise DataError(f"{where}: sample {key} has two .{ending}")
        sample[ending] = member
    for text in texts:
        sample = samples[text["__key__"]]
        sample |= {ending: text[ending] for ending in TEXTS if ending in text}
    return samples


def _grouped(lib: Any, file: Path, wanted: Any) -> Iterator[dict[str, Any]]:
    with file.open("rb") as stream:
        opened = lib.tar_file_expander([{"url": file.name, "stream": stream}], select_files=wanted)
        yield from lib.group_by_keys(opened)


def _ending(lib: Any, member: str) -> tuple[str | None, str]:
    key, ending = lib.base_plus_ext(member)
    return key, (ending or "").lower()


def _member(sample: Mapping[str, Any], told: Columns, where: str) -> str:
    """Of the one picture.  Raises DataError."""
    wanted = told.get("image", PICTURES)
    found = [ending for ending in wanted if ending in sample]
    if not found:
        raise DataError(f"{where} has no picture; it has {', '.join(f'.{e}' for e in sample)}")
    if len(found) > 1:
        raise DataError(f"{where} has {len(found)} pictures, .{' and .'.join(found)}: --columns image={found[0]}")
    return sample[found[0]]


def _told(sample: Mapping[str, Any], shard: str, key: str, told: Columns, where: str) -> tuple[str, str, list[str]]:
    """Split, id and captions.  Raises DataError."""
    entry = parse_json(sample["json"], f"{where}: its json") if "json" in sample else {}
    if isinstance(entry, list):
        entry = {"captions": entry}
    if not isinstance(entry, Mapping):
        raise DataError(f"{where}: its json is a {type(entry).__name__}, not an object or a list of captions")
    split = entry.get(told.get("split", ("split",))[0])
    named = split_of(split, where) if split is not None else split_of_path(shard)
    if named is None:
        raise DataError(f"{where} is of no split: neither its shard's name nor its json says train, val or test")
    ids = columns.chosen("id", entry, told, f"{where}: its json")
    numbered = any(entry[name] is not None for name in ids)
    id_ = identity(entry, ids, f"{where}: its json") if numbered else key
    return named, id_, _said(sample, entry, told, where)


def _said(sample: Mapping[str, Any], entry: Mapping[str, Any], told: Columns, where: str) -> list[str]:
    """Captions of a sample.  Raises DataError where there are none, or its files contradict one another."""
    of_text, of_json = told.get("captions") in (None, ("txt",)), told.get("captions") != ("txt",)
    lines = _lines(sample["txt"], f"{where}: its txt") if of_text and "txt" in sample else []
    names = columns.chosen("captions", entry, told, f"{where}: its json") if of_json else ()
    said = [caption for name in names for caption in captions(entry[name], f"{where}: its json: {name}")]
    if said and (other := [line for line in lines if line not in said]):
        choose = f"--columns captions=txt or captions={'+'.join(names)}"
        raise DataError(f"{where}: its txt says {ascii(other[0])[:60]}, its json does not: {choose}")
    if not said and not lines:
        raise DataError(f"{where} has no captions; it has {', '.join(f'.{ending}' for ending in sample)}")
    return said or lines


def _lines(text: bytes, where: str) -> list[str]:
    """A caption a line, empty lines left out.  Raises DataError."""
    try:
        lines = [line for line in text.decode("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is no UTF-8: {error}") from error
    return captions(lines, where) if lines else []
