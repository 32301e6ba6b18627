"""Where in the whole gallery all right answers of a query come: what search for persons is measured by.

AP is the mean of the precision at the place of each right answer (Zheng et al., ICCV 2015); INP the number of right
answers by the place of the last of them (Ye et al., TPAMI 2021, "Deep Learning for Person Re-identification",
INP = |G| / R_hard); rank-k asks whether the first is among the first k.  Places are 1-based; ties with wrong answers
count against the model.  Pure: scores in, places and numbers out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from harness.measure.extended import Found, Positives

Placed = Sequence[np.ndarray]  # of each query (R,) int, ascending: 1-based places of its right answers


def places(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(R,) int64 ascending: 1-based places of the right answers of one query, those that tie behind all wrong ones.

    scores: (G,) of the gallery; right: (R,) int, no two equal.
    """
    wrong = np.ones(len(scores), bool)
    wrong[right] = False
    rivals = np.sort(scores[wrong])
    before = len(rivals) - np.searchsorted(
        rivals, np.sort(scores[right])[::-1]
    )  # wrong ones that score at least as high
    return before + np.arange(1, len(right) + 1)


def placed(scores: Callable[[int], np.ndarray], truth: Positives) -> Placed:
    """`places` of every query.  scores: number of a query -> (G,)."""
    both = zip(truth.queries.tolist(), truth.answers, strict=True)
    return [places(scores(query), right) for query, right in both]


def average_precision(found: np.ndarray) -> float:
    """Of one query, from its `places`."""
    return float((np.arange(1, len(found) + 1) / found).mean())


def inverse_negative_penalty(found: np.ndarray) -> float:
    """Of one query, from its `places`: 1 where no wrong answer comes before the last right one."""
    return float(len(found) / found[-1])


def at_r(found: Placed) -> Found:
    """What `extended.evaluate` finds in lists: the first R places alone, and the place of the first right answer."""
    within = [some <= len(some) for some in found]
    precision = [np.arange(1, len(some) + 1) / some for some in found]
    return Found(
        average_precision=np.array([(p * w).mean() for p, w in zip(precision, within, strict=True)]),
        r_precision=np.array([w.mean() for w in within]),
        rank=np.array([some[0] - 1 for some in found]),
    )


def summary(found: Placed) -> dict[str, float]:
    """Means over queries in percent: those of `at_r`, mAP over the whole gallery, mINP."""
    return {
        **at_r(found).summary(),
        "map": 100 * float(np.mean([average_precision(some) for some in found])),
        "minp": 100 * float(np.mean([inverse_negative_penalty(some) for some in found])),
    }
