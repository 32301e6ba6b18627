"""A-SDM: by hand, against a slow twin, by its gradients, and against the slips one would make."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.protocol import Encoded, ImageBatch, PairBatch, TextBatch
from models.lessons import Seen
from models.losses import other_image
from models.modules.a_sdm import ASDM, FLOOR_OF_MATCHES, Options, sdm


def slow_sdm(scores, matches, temperature, adaptive):
    total = 0.0
    for row, right in zip(scores, matches, strict=True):
        scale = sum(math.exp((s - max(row)) / temperature) for s in row)
        found = [math.exp((s - max(row)) / temperature) / scale for s in row]
        wanted = [(1 / sum(right) if r else 0.0) + FLOOR_OF_MATCHES for r in right]
        divergence = sum(p * math.log(p / q) for p, q in zip(found, wanted, strict=True) if p > 0)
        best_right = max(s for s, r in zip(row, right, strict=True) if r)
        total += divergence * (1 + adaptive * max(0.0, max(row) - best_right))
    return total / len(scores)


def case(count, seed, images):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(count, count, generator=generator, dtype=torch.float64) * 2 - 1
    return scores, ~other_image(torch.randint(images, (count,), generator=generator))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 7), st.integers(0, 2**31), st.integers(1, 7), st.floats(0, 2), st.floats(0.02, 2))
def test_it_equals_its_slow_twin(count, seed, images, adaptive, temperature):
    scores, matches = case(count, seed, images)
    expected = slow_sdm(scores.tolist(), matches.tolist(), temperature, adaptive)
    assert float(sdm(scores, matches, temperature, adaptive)) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_two_pairs_by_hand():
    """Equal scores: half the mass lies on a wrong item, whose share of the matches is the floor alone."""
    scores, matches = torch.zeros(2, 2, dtype=torch.float64), torch.eye(2, dtype=torch.bool)
    by_hand = 0.5 * math.log(0.5 / (1 + 1e-8)) + 0.5 * math.log(0.5 / 1e-8)
    assert float(sdm(scores, matches, 1.0)) == pytest.approx(by_hand)


def test_sibling_captions_share_the_mass():
    """All of one image: an even row is what is wanted, and costs next to nothing."""
    matches = torch.ones(3, 3, dtype=torch.bool)
    assert float(sdm(torch.zeros(3, 3), matches, 0.5)) == pytest.approx(0, abs=1e-6)


def test_images_of_one_identity_are_matches_where_the_data_tell_it():
    scores, _ = case(3, 0, 3)
    pairs = PairBatch(ImageBatch(), TextBatch(torch.ones(3, 1), torch.ones(3, 1)), torch.arange(3))
    known = replace(pairs, identity_index=torch.tensor([8, 8, 9]))
    matches = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]) == 1
    by_hand = sum(float(sdm(side, matches, 0.02, 0.1)) for side in (scores, scores.T))
    lesson = ASDM(Options())
    found, alone = (float(lesson(Seen(scores, Encoded(), Encoded(), batch))["a-sdm"]) for batch in (known, pairs))
    assert found == pytest.approx(by_hand)
    assert found != pytest.approx(alone)


def test_a_query_weighs_more_the_farther_a_wrong_item_lies_above():
    scores = torch.tensor([[0.2, 0.7], [0.1, 0.9]], dtype=torch.float64)
    matches = torch.eye(2, dtype=torch.bool)
    first, second = (float(sdm(scores[i : i + 1], matches[i : i + 1], 0.5)) for i in range(2))
    weighed = float(sdm(scores, matches, 0.5, adaptive=3.0))
    assert weighed == pytest.approx(((1 + 3.0 * 0.5) * first + second) / 2)  # the gap of row 0 is 0.5, of row 1 none


def test_it_falls_as_the_matching_score_rises():
    scores = torch.tensor([[0.1, 0.3], [0.2, 0.4]], dtype=torch.float64, requires_grad=True)
    sdm(scores, torch.eye(2, dtype=torch.bool), 0.5, 0.1).backward()
    assert (scores.grad.diagonal() < 0).all()
    assert (scores.grad[[0, 1], [1, 0]] > 0).all()


@pytest.mark.parametrize("adaptive", [0.0, 0.7])
def test_its_gradient_is_right(adaptive):
    scores, matches = case(5, 3, 3)
    assert torch.autograd.gradcheck(lambda s: sdm(s, matches, 0.3, adaptive), scores.requires_grad_())


def test_the_weight_may_be_taken_as_given():
    scores, matches = case(5, 3, 5)
    gradients = []
    for through in (True, False):
        leaf = scores.clone().requires_grad_()
        sdm(leaf, matches, 0.3, 2.0, through=through).backward()
        gradients.append(leaf.grad)
    assert not torch.allclose(*gradients)


def test_impossible_options_are_refused():
    for wrong in ({"temperature": 0.0}, {"adaptive": -1.0}, {"weight": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Options(**wrong)
