"""Ranks and recalls against twins that sort one query at a time, and against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.measure import metrics


def slow_rank(scores: list[float], positive: list[bool]) -> int:
    """Place of the first positive once all are sorted, negatives ahead of positives of equal score."""
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], positive[item]))
    return next(place for place, item in enumerate(order) if positive[item])


def slow_ranks(scores: np.ndarray, owner: np.ndarray) -> tuple[list[int], list[int], int]:
    images, captions = scores.shape
    i2t = [slow_rank(list(scores[i]), [owner[c] == i for c in range(captions)]) for i in range(images)]
    t2i = [slow_rank(list(scores[:, c]), [i == owner[c] for i in range(images)]) for c in range(captions)]
    tied = sum(max(scores[i][owner == i]) in scores[i][owner != i] for i in range(images))
    tied += sum(scores[owner[c], c] in np.delete(scores[:, c], owner[c]) for c in range(captions))
    return i2t, t2i, tied


@st.composite
def galleries(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores of few levels, so that many tie, and 1 to 3 captions an image."""
    owner = np.repeat(
        np.arange(n := draw(st.integers(1, 7))), draw(st.lists(st.integers(1, 3), min_size=n, max_size=n))
    )
    levels = draw(st.lists(st.integers(0, 3), min_size=n * len(owner), max_size=n * len(owner)))
    return np.array(levels, np.float32).reshape(n, len(owner)), owner


@given(galleries(), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_ranks_equal_those_of_sorting_whatever_the_blocks(gallery, block_rows):
    scores, owner = gallery
    i2t, t2i, tied = metrics.ranks(scores, owner, block_rows)
    assert (i2t.tolist(), t2i.tolist(), tied) == slow_ranks(scores, owner)


@given(galleries())
@settings(max_examples=30, deadline=None)
def test_raising_a_positive_never_lowers_it(gallery):
    scores, owner = gallery
    raised = scores.copy()
    raised[owner, np.arange(len(owner))] += 1
    assert all(
        (after <= before).all()
        for before, after in zip(metrics.ranks(scores, owner)[:2], metrics.ranks(raised, owner)[:2], strict=True)
    )


def test_ranks_by_hand():
    owner = np.array([0, 0, 1])
    scores = np.array([[0.1, 0.9, 0.5], [0.2, 0.9, 0.5]])
    i2t, t2i, tied = metrics.ranks(scores, owner)
    assert i2t.tolist() == [0, 1]  # image 0: its second caption leads; image 1: caption 1 is ahead
    assert t2i.tolist() == [1, 1, 1]  # captions 1 and 2 tie with the other image, which counts as ahead
    assert tied == 2


@pytest.mark.parametrize("value", [0.0, 1.0, -7.5])
def test_a_constant_scorer_is_never_above_chance(value):
    images, owner = 13, np.repeat(np.arange(13), 3)
    found = metrics.summary(*metrics.ranks(np.full((images, len(owner)), value), owner)[:2])
    chance = {1: 100 / 13, 5: 500 / 13, 10: 1000 / 13}
    assert all(found[f"{way}_r{k}"] <= chance[k] for way in ("i2t", "t2i") for k in chance)
    assert found["rsum"] == 0  # every negative is ahead


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_raises(bad):
    scores = np.zeros((3, 5))
    scores[2, 1] = bad
    with pytest.raises(ValueError, match=r"1 of 5 scores of images 2 to 3 are not finite"):
        metrics.ranks(scores, np.array([0, 0, 1, 1, 2]), block_rows=1)


def test_recalls_and_places_by_hand():
    i2t, t2i = np.array([0, 4, 5]), np.array([0, 0, 1, 9, 10])
    found = metrics.summary(i2t, t2i)
    assert [found[f"i2t_r{k}"] for k in (1, 5, 10)] == pytest.approx([100 / 3, 200 / 3, 100])
    assert [found[f"t2i_r{k}"] for k in (1, 5, 10)] == [40, 60, 80]
    assert found["rsum"] == pytest.approx(200 + 180)
    assert (found["i2t_medr"], found["t2i_medr"]) == (5, 2)
    assert (found["i2t_meanr"], found["t2i_meanr"]) == (4, 5)


def test_an_even_median_is_floored_as_published():
    assert metrics.median_rank(np.array([0, 1])) == 1
    assert metrics.median_rank(np.array([0, 2])) == 2


def test_folds_weigh_the_same_whatever_their_size():
    i2t, fold_of_image = np.array([0, 7, 7, 7]), np.array([0, 1, 1, 1])
    t2i, fold_of_caption = np.array([0, 0, 3]), np.array([0, 1, 1])
    found = metrics.fold_summary(i2t, t2i, fold_of_image, fold_of_caption)
    assert (found["i2t_r1"], found["t2i_r1"]) == (50, 75)
    assert found["i2t_medr"] == (1 + 8) / 2


@given(galleries(), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_top_lists_the_highest_scores_best_first(gallery, k):
    scores, _ = gallery
    for axis, by_query in ((1, scores), (0, scores.T)):
        found = metrics.top(scores, k, axis)
        expected = np.sort(by_query, axis=1)[:, ::-1][:, :k]
        assert np.take_along_axis(by_query, found, 1).tolist() == expected.tolist()
        assert all(len(set(row)) == len(row) for row in found.tolist())
