"""Extended ground truth against a slow twin, and against the package of ECCV Caption where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from harness.measure.extended import evaluate, positives

RNG = np.random.default_rng(0)


def slow(items: list[int], right: set[int], count: int) -> tuple[float, float, int]:
    """Average precision at R, R-Precision, place of the first right answer."""
    hits, total = 0, 0.0
    for place, item in enumerate(items[:count], 1):
        if item in right:
            hits += 1
            total += hits / place
    first = next((place for place, item in enumerate(items) if item in right), len(items))
    return total / count, hits / count, first


def test_every_number_is_that_of_a_slow_twin():
    lists = np.array([RNG.permutation(37)[:13] for _ in range(23)])
    truth = {query: RNG.permutation(37)[: RNG.integers(1, 12)].tolist() for query in (0, 3, 4, 11, 22)}
    beyond = {3: 1}
    found = evaluate(lists, positives(truth, beyond))
    for place, (query, right) in enumerate(truth.items()):
        expected = slow(lists[query].tolist(), set(right), len(right) + beyond.get(query, 0))
        assert found.average_precision[place] == pytest.approx(expected[0])
        assert found.r_precision[place] == pytest.approx(expected[1])
        assert found.rank[place] == expected[2]


def test_by_hand():
    """R = 2: right at places 1 and 3 of which only the first counts for R-Precision."""
    found = evaluate(np.arange(10)[None], positives({0: [0, 2]}))
    assert found.average_precision.tolist() == [0.5]
    assert found.r_precision.tolist() == [0.5]
    assert found.summary()["r1"] == 100


def test_lists_that_are_too_short_are_refused():
    with pytest.raises(ValueError, match="lists of 10 items, 11 are needed"):
        evaluate(np.arange(10)[None], positives({0: list(range(11))}))
