"""SAEM (Wu et al., ACM MM 2019): a transformer layer over regions, convolutions over words, hinge and angular loss.

Published with d = 256, batches of 64 and 30 epochs, on a frozen BERT.  The weight of the angular loss falls by the
published schedule, a tenth every five epochs and nothing from epoch 21 on (0-based); shorter runs see less of its end.

Departs from the paper: padding takes part in nothing, where the official code lets regions attend to it and words end
in it; a caption shorter than a filter is one window that ends in zeros.  Word vectors come from a table unless a
pretrained text model is given, and a linear map stands between them and the convolutions, which SelfAlign needs of a
host (`word_projection=False` is the published text side).  Words get no context before they are pooled: `contextual`
is `fragments` on the text side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, Retriever, TextBatch
from models.encoders import RegionProjection, WordVectors, unit
from models.losses import other_image
from models.options import at_least, between
from models.pooling import masked_max, masked_mean
from models.retrievers import Independent
from models.rows import here, mapped
from models.windows import strongest

RECIPE = 1
PAPER = "Wu et al., Learning Fragment Self-Attention Embeddings for Image-Text Matching, ACM MM 2019"
VARIANTS: dict[str, dict] = {"": {}}

FALL, EVERY, UNTIL = 0.1, 5, 21  # of the angular loss: by how much, every so many epochs, and the first without it


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a number out of range."""

    heads: int = 16  # must divide the embedding width
    feed_forward: int = 2048  # width within the transformer layer
    filters: int = 512  # of each width
    widest: int = 3  # filters see 1, 2, ... so many words
    dropout: float = 0.1
    angular_weight: float = 0.5  # in the first epochs
    norm_weight: float = 0.01  # of the lengths of the image side's weight matrices
    word_projection: bool = True  # Linear(E -> d) before the convolutions

    def __post_init__(self) -> None:
        for option in ("heads", "feed_forward", "filters", "widest"):
            at_least(option, getattr(self, option), 1)
        for option in ("angular_weight", "norm_weight"):
            at_least(option, getattr(self, option), 0)
        between("dropout", self.dropout, 0, 1)


# Losses


