"""VSE++ (Faghri et al., BMVC 2018): pooled regions, last word state, hinge on the hardest negatives.

Departs from the paper: region features in place of one vector per image, pooled after their projection, and a linear
map of the word vectors before the GRU, which SelfAlign needs of a host (`word_projection=False` is the published text
side).  Regions get no context modelling: `contextual` is `fragments` on the image side.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, Retriever, TextBatch
from models.encoders import CaptionReader, RegionProjection, unit
from models.options import one_of
from models.pooling import masked_max, masked_mean
from models.retrievers import Independent

RECIPE = 1
PAPER = "Faghri et al., VSE++: Improving Visual-Semantic Embeddings with Hard Negatives, BMVC 2018, arXiv 1707.05612"
VARIANTS: dict[str, dict] = {"": {}}

POOLINGS = {"mean": masked_mean, "max": masked_max}


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a pooling that is not known."""

    pooling: str = "mean"  # of the regions: mean | max
    hardest: bool = True  # False sums over all negatives of the batch (VSE0)
    word_projection: bool = True  # Linear(E -> d) before the GRU

    def __post_init__(self) -> None:
        one_of("pooling", self.pooling, tuple(POOLINGS))


class VSEpp(Independent):
    """One linear map and a pooling for images, a GRU for captions."""

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__(inputs)
        self.options = options
        self.regions = RegionProjection(inputs.image_dim, inputs.dim)
        self.captions = CaptionReader(inputs, options.word_projection)

    def encode_images(self, images: ImageBatch) -> Encoded:
        if not self.fragments_read and self.options.pooling == "mean":  # the map of a mean is the mean of the mapped
            return Encoded(embedding=unit(self.regions(masked_mean(images.fragments, images.mask))))
        regions = self.regions(images.fragments)  # (B, R, d)
        pooled = POOLINGS[self.options.pooling](regions, images.mask)
        return Encoded(embedding=unit(pooled), fragments=regions, contextual=regions, mask=images.mask)

    def encode_texts(self, texts: TextBatch) -> Encoded:
        return self.captions(texts)

    def hardest(self, batch: PairBatch) -> bool:
        return self.options.hardest and super().hardest(batch)


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs."""
    return VSEpp(inputs, options)
