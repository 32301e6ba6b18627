"""How sure an Rsum, or a difference of two, is: over seeds and over images at once.  Pure functions of ranks.

Another seed trains another model, and other test images ask other questions.  The variance of a mean over n seeds adds
both up, `s_seed^2 / n + s_cluster^2`, with as many degrees of freedom as Satterthwaite (1946) gives the sum.  What a
seed makes of particular images is in both parts, so that the interval is rather too wide than too narrow.

The part over images is a bootstrap (Efron 1979) that draws images, each with all its captions and in both directions
together: the captions of one image are not independent of each other, nor of the image.  Two rows are compared seed by
seed and image by image.  As everywhere, ranks are those in the whole gallery: it is the queries that are drawn anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import stdtr, stdtrit  # scipy.stats takes longer to import than a whole report takes to make

from harness.measure.intervals import Interval
from harness.measure.metrics import RECALL_AT, blocks

RESAMPLES = 10_000
BLOCK = 2**21  # draws made at once

Ranks = tuple[np.ndarray, np.ndarray]  # 0-based ranks of image queries (S, N) and of caption queries (S, M), S seeds


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, in points of Rsum, and how far it is known."""

    value: float
    seeds: int  # n
    images: int
    over_seeds: float | None  # its variance by another choice of seeds, s_seed^2 / n; None for one seed
    over_images: float  # its variance by another choice of images, s_cluster^2
    positive: float  # share of draws of one seed and of images in which it is above zero; ties count half

    @property
    def error(self) -> float | None:
        """Its standard error; None for one seed, which does not tell."""
        return None if self.over_seeds is None else (self.over_seeds + self.over_images) ** 0.5

    @property
    def freedom(self) -> float | None:
        """Degrees of freedom of the error; infinite where there is none."""
        if self.over_seeds is None:
            return None
        parts = self.over_seeds**2 / (self.seeds - 1) + self.over_images**2 / max(1, self.images - 1)
        return (self.over_seeds + self.over_images) ** 2 / parts if parts else math.inf

    def interval(self, level: float = 0.95) -> Interval | None:
        """None for one seed."""
        if self.error is None or self.freedom is None:
            return None
        reach = _quantile(self.freedom, (1 + level) / 2) * self.error
        return self.value - reach, self.value + reach

    def p_above(self, bound: float) -> float | None:
        """One-sided p of the claim that the true value is above `bound`; None for one seed."""
        return self._tail(bound - self.value)

    def p_below(self, bound: float) -> float | None:
        """One-sided p of the claim that the true value is below `bound`; None for one seed."""
        return self._tail(self.value - bound)

    def p_off(self, bound: float = 0.0) -> float | None:
        """Two-sided p of the claim that the true value is not `bound`; None for one seed."""
        above, below = self.p_above(bound), self.p_below(bound)
        return None if above is None or below is None else min(1.0, 2 * min(above, below))

    def _tail(self, shortfall: float) -> float | None:
        """How likely chance alone puts the value so far, or farther, on the side of the claim: `shortfall` is negative
        where it lies there."""
        if self.error is None or self.freedom is None:
            return None
        if not self.error:
            return float(shortfall >= 0)
        return float(stdtr(_finite(self.freedom), shortfall / self.error))


def rsum(ranks: Ranks, owners: np.ndarray, ks: Sequence[int] = RECALL_AT, resamples: int = RESAMPLES) -> Estimate:
    """Rsum of one row, in percent, as a mean over its seeds.

    ranks: those of S seeds, (S, N) and (S, M); owners: (M,) the image of each caption.  Raises ValueError for other
    shapes.
    """
    return _estimate(_contributions(ranks, owners, ks), owners, resamples)


def difference(
    a: Ranks, b: Ranks, owners: np.ndarray, ks: Sequence[int] = RECALL_AT, resamples: int = RESAMPLES
) -> Estimate:
    """Rsum(a) - Rsum(b), in percent, over the seeds that both ran: row s of all four arrays is one seed.

    Raises ValueError where seeds or queries are not paired, or shapes are not those of `rsum`.
    """
    shapes = [tuple(side.shape for side in ranks) for ranks in (a, b)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"paired seeds and queries needed, got ranks of shapes {shapes[0]} and {shapes[1]}")
    own, other = (_contributions(ranks, owners, ks) for ranks in (a, b))
    return _estimate((own[0] - other[0], own[1] - other[1]), owners, resamples)


