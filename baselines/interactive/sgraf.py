"""SGRAF (Diao et al., AAAI 2021): similarity vectors of words and pair, reasoned over in a graph (sgr) or gated (saf).

The published model is the mean of the score matrices of two models trained apart, one of each kind.

Departs from the official code in training only.  That code scores one caption at a time, so the batch norm of saf
normalises over all images and the nodes of one caption, and its running statistics move once per caption.  Here it
normalises over the nodes of all pairs of a batch; evaluation agrees.  Biases without effect are left out: those that
cancel in a softmax (of the graph's keys, of the last map of a global pooling) and those before a batch norm.  A batch
norm over region slots ties the image side to the order of the regions; slots that are padding do not count.

Published: learning rate 2e-4; Flickr30K 40 epochs (x0.1 at 30) for sgr and 30 (at 20) for saf, COCO 20 (at 10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.protocol import Encoded, ImageBatch, Inputs, Retriever, TextBatch
from models.activations import tanh
from models.attention import (
    EPS,
    attended,
    attended_squares,
    attention_weights,
    gram,
    normalised,
    products,
    without_padding,
)
from models.encoders import l2
from models.fragments import FragmentModel
from models.norm import MaskedBatchNorm
from models.options import above_zero, at_least, one_of
from models.pairs import lengths_of, tiles
from models.pooling import masked_mean

RECIPE = 1
PAPER = "Diao et al., Similarity Reasoning and Filtration for Image-Text Matching, AAAI 2021, arXiv 2101.01368"
VARIANTS: dict[str, dict] = {"sgr": {"module": "sgr"}, "saf": {"module": "saf"}}

TILE = 2**21  # numbers in the vectors of all nodes computed at once: about what the cache of one core holds


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a module that is not known, or a number out of its range."""

    module: str = "sgr"  # sgr: graph reasoning over a pair's similarity vectors | saf: a gated sum of them
    similarity_dim: int = 0  # width s of a similarity vector; 0 = a quarter of the embedding: the published 256 of 1024
    steps: int = 3  # of graph reasoning, sgr only
    lam: float = 9.0  # multiplies the normalised products before the softmax over the regions
    dropout: float = 0.4  # of the word vectors and inside the global poolings

    def __post_init__(self) -> None:
        one_of("module", self.module, ("sgr", "saf"))
        at_least("similarity_dim", self.similarity_dim, 0)
        at_least("steps", self.steps, 1)
        above_zero("lam", self.lam)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout!r} must be at least 0 and below 1")


def dense(width: int, to: int, bias: bool = True) -> nn.Linear:
    """A linear map with Xavier-uniform weights and no initial bias, as all maps behind the encoders."""
    linear = nn.Linear(width, to, bias=bias)
    nn.init.xavier_uniform_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


class SlotNorm(nn.BatchNorm1d):
    """Batch norm whose channels are the region slots: one statistic over the images and features of each slot.

    Only real regions count.  A slot that no image of a training batch fills keeps its running statistics and uses them.
    """

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """input: (B, R, d), mask: (B, R) bool or None = all real -> (B, R, d), of no meaning where padded.

        Raises ValueError where a region is real beyond the last slot.
        """
        if mask is None:
            return super().forward(input)
        width = input.shape[1]
        if mask[:, self.num_features :].any():
            raise ValueError(f"image with more than {self.num_features} regions, one slot is known for each")
        spare = self.num_features - width  # negative padding cuts
        slots, real = F.pad(input, (0, 0, 0, spare)), F.pad(mask, (0, spare))
        known = super().forward(slots) if not self.training or real.all() else self._of_real(slots, real)
        return F.pad(known, (0, 0, 0, -spare))

    def _of_real(self, slots: Tensor, real: Tensor) -> Tensor:
        """Training where some slots are padding.  slots: (B, slots, d), real: (B, slots) -> (B, slots, d)."""
        assert self.running_mean is not None
        assert self.running_var is not None
        count = real.sum(0) * slots.shape[2]  # (slots,) numbers a statistic is made of
        share = (real / count.clamp(min=1))[..., None]  # (B, slots, 1)
        filled = count > 0
        mean = torch.where(filled, (slots * share).sum((0, 2)), self.running_mean)
        centred = slots - mean[:, None]
        var = torch.where(filled, (centred.square() * share).sum((0, 2)), self.running_var)
        with torch.no_grad():
            step = (self.momentum or 0.0) * filled
            unbiased = var * torch.where(filled, count / (count - 1).clamp(min=1), 1.0)
            self.running_mean.lerp_(mean.to(self.running_mean), step.to(self.running_mean))
            self.running_var.lerp_(unbiased.to(self.running_var), step.to(self.running_var))
        return centred * ((var + self.eps).rsqrt() * self.weight)[:, None] + self.bias[:, None]


