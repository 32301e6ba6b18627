"""The host alone, given the width that SelfAlign's context level gives an embedding: is its gain only a longer vector?

Each side's embedding passes one linear map to the final width of SelfAlign and is brought back to unit length.  The
host's layers keep their width and its own losses see its own embedding.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from harness.protocol import Encoded, ImageBatch, PairBatch, Retriever, TextBatch
from models.encoders import unit
from models.retrievers import Independent

PARTS = 3  # of an embedding with the context level: the host's own and two blocks, each of the host's width
BLOCKS = PARTS - 1


class FinalWidth(Independent):
    """A host whose embeddings of both sides are mapped to the width that they have with SelfAlign's blocks.

    Raises ValueError for a model of another family, and for a host whose embeddings are not as wide as it says.
    """

    def __init__(self, host: Independent) -> None:
        if not isinstance(host, Independent):
            raise ValueError(f"only an independent host has an embedding to widen, {type(host).__name__} is none")
        super().__init__(host.inputs)
        self.host = host
        self.views = host.views
        self.width = host.embedding_parts * host.inputs.dim
        final = self.width + BLOCKS * host.inputs.dim
        self.images, self.texts = (nn.Linear(self.width, final) for _ in range(2))

    def encode_images(self, images: ImageBatch) -> Encoded:
        return self._widened(self.host.encode_images(images), self.images)

    def encode_texts(self, texts: TextBatch) -> Encoded:
        return self._widened(self.host.encode_texts(texts), self.texts)

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        return self.host.similarity(images, texts)

    def indexed(self, encoded: Encoded) -> Encoded:
        return self.host.indexed(encoded)

    def take(self, option: str, other: Retriever) -> None:
        self.host.take(option, other)

    def ranking_loss(self, scores: Tensor, batch: PairBatch) -> Tensor:
        return self.host.ranking_loss(scores, batch)

    def own_losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:
        return self.host.own_losses(self._bare(images), self._bare(texts), batch)

    def _widened(self, encoded: Encoded, linear: nn.Linear) -> Encoded:
        """(B, w) -> (B, w + 2d), or (B, K, w) -> (B, K, w + 2d) of K views; in training the host's own is kept too."""
        assert encoded.embedding is not None
        if (width := encoded.embedding.shape[-1]) != self.width:
            says = f"its `embedding_parts` = {self.host.embedding_parts} says {self.width}"
            raise ValueError(f"{type(self.host).__name__} makes embeddings of width {width}, {says}")
        extras = {**encoded.extras, "host_embedding": encoded.embedding} if self.training else encoded.extras
        return replace(encoded, embedding=unit(linear(encoded.embedding)), extras=extras)

    def _bare(self, encoded: Encoded) -> Encoded:
        """What the host encoded."""
        own = encoded.extras.get("host_embedding")
        return encoded if own is None else replace(encoded, embedding=own)
