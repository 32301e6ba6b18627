"""How long one text query takes against galleries of a thousand to a million images, and against the data's own.

A gallery is the encoded test images, repeated up to its size; every repeat is scaled by a factor of its own close to
one, so that no two images score the same.  What a query costs does not depend on the values, so neither does its time.

Methods take turns at every size, until a row's time is used up.  Sizes beyond that, or beyond memory, are extrapolated
from the largest gallery that was measured, along a law fitted to the largest few, and marked so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.measure.clock import timed
from harness.measure.exact import joined
from harness.measure.law import fit_law
from harness.measure.memory import available_bytes
from harness.measure.metrics import blocks
from harness.measure.query import STAGES, Search, index_bytes, prepared, ready, stages_ms
from harness.measure.sampled import galleries
from harness.progress import Progress, Watch, unwatched
from harness.protocol import Encoded, Retriever
from harness.spec.job import Settings

PROBES = (250, 500)  # measured for the law alone; galleries up to the larger one are measured always
TURNS = 3  # bursts of queries per size, other methods between them
LEAST, MOST = 6, 99  # samples of a size that is measured
WARM = 3  # queries of a burst that are no samples
MEMORY_SHARE = 0.5  # of what is available that one gallery may take
STEP = 1e-6  # by which the factors of two consecutive repeats differ


def enlarged(images: Encoded, size: int) -> Encoded:
    """The first `size` images of endless repeats of `images`, every repeat scaled by a factor of its own."""

    def repeated(tensor: Tensor) -> Tensor:
        large = tensor.new_empty((size, *tensor.shape[1:]))
        for repeat, rows in enumerate(blocks(size, len(tensor))):
            part = tensor[: rows.stop - rows.start]
            if tensor.is_floating_point():
                torch.mul(part, 1 - STEP * repeat, out=large[rows])
            else:
                large[rows] = part
        return large

    own = {f.name: getattr(images, f.name) for f in fields(images) if f.name != "extras"}
    return Encoded(
        **{name: None if tensor is None else repeated(tensor) for name, tensor in own.items()},
        extras={name: repeated(tensor) for name, tensor in images.extras.items()},
    )


# Turns ---------------------------------------------------------------------------------------------------------------


@dataclass
class Searcher:
    """A trained row that answers single queries, and what it has measured so far."""

    model: Retriever
    images: Encoded  # real ones, float32
    encode: Callable[[int], Encoded]  # reads and encodes the query of that number, alone
    queries: int  # how many there are
    settings: Settings
    budget_s: float
    spent_s: float = 0.0
    stopped: str = ""  # why larger galleries are not measured
    samples_ms: dict[int, dict[str, list[float]]] = field(default_factory=dict)  # items -> stage -> of every query
    limits_ms: dict[int, list[float]] = field(default_factory=dict)  # items -> reading the embeddings once
    builds_s: dict[int, list[float]] = field(default_factory=dict)  # items -> making the gallery ready
    _made_s: float = 0.0  # of the latest gallery, per item

    def __post_init__(self) -> None:
        if self.model.family == "independent":
            self.images = joined(self.images)
        self._kept = prepared(self.model, self.images, self.settings)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Galleries in the order they are measured in."""
        return tuple(sorted({*PROBES, *galleries(len(self.images))}))

    def may(self, size: int) -> bool:
        """Whether a gallery of that size is to be measured; if not, `stopped` says why."""
        if self.stopped:
            return False
        held = sum(tensor.numel() * tensor.element_size() for tensor in self._kept.tensors().values())
        needed, limit = held * size // len(self.images), MEMORY_SHARE * available_bytes(self.settings.device)
        if needed > limit:
            self.stopped = f"memory: {size:,} images need {needed / 2**30:.2f} GiB, {limit / 2**30:.2f} may be taken"
        elif size > max(PROBES):
            search_s = fit_law(self.medians_ms).ms(size) / 1000
            rounds = (LEAST + WARM * TURNS) * (self._encode_ms / 1000 + search_s)
            expected = TURNS * self._made_s * size + rounds + (LEAST * search_s if self.limits_ms else 0)
            if expected > self.budget_s - self.spent_s:
                left = max(self.budget_s - self.spent_s, 0)
                self.stopped = f"time: {size:,} images need {expected:.1f} s, {left:.1f} were left"
        return not self.stopped

    def burst(self, size: int) -> None:
        """A gallery, a few queries to warm up, then queries for this turn's share of the time."""
        start = time.perf_counter()
        deadline = start + self.budget_s / (TURNS * len(self.sizes))
        search = self._made(size)
        samples = self.samples_ms.setdefault(size, {stage: [] for stage in STAGES})
        first = len(samples[STAGES[0]])
        for number in range(first, first + WARM):
            self._asked(search, number)
        for number in range(first, first + MOST // TURNS):
            if number - first >= LEAST // TURNS and time.perf_counter() > deadline:
                break
            for stage, ms in self._asked(search, number).items():
                samples[stage].append(ms)
            if search.read is not None:
                _, seconds = timed(search.read, self.settings.device)
                self.limits_ms.setdefault(size, []).append(round(1000 * seconds, 5))
        self.spent_s += time.perf_counter() - start

    def _made(self, size: int) -> Search:
        gallery, enlarged_s = timed(lambda: enlarged(self.images, size), self.settings.device)
        search, ready_s = timed(lambda: ready(self.model, gallery, self.settings), self.settings.device)
        self.builds_s.setdefault(size, []).append(ready_s)
        self._made_s = (enlarged_s + ready_s) / size
        return search

    def _asked(self, search: Search, number: int) -> Mapping[str, float]:
        return stages_ms(self.encode, search, number % self.queries, self.settings.device)[1]

    @property
    def _encode_ms(self) -> float:
        return float(np.median([ms for samples in self.samples_ms.values() for ms in samples["encode"]]))

    @property
    def probed_encode_ms(self) -> list[float]:
        """Samples of encoding that no entry of `rows` has."""
        reported = galleries(len(self.images))
        return [ms for size in PROBES if size not in reported for ms in self.samples_ms[size]["encode"]]

    def searched_ms(self, size: int) -> list[float]:
        """Of every query what it took once its caption was encoded."""
        samples = self.samples_ms[size]
        return [search + rank for search, rank in zip(samples["search"], samples["rank"], strict=True)]

    @property
    def medians_ms(self) -> dict[int, float]:
        return {size: float(np.median(self.searched_ms(size))) for size in self.samples_ms}

    def rows(self) -> list[Mapping[str, Any]]:
        """One entry a size: percentiles of search and rank, whether they were measured, and every sample."""
        law = fit_law(self.medians_ms)
        last = max(self.samples_ms)
        largest = percentiles(self.searched_ms(last))
        per_image = index_bytes(self._kept) // len(self._kept)
        found: list[Mapping[str, Any]] = []
        for size in galleries(len(self.images)):
            measured, limits = size in self.samples_ms, self.limits_ms.get(size, [])
            if measured:
                ms = percentiles(self.searched_ms(size))
            else:  # from the largest size that was measured on, along the law
                ms = {name: value * law.ms(size) / law.ms(last) for name, value in largest.items()}
            entry = {"items": size, **ms, "measured": measured, "bytes": per_image * size}
            raw = {
                "stages_ms": self._told(size),
                "limit_samples_ms": limits,
                "build_samples_s": self.builds_s.get(size, []),
            }
            limit = float(np.median(limits)) if limits else None
            found.append(entry | {"note": "" if measured else self.stopped, "limit_ms": limit} | raw)
        return found

    def _told(self, size: int) -> dict[str, list[float]]:
        """Samples by stage, none of encoding where what was encoded elsewhere is looked up."""
        told = self.samples_ms.get(size) or {stage: [] for stage in STAGES}
        return told if self.model.encodes else {**told, "encode": []}

    def law(self) -> dict[str, Any]:
        """The fitted law, and the samples of the small galleries that only it is made from."""
        law = fit_law(self.medians_ms)
        probes = [{"items": size, "samples_ms": self.searched_ms(size)} for size in PROBES]
        named = {name: getattr(law, name) for name in ("intercept_ms", "ms_per_item", "residual")}
        return {**named, "fitted_items": list(law.fitted), "probes": probes}


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99, interpolated between samples."""
    return {f"p{p}_ms": float(np.percentile(samples, p)) for p in (50, 95, 99)}


def take_turns(searchers: Iterable[Searcher], watch: Watch = unwatched) -> None:
    """All rows at one size, in bursts by turns, then at the next."""
    searchers = list(searchers)
    galleries = sorted({size for searcher in searchers for size in searcher.sizes})
    total = len(galleries) * TURNS * len(searchers)
    for place, size in enumerate(galleries):
        able = [searcher.may(size) for searcher in searchers]
        for turn in range(TURNS):
            for number, searcher in enumerate(searchers):
                if able[number]:
                    searcher.burst(size)
                watch(Progress("query", (place * TURNS + turn) * len(searchers) + number + 1, total))
