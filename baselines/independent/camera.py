"""CAMERA (Qu et al., ACM MM 2020): gated self-attention on each side, several views of an image, the best one counts.

Published with 64 heads at d = 2048, 12 views and a diversity weight of 0.01, on a frozen BERT; a head is as wide here
with 8 at d = 256.  Images need boxes and sizes.  Region order matters to the summary's convolutions.

Departs from the official code:
- Padded regions and words take part in nothing: attention, convolution, softmax, batch normalisation, mean.
- Regions are normalised over their features, before and after attention.  The official code normalises them over the
  regions, the default axis of its helper: `norm_axis="region"`.
- Its copy in the SelfAlign code also normalises the mapped words (over the words): `word_norm=True`.
- Words may come from a table instead of a pretrained text model.  Nothing here then knows their order: a caption is a
  bag of words.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, Retriever, TextBatch
from models.agsa import GatedSelfAttention
from models.encoders import RegionProjection, WordVectors, unit
from models.norm import MaskedBatchNorm
from models.options import at_least, between, one_of
from models.places import BOXES, grid_side, located
from models.pooling import masked_mean
from models.retrievers import Independent
from models.rows import mapped

RECIPE = 1
PAPER = "Qu et al., Context-Aware Multi-View Summarization Network for Image-Text Matching, ACM MM 2020"
VARIANTS: dict[str, dict] = {"": {}}
NEEDS = ("fragments", "boxes", "tokens")
SPARED = {"boxes": {"boxes": "grid"}}  # cells of a grid have known places

AXES = {"feature": 2, "region": 1}
# channels, kernel and dilation of the convolutions over the regions
BRANCHES = ((256, 1, 1), (128, 3, 1), (128, 3, 2), (128, 3, 3), (128, 5, 1), (128, 5, 2), (128, 5, 3))


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a choice that is not known or a number out of range."""

    heads: int = 8  # must divide the embedding width
    views: int = 12  # of an image
    diversity_weight: float = 0.01  # of the penalty on views that look at the same regions
    dropout: float = 0.0
    norm_axis: str = "feature"  # feature | region; on words, "region" is over the words
    word_norm: bool = False  # normalise the mapped words before attention
    boxes: str = "stored"  # stored with the features | grid: regions are the cells of a square grid, row by row

    def __post_init__(self) -> None:
        at_least("heads", self.heads, 1)
        at_least("views", self.views, 1)
        at_least("diversity_weight", self.diversity_weight, 0)
        between("dropout", self.dropout, 0, 1)
        one_of("norm_axis", self.norm_axis, tuple(AXES))
        one_of("boxes", self.boxes, BOXES)


# Where a region is


