"""A table of anchor words: equal to a plain loop, off by no more than the words are from their anchors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.measure import anchors
from harness.measure.anchors import STEPS, Table, best_products, centres

MASK = torch.arange(5) < torch.tensor([[5], [1], [3], [2], [4], [5], [1]])


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=-1, keepdim=True)


def filled(words: torch.Tensor, regions: torch.Tensor, mask: torch.Tensor = MASK) -> Table:
    table = Table(words.numpy(), len(regions))
    for rows in (slice(0, 3), slice(3, len(regions))):
        table.fill(rows, regions[rows], mask[rows])
    return table


def added(best: torch.Tensor) -> torch.Tensor:
    return best.sum(0)


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_best_products_are_those_of_a_plain_loop(seed):
    words, regions = unit(3, 11, seed=seed), unit(7, 5, 11, seed=seed + 1)
    regions[~MASK] = 1e6  # rubbish
    slow = [[max(float(w @ r) for r in own[real]) for own, real in zip(regions, MASK, strict=True)] for w in words]
    torch.testing.assert_close(best_products(words, regions, MASK), torch.tensor(slow))


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_no_product_is_off_by_more_than_a_word_from_its_anchor(seed):
    centres_, words, regions = unit(13, 11, seed=seed), unit(3, 11, seed=seed + 1), unit(7, 5, 11, seed=seed + 2)
    table = filled(centres_, regions)
    exact = best_products(words, regions, MASK)
    apart = (2 - 2 * (words @ centres_.T).amax(1)).clamp(min=0).sqrt()  # |word - nearest anchor|
    for row in range(3):
        found = table.scores(words[row : row + 1], added)
        assert ((found - exact[row]).abs() <= apart[row] + 0.5 / STEPS + 1e-5).all()


def test_words_that_are_anchors_are_scored_to_half_a_byte(monkeypatch):
    monkeypatch.setattr(anchors, "COLUMNS", 3)
    monkeypatch.setattr(anchors, "IMAGES", 2)
    words, regions = unit(3, 11), unit(7, 5, 11, seed=1)
    table = filled(words, regions)
    exact = best_products(words, regions, MASK).sum(0)
    assert (table.scores(words[[2, 0, 1]], added) - exact).abs().max() <= 3 * 0.5 / STEPS + 1e-6
    assert table.nbytes == 3 * 7 + 4 * 3 * 11


def test_by_hand():
    axes = torch.eye(2)
    table = filled(axes, axes[None, :, :].expand(4, 2, 2), torch.tensor([[True, True], [True, False]] * 2))
    assert table.best.tolist() == [[127, 127, 127, 127], [127, 0, 127, 0]]
    assert table.scores(torch.tensor([[0.6, 0.8]]), added).tolist() == [1.0, 0.0, 1.0, 0.0]  # nearest: the second


def test_centres_are_unit_and_no_more_than_words():
    faiss = pytest.importorskip("faiss")
    words = unit(300, 11).numpy()
    found = centres(faiss, words, 17)
    assert found.shape == (17, 11)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found, centres(faiss, words, 17))
    assert len(centres(faiss, words[:5], 17)) == 5


def test_anchors_that_are_none_are_refused():
    with pytest.raises(ValueError, match="anchors are"):
        Table(np.empty((0, 11), np.float32), 7)
