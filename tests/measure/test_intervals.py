"""Intervals against scipy.stats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.measure.intervals import (
    Difference,
    mean_sd,
    t_interval,
    welch_difference,
)

VALUES = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=2, max_size=7)


def test_mean_and_deviation_by_hand():
    assert mean_sd([1, 2, 3]) == (2, 1)
    assert mean_sd([7.5]) == (7.5, None)
    with pytest.raises(ValueError, match="no values"):
        mean_sd([])


def test_t_interval_by_hand():
    low, high = t_interval([1, 2, 3]) or (0, 0)
    assert high - 2 == pytest.approx(4.302653 / 3**0.5, rel=1e-6)  # t of 2 degrees of freedom, as in any table
    assert 2 - low == pytest.approx(high - 2)
    assert t_interval([7.5]) is None


@given(VALUES.filter(lambda v: len(set(v)) > 1), st.sampled_from([0.5, 0.9, 0.95]))
@settings(max_examples=40, deadline=None)
def test_t_interval_equals_scipys(values, level):
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert t_interval(values, level) == pytest.approx(tuple(expected), abs=1e-6)


@given(VALUES.filter(lambda v: len(set(v)) > 1), VALUES.filter(lambda v: len(set(v)) > 1))
@settings(max_examples=40, deadline=None)
def test_welch_equals_scipys(a, b):
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    found = welch_difference(a, b)
    assert found.mean == pytest.approx(np.mean(a) - np.mean(b))
    assert found.interval == pytest.approx(tuple(expected), rel=1e-6, abs=1e-6)


def test_welch_without_enough_or_without_spread():
    assert welch_difference([1.0], [2.0, 3.0]) == Difference(-1.5, None)
    assert welch_difference([1.0, 1.0], [2.0, 2.0]) == Difference(-1, (-1, -1))
