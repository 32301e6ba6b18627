"""CHAN (Pan et al., CVPR 2023): each word keeps its best region alone; the best products pooled into a score.

The default is the published model with a GRU: LogSumExp with temperature 0.1, which the score is not multiplied back
by.  A score is then about ten times a cosine, plus the log of the caption's length, and longer captions score higher;
the published margin for it is 0.05, and the first epoch sums over all negatives.  "mean" is the published pooling with
BERT.

Departs from the paper, unless options say so: regions and words are not dropped in training (`size_augmentation`,
published: 0.2, as in VSE-infinity's GRU branch), and regions do not attend to one another before they are matched
(`self_attention_heads`, published: 8).  Departs from the official code:
padding is masked everywhere, in that self-attention too, where the code marks it by the product -1, which a real pair
may have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from harness.protocol import Encoded, ImageBatch, Inputs, Retriever, TextBatch
from models.attention import AGGREGATIONS, aggregated, cross_attention, largest, products, without_padding
from models.augmentation import check_mask_word, read_thinned, thinned
from models.encoders import l2
from models.fragments import FragmentModel
from models.options import above_zero, at_least, between, one_of

RECIPE = 1
PAPER = "Pan et al., Fine-Grained Image-Text Matching by Cross-Modal Hard Aligning Network, CVPR 2023"
VARIANTS: dict[str, dict] = {"": {}}

ASSIGNMENTS = ("vha", "tha", "vsa")
POOLINGS = (*AGGREGATIONS, "softmax")


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a name that is not known, a temperature that is not positive, or negative heads."""

    assignment: str = "vha"  # best region per word | tha: best word per region | vsa: mixture of words per region
    pooling: str = "lse"  # of a pair's values: lse | mean | max | sum | softmax (their mean, weighted by it)
    temperature: float = 0.1  # of the poolings lse and softmax
    mixture_temperature: float = 0.1  # of the mixture of words in vsa
    self_attention_heads: int = 0  # of a residual self-attention over regions, 0 = none
    size_augmentation: float = 0.0  # chance of a region to be dropped and of a word to be touched, training only
    mask_word: int = 3  # token number that stands in for a masked word

    def __post_init__(self) -> None:
        one_of("assignment", self.assignment, ASSIGNMENTS)
        one_of("pooling", self.pooling, POOLINGS)
        above_zero("temperature", self.temperature)
        above_zero("mixture_temperature", self.mixture_temperature)
        at_least("self_attention_heads", self.self_attention_heads, 0)
        between("size_augmentation", self.size_augmentation, 0, 1)
        at_least("mask_word", self.mask_word, 0)


def best(queries: Tensor, context: Tensor, context_mask: Tensor | None = None) -> Tensor:
    """The largest product of every query with a context fragment (CHAN, hard assignment).

    queries: (Y, Q, d), context: (X, C, d), context_mask: (X, C) -> (X, Q, Y).
    """
    return largest(products(context, queries), context_mask)


def pooled(values: Tensor, how: str, temperature: float, query_mask: Tensor | None = None) -> Tensor:
    """One score per pair from one value per query; "lse" is `log sum exp(x / temperature)`.

    values: (X, Q, Y), query_mask: (Y, Q) -> (X, Y).
    """
    if how == "softmax":
        logits = values / temperature
        if query_mask is not None:
            logits = logits.masked_fill(~query_mask.T, float("-inf"))
        return (logits.softmax(1) * values).sum(1)
    score = aggregated(values, how, query_mask, mu=1 / temperature)
    return score / temperature if how == "lse" else score


class RegionAttention(nn.Module):
    """`X + MHA(LayerNorm(X))` among the real regions of an image."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"self_attention_heads={heads} must divide the embedding width {dim}")
        self.norm = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, regions: Tensor, mask: Tensor) -> Tensor:
        """regions: (B, R, d), mask: (B, R) -> (B, R, d)."""
        x = self.norm(regions)
        return regions + self.attention(x, x, x, key_padding_mask=~mask, need_weights=False)[0]


class CHAN(FragmentModel):
    """One linear map for regions, a bidirectional GRU for words, one partner per fragment."""

    compiled = True

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__(inputs)
        self.options = options
        heads = options.self_attention_heads
        self.region_attention = RegionAttention(inputs.dim, heads) if heads else None

    def encode_images(self, images: ImageBatch) -> Encoded:
        mask = thinned(images.mask, self.options.size_augmentation) if self._augments else images.mask
        regions = self.regions(images.fragments)
        if self.region_attention is not None:
            regions = self.region_attention(regions, mask)
        return Encoded(contextual=l2(regions), mask=mask)

    def encode_texts(self, texts: TextBatch) -> Encoded:
        if not self._augments:
            return super().encode_texts(texts)
        told = self.options.size_augmentation, self.options.mask_word, self.inputs
        words, texts = read_thinned(self.words, texts, *told)
        return self.read(words, texts.mask)

    @property
    def attends_to_regions(self) -> bool:
        return False  # a word keeps its best region; of a mixture of regions there is none

    @property
    def late_interaction(self) -> Callable[[Tensor], Tensor] | None:
        if self.options.assignment != "vha":
            return None
        return lambda best: pooled(best[None], self.options.pooling, self.options.temperature)[0]

    @property
    def _augments(self) -> bool:
        return self.training and self.options.size_augmentation > 0

    def tile_scores(self, images: Encoded, texts: Encoded) -> Tensor:
        """(X, Y), whatever the padding."""
        if self.options.assignment == "vha":
            return self._matched(queries=texts, context=images)
        return self._matched(queries=images, context=texts).T

    def _matched(self, queries: Encoded, context: Encoded) -> Tensor:
        """(items of the context side, items of the query side)."""
        query_fragments, query_mask = without_padding(queries)
        fragments, context_mask = without_padding(context)
        if self.options.assignment == "vsa":
            sharpness = 1 / self.options.mixture_temperature
            values = cross_attention(query_fragments, fragments, sharpness, "no_norm", query_mask, context_mask)
        else:
            values = best(query_fragments, fragments, context_mask)
        return pooled(values, self.options.pooling, self.options.temperature, query_mask)


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs.

    Raises ValueError where the heads do not divide the embedding width, or the vocabulary has no such mask word.
    """
    check_mask_word(options.mask_word, inputs)
    return CHAN(inputs, options)
