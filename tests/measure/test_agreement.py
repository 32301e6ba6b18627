"""Two orders of the same things: Kendall's tau by counting pairs, and nothing said of too few."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from harness.measure.agreement import LEAST, MOST, Agreement, agreement, by_family


def slow_tau(a: list[int], b: list[int]) -> float:
    """(concordant - discordant) / sqrt of the pairs that do not tie in a, times those that do not in b."""
    signs = [((a[i] > a[j]) - (a[i] < a[j]), (b[i] > b[j]) - (b[i] < b[j])) for i, j in combinations(range(len(a)), 2)]
    return sum(x * y for x, y in signs) / (sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs)) ** 0.5


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=11))
def test_tau_counts_pairs(pairs):
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    found = agreement(a, b)
    assert found.n == len(pairs)
    if len(pairs) < LEAST or len(set(a)) == 1 or len(set(b)) == 1:
        assert (found.tau, found.p) == (None, None)
        return
    assert found.tau == pytest.approx(slow_tau(a, b), abs=1e-12)
    assert found.p is not None
    assert 0 <= found.p <= 1


@given(st.integers(3, 45).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 3 * n), min_size=n, max_size=n)] * 2)))
def test_tau_and_p_are_those_of_scipy(sides):
    a, b = sides
    if len(set(a)) > 1 and len(set(b)) > 1:
        expected = kendalltau(a, b)
        assert (agreement(a, b).tau, agreement(a, b).p) == (
            pytest.approx(expected.statistic, abs=1e-12),
            pytest.approx(expected.pvalue, abs=1e-12),
        )


@pytest.mark.parametrize("n", [LEAST, 12, MOST, MOST + 1])
def test_p_without_ties_is_that_of_scipy(n):
    a, b = list(range(n)), [(7 * i) % 59 for i in range(n)]
    assert agreement(a, b).p == pytest.approx(kendalltau(a, b).pvalue, abs=1e-12)


def test_p_by_hand():
    # of the 24 orders of four things one is the same and one the reverse: 2 of 24 are as far from 0
    same = agreement([1, 2, 3, 4], [10, 20, 30, 40])
    assert (same.tau, same.p) == (1, pytest.approx(2 / 24))
    assert agreement([1, 2, 3, 4], [40, 30, 20, 10]).tau == -1


def test_families_apart_and_things_without_both_measures_left_out():
    a = {"a": 1, "b": 2, "c": 3, "x": 4, "y": 5, "only here": 6}
    b = {"y": 1, "x": 2, "c": 9, "b": 8, "a": 7, "only there": 0}
    families = {name: "letters" if name in "abc" else "others" for name in a}
    found = by_family(a, b, families)
    assert list(found) == ["all", "letters", "others"]
    assert found["letters"] == Agreement(3, 1.0, pytest.approx(1 / 3))
    assert found["others"] == Agreement(2, None, None)
    assert found["all"].n == 5
    assert found["all"].tau == pytest.approx(slow_tau([1, 2, 3, 4, 5], [7, 8, 9, 2, 1]))


def test_lengths_that_differ():
    with pytest.raises(ValueError, match="2 values of one measure, 3 of the other"):
        agreement([1, 2], [1, 2, 3])
