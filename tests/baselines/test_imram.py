"""IMRAM: several looks, and what is remembered between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.interactive.imram import IMRAM, TILE, VARIANTS, Options, build
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


def encoded(options: Options, width: int = 7) -> tuple[IMRAM, Encoded, Encoded]:
    """An untrained model, and the three pairs as it encodes them."""
    torch.manual_seed(0)
    model = IMRAM(INPUTS, options)
    pairs = batch(width)
    return model, model.encode_images(pairs.images), model.encode_texts(pairs.texts)


def fragments(side: Encoded, item: int) -> Tensor:
    """(n, d), the real ones of an item."""
    return side.contextual[item][side.mask[item]]


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


def test_more_pairs_than_a_tile_are_scored_alike():
    model, images, texts = encoded(Options())
    whole = model.similarity(images, texts)
    for rows, columns in ((11, TILE + 3), (TILE + 3, 11)):
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
    slow = [[slow_score(fragments(images, i), fragments(texts, j), model) for j in range(3)] for i in range(3)]
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
    options = Options(**registry.model(f"imram:{variant}" if variant else "imram").options)
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
    [
        ({"mode": "both"}, r"mode='both'.*text, image, full"),
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"lam": -1.0}, "lam=-1.0 must be above 0"),
    ],
)
def test_impossible_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Options(**changes)
