"""What people said of pairs of an image and a caption, in the two files of Flickr8k's test split.

    ExpertAnnotations.txt         image  image#k  score  score  score    of three experts, 1 to 4 = describes the image
    CrowdFlowerAnnotations.txt    image  image#k  share  yes  no         does the caption describe the image?

Fields are parted by tabs; `image#k` is caption k, from 0, of that image (Hodosh, Young & Hockenmaier, JAIR 47, 2013).
Copies with a damaged block go about: a line with characters that cannot be shown is counted and left out, every other
line must be as above.  Images go by the ids of the data; where those are others, by `dataset_flickr8k.json` (plain or
gzip, Karpathy's layout) of the same folder, whose captions are looked for among those of the data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from harness.data import karpathy
from harness.data.split import DataError, Split

EXPERTS, CROWD = "ExpertAnnotations.txt", "CrowdFlowerAnnotations.txt"
NAMES = ("dataset_flickr8k.json", "dataset_flickr8k.json.gz")
PAIR = r"([^\t]+)\t([^\t]+#[0-9]+)"
OF_EXPERTS = re.compile(PAIR + r"\t([1-4])\t([1-4])\t([1-4])")
OF_CROWD = re.compile(PAIR + r"\t([01](?:\.[0-9]+)?)\t([0-9]{1,6})\t([0-9]{1,6})")
ROUNDED = 0.01  # how far a share as written may be from its counts

T = TypeVar("T")
Pair = tuple[str, str]  # image and caption by name


@dataclass(frozen=True)
class Said(Generic[T]):
    """The judgements of one file."""

    of: Mapping[Pair, T]
    damaged: int  # lines that were left out
    lines: int


@dataclass(frozen=True)
class Judgements:
    """Of both files, by the names they use."""

    folder: Path
    experts: Said[int]  # the sum of three scores from 1 to 4
    crowd: Said[tuple[int, int]]  # yes, and all votes

    @property
    def notes(self) -> list[str]:
        """A line for each file that is damaged."""
        files = ((EXPERTS, self.experts), (CROWD, self.crowd))
        return [
            f"{name}: {said.damaged:,} of {said.lines:,} lines are damaged and left out"
            for name, said in files
            if said.damaged
        ]


@dataclass(frozen=True)
class Placed:
    """P pairs of the data, each once, by caption and image: all that were judged, and beside them what is right anyway,
    every judged image with all its captions and every judged caption with its image."""

    images: np.ndarray  # (P,) int64
    captions: np.ndarray  # (P,) int64
    own: np.ndarray  # (P,) bool, whether the caption was collected for the image
    experts: np.ndarray  # (P,) int64 sum of three scores from 1 to 4, 0 = not asked
    yes: np.ndarray  # (P,) int64
    votes: np.ndarray  # (P,) int64, 0 = the crowd was not asked
    outside: tuple[int, int]  # judgements of experts and crowd whose image or caption the data lack


def read(folder: Path) -> Judgements:
    """Both files.  Raises DataError, one line with file and line number, for what is missing or malformed."""
    return Judgements(folder, parse_experts(*_opened(folder / EXPERTS)), parse_crowd(*_opened(folder / CROWD)))


def _opened(path: Path) -> tuple[bytes, str]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return path.read_bytes(), str(path)


def parse_experts(data: bytes, where: str) -> Said[int]:
    """Pair -> the sum of its three scores.  Raises DataError."""
    needed = "an image, its caption#k and three scores from 1 to 4"
    rows, damaged, lines = _rows(data, where, OF_EXPERTS, needed)
    return Said({pair: sum(map(int, scores)) for pair, (_, scores) in rows.items()}, damaged, lines)


def parse_crowd(data: bytes, where: str) -> Said[tuple[int, int]]:
    """Pair -> how many said yes, of how many.  Raises DataError."""
    rows, damaged, lines = _rows(data, where, OF_CROWD, "an image, its caption#k, the share of yes, yes and no")
    found: dict[Pair, tuple[int, int]] = {}
    for pair, (number, (share, *counts)) in rows.items():
        yes, no = map(int, counts)
        if not yes + no or abs(float(share) - yes / (yes + no)) > ROUNDED:
            raise DataError(f"{where}, line {number}: the share of yes is said to be {share}, of {yes} yes and {no} no")
        found[pair] = yes, yes + no
    return Said(found, damaged, lines)


def _rows(
    data: bytes, where: str, form: re.Pattern[str], needed: str
) -> tuple[dict[Pair, tuple[int, list[str]]], int, int]:
    """Pair -> line number and further fields; how many lines are damaged, and how many there are."""
    rows: dict[Pair, tuple[int, list[str]]] = {}
    damaged = lines = 0
    for number, raw in enumerate(data.split(b"\n"), 1):
        line = _shown(raw.removesuffix(b"\r"))
        lines += bool(raw)
        if line is None:
            damaged += 1
        if not line:
            continue
        found = form.fullmatch(line)
        if found is None:
            raise DataError(f"{where}, line {number}: need {needed}, parted by tabs, got {line!a:.80}")
        image, caption, *fields = found.groups()
        if (image, caption) in rows:
            raise DataError(f"{where}, line {number}: the pair of line {rows[image, caption][0]} once more")
        rows[image, caption] = number, fields
    if damaged >= max(1, len(rows)):
        raise DataError(f"{where}: {damaged:,} of {lines:,} lines are damaged")
    if not rows:
        raise DataError(f"{where}: no judgement in it")
    return rows, damaged, lines


def _shown(raw: bytes) -> str | None:
    """A line as text; None where it holds what cannot be shown."""
    try:
        line = raw.decode()
    except UnicodeDecodeError:
        return None
    return line if line.replace("\t", "").isprintable() else None


def placed(found: Judgements, split: Split) -> Placed:
    """The judgements that the data have, by number.  Raises DataError where there are none."""
    images, captions = _numbers(found, split)

    def number(pair: Pair) -> tuple[int, int] | None:
        image, caption = images.get(pair[0]), captions.get(pair[1])
        return None if image is None or caption is None else (caption, image)

    experts = {place: value for pair, value in found.experts.of.items() if (place := number(pair)) is not None}
    crowd = {place: value for pair, value in found.crowd.of.items() if (place := number(pair)) is not None}
    outside = len(found.experts.of) - len(experts), len(found.crowd.of) - len(crowd)
    said = {place: (experts.get(place, 0), *crowd.get(place, (0, 0))) for place in experts.keys() | crowd.keys()}
    if not said:
        raise DataError(f"{found.folder}: no judged pair has its image and its caption in the data")
    owner = split.caption_to_image
    judged = np.array(list(said), np.int64)  # (J, 2)
    mine = np.isin(owner, judged[:, 1]) | np.isin(np.arange(len(owner)), judged[:, 0])
    for caption in np.flatnonzero(mine).tolist():
        said.setdefault((caption, int(owner[caption])), (0, 0, 0))
    pairs = np.array(sorted(said), np.int64)
    values = np.array([said[caption, image] for caption, image in pairs.tolist()], np.int64)
    own = owner[pairs[:, 0]] == pairs[:, 1]
    return Placed(pairs[:, 1], pairs[:, 0], own, *values.T, outside=outside)


def _numbers(found: Judgements, split: Split) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Image and caption numbers by the names that judgements use.  Raises DataError where no image has one."""
    images = {name: number for number, name in enumerate(split.images.ids)}
    named = {image for said in (found.experts.of, found.crowd.of) for image, _ in said}
    if not named.isdisjoint(images):
        return images, {name: number for number, name in enumerate(split.caption_ids)}
    path = next((path for name in NAMES if (path := found.folder / name).is_file()), None)
    if path is None:
        raise DataError(
            f"{found.folder}: none of {len(named):,} judged images is one of the data, first {min(named)!a:.60}; where "
            f"their ids are no file names, {NAMES[0]} must lie there too"
        )
    told = [picture for pictures in karpathy.read(path).values() for picture in pictures if picture.filename in named]
    images, captions = by_captions(told, split)
    if not images:
        raise DataError(f"{path}: no judged image has the captions of an image of the data")
    return images, captions


def by_captions(pictures: Iterable[karpathy.Picture], split: Split) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """File name -> image and file name#k -> caption, of the pictures whose captions are, in any order, those of one
    image of the data and no other."""
    starts = np.searchsorted(split.caption_to_image, np.arange(len(split.images) + 1)).tolist()
    own: dict[tuple[str, ...], list[int]] = {}  # captions -> the images that have them
    for image, (start, end) in enumerate(pairwise(starts)):
        own.setdefault(tuple(sorted(split.captions[start:end])), []).append(image)
    images: dict[str, int] = {}
    captions: dict[str, int] = {}
    for picture in pictures:
        found = own.get(tuple(sorted(picture.captions)), [])
        if len(found) == 1:
            images[picture.filename] = found[0]
            places = range(starts[found[0]], starts[found[0] + 1])
            theirs = sorted(range(len(picture.captions)), key=picture.captions.__getitem__)
            for k, caption in zip(theirs, sorted(places, key=split.captions.__getitem__), strict=True):
                captions[f"{picture.filename}#{k}"] = caption
    return images, captions
