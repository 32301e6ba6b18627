"""A matrix of scores from a file: which axis is which, which row is which item, every value looked at once.

Nothing is transposed silently: a matrix is turned where one reading fits alone, and a line says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.data.given import places
from harness.data.given.places import Truth
from harness.data.split import DataError
from harness.spec.given import AXES

BLOCK_BYTES = 2**25  # looked at together


@dataclass(frozen=True)
class Scores:
    """(N, M) scores in the order of the data, higher = more alike; possibly memory-mapped."""

    i2t: np.ndarray
    t2i: np.ndarray | None = None  # those by which captions rank images, where they are others
    notes: tuple[str, ...] = ()


def read(
    name: str, arrays: Mapping[str, np.ndarray], truth: Truth, axes: str | None = None, room: float = math.inf
) -> Scores:
    """Raises DataError, also where a matrix must be copied, being in another order or type, and needs more than room.

    room: bytes.
    """
    notes: list[str] = []
    found = [
        _matrix(f"{name}: {what}", arrays[what], arrays, axes, truth, notes, room)
        for what in ("scores", "scores_t2i")
        if what in arrays
    ]
    return Scores(found[0], found[1] if len(found) > 1 else None, tuple(dict.fromkeys(notes)))


def _matrix(
    name: str,
    given: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    axes: str | None,
    truth: Truth,
    notes: list[str],
    room: float,
) -> np.ndarray:
    """(N, M) in the order of the data.  Raises DataError."""
    if given.ndim != 2 or 0 in given.shape:
        raise DataError(f"{name} must be a matrix, got shape {given.shape}")
    if given.dtype.kind not in "fiu":
        raise DataError(f"{name} must be numbers, got {given.dtype}")
    reading, turned, rows = _reading(name, given, axes, arrays, truth, notes)
    columns = places.caption_rows(turned.shape[1], arrays.get("caption_ids"), truth, name)
    places.check_owners(arrays.get("image_of_caption"), truth, rows, columns, name)
    if reading == AXES[1] and axes is None:
        notes.append(f"{name}: read as captions by images, the one reading that fits {given.shape}")
    exact = turned.dtype.kind == "f" and turned.dtype.itemsize >= 4
    of_rows = not np.array_equal(rows, np.arange(turned.shape[0]))
    of_columns = not np.array_equal(columns, np.arange(turned.shape[1]))
    if of_rows or of_columns or not exact:
        size = turned.size * max(4, turned.itemsize) * (1 + (of_rows and of_columns))
        places.check_room(name, size, room, "as .npy of float32 in the order of the data it is read as it lies")
    if of_rows:
        turned = turned[rows]
    if of_columns:
        turned = turned[:, columns]
    if not exact:
        turned = turned.astype(np.float32)
    _check_scores(name, turned)
    return turned


def _reading(
    name: str,
    given: np.ndarray,
    axes: str | None,
    arrays: Mapping[str, np.ndarray],
    truth: Truth,
    notes: list[str],
) -> tuple[str, np.ndarray, np.ndarray]:
    """The one order of the axes that fits, the matrix as images by captions, and the row of each image."""
    fitting: list[tuple[str, np.ndarray, np.ndarray, str]] = []
    why = ""
    for order, turned in zip(AXES, (given, given.T), strict=True):
        if axes not in (None, order):
            continue
        try:
            if turned.shape[1] != truth.captions:
                raise DataError(
                    f"{name} has shape {given.shape}, the data {truth.images:,} images and {truth.captions:,} captions"
                )
            rows, folded = places.image_rows(
                len(turned), arrays.get("image_ids"), truth, places.equal_rows(turned), name
            )
        except DataError as error:
            why = why or str(error)
            continue
        fitting.append((order, turned, rows, folded))
    if not fitting:
        raise DataError(why)
    if len(fitting) > 1:
        raise DataError(
            f"{name} of shape {given.shape} reads as {AXES[0]} as well as {AXES[1]}: say axes={AXES[0]} or {AXES[1]}"
        )
    order, turned, rows, folded = fitting[0]
    if folded:
        notes.append(folded)
    return order, turned, rows


def _check_scores(name: str, matrix: np.ndarray) -> None:
    """Finite, and no query to which all answers are the same.  Raises DataError."""
    step = max(1, BLOCK_BYTES // matrix[0].nbytes)
    low = np.full(matrix.shape[1], np.inf)
    high = -low
    for start in range(0, len(matrix), step):
        block = np.asarray(matrix[start : start + step])
        if not np.isfinite(block).all():
            bad = block.size - np.count_nonzero(np.isfinite(block))
            raise DataError(
                f"{name}: {bad} of {block.size} scores of images {start} to {start + len(block)} are not finite"
            )
        flat = block.min(1) == block.max(1)
        if flat.any() and matrix.shape[1] > 1:
            raise DataError(
                places.said(f"{name}: all scores of an image are equal", flat, np.arange(start, len(matrix)))
            )
        low, high = np.minimum(low, block.min(0)), np.maximum(high, block.max(0))
    if (low == high).any() and len(matrix) > 1:
        raise DataError(
            places.said(f"{name}: all scores of a caption are equal", low == high, np.arange(matrix.shape[1]))
        )
