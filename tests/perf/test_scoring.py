"""How fast all pairs are scored: SCAN one caption at a time, SCAN in blocks, and the matrix product neither avoids.

`pytest tests/perf --benchmark-only --benchmark-group-by=func`; ratios inside one run are what counts.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.interactive.scan import SCAN, VARIANTS, Options
from harness.protocol import Encoded, Inputs

IMAGES, CAPTIONS, REGIONS, DIM = 128, 256, 36, 1024
SHORTEST, LONGEST = 7, 20  # words
FEWER = 16  # images and captions where nothing is timed


def sides(images: int, captions: int) -> tuple[Encoded, Encoded]:
    """Unit fragments; captions of every length."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(SHORTEST, LONGEST + 1, (captions,), generator=generator)
    mask = torch.arange(LONGEST) < lengths[:, None]
    regions = F.normalize(torch.randn(images, REGIONS, DIM, generator=generator), dim=-1)
    words = F.normalize(torch.randn(captions, LONGEST, DIM, generator=generator), dim=-1) * mask[..., None]
    full = torch.ones(images, REGIONS, dtype=torch.bool)
    return Encoded(contextual=regions, mask=full), Encoded(contextual=words, mask=mask)


def per_caption(options: Options, images: Encoded, texts: Encoded) -> Tensor:
    """SCAN one caption at a time against all images, as papers implement it: the attended vectors are formed."""
    columns = []
    for words, mask in zip(texts.contextual, texts.mask, strict=True):
        repeated = words[mask].expand(len(images), -1, -1)  # (N, L, d)
        t2i = options.direction == "t2i"
        queries, context = (repeated, images.contextual) if t2i else (images.contextual, repeated)
        relevance = F.leaky_relu(context @ queries.mT, 0.1)  # (N, C, Q)
        relevance = relevance / (relevance.norm(dim=2, keepdim=True) + 1e-8)
        attended = (options.lam * relevance).softmax(1).mT @ context  # (N, Q, d)
        cosines = F.cosine_similarity(queries, attended, dim=2)
        columns.append((options.mu * cosines).logsumexp(1) / options.mu)
    return torch.stack(columns, 1)


def matmul_bound(images: Encoded, texts: Encoded) -> Tensor:
    """The products of all regions with all real words."""
    return images.contextual.flatten(0, 1) @ texts.contextual[texts.mask].T


def fast(options: Options) -> Callable[[Encoded, Encoded], Tensor]:
    return SCAN(Inputs(image_dim=2, regions=REGIONS, vocabulary=5, dim=DIM), options).similarity


def options_of(direction: str) -> Options:
    return Options(**VARIANTS[f"{direction}-lse"])


SCORERS: dict[str, Callable[[Encoded, Encoded], Tensor]] = {
    "matmul-bound": matmul_bound,
    "scan-t2i-reference": lambda images, texts: per_caption(options_of("t2i"), images, texts),
    "scan-t2i-fast": fast(options_of("t2i")),
    "scan-i2t-reference": lambda images, texts: per_caption(options_of("i2t"), images, texts),
    "scan-i2t-fast": fast(options_of("i2t")),
}


@pytest.mark.parametrize("scorer", SCORERS)
@torch.inference_mode()
def test_score(benchmark, request, scorer):
    timed = not request.config.getoption("benchmark_disable")
    images, texts = sides(IMAGES, CAPTIONS) if timed else sides(FEWER, FEWER)
    benchmark.name = f"score[{scorer}]"
    benchmark.pedantic(SCORERS[scorer], (images, texts), rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("direction", ["t2i", "i2t"])
@torch.inference_mode()
def test_both_scorers_agree(direction):
    images, texts = sides(FEWER, FEWER)
    reference, ours = (SCORERS[f"scan-{direction}-{how}"](images, texts) for how in ("reference", "fast"))
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=0)
