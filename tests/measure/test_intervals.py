"""Intervals against scipy.stats and against a bootstrap that draws one query at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.measure.intervals import (
    Difference,
    mean_sd,
    paired_bootstrap,
    paired_difference,
    t_interval,
    welch_difference,
)
from harness.measure.metrics import summary

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


def test_a_paired_difference_takes_shared_seeds_alone():
    a, b = {0: 10.0, 1: 12.0, 2: 14.0, 7: 99.0}, {2: 11.0, 1: 10.0, 0: 9.0, 5: 0.0}
    found = paired_difference(a, b)
    assert found.mean == 2
    assert found.interval == pytest.approx(t_interval([1, 2, 3]))


def test_one_pair_has_no_interval_and_none_is_refused():
    assert paired_difference({3: 2.0}, {3: 0.5, 4: 9}) == Difference(1.5, None)
    with pytest.raises(ValueError, match=r"no seed in common: \[1\] and \[2\]"):
        paired_difference({1: 0.0}, {2: 0.0})


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


def slow_bootstrap(ranks_a, ranks_b, resamples: int) -> tuple[float, float]:
    rng = np.random.default_rng(1)
    differences = []
    for _ in range(resamples):
        drawn = [rng.integers(0, len(a), len(a)) for a in ranks_a]
        a, b = ([ranks[rows] for ranks, rows in zip(side, drawn, strict=True)] for side in (ranks_a, ranks_b))
        differences.append(summary(a[0], a[1])["rsum"] - summary(b[0], b[1])["rsum"])
    return float(np.quantile(differences, 0.025)), float(np.quantile(differences, 0.975))


def made_ranks(seed: int, spread: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, spread, 61), rng.integers(0, spread, 307)]


def test_the_bootstrap_equals_drawing_queries_one_by_one():
    a, b = made_ranks(2, 23), made_ranks(3, 29)
    width = np.diff(slow := slow_bootstrap(a, b, 1500))[0]
    assert paired_bootstrap(a, b) == pytest.approx(slow, abs=0.08 * width)


def test_the_bootstrap_is_paired():
    a = made_ranks(4, 23)
    assert paired_bootstrap(a, a) == (0, 0)
    assert paired_bootstrap(a, [np.full(61, 99), np.full(307, 99)])[0] > 0


def test_hits_are_averaged_over_seeds():
    a, other, b = made_ranks(5, 17), made_ranks(6, 17), made_ranks(7, 17)
    once = paired_bootstrap(a, b)
    assert paired_bootstrap([np.stack([r, r, r]) for r in a], b) == once
    both = [np.stack(pair) for pair in zip(a, other, strict=True)]
    low, high = paired_bootstrap(both, b)
    assert high - low < once[1] - once[0]


def test_the_bootstrap_repeats_itself_and_refuses_unpaired_queries():
    a, b = made_ranks(8, 17), made_ranks(9, 17)
    assert paired_bootstrap(a, b, seed=3) == paired_bootstrap(a, b, seed=3) != paired_bootstrap(a, b, seed=4)
    with pytest.raises(ValueError, match=r"paired queries needed, got ranks of shape \(61,\) and \(60,\)"):
        paired_bootstrap(a, [b[0][:60], b[1]])
