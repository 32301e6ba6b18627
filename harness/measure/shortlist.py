"""Two stages: a quick score finds the best k of every query, in each direction separately; only those are looked at.

As BLIP's and ALBEF's retrieval scripts do, so that scores of images for a caption are no transpose of scores of
captions for an image.  Behind the k candidates the order of the quick score stays (the scripts have ties there), so
that a rank beyond k is that of the first stage, and R@1 is at most the first stage's R@k, the ceiling.
Ties count against the model, also where the shortlist ends among equals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from harness.measure.metrics import BLOCK_ROWS, blocks, recall_at
from harness.measure.rerank import within
from harness.progress import Progress, Watch, unwatched
from harness.protocol import PAIRS_AT_ONCE, Encoded, Staged

WAYS = ("i2t", "t2i")


@dataclass(frozen=True)
class Way:
    """One direction: queries and what they retrieve."""

    ranks: np.ndarray  # (Q,) int32, 0-based, of both stages
    first: np.ndarray  # (Q,) int32, of the quick score alone
    top: np.ndarray  # (Q, at most `keep`) int32 items, best first
    tied: np.ndarray  # (Q,) bool

    def ceiling(self, k: int) -> float:
        """Percent of queries with a right answer among the first k of the quick score."""
        return recall_at(self.first, k)


def both_ways(
    model: Staged,
    images: Encoded,
    texts: Encoded,
    quick: np.ndarray,
    caption_to_image: np.ndarray,
    keep: int = 0,
    watch: Watch = unwatched,
) -> tuple[Way, Way]:
    """Image queries and caption queries of a split.

    quick: (N, M) scores of the first stage.  caption_to_image: (M,).  keep: items of each query to be named.
    Raises ValueError where a score is not finite.
    """
    found = []
    for way, k in zip(WAYS, model.shortlist, strict=True):
        scores = quick if way == "i2t" else quick.T
        parts = [
            _some(model, images, texts, scores, caption_to_image, rows, way, min(k, scores.shape[1]), keep, watch)
            for rows in blocks(len(scores), BLOCK_ROWS)
        ]
        arrays = zip(*((part.ranks, part.first, part.top, part.tied) for part in parts), strict=True)
        found.append(Way(*(np.concatenate(array) for array in arrays)))
    return found[0], found[1]


def _some(
    model: Staged,
    images: Encoded,
    texts: Encoded,
    scores: np.ndarray,
    caption_to_image: np.ndarray,
    queries: slice,
    way: str,
    k: int,
    keep: int,
    watch: Watch,
) -> Way:
    """Some queries of one direction.  scores: (Q, G) of all queries and items by the first stage."""
    here, some = np.arange(queries.start, queries.stop), scores[queries]
    if way == "i2t":
        right = here[:, None] == caption_to_image
    else:
        right = caption_to_image[queries, None] == np.arange(scores.shape[1])
    order = np.lexsort((right, -some), axis=1)  # among equals the wrong ones come first
    second = closely(model, images, texts, here, order[:, :k], way)
    watch(Progress("score", queries.stop, len(scores)))
    among = np.take_along_axis(right, order, 1)
    first = among.argmax(1).astype(np.int32)
    among = among[:, :k]
    best = np.where(among, second, -np.inf).max(1)
    quick_best = np.where(right, some, -np.inf).max(1)
    tied_close = ((second == best[:, None]) & ~among).any(1)
    tied_quick = ((some == quick_best[:, None]) & ~right).any(1)
    resorted = np.take_along_axis(order[:, :k], np.lexsort((among, -second), axis=1), 1)
    top = np.concatenate([resorted, order[:, k:]], 1)[:, :keep].astype(np.int32)
    return Way(within(second, among, first), first, top, np.where(first < k, tied_close, tied_quick))


def closely(
    model: Staged, images: Encoded, texts: Encoded, queries: np.ndarray, candidates: np.ndarray, way: str
) -> np.ndarray:
    """(Q, k) float32 scores of the second stage.

    queries: (Q,) images for `i2t`, captions for `t2i`.  candidates: (Q, k) of the other side.  Raises ValueError where
    a score is not finite.
    """
    query, item = np.repeat(queries, candidates.shape[1]), candidates.ravel()
    image, caption = (query, item) if way == "i2t" else (item, query)
    found = np.empty(len(query), np.float32)
    place = next(iter(images.tensors().values())).device
    for start in range(0, len(found), PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        rows, columns = (torch.from_numpy(part[some]).to(place) for part in (image, caption))
        found[some] = model.pairs(images.select(rows), texts.select(columns)).float().cpu().numpy()
    if bad := len(found) - np.count_nonzero(np.isfinite(found)):
        raise ValueError(f"{type(model).__name__}: {bad} of {len(found)} scores of the second stage are not finite")
    return found.reshape(candidates.shape)


def searched(model: Staged, images: Encoded, texts: Encoded, quick: np.ndarray, way: str = "t2i") -> np.ndarray:
    """(N, M) scores in which the order of images of every caption query (of captions of every image query where the
    way is `i2t`) is that of both stages.

    quick: (N, M) of the first stage.
    """
    scores = quick if way == "i2t" else quick.T  # (Q, G)
    k = min(model.shortlist[WAYS.index(way)], scores.shape[1])
    candidates = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    second = closely(model, images, texts, np.arange(len(scores)), candidates, way)
    above = second - second.min(1, keepdims=True) + scores.max(1, keepdims=True) + 1  # above all that stay behind
    found = scores.copy()
    np.put_along_axis(found, candidates, above, 1)
    return found if way == "i2t" else found.T
