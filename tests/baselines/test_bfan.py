"""BFAN: what it keeps of an attention, and what its scores mean."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from baselines.interactive.bfan import BFAN, Options, build, kept
from harness.protocol import Encoded
from tests import fragment_checks, three_pairs
from tests.three_pairs import INPUTS, batch, each_alone, mask_of


def encoded(options: Options, width: int = 7) -> tuple[BFAN, Encoded, Encoded]:
    """An untrained model, and the three pairs as it encodes them."""
    torch.manual_seed(0)
    model = BFAN(INPUTS, options)
    return model, *three_pairs.encoded(model, batch(width))


EVERY_WAY = [Options("equal"), Options("prob"), Options("prob", lam=3.0)]


def slow_kept(p: list[float], focus: str) -> list[bool]:
    """By the difference to every other weight, one by one; a difference of 1e-5 of the whole is none."""
    share = [1.0 if focus == "equal" else other**0.5 for other in p]
    advantage = [sum((own - other) * g for other, g in zip(p, share, strict=True)) for own in p]
    keep = [a > 1e-5 * sum(other * g for other, g in zip(p, share, strict=True)) for a in advantage]
    return keep if any(keep) else [True] * len(p)


def slow_weights(context: Tensor, queries: Tensor, lam: float) -> Tensor:
    """(C, Q), one pair: rows over the queries made unit length, then a softmax over the context."""
    clipped = F.leaky_relu(context @ queries.T, 0.1)
    return (lam * clipped / (clipped.norm(dim=1, keepdim=True) + 1e-8)).softmax(0)


def slow_direction(context: Tensor, queries: Tensor, options: Options) -> float:
    cosines = []
    for query, p in zip(queries, slow_weights(context, queries, options.lam).T, strict=True):
        focused = p * torch.tensor(slow_kept(p.tolist(), options.focus))
        attended = (focused / focused.sum()) @ context
        cosines.append(F.cosine_similarity(query, attended, dim=0).item())
    return sum(cosines) / len(cosines)


def slow_score(regions: Tensor, words: Tensor, options: Options) -> float:
    return slow_direction(regions, words, options) + slow_direction(words, regions, options)


def column(*weights: float) -> Tensor:
    """(1, C, 1, 1), the weights of one query."""
    return torch.tensor(weights)[None, :, None, None]


def test_equal_keeps_what_is_above_the_average():
    assert kept(column(0.5, 0.3, 0.1, 0.1), "equal").flatten().tolist() == [True, True, False, False]


def test_prob_lets_large_weights_count_for_more():
    weights = column(0.6, 0.29, 0.06, 0.05)  # 0.29 is above 0.25, the plain mean, and below 0.41, the weighted one
    assert kept(weights, "equal").flatten().tolist() == [True, True, False, False]
    assert kept(weights, "prob").flatten().tolist() == [True, False, False, False]


@pytest.mark.parametrize("focus", ["equal", "prob"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_equal_weights_are_all_kept(focus, size):
    assert kept(torch.full((2, size, 3, 1), 1 / size), focus).all()


def test_padding_does_not_lower_the_average():
    weights = column(0.45, 0.55, 0.0, 0.0, 0.0)
    keep = kept(weights, "equal", mask_of([2], 5))
    assert keep.flatten().tolist() == [False, True, False, False, False]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=7), st.sampled_from(["equal", "prob"]))
def test_kept_is_the_comparison_with_every_other_weight(raw, focus):
    p = torch.tensor(raw, dtype=torch.float64) / sum(raw)
    weight = torch.ones_like(p) if focus == "equal" else p.sqrt()
    mean = (weight * p).sum() / weight.sum()
    assume(((p / mean - 1 - 1e-5).abs() > 1e-9).all())  # a step at its edge may fall either way
    assert kept(p[None, :, None, None], focus).flatten().tolist() == slow_kept(p.tolist(), focus)


@pytest.mark.parametrize("focus", ["equal", "prob"])
def test_weights_that_differ_by_rounding_alone_are_all_kept(focus):
    assert kept(column(0.25, 0.25 + 3e-8, 0.25 - 3e-8, 0.25), focus).all()


def test_a_pair_that_agrees_scores_two():
    first, second, third = torch.eye(3)
    images = Encoded(contextual=torch.stack([first, second])[None], mask=torch.ones(1, 2, dtype=torch.bool))
    texts = Encoded(
        contextual=torch.stack([images.contextual[0], torch.stack([third, third])]), mask=mask_of([2, 2], 2)
    )
    scores = BFAN(INPUTS, Options()).similarity(images, texts)
    torch.testing.assert_close(scores, torch.tensor([[2.0, 0.0]]))


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_every_pair_scores_as_it_does_alone(options):
    model, images, texts = encoded(options)
    scores = model.similarity(images, texts)
    torch.testing.assert_close(scores, each_alone(images, texts, slow_score, options))


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_blocks_equal_the_whole(options):
    fragment_checks.blocks_equal_the_whole(*encoded(options))


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
@pytest.mark.parametrize("rubbish", [1e6, torch.nan])
def test_padding_neither_matters_nor_learns(options, rubbish):
    fragment_checks.padding_neither_matters_nor_learns(lambda width: encoded(options, width=width), rubbish)


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_gradients_reach_every_parameter(options):
    torch.manual_seed(0)
    fragment_checks.gradients_reach_every_parameter(build(INPUTS, options), batch())


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_a_batch_of_one_word_and_one_region_is_finite(options):
    fragment_checks.one_word_and_one_region_are_finite(build(INPUTS, options))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"focus": "both"}, r"focus='both'.*equal, prob"), ({"lam": 0.0}, "lam=0.0 must be above 0")],
)
def test_impossible_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Options(**changes)
