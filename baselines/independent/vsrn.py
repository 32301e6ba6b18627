"""VSRN (Li et al., ICCV 2019): graph reasoning over regions, then a GRU that reads them; last word state.

Departs from the paper: no captioning loss unless `captioning=True`; a linear map of the word vectors before the GRU,
which SelfAlign needs of a host (`word_projection=False` is the published text side); the reasoned regions are
normalised over their features before the GRU reads them.  The official code normalises them over the regions, the
default axis of its helper: `region_norm="region"`.  It also chooses by the data set's name between a batch
normalisation of the image embedding (Flickr30K: `state_norm`) and a region-axis normalisation before the graph (COCO:
`first_norm="region"`); here both are options.

The captioner reads the regions that the GRU reads, and has published sizes whatever the embedding width.  The
official optimiser steps it twice per iteration, here it is stepped once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, Retriever, TextBatch
from models.captioner import Captioner
from models.encoders import CaptionReader, ForwardGRU, RegionProjection, unit
from models.graph import GraphReasoning
from models.norm import MaskedBatchNorm
from models.options import at_least, one_of
from models.retrievers import Independent

RECIPE = 1
PAPER = "Li et al., Visual Semantic Reasoning for Image-Text Matching, ICCV 2019, arXiv 1909.02701"
VARIANTS: dict[str, dict] = {"": {}}

NORMS = ("region", "feature", "none")


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a norm that is not known or a negative number of layers."""

    layers: int = 4  # of graph reasoning
    state_norm: bool = True  # BN over the batch on the GRU's last state (the Flickr30K path)
    first_norm: str = "none"  # axis of the norm before the graph; the COCO path has "region"
    region_norm: str = "feature"  # axis of the norm between graph and GRU; official: "region"
    word_projection: bool = True  # Linear(E -> d) before the GRU of the words
    captioning: bool = False  # say the captions in training, as published
    captioning_weight: float = 1.0

    def __post_init__(self) -> None:
        at_least("layers", self.layers, 0)
        at_least("captioning_weight", self.captioning_weight, 0)
        one_of("first_norm", self.first_norm, NORMS)
        one_of("region_norm", self.region_norm, NORMS)


def normalised(regions: Tensor, axis: str) -> Tensor:
    """Unit length over the features of each region, or over the regions of each feature.

    regions: (B, R, d), zero where padded; axis: one of `NORMS`.  Same shape.  The official norm divides without an
    epsilon, so a feature that is zero in all regions would give NaN; here it stays zero.
    """
    if axis == "none":
        return regions
    return F.normalize(regions, dim=1 if axis == "region" else 2)


class VSRN(Independent):
    """Region relationship reasoning, then global reasoning by a GRU; `contextual` are the regions between the two."""

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__(inputs)
        self.options = options
        self.regions = RegionProjection(inputs.image_dim, inputs.dim)
        self.graph = nn.ModuleList(GraphReasoning(inputs.dim) for _ in range(options.layers))
        self.reader = ForwardGRU(inputs.dim, inputs.dim)
        self.state_norm = MaskedBatchNorm(inputs.dim) if options.state_norm else nn.Identity()
        self.captions = CaptionReader(inputs, options.word_projection)
        self.captioner = Captioner(inputs.dim, inputs.vocabulary) if options.captioning else None

    def encode_images(self, images: ImageBatch) -> Encoded:
        projected = self.regions(images.fragments) * images.mask[..., None]  # (B, R, d)
        reasoned = normalised(projected, self.options.first_norm)
        for layer in self.graph:
            reasoned = layer(reasoned, images.mask)
        _, last = self.reader(normalised(reasoned, self.options.region_norm), images.mask)
        return Encoded(
            embedding=unit(self.state_norm(last)), fragments=projected, contextual=reasoned, mask=images.mask
        )

    def encode_texts(self, texts: TextBatch) -> Encoded:
        return self.captions(texts)

    def own_losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:  # noqa: ARG002
        """How hard the captions are to say from the regions that the GRU reads."""
        if self.captioner is None:
            return {}
        assert images.contextual is not None
        assert images.mask is not None
        regions = normalised(images.contextual, self.options.region_norm)
        return {"captioning": self.options.captioning_weight * self.captioner(regions, images.mask, batch.texts)}


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs."""
    return VSRN(inputs, options)
