"""The words, and that Holm, the corrected intervals and the words never say different things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from harness.measure.estimates import Estimate
from harness.measure.verdicts import CLAIM, Reach, Word, below, corrected, detectable, levels, reach, word

KNOWN = Estimate(value=3.0, seeds=5, images=101, over_seeds=0.75, over_images=0.25, positive=0.9)  # error 1
PS = st.lists(st.floats(0, 1), min_size=1, max_size=7)


def slow_holm_rejects(ps: list[float], rate: float) -> list[bool]:
    """As Holm wrote it."""
    rejected, left = [False] * len(ps), list(range(len(ps)))
    while left:
        smallest = min(left, key=ps.__getitem__)
        if ps[smallest] > rate / len(left):
            break
        rejected[smallest] = True
        left.remove(smallest)
    return rejected


def holm(ps: Sequence[float]) -> list[float]:
    """The p of each as it is after the correction for all, in the order given."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    corrected, largest = list(ps), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - place) * ps[index]))
        corrected[index] = largest
    return corrected


def p_within(estimate: Estimate, margin: float) -> float:
    """Of the claim that the true value is less than `margin` off zero: the larger of two one-sided p (Schuirmann)."""
    return max(estimate.p_above(-margin) or 0.0, estimate.p_below(margin) or 0.0)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


@given(PS, st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_rejects_step_by_step(ps, rate):
    rejected = slow_holm_rejects(ps, rate)
    assert [p <= rate / round(rate / (1 - level)) for p, level in zip(ps, levels(ps, rate), strict=True)] == rejected
    near = [abs(p - rate) < 1e-12 for p in holm(ps)]  # products round
    assert [p <= rate or close for p, close in zip(holm(ps), near, strict=True)] == [
        r or close for r, close in zip(rejected, near, strict=True)
    ]


def test_levels_by_hand():
    # 0.005 <= 0.05/3 and 0.02 <= 0.05/2 are rejected, 0.06 is tested alone
    assert levels([0.06, 0.005, 0.02]) == pytest.approx([0.95, 1 - 0.05 / 3, 0.975])
    # 0.03 > 0.05/2 fails and keeps the rate for 0.04, which alone would have passed
    assert levels([0.04, 0.03]) == pytest.approx([0.975, 0.975])
    assert levels([0.01]) == [0.95]


@given(st.lists(st.floats(-6, 6).map(lambda x: round(x, 2)), min_size=1, max_size=6))
def test_an_interval_leaves_zero_out_where_holm_rejects(values):
    family = [replace(KNOWN, value=value) for value in values]
    rejected = slow_holm_rejects([estimate.p_off() or 0 for estimate in family], 0.05)
    found = corrected(family)
    assert [word(interval) in ("better", "worse") for interval in found] == rejected


@given(st.lists(st.floats(-11, 6).map(lambda x: round(x, 2)), min_size=1, max_size=6))
def test_rows_that_reach_others_are_told_by_holms_test_of_the_margin(values):
    family = [replace(KNOWN, value=value) for value in values]
    rejected = slow_holm_rejects([estimate.p_off(-5) or 0 for estimate in family], 0.05)
    found = corrected(family, bound=-5)
    assert [reach(interval) != "undecided" for interval in found] == rejected


def test_one_difference_alone_needs_no_correction_and_one_seed_is_no_test():
    one_seed = replace(KNOWN, seeds=1, over_seeds=None)
    assert corrected([KNOWN]) == [KNOWN.interval(0.95)]
    assert corrected([one_seed, KNOWN, one_seed]) == [None, KNOWN.interval(0.95), None]
    assert corrected([KNOWN, replace(KNOWN, value=0.1)])[0] == KNOWN.interval(0.975)
    assert corrected([]) == []


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.1, 9.0), "better"),
        ((0.1, 0.2), "better"),
        ((-9.0, -0.1), "worse"),
        ((-4.9, 4.9), "equivalent"),
        ((0.0, 0.0), "equivalent"),
        ((-5.1, 1.0), "undecided"),
        ((-1.0, 5.0), "undecided"),
        (None, "undecided"),
    ],
)
def test_the_word_of_an_interval(interval, expected):
    assert word(interval) == expected


def test_equivalence_is_two_one_sided_tests():
    for value in np.linspace(-5, 5, 41):
        estimate = replace(KNOWN, value=float(value))
        low, high = estimate.interval(0.9) or (0, 0)
        assert (low > -5 and high < 5) == (p_within(estimate, 5) < 0.05)
    assert word(replace(KNOWN, value=0.5).interval()) == "equivalent"
    assert word(replace(KNOWN, value=0.5).interval(), margin=2) == "undecided"


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((-4.9, -1.0), "reaches"),
        ((1.0, 2.0), "reaches"),
        ((-5.0, 3.0), "undecided"),
        ((-9.0, -5.1), "falls short"),
        ((-9.0, -4.0), "undecided"),
        (None, "undecided"),
    ],
)
def test_the_word_of_a_row_that_should_reach_another(interval, expected):
    assert reach(interval) == expected


def test_the_detectable_difference_is_found_at_its_power():
    for level, power in ((0.95, 0.8), (0.99, 0.5)):
        found = detectable(KNOWN, level, power)
        limit = stats.t.ppf((1 + level) / 2, KNOWN.freedom)
        assert found == pytest.approx(
            optimize.brentq(lambda nc, t=limit, p=power: stats.nct.sf(t, KNOWN.freedom, nc) - p, 0.1, 20), rel=1e-4
        )


def test_the_detectable_difference_of_five_seeds_as_in_power_tables():
    alone = Estimate(0.0, 5, 101, 1 / 5, 0.0, 0.5)  # standard deviation 1 over five seeds
    assert detectable(alone) == pytest.approx(1.68, abs=0.005)
    assert detectable(replace(alone, over_seeds=None, seeds=1)) is None
    assert detectable(replace(alone, over_seeds=0.0)) == 0
    many = Estimate(0.0, 5, 10**6, 0.0, 1.0, 0.5)
    assert detectable(many) == pytest.approx(1.96 + 0.8416, abs=1e-3)  # normal


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.5, 1.25), "confirmed"),
        ((0.5, 1.26), "undecided"),
        ((1.25, 1.3), "undecided"),
        ((1.26, 1.3), "refuted"),
        (None, "undecided"),
    ],
)
def test_a_ratio_is_below_a_limit_by_its_whole_interval(interval, verdict):
    assert below(interval, 1.25) == verdict


def test_every_word_says_something_of_a_claim():
    assert CLAIM.keys() == {*get_args(Word), *get_args(Reach)}
