"""Retrieval metrics: scores -> ranks -> recall.  Pure functions of arrays.

Ranks are 0-based: the number of negatives that score at least as high as the query's best positive, so that ties count
against the model.  Ground truth is `caption_to_image`; an image may have any number of captions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

RECALL_AT = (1, 5, 10)
BLOCK_ROWS = 128  # rows of a score matrix looked at together: their copies stay small whatever its size


def text_to_image_ranks(
    scores: np.ndarray, image_of_caption: np.ndarray, block_rows: int = BLOCK_ROWS
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of caption queries, and which of them tie.  scores: (N, m).  image_of_caption: (m,) its one positive."""
    positive = scores[
        image_of_caption, np.arange(scores.shape[1])
    ]  # from the matrix itself: another product rounds differently
    at_least, above = np.zeros((2, scores.shape[1]), np.int32)
    for rows in blocks(len(scores), block_rows):
        block = np.asarray(scores[rows])
        at_least += (block >= positive).sum(0, dtype=np.int32)
        above += (block > positive).sum(0, dtype=np.int32)
    return at_least - 1, at_least - above > 1  # the positive itself is no rival


def image_to_text_ranks(
    scores: np.ndarray, caption_to_image: np.ndarray, block_rows: int = BLOCK_ROWS
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of image queries by the best of their captions, and which of them tie.

    scores: (N, M).  caption_to_image: (M,).  Returns (N,) int32 and (N,) bool.
    """
    positives = scores[caption_to_image, np.arange(scores.shape[1])]  # (M,)
    best = np.full(len(scores), -np.inf, scores.dtype)
    np.maximum.at(best, caption_to_image, positives)
    own_best = np.bincount(caption_to_image, positives == best[caption_to_image], len(scores)).astype(np.int32)
    at_least, above = np.empty((2, len(scores)), np.int32)
    for rows in blocks(len(scores), block_rows):
        block, bar = np.asarray(scores[rows]), best[rows, None]
        at_least[rows] = np.count_nonzero(block >= bar, axis=1)
        above[rows] = np.count_nonzero(block > bar, axis=1)
    return at_least - own_best, at_least - above > own_best


def ranks(
    scores: np.ndarray, caption_to_image: np.ndarray, block_rows: int = BLOCK_ROWS
) -> tuple[np.ndarray, np.ndarray, int]:
    """Both directions of a whole (N, M) matrix, which may be memory-mapped.

    Returns (N,) int32 ranks of image queries, (M,) int32 ranks of caption queries, and the number of queries that tie.
    Raises ValueError where a score is not finite.
    """
    for rows in blocks(len(scores), block_rows):
        block = np.asarray(scores[rows])
        if not np.isfinite(block).all():
            bad = np.count_nonzero(~np.isfinite(block))
            raise ValueError(f"{bad} of {block.size} scores of images {rows.start} to {rows.stop} are not finite")
    i2t, tied_images = image_to_text_ranks(scores, caption_to_image, block_rows)
    t2i, tied_captions = text_to_image_ranks(scores, caption_to_image, block_rows)
    return i2t, t2i, int(tied_images.sum() + tied_captions.sum())


def blocks(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices that cover range(length)."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def top(scores: np.ndarray, k: int, axis: int) -> np.ndarray:
    """Indices of the k highest scores along `axis`, best first, per query of the other axis.  Returns (queries, k).

    Equal scores come in the order of their indices.
    """
    by_query = scores if axis == 1 else scores.T
    k = min(k, by_query.shape[1])
    found = np.empty((by_query.shape[0], k), np.int32)
    for rows in blocks(by_query.shape[0], BLOCK_ROWS):
        block = np.ascontiguousarray(by_query[rows])
        some = np.argpartition(block, -k, axis=1)[:, -k:]
        least = np.take_along_axis(block, some, 1).min(1, keepdims=True)
        torn = np.count_nonzero(block >= least, axis=1) > k  # equals of the last one were left out, any of them
        some[torn] = np.argsort(-block[torn], axis=1, kind="stable")[:, :k]
        some.sort(1)
        order = np.argsort(-np.take_along_axis(block, some, 1), axis=1, kind="stable")
        found[rows] = np.take_along_axis(some, order, 1)
    return found


def folds(caption_to_image: np.ndarray, images: int, size: int) -> list[tuple[slice, slice]]:
    """Images and captions of contiguous folds of `size` images; none where size is 0.  caption_to_image: ascending."""
    parts = list(blocks(images, size)) if size else []
    return [(part, slice(*map(int, np.searchsorted(caption_to_image, [part.start, part.stop])))) for part in parts]


def recall_at(ranks: np.ndarray, k: int) -> float:
    """Percent of queries whose best positive is among the first k.  ranks: (Q,) int, 0-based."""
    return 100 * float((ranks < k).mean())


def median_rank(ranks: np.ndarray) -> float:
    """1-based, as published: floor(median) + 1."""
    return float(np.floor(np.median(ranks)) + 1)


def mean_rank(ranks: np.ndarray) -> float:
    """1-based."""
    return float(ranks.mean() + 1)


def summary(i2t: np.ndarray, t2i: np.ndarray) -> dict[str, float]:
    """R@K both ways in percent, their sum (Rsum), median and mean ranks (1-based)."""
    recalls = {f"{way}_r{k}": recall_at(r, k) for way, r in (("i2t", i2t), ("t2i", t2i)) for k in RECALL_AT}
    places = {
        f"{way}_{name}": f(r)
        for way, r in (("i2t", i2t), ("t2i", t2i))
        for name, f in (("medr", median_rank), ("meanr", mean_rank))
    }
    return recalls | {"rsum": sum(recalls.values())} | places


def fold_summary(
    i2t: np.ndarray, t2i: np.ndarray, fold_of_image: np.ndarray, fold_of_caption: np.ndarray
) -> dict[str, float]:
    """`summary` averaged over folds (COCO 1K: five folds of 1,000 images).  Ranks are within folds."""
    folds = [summary(i2t[fold_of_image == f], t2i[fold_of_caption == f]) for f in np.unique(fold_of_image)]
    return {name: float(np.mean([fold[name] for fold in folds])) for name in folds[0]}