def angular(anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Angular loss at 45 degrees, on the worst negative of each anchor (Wang et al., ICCV 2017).

    anchors, positives: (B, d) unit rows of the two sides, matching row by row; negatives: (B, B) bool, which positives
    an anchor is told apart from.  Sum over anchors of `log(1 + exp(max_n 4 <a + p, n> - 4 <a, p>))`.  Returns ();
    an anchor without negatives costs nothing.
    """
    matched = (anchors * positives).sum(1, keepdim=True)  # (B, 1)
    excess = (4 * ((anchors + positives) @ positives.T) - 4 * matched).float()
    return F.softplus(excess.masked_fill(~negatives, float("-inf")).amax(1)).sum()


def decay(epoch: int) -> float:
    """Share of the angular loss that is left.  epoch: 0-based."""
    return FALL ** (epoch // EVERY) if epoch < UNTIL else 0.0


def weight_lengths(module: nn.Module) -> Tensor:
    """Sum of the Frobenius norms, not squared, of all linear maps within, without biases.  Returns ()."""
    return torch.stack([m.weight.norm() for m in module.modules() if isinstance(m, nn.Linear)]).sum()


# The two sides


class SelfAttention(nn.Module):
    """Scaled dot products between all fragments of an item, in several heads (Vaswani et al. 2017)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads={heads} must divide the embedding width {dim}")
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (B, N, d), mask: (B, N) bool -> (B, N, d)."""
        query, key, value = (
            part(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )  # (B, H, N, d / H) each
        scores = query @ key.mT / key.shape[3] ** 0.5  # (B, H, N, N)
        weights = scores.masked_fill(~mask[:, None, None], float("-inf")).softmax(3)
        return self.out((self.dropout(weights) @ value).transpose(1, 2).flatten(2))


class TransformerLayer(nn.Module):
    """Self-attention and a perceptron, each added to its input and then normalised."""

    def __init__(self, dim: int, options: Options) -> None:
        super().__init__()
        self.attention = SelfAttention(dim, options.heads, options.dropout)
        self.perceptron = nn.Sequential(
            nn.Linear(dim, options.feed_forward), nn.GELU(), nn.Linear(options.feed_forward, dim)
        )
        self.attention_norm, self.perceptron_norm = (nn.LayerNorm(dim, eps=1e-12) for _ in range(2))
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (B, N, d), mask: (B, N) bool -> (B, N, d)."""
        x = self.attention_norm(x + self.dropout(self.attention(x, mask)))
        return self.perceptron_norm(x + self.dropout(self.perceptron(x)))


class ImageSide(nn.Module):
    """Mapped regions, in context of one another, averaged."""

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__()
        self.regions = RegionProjection(inputs.image_dim, inputs.dim)
        self.layer = TransformerLayer(inputs.dim, options)

    def forward(self, images: ImageBatch) -> Encoded:
        """B images of R regions -> embedding (B, d), fragments and contextual (B, R, d)."""
        regions = self.regions(images.fragments)
        contextual = self.layer(regions, images.mask)
        pooled = unit(masked_mean(contextual, images.mask))
        return Encoded(embedding=pooled, fragments=regions, contextual=contextual, mask=images.mask)


class WordConvolution(nn.Module):
    """Filters over runs of words, the strongest answer of each along a caption (Kim, EMNLP 2014)."""

    def __init__(self, width: int, filters: int, words: int) -> None:
        super().__init__()
        self.words = words
        self.filters = nn.Conv1d(width, filters, words, padding=words - 1)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """vectors: (B, L, E), zero where padded; mask: (B, L) with the real words first -> (B, filters).

        A run lies within its caption, or starts with it where the caption is shorter than a run.
        """
        if here(vectors):
            return strongest(self.filters, vectors, (mask.sum(1) - self.words + 1).clamp(min=1)).relu()
        answers = self.filters(vectors.mT)[:, :, self.words - 1 :]  # (B, filters, L), by first word of the run
        last = (mask.sum(1, keepdim=True) - self.words).clamp(min=0)  # (B, 1) where the last run starts
        runs = torch.arange(mask.shape[1], device=mask.device) <= last  # (B, L)
        return masked_max(answers.mT, runs).relu()  # of the strongest alone: the ReLU keeps order


class TextSide(nn.Module):
    """Word vectors, convolutions of several widths over them, one linear map of the strongest answers."""

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__()
        self.words = WordVectors(inputs)
        width = inputs.dim if options.word_projection else self.words.width
        self.projection = nn.Linear(self.words.width, width) if options.word_projection else None
        self.convolutions = nn.ModuleList(
            WordConvolution(width, options.filters, words) for words in range(1, options.widest + 1)
        )
        self.dropout = nn.Dropout(options.dropout)
        self.out = nn.Linear(options.filters * options.widest, inputs.dim)

    def forward(self, texts: TextBatch) -> Encoded:
        """B captions of L words -> embedding (B, d), fragments and contextual (B, L, d)."""
        words = self.words(texts)  # (B, L, E)
        projected = None if self.projection is None else mapped(self.projection, words, texts.mask)  # (B, L, d)
        real = (words if projected is None else projected) * texts.mask[..., None]
        strongest = torch.cat([convolution(real, texts.mask) for convolution in self.convolutions], 1)
        pooled = unit(self.out(self.dropout(strongest)))
        return Encoded(embedding=pooled, fragments=projected, contextual=projected, mask=texts.mask)


class SAEM(Independent):
    """Self-attention over regions, convolutions over words, two losses beside the hinge."""

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__(inputs)
        self.options = options
        self.images = ImageSide(inputs, options)
        self.texts = TextSide(inputs, options)

    def encode_images(self, images: ImageBatch) -> Encoded:
        return self.images(images)

    def encode_texts(self, texts: TextBatch) -> Encoded:
        return self.texts(texts)

    def own_losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:
        assert images.embedding is not None
        assert texts.embedding is not None
        if self.inputs.same_image_negatives:
            negatives = ~torch.eye(len(batch.image_index), dtype=torch.bool, device=batch.image_index.device)
        else:
            negatives = other_image(batch.subject)
        both = angular(images.embedding, texts.embedding, negatives) + angular(
            texts.embedding, images.embedding, negatives
        )
        return {
            "angular": self.options.angular_weight * decay(batch.epoch) * both,
            "weight_norm": self.options.norm_weight * weight_lengths(self.images),
        }


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs.  Raises ValueError unless the heads divide the embedding width."""
    return SAEM(inputs, options)
