"""Which row of a file is which item of the data: by ids, by counts, and where images are there once per caption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from harness.data.split import DataError, Split

COMPARED = 2**24  # bytes of rows that are compared at a time
SHOWN = 3  # rows that a message names


@dataclass(frozen=True)
class Truth:
    """What a file's rows must be put beside: N images, M captions, and whose captions they are."""

    owners: np.ndarray  # (M,) int64 image of each caption
    images: int
    image_ids: tuple[str, ...] = ()  # (N,), () where nobody named them
    caption_ids: tuple[str, ...] = ()  # (M,)

    @classmethod
    def of(cls, split: Split) -> Truth:
        return cls(split.caption_to_image, len(split.images), split.images.ids, split.caption_ids)

    @property
    def captions(self) -> int:
        return len(self.owners)


def places(ids: np.ndarray, wanted: Sequence[str], what: str) -> np.ndarray:
    """(len(wanted),) row of each wanted id.  Raises DataError where the ids are not these, each once."""
    found = as_texts(ids, what)
    if not wanted:
        raise DataError(f"{what}: the data have no ids to compare these with")
    row_of = {name: row for row, name in enumerate(found)}
    if len(row_of) < len(found):
        twice = next(name for row, name in enumerate(found) if row_of[name] != row)
        raise DataError(f"{what}: {len(found) - len(row_of)} ids are there twice, first {twice!a:.60}")
    known = set(wanted)
    wrong = {
        "are unknown to the data": [name for name in found if name not in known],
        "of the data are missing": [name for name in wanted if name not in row_of],
    }
    if any(wrong.values()):
        parts = [f"{len(some)} {said}, first {some[0]!a:.60}" for said, some in wrong.items() if some]
        raise DataError(f"{what}: {' and '.join(parts)} ({len(found):,} ids against {len(wanted):,})")
    return np.array([row_of[name] for name in wanted])


def as_texts(ids: np.ndarray, what: str) -> list[str]:
    """Raises DataError where they are no list of texts or whole numbers."""
    if ids.ndim != 1 or ids.dtype.kind not in "iuU":
        raise DataError(f"{what} must be texts or whole numbers, one a row, got {ids.dtype} of shape {ids.shape}")
    return [str(item) for item in ids.tolist()]


def owners(given: Any, images: int, captions: int, name: str) -> np.ndarray:
    """(M,) int64 image of each caption from whatever says it.

    given: None (equally many captions each, in a row), how many captions an image has, their counts (N,), the image of
    each caption (M,), or a mapping caption -> image or image -> captions, by number.  Counts are all above 0 and images
    of captions begin at 0: no list is both.  Raises DataError where none fits.
    """
    if given is None or (isinstance(given, int | np.integer) and not isinstance(given, bool)):
        return _evenly(None if given is None else int(given), images, captions, name)
    if isinstance(given, Mapping):
        return _of_mapping(given, images, captions, name)
    numbers = np.asarray(given)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise DataError(
            f"{name}: image_of_caption must be whole numbers, one a caption, got {numbers.dtype} "
            f"of shape {numbers.shape}"
        )
    as_counts = len(numbers) == images and numbers.sum() == captions and numbers.min(initial=1) > 0
    if as_counts:
        return np.repeat(np.arange(images), numbers)
    return _checked(numbers, images, captions, name)


