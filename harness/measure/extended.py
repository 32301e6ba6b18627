"""Extended ground truth: how well a row finds all that is right, not only the pairs that were collected together.

mAP@R and R-Precision (Musgrave, Belongie & Lim, ECCV 2020; used for COCO by Chun et al., ECCV 2022, "ECCV Caption"):
R is the number of right answers of a query, and only its first R places count.  Recall@K counts a query whose first K
hold any right answer, as on CxC (Parekh et al., EACL 2021).  Pure: lists and sets in, numbers a query out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.measure.metrics import RECALL_AT


@dataclass(frozen=True)
class Positives:
    """Right answers of some queries, both numbered as in the data."""

    queries: np.ndarray  # (Q,) int
    answers: tuple[np.ndarray, ...]  # (Q,) of (R,) int, none empty
    beyond: np.ndarray  # (Q,) int: right answers that are not in the gallery, which nobody can find

    @property
    def most(self) -> int:
        """The largest R."""
        return int(max(len(some) + more for some, more in zip(self.answers, self.beyond.tolist(), strict=True)))


@dataclass(frozen=True)
class Found:
    """Of each query."""

    average_precision: np.ndarray  # (Q,) float64, at R
    r_precision: np.ndarray  # (Q,) float64
    rank: np.ndarray  # (Q,) int, 0-based place of the first right answer in its list, the length of the list where none

    def summary(self) -> dict[str, float]:
        """Means in percent."""
        recalls = {f"r{k}": 100 * float((self.rank < k).mean()) for k in RECALL_AT}
        return {
            "map_at_r": 100 * float(self.average_precision.mean()),
            "r_precision": 100 * float(self.r_precision.mean()),
            **recalls,
        }


def positives(truth: Mapping[int, Sequence[int]], beyond: Mapping[int, int] | None = None) -> Positives:
    """From a mapping query -> right answers.  beyond: query -> how many more are not in the gallery."""
    queries = sorted(truth)
    more = np.array([(beyond or {}).get(query, 0) for query in queries], np.int64)
    return Positives(np.array(queries, np.int64), tuple(np.unique(truth[query]) for query in queries), more)


def evaluate(first: np.ndarray, truth: Positives, gallery: int) -> Found:
    """Of lists of what was retrieved, best first.

    first: (all queries, k) int, -1 where there is no more; k at least `truth.most` and 10, or all of the gallery.
    gallery: how many items there are.  Raises ValueError where lists are too short.
    """
    needed = max(truth.most, *RECALL_AT)
    if first.shape[1] < min(needed, gallery):
        raise ValueError(f"lists of {first.shape[1]} items, {min(needed, gallery)} are needed")
    if first.shape[1] < needed:
        first = np.pad(first, ((0, 0), (0, needed - first.shape[1])), constant_values=-1)
    some = first[truth.queries]  # (Q, k)
    sizes = np.array([len(answers) for answers in truth.answers])
    owner = np.repeat(np.arange(len(sizes)), sizes)
    known = np.sort(owner * gallery + np.concatenate(truth.answers))  # right pairs as one number each
    pairs = np.arange(len(some))[:, None] * gallery + some
    at = np.minimum(np.searchsorted(known, pairs), len(known) - 1)
    right = (known[at] == pairs) & (some >= 0)
    counted = sizes + truth.beyond  # R
    hits = right & (np.arange(some.shape[1]) < counted[:, None])
    precision = np.cumsum(hits, axis=1) / np.arange(1, some.shape[1] + 1)
    return Found(
        average_precision=(precision * hits).sum(1) / counted,
        r_precision=hits.sum(1) / counted,
        rank=np.where(right.any(1), right.argmax(1), some.shape[1]),
    )
