"""How far the scores of a row agree with what people said of pairs, and what it finds of all that they call right.

Agreement is Kendall's tau-b (Kendall 1945) between scores and judgements of the same pairs, as captioning metrics are
held against Flickr8k's experts (Anderson et al., SPICE, ECCV 2016): over all pairs, and within the pairs of one query.
Its interval is a bootstrap (Efron 1979) that draws queries, each with all its pairs.  Pure: arrays in, numbers out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from harness.measure.extended import Found
from harness.measure.intervals import Interval
from harness.measure.metrics import blocks

RESAMPLES = 1000
BLOCK = 256  # pairs that are compared with all others at once
RIGHT = 9  # the sum of three experts' scores, a mean of 3: what they call right
SHARE = (2, 3)  # of the crowd who say yes, likewise


@dataclass(frozen=True)
class Tau:
    """Kendall's tau-b, from -1 to 1, and how far it is known; None where it is not defined."""

    value: float | None
    interval: Interval | None = None  # 95%


@dataclass(frozen=True)
class Agreement:
    """Of the scores of one row with one kind of judgement, means over its seeds."""

    pairs: int
    queries: int
    over_all: Tau
    within: Tau  # mean over the queries of which it is defined
    defined: int  # so many of them, on average over seeds


def agreement(scores: np.ndarray, said: np.ndarray, query: np.ndarray, resamples: int = RESAMPLES) -> Agreement:
    """scores: (S, P) of S seeds; said: (P,) what people said, higher = more alike; query: (P,) whose pair it is.

    Takes memory for a number for every two queries.
    """
    names, group = np.unique(query, return_inverse=True)
    weights = _drawn(len(names), resamples)
    values, drawn, inner, inner_drawn, defined = [], [], [], [], []
    for own in scores:
        told = comparisons(own, said, group, len(names))
        values.append(_taus(told, np.ones((1, len(names))))[0])
        drawn.append(_taus(told, weights))
        with np.errstate(invalid="ignore", divide="ignore"):
            each = np.diagonal(told[0]) / np.sqrt(np.diagonal(told[1]) * np.diagonal(told[2]))  # (G,)
            known = np.isfinite(each)
            inner.append(each[known].mean() if known.any() else np.nan)
            inner_drawn.append(weights @ np.where(known, each, 0) / (weights @ known))
        defined.append(int(known.sum()))
    return Agreement(
        pairs=len(said),
        queries=len(names),
        over_all=_tau(values, drawn),
        within=_tau(inner, inner_drawn),
        defined=round(float(np.mean(defined))),
    )


def comparisons(x: np.ndarray, y: np.ndarray, group: np.ndarray, groups: int) -> tuple[np.ndarray, ...]:
    """Three (G, G) float64 arrays about every pair i of group g beside every pair j of group h: how many more are in
    the same order by x and y than in the opposite one, how many x tells apart, how many y does.

    A bootstrap sample in which group g is there w[g] times has the sums w' A w of these: tau-b of any sample comes from
    three numbers a group and another.  x, y: (P,); group: (P,) int, none of the G without a pair.
    """
    order = np.argsort(group, kind="stable")
    group = group[order]
    x, y = (np.unique(side, return_inverse=True)[1].astype(np.int32)[order] for side in (x, y))
    starts = np.searchsorted(group, np.arange(groups))
    same = np.zeros((groups, groups))
    for rows in blocks(len(x), BLOCK):
        signs = _signs(x[rows], x) * _signs(y[rows], y)  # (rows, P) int8
        of_rows = group[rows]
        first = np.flatnonzero(np.diff(of_rows, prepend=-1))  # where a group begins in this block
        sums = np.add.reduceat(np.add.reduceat(signs.astype(np.int32), starts, axis=1), first, axis=0, dtype=np.int64)
        same[of_rows[first]] += sums
    return same, _told_apart(x, group, groups), _told_apart(y, group, groups)


def _signs(some: np.ndarray, every: np.ndarray) -> np.ndarray:
    """(R, P) int8 of the differences some - every."""
    return np.greater.outer(some, every).view(np.int8) - np.less.outer(some, every).view(np.int8)


