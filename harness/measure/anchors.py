"""Late interaction by a codebook of words: what the best region of every image says to each of some thousand words.

SimHash cells (`harness.measure.fde`) need words that lie near their best regions.  Those of image-text models do not:
both sides lie in narrow cones of their own.  Words lie near one another, so here the *words* are quantised, which is
PLAID's centroid interaction (Santhanam et al., CIKM 2022) with the roles exchanged.  Anchors are k-means centres of
training words, and a table holds `max_r <anchor, r>` for every anchor and image, in a byte.  A caption looks up a row
of the table for each of its words, and pools them as the model pools its products.  None of these is off by more than
the distance of a word from its anchor (and half a step of a byte), so that the best images are on a short list.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from harness.measure.metrics import blocks

STEPS = 127  # of a product between 0 and 1, which a byte tells apart
COLUMNS = 2**16  # images scored at once: their products fit the cache
IMAGES = 128  # whose products with all anchors are computed at once, for the same reason


def centres(faiss, words: np.ndarray, count: int) -> np.ndarray:
    """(at most `count`, d) unit centres of (W, d) unit words, the same for the same words."""
    count = min(count, len(words))
    means = faiss.Kmeans(words.shape[1], count, niter=10, spherical=True, seed=1, min_points_per_centroid=1)
    means.train(words)
    return means.centroids


class Table:
    """Best products of N images with J anchors, (J, N) bytes; rows of images come in by `fill`."""

    def __init__(self, anchors: np.ndarray, images: int) -> None:
        """anchors: (J, d) unit rows.  Raises ValueError where there is none."""
        if anchors.ndim != 2 or not len(anchors):
            raise ValueError(f"anchors are (J, d) unit rows, got {anchors.shape}")
        self.anchors = torch.from_numpy(np.ascontiguousarray(anchors, np.float32))
        self.best = torch.empty(len(anchors), images, dtype=torch.int8)

    @property
    def nbytes(self) -> int:
        return self.best.nbytes + self.anchors.nbytes

    def fill(self, rows: slice, regions: Tensor, mask: Tensor) -> None:
        """Some images.  regions: (n, R, d) unit vectors.  mask: (n, R)."""
        for some in blocks(len(regions), IMAGES):
            found = best_products(self.anchors, regions[some], mask[some])  # (J, n)
            start = rows.start + some.start
            self.best[:, start : start + found.shape[1]] = (found * STEPS).round_().clamp_(-STEPS, STEPS)

    def scores(self, words: Tensor, pool: Callable[[Tensor], Tensor]) -> Tensor:
        """(N,) scores of one caption.  words: (L, d).  pool: (L, X) best products -> (X,) scores."""
        nearest = (words @ self.anchors.T).argmax(1)
        columns = range(0, self.best.shape[1], COLUMNS)
        rows = (self.best[:, start : start + COLUMNS].index_select(0, nearest) for start in columns)
        return torch.cat([pool(products.float().div_(STEPS)) for products in rows])


def best_products(words: Tensor, regions: Tensor, mask: Tensor) -> Tensor:
    """(L, X): the largest product of each word with a region of each image.

    words: (L, d).  regions: (X, R, d).  mask: (X, R), at least one region in each.
    """
    products = (regions.flatten(0, 1) @ words.T).view(*regions.shape[:2], len(words))  # (X, R, L)
    if not mask.all():
        products.masked_fill_(~mask[..., None], float("-inf"))
    return products.amax(1).T
