"""How long losses and SelfAlign take, forward and backward, on a batch of the usual size.

And what interactive methods gain where a small batch, as of the embedded scenes, is learnt from as one padded block.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.learn.build import build
from harness.protocol import ImageBatch, Inputs, PairBatch, TextBatch
from harness.spec import registry
from models import pairs
from models.losses import hinge
from tests.perf.turns import in_turns

BATCH, REGIONS, WORDS = 128, 36, 13
FEWER = 8  # pairs where nothing is timed
INPUTS = Inputs(image_dim=64, regions=REGIONS, vocabulary=500, dim=256)


@pytest.fixture
def size(request) -> int:
    return FEWER if request.config.getoption("benchmark_disable") else BATCH


@pytest.mark.parametrize("hardest", [True, False], ids=["hardest", "all"])
def test_hinge(benchmark, size, hardest):
    scores = torch.randn(size, size, requires_grad=True)

    def step() -> None:
        hinge(scores, 0.2, hardest).backward()

    benchmark.name = f"loss[hinge-{'hardest' if hardest else 'all'}]"
    benchmark.pedantic(step, rounds=20, warmup_rounds=2)
    assert scores.grad is not None
    assert scores.grad.any()


@pytest.mark.parametrize("label", ["vsepp", "vsepp+selfalign"])
def test_a_step(benchmark, size, label):
    """Encoding, losses and their gradients; the difference of the two rows is SelfAlign."""
    torch.manual_seed(0)
    model = build(registry.model(label), INPUTS, 0).train()
    images = ImageBatch(torch.randn(size, REGIONS, 64), torch.ones(size, REGIONS, dtype=torch.bool))
    texts = TextBatch(torch.randint(4, 500, (size, WORDS)), torch.ones(size, WORDS, dtype=torch.bool))
    batch = PairBatch(images, texts, torch.arange(size))

    def step() -> None:
        model.zero_grad()
        terms = model.losses(model.encode_images(images), model.encode_texts(texts), batch)
        torch.stack(list(terms.values())).sum().backward()

    benchmark.name = f"step[{label}]"
    benchmark.pedantic(step, rounds=5, warmup_rounds=1)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


SMALL = Inputs(image_dim=64, regions=12, vocabulary=300, dim=64, word_dim=64, warmup_updates=1)
PADDED = ("scan:t2i-lse", "bfan:equal", "chan", "naaf", "camp", "gsmn")


def small_batch(update: int) -> PairBatch:
    """32 pairs of 12 regions and 5 to 15 words."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(15) < torch.randint(5, 16, (32, 1), generator=generator)
    corner = 60 * torch.rand(32, 12, 2, generator=generator)
    regions, sizes = torch.randn(32, 12, 64, generator=generator), torch.full((32, 2), 100.0)
    images = ImageBatch(regions, torch.ones(32, 12).bool(), torch.cat([corner, corner + 20], 2), sizes)
    texts = TextBatch(torch.randint(4, 300, (32, 15), generator=generator) * mask, mask)
    return PairBatch(images, texts, torch.arange(32), update=update)


@pytest.mark.parametrize("update", [0, 1], ids=["all", "hardest"])
@pytest.mark.parametrize("label", PADDED)
def test_a_small_step_as_one_block_beside_tiles(benchmark, monkeypatch, label, update):
    torch.manual_seed(0)
    model, batch = build(registry.model(label), SMALL, 0).eval(), small_batch(update)  # thresholds stay as they are

    def step(block: float) -> tuple[torch.Tensor, ...]:
        monkeypatch.setattr(pairs, "BLOCK", block)
        terms = model.losses(model.encode_images(batch.images), model.encode_texts(batch.texts), batch)
        loss = torch.stack(list(terms.values())).sum()
        return loss.detach(), *torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)

    whole = pairs.BLOCK
    benchmark.name = f"step[{label}-{'hardest' if update else 'all'}]"
    found: dict[str, Any] = in_turns(benchmark, lambda: step(whole), {"tiles": lambda: step(0.0)}, rounds=10)
    for one, other in zip(found[""], found["tiles"], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()) + 1e-6)
