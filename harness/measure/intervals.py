"""How sure a number is: over seeds by Student's t, over queries by the bootstrap.  Pure functions of numbers.

The quantiles come from scipy.special: scipy.stats takes longer to import than a whole report takes to make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import stdtrit

from harness.measure.metrics import RECALL_AT

Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """A mean difference a - b and how far it is known."""

    mean: float
    interval: Interval | None  # None where too few seeds were run to tell


def mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation (n - 1), which is None for one value.  Raises ValueError for none."""
    if not len(values):
        raise ValueError("no values to average")
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Interval of the mean of normal values (Student 1908).  None for fewer than two values."""
    if len(values) < 2:
        return None
    mean, sd = mean_sd(values)
    return _around(mean, (sd or 0.0) / len(values) ** 0.5, len(values) - 1, level)


def paired_difference(a: Mapping[int, float], b: Mapping[int, float], level: float = 0.95) -> Difference:
    """Mean of a - b over the seeds that both have, and its t interval (None for one pair).  a, b: seed -> value.

    Raises ValueError where no seed is shared.
    """
    shared = sorted(a.keys() & b.keys())
    if not shared:
        raise ValueError(f"no seed in common: {sorted(a)} and {sorted(b)}")
    differences = [a[seed] - b[seed] for seed in shared]
    return Difference(float(np.mean(differences)), t_interval(differences, level))


def welch_difference(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Difference:
    """Difference of the means of unpaired values and its interval without equal variances (Welch 1947).

    The interval is None where either side has fewer than two values.
    """
    mean = float(np.mean(a) - np.mean(b))
    if min(len(a), len(b)) < 2:
        return Difference(mean, None)
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (a, b)]
    error = sum(parts)  # squared
    if not error:
        return Difference(mean, (mean, mean))
    freedom = error**2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (a, b), strict=True))
    return Difference(mean, _around(mean, error**0.5, freedom, level))


def _around(mean: float, error: float, freedom: float, level: float) -> Interval:
    reach = float(stdtrit(freedom, (1 + level) / 2)) * error
    return mean - reach, mean + reach


def paired_bootstrap(
    ranks_a: Sequence[np.ndarray],
    ranks_b: Sequence[np.ndarray],
    ks: Sequence[int] = RECALL_AT,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval (Efron 1979) of Rsum(a) - Rsum(b), in percent, over queries drawn anew with both their ranks.

    ranks_a, ranks_b: one array of 0-based ranks a direction, (Q,), or (S, Q) for S seeds whose hits are averaged; S may
    differ between a and b, Q may not.  Directions are drawn apart.  Captions of one image count as separate queries.
    Raises ValueError for other shapes.
    """
    gains = []
    for a, b in zip(ranks_a, ranks_b, strict=True):
        if a.shape[-1] != b.shape[-1] or not a.shape[-1]:
            raise ValueError(f"paired queries needed, got ranks of shape {a.shape} and {b.shape}")
        gains.append((_hits(a, ks) - _hits(b, ks)).round(9).tobytes())  # (Q,) what each query adds to the difference
    return _bootstrap(tuple(gains), resamples, seed, level)


@lru_cache(maxsize=1024)  # tables, figures and page of one report ask for the same intervals
def _bootstrap(gains: tuple[bytes, ...], resamples: int, seed: int, level: float) -> Interval:
    """gains: (Q,) float64 of each direction."""
    rng = np.random.default_rng(seed)
    draws = np.zeros(resamples)
    for gain in map(np.frombuffer, gains):
        # few values are distinct; how often each is drawn is multinomial: as if single queries were drawn, only faster
        values, counts = np.unique(gain, return_counts=True)
        draws += rng.multinomial(len(gain), counts / len(gain), size=resamples) @ values * (100 / len(gain))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _hits(ranks: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """(..., Q) -> (Q,) at how many of the `ks` a query is answered, averaged over seeds."""
    hits = np.sum([ranks < k for k in ks], axis=0)
    return hits.reshape(-1, hits.shape[-1]).mean(0)
