"""IMRAM: several looks, and what is remembered between them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.interactive.imram import IMRAM, Options, build
from harness.protocol import Encoded
from tests import fragment_checks, three_pairs
from tests.three_pairs import INPUTS, batch, each_alone


def encoded(options: Options, width: int = 7) -> tuple[IMRAM, Encoded, Encoded]:
    """An untrained model, and the three pairs as it encodes them."""
    torch.manual_seed(0)
    model = IMRAM(INPUTS, options)
    return model, *three_pairs.encoded(model, batch(width))


EVERY_WAY = [
    Options("full"),
    Options("text", steps=1),
    Options("image", steps=2),
    Options("full", steps=5, memory_norm=False),
    Options("text", lam=3.0),
]


def slow_weights(context: Tensor, queries: Tensor, lam: float) -> Tensor:
    """(C, Q), one pair: rows over the queries made unit length, then a softmax over the context."""
    clipped = F.leaky_relu(context @ queries.T, 0.1)
    return (lam * clipped / (clipped.norm(dim=1, keepdim=True) + 1e-8)).softmax(0)


def slow_steps(context: Tensor, queries: Tensor, model: IMRAM, side: str) -> list[float]:
    """The score of each step of one pair, attended vectors formed."""
    options, dim, memory, scores = model.options, queries.shape[1], queries, []
    for step in range(options.steps):
        attended = slow_weights(context, memory, options.lam).T @ context  # (Q, d)
        scores.append(F.cosine_similarity(queries, attended).mean().item())
        if step < options.steps - 1:
            both = model.matching[side].update(torch.cat([memory, attended], 1))
            gate = both[:, :dim].sigmoid()
            memory = gate * memory + (1 - gate) * both[:, dim:].tanh()
            if options.memory_norm:
                memory = memory / memory.norm(dim=1, keepdim=True)
    return scores


def slow_score(regions: Tensor, words: Tensor, model: IMRAM) -> float:
    total = 0.0
    if model.options.mode in ("text", "full"):
        total += sum(slow_steps(regions, words, model, "text"))
    if model.options.mode in ("image", "full"):
        total += sum(slow_steps(words, regions, model, "image"))
    return total


def test_an_image_of_one_region_is_the_same_at_every_step():
    """There is nothing else to look at, so each of the steps adds the cosine again."""
    first, second, _ = torch.eye(3)
    images = Encoded(contextual=first[None, None], mask=torch.ones(1, 1, dtype=torch.bool))
    texts = Encoded(contextual=torch.stack([first, second])[None], mask=torch.ones(1, 2, dtype=torch.bool))
    scores = IMRAM(replace(INPUTS, dim=3), Options("text", steps=3)).similarity(images, texts)
    torch.testing.assert_close(scores, torch.tensor([[1.5]]))  # cosines 1 and 0, three times


def test_full_is_the_sum_of_both_directions():
    model, images, texts = encoded(Options("full"))
    both = model.matching["text"](texts, images).sum(0) + model.matching["image"](images, texts).sum(0).T
    torch.testing.assert_close(model.similarity(images, texts), both)


def test_an_open_gate_keeps_the_memory_and_a_shut_one_takes_the_candidate():
    model = IMRAM(replace(INPUTS, dim=3), Options("text", memory_norm=False)).matching["text"]
    torch.nn.init.zeros_(model.update.weight)
    memory = torch.tensor([[0.6, 0.8, 0.0]])
    for gate, expected in ((50.0, memory), (-50.0, torch.full((1, 3), 0.5).tanh())):
        model.update.bias.data = torch.tensor([gate] * 3 + [0.5] * 3)
        torch.testing.assert_close(model._updated(memory, torch.zeros(1, 6)), expected)


def test_every_option_changes_the_scores():
    def scores(**options):
        model, images, texts = encoded(Options(**options))
        return model.similarity(images, texts)

    plain = scores(mode="text")
    for change in ({"mode": "image"}, {"steps": 2}, {"lam": 4.0}, {"memory_norm": False}):
        assert not torch.allclose(scores(**{"mode": "text", **change}), plain), change


def test_more_pairs_than_a_tile_are_scored_alike(monkeypatch):
    model, images, texts = encoded(Options())
    whole = model.similarity(images, texts)
    monkeypatch.setattr("baselines.interactive.imram.TILE", 20 * INPUTS.dim * INPUTS.regions)  # twenty pairs
    for rows, columns in ((11, 23), (23, 11)):
        image, text = torch.arange(rows) % 3, torch.arange(columns) % 3
        many = model.similarity(images.select(image), texts.select(text))
        torch.testing.assert_close(many, whole[image][:, text])


def test_one_step_needs_no_memory_and_one_mode_no_other():
    assert not list(IMRAM(INPUTS, Options(steps=1)).matching.parameters())
    assert list(IMRAM(INPUTS, Options("image")).matching) == ["image"]


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_every_pair_scores_as_it_does_alone(options):
    model, images, texts = encoded(options)
    scores = model.similarity(images, texts)
    torch.testing.assert_close(scores, each_alone(images, texts, slow_score, model))


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
    [
        ({"mode": "both"}, r"mode='both'.*text, image, full"),
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"lam": -1.0}, "lam=-1.0 must be above 0"),
    ],
)
def test_impossible_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Options(**changes)
