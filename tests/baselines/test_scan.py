"""SCAN as a retriever: what its scores mean, and what must not change them."""

from __future__ import annotations

import math

import pytest
import torch

from baselines.interactive.scan import SCAN, VARIANTS, Options, build
from harness.protocol import Encoded
from harness.spec import registry
from tests import fragment_checks, three_pairs
from tests.three_pairs import INPUTS, batch, mask_of

EVERY_WAY = [Options(direction, how) for direction in ("t2i", "i2t") for how in ("lse", "mean", "max", "sum")]


def encoded(options: Options, width: int = 7) -> tuple[SCAN, Encoded, Encoded]:
    torch.manual_seed(0)
    model = SCAN(INPUTS, options)
    return model, *three_pairs.encoded(model, batch(width))


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


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_each_pair_scores_as_it_does_alone(options):
    model, images, texts = encoded(options)
    scores = model.similarity(images, texts)
    assert scores.shape == (3, 3)
    for i in range(3):
        for j in range(3):
            image, text = (side.select(slice(k, k + 1)) for side, k in ((images, i), (texts, j)))
            alone = model.similarity(image.trim(int(image.mask.sum())), text.trim(int(text.mask.sum())))
            torch.testing.assert_close(alone, scores[i : i + 1, j : j + 1])


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_blocks_equal_the_whole(options):
    fragment_checks.blocks_equal_the_whole(*encoded(options))


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
@pytest.mark.parametrize("rubbish", [1e6, torch.nan])
def test_padding_neither_matters_nor_learns(options, rubbish):
    fragment_checks.padding_neither_matters_nor_learns(lambda width: encoded(options, width=width), rubbish)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_train_every_parameter(variant):
    torch.manual_seed(0)
    model = build(INPUTS, Options(**registry.model(f"scan:{variant}").options))
    fragment_checks.gradients_reach_every_parameter(model, batch())


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
