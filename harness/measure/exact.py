"""One text query against a whole gallery, exactly: scores at the speed of reading the embeddings once, then the best.

Only for independent models, whose score is an inner product.  torch's matrix-vector product reads memory several times
slower than the machine can; `numpy.vecdot` takes one dot product a row as it streams by and keeps up with it.

Embeddings of others are searched as they are stored, in a file's memory map too.  What is not float32 is turned into
it a few rows at a time, which stay in the processor's cache: a smaller gallery, at the speed of that conversion.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import TypeVar

import numpy as np
import torch

from harness.measure.metrics import blocks
from harness.protocol import Encoded

T = TypeVar("T")

PART_BYTES = 2**22  # a smaller part is not worth handing to a thread
PARTS = 8  # parts of the gallery per thread, so that a thread that is held up does not hold up the others
DECODED_BYTES = 2**20  # of float32 that are made at a time of what is stored otherwise
STRIDE = 128  # scores looked at together when the best are sought


class ExactIndex:
    """Embeddings of N images in memory, (N, d), or (N, K, d) of K views; a shared block lies beside them."""

    def __init__(self, images: Encoded, threads: int = 1) -> None:
        """Raises ValueError for what is not float32 on the CPU, or has no embedding."""
        images = joined(images)
        if images.embedding is None:
            raise ValueError("only embeddings can be searched exactly by inner products, these images have none")
        if images.embedding.dtype != torch.float32 or images.embedding.device.type != "cpu":
            raise ValueError(
                f"embeddings must be float32 on the CPU, got {images.embedding.dtype} on {images.embedding.device}"
            )
        self.views = images.embedding.contiguous().numpy()  # (N, d) or (N, K, d)
        self.shared = None if images.shared is None else images.shared.contiguous().numpy()  # (N, c)
        self.scale: np.ndarray | None = None  # (), (N,) or (N, K): what products with the views are multiplied with
        self.threads = threads

    @classmethod
    def stored(
        cls, views: np.ndarray, threads: int = 1, *, scale: np.ndarray | None = None, unit: bool = False
    ) -> ExactIndex:
        """Of vectors as they lie, (N, d) or (N, K, d) of any type, possibly memory-mapped: nothing is copied
        that lies row by row in the machine's order of bytes.

        scale: above 0, () or (N,), by which stored numbers are multiplied.  unit: as if every vector had length 1,
        which takes one reading of them.
        """
        found = cls.__new__(cls)
        found.views = np.ascontiguousarray(views, views.dtype.newbyteorder("="))
        found.shared, found.threads = None, threads
        found.scale = None if scale is None else np.asarray(scale, np.float32)
        if found.scale is not None and found.scale.ndim and found.views.ndim == 3:
            found.scale = found.scale[:, None]
        if unit:
            found.scale = 1 / np.sqrt(found._squares())
        return found

    def __len__(self) -> int:
        return len(self.views)

    @property
    def nbytes(self) -> int:
        """What a query reads."""
        return self.views.nbytes + (0 if self.shared is None else self.shared.nbytes)

    def scores(self, text: Encoded) -> np.ndarray:
        """(N,) float32 of one encoded caption."""
        query, block = self._vectors(text)
        found = np.empty(len(self), np.float32)

        def part(rows: slice) -> None:
            products = self._each(rows, lambda views: np.vecdot(views, query))
            if self.scale is not None:
                products *= self.scale[rows] if self.scale.ndim else self.scale
            found[rows] = products if products.ndim == 1 else products.max(1)
            if self.shared is not None and block is not None:
                found[rows] += np.vecdot(self.shared[rows], block)

        self._in_parts(part)
        return found

    def search(self, text: Encoded, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best images, best first, and their scores."""
        scores = self.scores(text)
        best = top_k(scores, k)
        return best, scores[best]

    def read(self) -> float:
        """Reads every byte once and keeps the highest value alone: how fast a query can be at best."""

        def part(rows: slice) -> float:
            stored = self.views[rows]
            highest = (stored if stored.dtype == np.float32 else stored.view(np.int8)).max()  # of halves it is slow
            return float(highest if self.shared is None else max(highest, self.shared[rows].max()))

        return max(self._in_parts(part))

    def _squares(self) -> np.ndarray:
        """(N,) or (N, K) squared lengths of what is stored."""
        found = np.empty(self.views.shape[:-1], np.float32)

        def part(rows: slice) -> None:
            found[rows] = self._each(rows, lambda views: np.vecdot(views, views))

        self._in_parts(part)
        return found

    def _each(self, rows: slice, products: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Products (B,) or (B, K) of views in float32, which are made a few at a time where they are stored otherwise.

        By torch, which does so several times faster than numpy.
        """
        stored = self.views[rows]
        if stored.dtype == np.float32:
            return products(stored)
        found = np.empty(stored.shape[:-1], np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of maps that cannot be written to, which nobody does
            tensor = torch.from_numpy(stored)
        for part in blocks(len(stored), max(1, DECODED_BYTES // (4 * stored[0].size))):
            found[part] = products(tensor[part].float().numpy())
        return found

    def _vectors(self, text: Encoded) -> tuple[np.ndarray, np.ndarray | None]:
        """What the embeddings and the shared block of the images are multiplied with, (d,) and (c,)."""
        if len(text) != 1 or text.embedding is None:
            raise ValueError(f"one embedded caption is a query, got {len(text)}")
        if self.views.ndim == 2:
            text = joined(text)
        shared = text.shared if self.shared is not None else None
        return text.embedding[0].numpy(), None if shared is None else shared[0].numpy()  # type: ignore[index]

    def _in_parts(self, part: Callable[[slice], T]) -> list[T]:
        """Calls `part` for slices that cover the gallery, on all threads where that pays."""
        parts = min(self.threads * PARTS, self.nbytes // PART_BYTES, len(self)) if self.threads > 1 else 1
        if parts <= 1:
            return [part(slice(0, len(self)))]
        cuts = np.linspace(0, len(self), parts + 1).astype(int).tolist()
        return list(_pool(self.threads).map(part, map(slice, cuts[:-1], cuts[1:])))


def joined(encoded: Encoded) -> Encoded:
    """Embedding and shared block as one vector, where there is one view: `<v, t> + <c_v, c_t> = <[v c_v], [t c_t]>`."""
    if encoded.embedding is None or encoded.shared is None or encoded.embedding.ndim != 2:
        return encoded
    return replace(encoded, embedding=torch.cat([encoded.embedding, encoded.shared], 1), shared=None)


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k highest of (N,) scores, best first, ties by index.

    The k highest maxima of strides bound the k highest scores from below, so that few scores are looked at twice.
    """
    k = min(k, len(scores))
    strides = len(scores) // STRIDE
    bounds = scores[: strides * STRIDE].reshape(-1, STRIDE).max(1) if strides >= k else scores
    candidates = np.flatnonzero(scores >= np.partition(bounds, -k)[-k])
    return candidates[np.argsort(-scores[candidates], kind="stable")[:k]]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="exact-search")
