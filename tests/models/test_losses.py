"""The hinge, and the similarity of embeddings it is fed with."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.protocol import Encoded
from models.losses import hinge, other_image
from models.retrievers import inner_product


def slow_hinge(scores, margin, hardest, impostors):
    count, total = len(scores), 0.0
    for i in range(count):
        wrong = [j for j in range(count) if j != i and impostors[i][j]]
        captions = [max(0.0, margin + scores[i][j] - scores[i][i]) for j in wrong]
        images = [max(0.0, margin + scores[j][i] - scores[i][i]) for j in wrong]
        for costs in (captions, images):
            total += (max(costs, default=0.0)) if hardest else sum(costs)
    return total


def test_two_pairs_by_hand():
    scores = torch.tensor([[0.5, 0.4], [0.6, 0.9]])
    # image 0: 0.2 + 0.4 - 0.5 = 0.1; image 1: 0; caption 0: 0.2 + 0.6 - 0.5 = 0.3; caption 1: 0
    assert float(hinge(scores)) == pytest.approx(0.4)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 7), st.integers(0, 2**31), st.floats(0, 2), st.booleans(), st.integers(1, 7))
def test_the_hinge_equals_its_slow_twin(count, seed, margin, hardest, images):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(count, count, generator=generator, dtype=torch.float64)
    impostors = other_image(torch.randint(images, (count,), generator=generator))
    expected = slow_hinge(scores.tolist(), margin, hardest, impostors.tolist())
    assert float(hinge(scores, margin, hardest, impostors)) == pytest.approx(expected, abs=1e-5)


def test_pairs_of_one_image_need_not_be_negatives():
    assert other_image(torch.tensor([4, 7, 4])).tolist() == [
        [False, True, False],
        [True, False, True],
        [False, True, False],
    ]
    same = torch.zeros(2, 2, dtype=torch.bool)
    assert float(hinge(torch.tensor([[0.0, 9.0], [9.0, 0.0]]), impostors=same)) == 0


def test_a_single_pair_costs_nothing():
    assert float(hinge(torch.tensor([[-3.0]]))) == 0


def test_a_block_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match=r"square.*\(2, 3\)"):
        hinge(torch.zeros(2, 3))


def test_scores_are_inner_products_the_best_view_and_the_shared_block():
    texts = Encoded(embedding=torch.tensor([[1.0, 0.0], [0.0, 1.0]]), shared=torch.tensor([[1.0], [2.0]]))
    one = Encoded(embedding=torch.tensor([[3.0, 4.0]]))
    assert inner_product(one, texts).tolist() == [[3.0, 4.0]]
    views = Encoded(embedding=torch.tensor([[[3.0, 4.0], [5.0, 1.0]]]), shared=torch.tensor([[10.0]]))
    assert inner_product(views, texts).tolist() == [[5.0 + 10.0, 4.0 + 20.0]]


def test_a_side_without_embedding_is_refused():
    with pytest.raises(ValueError, match="embedding"):
        inner_product(Encoded(), Encoded(embedding=torch.ones(1, 2)))
