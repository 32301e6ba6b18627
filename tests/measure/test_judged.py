"""Agreement with people against scipy and by hand; what is found of all that they call right against a slow twin."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from harness.measure.judged import _taus, above, agreement, comparisons, found, plain_agreement, right

RNG = np.random.default_rng(0)
P = 211


def tau(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.array(kendalltau(x, y), float)[0])


def made(levels: int, groups: int = 13) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, some of them equal, what people said, and groups."""
    group = np.concatenate([np.arange(groups), RNG.integers(groups, size=P - groups)])
    return RNG.integers(levels, size=P) / 7, RNG.integers(3, 8, size=P), group


def test_tau_by_hand():
    """Of three pairs of pairs, two in the same order and one in the other: (2 - 1) / 3."""
    found = agreement(np.array([[0.1, 0.2, 0.3]]), np.array([3, 9, 6]), np.array([5, 5, 8]))
    assert found.over_all.value == pytest.approx(1 / 3)
    assert found.within.value == pytest.approx(1)  # the two of query 5
    assert (found.pairs, found.queries, found.defined) == (3, 2, 1)


@pytest.mark.parametrize("levels", [3, 50, 10**6])
def test_tau_over_all_is_that_of_scipy(levels):
    scores, said, group = made(levels)
    found = agreement(scores[None], said, group, resamples=20)
    assert found.over_all.value == pytest.approx(tau(scores, said))
    assert plain_agreement(scores[None], said) == pytest.approx(tau(scores, said))


@pytest.mark.parametrize("levels", [3, 50, 10**6])
def test_tau_of_a_sample_of_queries_is_that_of_their_pairs_repeated(levels):
    scores, said, group = made(levels)
    told = comparisons(scores, said, group, 13)
    weights = np.array([np.ones(13), RNG.integers(3, size=13), np.eye(13)[4] * 2, np.arange(13) % 2])
    for weight, value in zip(weights, _taus(told, weights), strict=True):
        drawn = np.repeat(np.arange(P), weight[group].astype(int))
        assert value == pytest.approx(tau(scores[drawn], said[drawn]))


def test_tau_within_queries_is_the_mean_of_those_that_have_one():
    scores, said, group = made(50)
    said[group == 3] = 5  # people tell nothing apart there
    each = [tau(scores[group == g], said[group == g]) for g in range(13) if g != 3]
    found = agreement(scores[None], said, group, resamples=20)
    assert found.within.value == pytest.approx(np.mean(each))
    assert (found.queries, found.defined) == (13, 12)


def test_the_interval_is_that_of_queries_drawn_one_by_one():
    scores, said, group = made(50)
    rng, values = np.random.default_rng(1), []
    for _ in range(2000):
        drawn = np.concatenate([np.flatnonzero(group == g) for g in rng.integers(13, size=13)])
        values.append(tau(scores[drawn], said[drawn]))
    found = agreement(scores[None], said, group, resamples=4000)
    assert found.over_all.interval == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])), abs=0.02)
    again = agreement(scores[None], said, group, resamples=4000)
    assert again == found
    assert found.within.interval is not None
    assert found.within.interval[0] < found.within.value < found.within.interval[1]


def test_of_several_seeds_it_is_the_mean():
    scores, said, group = made(50)
    other = RNG.permutation(scores)
    both = agreement(np.stack([scores, other]), said, group, resamples=50)
    assert both.over_all.value == pytest.approx((tau(scores, said) + tau(other, said)) / 2)
    twice = agreement(np.stack([scores, scores]), said, group, resamples=50)
    once = agreement(scores[None], said, group, resamples=50)
    assert twice.over_all.interval == pytest.approx(once.over_all.interval)


def test_where_all_tie_there_is_none():
    found = agreement(np.zeros((1, 5)), np.arange(5), np.array([0, 0, 1, 1, 1]))
    assert (found.over_all.value, found.within.value, found.over_all.interval) == (None, None, None)
    assert plain_agreement(np.zeros((1, 5)), np.arange(5)) is None
    assert plain_agreement(np.zeros((1, 0)), np.zeros(0)) is None


