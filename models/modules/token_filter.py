"""Token filter (after DVF): an image keeps the m most important of its regions, before anything else reads them.

DVF keeps the discriminative tokens of a fine-grained image-to-image model by a learned importance; here regions are
kept on the image side of any model, interactive ones included, whose time to score a pair falls with m.  None of DVF's
other parts fits (no text in it, proxies need classes, its detector needs a prompt).

A teacher that the model learns from, a stored row or a peer, sees all regions.

`learned`: a linear score of the region's features, whose sigmoid scales what is kept, so that it gets a gradient.
`similarity`: regions unlike the mean region of their image are kept, which needs no training.  `random`: positions
drawn once, the same for every image, which is the control.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.protocol import Encoded, ImageBatch, PairBatch, Retriever, TextBatch
from models.options import at_least, one_of
from models.pooling import masked_mean
from models.retrievers import Host

RECIPE = 1
TITLE = "token filter (after DVF)"
PAPER = "Jiang et al., DVF: Advancing Robust and Accurate Fine-Grained Image Retrieval, ACM MM 2024, arXiv 2404.15771"
ON = ("independent", "interactive")

IMPORTANCE = ("learned", "similarity", "random")


@dataclass(frozen=True)
class Options:
    """Raises ValueError for an importance that is not known or fewer than one region."""

    keep: int = 12  # m, regions of an image; one with fewer keeps all
    importance: str = "learned"  # learned | similarity | random

    def __post_init__(self) -> None:
        at_least("keep", self.keep, 1)
        one_of("importance", self.importance, IMPORTANCE)


def kept(importance: Tensor, mask: Tensor, most: int) -> Tensor:
    """Which regions stay: (B, m) positions, in their old order, real ones before padding.

    importance: (B, R), higher is kept; mask: (B, R) bool.  m = min(most, R).
    """
    wanted = importance.detach().masked_fill(~mask, float("-inf"))
    chosen = wanted.topk(min(most, mask.shape[1]), dim=1).indices
    return chosen.sort(1).values


def unlikeness(fragments: Tensor, mask: Tensor) -> Tensor:
    """(B, R): minus the cosine of each region with the mean of its image's real regions (B, R, D)."""
    return -F.cosine_similarity(fragments, masked_mean(fragments, mask)[:, None], dim=2)


class Filtered(Retriever):
    """A model that sees fewer regions; all else is the model's own."""

    def __init__(self, host: Host, options: Options) -> None:
        super().__init__()
        self.model = host.model
        self.family = host.model.family  # type: ignore[misc]  # of this one, not of the class
        self.options = options
        if options.importance == "learned":
            self.score = nn.Linear(host.inputs.image_dim, 1)
        if options.importance == "random":
            self.register_buffer("order", torch.rand(host.inputs.regions))

    order: Tensor  # (R,) where importance is random

    @property
    def lessons(self) -> nn.ModuleDict:
        """Those of the model."""
        return self.model.lessons

    def encode_images(self, images: ImageBatch) -> Encoded:
        importance = self._importance(images)
        places = kept(importance, images.mask, self.options.keep)

        def some(values: Tensor | None) -> Tensor | None:
            if values is None:
                return None
            shape = places.view(*places.shape, *[1] * (values.ndim - 2))
            return values.gather(1, shape.expand(*places.shape, *values.shape[2:]))

        fragments = images.fragments
        if self.options.importance == "learned":
            fragments = fragments * 2 * importance.sigmoid()[..., None]  # 1 where the score is 0
        few = replace(
            images,
            fragments=some(fragments),
            mask=some(images.mask),
            boxes=some(images.boxes),
            kept=torch.zeros_like(images.mask).scatter(1, places, True),
        )
        return self.model.encode_images(few)

    def _importance(self, images: ImageBatch) -> Tensor:
        """(B, R)"""
        if self.options.importance == "learned":
            return self.score(images.fragments)[..., 0]
        if self.options.importance == "similarity":
            return unlikeness(images.fragments, images.mask)
        count = images.mask.shape[1]
        order = F.pad(self.order, (0, max(0, count - len(self.order))))[:count]  # beyond: padding, never kept
        return order.expand(len(images.mask), count)

    def encode_texts(self, texts: TextBatch) -> Encoded:
        return self.model.encode_texts(texts)

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        return self.model.similarity(images, texts)

    def losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:
        """The model's own.  The batch holds all regions, which a teacher or a peer sees."""
        return self.model.losses(images, texts, batch)

    def indexed(self, encoded: Encoded) -> Encoded:
        return self.model.indexed(encoded)

    def prepared(self, images: Encoded) -> Encoded:
        return self.model.prepared(images)


def put(host: Host, options: Options) -> Retriever:
    """The host's model behind the filter."""
    return Filtered(host, options)
