"""How fast an independent model's ranks are found: sorted row by row as published, counted, and the product alone.

Ranks alone, as the loops find them; a row of its own has the ten best of every query besides.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harness.learn.build import build
from harness.measure.evaluator import TOP
from harness.measure.ranking import stream
from harness.measure.scoring import Group
from harness.protocol import Encoded, Inputs, Retriever
from harness.spec import registry
from tests.perf.turns import DEVICE, in_turns

SIZES, PER_IMAGE, DIM = (1000, 5000), 5, 1024  # images
MEMORY_MIB = 1024


def embeddings(images: int, per_image: int, dim: int) -> tuple[Encoded, Encoded, np.ndarray]:
    """Captions that lie near their images, so that ranks are neither all first nor at chance."""
    generator = torch.Generator().manual_seed(0)
    places = torch.randn(images, dim, generator=generator)
    owner = torch.arange(images).repeat_interleave(per_image)
    captions = places[owner] + 4 * torch.randn(len(owner), dim, generator=generator)
    sides = (Encoded(embedding=F.normalize(x, dim=1).to(DEVICE)) for x in (places, captions))
    return *sides, owner.numpy()


def argsort_loop(images: Encoded, texts: Encoded, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As published: the product, then one sort per query and a search for the positives."""
    scores = (images.embedding @ texts.embedding.T).numpy(force=True)
    i2t, t2i = np.empty(len(images), np.int32), np.empty(len(texts), np.int32)
    for image, row in enumerate(scores):
        order = np.argsort(row)[::-1]
        i2t[image] = np.flatnonzero(owner[order] == image)[0]
    for caption, column in enumerate(scores.T):
        order = np.argsort(column)[::-1]
        t2i[caption] = np.flatnonzero(order == owner[caption])[0]
    return i2t, t2i


def counted(
    model: Retriever, images: Encoded, texts: Encoded, owner: np.ndarray, k: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """As the harness does it."""
    found = stream(model, images, [Group(np.arange(len(texts)), texts)], owner, MEMORY_MIB, k)
    return found.i2t, found.t2i


def product(images: Encoded, texts: Encoded) -> torch.Tensor:
    return images.embedding @ texts.embedding.T


@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_rank(benchmark, request, size):
    timed = not request.config.getoption("benchmark_disable")
    images, texts, owner = embeddings(size, PER_IMAGE, DIM) if timed else embeddings(53, 3, 16)
    model = build(registry.model("vsepp"), Inputs(image_dim=2, regions=3, vocabulary=5, dim=DIM), 0).eval()
    benchmark.name = f"rank[fast, {size} x {size * PER_IMAGE}]"
    benchmark.extra_info["size"] = f"{size} x {size * PER_IMAGE}"
    others = {
        "rank[argsort-loop]": partial(argsort_loop, images, texts, owner),
        "rank[matmul-bound]": partial(product, images, texts),
        f"rank[fast, first {TOP} too]": partial(counted, model, images, texts, owner, TOP),
    }
    found = in_turns(benchmark, partial(counted, model, images, texts, owner), others, rounds=5)
    for ours, slow in zip(found[""], found["rank[argsort-loop]"], strict=True):
        np.testing.assert_array_equal(ours, slow)
