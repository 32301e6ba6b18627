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
    median_interval,
    next_mean_interval,
    ratio_interval,
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


def test_median_interval_by_hand():
    """Six samples are all on one side of the median once in 32 times; five once in 16, too often for 95%."""
    assert median_interval([3, 1, 2, 6, 5, 4]) == (1, 6)
    assert median_interval([1, 2, 3, 4, 5]) is None
    assert median_interval([]) is None
    assert median_interval(range(1, 101)) == (40, 61)  # as in any table of the sign test


@given(st.integers(1, 60), st.sampled_from([0.8, 0.95, 0.975]))
@settings(max_examples=40, deadline=None)
def test_median_interval_is_the_narrowest_that_holds_it_often_enough(count, level):
    """Slow and plain: of all pairs of equally many from either end, by the binomial's own sum."""
    holds = {
        cut: 1 - 2 * sum(stats.binom.pmf(below, count, 0.5) for below in range(cut)) for cut in range(1, count // 2 + 1)
    }
    cuts = [cut for cut, chance in holds.items() if chance >= level - 1e-12]
    assert median_interval(range(count), level) == ((max(cuts) - 1, count - max(cuts)) if cuts else None)


def test_ratio_interval_by_hand():
    assert ratio_interval((2, 3), (4, 5)) == (2 / 5, 3 / 4)
    assert ratio_interval(None, (4, 5)) is ratio_interval((2, 3), None) is ratio_interval((2, 3), (0, 5)) is None


def test_the_interval_of_a_next_mean_by_hand():
    """Of ten values 100 ± 2, a mean of three: t of 9 degrees is 2.262157, the error 2 (1/10 + 1/3)^½."""
    reach = 2.262157 * 2 * (13 / 30) ** 0.5
    assert next_mean_interval(100, 2, 10, 3) == pytest.approx((100 - reach, 100 + reach), rel=1e-6)
    with pytest.raises(ValueError, match="1 known and 3 further"):
        next_mean_interval(100, 2, 1, 3)
