"""BFAN (Liu et al., ACM MM 2019): cross attention both ways, kept only on the context that matters more than the rest.

Departs from the official code where all weights of a query are equal, as with a caption of one word: it keeps nothing
there and divides 0 by 0, or keeps what rounding says; here everything is kept.  The comparison that decides what is
kept has no gradient, and being a step it may fall either way where a weight lies at its edge.  Scores are sums of two
mean cosines, up to 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.protocol import Encoded, Inputs, Retriever
from models import fused
from models.attention import (
    aggregated,
    attended_cosine,
    gram,
    products,
    unscaled_weights,
    weighed,
    without_padding,
)
from models.fragments import FragmentModel
from models.options import above_zero, one_of

RECIPE = 1
PAPER = (
    "Liu et al., Focus Your Attention: A Bidirectional Focal Attention Network for Image-Text Matching, ACM MM 2019, "
    "arXiv 1909.11416"
)
VARIANTS: dict[str, dict] = {"equal": {"focus": "equal"}, "prob": {"focus": "prob"}}

FOCUSES = ("equal", "prob")
SLACK = 1e-5  # weights that differ by less, relatively, are equal but for rounding


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a focus that is not known, or a `lam` that is not positive."""

    focus: str = "equal"  # how the others count in the comparison: alike | "prob": by the root of their weight
    lam: float = 20.0  # multiplies the normalised products before the softmax over the context

    def __post_init__(self) -> None:
        one_of("focus", self.focus, FOCUSES)
        above_zero("lam", self.lam)


@torch.no_grad()
def kept(weights: Tensor, focus: str, context_mask: Tensor | None = None) -> Tensor:
    """Which context fragments a query goes on attending to (BFAN).

    A fragment stays if its advantage over the others, `sum_k (p - p_k) g(p_k)`, is positive: g is 1 ("equal") or the
    root ("prob").  So it is compared with one mean of all weights.  Where no fragment has an advantage all stay.

    weights: (X, C, Q, Y) of any scale, zero on padded context; context_mask: (X, C) -> (X, C, Q, Y) bool.
    """
    if focus == "equal":
        count = weights.shape[1] if context_mask is None else context_mask.sum(1)[:, None, None, None]
        mean = weights.sum(1, keepdim=True) / count
    else:
        roots = weights.sqrt()
        mean = (weights * roots).sum(1, keepdim=True) / roots.sum(1, keepdim=True)
    bar = (1 + SLACK) * mean  # (X, 1, Q, Y)
    return weights > torch.where(weights.amax(1, keepdim=True) > bar, bar, -1.0)


class BFAN(FragmentModel):
    """One linear map for regions, a bidirectional GRU for words, focused attention between them in both directions."""

    compiled = True

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__(inputs)
        self.options = options

    def tile_scores(self, images: Encoded, texts: Encoded) -> Tensor:
        """(X, Y), whatever the padding; one product of all fragments serves both directions."""
        regions, region_mask = without_padding(images)
        words, word_mask = without_padding(texts)
        scores = products(regions, words)  # (N, R, L, M)
        opposite = scores.permute(3, 2, 1, 0).contiguous()  # (M, L, R, N)
        known = images.extras.get("gram")
        by_words = self._matched(scores, words, gram(regions) if known is None else known, word_mask, region_mask)
        return by_words + self._matched(opposite, regions, gram(words), region_mask, word_mask).T

    def _matched(
        self,
        scores: Tensor,
        queries: Tensor,
        context_gram: Tensor,
        query_mask: Tensor | None,
        context_mask: Tensor | None,
    ) -> Tensor:
        """Mean cosine of the queries with what they focus on.

        scores: (X, C, Q, Y), queries: (Y, Q, d), context_gram: (X, C, C), masks: (Y, Q), (X, C) -> (X, Y).
        """
        lam, focus, squares = self.options.lam, self.options.focus, queries.square().sum(-1).T
        weighing = weighed(lam, "clipped_l2norm", focus, SLACK)
        if weighing is not None and fused.pays(scores, context_gram, squares):
            cosines = fused.attended_cosines(scores, context_gram, squares, weighing, context_mask)
        else:
            weights = unscaled_weights(scores, lam, "clipped_l2norm", query_mask, context_mask)
            focused = weights * kept(weights, focus, context_mask)  # the cosine asks for no new sum of 1
            cosines = attended_cosine(focused, scores, context_gram, squares)
        return aggregated(cosines, "mean", query_mask)


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs."""
    return BFAN(inputs, options)
