"""Do two measures put the same things in the same order?  Kendall's tau-b, with its number of pairs and its p."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEAST = 3  # things: of two there are but two orders


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
    from scipy.stats import kendalltau  # takes longer to import than a report without it takes to make

    found: Any = kendalltau(a, b)
    return Agreement(len(a), float(found.statistic), float(found.pvalue))


def by_family(a: Mapping[str, float], b: Mapping[str, float], families: Mapping[str, str]) -> dict[str, Agreement]:
    """`all` and every family that has things with both measures, in the order of `a`: how alike the orders are.

    a, b: thing -> measure; families: thing -> its family.  A thing that lacks a measure is left out.
    """
    both = [name for name in a if name in b]
    groups: dict[str, list[str]] = {"all": both}
    for name in both:
        groups.setdefault(families[name], []).append(name)
    return {family: agreement([a[n] for n in names], [b[n] for n in names]) for family, names in groups.items()}
