"""IMRAM (Chen et al., CVPR 2020): cross attention in several steps, the queries remembering what they attended to.

The score is the sum of the mean cosines of all steps; "full" adds words as queries and regions as queries, in one
model.  The memory has unit length after every update; the published training scripts switch that off
(`memory_norm=False`) and differ in steps and `lam` (9 on Flickr30K, 11 on COCO).

Departs from the official code: the update after the last step, which nothing reads, is not computed (a model of one
step has no memory), and scores are images x captions in training too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.protocol import Encoded, Inputs, Retriever
from models.attention import (
    aggregated,
    attended_cosine,
    attention_weights,
    gram,
    normalised,
    products,
    without_padding,
)
from models.encoders import l2
from models.fragments import FragmentModel
from models.options import above_zero, at_least, one_of

RECIPE = 1
PAPER = (
    "Chen et al., IMRAM: Iterative Matching with Recurrent Attention Memory for Cross-Modal Image-Text Retrieval, "
    "CVPR 2020, arXiv 2003.03772"
)
VARIANTS: dict[str, dict] = {"text": {"mode": "text"}, "image": {"mode": "image"}, "full": {"mode": "full"}}

MODES = ("text", "image", "full")
TILE = 2**20  # numbers in the memories computed at once: about what the cache of one core holds


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a mode that is not known, less than one step, or a `lam` that is not positive."""

    mode: str = "full"  # what queries: words (text) | regions (image) | both, added (full)
    steps: int = 3  # K
    lam: float = 9.0  # multiplies the normalised products before the softmax over the context
    memory_norm: bool = True  # unit length after every update; off in the published scripts

    def __post_init__(self) -> None:
        one_of("mode", self.mode, MODES)
        at_least("steps", self.steps, 1)
        above_zero("lam", self.lam)


class RecurrentMatching(nn.Module):
    """One direction: at every step the queries attend, are compared, and take in what they saw (IMRAM)."""

    def __init__(self, dim: int, options: Options) -> None:
        super().__init__()
        self.options = options
        if options.steps > 1:
            self.update = nn.Linear(2 * dim, 2 * dim)  # [query ; attended] -> [gate ; candidate]

    def forward(self, queries: Encoded, context: Encoded) -> Tensor:
        """Y items that query X items of context -> (K, X, Y), the mean cosine at each step.

        Every step compares with the original queries.  What an update makes of an attended vector is linear in it, so
        the map is applied to the context once (`mapped`) and its images are mixed, no attended vector is formed.
        """
        steps = self._steps(queries, context)
        return torch.stack([aggregated(cosines, "mean", without_padding(queries)[1]) for cosines in steps])

    def _steps(self, queries: Encoded, context: Encoded) -> Iterator[Tensor]:
        """The cosines (X, Q, Y) of each step."""
        fragments, query_mask = without_padding(queries)  # (Y, Q, d)
        context_fragments, context_mask = without_padding(context)  # (X, C, d)
        memory = fragments.transpose(0, 1).flatten(0, 1)  # (Q * Y, d), one for all X until it is updated
        real = None if query_mask is None else query_mask.T.reshape(-1, 1)  # (Q * Y, 1)
        scores = relevance = products(context_fragments, fragments)  # (X, C, Q, Y)
        squares = fragments.square().sum(-1).T  # (Q, Y)
        known = context.extras.get("gram")
        context_gram = gram(context_fragments) if known is None else known
        mapped = context.extras.get("mapped")
        for step in range(self.options.steps):
            weights = attention_weights(normalised(relevance, "clipped_l2norm"), self.options.lam, context_mask)
            yield attended_cosine(weights, scores, context_gram, squares)
            if step < self.options.steps - 1:
                if mapped is None:
                    mapped = self.mapped(context_fragments)
                mapped = mapped[:, : context_fragments.shape[1]]  # trimmed like them
                memory = self._updated(memory, weights.flatten(2).mT @ mapped)  # (X, Q * Y, d)
                if real is not None:
                    memory = memory * real  # else padding would enter the norm across the queries
                relevance = (context_fragments @ memory.mT).view_as(scores)

    def mapped(self, context: Tensor) -> Tensor:
        """What an update makes of context fragments, (X, C, d) -> (X, C, 2d)."""
        return F.linear(context, self._maps(context.shape[-1])[0][1])

    def _updated(self, memory: Tensor, attended: Tensor) -> Tensor:
        """Between the old memory and a candidate, feature by feature.

        memory: (Q * Y, d) or (X, Q * Y, d); attended: (X, Q * Y, 2d), already mapped by the scaled weights of `_maps`,
        overwritten -> (X, Q * Y, d).
        """
        (of_memory, _), bias = self._maps(memory.shape[-1])
        gate, half = attended.add_(F.linear(memory, of_memory, bias)).sigmoid_().chunk(2, dim=-1)
        candidate = 2 * half - 1  # tanh(x) = 2 sigmoid(2x) - 1, several times as fast on a CPU
        memory = candidate + gate * (memory - candidate)
        return l2(memory) if self.options.memory_norm else memory

    def _maps(self, dim: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """What maps a memory and what maps an attended vector, (2d, d) each, and the bias (2d,).

        The rows of the candidate are doubled, so that one sigmoid serves both halves.
        """
        twice = self.update.weight.new_ones(2 * dim)
        twice[dim:] = 2.0
        return (self.update.weight * twice[:, None]).split(dim, dim=1), self.update.bias * twice


class IMRAM(FragmentModel):
    """One linear map for regions, a bidirectional GRU for words, recurrent matching from one side or from both."""

    padded = False  # a block would keep the memories of all pairs and steps, and gain nothing on few hard negatives

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__(inputs)
        self.options = options
        sides = ("text", "image") if options.mode == "full" else (options.mode,)
        self.matching = nn.ModuleDict({side: RecurrentMatching(inputs.dim, options) for side in sides})

    @property
    def attends_to_regions(self) -> bool:
        return "text" in self.matching

    def prepared(self, images: Encoded) -> Encoded:
        """With `extras["mapped"]` too, (B, R, 2d), what the updates of memories make of regions."""
        return self._as_context(super().prepared(images), "text")

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        return self.in_tiles(self.tile_scores, self.prepared(images), self._as_context(texts, "image"))

    def _as_context(self, side: Encoded, matching: str) -> Encoded:
        """The side with `extras["mapped"]` where it is the context of such a matching that updates memories."""
        if matching not in self.matching or self.options.steps == 1 or "mapped" in side.extras:
            return side
        direction = self.matching[matching]
        assert isinstance(direction, RecurrentMatching)
        return replace(side, extras={**side.extras, "mapped": direction.mapped(without_padding(side)[0])})

    def tile_pairs(self, length: int) -> int:
        """How many pairs with captions of this length are computed at once."""
        return TILE // (self.inputs.dim * (self.inputs.regions if "image" in self.matching else length))

    def tile_scores(self, images: Encoded, texts: Encoded) -> Tensor:
        """(X, Y), the steps of all directions added."""
        scores = []
        if "text" in self.matching:
            scores.append(self.matching["text"](queries=texts, context=images).sum(0))
        if "image" in self.matching:
            scores.append(self.matching["image"](queries=images, context=texts).sum(0).T)
        return sum(scores[1:], scores[0])


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs."""
    return IMRAM(inputs, options)