class GlobalPooling(nn.Module):
    """Fragments weighed by how they agree with their mean: `l2(sum_n softmax_n(w . (tanh(A x_n) * tanh(B mean))) x_n)`.

    With `slots`, on the image side, both maps pass a batch norm, the local one over region slots.
    """

    def __init__(self, dim: int, dropout: float, slots: int = 0) -> None:
        super().__init__()
        self.local = dense(dim, dim)
        self.whole = dense(dim, dim, bias=not slots)
        self.common = dense(dim, 1, bias=False)
        self.local_norm = SlotNorm(slots) if slots else None
        self.whole_norm = MaskedBatchNorm(dim) if slots else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, fragments: Tensor, mask: Tensor) -> Tensor:
        """fragments: (B, N, d), finite where padded, mask: (B, N) -> (B, d) unit."""
        local, whole = self.local(fragments), self.whole(masked_mean(fragments, mask))
        if self.local_norm is not None and self.whole_norm is not None:
            local, whole = self.local_norm(local, mask), self.whole_norm(whole)
        agreement = self.dropout(tanh(local)) * self.dropout(tanh(whole))[:, None]  # (B, N, d)
        weights = self.common(agreement).squeeze(2).masked_fill(~mask, float("-inf")).softmax(1)
        return l2((weights[..., None] * fragments).sum(1))


class GraphStep(nn.Module):
    """One step of similarity graph reasoning: `relu(W_r (softmax((W_q x)(W_k x)^T) x))`.

    `(W_q x + b) . W_k y = (x M + u) . y` with `M = W_q^T W_k` and `u = W_k^T b`: one product per node instead of two.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = dense(width, width)
        self.key = dense(width, width, bias=False)
        self.out = dense(width, width)

    def forward(self, asking: Tensor, nodes: Tensor) -> Tensor:
        """asking: (X, Y, K, s), the nodes to move; nodes: (X, Y, N, s) -> (X, Y, K, s)."""
        asked = F.linear(asking, self.key.weight.T @ self.query.weight, self.query.bias @ self.key.weight)
        edges = (nodes @ asked.mT).softmax(-2)  # (X, Y, N, K)
        return self.out(edges.mT @ nodes).relu()


class SGR(nn.Module):
    """Similarity graph reasoning: some steps over all nodes of a pair, of which the global one is kept."""

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(GraphStep(width) for _ in range(steps))

    def forward(self, nodes: Tensor) -> Tensor:
        """nodes: (X, Y, N, s) -> (X, Y, s)."""
        for step in self.steps[:-1]:
            nodes = step(nodes, nodes)
        return self.steps[-1](nodes[:, :, :1], nodes).squeeze(2)  # only the global node is read


class SAF(nn.Module):
    """Similarity attention filtration: `l2(sum_n b_n x_n)`, gates `b = l1(sigmoid(BN(w . x)))`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = dense(width, 1, bias=False)
        self.norm = MaskedBatchNorm(1)

    def forward(self, tiles: Sequence[Tensor]) -> list[Tensor]:
        """Nodes (X, Y, N, s) of several tiles of pairs -> (X, Y, s) of each; the norm sees the nodes of all of them."""
        logits = torch.cat([self.gate(nodes).flatten() for nodes in tiles])
        gates = self.norm(logits[:, None]).sigmoid().split([nodes.shape[:3].numel() for nodes in tiles])
        return [self._filtered(own.view(nodes.shape[:3]), nodes) for own, nodes in zip(gates, tiles, strict=True)]

    @staticmethod
    def _filtered(gates: Tensor, nodes: Tensor) -> Tensor:
        """gates: (X, Y, N), nodes: (X, Y, N, s) -> (X, Y, s) unit."""
        gates = gates / (gates.sum(2, keepdim=True) + EPS)
        return l2((gates[:, :, None] @ nodes).squeeze(2))


