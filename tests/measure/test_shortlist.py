"""Two stages against the slow and obvious way: every pair looked at, then cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.measure import metrics
from harness.measure.shortlist import both_ways, searched
from harness.protocol import Encoded, Staged

IMAGES, CAPTIONS = 5, 11
OWNERS = np.array([0, 0, 1, 1, 1, 2, 3, 3, 4, 4, 4])


class Tables(Staged):
    """Scores that are written down: an item is its number."""

    def __init__(self, quick, close, shortlist):
        super().__init__()
        self.quick, self.close, self.shortlist, self.looked = quick, close, shortlist, []

    def encode_images(self, images):
        raise NotImplementedError

    def encode_texts(self, texts):
        raise NotImplementedError

    def first(self, images, texts):
        return self.quick[images.extras["n"]][:, texts.extras["n"]]

    def pairs(self, images, texts):
        self.looked += list(zip(images.extras["n"].tolist(), texts.extras["n"].tolist(), strict=True))
        return self.close[images.extras["n"], texts.extras["n"]]


def numbered(count):
    return Encoded(extras={"n": torch.arange(count)})


def tables(shortlist, levels=1000, seed=0):
    draw = torch.Generator().manual_seed(seed)
    quick, close = (torch.randint(levels, (IMAGES, CAPTIONS), generator=draw).float() for _ in "ab")
    return Tables(quick, close, shortlist)


def found(model, keep=IMAGES):
    return both_ways(model, numbered(IMAGES), numbered(CAPTIONS), model.quick.numpy(), OWNERS, keep)


def slow(quick, close, right, k):
    """Ranks of one direction.  quick, close, right: (Q, G)."""
    ranks = []
    for q in range(len(quick)):
        order = sorted(range(quick.shape[1]), key=lambda g: (-quick[q, g], right[q, g], g))
        front = sorted(order[:k], key=lambda g: (-close[q, g], right[q, g]))
        ranks.append(next(place for place, g in enumerate([*front, *order[k:]]) if right[q, g]))
    return ranks


@pytest.mark.parametrize("levels", [1000, 3])  # without and with ties
@pytest.mark.parametrize("shortlist", [(1, 1), (3, 2), (7, 3), (CAPTIONS, IMAGES)])
def test_each_direction_has_its_own_shortlist(shortlist, levels):
    right = np.arange(IMAGES)[:, None] == OWNERS
    for seed in range(5):
        model = tables(shortlist, levels, seed)
        i2t, t2i = found(model)
        quick, close = model.quick.numpy(), model.close.numpy()
        assert i2t.ranks.tolist() == slow(quick, close, right, shortlist[0])
        assert t2i.ranks.tolist() == slow(quick.T, close.T, right.T, shortlist[1])
        assert len(model.looked) == IMAGES * shortlist[0] + CAPTIONS * shortlist[1]


def test_with_everything_on_the_list_it_is_the_second_score_alone():
    model = tables((CAPTIONS, IMAGES))
    i2t, t2i = found(model)
    whole = model.similarity(numbered(IMAGES), numbered(CAPTIONS))
    torch.testing.assert_close(whole, model.close)
    expected = metrics.ranks(whole.numpy(), OWNERS)
    np.testing.assert_array_equal(i2t.ranks, expected[0])
    np.testing.assert_array_equal(t2i.ranks, expected[1])
    np.testing.assert_array_equal(t2i.top, metrics.top(whole.numpy(), IMAGES, axis=0))
    assert (i2t.ceiling(CAPTIONS), t2i.ceiling(IMAGES)) == (100, 100)


def test_the_ceiling_is_what_the_first_stage_finds():
    model = tables((2, 1))
    i2t, t2i = found(model)
    quick = metrics.ranks(model.quick.numpy(), OWNERS)
    assert i2t.ceiling(2) == metrics.recall_at(quick[0], 2) < 100
    assert t2i.ceiling(1) == metrics.recall_at(quick[1], 1) == metrics.recall_at(t2i.ranks, 1)


def test_a_tie_counts_against_the_model_and_is_counted():
    model = tables((CAPTIONS, IMAGES))
    model.close = torch.zeros(IMAGES, CAPTIONS)
    i2t, t2i = found(model)
    assert i2t.ranks.tolist() == [CAPTIONS - n for n in np.bincount(OWNERS)]
    assert t2i.ranks.tolist() == [IMAGES - 1] * CAPTIONS
    assert i2t.tied.all()
    assert t2i.tied.all()


def test_a_search_has_the_order_of_both_stages():
    model = tables((3, 2))
    scores = searched(model, numbered(IMAGES), numbered(CAPTIONS), model.quick.numpy())
    np.testing.assert_array_equal(metrics.top(scores, IMAGES, axis=0), found(model)[1].top)


def test_a_score_that_is_not_finite_is_refused():
    model = tables((3, 2))
    model.close[:] = torch.nan
    with pytest.raises(ValueError, match="Tables: 15 of 15 scores of the second stage are not finite"):
        found(model)