def _evenly(each: int | None, images: int, captions: int, name: str) -> np.ndarray:
    if each is not None and each * images != captions:
        raise DataError(f"{name}: {each} captions an image are {each * images} of {images} images, not {captions}")
    if captions % images:
        turned = ", are they transposed?" if images % captions == 0 else ""
        raise DataError(f"{name}: {captions} captions do not spread evenly over {images} images{turned}")
    return np.repeat(np.arange(images), captions // images)


def _of_mapping(given: Mapping[Any, Any], images: int, captions: int, name: str) -> np.ndarray:
    lists = [isinstance(value, list | tuple | np.ndarray) for value in given.values()]
    if any(lists) and not all(lists):
        raise DataError(f"{name}: image_of_caption maps captions to images, or images to lists of captions, not both")
    pairs = (
        [(caption, image) for image, some in given.items() for caption in some] if any(lists) else list(given.items())
    )
    found = np.full(captions, -1)
    try:
        for caption, image in pairs:
            if not 0 <= int(caption) < captions or found[int(caption)] >= 0:
                raise DataError(f"{name}: caption {caption!a:.40} is there twice, or none of {captions}")
            found[int(caption)] = int(image)
    except (TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name}: image_of_caption must map numbers to numbers ({error})") from None
    if (found < 0).any():
        raise DataError(f"{name}: {(found < 0).sum()} of {captions} captions have no image, first {found.argmin()}")
    return _checked(found, images, captions, name)


def _checked(found: np.ndarray, images: int, captions: int, name: str) -> np.ndarray:
    if len(found) != captions:
        turned = ", are the scores transposed?" if len(found) == images else ""
        raise DataError(f"{name}: {captions} captions but {len(found)} image indices{turned}")
    if found.min() < 0 or found.max() >= images:
        raise DataError(f"{name}: image indices must be 0 to {images - 1}, got {found.min()} to {found.max()}")
    if missing := images - len(np.unique(found)):
        raise DataError(f"{name}: {missing} of {images} images have no caption")
    return found.astype(np.int64)


def check_owners(stored: np.ndarray | None, truth: Truth, image_rows: np.ndarray, caption_rows: np.ndarray, name: str):
    """What a file says of its captions must be what the data say.  Raises DataError.

    stored: (M,) by the rows of the file, numbers of image rows or ids.  image_rows, caption_rows: rows of the items.
    """
    if stored is None:
        return
    if stored.shape != (truth.captions,):
        raise DataError(f"{name}: image_of_caption has shape {stored.shape}, the data {truth.captions} captions")
    wanted = [truth.image_ids[image] for image in truth.owners] if stored.dtype.kind == "U" else None
    expected = image_rows[truth.owners] if wanted is None else np.array(wanted)
    if wrong := int((stored[caption_rows] != expected).sum()):
        raise DataError(f"{name}: image_of_caption contradicts the data for {wrong} of {truth.captions} captions")


def image_rows(
    rows: int, ids: np.ndarray | None, truth: Truth, same: Callable[[np.ndarray, np.ndarray], np.ndarray], name: str
) -> tuple[np.ndarray, str]:
    """(N,) row of each image, and a line where rows were folded.  ids: of the images, each once.

    same: (rows, other rows) -> whether they are equal.  Raises DataError.
    """
    if rows == truth.images:
        return np.arange(rows) if ids is None else places(ids, truth.image_ids, f"{name}: image_ids"), ""
    if rows != truth.captions:
        raise DataError(f"{name}: {rows:,} image rows, the data have {truth.images:,} images")
    if ids is not None and ids.shape == (rows,):
        _, first = np.unique(ids, return_index=True)
        raise DataError(
            f"{name}: an image id for each of {rows:,} rows, of which the data have {truth.images:,} images: "
            f"{len(first):,} differ; give each image once, or no ids"
        )
    shown = truth.owners if ids is None else _shown(ids, truth, name)
    first = np.unique(shown, return_index=True)[1]
    later = np.setdiff1d(np.arange(rows), first)
    if not (equal := same(later, first[shown[later]])).all():
        wrong = int(later[~equal][0])
        raise DataError(
            f"{name}: {rows:,} image rows for {truth.images:,} images, but row {wrong} is not that of its image again"
        )
    return first, f"{name}: images repeat once per caption, {rows:,} rows folded to {truth.images:,} images"


def _shown(ids: np.ndarray, truth: Truth, name: str) -> np.ndarray:
    """(M,) image in each row, of images one after another as `ids` (N,) name them.  Raises DataError."""
    order = np.argsort(places(ids, truth.image_ids, f"{name}: image_ids"))
    return np.repeat(order, np.bincount(truth.owners)[order])


def caption_rows(rows: int, ids: np.ndarray | None, truth: Truth, name: str) -> np.ndarray:
    """(M,) row of each caption.  Raises DataError."""
    if rows != truth.captions:
        more = f"; {rows - truth.captions} too many: keep those of the data" if rows > truth.captions else ""
        raise DataError(f"{name}: {rows:,} captions, the data have {truth.captions:,}{more}")
    return np.arange(rows) if ids is None else places(ids, truth.caption_ids, f"{name}: caption_ids")


def equal_rows(array: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A test of rows of an array, which may be memory-mapped: (rows, other rows) -> (len(rows),) bool."""
    step = max(1, COMPARED // max(1, array[0].nbytes))

    def same(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        parts = [
            (array[rows[at : at + step]] == array[others[at : at + step]]).reshape(len(rows[at : at + step]), -1).all(1)
            for at in range(0, len(rows), step)
        ]
        return np.concatenate([np.empty(0, bool), *parts])

    return same


def check_room(what: str, size: float, room: float, instead: str) -> None:
    """size, room: bytes that are needed, and that may be taken.  Raises DataError."""
    if size > room:
        raise DataError(f"{what}: needs {size / 2**30:.2f} GiB, {room / 2**30:.2f} may be taken; {instead}")


def said(what: str, wrong: ArrayLike, rows: np.ndarray) -> str:
    """The first few of the rows that are wrong."""
    found = rows[: np.size(wrong)][np.asarray(wrong)]
    more = ", ..." if len(found) > SHOWN else ""
    return f"{what} in rows {', '.join(map(str, found[:SHOWN].tolist()))}{more}"
