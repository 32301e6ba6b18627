"""A choice in words: how accurate, at what cost, how sure, and measured in what."""

from __future__ import annotations

from collections.abc import Mapping

from harness.measure.intervals import Interval, welch_difference
from harness.report.formats import decimals, interval, shown, significant, steady
from harness.report.read.contrasts import compared
from harness.report.read.rows import Row
from harness.report.tables.candidates import FIGURES
from harness.report.tables.choice import BY, Candidate, Offer

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def verdict(rows: Mapping[str, Row], best: Candidate, second: Candidate, by: str = "rsum") -> str:
    """Whether the lead of the best could be seen: by the interval over seeds and images that tables have, of Rsum where
    both ran the same seeds; else by Welch's over seeds."""
    lone = [candidate.title for candidate in (best, second) if candidate.seeds < 2]
    if len(lone) == 2:
        return "one seed each: not told apart"
    if lone:
        return f"one seed of {lone[0]}: not told apart"
    if derived := [candidate.title for candidate in (best, second) if candidate.name not in rows]:
        return f"{derived[0]} is derived from another row: not told apart"
    mean, bounds = _difference(rows[best.name], rows[second.name], by)
    apart = bounds is not None and bounds[0] > 0
    return f"{shown(mean, bounds)} {BY[by]}: {'told apart' if apart else 'not told apart'}"


def _difference(row: Row, other: Row, by: str) -> tuple[float, Interval | None]:
    if by == "rsum":
        (found,) = compared([(row, other)])
        if found.value is not None and found.interval is not None:
            return found.value, found.interval
    own, others = ([run.accuracy[FIGURES[by]] for run in each.runs] for each in (row, other))
    difference = welch_difference(own, others)
    return difference.mean, difference.interval


def accuracy(candidate: Candidate, by: str = "rsum") -> str:
    """`Rsum 168.0 [153.8, 182.2], 3 seeds`, without the interval of one seed."""
    bounds = candidate.intervals.get(by)
    within = "" if bounds is None else f" {interval(bounds)}"
    untuned = ", untuned" if candidate.untuned else ""
    return f"{BY[by]} {decimals(1)(candidate.means[by])}{within}, {candidate.sure}{untuned}"


def cost(offer: Offer) -> str:
    """`≈11.0 ms a query, 1.91 GiB`"""
    return f"{offer.shown_ms} ms a query, {shown_bytes(offer.memory)}"


def caveat(candidate: Candidate, gallery: int) -> str:
    """What the accuracy was measured in; "" where in as many images as were asked for."""
    if candidate.images == gallery:
        return ""
    said = f"Accuracy was measured among {candidate.images:,} images, not {gallery:,}"
    if gallery < candidate.images:
        return f"{said}; among fewer more is found."
    if candidate.k is None:
        return f"{said}; among more less is found, and rows may stand in another order."
    return f"{said}; among more less is found, and fewer right images are in a shortlist of {candidate.k:,}."


def shown_bytes(size: float) -> str:
    """`512 bytes`, `1.91 GiB`: three figures."""
    place = 0
    while size >= 1024 and place < len(UNITS) - 1:
        size, place = size / 1024, place + 1
    return f"{significant(size) if place else f'{steady(size):.0f}'} {UNITS[place]}"
