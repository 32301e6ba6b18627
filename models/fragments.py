"""What most interactive methods start from (SCAN, Lee et al. 2018): unit regions and unit words of one width."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from harness.protocol import Encoded, ImageBatch, Inputs, TextBatch
from models.attention import gram, without_padding
from models.encoders import BiGRU, RegionProjection, WordVectors, l2
from models.retrievers import Interactive


class FragmentModel(Interactive):
    """One linear map for regions, a bidirectional GRU for words; both sides keep unit fragments in `contextual`."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.regions = RegionProjection(inputs.image_dim, inputs.dim)
        self.words = WordVectors(inputs)
        self.gru = BiGRU(self.words.width, inputs.dim)

    def encode_images(self, images: ImageBatch) -> Encoded:
        return Encoded(contextual=l2(self.regions(images.fragments)), mask=images.mask)

    def encode_texts(self, texts: TextBatch) -> Encoded:
        return self.read(self.words(texts), texts.mask)

    def read(self, words: Tensor, mask: Tensor) -> Encoded:
        """Captions from their word vectors.  words: (B, L, E), mask: (B, L)."""
        return Encoded(contextual=l2(self.gru(words, mask)), mask=mask)

    @property
    def attends_to_regions(self) -> bool:
        """Whether scores read the lengths of mixtures of regions."""
        return True

    def prepared(self, images: Encoded) -> Encoded:
        """With `extras["gram"]`, (B, R, R), where the lengths of mixtures of regions are read."""
        if not self.attends_to_regions or "gram" in images.extras:
            return images
        return replace(images, extras={**images.extras, "gram": gram(without_padding(images)[0])})
