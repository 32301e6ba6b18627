"""How fast an independent model's ranks are found: sorted row by row as published, counted, and the product alone."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from harness.jobs import registry
from harness.jobs.build import build
from harness.measure import metrics
from harness.measure.scoring import Group, all_pairs
from harness.protocol import Encoded, Inputs, Retriever
from tests.perf.turns import in_turns

IMAGES, PER_IMAGE, DIM = 1000, 5, 1024
MEMORY_MIB = 1024


def embeddings(images: int, per_image: int, dim: int) -> tuple[Encoded, Encoded, np.ndarray]:
    """Captions that lie near their images, so that ranks are neither all first nor at chance."""
    generator = torch.Generator().manual_seed(0)
    places = torch.randn(images, dim, generator=generator)
    owner = torch.arange(images).repeat_interleave(per_image)
    captions = places[owner] + 4 * torch.randn(len(owner), dim, generator=generator)
    sides = (Encoded(embedding=F.normalize(x, dim=1)) for x in (places, captions))
    return *sides, owner.numpy()


def argsort_loop(images: Encoded, texts: Encoded, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As published: the product, then one sort per query and a search for the positives."""
    scores = (images.embedding @ texts.embedding.T).numpy()
    i2t, t2i = np.empty(len(images), np.int32), np.empty(len(texts), np.int32)
    for image, row in enumerate(scores):
        order = np.argsort(row)[::-1]
        i2t[image] = np.flatnonzero(owner[order] == image)[0]
    for caption, column in enumerate(scores.T):
        order = np.argsort(column)[::-1]
        t2i[caption] = np.flatnonzero(order == owner[caption])[0]
    return i2t, t2i


def counted(model: Retriever, images: Encoded, texts: Encoded, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As the harness does it."""
    scores = all_pairs(model, images, [Group(np.arange(len(texts)), texts)], MEMORY_MIB)
    return metrics.ranks(scores, owner)[:2]


def product(images: Encoded, texts: Encoded) -> torch.Tensor:
    return images.embedding @ texts.embedding.T


@torch.inference_mode()
def test_rank(benchmark, request):
    timed = not request.config.getoption("benchmark_disable")
    images, texts, owner = embeddings(IMAGES, PER_IMAGE, DIM) if timed else embeddings(53, 3, 16)
    model = build(registry.model("vsepp"), Inputs(image_dim=2, regions=3, vocabulary=5, dim=DIM), 0).eval()
    benchmark.name = "rank[fast]"
    others = {
        "rank[argsort-loop]": partial(argsort_loop, images, texts, owner),
        "rank[matmul-bound]": partial(product, images, texts),
    }
    in_turns(benchmark, partial(counted, model, images, texts, owner), others, rounds=5)
    for ours, slow in zip(counted(model, images, texts, owner), argsort_loop(images, texts, owner), strict=True):
        np.testing.assert_array_equal(ours, slow)
