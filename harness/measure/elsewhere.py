"""Embeddings, scores or lists without a data set beside them: whose captions are whose is told, or read off them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from harness.data.given import lists, places, vectors
from harness.data.given.files import MAPPING
from harness.data.given.places import Truth
from harness.data.given.read import read
from harness.data.precomp import repeats
from harness.data.prepared import unread
from harness.data.split import DataError, Images, Split
from harness.measure import given
from harness.measure.evaluator import Evaluation
from harness.spec.given import AXES
from harness.spec.job import Settings


def evaluate(
    name: str, kind: str, arrays: Mapping[str, np.ndarray], options: Mapping[str, str], image_of_caption: Any, fold: int
) -> tuple[Evaluation, tuple[str, ...]]:
    """Ranks in the order of the arrays, those of images once each; and what was found and done, a line each.

    image_of_caption: as `places.owners` takes it, or None where the arrays tell.  Raises DataError.
    """
    told = arrays.get("image_of_caption") if image_of_caption is None else image_of_caption
    rows, captions = _counts(name, kind, arrays, options)
    owners, images = _owners(name, kind, arrays, told, rows, captions)
    if fold and (fold < 0 or images % fold):
        raise DataError(f"fold must divide the {images} images, got {fold}")
    order = np.argsort(owners, kind="stable")  # a split has its captions image by image
    ids = {"caption_ids": arrays.get("caption_ids", np.arange(captions))}
    if rows == images:
        ids["image_ids"] = arrays.get("image_ids", np.arange(images))
    named = {what: places.as_texts(values, f"{name}: {what}") for what, values in ids.items()}
    split = Split(
        Images(
            np.empty((images, 1, 0), np.float32),
            np.arange(images),
            tuple(named.get("image_ids", map(str, range(images)))),
        ),
        ("",) * captions,
        owners[order],
        fold_images=fold,
    )
    truth = Truth(owners[order], images, split.images.ids, tuple(named["caption_ids"][place] for place in order))
    plain = {what: array for what, array in arrays.items() if what not in MAPPING}
    found = read(name, kind, plain | ids, options, truth)
    whole = given.evaluate(found, unread(split), Settings())
    t2i = np.empty_like(whole.ranks.t2i)
    t2i[order] = whole.ranks.t2i
    return replace(whole, ranks=replace(whole.ranks, t2i=t2i)), found.notes


def _counts(name: str, kind: str, arrays: Mapping[str, np.ndarray], options: Mapping[str, str]) -> tuple[int, int]:
    """Rows of images and captions.  Raises DataError."""
    if kind == "embeddings":
        vectors.check_shapes(name, arrays)
        return len(arrays["images"]), len(arrays["captions"])
    if kind == "lists":
        lists.check_shapes(name, arrays)
        return len(arrays["i2t_ids"]), len(arrays["t2i_ids"])
    shape = arrays["scores"].shape
    if len(shape) != 2 or 0 in shape:
        raise DataError(f"{name}: scores must be a matrix, got shape {shape}")
    return (shape[1], shape[0]) if options.get("axes") == AXES[1] else (shape[0], shape[1])


def _owners(
    name: str, kind: str, arrays: Mapping[str, np.ndarray], told: Any, rows: int, captions: int
) -> tuple[np.ndarray, int]:
    """(M,) image of each caption, and how many images there are where rows repeat.  Raises DataError."""
    if told is None and rows == captions and kind == "embeddings":
        images = arrays["images"]
        again = repeats(images[:, None] if images.ndim == 2 else images)
        if again.any():  # once per caption
            return np.cumsum(~again) - 1, int((~again).sum())
    listed = isinstance(told, list | tuple | np.ndarray)
    if listed and rows == captions == np.size(told) and (images := len(np.unique(np.asarray(told)))) < rows:
        return places.owners(told, images, captions, name), images
    return places.owners(told, rows, captions, name), rows