def closed(
    taught: Ranks,
    student: Ranks,
    teacher: Ranks,
    owners: np.ndarray,
    ks: Sequence[int] = RECALL_AT,
    resamples: int = RESAMPLES,
) -> Estimate | None:
    """(Rsum(taught) - Rsum(student)) / (Rsum(teacher) - Rsum(student)): the share of a gap that is closed, not percent.

    Row s of all arrays is one seed.  The variance is that of `taught - (1 - share) student - share teacher`, over seeds
    and images as everywhere, divided by the gap squared (delta method, Fieller's contrast): good where the gap is many
    times its own error.  None where there is no gap.  Raises ValueError as `difference` does.
    """
    gap = difference(teacher, student, owners, ks, resamples)
    gain = difference(taught, student, owners, ks, resamples)
    if not gap.value:
        return None
    share = gain.value / gap.value
    sides = [_contributions(ranks, owners, ks) for ranks in (taught, student, teacher)]
    own, of_captions = (t - (1 - share) * s - share * i for t, s, i in zip(*sides, strict=True))
    found = _estimate((own.astype(np.float32), of_captions.astype(np.float32)), owners, resamples)
    return Estimate(
        value=share,
        seeds=found.seeds,
        images=found.images,
        over_seeds=None if found.over_seeds is None else found.over_seeds / gap.value**2,
        over_images=found.over_images / gap.value**2,
        positive=gain.positive if gap.value > 0 else 1 - gain.positive,
    )


def even_owners(images: int, captions: int) -> np.ndarray:
    """(M,) the image of each caption, where every image has equally many and they lie image by image.

    Raises ValueError where that cannot be.
    """
    if not images or captions % images:
        raise ValueError(f"{captions} captions are not equally many for each of {images} images")
    return np.repeat(np.arange(images), captions // images)


def _contributions(ranks: Ranks, owners: np.ndarray, ks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """What each image adds: at how many of the `ks` its own query, and each of its captions, is answered; (S, N) both,
    the latter summed over its captions."""
    i2t, t2i = ranks
    seeds, images = i2t.shape
    if t2i.shape != (seeds, len(owners)) or not seeds or not images:
        raise ValueError(f"ranks of shapes {i2t.shape} and {t2i.shape} do not fit {len(owners)} captions")
    if not np.array_equal(np.unique(owners), np.arange(images)):
        raise ValueError(f"every one of {images} images needs a caption")
    own, of_captions = (np.stack([side < k for k in ks]).sum(0, dtype=np.float32) for side in (i2t, t2i))
    return own, np.stack([np.bincount(owners, hits, images) for hits in of_captions]).astype(np.float32)


def _estimate(contributions: tuple[np.ndarray, np.ndarray], owners: np.ndarray, resamples: int) -> Estimate:
    seeds, images = contributions[0].shape
    by_seed = 100 * (contributions[0].mean(1, dtype=float) + contributions[1].sum(1, dtype=float) / len(owners))  # (S,)
    drawn = _drawn(contributions, np.bincount(owners, minlength=images), resamples)  # (resamples, S)
    return Estimate(
        value=float(by_seed.mean()),
        seeds=seeds,
        images=images,
        over_seeds=float(by_seed.var(ddof=1)) / seeds if seeds > 1 else None,
        over_images=float(drawn.mean(1).var()),
        positive=float((drawn > 0).mean() + (drawn == 0).mean() / 2),
    )


def _drawn(contributions: tuple[np.ndarray, np.ndarray], captions: np.ndarray, resamples: int) -> np.ndarray:
    """(resamples, S): the score of every seed on images drawn anew.  captions: (N,) how many each image has.

    Products of small integers, exact in single precision whatever their order.
    """
    own, of_captions = contributions
    columns = np.concatenate([own, of_captions, captions[None].astype(np.float32)]).T  # (N, 2S + 1)
    counts = _counts(len(captions), resamples)
    rows = max(1, BLOCK // len(captions))
    sums = np.concatenate([counts[part].astype(np.float32) @ columns for part in blocks(resamples, rows)]).astype(float)
    per_image, per_caption, asked = np.split(sums, [len(own), 2 * len(own)], axis=1)
    return 100 * (per_image / len(captions) + per_caption / asked)


@lru_cache(maxsize=2)  # all rows of a table are asked about the same draws
def _counts(images: int, resamples: int) -> np.ndarray:
    """(resamples, images) uint8: how often each image is drawn, where as many are drawn as there are."""
    return np.concatenate(list(_count_blocks(images, resamples)))


def _count_blocks(images: int, resamples: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for part in blocks(resamples, max(1, BLOCK // images)):
        rows = part.stop - part.start
        chosen = rng.integers(0, images, (rows, images)) + images * np.arange(rows)[:, None]
        yield np.bincount(chosen.ravel(), minlength=rows * images).reshape(rows, images).astype(np.uint8)


def _quantile(freedom: float, share: float) -> float:
    return float(stdtrit(_finite(freedom), share))


def _finite(freedom: float) -> float:
    return min(freedom, 1e9)  # of as many, Student's t is normal
