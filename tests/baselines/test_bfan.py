"""BFAN: what it keeps of an attention, and what its scores mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from baselines.interactive.bfan import BFAN, VARIANTS, Options, build, kept
from harness.jobs import registry
from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, TextBatch

INPUTS = Inputs(image_dim=13, regions=5, vocabulary=17, dim=11, word_dim=7)
REGIONS, WORDS = (5, 1, 3), (2, 7, 1)  # of the three pairs


def mask_of(lengths: Sequence[int], width: int) -> Tensor:
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def batch(width: int = 7) -> PairBatch:
    """Three pairs, one image with a single region and one caption of a single word."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 17, (3, 7), generator=generator)
    words = mask_of(WORDS, 7)
    return PairBatch(
        ImageBatch(torch.randn(3, 5, 13, generator=generator), mask_of(REGIONS, 5)),
        TextBatch(F.pad(tokens * words, (0, width - 7)), F.pad(words, (0, width - 7))),
        image_index=torch.arange(3),
    )


def encoded(options: Options, width: int = 7) -> tuple[BFAN, Encoded, Encoded]:
    """An untrained model, and the three pairs as it encodes them."""
    torch.manual_seed(0)
    model = BFAN(INPUTS, options)
    pairs = batch(width)
    return model, model.encode_images(pairs.images), model.encode_texts(pairs.texts)


def fragments(side: Encoded, item: int) -> Tensor:
    """(n, d), the real ones of an item."""
    return side.contextual[item][side.mask[item]]


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
    slow = [[slow_score(fragments(images, i), fragments(texts, j), options) for j in range(3)] for i in range(3)]
    torch.testing.assert_close(scores, torch.tensor(slow))


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_blocks_equal_the_whole(options):
    model, images, texts = encoded(options)
    whole = model.similarity(images, texts)
    blocks = [model.similarity(images.select(slice(i, i + 2)), texts.select(slice(1, None))) for i in (0, 2)]
    torch.testing.assert_close(torch.cat(blocks), whole[:, 1:])


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
@pytest.mark.parametrize("rubbish", [1e6, torch.nan])
def test_padding_neither_matters_nor_learns(options, rubbish):
    model, images, texts = encoded(options)
    whole = model.similarity(images, texts)
    _, _, wider = encoded(options, width=11)
    torch.testing.assert_close(model.similarity(images, wider), whole)
    spoilt = [s.contextual.detach().masked_fill(~s.mask[..., None], rubbish).requires_grad_() for s in (images, texts)]
    scores = model.similarity(*(replace(s, contextual=c) for s, c in zip((images, texts), spoilt, strict=True)))
    torch.testing.assert_close(scores, whole)
    scores.sum().backward()
    for side, leaf in zip((images, texts), spoilt, strict=True):
        assert leaf.grad.isfinite().all()
        assert not leaf.grad[~side.mask].any()


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_gradients_reach_every_parameter(options):
    torch.manual_seed(0)
    model, pairs = build(INPUTS, options), batch()
    losses = model.losses(model.encode_images(pairs.images), model.encode_texts(pairs.texts), pairs)
    assert list(losses) == ["hinge"]
    losses["hinge"].backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [name for name, g in gradients.items() if g is None or not g.isfinite().all() or not g.any()] == []


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_a_batch_of_one_word_and_one_region_is_finite(options):
    model, one = build(INPUTS, options), torch.ones(1, 1, dtype=torch.bool)
    pair = PairBatch(
        ImageBatch(torch.ones(1, 1, 13), one), TextBatch(one.long(), one), torch.zeros(1, dtype=torch.long)
    )
    images, texts = model.encode_images(pair.images), model.encode_texts(pair.texts)
    assert model.similarity(images, texts).isfinite().all()
    model.losses(images, texts, pair)["hinge"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_learn_eight_pairs_by_heart(variant):
    torch.manual_seed(0)
    options = Options(**registry.model(f"bfan:{variant}" if variant else "bfan").options)
    model = build(replace(INPUTS, dim=16), options)
    regions, words = torch.full((8, 3), True), torch.full((8, 5), True)
    images, texts = ImageBatch(torch.randn(8, 3, 13), regions), TextBatch(torch.randint(1, 17, (8, 5)), words)
    pairs = PairBatch(images, texts, torch.arange(8))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        loss = model.losses(model.encode_images(images), model.encode_texts(texts), pairs)["hinge"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    scores = model.eval().similarity(model.encode_images(images), model.encode_texts(texts))
    assert scores.argmax(0).tolist() == scores.argmax(1).tolist() == list(range(8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"focus": "both"}, r"focus='both'.*equal, prob"), ({"lam": 0.0}, "lam=0.0 must be above 0")],
)
def test_impossible_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Options(**changes)
