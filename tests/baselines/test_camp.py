"""CAMP: one pair at a time from the formulas, and its loss by hand."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
import torch
from torch import Tensor

from baselines.interactive.camp import CAMP, Gathering, Options, build, matching_bce
from harness.protocol import ImageBatch, TextBatch
from models.losses import hinge
from tests.three_pairs import INPUTS, REGIONS, WORDS, batch, encoded


def sides() -> tuple[ImageBatch, TextBatch]:
    pairs = batch(dtype=torch.float64)
    return pairs.images, pairs.texts


def model_of(heads: int = 4) -> CAMP:
    torch.manual_seed(0)
    return CAMP(INPUTS, Options(heads)).double().eval()


def l2(x: Tensor) -> Tensor:
    return x / (x.square().sum(-1, keepdim=True).sqrt() + 1e-8)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.T / key.shape[1] ** 0.5).softmax(1) @ value


def slow_side(side: Gathering, queries: Tensor, context: Tensor) -> Tensor:
    """One pair, with every message formed.  queries: (Q, d), context: (C, d) -> (d,)."""
    messages = attend(side.query(queries), side.key(context), context)
    messages = l2(attend(side.hop_query(messages), side.hop_key(messages), messages))
    rows = []
    for own, message in zip(queries, messages, strict=True):
        gate = own.dot(message).sigmoid()
        rows.append(own + (side.fusion(torch.cat([own, message])) * gate).relu())
    fused = torch.stack(rows)
    weights = side.heads(side.hidden(fused).relu()).softmax(0)  # (Q, heads)
    return l2((weights.T @ fused).mean(0))


def slow_message(side: Gathering, queries: Tensor, context: Tensor) -> Tensor:
    """The mean of what one item hears of another in the first stage.  (Q, d), (C, d) -> (d,)."""
    messages = attend(side.query(queries), side.key(context), context)
    return attend(side.hop_query(messages), side.hop_key(messages), messages).mean(0)


def test_the_first_stage_compares_mean_messages():
    model = model_of()
    images, texts = model.encode_images(sides()[0]), model.encode_texts(sides()[1])
    scores = model.scored(model.plain_scores, images, texts)
    assert scores.std() > 1e-2  # else any wrong score would pass
    for i, r in enumerate(REGIONS):
        for j, n in enumerate(WORDS):
            regions, words = images.contextual[i, :r], texts.contextual[j, :n]
            heard, seen = slow_message(model.region_side, regions, words), slow_message(model.word_side, words, regions)
            torch.testing.assert_close(scores[i, j], torch.cosine_similarity(heard, seen, dim=0))


@pytest.mark.parametrize("heads", [1, 4])
def test_all_pairs_at_once_equal_each_pair_alone(heads):
    model = model_of(heads)
    images, texts = model.encode_images(sides()[0]), model.encode_texts(sides()[1])
    scores = model.similarity(images, texts)
    assert scores.std() > 1e-3  # else any wrong score would pass
    for i, r in enumerate(REGIONS):
        for j, n in enumerate(WORDS):
            regions, words = images.contextual[i, :r], texts.contextual[j, :n]
            pair = slow_side(model.region_side, regions, words), slow_side(model.word_side, words, regions)
            torch.testing.assert_close(
                scores[i, j], model.match(torch.cat(pair)).sigmoid()[0].float(), atol=2e-7, rtol=0
            )


def test_gradients_equal_those_of_each_pair_alone():
    model = model_of()
    sums = []
    for fast in (True, False):
        images, texts = model.encode_images(sides()[0]), model.encode_texts(sides()[1])
        fragments = (images.contextual, images.mask), (texts.contextual, texts.mask)
        (v, v_mask), (t, t_mask) = fragments
        if fast:
            side, t = model.region_side, t * t_mask[..., None]
            pooled = side(v, t, v_mask, t_mask, side.of_queries(v), side.of_context(t))  # (captions, images, d)
        else:
            rows = [
                [slow_side(model.region_side, v[i, :r], t[j, :n]) for i, r in enumerate(REGIONS)]
                for j, n in enumerate(WORDS)
            ]
            pooled = torch.stack([torch.stack(row) for row in rows])
        parameters = [*model.region_side.parameters(), *model.regions.parameters()]
        sums.append(torch.autograd.grad((pooled * torch.arange(11)).sum(), parameters))
    for ours, twins in zip(*sums, strict=True):
        torch.testing.assert_close(ours, twins, atol=1e-9, rtol=1e-8)


def test_rubbish_in_padding_does_not_matter():
    model = model_of()
    encoded = model.encode_images(sides()[0]), model.encode_texts(sides()[1])
    spoilt = [replace(s, contextual=s.contextual.masked_fill(~s.mask[..., None], torch.nan)) for s in encoded]
    torch.testing.assert_close(model.similarity(*spoilt), model.similarity(*encoded))


SCORES = torch.tensor([[0.9, 0.2, 0.3], [0.4, 0.8, 0.1], [0.6, 0.5, 0.7]])
MATCHED = -2 * (log(0.9) + log(0.8) + log(0.7))


def test_the_loss_on_the_hardest_negatives():
    rows, columns = -(log(0.7) + log(0.6) + log(0.4)), -(log(0.4) + log(0.5) + log(0.7))
    assert matching_bce(SCORES).item() == pytest.approx(MATCHED + rows + columns, abs=1e-5)


def test_pairs_of_one_image_are_no_negatives_if_asked():
    """The first two pairs show the same image."""
    apart = torch.tensor([[False, False, True], [False, False, True], [True, True, False]])
    hardest = log(0.7) + log(0.9) + log(0.4) + log(0.4) + log(0.5) + log(0.7)  # rows .3 .1 .6, columns .6 .5 .3
    assert matching_bce(SCORES, apart).item() == pytest.approx(MATCHED - hardest, abs=1e-5)


def test_certain_scores_and_a_lonely_pair_cost_something_finite():
    certain = torch.tensor([[0.0, 1.0], [1.0, 0.0]], requires_grad=True)
    loss = matching_bce(certain)
    assert loss.item() == pytest.approx(-8 * log(1e-6), rel=1e-2)
    loss.backward()
    assert certain.grad.isfinite().all()
    assert matching_bce(torch.tensor([[0.5]])).item() == pytest.approx(2 * log(2))


def test_warm_up_and_same_image_settings_reach_the_loss():
    pairs = replace(batch(), image_index=torch.tensor([0, 0, 1]))
    apart = pairs.image_index[:, None] != pairs.image_index
    model = build(replace(INPUTS, warmup_updates=1, same_image_negatives=False), Options())
    assert isinstance(model, CAMP)
    images, texts = encoded(model, pairs)
    torch.testing.assert_close(
        model.losses(images, texts, pairs),
        {"hinge": hinge(model.scored(model.plain_scores, images, texts), 0.2, hardest=False, impostors=apart)},
    )
    torch.testing.assert_close(
        model.losses(images, texts, replace(pairs, update=1)),
        {"bce": matching_bce(model.similarity(images, texts), apart)},
    )
    assert list(build(INPUTS, Options()).losses(images, texts, pairs)) == ["bce"]


def test_the_first_stage_reaches_the_attention_alone():
    model = build(replace(INPUTS, warmup_updates=1), Options())
    pairs = batch()
    model.losses(*encoded(model, pairs), pairs)["hinge"].backward()
    learning = [name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()]
    touched = {part for name in learning for part in name.split(".")}
    assert touched >= {"query", "key", "hop_query", "hop_key", "gru"}
    assert not touched & {"fusion", "hidden", "heads", "match"}


def test_no_pooling_head_is_refused():
    with pytest.raises(ValueError, match="heads=0"):
        Options(heads=0)
