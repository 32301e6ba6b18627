"""IMRAM (Chen et al., CVPR 2020): cross attention in several steps, the queries remembering what they attended to.

The score is the sum of the mean cosines of all steps; "full" adds words as queries and regions as queries, in one
model.  The memory has unit length after every update; the published training scripts switch that off
(`memory_norm=False`) and differ in steps and `lam` (9 on Flickr30K, 11 on COCO).

Departs from the official code: the update after the last step, which nothing reads, is not computed (a model of one
step has no memory), and scores are images x captions in training too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
from models.pairs import PairModel, pair_scores, paired_products

RECIPE = 1
PAPER = (
    "Chen et al., IMRAM: Iterative Matching with Recurrent Attention Memory for Cross-Modal Image-Text Retrieval, "
    "CVPR 2020, arXiv 2003.03772"
)
VARIANTS: dict[str, dict] = {"text": {"mode": "text"}, "image": {"mode": "image"}, "full": {"mode": "full"}}

MODES = ("text", "image", "full")
TILE = 1024  # memories computed at once: about what the cache of one core holds


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
        the map is applied to the context once and its images are mixed, no attended vector is formed.
        """
        fragments, query_mask = without_padding(queries)  # (Y, Q, d)
        context_fragments, context_mask = without_padding(context)  # (X, C, d)
        memory = fragments.transpose(0, 1).flatten(0, 1)  # (Q * Y, d), one for all X until it is updated
        real = None if query_mask is None else query_mask.T.reshape(-1, 1)  # (Q * Y, 1)
        scores = products(context_fragments, fragments)  # (X, C, Q, Y)
        squares = fragments.square().sum(-1).T  # (Q, Y)
        steps = self._steps(memory, real, context_fragments, context_mask, scores, squares)
        return torch.stack([aggregated(cosines, "mean", query_mask) for cosines in steps])

    def matched(self, queries: Encoded, context: Encoded) -> Tensor:
        """P items and the P items of context that each of them queries -> (K, P), as `forward` has them."""
        fragments, query_mask = without_padding(queries)  # (P, Q, d)
        context_fragments, context_mask = without_padding(context)  # (P, C, d)
        real = None if query_mask is None else query_mask[..., None]  # (P, Q, 1)
        scores = paired_products(context_fragments, fragments)  # (P, C, Q, 1)
        squares = fragments.square().sum(-1, keepdim=True)  # (P, Q, 1)
        steps = self._steps(fragments, real, context_fragments, context_mask, scores, squares)
        return torch.stack([aggregated(cosines.permute(2, 1, 0), "mean", query_mask)[0] for cosines in steps])

    def _steps(
        self,
        memory: Tensor,
        real: Tensor | None,
        context: Tensor,
        context_mask: Tensor | None,
        scores: Tensor,
        squares: Tensor,
    ) -> Iterator[Tensor]:
        """The cosines (X, Q, Y) of each step.

        memory: (Q * Y, d), or a block of them per item of context; real: its mask; context: (X, C, d); scores:
        (X, C, Q, Y), products with the original queries; squares: their squared lengths, (Q, Y) or (X, Q, Y).
        """
        context_gram, relevance = gram(context), scores
        if self.options.steps > 1:
            mapped = F.linear(context, self.update.weight[:, memory.shape[-1] :])  # (X, C, 2d)
        for step in range(self.options.steps):
            weights = attention_weights(normalised(relevance, "clipped_l2norm"), self.options.lam, context_mask)
            yield attended_cosine(weights, scores, context_gram, squares)
            if step < self.options.steps - 1:
                memory = self._updated(memory, weights.flatten(2).mT @ mapped)  # (X, Q * Y, d)
                if real is not None:
                    memory = memory * real  # else padding would enter the norm across the queries
                relevance = (context @ memory.mT).view_as(scores)

    def _updated(self, memory: Tensor, attended: Tensor) -> Tensor:
        """Between the old memory and a candidate, feature by feature.

        memory: (Q * Y, d) or (X, Q * Y, d); attended: (X, Q * Y, 2d), already mapped -> (X, Q * Y, d).
        """
        mapped = F.linear(memory, self.update.weight[:, : memory.shape[-1]], self.update.bias)
        gate, candidate = (mapped + attended).chunk(2, dim=-1)
        gate = gate.sigmoid()
        memory = gate * memory + (1 - gate) * candidate.tanh()
        return l2(memory) if self.options.memory_norm else memory


class IMRAM(FragmentModel):
    """One linear map for regions, a bidirectional GRU for words, recurrent matching from one side or from both."""

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__(inputs)
        self.options = options
        sides = ("text", "image") if options.mode == "full" else (options.mode,)
        self.matching = nn.ModuleDict({side: RecurrentMatching(inputs.dim, options) for side in sides})

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        weights = list(self.matching.parameters())
        return pair_scores(PairModel(self._every, self._matched, weights, self._tile_pairs), images, texts)

    def _tile_pairs(self, length: int) -> int:
        """How many pairs with captions of this length are computed at once."""
        return TILE // (self.inputs.regions if "image" in self.matching else length)

    def _every(self, images: Encoded, texts: Encoded) -> Tensor:
        """(X, Y), the steps of all directions added."""
        scores = []
        if "text" in self.matching:
            scores.append(self.matching["text"](queries=texts, context=images).sum(0))
        if "image" in self.matching:
            scores.append(self.matching["image"](queries=images, context=texts).sum(0).T)
        return sum(scores[1:], scores[0])

    def _matched(self, images: Encoded, texts: Encoded) -> Tensor:
        """P images and their captions -> (P,)."""
        scores = []
        if "text" in self.matching:
            scores.append(self.matching["text"].matched(queries=texts, context=images).sum(0))
        if "image" in self.matching:
            scores.append(self.matching["image"].matched(queries=images, context=texts).sum(0))
        return sum(scores[1:], scores[0])


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs."""
    return IMRAM(inputs, options)
