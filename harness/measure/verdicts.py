"""What may be said of a family of differences: one word each, which follows from its corrected interval.

Where many hosts are tested, some differ by luck.  Holm (1979): p by p from the smallest, each at the error rate divided
by how many are left, until one fails.  The intervals of a family have just those rates, so that an interval leaves zero
out where, and only where, Holm rejects; the words read nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from scipy.special import nctdtrinc, stdtrit

from harness.measure.estimates import Estimate
from harness.measure.intervals import Interval

RATE = 0.05  # how often some true null hypothesis of a family may be rejected
MARGIN = 5.0  # points of Rsum; less is no difference that matters
POWER = 0.8

Word = Literal["better", "worse", "equivalent", "undecided"]
Reach = Literal["reaches", "falls short", "undecided"]
Verdict = Literal["confirmed", "refuted", "undecided"]

COMPARABLE = 1.25  # times its host's time: within the limits by which ratios count as equivalent (Schuirmann 1987)
FAR_LESS = 0.1  # of an interactive row's time: one order of magnitude, the least that "orders of magnitude" may mean
CLAIM: Mapping[str, Verdict] = {  # what a word says of a claim to gain, or to be no worse
    "better": "confirmed",
    "reaches": "confirmed",
    "worse": "refuted",
    "equivalent": "refuted",
    "falls short": "refuted",
    "undecided": "undecided",
}


def levels(ps: Sequence[float], rate: float = RATE) -> list[float]:
    """The level of each interval of a family, in the order given: 1 - rate / how many were left at Holm's step."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    found, left = [0.0] * len(ps), len(ps)
    for place, index in enumerate(order):
        found[index] = 1 - rate / left
        if ps[index] <= rate / left:  # else all that follow keep the rate at which this one failed
            left = max(1, len(ps) - place - 1)
    return found


def corrected(family: Sequence[Estimate], rate: float = RATE, bound: float = 0.0) -> list[Interval | None]:
    """The intervals of differences that are tested together, in the order given.

    bound: what Holm tests each against, and what an interval therefore leaves out where, and only where, he rejects.
    None for one seed, which is no test: it counts for none.
    """
    ps = {place: estimate.p_off(bound) for place, estimate in enumerate(family)}
    tested = {place: p for place, p in ps.items() if p is not None}
    level = dict(zip(tested, levels(list(tested.values()), rate), strict=True))
    return [family[place].interval(level[place]) if place in level else None for place in ps]


def word(interval: Interval | None, margin: float = MARGIN) -> Word:
    """Equivalent: all of the interval is within the margin, which is what two one-sided tests ask (Schuirmann 1987).

    A difference that is known not to be zero is called by its sign, however small.
    """
    if interval is None:
        return "undecided"
    low, high = interval
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "equivalent" if -margin < low and high < margin else "undecided"


def reach(interval: Interval | None, margin: float = MARGIN) -> Reach:
    """Of a row beside one it should equal: reaches it where it is not worse by the margin (non-inferiority)."""
    if interval is None:
        return "undecided"
    low, high = interval
    return "reaches" if low > -margin else "falls short" if high < -margin else "undecided"


def below(interval: Interval | None, limit: float) -> Verdict:
    """Of a claim that a ratio is at most so large."""
    if interval is None:
        return "undecided"
    low, high = interval
    return "confirmed" if high <= limit else "refuted" if low > limit else "undecided"


def detectable(estimate: Estimate, level: float = 1 - RATE, power: float = POWER) -> float | None:
    """The true difference that an interval of this level would have told from zero with this probability.

    By the noncentral t; None for one seed.
    """
    if estimate.error is None or estimate.freedom is None:
        return None
    freedom = min(estimate.freedom, 1e9)
    return float(nctdtrinc(freedom, 1 - power, stdtrit(freedom, (1 + level) / 2))) * estimate.error
