"""Time of every stage of retrieval, in a phase of its own: methods take turns, so that drift hits all alike.

One sample of a stage is one pass over the same images, captions and queries for every method:
encode_images, encode_texts   from stored fragments or token numbers to what an index keeps
score                         caption queries against the whole gallery
rank                          from those scores to the place of the right image of each query

After the stages single captions are encoded and searched for in growing galleries (`gallery`).
Threads are those of the settings, in torch and in our own code; numpy's products, which have threads of their own, are
not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import cast

import numpy as np
import torch

from harness.data.prepared import Side, image_batch, text_batch
from harness.data.split import Images
from harness.data.vocabulary import Tokens
from harness.measure import gallery, metrics, sampled
from harness.measure.clock import timed
from harness.measure.evaluator import encode_images, encode_texts, in_float32
from harness.measure.flops import flops
from harness.measure.gallery import Searcher
from harness.measure.memory import peak_of
from harness.measure.provenance import machine
from harness.measure.query import encoder, index_bytes, prepared
from harness.measure.sampled import BUDGET_S, stages
from harness.measure.scoring import all_pairs, in_order
from harness.measure.shortlist import searched
from harness.precision import score_products
from harness.progress import Progress, Watch, unwatched
from harness.protocol import PairScorer, Retriever, Staged
from harness.record import CostRecord, Gallery
from harness.spec.job import Job

COUNTED = 32  # images and captions whose operations are counted
COUNTED_PASSES = 2  # images of pairs that are looked at one by one


@dataclass(frozen=True)
class Contender:
    """A trained model at the start of the timing phase."""

    job: Job
    model: Retriever


@dataclass(frozen=True)
class Workload:
    """What one sample of each stage works on; the same for all contenders."""

    images: Images
    tokens: Tokens
    queries: np.ndarray  # (q,) which captions are scored
    query_images: np.ndarray  # (q,) their images
    gallery: Images

    @property
    def sizes(self) -> dict[str, int]:
        return {
            "images": len(self.images),
            "captions": len(self.tokens.lengths),
            "queries": len(self.queries),
            "gallery": len(self.gallery),
        }


def workload(side: Side) -> Workload:
    """Queries and captions are spread evenly over the split."""
    captions = spread(len(side.tokens.lengths), sampled.CAPTIONS)
    queries = spread(len(side.tokens.lengths), sampled.QUERIES)
    return Workload(
        images=side.split.images.first(sampled.IMAGES),
        tokens=side.tokens.some(captions),
        queries=queries,
        query_images=side.split.caption_to_image[queries],
        gallery=side.split.images,
    )


def spread(length: int, count: int) -> np.ndarray:
    """At most `count` indices of range(length), evenly spaced."""
    return np.linspace(0, length - 1, min(count, length)).round().astype(np.int64)


def measure(
    contenders: Sequence[Contender], side: Side, rounds: int, watch: Watch = unwatched, budget_s: float = BUDGET_S
) -> list[CostRecord]:
    """One warm-up round, then up to `rounds` rounds in which the contenders take turns; then single queries, likewise.

    A row that has used up half its budget sits out the rounds after its first.  Every sample is kept.
    """
    load = workload(side)
    with torch.inference_mode():
        benches = [_Bench(contender, load, side) for contender in contenders]
        samples: list[dict[str, list[float]]] = [{stage: [] for stage in stages(row.job)} for row in contenders]
        for turn in range(rounds + 1):
            for place, bench in enumerate(benches):
                if turn < 2 or sum(chain.from_iterable(samples[place].values())) < budget_s / 2:
                    for stage, seconds in bench.sample().items():
                        samples[place][stage] += [seconds] if turn else []
                watch(Progress("time", turn * len(benches) + place + 1, (rounds + 1) * len(benches)))
        searchers = [bench.searcher(budget_s / 2) for bench in benches]
        gallery.take_turns(searchers, watch)
        asked = {"rounds": rounds, "budget_s": budget_s}
        return [
            bench.record(kept, searcher, asked)
            for bench, kept, searcher in zip(benches, samples, searchers, strict=True)
        ]


class _Bench:
    """One contender with its gallery and queries encoded ahead, as an index would hold them."""

    def __init__(self, contender: Contender, load: Workload, side: Side) -> None:
        self.job, self.model, self.load, self.side = contender.job, contender.model.eval(), load, side
        self.images = in_float32(encode_images(self.model, load.gallery, self.job.settings))
        self.gallery = prepared(self.model, self.images, self.job.settings)
        groups = encode_texts(self.model, side.tokens, self.job.settings, load.queries)
        self.queries = [replace(group, encoded=in_float32(group.encoded)) for group in groups]
        self.peak_memory_mib: float | None = None
        self.stages = stages(contender.job)

    def sample(self) -> Mapping[str, float]:
        seconds, peak = peak_of(self._stages, self.job.settings.device)
        self.peak_memory_mib = max(filter(None, (peak, self.peak_memory_mib)), default=None)
        return seconds

    def _stages(self) -> Mapping[str, float]:
        settings, load = self.job.settings, self.load
        calls: dict[str, Callable[[], object]] = {
            "encode_images": lambda: encode_images(self.model, load.images, settings),
            "encode_texts": lambda: encode_texts(self.model, load.tokens, settings),
        }
        seconds = {stage: timed(calls[stage], settings.device)[1] for stage in calls if stage in self.stages}
        with score_products(settings, self.model.family):
            scores, seconds["score"] = timed(self._scores, settings.device)
        _, seconds["rank"] = timed(lambda: metrics.text_to_image_ranks(scores, load.query_images), settings.device)
        return seconds

    def _scores(self) -> np.ndarray:
        """(gallery, queries), by both stages where there are two."""
        memory_mib = self.job.settings.score_memory_mib
        if not isinstance(self.model, Staged):
            return all_pairs(self.model, self.gallery, self.queries, memory_mib)
        quick = all_pairs(self.model, self.gallery, self.queries, memory_mib, score=self.model.first)
        return searched(self.model, self.gallery, in_order(self.queries).encoded, quick)

    def searcher(self, budget_s: float) -> Searcher:
        """The row as it answers single queries, in an order in which lengths are mixed."""
        captions = np.random.default_rng(0).permutation(self.load.queries).tolist()
        encode = encoder(self.model, self.side, self.job.settings)
        return Searcher(
            self.model,
            self.images,
            lambda number: encode(captions[number]),
            len(captions),
            self.job.settings,
            budget_s,
        )

    def flops(self) -> dict[str, float]:
        """Operations per image, per caption and per pair, each a mean over a batch."""
        model, device = self.model, self.job.settings.device
        images = image_batch(self.load.images.first(COUNTED), slice(None), model.needs).to(device)
        texts = text_batch(self.load.tokens, slice(0, COUNTED), model.needs).to(device)
        some, groups = self.gallery.select(slice(0, COUNTED)), [group.encoded for group in self.queries]
        if isinstance(model, PairScorer):  # each pair is a pass: a few tell
            some, groups = some.select(slice(0, COUNTED_PASSES)), [encoded.select(slice(0, 1)) for encoded in groups]
        pairs = flops(lambda: [model.similarity(some, encoded) for encoded in groups])
        each = {"pair": pairs / (len(some) * sum(map(len, groups)))}
        if not model.encodes:
            return each
        return {
            "image": flops(lambda: model.prepared(model.indexed(model.encode_images(images)))) / len(images),
            "caption": flops(lambda: model.indexed(model.encode_texts(texts))) / len(texts),
        } | each

    def _parameters(self) -> int | None:
        """Trained ones; None where nobody says."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad) if self.model.encodes else None

    def record(self, samples: Mapping[str, list[float]], searcher: Searcher, asked: Mapping[str, float]) -> CostRecord:
        return CostRecord(
            key=self.job.key,
            label=self.job.model.label,
            machine=machine(self.job.settings),
            sizes=self.load.sizes,
            samples_s=samples,
            index_bytes_per_image=index_bytes(self.gallery) / len(self.gallery),
            index_bytes_per_caption=sum(index_bytes(g.encoded) for g in self.queries) / len(self.load.queries),
            asked=asked,
            noise=noise(samples),
            parameters=self._parameters(),
            flops=self.flops(),
            peak_memory_mib=self.peak_memory_mib,
            query_encode_ms=searcher.probed_encode_ms if self.model.encodes else [],
            galleries=cast(list[Gallery], searcher.rows()),
            law=searcher.law(),
        )


def noise(samples: Mapping[str, Sequence[float]]) -> dict[str, float | None]:
    """Interquartile range of each stage over its median; None where there are fewer than three samples."""
    spreads: dict[str, float | None] = {}
    for stage, seconds in samples.items():
        low, middle, high = np.percentile(seconds, [25, 50, 75]) if len(seconds) > 2 else (0.0, 0.0, 0.0)
        spreads[stage] = float((high - low) / middle) if middle else None
    return spreads
