"""What is counted and kept of scores while they go by in blocks; what was counted apart adds up to the whole."""

from __future__ import annotations

from functools import reduce

import numpy as np

from harness.measure.metrics import blocks

STRANDS = 64  # parts of a row whose maxima bound the k-th highest score from below
SIGN = np.uint32(1 << 31)
HALF = np.uint64(32)  # bits

Some = slice | np.ndarray  # which images or captions: consecutive ones as a slice, which reads and writes faster


def numbers(some: Some) -> np.ndarray:
    """Which they are, (n,)."""
    return np.arange(some.start, some.stop) if isinstance(some, slice) else some


class Rivals:
    """How many scores reach, and how many exceed, the best positive of every query.  Ties count against the model."""

    def __init__(self, positives: np.ndarray, caption_to_image: np.ndarray, images: int) -> None:
        """positives: (M,) float32 scores of captions with their images."""
        best = np.full(images, -np.inf, np.float32)
        np.maximum.at(best, caption_to_image, positives)
        own_best = np.bincount(caption_to_image, positives == best[caption_to_image], images).astype(np.int32)
        self.bars = best, positives  # of image queries, of caption queries
        self.own = own_best, np.ones(len(positives), np.int32)  # positives as high as the bar
        self.reach = tuple(np.zeros(len(bars), np.int32) for bars in self.bars)
        self.exceed = tuple(np.zeros(len(bars), np.int32) for bars in self.bars)

    def add(self, block: np.ndarray, rows: Some, columns: Some) -> None:
        """block: scores (n, m) of the images `rows` and the captions `columns`."""
        for way, (queries, bars) in enumerate(((rows, self.bars[0][rows, None]), (columns, self.bars[1][columns]))):
            self.reach[way][queries] += _counted(block >= bars, 1 - way)
            self.exceed[way][queries] += _counted(block > bars, 1 - way)

    def join(self, other: Rivals) -> None:
        """Adds what was counted in other blocks, with the same positives."""
        self.reach = tuple(ours + theirs for ours, theirs in zip(self.reach, other.reach, strict=True))
        self.exceed = tuple(ours + theirs for ours, theirs in zip(self.exceed, other.exceed, strict=True))

    def ranks(self) -> tuple[np.ndarray, np.ndarray]:
        """(N,) of image queries and (M,) of caption queries, int32, 0-based."""
        return self.reach[0] - self.own[0], self.reach[1] - self.own[1]

    def tied_queries(self) -> int:
        """Queries of which a rival is exactly as high as the best positive."""
        ways = zip(self.reach, self.exceed, self.own, strict=True)
        return sum(int((reach - exceed > own).sum()) for reach, exceed, own in ways)


def _counted(true: np.ndarray, axis: int) -> np.ndarray:
    return true.view(np.uint8).sum(axis, dtype=np.int32)  # bytes are summed faster than truths are counted


class Best:
    """The k highest scores of every query, best first; equal ones in the order of the items, whatever came first."""

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        self.keys = np.full((queries, k), np.iinfo(np.uint64).max, np.uint64)  # ascending
        self.bars = np.full(queries, -np.inf, np.float32)  # the k-th highest score

    def add(self, block: np.ndarray, queries: Some, items: Some, axis: int) -> None:
        """block: float32 scores of `queries` with `items`, which lie along `axis`."""
        bars = self.bars[queries]
        if np.isneginf(bars).any():
            bars = np.maximum(bars, _lower_bound(block if axis == 1 else block.T, self.k))
        places = np.flatnonzero(block >= (bars[:, None] if axis == 1 else bars))
        one, other = np.divmod(places, block.shape[1])
        query, item = (one, other) if axis == 1 else (other, one)
        new = _keys(block.ravel()[places], numbers(items)[item])
        if axis == 0:
            order = np.argsort(query, kind="stable")
            query, new = query[order], new[order]
        touched, starts, counts = np.unique(query, return_index=True, return_counts=True)
        if not len(touched):
            return
        rows = numbers(queries)[touched]
        merged = np.full((len(touched), self.k + counts.max()), np.iinfo(np.uint64).max, np.uint64)
        merged[:, : self.k] = self.keys[rows]
        places = self.k + np.arange(len(query)) - np.repeat(starts, counts)
        merged[np.repeat(np.arange(len(touched)), counts), places] = new
        merged.sort(1)
        self.keys[rows] = merged[:, : self.k]
        full = merged[:, self.k - 1] != np.iinfo(np.uint64).max
        self.bars[rows[full]] = _scores(merged[full, self.k - 1])

    def join(self, other: Best) -> None:
        """The best of these and of those that were found among other items."""
        self.keys = np.sort(np.concatenate([self.keys, other.keys], 1), 1)[:, : self.k]

    def items(self) -> np.ndarray:
        """(queries, k) int32."""
        return (self.keys & np.uint64(0xFFFFFFFF)).astype(np.int32)


def _lower_bound(block: np.ndarray, k: int) -> np.ndarray:
    """(q,) no more than the k-th highest of each row: k parts of the row have a maximum as high.  block: (q, n)."""
    count = block.shape[1] // STRANDS
    if not count or k > STRANDS:
        return np.full(len(block), -np.inf, np.float32)
    maxima = reduce(np.maximum, (block[:, part] for part in blocks(count * STRANDS, STRANDS)))
    return np.partition(maxima, STRANDS - k, axis=1)[:, STRANDS - k]


def _keys(scores: np.ndarray, items: np.ndarray) -> np.ndarray:
    """uint64 that ascend as float32 scores descend, and among equal scores as items ascend."""
    bits = (scores + np.float32(0)).view(np.uint32)  # -0 becomes 0
    rising = np.where(bits & SIGN, ~bits, bits | SIGN)
    return (~rising).astype(np.uint64) << HALF | items.astype(np.uint64)


def _scores(keys: np.ndarray) -> np.ndarray:
    """The float32 scores of `_keys`."""
    rising = ~(keys >> HALF).astype(np.uint32)
    return np.where(rising & SIGN, rising ^ SIGN, ~rising).view(np.float32)
