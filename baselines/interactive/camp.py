"""CAMP (Wang et al., ICCV 2019): regions and words send each other messages, gated by how well they agree.

Departs from the published training, which has three stages: a plain cross-attention model, then the new layers on top
of it with the rest fixed, then everything, the last two by SGD.  Here the shared warm-up is the first stage, by the
hinge that the official configuration names (its code passes a cross entropy of clamped cosines instead), and all that
follows is the last, by their loss: a cross entropy on the hardest negatives, without a margin.  Without a warm-up there
is no first stage, and in the official code as here all scores become equal then (ZihaoWang-CV/CAMP_iccv19, issue 6).
An epoch visits every caption where theirs visits every image with one.

Fragments are not of unit length.  The last map of a pooling has no bias, for it would cancel in the softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

RECIPE = 2
PAPER = "Wang et al., CAMP: Cross-Modal Adaptive Message Passing for Text-Image Retrieval, ICCV 2019, arXiv 1909.05506"
VARIANTS: dict[str, dict] = {"": {}}

TILE = 3 * 2**20  # numbers in the hidden layers computed at once: a few such tensors fit the cache


@dataclass(frozen=True)
class Options:
    """Raises ValueError where there is no pooling head."""

    heads: int = 4  # softmaxes of a pooling, averaged

    def __post_init__(self) -> None:
        at_least("heads", self.heads, 1)


def matching_bce(scores: Tensor, impostors: Tensor | None = None) -> Tensor:
    """Binary cross entropy of a block of scores on the hardest negatives, summed over its queries in both directions.

    `-sum_i (2 log s_ii + log(1 - max_j s_ij) + log(1 - max_j s_ji))` over negatives j, scores kept 1e-6 from 0 and 1.
    scores: (B, B) in [0, 1], matching pairs on the diagonal.  impostors: (B, B) bool, True where a pair may serve as a
    negative; None = everything off the diagonal.  A query without a negative has the cost of its match alone.
    Returns ().
    """
    scores = scores.clamp(1e-6, 1 - 1e-6)
    taken = -(1 - scores).log() * negatives(scores, impostors)  # (B, B) what a pair costs as a negative, never below 0
    return taken.amax(1).sum() + taken.amax(0).sum() - 2 * scores.diagonal().log().sum()


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
        mixtures = self._mixtures(context, query_mask, context_mask, of_queries["asking"], of_context["hop"])
        squares = (mixtures * (mixtures.flatten(1, 2) @ gram(context)).view_as(mixtures)).sum(3, keepdim=True)
        mixtures = mixtures / (squares.clamp(min=1e-30).sqrt() + EPS)  # clamped, for the root has no slope at zero
        gates = (mixtures * products(context, queries).permute(0, 3, 2, 1)).sum(3, keepdim=True).sigmoid()
        messages = ((gates * mixtures).flatten(1, 2) @ of_context["message"]).unflatten(1, queries.shape[:2])
        heard = torch.addcmul(messages, gates, of_queries["own"]).relu_()  # (X, Y, Q, d), for g relu(u) = relu(g u)
        hidden = F.linear(heard, self.hidden.weight).add_(of_queries["hidden"]).relu_()
        logits = self.heads(hidden)  # (X, Y, Q, heads)
        if query_mask is not None:
            logits = logits.masked_fill(~query_mask[..., None], float("-inf"))
        shares = logits.softmax(2).mean(3)  # (X, Y, Q)
        return l2((shares[:, :, None] @ heard).squeeze(2) + torch.einsum("xyq,yqd->xyd", shares, queries))

    def mean_message(
        self,
        context: Tensor,
        query_mask: Tensor | None,
        context_mask: Tensor | None,
        of_queries: Mapping[str, Tensor],
        of_context: Mapping[str, Tensor],
    ) -> Tensor:
        """The mean of what the real queries of a pair hear, as a mixture of context fragments, (X, Y, C)."""
        mixtures = self._mixtures(context, query_mask, context_mask, of_queries["asking"], of_context["hop"])
        if query_mask is None:
            return mixtures.mean(2)
        return torch.einsum("yq,xyqc->xyc", query_mask.to(mixtures) / query_mask.sum(1, keepdim=True), mixtures)

    @staticmethod
    def _mixtures(
        context: Tensor, query_mask: Tensor | None, context_mask: Tensor | None, asking: Tensor, hop: Tensor
    ) -> Tensor:
        """Messages after the second attention as mixtures of context fragments, (X, Y, Q, C)."""
        scale = context.shape[-1] ** -0.5
        first = attention_weights(products(context, asking), scale, context_mask)  # (X, C, Q, Y)
        first = first.permute(0, 3, 2, 1).contiguous()  # (X, Y, Q, C)
        between = scale * hop @ context.mT  # (X, C, C)
        logits = (first.flatten(1, 2) @ between).view_as(first) @ first.mT  # (X, Y, Q, Q)
        if query_mask is not None:
            logits = logits.masked_fill(~query_mask[:, None], float("-inf"))
        return logits.softmax(3) @ first


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

    def prepared(self, images: Encoded) -> Encoded:
        """With all that regions are mapped to."""
        return images if "asking" in images.extras else self._mapped(images, self.region_side, self.word_side)

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        return self.scored(self.tile_scores, images, texts)

    def scored(self, score: Callable[[Encoded, Encoded], Tensor], images: Encoded, texts: Encoded) -> Tensor:
        """(N, M) by one of the two ways to score a tile."""
        return self.in_tiles(score, self.prepared(images), self._mapped(texts, self.word_side, self.region_side))

    def tile_pairs(self, length: int) -> int:
        return TILE // (self.inputs.dim * (self.inputs.regions + length))

    @staticmethod
    def _mapped(side: Encoded, as_queries: Gathering, as_context: Gathering) -> Encoded:
        """The side with all that its fragments are mapped to, whatever the pair, in `extras`."""
        fragments, _ = without_padding(side)
        return replace(side, extras=as_queries.of_queries(fragments) | as_context.of_context(fragments))

    def tile_scores(self, images: Encoded, texts: Encoded) -> Tensor:
        """(X, Y) in (0, 1), of sides that are `_mapped`."""
        regions, region_mask = without_padding(images)
        words, word_mask = without_padding(texts)
        of_words = self._trimmed(texts)
        image = self.region_side(regions, words, region_mask, word_mask, images.extras, of_words).transpose(0, 1)
        text = self.word_side(words, regions, word_mask, region_mask, of_words, images.extras)  # (X, Y, d)
        logits = self.match(torch.cat([image, text], 2)).squeeze(2)
        return logits.float().sigmoid()  # in half precision it would saturate

    def plain_scores(self, images: Encoded, texts: Encoded) -> Tensor:
        """(X, Y), the cosine of the regions' mean message and the words' mean message, of sides that are `_mapped`.

        Messages are not of unit length here.  Their means are mixtures of fragments, whose products say everything.
        """
        regions, region_mask = without_padding(images)
        words, word_mask = without_padding(texts)
        of_words = self._trimmed(texts)
        heard = self.region_side.mean_message(words, region_mask, word_mask, images.extras, of_words).transpose(0, 1)
        seen = self.word_side.mean_message(regions, word_mask, region_mask, of_words, images.extras)
        products_of = torch.einsum("xyr,xrly,xyl->xy", seen, products(regions, words), heard)
        squares = torch.einsum("xyr,xrs,xys->xy", seen, gram(regions), seen)
        squares = squares * torch.einsum("xyl,ylm,xym->xy", heard, gram(words), heard)
        return products_of / squares.clamp(min=EPS**2).sqrt()

    @staticmethod
    def _trimmed(texts: Encoded) -> dict[str, Tensor]:
        """What words are mapped to, cut to the length of the captions like them."""
        assert texts.contextual is not None
        return {name: mapped[:, : texts.contextual.shape[1]] for name, mapped in texts.extras.items()}

    def ranking_loss(self, scores: Tensor, batch: PairBatch) -> Tensor:
        """(): the hinge of a (B, B) block of plain scores during warm-up, then the cross entropy of scores."""
        if not self.hardest(batch):
            return super().ranking_loss(scores, batch)
        return matching_bce(scores, None if self.inputs.same_image_negatives else other_image(batch.subject))

    def losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:
        name, score = ("bce", self.tile_scores) if self.hardest(batch) else ("hinge", self.plain_scores)
        return {name: self.ranking_loss(self.scored(score, images, texts), batch)}


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs."""
    return CAMP(inputs, options)
