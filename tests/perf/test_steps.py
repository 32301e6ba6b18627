"""How long losses and SelfAlign take, forward and backward, on a batch of the usual size."""

from __future__ import annotations

import pytest
import torch

from harness.learn.build import build
from harness.protocol import ImageBatch, Inputs, PairBatch, TextBatch
from harness.spec import registry
from models.losses import hinge

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