def box_features(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Left and upper edge, width and height as shares of the picture, width over height, share of the area.

    boxes: (B, R, 4) x1, y1, x2, y2; sizes: (B, 2) width, height -> (B, R, 6).  A box less than a pixel high counts as
    one pixel high where it divides.
    """
    upper_left, lower_right = boxes.chunk(2, dim=2)
    extent = lower_right - upper_left  # (B, R, 2)
    shares = extent / sizes[:, None]
    aspect = extent[..., :1] / extent[..., 1:].clamp(min=1)
    return torch.cat([upper_left / sizes[:, None], shares, aspect, shares.prod(2, keepdim=True)], 2)


class PositionCode(nn.Module):
    """A factor in 0..1 per feature of a region, from its box: `sigmoid(Linear(6 -> d))`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(6, dim)

    def forward(self, boxes: Tensor, sizes: Tensor, mask: Tensor) -> Tensor:
        """boxes: (B, R, 4) or (1, R, 4), sizes: (B, 2) or (1, 2), mask: (B, R) bool -> (B, R, d)."""
        features = box_features(boxes, sizes).masked_fill(~mask[..., None], 0.0)  # padding may be no box at all
        return self.linear(features).sigmoid()


# From regions to views


class ViewLogits(nn.Module):
    """How much each view looks at each region: convolutions over the regions, in file order, and one linear map."""

    def __init__(self, dim: int, views: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv1d(dim, channels, kernel, dilation=dilation, padding=dilation * (kernel // 2))
            for channels, kernel, dilation in BRANCHES
        )
        self.linear = nn.Linear(sum(channels for channels, _, _ in BRANCHES), views)

    def forward(self, regions: Tensor) -> Tensor:
        """regions: (B, R, d), zero where padded -> (B, R, K), of no meaning there."""
        columns = regions.mT  # (B, d, R)
        return self.linear(torch.cat([branch(columns).relu() for branch in self.branches], 1).mT)


def mixtures(regions: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    """Unit mixtures of the real regions, one per view.

    regions: (B, R, d), zero where padded, logits: (B, R, K), mask: (B, R) bool -> (B, K, d).
    """
    weights = logits.masked_fill(~mask[..., None], float("-inf")).softmax(1)
    return unit(weights.mT @ regions)


def overlap(logits: Tensor, mask: Tensor) -> Tensor:
    """How much the views of an image look at the same regions: `|N^T N - I|^2`, N = logits of unit length per view.

    logits: (B, R, K), mask: (B, R) bool -> (B,).
    """
    columns = F.normalize(logits.masked_fill(~mask[..., None], 0.0), dim=1)
    own = torch.eye(logits.shape[2], device=logits.device)
    return (columns.mT @ columns - own).square().sum((1, 2))


class CAMERA(Independent):
    """Linear map and gated self-attention on both sides; an image becomes K views, a caption one vector.

    `fragments` are what enters the attention, `contextual` what leaves it.
    """

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__(inputs)
        self.options = options
        self.views = options.views
        self.side = grid_side(options.boxes, inputs.regions)
        dim = inputs.dim
        self.regions = RegionProjection(inputs.image_dim, dim)
        self.position = PositionCode(dim)
        self.region_attention = GatedSelfAttention(dim, options.heads, options.dropout)
        self.view_logits = ViewLogits(dim, options.views)
        self.words = WordVectors(inputs)
        self.mapping = nn.Linear(self.words.width, dim)
        self.word_attention = GatedSelfAttention(dim, options.heads, options.dropout)
        self.hidden = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)
        self.output_norm = MaskedBatchNorm(dim)
        self.dropout = nn.Dropout(options.dropout)

    def encode_images(self, images: ImageBatch) -> Encoded:
        """Adds `overlap` (B,) to the extras in training.  Raises ValueError where boxes are missing, or do not fit."""
        mask = images.mask
        boxes, sizes = located(images, self.side, "CAMERA")
        regions = self._normalised(self.regions(images.fragments).masked_fill(~mask[..., None], 0.0))  # (B, R, d)
        attended = self.region_attention(regions, mask, self.position(boxes, sizes, mask))
        shown = self._normalised(attended)
        logits = self.view_logits(shown)  # (B, R, K)
        embedding = mixtures(shown, logits, mask)
        return Encoded(
            embedding=embedding if self.views > 1 else embedding.squeeze(1),
            fragments=regions,
            contextual=attended,
            mask=mask,
            extras={"overlap": overlap(logits, mask)} if self.training else {},
        )

    def encode_texts(self, texts: TextBatch) -> Encoded:
        words = mapped(self.mapping, self.words(texts), texts.mask).masked_fill(
            ~texts.mask[..., None], 0.0
        )  # (B, L, d)
        if self.options.word_norm:
            words = self._normalised(words)
        attended = self.word_attention(words, texts.mask)
        hidden = self.dropout(self.hidden(attended).relu())
        residual = self.dropout(self.output_norm(self.output(hidden), texts.mask))
        pooled = masked_mean(attended + residual, texts.mask)
        return Encoded(embedding=unit(pooled), fragments=words, contextual=attended, mask=texts.mask)

    def own_losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:  # noqa: ARG002
        """The diversity penalty, summed over the batch, of encodings made in training."""
        if "overlap" not in images.extras:
            return {}
        return {"diversity": self.options.diversity_weight * images.extras["overlap"].sum()}

    def _normalised(self, x: Tensor) -> Tensor:
        """x: (B, N, d), zero where padded.  Same shape; the official norm has no epsilon, here zero stays zero."""
        return F.normalize(x, dim=AXES[self.options.norm_axis])


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs.  Raises ValueError where heads or grid do not fit them."""
    return CAMERA(inputs, options)
