"""Learning from the few pairs that a loss on hardest negatives looks at equals learning from all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.jobs import registry
from harness.jobs.build import build
from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, TextBatch
from models.losses import decisive_pairs
from models.retrievers import Interactive, pair_scores

INPUTS = Inputs(image_dim=13, regions=5, vocabulary=17, dim=16, word_dim=7)
COUNTS, LENGTHS = [5, 1, 3, 5, 3, 5], [2, 7, 1, 3, 3, 7]
STANDING_ALONE = [
    label
    for label in registry.labels()
    if registry.parse(label)[0].family == "interactive"
    and isinstance(model := build(registry.model(label), INPUTS, 0), Interactive)
    and model.pairs_stand_alone
]


def mask_of(lengths: list[int], width: int) -> Tensor:
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def batch() -> PairBatch:
    """Six pairs; the first and the fourth show the same image."""
    generator = torch.Generator().manual_seed(0)
    regions = torch.randn(6, 5, 13, generator=generator, dtype=torch.float64)
    corner = 60 * torch.rand(6, 5, 2, generator=generator, dtype=torch.float64)
    regions[3], corner[3] = regions[0], corner[0]
    tokens, words = torch.randint(1, 17, (6, 7), generator=generator), mask_of(LENGTHS, 7)
    sizes = torch.full((6, 2), 100.0, dtype=torch.float64)
    images = ImageBatch(regions, mask_of(COUNTS, 5), torch.cat([corner, corner + 20], 2), sizes)
    return PairBatch(images, TextBatch(tokens * words, words), torch.tensor([0, 1, 2, 0, 3, 4]))


def model_of(label: str, **inputs) -> Interactive:
    model = build(registry.model(label), replace(INPUTS, **inputs), 0).double()
    assert isinstance(model, Interactive)
    return model


def encoded(model: Interactive, pairs: PairBatch) -> tuple[Encoded, Encoded]:
    return model.encode_images(pairs.images), model.encode_texts(pairs.texts)


def test_all_but_the_methods_with_statistics_over_a_batch_stand_alone():
    assert {label.partition(":")[0] for label in STANDING_ALONE} >= {"scan", "bfan", "chan", "naaf", "gsmn", "camp"}


@pytest.mark.parametrize("label", STANDING_ALONE)
def test_pairs_score_as_in_a_block(label):
    model = model_of(label)
    images, texts = encoded(model, batch())
    rows, columns = torch.tensor([0, 3, 2, 2, 5, 1]), torch.tensor([0, 1, 2, 5, 0, 4])
    some = pair_scores(model.similarity, images.select(rows), texts.select(columns))
    torch.testing.assert_close(some, model.similarity(images, texts)[rows, columns])


@pytest.mark.parametrize("label", STANDING_ALONE)
@pytest.mark.parametrize("same_image_negatives", [True, False])
def test_loss_and_gradients_are_those_of_all_pairs(label, same_image_negatives):
    model = model_of(label, same_image_negatives=same_image_negatives, margin=0.5)
    parameters, pairs = [p for p in model.parameters() if p.requires_grad], batch()
    images, texts = encoded(model, pairs)
    whole = model.ranking_loss(model.similarity(images, texts), pairs)
    expected = torch.autograd.grad(whole, parameters)
    (term,) = model.losses(*encoded(model, pairs), pairs).values()
    torch.testing.assert_close(term, whole)
    for ours, theirs in zip(torch.autograd.grad(term, parameters), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("label", STANDING_ALONE)
def test_during_warm_up_every_pair_has_a_gradient(label):
    model = model_of(label, warmup_epochs=1)
    images, texts = encoded(model, batch())
    early, _ = model.scores_to_learn_from(images, texts, batch())
    assert early.isfinite().all()
    late, every = model.scores_to_learn_from(images, texts, replace(batch(), epoch=1))
    learnt_from = late.isfinite()
    assert learnt_from.diagonal().all()
    assert learnt_from.sum() <= 3 * len(every)
    torch.testing.assert_close(late[learnt_from], every[learnt_from].to(late))
    torch.testing.assert_close(early.detach(), every)


def test_the_matching_and_the_hardest_pairs_decide():
    scores = torch.tensor([[0.9, 0.1, 0.5], [0.2, 0.8, 0.3], [0.4, 0.6, 0.7]])
    images, captions = decisive_pairs(scores)
    assert list(zip(images.tolist(), captions.tolist(), strict=True)) == [
        *((0, 0), (0, 2)),  # the image's hardest caption, and the caption's hardest image
        *((1, 1), (1, 2)),
        *((2, 0), (2, 1), (2, 2)),
    ]
    impostors = torch.tensor([[True, True, False], [True, True, True], [False, True, True]])
    images, captions = decisive_pairs(scores, impostors)
    assert (0, 2) not in set(zip(images.tolist(), captions.tolist(), strict=True))
