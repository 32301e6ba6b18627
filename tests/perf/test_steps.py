"""How long losses and SelfAlign take, forward and backward, on a batch of the usual size.

And what interactive methods gain where a small batch, as of the embedded scenes, is learnt from as one padded block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from harness.learn.build import build
from harness.measure.clock import timed
from harness.measure.trace import trace
from harness.protocol import ImageBatch, Inputs, PairBatch, Retriever, TextBatch
from harness.spec import registry
from models import pairs
from models.losses import hinge
from tests.perf.ratios import spent
from tests.perf.turns import DEVICE, in_turns

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


@dataclass(frozen=True)
class Size:
    """What a step learns from: pairs of a batch, regions of an image, their width, and the embedding's."""

    batch: int
    regions: int
    width: int
    dim: int


FAMILIES = ("independent", "interactive")
SIZES = {"scenes": Size(64, 12, 64, 64), "flickr8k": Size(128, 36, 1280, 256)}
METHODS = [m for m in registry.methods().values() if m.family in FAMILIES and not (m.floor or m.aside)]
ROWS = tuple(method.labels[0] for method in METHODS)
STEPPED = (*ROWS, "vsepp+selfalign")


def _images(count: int, size: Size) -> ImageBatch:
    corners = 100 * torch.rand(count, size.regions, 2, device=DEVICE)
    return ImageBatch(
        torch.randn(count, size.regions, size.width, device=DEVICE),
        torch.ones(count, size.regions, dtype=torch.bool, device=DEVICE),
        boxes=torch.cat([corners, corners + 50], -1),
        sizes=torch.full((count, 2), 150.0, device=DEVICE),
    )


def stepping(label: str, size: Size, count: int) -> tuple[Retriever, Callable[[], None]]:
    """A model, and what encodes `count` pairs and finds their losses and all gradients."""
    torch.manual_seed(0)
    inputs = Inputs(
        image_dim=size.width,
        regions=size.regions,
        vocabulary=500,
        dim=size.dim,
        words=tuple(f"w{number}" for number in range(500)),
        caption_tokens=torch.randint(4, 500, (1000, WORDS)),  # whose words CVSE finds its concepts among
    )
    model = build(registry.model(label), inputs, 0, fragments_read=False).to(DEVICE).train()
    images = _images(count, size)
    words = torch.randint(4, 500, (count, WORDS), device=DEVICE)
    texts = TextBatch(words, torch.ones(count, WORDS, dtype=torch.bool, device=DEVICE))
    batch = PairBatch(images, texts, torch.arange(count, device=DEVICE))

    def step() -> None:
        model.zero_grad()
        terms = model.losses(model.encode_images(images), model.encode_texts(texts), batch)
        torch.stack(list(terms.values())).sum().backward()

    return model, step


@pytest.mark.parametrize("data", SIZES)
@pytest.mark.parametrize("label", STEPPED)
def test_a_step(benchmark, request, label, data):
    """Encoding, losses and their gradients, of every method; a host's two rows differ by SelfAlign."""
    size = SIZES[data]
    model, step = stepping(label, size, FEWER if request.config.getoption("benchmark_disable") else size.batch)
    benchmark.name = f"step[{label}, {data}]"
    benchmark.pedantic(timed, (step, DEVICE), rounds=3, warmup_rounds=1)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.slow
@pytest.mark.parametrize("data", SIZES)
@pytest.mark.parametrize("label", STEPPED)
def test_what_a_step_is_spent_on(benchmark, request, tmp_path, label, data):
    size = SIZES[data]
    _, step = stepping(label, size, FEWER if request.config.getoption("benchmark_disable") else size.batch)
    benchmark.name = f"step[{label}, {data}]"
    found = benchmark.pedantic(trace, ("train", step, tmp_path, DEVICE), rounds=1)
    benchmark.extra_info |= {"spent": spent(found), "threads": torch.get_num_threads()}
    assert sum(benchmark.extra_info["spent"].values()) == pytest.approx(100)


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
