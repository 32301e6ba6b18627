"""The field's precomputed layout (SCAN, Lee et al., ECCV 2018, and many since): a folder of arrays and text files.

    {train,dev,test}_ims.npy    (N, R, D) float fragments, or `_feat.npy`; read through a memory map
                                (N, D) is one fragment per image, as VSE++ (Faghri et al., BMVC 2018) has it
    {..}_ims_scales.npy         (N, R) float32, where fragments are int8: what `harness.data.int8` makes of them
    {train,dev,test}_caps.txt   one caption per line, UTF-8
    {train,dev,test}_ids.txt    optional: image ids, one line per image or one per caption (`name.jpg#k` is caption k);
                                where they number the captions, ids of images are made from positions, as without it
    {..}_identities.txt         optional: whom each image shows, one line per image (CUHK-PEDES and its like)
    {..}_boxes.npy              optional: (N, R, 4) x1, y1, x2, y2 in pixels, or `_ims_bbx.npy`
    {..}_img_sizes.npy          optional: (N, 2) width, height in pixels, or `_ims_size.npy`
    pictures, pictures.tar ...  optional: the pictures, by the image ids as names of files, for methods that read pixels
    {..}_counts.npy             optional: (N,) number of real fragments where images are padded to R
    dataset.json                optional: {"name": ...}; the folder's name otherwise

Folders differ in how captions find their image: N counts images, or captions with the image's row repeated, and images
need not have equally many captions.  `sharing` infers which it is and checks it; `Split.notes` say what was found.
A split without features can rank rows from files alone: its ids, one per caption, say which share an image.
`testall_*`, where it exists, is COCO's whole test part: the split `test`, as a whole and in folds of 1,000 images.
"""

from __future__ import annotations

import hashlib
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np

from harness import contents
from harness.data.int8 import Int8
from harness.data.split import SPLITS, DataError, Images, Source, Split, spread
from harness.data.texts import folder_name, one_line, read_json

STEMS = {split: (split,) for split in SPLITS} | {
    "test": ("testall", "test")
}  # split -> file names begin with, best first
ARRAYS = {  # what it is -> file names end with, one of these
    "ims": ("ims", "feat"),
    "scales": ("ims_scales",),
    "boxes": ("boxes", "ims_bbx"),
    "img_sizes": ("img_sizes", "ims_size"),
    "counts": ("counts",),
}
PICTURES = ("pictures", "pictures.tar", "pictures.tar.gz", "pictures.zip")
NPY_MAGIC = b"\x93NUMPY"
COCO_FOLD = 1000  # images per fold of the COCO 1K protocol
CHECKED_NEIGHBOURS = 512  # rows that are compared with the one before
CHECKED_WHOLE = 2**24  # features up to which all are looked at before use: 64 MiB of float32
SAMPLED_ROWS = 16  # rows of a larger file that are looked at before it is used


# Files ---------------------------------------------------------------------------------------------------------------


def _find(folder: Path, stem: str, kind: str) -> Path | None:
    """None where there is no such array.  Raises DataError where it lies there under two names."""
    paths = (folder / f"{stem}_{ending}.npy" for ending in ARRAYS[kind])
    found = [path for path in paths if path.exists()]
    if len(found) > 1:
        raise DataError(f"{folder}: {' and '.join(path.name for path in found)} are one array's names, keep one file")
    return found[0] if found else None


def _stem(folder: Path, split: str) -> str | None:
    """What the split's file names begin with, best with features; None where the folder has nothing of it."""
    with_features = [stem for stem in STEMS[split] if _find(folder, stem, "ims")]
    with_captions = [stem for stem in STEMS[split] if (folder / f"{stem}_caps.txt").exists()]
    return next(iter(with_features + with_captions), None)