def _told_apart(levels: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """(G, G) how many pairs i of one group and j of another differ.  levels: (P,) int from 0."""
    often = np.bincount(levels) > 1
    column = (np.cumsum(often) - 1)[levels]  # of those levels that several pairs have
    several = often[levels]
    counts = np.zeros((groups, int(often.sum())))
    np.add.at(counts, (group[several], column[several]), 1)
    sizes, lone = (np.bincount(which, minlength=groups).astype(float) for which in (group, group[~several]))
    return np.outer(sizes, sizes) - counts @ counts.T - np.diag(lone)  # a lone one is like itself alone


def _taus(told: tuple[np.ndarray, ...], weights: np.ndarray) -> np.ndarray:
    """(B,) tau-b of B samples; nan where all of a side tie.  weights: (B, G) how often each group is drawn."""
    same, x, y = (((weights @ sums) * weights).sum(1) for sums in told)
    with np.errstate(invalid="ignore", divide="ignore"):
        return same / np.sqrt(x * y)


@lru_cache(maxsize=4)
def _drawn(groups: int, resamples: int) -> np.ndarray:
    """(B, G) how often each group is in each sample, the same for every row."""
    return np.random.default_rng(0).multinomial(groups, np.full(groups, 1 / groups), resamples).astype(np.float64)


def _tau(values: list[float], drawn: list[np.ndarray]) -> Tau:
    """Of the values of S seeds and of their (B,) samples, the same queries drawn for all of them."""
    if not np.isfinite(values).all():
        return Tau(None)
    means = np.mean(drawn, axis=0)
    means = means[np.isfinite(means)]
    low, high = np.percentile(means, [2.5, 97.5]) if len(means) else (None, None)
    return Tau(float(np.mean(values)), None if low is None or high is None else (float(low), float(high)))


def plain_agreement(scores: np.ndarray, said: np.ndarray) -> float | None:
    """Mean over seeds of tau-b over all pairs, without an interval, for many pairs.  scores: (S, P); said: (P,)."""
    from scipy.stats import kendalltau  # takes longer to import than a whole report takes to make

    if any(len(np.unique(side)) < 2 for side in (said, *scores)):
        return None
    return float(np.mean([np.array(kendalltau(own, said), float)[0] for own in scores]))


def right(own: np.ndarray, experts: np.ndarray, yes: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """(P,) bool, which pairs are right: collected together, or called so by experts or crowd (see `RIGHT`, `SHARE`)."""
    return own | (experts >= RIGHT) | ((votes > 0) & (SHARE[1] * yes >= SHARE[0] * votes))


def above(scores: np.ndarray, images: np.ndarray, captions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each pair how many other captions its image scores at least as high, and how many other images its caption.

    scores: (N, M); images, captions: (P,) of the pairs.  Returns two (P,) int64.
    """
    return _above(scores, images, captions), _above(scores.T, captions, images)


def _above(scores: np.ndarray, queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    found = np.zeros(len(queries), np.int64)
    for pairs in _parts(queries):
        row = np.sort(scores[queries[pairs[0]]])
        found[pairs] = len(row) - np.searchsorted(row, scores[queries[pairs], items[pairs]]) - 1
    return found


def _parts(queries: np.ndarray) -> list[np.ndarray]:
    """The places of each query's pairs, in the order of the queries; none where there are none."""
    order = np.argsort(queries, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(queries[order])) + 1) if len(queries) else []


def found(
    scores: np.ndarray, right: np.ndarray, asked: np.ndarray, query: np.ndarray, above: np.ndarray | None = None
) -> Found | None:
    """What a row finds of all that is right, query by query; None where no query is asked.

    scores, right: (P,); asked: (P,) bool, pairs that people judged beyond those collected together, whose queries alone
    count; query: (P,).  above: (P,) how many other items of the gallery score at least as high: then the gallery is
    whole and what nobody judged is wrong; without it the pairs are all there is to rank.  Ties count against the row.
    """
    lists = []
    for pairs in _parts(query):
        if not asked[pairs].any() or not right[pairs].any():
            continue
        yes = pairs[right[pairs]]
        best = np.sort(scores[yes])  # ascending
        at_least = len(best) - np.searchsorted(best, scores[yes])  # right ones that score as high, itself included
        if above is None:
            wrong = np.sort(scores[pairs[~right[pairs]]])
            before = len(wrong) - np.searchsorted(wrong, scores[yes])
        else:
            before = np.maximum(above[yes] + 1 - at_least, 0)
        lists.append(np.sort(before) + np.arange(len(yes)))
    return _found(lists) if lists else None


def _found(places: list[np.ndarray]) -> Found:
    """Of the 0-based places of each query's right answers, ascending."""
    sizes = [len(own) for own in places]
    hits = [own < size for own, size in zip(places, sizes, strict=True)]
    precision = [np.arange(1, size + 1) / (own + 1) for own, size in zip(places, sizes, strict=True)]
    return Found(
        average_precision=np.array([(p * h).sum() / s for p, h, s in zip(precision, hits, sizes, strict=True)]),
        r_precision=np.array([h.sum() / s for h, s in zip(hits, sizes, strict=True)]),
        rank=np.array([own[0] for own in places]),
    )
