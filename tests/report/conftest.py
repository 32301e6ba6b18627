"""Made-up results folders, small enough to work out by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.record import AskedRecord, CostRecord, Gallery, Ranks, Record, TunedFrom
from harness.spec import registry
from harness.spec.job import Data, Job, Model, Settings
from harness.store import Store

LEAST = 12  # queries; fewer are repeated, so that the gallery is larger than any rank given: no share changes by that
IMAGES, CAPTIONS = 12, 30  # of 2 images and 5 captions, repeated
MACHINE = {"device": "abacus", "threads": 2}
SIZES = {"images": 2, "captions": 5, "queries": 5, "gallery": 2}


def made_ranks(
    i2t: Sequence[int], t2i: Sequence[int], folds: bool = False, groups: Mapping[str, Sequence[bool]] | None = None
) -> Ranks:
    """With folds, image and caption q of those given are of fold q."""
    none = np.zeros(0, np.int32)
    times = -(-LEAST // min(len(i2t), len(t2i))) if len(i2t) and len(t2i) else 1
    images, captions = len(i2t) * times, len(t2i) * times

    def repeated(numbers: Iterable[int]) -> np.ndarray:
        return np.tile(np.array(list(numbers), np.int32), times)

    owners = np.arange(len(t2i), dtype=np.int32) * len(i2t) // max(1, len(t2i))
    whose = np.concatenate([owners + len(i2t) * turn for turn in range(times)]).astype(np.int32)
    return Ranks(
        i2t=repeated(i2t),
        t2i=repeated(t2i),
        i2t_top=np.zeros((images, 1), np.int32),
        t2i_top=np.zeros((captions, 1), np.int32),
        fold_i2t=np.zeros(images, np.int32) if folds else none,
        fold_t2i=np.zeros(captions, np.int32) if folds else none,
        fold_of_image=repeated(range(len(i2t))) if folds else none,
        fold_of_caption=repeated([caption % len(i2t) for caption in range(len(t2i))]) if folds else none,
        groups={name: np.tile(mask, times) for name, mask in (groups or {}).items()},
        caption_to_image=whose if len(t2i) >= len(i2t) > 0 else None,
    )


class Maker:
    """Fills a results folder record by record."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store(folder)

    ranks = staticmethod(made_ranks)

    def job(self, row: str | Model, seed: int = 0, data: Mapping[str, Any] | None = None, **settings: Any) -> Job:
        model = registry.model(row) if isinstance(row, str) else row
        return Job(replace(Data(), **(data or {})), model, Settings(seed=seed, **settings))

    def add(self, job: Job, ranks: Ranks | None, **fields: Any) -> str:
        sizes = (IMAGES, CAPTIONS) if ranks is None else (len(ranks.i2t), len(ranks.t2i))
        counts = {job.data.ranked: {"images": sizes[0], "captions": sizes[1], "notes": []}}
        described = {"parameters": 1234, "data": counts, "provenance": {"commit": "abc"}} | fields
        method = registry.methods().get(job.model.method)
        family = described.pop("family", method.family if method else "independent")
        record = Record(
            key=job.key,
            label=job.model.label,
            status=described.pop("status", "ok"),
            job=job.as_dict(),
            family=family,
            **described,
        )
        self.store.save(record, ranks)
        return job.key

    def settle(self) -> None:
        """As if every record had the settings of trials of its own."""
        source = TunedFrom(value="0" * 16, row="any", how="own")
        keys = [record.key for record in self.store.records()]
        self.store.save_asked(AskedRecord("1" * 16, "full", False, keys, [], [], dict.fromkeys(keys, source)))

    def time(
        self, job: Job, score: float, machine: Mapping[str, Any] = MACHINE, sizes: Mapping[str, int] = SIZES
    ) -> None:
        """Three samples a stage; the middle one of `score` is as given, in seconds."""
        samples = {
            "encode_images": [0.2, 0.1, 0.3],
            "encode_texts": [0.05] * 3,
            "score": [score, 0, 9],
            "rank": [0.01] * 3,
        }
        cost = CostRecord(
            job.key, job.model.label, machine, sizes, samples, index_bytes_per_image=1024, index_bytes_per_caption=512
        )
        self.store.save_cost(cost)

    def ask(self, job: Job, encode: Sequence[float], search: Sequence[float], rank: Sequence[float]) -> None:
        """Single queries among the images of the data, query by query in milliseconds, of a job that is timed."""
        cost = self.store.cost(job.key)
        assert cost is not None
        stages = {"encode": list(encode), "search": list(search), "rank": list(rank)}
        later = np.add(search, rank)
        own: Gallery = {
            "items": cost.sizes["gallery"],
            "p50_ms": float(np.median(later)),
            "p95_ms": float(np.percentile(later, 95)),
            "p99_ms": float(np.percentile(later, 99)),
            "measured": True,
            "note": "",
            "limit_ms": None,
            "bytes": 1024.0,
            "stages_ms": stages,
            "build_samples_s": [0.002],
        }
        self.store.save_cost(replace(cost, galleries=[own]))


def filled(make: Maker) -> Maker:
    """Chance, a host with and without SelfAlign (two seeds), an interactive model (one seed) and a host that failed."""
    groups = {"binding": [True, True, False, False, False]}
    outcomes = {
        ("chance", 0): ([9, 10], [9, 10, 10, 10, 10]),
        ("vsepp", 0): ([4, 9], [0, 4, 9, 10, 10]),
        ("vsepp", 1): ([4, 10], [0, 4, 9, 10, 10]),
        ("vsepp+selfalign", 0): ([0, 9], [0, 0, 9, 10, 10]),
        ("vsepp+selfalign", 1): ([0, 9], [0, 0, 4, 10, 10]),
        ("scan:t2i-lse", 0): ([0, 0], [0, 0, 0, 0, 10]),
    }
    for (label, seed), (i2t, t2i) in outcomes.items():
        make.add(
            make.job(label, seed), made_ranks(i2t, t2i, groups=groups), parameters=0 if label == "chance" else 1234
        )
    for label, score in {"chance": 0.04, "vsepp": 0.04, "vsepp+selfalign": 0.09, "scan:t2i-lse": 4.99}.items():
        make.time(make.job(label), score)
    make.add(make.job("vsrn"), None, status="failed", error="LossError: hinge is nan in step 7", parameters=None)
    return make


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "full-scenes")


@pytest.fixture
def stored(make: Maker) -> Maker:
    return filled(make)