def test_what_people_call_right():
    own = np.array([True, False, False, False, False, False])
    experts, yes, votes = np.array([[0, 8, 9, 0, 0, 0], [0, 0, 0, 1, 2, 0], [0, 0, 0, 3, 3, 0]])
    assert right(own, experts, yes, votes).tolist() == [True, False, True, False, True, False]


def test_how_many_others_score_at_least_as_high_is_that_of_a_slow_twin():
    scores = RNG.integers(5, size=(7, 11)).astype(np.float32)
    images, captions = np.divmod(RNG.permutation(77)[:31], 11)
    i2t, t2i = above(scores, images, captions)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        own = scores[image, caption]
        assert i2t[place] == sum(scores[image, c] >= own for c in range(11) if c != caption)
        assert t2i[place] == sum(scores[i, caption] >= own for i in range(7) if i != image)


def slow(scores: dict[int, float], good: set[int]) -> tuple[float, float, int]:
    """Average precision and R-Precision at R, place of the first right one; ties: wrong ones first."""
    order = sorted(scores, key=lambda item: (-scores[item], item in good))
    hits = [place for place, item in enumerate(order) if item in good]
    size = len(hits)
    precision = sum((n + 1) / (place + 1) for n, place in enumerate(hits) if place < size)
    return precision / size, sum(place < size for place in hits) / size, hits[0]


def test_what_is_found_is_that_of_a_slow_twin_both_ways():
    """7 images, 11 captions; each caption's pairs with images: own, or judged; a query without a judged one is none."""
    matrix = RNG.integers(4, size=(7, 11)).astype(np.float32)
    owner = np.sort(np.concatenate([np.arange(7), RNG.integers(7, size=4)]))
    judged = (RNG.random((7, 11)) < 0.4) & (np.arange(7)[:, None] != owner)
    judged[:, 5] = False
    good = (judged & (RNG.random((7, 11)) < 0.5)) | (np.arange(7)[:, None] == owner)
    images, captions = np.nonzero(judged | (np.arange(7)[:, None] == owner))
    i2t, t2i = above(matrix, images, captions)
    pairs = matrix[images, captions], good[images, captions], judged[images, captions]
    for query, item, higher, table, truth, known in (
        (captions, images, t2i, matrix.T, good.T, judged.T),
        (images, captions, i2t, matrix, good, judged),
    ):
        asked = [q for q in range(len(table)) if known[q].any()]
        for whole in (False, True):
            answers = found(*pairs, query, higher if whole else None)
            assert answers is not None
            assert len(answers.rank) == len(asked) < len(table) + (query is images)
            for place, q in enumerate(asked):
                ranked = range(len(table[q])) if whole else item[query == q].tolist()
                expected = slow({i: float(table[q, i]) for i in ranked}, set(np.flatnonzero(truth[q]).tolist()))
                mine = answers.average_precision[place], answers.r_precision[place], answers.rank[place]
                assert mine == pytest.approx(expected)


def test_what_nobody_judged_is_left_out_or_wrong_by_hand():
    """Seven images of a caption: its own 0.9, judged right 0.5, judged wrong 0.7; of four others one has 0.95, one 0.6.

    Among the judged the right ones are first and third of R = 2: AP = 1/2.  In the whole gallery they are second and
    fifth: AP = 1/2 / 2.
    """
    scores = np.array([0.9, 0.5, 0.7])
    good, asked, query = np.array([True, True, False]), np.array([False, True, True]), np.zeros(3, int)
    among = found(scores, good, asked, query)
    whole = found(scores, good, asked, query, above=np.array([1, 4, 2]))
    assert among is not None
    assert whole is not None
    assert among.summary() == {"map_at_r": 50, "r_precision": 50, "r1": 100, "r5": 100, "r10": 100}
    assert whole.summary() == {"map_at_r": 25, "r_precision": 50, "r1": 0, "r5": 100, "r10": 100}
    assert found(scores, good, np.zeros(3, bool), query) is None