class SGRAF(FragmentModel):
    """A similarity vector per word and one per pair, made into a score; `embedding` is the global vector of a side."""

    padded = False  # padding would be reasoned over

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__(inputs)
        width = options.similarity_dim or max(1, inputs.dim // 4)
        self.options = options
        self.dropout = nn.Dropout(options.dropout)
        self.image_pooling = GlobalPooling(inputs.dim, options.dropout, slots=inputs.regions)
        self.text_pooling = GlobalPooling(inputs.dim, options.dropout)
        self.local_similarity = dense(inputs.dim, width)
        self.global_similarity = dense(inputs.dim, width)
        self.reasoning = SGR(width, options.steps) if options.module == "sgr" else SAF(width)
        self.score = dense(width, 1)

    def encode_images(self, images: ImageBatch) -> Encoded:
        return self.encoded(l2(self.regions(images.fragments)), images.mask, self.image_pooling)

    def encode_texts(self, texts: TextBatch) -> Encoded:
        words = self.dropout(self.words(texts))
        return self.encoded(l2(self.gru(words, texts.mask)), texts.mask, self.text_pooling)

    def encoded(self, fragments: Tensor, mask: Tensor, pooling: GlobalPooling) -> Encoded:
        """Unit fragments (B, N, d) and their global vector (B, d)."""
        real = fragments.masked_fill(~mask[..., None], 0.0)
        return Encoded(embedding=pooling(real, mask), contextual=real, mask=mask)

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        if isinstance(self.reasoning, SAF) and self.reasoning.training:  # its batch norm ties all pairs together
            return self._tied(self.reasoning, images, texts)
        return super().similarity(images, texts)

    def tile_pairs(self, length: int) -> int:
        return TILE // (self.inputs.dim * (1 + length))

    def tile_scores(self, images: Encoded, texts: Encoded) -> Tensor:
        """X images and Y captions of one length -> (X, Y)."""
        return self._scored(self._reasoned(self._nodes(images, texts)))

    def _tied(self, reasoning: SAF, images: Encoded, texts: Encoded) -> Tensor:
        """Scores (N, M) where a batch norm counts the nodes of all pairs."""
        places = list(tiles(len(images), lengths_of(texts), self.tile_pairs))
        sides = [(images.select(rows), texts.select(columns).trim(length)) for rows, columns, length in places]
        nodes = [checkpoint(self._nodes, *side, use_reentrant=False, preserve_rng_state=False) for side in sides]
        parts = [self._scored(part).flatten() for part in reasoning(nodes)]
        numbers = torch.arange(len(images) * len(texts), device=parts[0].device).view(len(images), len(texts))
        order = torch.cat([numbers[rows, columns].flatten() for rows, columns, _ in places])
        return torch.cat(parts)[order.argsort()].view(len(images), len(texts))

    def _reasoned(self, nodes: Tensor) -> Tensor:
        """(X, Y, N, s) -> (X, Y, s)."""
        return self.reasoning([nodes])[0] if isinstance(self.reasoning, SAF) else self.reasoning(nodes)

    def _scored(self, reasoned: Tensor) -> Tensor:
        """(X, Y, s) -> (X, Y)."""
        return self.score(reasoned).squeeze(2).float().sigmoid()  # sigmoid saturates in half precision

    def _nodes(self, images: Encoded, texts: Encoded) -> Tensor:
        """Similarity vectors of every pair, the global one first, (X, Y, 1 + L, s) unit: `l2(W (x - y)^2)`.

        Captions without padding.
        """
        assert images.embedding is not None
        assert texts.embedding is not None
        assert texts.contextual is not None
        regions, region_mask = without_padding(images)
        words, gists = texts.contextual, texts.embedding
        scores = products(regions, words)  # (X, R, L, Y)
        weights = attention_weights(normalised(scores, "clipped_l2norm"), self.options.lam, region_mask)  # (X, R, L, Y)
        known = images.extras.get("gram")
        squares = attended_squares(weights, gram(regions) if known is None else known)  # (X, L, Y)
        lengths = squares.clamp(min=1e-30).sqrt()  # clamped, for the root has no slope at zero
        unit_weights = weights / (lengths + EPS)[:, None]
        local = (attended(unit_weights.transpose(2, 3), regions) - words).square()  # (X, Y, L, d)
        whole = (images.embedding[:, None] - gists).square()  # (X, Y, d)
        return l2(torch.cat([self.global_similarity(whole)[:, :, None], self.local_similarity(local)], 2))


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs."""
    return SGRAF(inputs, options)
