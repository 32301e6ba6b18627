"""CAMP (Wang et al., ICCV 2019): regions and words send each other messages, gated by how well they agree.

Departs from the published training: one stage where the authors have three (a plain cross-attention model, then the new
layers on top of it with the rest fixed, then everything, the last two by SGD), and an epoch visits every caption where
theirs visits every image with one.  The loss is theirs, a cross entropy on the hardest negatives, and has no margin.
During the shared warm-up all negatives of a query count, by their mean: they weigh as much as the one does afterwards.

Fragments are not of unit length.  The last map of a pooling has no bias, for it would cancel in the softmax.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, Retriever, TextBatch
from models.attention import EPS, attention_weights, gram, products, without_padding
from models.encoders import l2
from models.fragments import FragmentModel
from models.losses import negatives, other_image
from models.options import at_least

RECIPE = 1
PAPER = "Wang et al., CAMP: Cross-Modal Adaptive Message Passing for Text-Image Retrieval, ICCV 2019, arXiv 1909.05506"
VARIANTS: dict[str, dict] = {"": {}}

TILE = 3072  # hidden layers of a fragment computed at once: a few such tensors fit the cache


@dataclass(frozen=True)
class Options:
    """Raises ValueError where there is no pooling head."""

    heads: int = 4  # softmaxes of a pooling, averaged

    def __post_init__(self) -> None:
        at_least("heads", self.heads, 1)


def matching_bce(scores: Tensor, hardest: bool = True, impostors: Tensor | None = None) -> Tensor:
    """Binary cross entropy of a block of scores, summed over its queries in both directions.

    `-sum_i (2 log s_ii + log(1 - max_j s_ij) + log(1 - max_j s_ji))` over negatives j, scores kept 1e-6 from 0 and 1.
    scores: (B, B) in [0, 1], matching pairs on the diagonal.  impostors: (B, B) bool, True where a pair may serve as a
    negative; None = everything off the diagonal.  `hardest=False` takes the mean of log(1 - s) over the negatives of a
    query.  A query without a negative has the cost of its match alone.  Returns ().
    """
    scores = scores.clamp(1e-6, 1 - 1e-6)
    allowed = negatives(scores, impostors)
    matched = -2 * scores.diagonal().log().sum()
    taken = -(1 - scores).log() * allowed  # (B, B) what a pair costs as a negative, never below 0
    if hardest:
        return matched + taken.amax(1).sum() + taken.amax(0).sum()
    captions, images = (taken.sum(axis) / allowed.sum(axis).clamp(min=1) for axis in (1, 0))  # (B,) each
    return matched + captions.sum() + images.sum()


class Gathering(nn.Module):
    """One side of a pair after it has heard from the other: messages, gate, fusion and pooling.

    What is linear in fragments alone, of the queries or of the other side's X, is computed once per item (`of_queries`,
    `of_context`), not once per pair.  With the attention A over X and the second attention B over the queries, the
    messages are M X with M = B A.  These need no d-dimensional vector per query of a pair: the logits of B,
    A (X U_q^T) (X U_k^T)^T A^T; the lengths of the messages, by M (X X^T) M^T; their products with the queries, by M
    and the products of all fragments.  Fusion and the pooling's hidden layer do.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.hop_query = nn.Linear(dim, dim, bias=False)
        self.hop_key = nn.Linear(dim, dim, bias=False)
        self.fusion = nn.Linear(2 * dim, dim, bias=False)  # of [query ; message]
        self.hidden = nn.Linear(dim, dim)
        self.heads = nn.Linear(dim, heads, bias=False)

    def of_queries(self, queries: Tensor) -> dict[str, Tensor]:
        """(Y, Q, d) each: what meets the context in the first attention, and the query in fusion and hidden layer."""
        own_map = self.fusion.weight.chunk(2, 1)[0]
        asking = queries @ (self.query.weight.T @ self.key.weight)
        return {"asking": asking, "own": queries @ own_map.T, "hidden": self.hidden(queries)}

    def of_context(self, context: Tensor) -> dict[str, Tensor]:
        """(X, C, d) each: what meets the context in the second attention, and what messages are mixed of in fusion."""
        message_map = self.fusion.weight.chunk(2, 1)[1]
        hop = context @ (self.hop_query.weight.T @ self.hop_key.weight)
        return {"hop": hop, "message": context @ message_map.T}

    def forward(
        self,
        queries: Tensor,
        context: Tensor,
        query_mask: Tensor | None,
        context_mask: Tensor | None,
        of_queries: Mapping[str, Tensor],
        of_context: Mapping[str, Tensor],
    ) -> Tensor:
        """queries: (Y, Q, d), context: (X, C, d), query_mask: (Y, Q), context_mask: (X, C) -> (X, Y, d) unit."""
        mixtures, gates = self._messages(
            queries, context, query_mask, context_mask, of_queries["asking"], of_context["hop"]
        )
        messages = ((gates * mixtures).flatten(1, 2) @ of_context["message"]).unflatten(1, queries.shape[:2])
        heard = torch.addcmul(messages, gates, of_queries["own"]).relu_()  # (X, Y, Q, d), for g relu(u) = relu(g u)
        hidden = F.linear(heard, self.hidden.weight).add_(of_queries["hidden"]).relu_()
        logits = self.heads(hidden)  # (X, Y, Q, heads)
        if query_mask is not None:
            logits = logits.masked_fill(~query_mask[..., None], float("-inf"))
        shares = logits.softmax(2).mean(3)  # (X, Y, Q)
        return l2((shares[:, :, None] @ heard).squeeze(2) + torch.einsum("xyq,yqd->xyd", shares, queries))

    @staticmethod
    def _messages(
        queries: Tensor,
        context: Tensor,
        query_mask: Tensor | None,
        context_mask: Tensor | None,
        asking: Tensor,
        hop: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Unit messages as mixtures of context fragments (X, Y, Q, C), and gates (X, Y, Q, 1) in (0, 1)."""
        scale = context.shape[-1] ** -0.5
        first = attention_weights(products(context, asking), scale, context_mask)  # (X, C, Q, Y)
        first = first.permute(0, 3, 2, 1).contiguous()  # (X, Y, Q, C)
        between = scale * hop @ context.mT  # (X, C, C)
        logits = (first.flatten(1, 2) @ between).view_as(first) @ first.mT  # (X, Y, Q, Q)
        if query_mask is not None:
            logits = logits.masked_fill(~query_mask[:, None], float("-inf"))
        mixtures = logits.softmax(3) @ first
        squares = (mixtures * (mixtures.flatten(1, 2) @ gram(context)).view_as(mixtures)).sum(3, keepdim=True)
        mixtures = mixtures / (squares.clamp(min=1e-30).sqrt() + EPS)  # clamped, for the root has no slope at zero
        agreement = (mixtures * products(context, queries).permute(0, 3, 2, 1)).sum(3, keepdim=True)
        return mixtures, agreement.sigmoid()


class CAMP(FragmentModel):
    """A vector per side and pair, both put to a small network that says how likely it is a match."""

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__(inputs)
        self.region_side = Gathering(inputs.dim, options.heads)
        self.word_side = Gathering(inputs.dim, options.heads)
        self.match = nn.Sequential(nn.Linear(2 * inputs.dim, inputs.dim), nn.ReLU(), nn.Linear(inputs.dim, 1))

    def encode_images(self, images: ImageBatch) -> Encoded:
        return Encoded(contextual=self.regions(images.fragments), mask=images.mask)

    def encode_texts(self, texts: TextBatch) -> Encoded:
        return Encoded(contextual=self.gru(self.words(texts), texts.mask), mask=texts.mask)

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        images = self._mapped(images, self.region_side, self.word_side)
        return self.in_tiles(self.tile_scores, images, self._mapped(texts, self.word_side, self.region_side))

    def tile_pairs(self, length: int) -> int:
        return TILE // (self.inputs.regions + length)

    @staticmethod
    def _mapped(side: Encoded, as_queries: Gathering, as_context: Gathering) -> Encoded:
        """The side with all that its fragments are mapped to, whatever the pair, in `extras`."""
        fragments, _ = without_padding(side)
        return replace(side, extras=as_queries.of_queries(fragments) | as_context.of_context(fragments))

    def tile_scores(self, images: Encoded, texts: Encoded) -> Tensor:
        """(X, Y) in (0, 1), of sides that are `_mapped`."""
        regions, region_mask = without_padding(images)
        words, word_mask = without_padding(texts)
        of_words = {name: mapped[:, : words.shape[1]] for name, mapped in texts.extras.items()}  # trimmed like them
        image = self.region_side(regions, words, region_mask, word_mask, images.extras, of_words).transpose(0, 1)
        text = self.word_side(words, regions, word_mask, region_mask, of_words, images.extras)  # (X, Y, d)
        logits = self.match(torch.cat([image, text], 2)).squeeze(2)
        return logits.float().sigmoid()  # in half precision it would saturate

    def ranking_loss(self, scores: Tensor, batch: PairBatch) -> Tensor:
        """(): the cross entropy of a (B, B) block of scores, all negatives during warm-up, then the hardest."""
        impostors = None if self.inputs.same_image_negatives else other_image(batch.image_index)
        return matching_bce(scores, self.hardest(batch), impostors)

    def losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:
        return {"bce": self.ranking_loss(self.similarity(images, texts), batch)}


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs."""
    return CAMP(inputs, options)
