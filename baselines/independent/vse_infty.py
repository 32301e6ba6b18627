"""VSE-infinity (Chen et al., CVPR 2021): sorted features pooled by learned weights, sets thinned out in training.

The published recipe warms up with one epoch over all negatives (`settings.warmup_epochs=1`) and trains by AdamW for 25
epochs; both are shared settings of a comparison here.

Departs from the paper: a linear map of the word vectors before the bidirectional GRU, which SelfAlign needs of a host
(`word_projection=False` is the published GRU branch, `word_gru=False` the BERT branch, where mapped words are pooled
as they are); padded regions stay out of the batch normalisation, where the official code counts them as zeros.
Neither side models context in front of the pooling but for the GRU: `contextual` is `fragments` for regions.

Size augmentation (`models.augmentation`): the vocabulary has no mask word, so the unknown word stands for it
(`mask_word`, 3; BERT's own is 103).  `<start>` and `<end>` take part as in the published GRU branch; the first and last
token of a pretrained text model are spared.  The official BERT branch masks or removes all pieces of a word at once;
token numbers do not show which pieces belong together.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from harness.protocol import Encoded, ImageBatch, Inputs, Retriever, TextBatch
from models.augmentation import check_mask_word, read_thinned, thinned
from models.encoders import BiGRU, RegionProjection, WordVectors, unit
from models.gpo import GPO
from models.norm import MaskedBatchNorm
from models.options import above_zero, at_least, between
from models.retrievers import Independent
from models.rows import mapped

RECIPE = 1
PAPER = "Chen et al., Learning the Best Pooling Strategy for Visual Semantic Embedding, CVPR 2021, arXiv 2011.04305"
VARIANTS: dict[str, dict] = {"": {}}


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a number out of range, or words that nothing maps to the embedding width."""

    size_augmentation: float = 0.2  # chance of a region to be dropped and of a word to be touched, training only
    mask_word: int = 3  # token number that stands in for a masked word
    position_dim: int = 32  # width of the codes of the places
    position_hidden: int = 32  # width of the GRU that reads them
    temperature: float = 0.1  # of the softmax over the places
    region_mlp: bool = True  # a perceptron beside the linear map of regions; the grid models go without
    word_gru: bool = True  # False is the BERT branch
    word_projection: bool = True  # Linear(E -> d) before the GRU

    def __post_init__(self) -> None:
        between("size_augmentation", self.size_augmentation, 0, 1)
        at_least("mask_word", self.mask_word, 0)
        at_least("position_dim", self.position_dim, 1)
        at_least("position_hidden", self.position_hidden, 1)
        above_zero("temperature", self.temperature)
        if not (self.word_gru or self.word_projection):
            raise ValueError("word_gru=False needs word_projection=True: nothing else gives words the embedding width")


class RegionPerceptron(nn.Module):
    """Two layers with half the embedding width and a batch normalisation between them."""

    def __init__(self, image_dim: int, dim: int) -> None:
        super().__init__()
        self.inner = nn.Linear(image_dim, dim // 2)
        self.norm = MaskedBatchNorm(dim // 2)
        self.outer = nn.Linear(dim // 2, dim)

    def forward(self, fragments: Tensor, mask: Tensor) -> Tensor:
        """fragments: (B, R, D), mask: (B, R) bool -> (B, R, d)."""
        return self.outer(self.norm(self.inner(fragments), mask).relu())


class VSEInfinity(Independent):
    """Mapped regions, and words read by a GRU, each pooled by a GPO of its own."""

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__(inputs)
        self.options = options
        self.regions = RegionProjection(inputs.image_dim, inputs.dim)
        self.region_mlp = RegionPerceptron(inputs.image_dim, inputs.dim) if options.region_mlp else None
        self.words = WordVectors(inputs)
        width = inputs.dim if options.word_projection else self.words.width
        self.projection = nn.Linear(self.words.width, width) if options.word_projection else None
        self.gru = BiGRU(width, inputs.dim) if options.word_gru else None
        self.image_pooling, self.text_pooling = (
            GPO(options.position_dim, options.position_hidden, options.temperature) for _ in range(2)
        )

    def encode_images(self, images: ImageBatch) -> Encoded:
        mask = thinned(images.mask, self.options.size_augmentation) if self._augments else images.mask
        regions = self.regions(images.fragments)  # (B, R, d)
        if self.region_mlp is not None:
            regions = regions + self.region_mlp(images.fragments, mask)
        pooled = self.image_pooling(regions, mask)
        return Encoded(embedding=unit(pooled), fragments=regions, contextual=regions, mask=mask)

    def encode_texts(self, texts: TextBatch) -> Encoded:
        words, texts = self._read(texts)  # (B, L, E)
        projected = None if self.projection is None else mapped(self.projection, words, texts.mask)  # (B, L, d)
        states = words if projected is None else projected
        if self.gru is not None:
            states = self.gru(states, texts.mask)
        pooled = self.text_pooling(states, texts.mask)
        return Encoded(embedding=unit(pooled), fragments=projected, contextual=states, mask=texts.mask)

    def _read(self, texts: TextBatch) -> tuple[Tensor, TextBatch]:
        if not self._augments:
            return self.words(texts), texts
        return read_thinned(self.words, texts, self.options.size_augmentation, self.options.mask_word, self.inputs)

    @property
    def _augments(self) -> bool:
        return self.training and self.options.size_augmentation > 0


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs.  Raises ValueError where the vocabulary has no such mask word."""
    check_mask_word(options.mask_word, inputs)
    return VSEInfinity(inputs, options)
