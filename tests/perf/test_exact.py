"""How fast one query is answered exactly: our search, torch's matrix-vector product, and reading the bytes once.

And how far two runs of the timing phase are apart.  `pytest tests/perf --benchmark-only --benchmark-group-by=func`;
ratios inside one run are what counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.data import sources
from harness.data.prepared import prepare
from harness.measure.cost import Contender, measure
from harness.measure.exact import ExactIndex
from harness.measure.sampled import STAGES
from harness.phases.train import load_model
from harness.protocol import Encoded
from harness.record import CostRecord
from harness.spec import registry
from harness.spec.job import Data, Job, Settings

ITEMS, DIM, FEWER = 100_000, 1024, 1_000
TOP = 10
QUIET, DRIFT = 0.05, 0.10  # interquartile range of a quiet machine, and how far medians may then be apart


@pytest.fixture(scope="module")
def sides(request) -> tuple[Encoded, Encoded]:
    """Unit embeddings of a gallery and of one caption; few where nothing is timed."""
    items = FEWER if request.config.getoption("benchmark_disable") else ITEMS
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(items, DIM, generator=generator), dim=1)
    return Encoded(embedding=rows), Encoded(embedding=rows[7:8] + 0)


def drift(first: CostRecord, second: CostRecord) -> dict[str, float]:
    """By how much the medians of each stage differ between two timings of a row, over the smaller one."""
    found = {}
    for stage in STAGES:
        low, high = sorted(float(np.median(cost.samples_s[stage])) for cost in (first, second))
        found[stage] = high / low - 1
    return found


@pytest.mark.parametrize("way", ["exact", "torch-mv", "read-bound"])
@torch.inference_mode()
def test_query(benchmark, sides, way):
    images, text = sides
    assert images.embedding is not None
    assert text.embedding is not None
    gallery, query = images.embedding, text.embedding[0]
    index = ExactIndex(images, torch.get_num_threads())
    calls: dict[str, Callable[[], object]] = {
        "exact": lambda: int(index.search(text, TOP)[0][0]),
        "torch-mv": lambda: int((gallery @ query).topk(TOP).indices[0]),
        "read-bound": index.read,
    }
    benchmark.name = f"query[{way}]"
    found = benchmark.pedantic(calls[way], rounds=15, warmup_rounds=2)
    assert found == (float(gallery.max()) if way == "read-bound" else 7)


@pytest.mark.slow
@pytest.mark.usefixtures("same_torch_after")
def test_repeat(benchmark, request):
    """Twice the same phase: on a quiet machine medians agree within a tenth."""
    timed = not request.config.getoption("benchmark_disable")
    rounds = 15 if timed else 1
    settings = Settings(dim=64, word_dim=64, threads=torch.get_num_threads())
    data = replace(Data(name="scenes", train_images=20, dev_images=20, test_images=100), fingerprint="")
    prepared = prepare(replace(data, fingerprint=sources.find("scenes").fingerprint), settings)
    jobs = [Job(data, registry.model(label), settings) for label in ("vsepp", "scan:t2i-lse")]
    rows = [Contender(job, load_model(job, prepared)) for job in jobs]

    def phase() -> list[CostRecord]:
        return measure(rows, prepared.ranked, rounds, budget_s=8.0 if timed else 0.1)

    first = phase()
    second = benchmark.pedantic(phase, rounds=1)
    for one, other in zip(first, second, strict=True):
        apart = drift(one, other)
        noise = {stage: max(c.noise[stage] or 0.0 for c in (one, other)) for stage in apart}
        benchmark.extra_info[one.label] = {"drift": apart, "noise": noise}
        print(one.label, *(f"{s}: {apart[s]:.1%} apart, noise {noise[s]:.1%}" for s in apart), sep="\n  ")
        if timed:
            far = {stage for stage in apart if noise[stage] <= QUIET and apart[stage] > DRIFT}
            assert not far, f"{one.label}: {apart} apart where noise is {noise}"
