"""Time of every stage of retrieval, in a phase of its own: methods take turns, so that drift hits all alike.

One sample of a stage is one pass over the same images, captions and queries for every method:
encode_images, encode_texts   from stored fragments or token numbers to what an index keeps
score                         caption queries against the whole gallery
rank                          from those scores to the place of the right image of each query
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from harness.data.prepared import Side
from harness.data.split import Images
from harness.data.vocabulary import Tokens
from harness.jobs.spec import Job
from harness.measure import metrics
from harness.measure.evaluator import encode_images, encode_texts, in_float32, timed
from harness.measure.provenance import machine
from harness.measure.scoring import all_pairs
from harness.progress import Progress, Watch, unwatched
from harness.protocol import Encoded, Retriever
from harness.record import CostRecord

STAGES = ("encode_images", "encode_texts", "score", "rank")
IMAGES, CAPTIONS, QUERIES = 256, 512, 256  # items of one sample, fewer where the split has fewer


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
    captions = spread(len(side.tokens.lengths), CAPTIONS)
    queries = spread(len(side.tokens.lengths), QUERIES)
    return Workload(
        images=side.split.images.first(IMAGES),
        tokens=Tokens(side.tokens.ids[captions], side.tokens.lengths[captions]),
        queries=queries,
        query_images=side.split.caption_to_image[queries],
        gallery=side.split.images,
    )


def spread(length: int, count: int) -> np.ndarray:
    """At most `count` indices of range(length), evenly spaced."""
    return np.linspace(0, length - 1, min(count, length)).round().astype(np.int64)


def measure(contenders: Sequence[Contender], side: Side, rounds: int, watch: Watch = unwatched) -> list[CostRecord]:
    """One warm-up round, then `rounds` rounds in which the contenders take turns.  Every sample is kept."""
    load = workload(side)
    with torch.inference_mode():
        benches = [_Bench(contender, load, side.tokens) for contender in contenders]
        samples: list[dict[str, list[float]]] = [{stage: [] for stage in STAGES} for _ in benches]
        for turn in range(rounds + 1):
            for place, bench in enumerate(benches):
                for stage, seconds in bench.sample().items():
                    samples[place][stage] += [seconds] if turn else []
                watch(Progress("time", turn * len(benches) + place + 1, (rounds + 1) * len(benches)))
    return [bench.record(kept) for bench, kept in zip(benches, samples, strict=True)]


class _Bench:
    """One contender with its gallery and queries encoded ahead, as an index would hold them."""

    def __init__(self, contender: Contender, load: Workload, tokens: Tokens) -> None:
        self.job, self.model, self.load = contender.job, contender.model.eval(), load
        self.gallery = in_float32(encode_images(self.model, load.gallery, self.job.settings))
        groups = encode_texts(self.model, tokens, self.job.settings, load.queries)
        self.queries = [replace(group, encoded=in_float32(group.encoded)) for group in groups]

    def sample(self) -> Mapping[str, float]:
        settings, load = self.job.settings, self.load
        calls: dict[str, Callable[[], object]] = {
            "encode_images": lambda: encode_images(self.model, load.images, settings),
            "encode_texts": lambda: encode_texts(self.model, load.tokens, settings),
        }
        seconds = {stage: timed(call)[1] for stage, call in calls.items()}
        scores, seconds["score"] = timed(
            lambda: all_pairs(self.model, self.gallery, self.queries, settings.score_memory_mib)
        )
        _, seconds["rank"] = timed(lambda: metrics.text_to_image_ranks(scores, load.query_images))
        return seconds

    def record(self, samples: Mapping[str, list[float]]) -> CostRecord:
        return CostRecord(
            key=self.job.key,
            label=self.job.model.label,
            machine=machine(self.job.settings),
            sizes=self.load.sizes,
            samples_s=samples,
            index_bytes_per_image=index_bytes(self.gallery) / len(self.gallery),
            index_bytes_per_caption=sum(index_bytes(g.encoded) for g in self.queries) / len(self.load.queries),
        )


def index_bytes(encoded: Encoded) -> int:
    """Bytes an index keeps of encoded items in float32; the mask of items without padding is free."""
    return sum(t.numel() * t.element_size() for t in encoded.tensors().values() if t.is_floating_point())


def is_current(cost: CostRecord | None, job: Job, load: Workload, rounds: int) -> bool:
    """Whether stored samples are of this machine, workload and number of rounds."""
    return (
        cost is not None
        and cost.machine == machine(job.settings)
        and cost.sizes == load.sizes
        and all(len(cost.samples_s.get(stage, ())) == rounds for stage in STAGES)
    )
