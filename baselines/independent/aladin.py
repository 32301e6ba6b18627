"""ALADIN's heads, no VinVL pre-training: an alignment head on shared encoders teaches a matching head (CBMI 2022).

Regions and words are encoded apart.  The alignment head has no weights: all cosines, the best region of each word,
summed over words; it learns by the hinge with hardest negatives and is not used in retrieval.  The matching head is a
small transformer with one set of weights for both sides; the inner product of its outputs is the score, and learns the
distribution of the alignment scores over a batch (listwise), per row and column.

Departs from the paper: region features and a bidirectional GRU as everywhere in this harness, where most of the
published recall is the pre-training of VinVL and Oscar; a learned first token in place of BERT's; nothing is dropped
from the alignment but padding, which is never a maximum.  As published the alignment loss is summed over the batch and
the distillation averaged, without a temperature (`entropy=0`).

As SelfAlign's host: nothing ranks by the score that the context blocks are part of (`hinge=0`) and the distillation
reads the host's own embeddings, so the blocks learn by SelfAlign's own losses alone, and the gate of the fusion by
none.  A caption's `fragments` are states of the GRU, not words before any context: nothing is projected before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, Retriever, TextBatch
from models.distillation import calibrated, listwise, max_regions_sum_words
from models.encoders import BiGRU, RegionProjection, WordVectors, l2, unit
from models.lessons import lifted, required
from models.options import above_zero, at_least, between
from models.retrievers import Independent

RECIPE = 1
ASIDE = True
PAPER = (
    "Messina et al., ALADIN: Distilling Fine-grained Alignment Scores for Efficient Image-Text Matching and Retrieval, "
    "CBMI 2022, arXiv 2207.14757"
)
VARIANTS: dict[str, dict] = {"": {}}


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a number out of range."""

    layers: int = 2  # of the matching head
    heads: int = 4
    dropout: float = 0.1
    scale: float = 6.0  # multiplies the matching scores before their softmax
    entropy: float = 0.0  # of the targets, as a share of the uniform one's; 0 = alignment scores as they are
    hinge: float = 0.0  # weight of a hinge on the matching head itself; 0.1 is a published variant

    def __post_init__(self) -> None:
        at_least("layers", self.layers, 1)
        at_least("heads", self.heads, 1)
        between("dropout", self.dropout, 0, 1)
        above_zero("scale", self.scale)
        between("entropy", self.entropy, 0, 0.99)
        at_least("hinge", self.hinge, 0)


class MatchingHead(nn.Module):
    """A set of fragments to one vector: a learned token that attends to them."""

    def __init__(self, dim: int, options: Options) -> None:
        super().__init__()
        if dim % options.heads:
            raise ValueError(f"the embedding width must be a multiple of heads={options.heads}, got {dim}")
        layer = nn.TransformerEncoderLayer(dim, options.heads, dim, options.dropout, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, options.layers, enable_nested_tensor=False)
        self.first = nn.Parameter(unit(torch.randn(dim)))

    def forward(self, fragments: Tensor, mask: Tensor) -> Tensor:
        """(B, N, d), (B, N) bool -> (B, d) unit rows."""
        tokens = torch.cat([self.first.to(fragments).expand(len(fragments), 1, -1), fragments], 1)
        real = torch.cat([mask.new_ones(len(mask), 1), mask], 1)
        return unit(self.layers(tokens, src_key_padding_mask=~real)[:, 0])


class ALADIN(Independent):
    """`contextual` are the unit fragments that both heads read."""

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__(inputs)
        self.options = options
        self.regions = RegionProjection(inputs.image_dim, inputs.dim)
        self.words = WordVectors(inputs)
        self.gru = BiGRU(self.words.width, inputs.dim)
        self.head = MatchingHead(inputs.dim, options)

    def encode_images(self, images: ImageBatch) -> Encoded:
        return self._encoded(self.regions(images.fragments), images.mask)

    def encode_texts(self, texts: TextBatch) -> Encoded:
        return self._encoded(self.gru(self.words(texts), texts.mask), texts.mask)

    def _encoded(self, fragments: Tensor, mask: Tensor) -> Encoded:
        contextual = l2(fragments)
        return Encoded(embedding=self.head(contextual, mask), fragments=fragments, contextual=contextual, mask=mask)

    def ranking_loss(self, scores: Tensor, batch: PairBatch) -> Tensor:
        """Of the matching head."""
        return self.options.hinge * super().ranking_loss(scores, batch)

    def own_losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:
        """The alignment's hinge, and the distillation, whose gradient reaches the encoders too."""
        options = self.options
        regions, region_mask = required(images, "images", "contextual", self.inputs.dim, "ALADIN")
        words, word_mask = required(texts, "texts", "contextual", self.inputs.dim, "ALADIN")
        student = lifted(self.similarity(images, texts))
        with torch.autocast(device_type=regions.device.type, enabled=False):
            scores = max_regions_sum_words(lifted(regions), region_mask, lifted(words), word_mask)
            targets = scores.detach()
            if options.entropy and len(targets) > 1:
                targets = calibrated(targets, options.entropy)
            return {
                "alignment": super().ranking_loss(scores, batch),
                "distilled": listwise(options.scale * student, targets),
            }


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs."""
    return ALADIN(inputs, options)
