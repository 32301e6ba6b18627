"""Retrieval metrics: scores -> ranks -> recall.  Pure functions of arrays.

Ranks are 0-based: the number of negatives that score at least as high as the query's best positive, so that ties count
against the model.  Ground truth is `caption_to_image`; an image may have any number of captions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

RECALL_AT = (1, 5, 10)


def image_to_text_ranks(scores: np.ndarray, caption_to_image: np.ndarray, first_image: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of image queries, and which of them tie.

    scores: (n, M), rows = images `first_image`, `first_image + 1`, ...  caption_to_image: (M,).
    Returns (n,) int32 rank of the best of the image's captions, (n,) bool whether a negative ties with it.
    """
    own = caption_to_image[None, :] == np.arange(first_image, first_image + len(scores))[:, None]  # (n, M)
    best = np.where(own, scores, -np.inf).max(1, keepdims=True)
    return (
        ((scores >= best) & ~own).sum(1, dtype=np.int32),
        ((scores == best) & ~own).any(1),
    )


def text_to_image_ranks(scores: np.ndarray, image_of_caption: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of caption queries, and which of them tie.  scores: (N, m).  image_of_caption: (m,) row of the one positive."""
    positive = scores[image_of_caption, np.arange(scores.shape[1])]  # taken from the block itself: another product rounds differently
    at_least = (scores >= positive).sum(0, dtype=np.int32)
    return at_least - 1, (scores == positive).sum(0) > 1


def ranks(scores: np.ndarray, caption_to_image: np.ndarray, block_rows: int = 256) -> tuple[np.ndarray, np.ndarray, int]:
    """Both directions of a whole (N, M) matrix, which may be memory-mapped.

    Returns (N,) int32 ranks of image queries, (M,) int32 ranks of caption queries, and the number of queries that tie.
    Raises ValueError where a score is not finite.
    """
    i2t, tied_images = np.empty(scores.shape[0], np.int32), 0
    for rows in blocks(scores.shape[0], block_rows):
        block = np.asarray(scores[rows])
        if not np.isfinite(block).all():
            raise ValueError(f"{(~np.isfinite(block)).sum()} of {block.size} scores of images {rows.start} to {rows.stop} are not finite")
        i2t[rows], ties = image_to_text_ranks(block, caption_to_image, rows.start)
        tied_images += int(ties.sum())
    t2i, tied_captions = np.empty(scores.shape[1], np.int32), 0
    for columns in blocks(scores.shape[1], block_rows * 4):
        t2i[columns], ties = text_to_image_ranks(np.asarray(scores[:, columns]), caption_to_image[columns])
        tied_captions += int(ties.sum())
    return i2t, t2i, tied_images + tied_captions


def blocks(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices that cover range(length)."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def top(scores: np.ndarray, k: int, axis: int) -> np.ndarray:
    """Indices of the k highest scores along `axis`, best first, for every query of the other axis.  Returns (queries, k) int32."""
    by_query = scores if axis == 1 else scores.T
    k = min(k, by_query.shape[1])
    found = np.empty((by_query.shape[0], k), np.int32)
    for rows in blocks(by_query.shape[0], 256):
        block = np.asarray(by_query[rows])
        some = np.argpartition(-block, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(block, some, 1), axis=1, kind="stable")
        found[rows] = np.take_along_axis(some, order, 1)
    return found


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
    places = {f"{way}_{name}": f(r) for way, r in (("i2t", i2t), ("t2i", t2i)) for name, f in (("medr", median_rank), ("meanr", mean_rank))}
    return recalls | {"rsum": sum(recalls.values())} | places


def fold_summary(i2t: np.ndarray, t2i: np.ndarray, fold_of_image: np.ndarray, fold_of_caption: np.ndarray) -> dict[str, float]:
    """`summary` averaged over folds (COCO 1K: five folds of 1,000 images).  Ranks are within folds."""
    folds = [summary(i2t[fold_of_image == f], t2i[fold_of_caption == f]) for f in np.unique(fold_of_image)]
    return {name: float(np.mean([fold[name] for fold in folds])) for name in folds[0]}
