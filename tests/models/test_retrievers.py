"""Every interactive method learns from its pairs as if each were scored alone, plainly, all with gradients kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.learn.build import build
from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, TextBatch
from harness.spec import registry
from models import pairs
from models.retrievers import Interactive

INPUTS = Inputs(image_dim=13, regions=5, vocabulary=17, dim=16, word_dim=7, margin=0.5, warmup_updates=1)
LENGTHS = [2, 7, 1, 3, 3]
REGIONS = torch.tensor(  # missing anywhere, as where some are dropped at random
    [[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
).bool()
TIED = "sgraf:saf"  # whose batch norm counts all pairs of a batch while it trains
LABELS = [label for label in registry.labels() if registry.parse(label)[0].family == "interactive"]
every_method = pytest.mark.parametrize("label", LABELS)
every_phase = pytest.mark.parametrize("update", [0, 1], ids=["all-negatives", "hardest-negatives"])


def batch(update: int = 0) -> PairBatch:
    """Five pairs; the first and the fourth show the same image."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(5, 5, 13, generator=generator, dtype=torch.float64)
    corner = 60 * torch.rand(5, 5, 2, generator=generator, dtype=torch.float64)
    features[3], corner[3] = features[0], corner[0]
    words = torch.arange(7) < torch.tensor(LENGTHS)[:, None]
    tokens = torch.randint(1, 17, (5, 7), generator=generator)
    sizes = torch.full((5, 2), 100.0, dtype=torch.float64)
    images = ImageBatch(features, REGIONS, torch.cat([corner, corner + 20], 2), sizes)
    return PairBatch(images, TextBatch(tokens * words, words), torch.tensor([0, 1, 2, 0, 3]), update=update)


def model_of(label: str, **inputs) -> Interactive:
    """In training, but for the method whose pairs are tied then."""
    model = build(registry.model(label), replace(INPUTS, **inputs), 0).double().train(label != TIED)
    assert isinstance(model, Interactive)
    return model


def encoded(model: Interactive, pairs: PairBatch) -> tuple[Encoded, Encoded]:
    torch.manual_seed(0)  # of the dropout
    return model.encode_images(pairs.images), model.encode_texts(pairs.texts)


def plain_scores(model: pairs.PairModel, images: Encoded, texts: Encoded) -> Tensor:
    """One pair after another, and autograd keeps what it needs of each."""
    rows = [
        [
            model.score(images.select(slice(i, i + 1)), texts.select(slice(j, j + 1)).trim(length)).view(())
            for j, length in enumerate(pairs.lengths_of(texts).tolist())
        ]
        for i in range(len(images))
    ]
    return torch.stack([torch.stack(row) for row in rows])


@contextmanager
def plainly() -> Iterator[None]:
    """While it lasts, pairs are scored by `plain_scores`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.retrievers.pair_scores", plain_scores)
        yield


def learnt(model: Interactive, pairs: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and the gradient of every parameter that has one."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    (loss,) = model.losses(*encoded(model, pairs), pairs).values()
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return loss.detach(), {name: g for name, g in zip(parameters, found, strict=True) if g is not None}


def common(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our gradients of the parameters expected to have one; of others they are zero, where one is not asked for."""
    assert ours.keys() >= expected.keys()
    assert not any(ours[name].any() for name in ours.keys() - expected.keys())
    return {name: ours[name] for name in expected}


def check_as_plainly(label: str, pairs: PairBatch, **inputs) -> None:
    with plainly():
        loss, expected = learnt(model_of(label, **inputs), pairs)
    ours, found = learnt(model_of(label, **inputs), pairs)
    torch.testing.assert_close(ours, loss)
    assert loss > 0
    found = common(found, expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-7, msg=name)
    assert any(gradient.any() for gradient in found.values())


@every_method
@every_phase
@pytest.mark.parametrize("same_image_negatives", [True, False])
def test_loss_and_gradients_are_those_of_pairs_scored_plainly(label, update, same_image_negatives):
    check_as_plainly(label, batch(update), same_image_negatives=same_image_negatives)


@every_method
@pytest.mark.parametrize("share", [0.0, 1.0], ids=["in tiles", "one by one"])
def test_few_pairs_and_many_are_learnt_from_alike(label, share, monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK", 0)
    monkeypatch.setattr(pairs, "SPARSE", share)
    monkeypatch.setattr(pairs, "PIECES", math.inf)
    monkeypatch.setattr(pairs, "TOGETHER", 2)
    check_as_plainly(label, batch())


@every_method
@every_phase
def test_nothing_random_goes_into_a_pair(label, update):
    """For a pair whose gradient is needed is scored twice."""
    model, given = build(registry.model(label), INPUTS, 0).double().train(), batch(update)
    sides = encoded(model, given)
    before = torch.get_rng_state()
    sum(model.losses(*sides, given).values()).backward()
    assert torch.equal(torch.get_rng_state(), before)


@every_method
@every_phase
def test_half_precision_learns_as_plainly(label, update):
    """Whether it is the weights or their casts that are scored with again."""
    given, found = batch(update), []
    images = replace(given.images, **{n: getattr(given.images, n).float() for n in ("fragments", "boxes", "sizes")})
    for way in (plainly(), nullcontext()):
        with way, torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(learnt(model_of(label).float(), replace(given, images=images))[1])
    expected, ours = found
    found = expected, common(ours, expected)
    one, other = (torch.cat([gradient.flatten() for gradient in way.values()]) for way in found)
    assert torch.cosine_similarity(one, other, dim=0) > 0.95
