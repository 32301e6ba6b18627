"""The tuning curve against all choices of n trials."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.measure.tuning_curve import tuning_curve


def slow_curve(scores: list[float]) -> list[float]:
    return [float(np.mean([max(some) for some in combinations(scores, n)])) for n in range(1, len(scores) + 1)]


def test_a_curve_by_hand():
    # of two of 3, 9, 6 the better one is 9, 6 or 9
    assert tuning_curve([3, 9, 6]) == pytest.approx([6, 8, 9])
    assert tuning_curve([4.0]).tolist() == [4]


@given(st.lists(st.floats(-600, 600).map(lambda x: round(x, 3)), min_size=1, max_size=8))
def test_a_curve_is_the_mean_over_all_choices_of_trials(scores):
    assert tuning_curve(scores) == pytest.approx(slow_curve(scores), abs=1e-9)


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [float("-inf")]])
def test_trials_without_a_score_are_refused(scores):
    with pytest.raises(ValueError, match="finite scores needed"):
        tuning_curve(scores)
