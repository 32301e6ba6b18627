"""How long one text query takes against galleries of a thousand to a million images.

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
from scipy.optimize import nnls
from torch import Tensor

from harness.measure.clock import timed
from harness.measure.exact import ExactIndex, joined, top_k
from harness.measure.memory import available_bytes
from harness.measure.metrics import blocks
from harness.measure.scoring import block_shape
from harness.precision import score_products
from harness.progress import Progress, Watch, unwatched
from harness.protocol import Encoded, Retriever
from harness.spec.job import Settings

SIZES = (1_000, 5_000, 10_000, 100_000, 1_000_000)
PROBES = (250, 500)  # measured for the law alone, and always
TURNS = 3  # bursts of queries per size, other methods between them
LEAST, MOST = 6, 99  # samples of a size that is measured
ENCODED = 5  # captions encoded one by one in each burst
TOP = 10  # images a query asks for
FITTED = 4  # largest measured sizes the law is fitted to
MEMORY_SHARE = 0.5  # of what is available that one gallery may take
STEP = 1e-6  # by which the factors of two consecutive repeats differ


# Cost law ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Law:
    """Milliseconds of a query = intercept_ms + ms_per_item * items."""

    intercept_ms: float
    ms_per_item: float
    residual: float  # largest relative deviation of a fitted median from the law
    fitted: tuple[int, ...]  # sizes of the galleries it was fitted to

    def ms(self, items: int) -> float:
        return self.intercept_ms + self.ms_per_item * items


def fit_law(medians_ms: Mapping[int, float]) -> Law:
    """Least squares of relative deviations over the largest sizes, neither part negative.

    medians_ms: items -> milliseconds, at least two sizes.
    """
    sizes = sorted(medians_ms)[-FITTED:]
    if len(sizes) < 2:
        raise ValueError(f"a law needs two galleries, got {len(sizes)}")
    items, medians = np.array(sizes, float), np.array([medians_ms[size] for size in sizes])
    terms = np.stack([1 / medians, items / medians], 1)  # each row times the parts of the law should be 1
    scale = terms.max(0)  # items are many: equal columns are better conditioned
    parts = nnls(terms / scale, np.ones(len(sizes)))[0] / scale
    return Law(float(parts[0]), float(parts[1]), float(np.abs(terms @ parts - 1).max()), tuple(sizes))


# Galleries -----------------------------------------------------------------------------------------------------------


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


def index_bytes(encoded: Encoded) -> int:
    """Bytes an index keeps of encoded items in float32; the mask of items without padding is free."""
    return sum(t.numel() * t.element_size() for t in encoded.tensors().values() if t.is_floating_point())


def answerer(model: Retriever, gallery: Encoded, settings: Settings) -> Callable[[Encoded], np.ndarray]:
    """One encoded caption -> the TOP best images of the gallery, best first."""
    if model.family == "independent" and not settings.device.startswith("cuda"):
        index = ExactIndex(gallery, settings.threads)
        return lambda text: index.search(text, TOP)[0]

    def answer(text: Encoded) -> np.ndarray:
        size, _ = block_shape(model, gallery, text, settings.score_memory_mib)
        with score_products(settings, model.family):
            parts = [model.similarity(gallery.select(rows), text)[:, 0] for rows in blocks(len(gallery), size)]
        scores = torch.cat(parts).float()
        if scores.device.type == "cpu":
            return top_k(scores.numpy(), TOP)
        return scores.topk(min(TOP, len(scores))).indices.cpu().numpy()

    return answer


# Turns ---------------------------------------------------------------------------------------------------------------


@dataclass
class Searcher:
    """A trained row that answers single queries, and what it has measured so far."""

    model: Retriever
    images: Encoded  # real ones, float32
    queries: Sequence[Encoded]  # single captions
    encode: Callable[[int], object]  # encodes the query of that number again, alone
    settings: Settings
    budget_s: float
    spent_s: float = 0.0
    stopped: str = ""  # why larger galleries are not measured
    samples_ms: dict[int, list[float]] = field(default_factory=dict)  # items -> every sample, in order
    limits_ms: dict[int, list[float]] = field(default_factory=dict)  # items -> reading the embeddings once
    encode_ms: list[float] = field(default_factory=list)  # one caption at a time
    _build_s: float = 0.0  # of the latest gallery, per item

    def __post_init__(self) -> None:
        if self.model.family == "independent":
            self.images = joined(self.images)
            if self.images.embedding is not None and self.images.embedding.ndim == 2:
                self.queries = [joined(query) for query in self.queries]

    def may(self, size: int) -> bool:
        """Whether a gallery of that size is to be measured; if not, `stopped` says why."""
        if self.stopped:
            return False
        held = sum(tensor.numel() * tensor.element_size() for tensor in self.images.tensors().values())
        needed, limit = held * size // len(self.images), MEMORY_SHARE * available_bytes(self.settings.device)
        if needed > limit:
            self.stopped = f"memory: {size:,} images need {needed / 2**30:.2f} GiB, {limit / 2**30:.2f} may be taken"
        elif size not in PROBES:
            query_s = fit_law(self.medians_ms).ms(size) / 1000
            expected = TURNS * self._build_s * size + (LEAST * (2 if self._streams else 1) + TURNS) * query_s
            if expected > self.budget_s - self.spent_s:
                left = max(self.budget_s - self.spent_s, 0)
                self.stopped = f"time: {size:,} images need {expected:.1f} s, {left:.1f} were left"
        return not self.stopped

    def burst(self, size: int) -> None:
        """A gallery, one query to warm up, then queries for this turn's share of the time."""
        start = time.perf_counter()
        deadline = start + self.budget_s / (TURNS * len((*PROBES, *SIZES)))
        gallery, build_s = timed(lambda: enlarged(self.images, size), self.settings.device)
        self._build_s = build_s / size
        answer = answerer(self.model, gallery, self.settings)
        index = ExactIndex(gallery, self.settings.threads) if self._streams else None
        samples = self.samples_ms.setdefault(size, [])
        first = len(samples)
        self.encode(first % len(self.queries))
        answer(self.queries[first % len(self.queries)])
        while (taken := len(samples) - first) < MOST // TURNS:
            if taken >= LEAST // TURNS and time.perf_counter() > deadline:
                break
            number = len(samples) % len(self.queries)
            query = self.queries[number]
            if taken < ENCODED:
                self.encode_ms.append(self._ms(lambda number=number: self.encode(number)))
            samples.append(self._ms(lambda query=query: answer(query)))
            if index is not None:
                self.limits_ms.setdefault(size, []).append(self._ms(index.read))
        self.spent_s += time.perf_counter() - start

    @property
    def _streams(self) -> bool:
        """Whether a query reads the embeddings once and does little else."""
        return self.model.family == "independent" and not self.settings.device.startswith("cuda")

    def _ms(self, call: Callable[[], object]) -> float:
        return round(1000 * timed(call, self.settings.device)[1], 5)

    @property
    def medians_ms(self) -> dict[int, float]:
        return {size: float(np.median(samples)) for size, samples in self.samples_ms.items()}

    def rows(self) -> list[Mapping[str, Any]]:
        """One entry a size: percentiles, whether they were measured, and every sample."""
        law = fit_law(self.medians_ms)
        last = max(self.samples_ms)
        largest = percentiles(self.samples_ms[last])
        per_image = index_bytes(self.images) // len(self.images)
        found: list[Mapping[str, Any]] = []
        for size in SIZES:
            samples, limits = self.samples_ms.get(size, []), self.limits_ms.get(size, [])
            if samples:
                ms = percentiles(samples)
            else:  # from the largest size that was measured on, along the law
                ms = {name: value * law.ms(size) / law.ms(last) for name, value in largest.items()}
            entry = {"items": size, **ms, "measured": bool(samples), "bytes": per_image * size}
            note = "" if samples else self.stopped
            limit = float(np.median(limits)) if limits else None
            found.append(entry | {"note": note, "limit_ms": limit, "samples_ms": samples, "limit_samples_ms": limits})
        return found

    def law(self) -> dict[str, Any]:
        """The fitted law, and the samples of the small galleries that only it is made from."""
        law = fit_law(self.medians_ms)
        probes = [{"items": size, "samples_ms": self.samples_ms[size]} for size in PROBES]
        named = {name: getattr(law, name) for name in ("intercept_ms", "ms_per_item", "residual")}
        return {**named, "fitted_items": list(law.fitted), "probes": probes}


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99, interpolated between samples."""
    return {f"p{p}_ms": float(np.percentile(samples, p)) for p in (50, 95, 99)}


def take_turns(searchers: Iterable[Searcher], watch: Watch = unwatched) -> None:
    """All rows at one size, in bursts by turns, then at the next."""
    searchers = list(searchers)
    sizes = (*PROBES, *SIZES)
    total = len(sizes) * TURNS * len(searchers)
    for place, size in enumerate(sizes):
        able = [searcher.may(size) for searcher in searchers]
        for turn in range(TURNS):
            for number, searcher in enumerate(searchers):
                if able[number]:
                    searcher.burst(size)
                watch(Progress("query", (place * TURNS + turn) * len(searchers) + number + 1, total))
