"""Ranks of queries while their scores go by: the (N, M) matrix is never there as a whole, whatever the family.

Rivals can be counted only once the score of the best positive is known, and that has to come from the very product that
scores the rivals: another kernel rounds differently, and a positive then loses to itself.  So the blocks that hold
positives are computed first, and kept as far as they fit the budget; what does not fit is computed again by the same
call on the same arrays, which rounds alike.  Where captions lie in the order of their images those blocks are a band
along the diagonal, one for each length of captions that an interactive model tells apart, and memory grows with N + M.

The blocks of a split may be shared out (`shares`): every share finds its positives, all of them together are what each
counts against, and counts add up.  No block is cut, so that the ranks are those of one share that has them all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from harness.measure.counting import Best, Rivals, Some, numbers
from harness.measure.metrics import blocks, folds
from harness.measure.scoring import Group, as_slice, block_shape, prepared, score_block
from harness.progress import Progress, Watch, unwatched
from harness.protocol import Encoded, Retriever


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


@dataclass(frozen=True)
class Asked:
    """What is to be found, the same for every share of the blocks."""

    caption_to_image: np.ndarray  # (M,), ascending where there are folds
    images: int  # N
    k: int = 0  # retrieved items of every query
    fold_images: int = 0  # images of a fold; 0 = no folds


@dataclass(frozen=True)
class Block:
    """Images against captions of one group."""

    rows: slice  # of all images
    group: int
    columns: slice  # of the group's captions


@dataclass(frozen=True)
class Found:
    """What one share of the blocks counted."""

    whole: Rivals
    within: Rivals | None  # folds
    firsts: tuple[Best, Best] | None  # of image queries, of caption queries
    score_s: float


# model, images and captions made ready, shares of the blocks, what is asked, watch -> what each share counted
Counted = Callable[[Retriever, Encoded, Sequence[Group], Sequence[list[Block]], Asked, Watch], list[Found]]


def stream(
    model: Retriever,
    images: Encoded,
    groups: Sequence[Group],
    caption_to_image: np.ndarray,
    memory_mib: int,
    k: int = 0,
    fold_images: int = 0,
    watch: Watch = unwatched,
    *,
    count: int = 1,
    counted: Counted | None = None,
) -> Ranked:
    """Ranks both ways, the first k retrieved, and ranks within folds of `fold_images` images (0 = no folds).

    caption_to_image: (M,), ascending where there are folds.  groups: rows ascending.  counted: who counts in the at
    most `count` shares of the blocks, None = this process in all of them.  Raises ScoreError.
    """
    started = time.perf_counter()
    images, groups = prepared(model, images, groups)
    grids = shares(model, images, groups, memory_mib, count)
    asked = Asked(caption_to_image, len(images), k, fold_images)
    found = (counted or partial(_here, memory_mib))(model, images, groups, grids, asked, watch)
    return ranked(found, asked, time.perf_counter() - started)


def _here(
    memory_mib: int,
    model: Retriever,
    images: Encoded,
    groups: Sequence[Group],
    grids: Sequence[list[Block]],
    asked: Asked,
    watch: Watch,
) -> list[Found]:
    own = [Share(model, images, groups, grid, asked, memory_mib, watch=watch) for grid in grids]
    positives = joined([share.positives() for share in own])
    return [share.counted(positives) for share in own]


Stream = Callable[..., Ranked]  # `stream`, by whomever it has counted


def shares(
    model: Retriever, images: Encoded, groups: Sequence[Group], memory_mib: int, count: int
) -> list[list[Block]]:
    """The blocks of a split, prepared, in at most `count` parts of about as many images each; none is empty."""
    parts: list[list[Block]] = [[] for _ in range(count)]
    for number, group in enumerate(groups):
        high, wide = block_shape(model, images, group.encoded, memory_mib)
        for columns in blocks(len(group.rows), wide):
            for rows in blocks(len(images), high):
                parts[rows.start * count // len(images)].append(Block(rows, number, columns))
    return [part for part in parts if part]


def span(grid: Sequence[Block]) -> slice:
    """The images that some blocks are of."""
    return slice(min(block.rows.start for block in grid), max(block.rows.stop for block in grid))


def joined(positives: Sequence[np.ndarray]) -> np.ndarray:
    """(M,) scores of captions with their images, each of which one share knows."""
    return np.fmax.reduce(positives)


def ranked(found: Sequence[Found], asked: Asked, seconds: float) -> Ranked:
    """What all shares found, as one.  seconds: from start to end; those of scores are the longest of any share."""
    first, *others = found
    for other in others:
        first.whole.join(other.whole)
        if first.within is not None and other.within is not None:
            first.within.join(other.within)
        for ours, theirs in zip(first.firsts or (), other.firsts or (), strict=True):
            ours.join(theirs)
    i2t, t2i = first.whole.ranks()
    fold_i2t, fold_t2i = first.within.ranks() if first.within is not None else np.empty((2, 0), np.int32)
    captions = len(asked.caption_to_image)
    i2t_top, t2i_top = (
        (best.items() for best in first.firsts)
        if first.firsts
        else (np.empty((n, 0), np.int32) for n in (asked.images, captions))
    )
    score_s = max(share.score_s for share in found)
    return Ranked(
        i2t,
        t2i,
        first.whole.tied_queries(),
        i2t_top,
        t2i_top,
        fold_i2t,
        fold_t2i,
        {"score": score_s, "rank": max(0.0, seconds - score_s)},
    )


class Share:
    """Some blocks of a split, the same numbers each time one is asked for."""

    def __init__(
        self,
        model: Retriever,
        images: Encoded,
        groups: Sequence[Group],
        grid: Sequence[Block],
        asked: Asked,
        memory_mib: int,
        first: int = 0,
        watch: Watch = unwatched,
    ) -> None:
        """images: those from `first` on, prepared, as far as the grid reaches; groups: prepared, all."""
        self.model, self.images, self.groups, self.grid = model, images, groups, grid
        self.asked, self.first = asked, first
        self.room = memory_mib * 2**20  # bytes for kept blocks
        self.kept: dict[tuple[int, int, int], np.ndarray] = {}
        self.watch, self.done = watch, 0
        self.seconds = 0.0  # spent on scores

    def positives(self) -> np.ndarray:
        """(M,) scores of captions with their images; NaN of those that are in no block of this share."""
        found = np.full(len(self.asked.caption_to_image), np.nan, np.float32)
        for place in self.grid:
            captions, rows = self.groups[place.group].rows[place.columns], place.rows
            owner = self.asked.caption_to_image[captions]
            own = np.flatnonzero((rows.start <= owner) & (owner < rows.stop))
            if len(own):
                block = self._computed(place)
                found[captions[own]] = block[owner[own] - rows.start, own]
                if block.nbytes <= self.room:
                    self.room -= block.nbytes
                    self.kept[_key(place)] = block
                    self._tell()
        return found

    def counted(self, positives: np.ndarray) -> Found:
        """What the blocks of this share say.  positives: (M,), of all shares."""
        asked, captions = self.asked, len(positives)
        whole = Rivals(positives, asked.caption_to_image, asked.images)
        squares = folds(asked.caption_to_image, asked.images, asked.fold_images)
        within = Rivals(positives, asked.caption_to_image, asked.images)
        firsts = (Best(asked.images, min(asked.k, captions)), Best(captions, min(asked.k, asked.images)))
        for place in self.grid:
            block, rows = self._taken(place), place.rows
            columns = as_slice(self.groups[place.group].rows[place.columns])
            whole.add(block, rows, columns)
            for square in squares:
                inside = _inside(rows, square[0]), _inside(columns, square[1])
                within.add(block[inside], _part(rows, inside[0]), _part(columns, inside[1]))
            if asked.k:
                firsts[0].add(block, rows, columns, axis=1)
                firsts[1].add(block, columns, rows, axis=0)
        return Found(whole, within if squares else None, firsts if asked.k else None, self.seconds)

    def _taken(self, place: Block) -> np.ndarray:
        """A block for the last time: it is not kept any longer."""
        block = self.kept.pop(_key(place), None)
        if block is None:
            block = self._computed(place)
            self._tell()
        return block

    def _tell(self) -> None:
        self.done += 1
        self.watch(Progress("score", self.done, len(self.grid)))

    def _computed(self, place: Block) -> np.ndarray:
        started = time.perf_counter()
        group, rows = self.groups[place.group], place.rows
        images = self.images.select(slice(rows.start - self.first, rows.stop - self.first))
        texts = group.encoded.select(place.columns)
        block = score_block(self.model, images, texts, rows, group.rows[place.columns])
        self.seconds += time.perf_counter() - started
        return block


def _key(place: Block) -> tuple[int, int, int]:
    return place.rows.start, place.group, place.columns.start


def _inside(some: Some, square: slice) -> slice:
    """Places within a block of those that lie in a square; `some` ascend."""
    return slice(*map(int, np.searchsorted(numbers(some), [square.start, square.stop])))


def _part(some: Some, inside: slice) -> Some:
    """Which the places within a block are."""
    return slice(some.start + inside.start, some.start + inside.stop) if isinstance(some, slice) else some[inside]
