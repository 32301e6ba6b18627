"""Ranks of an independent model's queries while its scores go by: the (N, M) matrix is never there as a whole.

Rivals can be counted only once the score of the best positive is known, and that has to come from the very product that
scores the rivals: another kernel rounds differently, and a positive then loses to itself.  So the blocks that hold
positives are computed first, and kept as far as they fit the budget; what does not fit is computed again by the same
call on the same arrays, which rounds alike.  Where captions lie in the order of their images those blocks are a band
along the diagonal, and memory grows with N + M.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from harness.measure.metrics import blocks, folds
from harness.measure.scoring import Group, block_shape, prepared, score_block
from harness.progress import Progress, Watch, unwatched
from harness.protocol import Encoded, Retriever

STRANDS = 64  # parts of a row whose maxima bound the k-th highest score from below
SIGN = np.uint32(1 << 31)
HALF = np.uint64(32)  # bits

Square = tuple[slice, slice]  # images, captions


@dataclass(frozen=True)
class Ranked:
    """As `metrics.ranks`, `metrics.top` and their like within folds find it in the whole matrix."""

    i2t: np.ndarray  # (N,) int32
    t2i: np.ndarray  # (M,) int32
    tied_queries: int
    i2t_top: np.ndarray  # (N, k) int32
    t2i_top: np.ndarray  # (M, k) int32
    fold_i2t: np.ndarray  # (N,) int32, empty without folds
    fold_t2i: np.ndarray  # (M,) int32, likewise
    seconds: dict[str, float]  # score, rank


def stream(
    model: Retriever,
    images: Encoded,
    groups: Sequence[Group],
    caption_to_image: np.ndarray,
    memory_mib: int,
    k: int = 0,
    fold_images: int = 0,
    watch: Watch = unwatched,
) -> Ranked:
    """Ranks both ways, the first k retrieved, and ranks within folds of `fold_images` images (0 = no folds).

    caption_to_image: (M,), ascending where there are folds.  Raises ScoreError.
    """
    started = time.perf_counter()
    images, (texts,) = prepared(model, images, groups)
    source = _Blocks(model, images, texts, memory_mib, watch)
    positives = source.positives(caption_to_image)
    n, m = len(images), len(texts.rows)
    whole, within = (Rivals(positives, caption_to_image, n) for _ in range(2))
    squares = folds(caption_to_image, n, fold_images)
    firsts = Best(n, min(k, m)), Best(m, min(k, n))
    for rows, columns in source.grid:
        block = source.take(rows, columns)
        whole.add(block, rows, columns)
        for square in squares:
            common = _common(rows, square[0]), _common(columns, square[1])
            within.add(block[_moved(common[0], rows), _moved(common[1], columns)], *common)
        if k:
            firsts[0].add(block, rows, columns.start, axis=1)
            firsts[1].add(block, columns, rows.start, axis=0)
    i2t, t2i = whole.ranks()
    fold_i2t, fold_t2i = within.ranks() if squares else np.empty((2, 0), np.int32)
    rank_s = time.perf_counter() - started - source.seconds
    return Ranked(
        i2t,
        t2i,
        whole.tied_queries(),
        firsts[0].items(),
        firsts[1].items(),
        fold_i2t,
        fold_t2i,
        {"score": source.seconds, "rank": rank_s},
    )


def _common(one: slice, other: slice) -> slice:
    start = max(one.start, other.start)
    return slice(start, max(start, min(one.stop, other.stop)))


def _moved(part: slice, whole: slice) -> slice:
    """The part, counted from where `whole` starts."""
    return slice(part.start - whole.start, part.stop - whole.start)


class _Blocks:
    """Scores of a split by blocks, the same numbers each time one is asked for."""

    def __init__(self, model: Retriever, images: Encoded, texts: Group, memory_mib: int, watch: Watch) -> None:
        self.model, self.images, self.texts = model, images, texts
        self.high, self.wide = block_shape(model, images, texts.encoded, memory_mib)
        self.grid: list[Square] = [
            (rows, columns) for columns in blocks(len(texts.rows), self.wide) for rows in blocks(len(images), self.high)
        ]
        self.room = memory_mib * 2**20  # bytes for kept blocks
        self.kept: dict[tuple[int, int], np.ndarray] = {}
        self.watch, self.done = watch, 0
        self.seconds = 0.0  # spent on scores

    def positives(self, caption_to_image: np.ndarray) -> np.ndarray:
        """(M,) scores of captions with their images."""
        found = np.empty(len(caption_to_image), np.float32)
        for rows, columns in self.grid:
            owner = caption_to_image[columns]
            own = np.flatnonzero((rows.start <= owner) & (owner < rows.stop))
            if len(own):
                block = self._computed(rows, columns)
                found[columns.start + own] = block[owner[own] - rows.start, own]
                if block.nbytes <= self.room:
                    self.room -= block.nbytes
                    self.kept[rows.start, columns.start] = block
                    self._tell()
        return found

    def take(self, rows: slice, columns: slice) -> np.ndarray:
        """A block for the last time: it is not kept any longer."""
        block = self.kept.pop((rows.start, columns.start), None)
        if block is None:
            block = self._computed(rows, columns)
            self._tell()
        return block

    def _tell(self) -> None:
        self.done += 1
        self.watch(Progress("score", self.done, len(self.grid)))

    def _computed(self, rows: slice, columns: slice) -> np.ndarray:
        started = time.perf_counter()
        texts = self.texts.encoded.select(columns)
        block = score_block(self.model, self.images.select(rows), texts, rows, self.texts.rows[columns])
        self.seconds += time.perf_counter() - started
        return block


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

    def add(self, block: np.ndarray, rows: slice, columns: slice) -> None:
        """block: scores (n, m) of the images `rows` and the captions `columns`."""
        for way, (queries, bars) in enumerate(((rows, self.bars[0][rows, None]), (columns, self.bars[1][columns]))):
            self.reach[way][queries] += _counted(block >= bars, 1 - way)
            self.exceed[way][queries] += _counted(block > bars, 1 - way)

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

    def add(self, block: np.ndarray, queries: slice, first_item: int, axis: int) -> None:
        """block: float32 scores of `queries` with the items from `first_item` on, which lie along `axis`."""
        bars = self.bars[queries]
        if np.isneginf(bars).any():
            bars = np.maximum(bars, _lower_bound(block if axis == 1 else block.T, self.k))
        places = np.flatnonzero(block >= (bars[:, None] if axis == 1 else bars))
        one, other = np.divmod(places, block.shape[1])
        query, item = (one, other) if axis == 1 else (other, one)
        new = _keys(block.ravel()[places], first_item + item)
        if axis == 0:
            order = np.argsort(query, kind="stable")
            query, new = query[order], new[order]
        touched, starts, counts = np.unique(query, return_index=True, return_counts=True)
        if not len(touched):
            return
        rows = queries.start + touched
        merged = np.full((len(touched), self.k + counts.max()), np.iinfo(np.uint64).max, np.uint64)
        merged[:, : self.k] = self.keys[rows]
        places = self.k + np.arange(len(query)) - np.repeat(starts, counts)
        merged[np.repeat(np.arange(len(touched)), counts), places] = new
        merged.sort(1)
        self.keys[rows] = merged[:, : self.k]
        full = merged[:, self.k - 1] != np.iinfo(np.uint64).max
        self.bars[rows[full]] = _scores(merged[full, self.k - 1])

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
