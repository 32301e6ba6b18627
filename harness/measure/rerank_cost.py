"""How long is a query that one model retrieves and another reranks?  Both parts on their own, methods taking turns.

retrieve   an independent model scores the query against the whole encoded gallery and picks the best k
rerank     an interactive model gathers the fragments of k candidates, scores them and puts them in order

Encoding the query is left out, as in `score` of harness.measure.cost.  A pair's time is the sum of its parts.
Candidates are drawn once for all methods, others for every query, so that no method finds them in a warm cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from harness.data.prepared import Side
from harness.measure.clock import timed
from harness.measure.cost import Contender, spread
from harness.measure.evaluator import encode_images, encode_texts, in_float32
from harness.measure.scoring import Group, all_pairs
from harness.precision import score_products
from harness.progress import Progress, Watch, unwatched
from harness.protocol import Encoded, concatenate

WAYS = ("i2t", "t2i")
QUERIES = 16  # most queries of one sample
PAIRS = 2000  # pairs of one sample beyond which it has fewer queries, one at least

Samples = dict[str, list[list[float]]]  # `t2i_retrieve` and so on -> for every k the seconds per query of each sample


def queries_of(k: int) -> int:
    """How many queries one sample of shortlists of k averages."""
    return max(1, min(QUERIES, PAIRS // k))


@dataclass(frozen=True)
class Plan:
    """The same queries and candidates for all methods."""

    ks: tuple[int, ...]
    queries: Mapping[str, np.ndarray]  # way -> (Q,) images (i2t) or captions (t2i)
    order: Mapping[str, np.ndarray]  # way -> (G,) the gallery in a drawn order

    def candidates(self, way: str, query: int, k: int) -> np.ndarray:
        """(min(k, G),) gallery items of the `query`-th query."""
        order = self.order[way]
        start = query * len(order) // len(self.queries[way])
        return order[(start + np.arange(min(k, len(order)))) % len(order)]


def plan(side: Side, ks: Sequence[int]) -> Plan:
    images, captions = len(side.split.images), len(side.split.captions)
    draw = np.random.default_rng(0).permutation
    return Plan(
        tuple(ks),
        queries={"i2t": spread(images, QUERIES), "t2i": spread(captions, QUERIES)},
        order={"i2t": draw(captions), "t2i": draw(images)},
    )


def measure(
    contenders: Sequence[Contender], side: Side, ks: Sequence[int], rounds: int, watch: Watch = unwatched
) -> dict[str, Samples]:
    """Key of each contender -> its samples: one warm-up round, then `rounds` rounds of turns.  None for no rounds."""
    if not rounds:
        return {}
    shared = plan(side, ks)
    with torch.inference_mode():
        benches = [_Bench(contender, side, shared) for contender in contenders]
        found = {bench.key: {stage: [[] for _ in ks] for stage in bench.stages} for bench in benches}
        for turn in range(rounds + 1):
            for place, bench in enumerate(benches):
                for stage in bench.stages:
                    for at, k in enumerate(ks):
                        seconds = bench.sample(stage, k)
                        found[bench.key][stage][at] += [seconds] if turn else []
                watch(Progress("time", turn * len(benches) + place + 1, (rounds + 1) * len(benches)))
    return found


class _Bench:
    """One contender with both galleries encoded, as indexes would hold them."""

    def __init__(self, contender: Contender, side: Side, shared: Plan) -> None:
        self.key, self.plan = contender.job.key, shared
        self.model, self.settings = contender.model.eval(), contender.job.settings
        self.images = in_float32(encode_images(self.model, side.split.images, self.settings))
        groups = encode_texts(self.model, side.tokens, self.settings)
        self.groups = [replace(group, encoded=in_float32(group.encoded)) for group in groups]
        self.group_of, self.place_of = _places(self.groups, len(side.split.captions))
        part = "retrieve" if self.model.family == "independent" else "rerank"
        self.stages = [f"{way}_{part}" for way in WAYS]
        self.captions = _in_order(self.groups, self.group_of, self.place_of) if part == "retrieve" else None

    def sample(self, stage: str, k: int) -> float:
        """Seconds per query."""
        way, _, part = stage.partition("_")
        count = min(queries_of(k), len(self.plan.queries[way]))
        answer: Callable[[str, int, int], object] = self._retrieve if part == "retrieve" else self._rerank
        return timed(lambda: [answer(way, query, k) for query in range(count)], self.settings.device)[1] / count

    def _retrieve(self, way: str, query: int, k: int) -> torch.Tensor:
        """The best k of the whole gallery, best first."""
        item = int(self.plan.queries[way][query])
        if way == "t2i":
            scores = self.model.similarity(self.images, self._caption(item))[:, 0]
        else:
            assert self.captions is not None  # independent models have them in one piece
            scores = self.model.similarity(self.images.select(slice(item, item + 1)), self.captions)[0]
        return scores.topk(min(k, len(scores))).indices.cpu()

    def _rerank(self, way: str, query: int, k: int) -> np.ndarray:
        """k candidates in the model's order."""
        item, found = int(self.plan.queries[way][query]), self.plan.candidates(way, query, k)
        if way == "t2i":
            images, groups = self.images.select(torch.from_numpy(found)), [Group(np.zeros(1, int), self._caption(item))]
        else:
            images, groups = self.images.select(slice(item, item + 1)), self._captions(found)
        with score_products(self.settings, self.model.family):
            scores = all_pairs(self.model, images, groups, self.settings.score_memory_mib)
        return np.argsort(-scores.ravel())

    def _caption(self, caption: int) -> Encoded:
        place = int(self.place_of[caption])
        return self.groups[self.group_of[caption]].encoded.select(slice(place, place + 1))

    def _captions(self, chosen: np.ndarray) -> list[Group]:
        """Some captions in groups of equal length; `rows` are places among the chosen."""
        groups = self.group_of[chosen]
        return [
            Group(rows, self.groups[group].encoded.select(torch.from_numpy(self.place_of[chosen[rows]])))
            for group in np.unique(groups)
            for rows in [np.flatnonzero(groups == group)]
        ]


def _places(groups: Sequence[Group], captions: int) -> tuple[np.ndarray, np.ndarray]:
    """For every caption its group and its place there, (M,) each."""
    group_of, place_of = np.empty((2, captions), np.int64)
    for number, group in enumerate(groups):
        group_of[group.rows], place_of[group.rows] = number, np.arange(len(group.rows))
    return group_of, place_of


def _in_order(groups: Sequence[Group], group_of: np.ndarray, place_of: np.ndarray) -> Encoded:
    starts = np.cumsum([0, *(len(group.rows) for group in groups)])
    return concatenate([group.encoded for group in groups]).select(torch.from_numpy(starts[group_of] + place_of))
