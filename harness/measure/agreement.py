"""Do two measures put the same things in the same order?  Kendall's tau-b, with its number of pairs and its p."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEAST = 3  # things: of two there are but two orders
MOST = 33  # whose orders are counted one by one


@dataclass(frozen=True)
class Agreement:
    """How alike two orders of the same things are."""

    n: int  # things that both measures have
    tau: float | None  # Kendall's tau-b, from -1 to 1; None for fewer than `LEAST` things, or where all of a side tie
    p: float | None  # two-sided, of tau being 0; exact for few things without ties


def agreement(a: Sequence[float], b: Sequence[float]) -> Agreement:
    """Of two measures of the same things, in one order: (n,) each (Kendall 1945, with ties).  Raises ValueError."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values of one measure, {len(b)} of the other")
    if len(a) < LEAST or len(set(a)) == 1 or len(set(b)) == 1:
        return Agreement(len(a), None, None)
    x, y = (np.sign(np.subtract.outer(side, side)) for side in (np.asarray(a, float), np.asarray(b, float)))
    signs = int((x * y).sum()) // 2  # pairs in the same order minus pairs in the reverse one
    tau = signs / math.sqrt(int((x != 0).sum()) * int((y != 0).sum()) / 4)
    ties = [np.unique(side, return_counts=True)[1] for side in (a, b)]
    exact = len(a) <= MOST and all((counts == 1).all() for counts in ties)
    return Agreement(len(a), tau, _exact_p(len(a), signs) if exact else _normal_p(len(a), signs, *ties))


def _exact_p(n: int, signs: int) -> float:
    """The share of all orders of n things that are as far from no agreement as this one (Kendall 1938)."""
    orders = [1]  # of how many orders have 0, 1, 2 ... pairs reversed
    for k in range(2, n + 1):  # thing k goes before 0 to k - 1 of those that were put in order
        orders = [sum(orders[max(0, j - k + 1) : j + 1]) for j in range(len(orders) + k - 1)]
    reversed_ = (n * (n - 1) // 2 - abs(signs)) // 2
    return min(1.0, 2 * sum(orders[: reversed_ + 1]) / math.factorial(n))


def _normal_p(n: int, signs: int, *ties: np.ndarray) -> float:
    """By the normal law, of many things or of some that tie: the variance of `signs` over all orders (Kendall 1945).

    ties: how many things share each value, of either measure.
    """
    first, second, third = ([float(f(t).sum()) for t in ties] for f in (_pairs, _triples, _weighted))
    pairs = n * (n - 1)
    variance = (pairs * (2 * n + 5) - sum(third)) / 18
    variance += math.prod(first) / (2 * pairs) + math.prod(second) / (9 * pairs * (n - 2))
    return math.erfc(abs(signs) / math.sqrt(2 * variance))


def _pairs(t: np.ndarray) -> np.ndarray:
    return t * (t - 1)


def _triples(t: np.ndarray) -> np.ndarray:
    return t * (t - 1) * (t - 2)


def _weighted(t: np.ndarray) -> np.ndarray:
    return t * (t - 1) * (2 * t + 5)


def by_family(a: Mapping[str, float], b: Mapping[str, float], families: Mapping[str, str]) -> dict[str, Agreement]:
    """`all` and every family that has things with both measures, in the order of `a`: how alike the orders are.

    a, b: thing -> measure; families: thing -> its family.  A thing that lacks a measure is left out.
    """
    both = [name for name in a if name in b]
    groups: dict[str, list[str]] = {"all": both}
    for name in both:
        groups.setdefault(families[name], []).append(name)
    return {family: agreement([a[n] for n in names], [b[n] for n in names]) for family, names in groups.items()}
