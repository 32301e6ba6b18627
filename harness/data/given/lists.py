"""Lists of what was retrieved, from a file: ids become places in the data, and orders are checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.data.given import places
from harness.data.given.places import Truth
from harness.data.split import DataError

LEAST = 10  # items of a list: fewer do not tell recall at 10


@dataclass(frozen=True)
class Lists:
    """What was retrieved, best first; -1 where there is no more."""

    i2t: np.ndarray  # (N, k) int32 captions
    t2i: np.ndarray  # (M, l) int32 images
    i2t_scores: np.ndarray | None = None  # (N, k) float64, -inf where there is no more
    t2i_scores: np.ndarray | None = None  # (M, l)
    notes: tuple[str, ...] = ()


def read(name: str, arrays: Mapping[str, np.ndarray], truth: Truth) -> Lists:
    """Raises DataError."""
    check_shapes(name, arrays)
    if "image_ids" in arrays and len(arrays["i2t_ids"]) != truth.images:
        raise DataError(f"{name}: i2t_ids has {len(arrays['i2t_ids']):,} rows, the data {truth.images:,} images")
    of_images, folded = places.image_rows(
        len(arrays["i2t_ids"]), arrays.get("image_ids"), truth, places.equal_rows(arrays["i2t_ids"]), f"{name}: i2t_ids"
    )
    of_captions = places.caption_rows(len(arrays["t2i_ids"]), arrays.get("caption_ids"), truth, f"{name}: t2i_ids")
    places.check_owners(arrays.get("image_of_caption"), truth, of_images, of_captions, name)
    found = {}
    for way, rows, names, own in (
        ("i2t", of_images, truth.caption_ids, "caption_ids"),
        ("t2i", of_captions, truth.image_ids, "image_ids"),
    ):
        size = truth.captions if way == "i2t" else truth.images
        numbers = _numbers(f"{name}: {way}_ids", arrays[f"{way}_ids"], size, names, own in arrays)[rows]
        _check_order(f"{name}: {way}_ids", numbers)
        found[way] = numbers
        found[f"{way}_scores"] = _values(f"{name}: {way}_scores", numbers, arrays.get(f"{way}_scores"), rows)
    return Lists(**found, notes=(folded,) if folded else ())


def check_shapes(name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises DataError where ids are no lists, or scores are not one of each."""
    for way in ("i2t", "t2i"):
        ids, scores = arrays[f"{way}_ids"], arrays.get(f"{way}_scores")
        if ids.ndim != 2 or 0 in ids.shape or ids.dtype.kind not in "iuU":
            raise DataError(
                f"{name}: {way}_ids must be ids or numbers of (queries, k), got {ids.dtype} of shape {ids.shape}"
            )
        if scores is not None and (scores.shape != ids.shape or scores.dtype.kind not in "fiu"):
            raise DataError(
                f"{name}: {way}_scores must be numbers of the shape of {way}_ids, {ids.shape}, got {scores.dtype} "
                f"of shape {scores.shape}"
            )


def _numbers(what: str, ids: np.ndarray, size: int, names: tuple[str, ...], named: bool) -> np.ndarray:
    """(Q, k) int32 items, -1 for none.  Whole numbers are places in the data, unless the file names its items."""
    if ids.shape[1] < min(LEAST, size) or ids.shape[1] > size:
        raise DataError(
            f"{what} lists {ids.shape[1]} items a query, need {min(LEAST, size)} to {size}, its whole gallery"
        )
    if ids.dtype.kind == "U" or named:
        if not names:
            raise DataError(f"{what}: the data have no ids to find these by")
        place_of = {name: place for place, name in enumerate(names)} | {"": -1, "-1": -1}
        some, inverse = np.unique(ids, return_inverse=True)
        if strange := [str(name) for name in some.tolist() if str(name) not in place_of]:
            raise DataError(f"{what}: {len(strange)} ids are unknown to the data, first {strange[0]!a:.60}")
        return np.array([place_of[str(name)] for name in some.tolist()], np.int32)[inverse].reshape(ids.shape)
    if ids.min() < -1 or ids.max() >= size:
        raise DataError(f"{what} must be -1 to {size - 1}, got {ids.min()} to {ids.max()}")
    return ids.astype(np.int32)


def _check_order(what: str, numbers: np.ndarray) -> None:
    """Raises DataError where a list has a gap or names an item twice."""
    listed = numbers >= 0
    if (listed[:, 1:] & ~listed[:, :-1]).any():
        raise DataError(f"{what}: a list goes on after its end (-1)")
    short = np.asarray(~listed[:, : min(LEAST, listed.shape[1])].all(1))
    if short.any():
        raise DataError(places.said(f"{what}: fewer than {LEAST} items", short, np.arange(len(short))))
    ordered = np.sort(numbers, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise DataError(f"{what}: a list names an item twice")


def _values(what: str, numbers: np.ndarray, given: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    """(Q, k) float64 scores, -inf where there is no more.  Raises DataError."""
    if given is None:
        return None
    values = np.where(numbers >= 0, given[rows].astype(np.float64), -np.inf)
    if bad := int((~np.isfinite(values[numbers >= 0])).sum()):
        raise DataError(f"{what}: {bad} are not finite")
    rises = values[:, 1:] > values[:, :-1]
    if rises.any():
        falls = (values[:, 1:] < values[:, :-1]) & (numbers[:, 1:] >= 0)
        distances = "" if falls.any() else ", are these distances?"
        raise DataError(places.said(f"{what} rise along a list, which is best first{distances}:", rises.any(1), rows))
    return values
