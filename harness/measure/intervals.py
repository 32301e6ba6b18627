"""How sure a mean over seeds is, by Student's t, and a median of samples, by their order.  Pure functions of numbers.

The quantiles come from scipy.special: scipy.stats takes longer to import than a whole report takes to make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, stdtrit

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


def next_mean_interval(mean: float, sd: float, known: int, further: int, level: float = 0.95) -> Interval:
    """Where the mean of so many further values lies, by the mean and deviation (n - 1) of those that are known.

    Student's t of both errors.  Raises ValueError for fewer than two known or no further values.
    """
    if known < 2 or further < 1:
        raise ValueError(f"{known} known and {further} further values tell nothing")
    return _around(mean, sd * (1 / known + 1 / further) ** 0.5, known - 1, level)


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


def median_interval(samples: Sequence[float], level: float = 0.95) -> Interval | None:
    """Of the median of whatever the samples (n,) are drawn from, by their order alone (Thompson 1936).

    The narrowest pair of equally many samples from either end that holds it so often.  None where too few were taken
    for even the least and the largest of them to do so.
    """
    count = len(samples)
    cut = 0  # samples outside at either end: at most so many below the median has a chance of bdtr(cut, n, 1/2)
    while cut < count / 2 and 2 * bdtr(cut, count, 0.5) <= 1 - level:
        cut += 1
    if cut == 0:
        return None
    ordered = sorted(map(float, samples))
    return ordered[cut - 1], ordered[count - cut]


def ratio_interval(above: Interval | None, below: Interval | None) -> Interval | None:
    """All that a ratio of two positive quantities may be; None where either is not known."""
    if above is None or below is None or below[0] <= 0:
        return None
    return above[0] / below[1], above[1] / below[0]


def _around(mean: float, error: float, freedom: float, level: float) -> Interval:
    reach = float(stdtrit(freedom, (1 + level) / 2)) * error
    return mean - reach, mean + reach
