"""SCAN as a retriever: what its scores mean, and what must not change them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from baselines.interactive.scan import SCAN, VARIANTS, Options, build
from harness.jobs import registry
from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, TextBatch

INPUTS = Inputs(image_dim=13, regions=5, vocabulary=17, dim=11, word_dim=7)
EVERY_WAY = [Options(direction, how) for direction in ("t2i", "i2t") for how in ("lse", "mean", "max", "sum")]


def mask_of(lengths: list[int], width: int) -> torch.Tensor:
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def batch(width: int = 7) -> PairBatch:
    """Three pairs; the images have 5, 1 and 3 regions, the captions 2, 7 and 3 words."""
    generator = torch.Generator().manual_seed(0)
    regions = torch.randn(3, 5, 13, generator=generator)
    tokens = torch.randint(1, 17, (3, 7), generator=generator)
    words = mask_of([2, 7, 3], 7)
    return PairBatch(
        ImageBatch(regions, mask_of([5, 1, 3], 5)),
        TextBatch(F.pad(tokens * words, (0, width - 7)), F.pad(words, (0, width - 7))),
        image_index=torch.arange(3),
    )


def encoded(options: Options, width: int = 7) -> tuple[SCAN, Encoded, Encoded]:
    torch.manual_seed(0)
    model = SCAN(INPUTS, options)
    pairs = batch(width)
    return model, model.encode_images(pairs.images), model.encode_texts(pairs.texts)


def test_a_word_finds_its_region():
    first, second, third = torch.eye(3)
    images = Encoded(contextual=torch.stack([first, second])[None], mask=torch.ones(1, 2, dtype=torch.bool))
    texts = Encoded(contextual=torch.stack([first, third])[:, None], mask=torch.ones(2, 1, dtype=torch.bool))
    scores = SCAN(INPUTS, Options(aggregation="mean", lam=50.0)).similarity(images, texts)
    torch.testing.assert_close(scores, torch.tensor([[1.0, 0.0]]))


def test_a_region_finds_its_word_and_an_unnamed_region_costs():
    first, second, _ = torch.eye(3)
    images = Encoded(contextual=torch.stack([first, second])[None], mask=torch.ones(1, 2, dtype=torch.bool))
    texts = Encoded(contextual=torch.stack([first, first])[None], mask=torch.ones(1, 2, dtype=torch.bool))
    scores = SCAN(INPUTS, Options("i2t", "mean")).similarity(images, texts)
    torch.testing.assert_close(scores, torch.tensor([[0.5]]))  # cosines 1 and 0


def test_logsumexp_favours_longer_captions():
    region = torch.eye(3)[:1]
    images = Encoded(contextual=region[None], mask=torch.ones(1, 1, dtype=torch.bool))
    texts = Encoded(contextual=region.expand(2, 4, 3), mask=mask_of([1, 4], 4))
    scores = SCAN(INPUTS, Options(mu=6.0)).similarity(images, texts)
    torch.testing.assert_close(scores, torch.tensor([[1.0, 1.0 + math.log(4) / 6]]))


def test_encodings_are_unit_fragments():
    _, images, texts = encoded(Options())
    torch.testing.assert_close(images.contextual.norm(dim=-1), torch.ones(3, 5))
    torch.testing.assert_close(texts.contextual.norm(dim=-1), texts.mask.float())


@pytest.mark.parametrize("options", EVERY_WAY, ids=lambda o: f"{o.direction}-{o.aggregation}")
def test_blocks_equal_the_whole_and_each_pair_alone(options):
    model, images, texts = encoded(options)
    whole = model.similarity(images, texts)
    assert whole.shape == (3, 3)
    blocks = [model.similarity(images.select(slice(i, i + 2)), texts.select(slice(1, None))) for i in (0, 2)]
    torch.testing.assert_close(torch.cat(blocks), whole[:, 1:])
    for i in range(3):
        for j in range(3):
            image, text = (side.select(slice(k, k + 1)) for side, k in ((images, i), (texts, j)))
            alone = model.similarity(image.trim(int(image.mask.sum())), text.trim(int(text.mask.sum())))
            torch.testing.assert_close(alone, whole[i : i + 1, j : j + 1])


@pytest.mark.parametrize("options", EVERY_WAY, ids=lambda o: f"{o.direction}-{o.aggregation}")
def test_padding_does_not_matter(options):
    model, images, texts = encoded(options)
    whole = model.similarity(images, texts)
    _, _, wider = encoded(options, width=11)
    torch.testing.assert_close(model.similarity(images, wider), whole)
    spoilt = [replace(s, contextual=s.contextual.masked_fill(~s.mask[..., None], torch.nan)) for s in (images, texts)]
    torch.testing.assert_close(model.similarity(*spoilt), whole)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_train_every_parameter(variant):
    torch.manual_seed(0)
    resolved = registry.model(f"scan:{variant}").options
    model = build(INPUTS, Options(**resolved))
    pairs = batch()
    losses = model.losses(model.encode_images(pairs.images), model.encode_texts(pairs.texts), pairs)
    assert list(losses) == ["hinge"]
    losses["hinge"].backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [name for name, g in gradients.items() if g is None or not g.isfinite().all() or not g.any()] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"direction": "both"}, r"'both'.*t2i, i2t"),
        ({"aggregation": "avg"}, r"'avg'.*lse, mean, max, sum"),
        ({"norm": "l3norm"}, r"'l3norm'.*no_norm"),
        ({"mu": 0.0}, "mu=0.0"),
        ({"lam": -1.0}, "lam=-1.0"),
    ],
)
def test_impossible_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Options(**changes)
