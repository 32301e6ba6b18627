"""SCAN (Lee et al., ECCV 2018): words attend to regions (t2i) or regions to words (i2t), cosines pooled into a score.

Departs from the paper as the official code does: products are clipped by a leaky ReLU of slope 0.1 where the paper
has a ReLU, and other norms and aggregations are options.  What is matched lies in `contextual` on both sides, of unit
length.  A LogSumExp is no mean: in t2i longer captions score higher.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from harness.protocol import Encoded, Inputs, Retriever
from models.attention import AGGREGATIONS, NORMS, aggregated, cross_attention, without_padding
from models.fragments import FragmentModel
from models.options import above_zero, one_of

RECIPE = 1
PAPER = "Lee et al., Stacked Cross Attention for Image-Text Matching, ECCV 2018, arXiv 1803.08024"
VARIANTS: dict[str, dict] = {
    "t2i-lse": {"direction": "t2i", "aggregation": "lse", "lam": 9.0, "mu": 6.0},
    "t2i-avg": {"direction": "t2i", "aggregation": "mean", "lam": 9.0},
    "i2t-lse": {"direction": "i2t", "aggregation": "lse", "lam": 4.0, "mu": 5.0},
    "i2t-avg": {"direction": "i2t", "aggregation": "mean", "lam": 4.0},
}


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a name that is not known, or a `lam` or `mu` that is not positive."""

    direction: str = "t2i"  # t2i: words query regions | i2t: regions query words
    aggregation: str = "lse"  # of a pair's cosines: lse | mean | max | sum
    lam: float = 9.0  # multiplies the normalised products before the softmax over the context
    mu: float = 6.0  # sharpness of lse, unused by the others; the paper takes 20 for i2t on COCO
    norm: str = "clipped_l2norm"  # of a context fragment's products across the queries, one of `attention.NORMS`

    def __post_init__(self) -> None:
        one_of("direction", self.direction, ("t2i", "i2t"))
        one_of("aggregation", self.aggregation, AGGREGATIONS)
        one_of("norm", self.norm, tuple(NORMS))
        above_zero("lam", self.lam)
        above_zero("mu", self.mu)


class SCAN(FragmentModel):
    """One linear map for regions, a bidirectional GRU for words, stacked cross attention between them."""

    compiled = True

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__(inputs)
        self.options = options

    @property
    def attends_to_regions(self) -> bool:
        return self.options.direction == "t2i"

    def tile_scores(self, images: Encoded, texts: Encoded) -> Tensor:
        """(X, Y), whatever the padding."""
        if self.options.direction == "t2i":
            return self._matched(queries=texts, context=images)
        return self._matched(queries=images, context=texts).T

    def _matched(self, queries: Encoded, context: Encoded) -> Tensor:
        """(items of the context side, items of the query side)."""
        query_fragments, query_mask = without_padding(queries)
        context_fragments, context_mask = without_padding(context)
        lam, mu, norm = self.options.lam, self.options.mu, self.options.norm
        known = context.extras.get("gram")
        cosines = cross_attention(query_fragments, context_fragments, lam, norm, query_mask, context_mask, known)
        return aggregated(cosines, self.options.aggregation, query_mask, mu)


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs."""
    return SCAN(inputs, options)
