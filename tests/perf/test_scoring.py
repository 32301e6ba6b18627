"""How fast all pairs are scored: as published, by the harness, and the matrix product that neither avoids.

`make bench`; ratios inside one run are what counts, so each is timed in turns with what it is set against.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.learn.build import build
from harness.measure.clock import timed
from harness.measure.scoring import Group, all_pairs
from harness.measure.trace import trace
from harness.protocol import Encoded, Inputs, Retriever
from harness.spec import registry
from tests.perf.ratios import spent
from tests.perf.turns import DEVICE, in_turns
from tests.references import REFERENCES
from tests.references_reasoning import REFERENCES as REASONING

ON_GPU = DEVICE.startswith("cuda")
IMAGES, CAPTIONS = (512, 1024) if ON_GPU else (128, 256)  # a GPU would spend its time on starting small products
REGIONS, DIM = 36, 1024
SHORTEST, LONGEST = 7, 20  # words
FEWER = 16  # images and captions where nothing is timed
MEMORY_MIB = 1024
SLOW = {"gsmn": (64, 64), "imram": (32, 64), "sgraf": (64, 64), "camp": (16, 32)}  # fewer pairs where each is dear
BY_LABEL = {
    label: {**REFERENCES, **REASONING}.get(label, REFERENCES.get(label.partition(":")[0]))
    for label in registry.labels()
}
LABELS = [label for label, reference in BY_LABEL.items() if reference is not None]
BY_A_STEP = {"bfan:equal": 0.01, "bfan:prob": 0.01}  # share of pairs whose mask may fall the other way by rounding


def sides(images: int, captions: int) -> tuple[Encoded, Encoded]:
    """Unit fragments, captions of every length, and whatever else a method reads."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(SHORTEST, LONGEST + 1, (captions,), generator=generator)
    mask = torch.arange(LONGEST) < lengths[:, None]
    regions = F.normalize(torch.randn(images, REGIONS, DIM, generator=generator), dim=-1)
    words = F.normalize(torch.randn(captions, LONGEST, DIM, generator=generator), dim=-1) * mask[..., None]
    whole = [F.normalize(torch.randn(n, DIM, generator=generator), dim=-1) for n in (images, captions)]
    extras = {"centres": torch.rand(images, REGIONS, 2, generator=generator)}
    full = torch.ones(images, REGIONS, dtype=torch.bool)
    return (
        Encoded(embedding=whole[0], contextual=regions, mask=full, extras=extras),
        Encoded(embedding=whole[1], contextual=words, mask=mask),
    )


def by_length(texts: Encoded) -> list[Group]:
    """Captions as the evaluator has them."""
    lengths = texts.mask.sum(1).numpy(force=True)
    rows = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
    return [Group(r, texts.select(torch.from_numpy(r).to(DEVICE)).trim(int(lengths[r[0]]))) for r in rows]


def matmul_bound(images: Encoded, texts: Encoded) -> Tensor:
    """The products of all regions with all real words."""
    return images.contextual.flatten(0, 1) @ texts.contextual[texts.mask].T


def model_of(label: str) -> Retriever:
    model = build(registry.model(label), Inputs(image_dim=2, regions=REGIONS, vocabulary=5, dim=DIM), 0)
    return model.to(DEVICE).eval()


def loaded(request, label: str = "") -> tuple[Encoded, Encoded, list[Group]]:
    """What a row scores, and its captions once more by length."""
    method = label.partition(":")[0]
    size = SLOW[method] if method in SLOW and not ON_GPU else (IMAGES, CAPTIONS)
    if request.config.getoption("benchmark_disable"):
        size = (FEWER // 2, FEWER // 2) if method in SLOW else (FEWER, FEWER)
    images, texts = (side.to(DEVICE) for side in sides(*size))
    return images, texts, by_length(texts)


@torch.inference_mode()
def test_matmul_bound(benchmark, request):
    images, texts, _ = loaded(request)
    benchmark.name = "score[matmul-bound]"
    bound = partial(matmul_bound, images, texts)
    benchmark.pedantic(timed, (bound, DEVICE), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("label", LABELS)
@torch.inference_mode()
def test_fast(benchmark, request, label):
    images, texts, groups = loaded(request, label)
    benchmark.name = f"score[{label.replace(':', '-')}-fast]"
    benchmark.extra_info["size"] = f"{len(images)} x {len(texts)}"
    fast = partial(all_pairs, model_of(label), images, groups, MEMORY_MIB)
    in_turns(benchmark, fast, {"score[matmul-bound]": partial(matmul_bound, images, texts)}, rounds=7)


@pytest.mark.parametrize("label", LABELS)
@torch.inference_mode()
def test_reference(benchmark, request, label):
    """Which the fast scores have to agree with."""
    images, texts, groups = loaded(request, label)
    model, name = model_of(label), f"score[{label.replace(':', '-')}-fast]"
    benchmark.name = name.replace("-fast", "-reference")
    benchmark.extra_info["size"] = f"{len(images)} x {len(texts)}"
    reference = partial(BY_LABEL[label], model, images, texts)
    found = in_turns(benchmark, reference, {name: partial(all_pairs, model, images, groups, MEMORY_MIB)}, rounds=3)
    apart = np.abs(found[name] - found[""].numpy(force=True)) > 1e-5
    assert apart.mean() <= BY_A_STEP.get(label, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("label", LABELS)
@torch.inference_mode()
def test_what_the_time_is_spent_on(benchmark, request, tmp_path, label):
    images, _, groups = loaded(request, label)
    score = partial(all_pairs, model_of(label), images, groups, MEMORY_MIB)
    benchmark.name = f"score[{label}]"
    found = benchmark.pedantic(trace, ("score", score, tmp_path, DEVICE), rounds=1)
    benchmark.extra_info |= {"spent": spent(found), "threads": torch.get_num_threads()}
    assert sum(benchmark.extra_info["spent"].values()) == pytest.approx(100)