def read_lines(path: Path) -> tuple[list[str], list[str]]:
    """The lines of a UTF-8 text file without stray blanks, and notes on what was repaired.

    Only line feeds end a line: captions may hold the other characters that `str.splitlines` breaks at.  Raises
    DataError for a missing or empty file, invalid UTF-8 and empty lines (at the very end they are dropped).
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line} is not UTF-8 ({error.reason})") from error
    raw = text.removesuffix("\n").replace("\r\n", "\n").split("\n")
    lines = [one_line(line, f"{path}: line {number}") for number, line in enumerate(raw, 1)]
    trailing = next((n for n, line in enumerate(reversed(lines)) if line), len(lines))
    lines = lines[: len(lines) - trailing]
    if not lines:
        raise DataError(f"{path}: the file is empty")
    if empty := [number for number, line in enumerate(lines, 1) if not line]:
        more = ", ..." if len(empty) > 10 else ""
        raise DataError(f"{path}: {len(empty)} empty lines: {', '.join(map(str, empty[:10]))}{more}")
    stray = sum(line != before.removesuffix("\r") for line, before in zip(lines, raw, strict=False))
    notes = {
        "byte order mark": data.startswith(b"\xef\xbb\xbf"),
        "CRLF line ends": b"\r\n" in data,
        f"stray blanks in {stray} lines": stray > 0,
        f"{trailing} blank lines at the end": trailing > 0,
    }
    return lines, [f"{path.name}: {note}" for note, found in notes.items() if found]


def open_array(path: Path) -> np.ndarray:
    """A memory map of a .npy file.  Raises DataError where it is truncated, pickled or no array at all."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with path.open("rb") as file:
        magic = file.read(len(NPY_MAGIC))
    if magic != NPY_MAGIC:
        reason = "pickle, archive or the like, no .npy" if magic else "the file is empty"
        raise DataError(f"{path}: {reason}; need a plain array as numpy.save writes it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers from Python 2, which are read, and of sizes, checked below
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        if math.prod(array.shape) * array.itemsize > path.stat().st_size:
            raise ValueError(f"shape {array.shape} does not fit the file")
        return array
    except Exception as error:  # numpy evaluates the header as Python, which fails in any way
        objects = "object" in str(error).lower()  # numpy has no error class of its own for it
        said = (str(error).splitlines() or [type(error).__name__])[0][:200]
        reason = "holds Python objects, which are not read" if objects else f"truncated or damaged ({said})"
        raise DataError(f"{path}: {reason}; need a plain array as numpy.save writes it") from error


def _features(folder: Path, stem: str, path: Path) -> np.ndarray | Int8:
    array = open_array(path)
    if array.ndim == 2:  # one vector per image
        array = array[:, None]
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(f"{path}: features have shape {array.shape}, need (images, fragments, width), none of them 0")
    scales = _beside(folder, stem, "scales", array.shape[:2])
    if array.dtype == np.int8:
        if scales is None:
            raise DataError(f"{path}: features are int8, need {stem}_{ARRAYS['scales'][0]}.npy beside them")
        return Int8(array, scales)
    if array.dtype not in (np.float16, np.float32, np.float64):
        raise DataError(f"{path}: features are {array.dtype}, need float16, float32, float64 or int8 with scales")
    if scales is not None:
        raise DataError(f"{_find(folder, stem, 'scales')}: scales go with int8, but the features are {array.dtype}")
    return array


def _beside(folder: Path, stem: str, kind: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """An optional array of numbers that goes with the features, checked against `shape`."""
    path = _find(folder, stem, kind)
    if path is None:
        return None
    array = open_array(path)
    if array.shape != shape:
        raise DataError(f"{path}: shape {array.shape}, need {shape} to go with the features")
    if array.dtype.kind not in ("iu" if kind == "counts" else "iuf"):
        raise DataError(f"{path}: {array.dtype}, need {'whole ' if kind == 'counts' else ''}numbers")
    if not np.isfinite(array).all():
        raise DataError(f"{path}: {np.count_nonzero(~np.isfinite(array))} numbers are NaN or infinite")
    if kind == "scales" and not (array >= 0).all():
        raise DataError(f"{path}: from {array.min()}, need scales of 0 and above")
    if kind == "img_sizes" and not (array > 0).all():
        raise DataError(f"{path}: from {array.min()}, need widths and heights above 0")
    return array


def _counts(folder: Path, stem: str, rows: int, regions: int) -> np.ndarray | None:
    counts = _beside(folder, stem, "counts", (rows,))
    if counts is not None and not ((counts >= 1) & (counts <= regions)).all():
        raise DataError(
            f"{_find(folder, stem, 'counts')}: from {counts.min()} to {counts.max()}, need 1 to {regions} fragments"
        )
    return counts


# Which captions share an image ---------------------------------------------------------------------------------------


def repeats(features: np.ndarray | Int8, chunk: int = 4096) -> np.ndarray:
    """(N,) bool, True where a row is the one before it once more; in bounded memory.

    First fragments are compared first: rows are read whole where these are equal.
    """
    again = np.zeros(len(features), dtype=bool)
    for start in range(1, len(features), chunk):
        heads = np.asarray(features[start - 1 : start + chunk, 0])
        again[start : start + chunk] = (heads[1:] == heads[:-1]).all(1)
    for row in np.flatnonzero(again):
        again[row] = np.array_equal(features[row], features[row - 1])
    return again


@dataclass(frozen=True)
class Sharing:
    """Which of M captions belong to which image, and where its features are."""

    caption_to_image: np.ndarray  # (M,) int64, non-decreasing, steps of 0 or 1
    first: np.ndarray  # (images,) int64 first caption of each image
    rows: np.ndarray  # (images,) int64 store row of each image
    notes: tuple[str, ...]


def sharing(captions: int, ids: Sequence[str] | None, features: np.ndarray | Int8) -> Sharing:
    """Which captions share an image and which row holds it, from the number of captions, the ids and the features.

    Images must have a feature row each, or a row per caption, repeated (looked at in places).  Raises DataError,
    without a file name, where numbers or rows do not fit.
    """
    given = f"{captions} captions, {len(features)} feature rows, {'no' if ids is None else len(ids)} ids"
    try:
        new, found = _first_captions(captions, ids, features)
        first = np.flatnonzero(new)  # (images,) first caption of each
        if len(features) not in (len(first), captions):
            raise DataError(f"the features have neither a row for each of {len(first)} images nor one per caption")
        repeated = len(features) != len(first)
        _check_rows(features, new, repeated)
    except DataError as error:
        raise DataError(f"{error} ({given})") from error
    caption_to_image = np.cumsum(new) - 1
    per_image = np.unique(np.bincount(caption_to_image))
    many = f"{per_image[0]} to {per_image[-1]}" if len(per_image) > 1 else f"{per_image[0]}"
    notes = [f"{many} caption{'' if many == '1' else 's'} per image", found]
    if repeated:
        notes.append("features repeat once per caption")
    return Sharing(caption_to_image, first, first if repeated else np.arange(len(first)), tuple(notes))


def _without_caption_numbers(ids: list[str]) -> list[str]:
    """`name.jpg#0`, `name.jpg#1`, ... name one image, if all ids are written so; else as they are."""
    named = [re.fullmatch(r"(.+)#\d+", name) for name in ids]
    return [match[1] for match in named if match] if all(named) else ids


def _number_captions(ids: Sequence[str], captions: int, images: int) -> bool:
    """Whether ids tell captions apart and say nothing of images."""
    return len(ids) == captions and len(set(ids)) != images


def _first_captions(captions: int, ids: Sequence[str] | None, features: np.ndarray | Int8) -> tuple[np.ndarray, str]:
    """(captions,) bool, True where a caption is the first of its image, and how that was found.

    Ids that repeat, one per caption, say it themselves.  With a row per caption and no ids, equal neighbouring rows are
    one image.  Otherwise captions are spread evenly over the images, of which there are as many as ids or rows.
    """
    rows = len(features)
    distinct = None if ids is None else len(set(ids))
    if ids is not None and len(ids) == captions != distinct:
        runs = [name for name, _ in groupby(ids)]
        if len(runs) != distinct:
            back = Counter(runs).most_common(1)[0][0]
            raise DataError(f"id {back} comes back after other ids: the captions of an image must follow one another")
        return np.array([True, *(before != after for before, after in pairwise(ids))]), "ids per caption"
    if ids is None and rows == captions:
        return ~repeats(features), "no ids, images told apart by their features"
    if ids is None:
        images, found = rows, "no ids"
    elif len(ids) == captions:  # and all differ
        images, found = rows, "ids per caption" if rows == captions else "ids number the captions"
    elif distinct != len(ids):
        raise DataError(f"{len(ids) - len(set(ids))} ids are repeated, though there is not one per caption")
    elif len(ids) != rows != captions:
        raise DataError("the ids fit neither captions nor feature rows")
    else:
        images, found = len(ids), "ids per image"
    if captions % images:
        raise DataError(f"captions do not spread evenly over {images} images")
    return np.arange(captions) % (captions // images) == 0, found


def _check_rows(features: np.ndarray | Int8, new: np.ndarray, repeated: bool) -> None:
    """Looks at some rows: equal where captions share an image and rows are repeated, mostly different otherwise."""
    if not features.shape[2]:  # there are none
        return
    if not repeated:
        if repeats(features[:CHECKED_NEIGHBOURS]).mean() > 1 / 3:  # two captions per image would make it a half
            raise DataError("most feature rows repeat the one before, though each should be an image of its own")
        return
    later = np.flatnonzero(~new)  # rows that must be the one before them once more
    for row in later[spread(len(later), SAMPLED_ROWS)]:
        if not np.array_equal(features[row], features[row - 1], equal_nan=True):  # NaN is for `check_finite` to report
            raise DataError(f"feature rows {row - 1} and {row} differ, though they should be one image")


# Values --------------------------------------------------------------------------------------------------------------


def check_finite(images: Images, index: np.ndarray | None = None, batch: int = 64) -> None:
    """Raises DataError if a feature of the images `index` names (None = all) is not finite: how many, and where first.

    Holds `batch` images in memory.  A scan of all reads the whole file; `Images.take` checks each batch as it comes.
    """
    bad, first = 0, -1
    index = np.arange(len(images)) if index is None else index
    for start in range(0, len(index), batch):
        some = index[start : start + batch]
        wrong = ~np.isfinite(images.features[images.rows[some]])
        if wrong.any() and not bad:
            first = int(some[wrong.any((1, 2)).argmax()])
        bad += int(wrong.sum())
    if bad:
        looked = "" if len(index) == len(images) else f" in the {len(index)} images looked at"
        raise DataError(
            f"{bad} features are not finite{looked}, first in row {images.rows[first]} (image {images.ids[first]})"
        )


def _looked_at(images: Images) -> np.ndarray:
    """Which images are checked before use: all of a small file, some of a larger one."""
    small = len(images) * images.regions * images.dim <= CHECKED_WHOLE
    return np.arange(len(images)) if small else spread(len(images), SAMPLED_ROWS)


# Doors ---------------------------------------------------------------------------------------------------------------


def load(split: str, folder: Path) -> Split:
    """One of `SPLITS`.  Raises DataError, a line that names the file, for what is missing, damaged or contradictory."""
    if split not in SPLITS:
        raise DataError(f"there is no split {split}; there are {', '.join(SPLITS)}")
    stem = _stem(_existing(folder), split)
    if stem is None:
        raise DataError(f"{folder / STEMS[split][-1]}_ims.npy: no such file")
    path = _find(folder, stem, "ims")
    features = None if path is None else _features(folder, stem, path)
    captions, notes = read_lines(folder / f"{stem}_caps.txt")
    ids_path = folder / f"{stem}_ids.txt"
    ids, id_notes = read_lines(ids_path) if ids_path.exists() else (None, [])
    if ids is not None and len(ids) == len(captions):
        ids = _without_caption_numbers(ids)
    if features is None:
        features = _no_features(folder, stem, len(captions), ids)
    try:
        shared = sharing(len(captions), ids, features)
    except DataError as error:
        raise DataError(f"{folder / stem}_*: {error}") from error
    if ids is None or _number_captions(ids, len(captions), len(shared.rows)):
        ids = [f"{stem}-{image}" for image in range(len(shared.rows))]
        id_notes = [*id_notes, "ids made from positions"]
    elif len(ids) == len(captions):
        ids = [ids[caption] for caption in shared.first]
    rows, regions, _ = features.shape
    identities, identity_notes = _identities(folder / f"{stem}_identities.txt", len(shared.rows))
    images = Images(
        features=features,
        rows=shared.rows,
        ids=tuple(ids),
        counts=_counts(folder, stem, rows, regions),
        boxes=_beside(folder, stem, "boxes", (rows, regions, 4)),
        sizes=_beside(folder, stem, "img_sizes", (rows, 2)),
        pixels=_pixels(folder),
        file="" if path is None else str(path),
    )
    try:
        check_finite(images, _looked_at(images))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    folds = stem == "testall" and len(images) > COCO_FOLD and len(images) % COCO_FOLD == 0
    return Split(
        images=images,
        captions=tuple(captions),
        caption_to_image=shared.caption_to_image,
        fold_images=COCO_FOLD if folds else 0,
        notes=(*shared.notes, *(["split testall"] if stem == "testall" else []), *notes, *id_notes, *identity_notes),
        identities=identities,
    )


def _identities(path: Path, images: int) -> tuple[tuple[str, ...] | None, list[str]]:
    """Whom each image shows, and notes; None where there is no such file.  Raises DataError."""
    if not path.exists():
        return None, []
    found, notes = read_lines(path)
    if len(found) != images:
        what = f"line {images + 1} has no image" if len(found) > images else f"line {len(found) + 1} is missing"
        raise DataError(f"{path}: {len(found)} lines, need one for each of {images} images: {what}")
    return tuple(found), [*notes, f"{len(set(found))} identities"]


def _no_features(folder: Path, stem: str, captions: int, ids: Sequence[str] | None) -> np.ndarray:
    """(images, 1, 0): images told apart by the ids of their captions alone.  Raises DataError where there are none."""
    if ids is None or not len(set(ids)) < captions == len(ids):
        raise DataError(f"{folder / stem}_ims.npy: no such file, and no {stem}_ids.txt with an image id per caption")
    return np.empty((len(set(ids)), 1, 0), np.float32)


def source(folder: Path) -> Source:
    """The folder as a data set.  Raises DataError where it is missing, has no split or a broken `dataset.json`."""
    present = [stem for split in SPLITS if (stem := _stem(_existing(folder), split))]
    if not present:
        raise DataError(f"{folder}: no {', '.join(f'{split}_ims.npy' for split in SPLITS)} or the like in this folder")
    placed = all(_stored(folder, stem, what) for stem in present for what in ("boxes", "img_sizes"))
    also = {"boxes": placed, "pixels": _pictures(folder) is not None}
    also["fragments"] = any(_find(folder, stem, "ims") for stem in present)
    offers = frozenset({"tokens", "strings", *(what for what, there in also.items() if there)})
    told = any((folder / f"{stem}_identities.txt").exists() for stem in present)
    return Source(_name(folder), _fingerprint(folder, present), partial(load, folder=folder), offers, told)


def _pictures(folder: Path) -> Path | None:
    """Where the pictures lie; None where there are none."""
    return next((path for name in PICTURES if (path := folder / name).exists()), None)


def _pixels(folder: Path) -> Callable[[str], np.ndarray] | None:
    """From an image's id, the name of its file, to its pixels; opened when the first is asked for."""
    path = _pictures(folder)
    if path is None:
        return None

    @cache
    def opened():
        from harness.data.pictures import Pictures  # Pillow, for the few methods that look at pictures

        return Pictures(path)

    def read(name: str) -> np.ndarray:
        return np.asarray(opened().picture(opened().find(name)))

    return read


def _stored(folder: Path, stem: str, what: str) -> bool:
    """Whether an optional array lies beside the fragments of a split."""
    return any((folder / f"{stem}_{ending}.npy").exists() for ending in ARRAYS[what])


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return folder


def _name(folder: Path) -> str:
    """From `dataset.json`, else the folder's own.  Raises DataError where it cannot name a folder of results."""
    own, path = folder.resolve().name, folder / "dataset.json"
    if not path.exists():
        return folder_name(own, f"{str(folder)!a}: the folder's name")
    found = read_json(path)
    if not isinstance(found, dict):
        raise DataError(f"{path}: not a JSON object but a {type(found).__name__}")
    return folder_name(found.get("name", own), f"{path}: name")


def _fingerprint(folder: Path, stems: Sequence[str]) -> str:
    """sha256 over the content of every file that is read, each hashed whole."""
    sha = hashlib.sha256()
    for stem in stems:
        for label, path in _files(folder, stem):
            sha.update(f"{stem}_{label}:{contents.digest(path)}:".encode())
    pictures = _pictures(folder)
    if pictures is not None:
        sha.update(f"pictures:{contents.digest(pictures)}:".encode())
    return sha.hexdigest()


def _files(folder: Path, stem: str) -> Iterator[tuple[str, Path]]:
    """What is read of a split: what it is, and where it lies."""
    for kind in ("caps", "ids", "identities"):
        path = folder / f"{stem}_{kind}.txt"
        if path.exists():
            yield kind, path
    for kind in ARRAYS:
        path = _find(folder, stem, kind)
        if path is not None:
            yield kind, path
