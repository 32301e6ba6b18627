"""IMRAM (Chen et al., CVPR 2020): cross attention in several steps, the queries remembering what they attended to.

The score is the sum of the mean cosines of all steps; "full" adds words as queries and regions as queries, in one
model.  The memory has unit length after every update; the published training scripts switch that off
(`memory_norm=False`) and differ in steps and `lam` (9 on Flickr30K, 11 on COCO).

Departs from the official code: the update after the last step, which nothing reads, is not computed (a model of one
step has no memory), and scores are images x captions in training too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.protocol import Encoded, Inputs, Retriever
from models.attention import (
    aggregated,
    attended_cosine,
    attention_weights,
    by_length,
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
BLOCK = 8  # captions scored at once: every pair has a memory of its own, more of them outgrow the cache


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
        scores = products(context_fragments, fragments)  # (X, C, Q, Y)
        squares, context_gram = fragments.square().sum(-1).T, gram(context_fragments)

        def looked(relevance: Tensor) -> tuple[Tensor, Tensor]:
            """(X, C, Q, Y) -> weights, the same shape, and the mean cosine (X, Y)."""
            norms = normalised(relevance, "clipped_l2norm", query_mask)
            weights = attention_weights(norms, self.options.lam, context_mask)
            return weights, aggregated(attended_cosine(weights, scores, context_gram, squares), "mean", query_mask)

        weights, cosine = looked(scores)
        cosines = [cosine]
        if self.options.steps > 1:
            memory = fragments.transpose(0, 1).flatten(0, 1)  # (Q * Y, d), one for all X until it is updated
            real = None if query_mask is None else query_mask.T.reshape(-1, 1)  # (Q * Y, 1)
            mapped = F.linear(context_fragments, self.update.weight[:, memory.shape[1] :])  # (X, C, 2d)
            for _ in range(1, self.options.steps):
                memory = self._updated(memory, weights.flatten(2).mT @ mapped)  # (X, Q * Y, d)
                if real is not None:
                    memory = memory * real  # else padding would enter the norm across the queries
                weights, cosine = looked((context_fragments @ memory.mT).view_as(scores))
                cosines.append(cosine)
        return torch.stack(cosines)

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
        return by_length(self._scores, images, texts)

    def _scores(self, images: Encoded, texts: Encoded) -> Tensor:
        """(N, M), whatever the padding."""
        blocks = [texts.select(slice(start, start + BLOCK)) for start in range(0, len(texts), BLOCK)]
        return torch.cat([self._steps(images, block).sum(0) for block in blocks], 1)

    def _steps(self, images: Encoded, texts: Encoded) -> Tensor:
        """(K or 2K, N, M), the score of each step, in the full mode of both directions."""
        steps = []
        if "text" in self.matching:
            steps.append(self.matching["text"](queries=texts, context=images))
        if "image" in self.matching:
            steps.append(self.matching["image"](queries=images, context=texts).mT)
        return torch.cat(steps)


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs."""
    return IMRAM(inputs, options)
