"""Retrieve, then rerank: how accurate is a shortlist of k by one model, put in order by another, for every k?

Pure: two score matrices in, accuracy per k out.  Ties count against the pair of models throughout: a positive stands
behind equal negatives, and where the shortlist ends among equals it takes the negatives the reranker likes best.
Outside the shortlist the retriever's order stays, so k = 1 is the retriever and k = the whole gallery the reranker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.measure.metrics import BLOCK_ROWS, RECALL_AT, blocks, recall_at
from harness.progress import Progress, Watch, unwatched

PER_DECADE = (1, 2, 5)  # shortlist sizes between powers of ten


@dataclass(frozen=True)
class Reranked:
    """Ranks after reranking, 0-based, one row per shortlist size."""

    ks: tuple[int, ...]
    i2t: np.ndarray  # (len(ks), N) int32
    t2i: np.ndarray  # (len(ks), M) int32
    i2t_first: np.ndarray  # (N,) int32 the retriever's own ranks: a shortlist of k > rank holds a positive
    t2i_first: np.ndarray  # (M,) int32


def sizes(images: int, captions: int) -> tuple[int, ...]:
    """Shortlist sizes from 1 to the larger gallery on a log grid, the size of each gallery among them.

    Raises ValueError where a gallery is empty.
    """
    if images < 1 or captions < 1:
        raise ValueError(f"nothing to retrieve from: {images} images, {captions} captions")
    largest = max(images, captions)
    decades = [10**power for power in range(len(str(largest)))]
    grid = {digit * decade for decade in decades for digit in PER_DECADE}
    return tuple(sorted({k for k in grid if k < largest} | {images, captions}))


def rerank(
    retriever: np.ndarray,
    reranker: np.ndarray,
    caption_to_image: np.ndarray,
    ks: Sequence[int],
    watch: Watch = unwatched,
) -> Reranked:
    """Ranks of every query for every shortlist size, in both directions.

    retriever, reranker: (N, M) scores, which may be memory-mapped.  caption_to_image: (M,).  ks: each at least 1; one
    beyond a gallery means all of it.  Raises ValueError where shapes differ or a score is not finite.
    """
    images, captions = retriever.shape
    if reranker.shape != retriever.shape or caption_to_image.shape != (captions,):
        raise ValueError(
            f"scores of shapes {retriever.shape} and {reranker.shape} and {len(caption_to_image)} captions do not fit"
        )
    if not ks or min(ks) < 1:
        raise ValueError(f"shortlists must have at least one place, got {list(ks)}")
    found = {"i2t": np.empty((len(ks), images), np.int32), "t2i": np.empty((len(ks), captions), np.int32)}
    first = {"i2t": np.empty(images, np.int32), "t2i": np.empty(captions, np.int32)}
    for way, queries in (("i2t", images), ("t2i", captions)):
        for rows in blocks(queries, BLOCK_ROWS):
            here = np.arange(rows.start, rows.stop)
            if way == "i2t":
                a, b, positive = retriever[rows], reranker[rows], here[:, None] == caption_to_image
            else:
                a, b = retriever[:, rows].T, reranker[:, rows].T
                positive = caption_to_image[rows, None] == np.arange(images)
            first[way][rows], found[way][:, rows] = _rerank(
                _finite(a, "retriever"), _finite(b, "reranker"), positive, ks
            )
            watch(Progress("rerank", rows.stop + images * (way == "t2i"), images + captions))
    return Reranked(tuple(ks), found["i2t"], found["t2i"], first["i2t"], first["t2i"])


def _rerank(
    first: np.ndarray, second: np.ndarray, positive: np.ndarray, ks: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """first, second: (Q, G) scores of the retriever and the reranker.  positive: (Q, G).

    Returns the retriever's ranks (Q,) and the ranks after reranking (len(ks), Q).
    """
    worst = np.where(positive, second, -second)  # among equals of the retriever the reranker's worst case comes first
    order = np.lexsort((worst, positive, -first), axis=1)
    scores, right = np.take_along_axis(second, order, 1), np.take_along_axis(positive, order, 1)
    retrieved = right.argmax(1)  # place of the first positive = number of negatives before it
    ranks = np.empty((len(ks), len(first)), np.int32)
    for place, k in enumerate(ks):
        ranks[place] = within(scores[:, :k], right[:, :k], retrieved)
    return retrieved, ranks


def within(shortlist: np.ndarray, among: np.ndarray, retrieved: np.ndarray) -> np.ndarray:
    """(Q,) int32 ranks once shortlists are in the order of their second scores.

    shortlist: (Q, k) second scores in the order of the first.  among: (Q, k) which are positives.  retrieved: (Q,)
    ranks by the first score, which stay where no positive is in the shortlist.
    """
    best = np.where(among, shortlist, -np.inf).max(1)  # -inf where no positive is there: nothing can move it
    before = ((shortlist >= best[:, None]) & ~among).sum(1)
    return np.where(retrieved < shortlist.shape[1], before, retrieved).astype(np.int32)


def _finite(scores: np.ndarray, whose: str) -> np.ndarray:
    """A contiguous copy.  Raises ValueError."""
    scores = np.ascontiguousarray(scores)
    if not np.isfinite(scores).all():
        raise ValueError(
            f"{np.count_nonzero(~np.isfinite(scores))} of {scores.size} scores of the {whose} are not finite"
        )
    return scores


def curve(found: Reranked) -> dict[str, list[float]]:
    """Percent for every k: `i2t_r1` ... `t2i_r10`, and the shortlist's ceilings.

    `i2t_ceiling`, `t2i_ceiling`: queries with a right answer in the shortlist, the most that R@1 can become.
    `rsum_ceiling`: the most that the six recalls can add up to, since R@K also counts places beyond a short shortlist.
    """
    ways = {"i2t": (found.i2t, found.i2t_first), "t2i": (found.t2i, found.t2i_first)}
    recalls = {
        f"{way}_r{at}": [recall_at(of_k, at) for of_k in ranks] for way, (ranks, _) in ways.items() for at in RECALL_AT
    }
    ceilings = {f"{way}_ceiling": [recall_at(first, k) for k in found.ks] for way, (_, first) in ways.items()}
    highest = [sum(recall_at(first, max(k, at)) for _, first in ways.values() for at in RECALL_AT) for k in found.ks]
    return recalls | ceilings | {"rsum_ceiling": highest}
