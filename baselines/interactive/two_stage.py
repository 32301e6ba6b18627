"""Two-stage matching on a frozen encoder (CrossTVR's idea): a small cross-attention scorer for the hard cases.

An independent row of this harness is trained first; its stored weights are frozen here (`encoder`).  What is trained is
a scorer that reads its contextual fragments: each word attends to the regions, what it gathered and the word itself
pass a small network, and the mean over words is the score.  Its negatives are those that the frozen encoder itself
finds hardest in the batch, so that it learns what the first stage confuses.  The score of a pair is that of the scorer
plus the encoder's.

As a row it scores all pairs; as it is meant, behind its own encoder on a shortlist, it is in the table of `--rerank`.
Departs from CrossTVR, whose code and tables could not be read: an image is one frame, so there is no temporal branch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, Retriever, TextBatch, Untrained
from models.encoders import unit
from models.lessons import required
from models.losses import negatives, other_image
from models.options import above_zero, at_least
from models.retrievers import Interactive

RECIPE = 1
ASIDE = True
PAPER = "Dai et al., CrossTVR: multi-granularity text-video retrieval, arXiv 2307.09972"
VARIANTS: dict[str, dict] = {"": {}}
ROWS = {"encoder": ()}


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a number out of range."""

    encoder: str = "vsepp"  # label of an independent row, whose stored weights are frozen
    width: int = 64  # of queries, keys and the network behind them
    negatives: int = 15  # the hardest by the encoder, of each image and each caption
    temperature: float = 0.1  # of the softmax that tells a match from its negatives

    def __post_init__(self) -> None:
        at_least("width", self.width, 1)
        at_least("negatives", self.negatives, 1)
        above_zero("temperature", self.temperature)


class TwoStage(Interactive):
    """A frozen encoder and what is trained on its fragments."""

    padded = True

    def __init__(self, inputs: Inputs, options: Options, encoder: Retriever) -> None:
        super().__init__(inputs)
        if encoder.family != "independent" or isinstance(encoder, Untrained):
            raise ValueError(f"encoder={options.encoder!r} must be an independent row, whose fragments can be kept")
        self.options = options
        self.encoder = encoder.requires_grad_(False)
        self.queries, self.words = (nn.Linear(inputs.dim, options.width) for _ in range(2))
        self.keys, self.values = (nn.Linear(inputs.dim, options.width, bias=False) for _ in range(2))
        self.score = nn.Linear(options.width, 1, bias=False)  # a bias would be the same for all pairs

    def take(self, option: str, other: Retriever) -> None:  # noqa: ARG002
        """The stored encoder.  Raises ValueError where it is another model than the one built here."""
        try:
            self.encoder.load_state_dict(other.state_dict())
        except RuntimeError as error:
            why = str(error).splitlines()[-1].strip()
            raise ValueError(f"the stored {self.options.encoder} is not the encoder of two_stage: {why}") from None

    def train(self, mode: bool = True) -> TwoStage:
        """The encoder stays in evaluation mode: it is frozen."""
        super().train(mode)
        self.encoder.eval()
        return self

    @torch.no_grad()
    def encode_images(self, images: ImageBatch) -> Encoded:
        return self._shown(self.encoder.encode_images(images), "images")

    @torch.no_grad()
    def encode_texts(self, texts: TextBatch) -> Encoded:
        return self._shown(self.encoder.encode_texts(texts), "texts")

    def _shown(self, encoded: Encoded, side: str) -> Encoded:
        """What the scorer and the first stage read."""
        contextual, mask = required(encoded, side, "contextual", self.inputs.dim, "two_stage")
        return Encoded(embedding=encoded.embedding, contextual=unit(contextual), mask=mask, shared=encoded.shared)

    def tile_scores(self, images: Encoded, texts: Encoded) -> Tensor:
        """(X, Y): the mean over words of the scorer, and the encoder's own score."""
        assert images.contextual is not None
        assert texts.contextual is not None
        assert images.mask is not None
        assert texts.mask is not None
        queries, keys, values = (
            self.queries(texts.contextual),
            self.keys(images.contextual),
            self.values(images.contextual),
        )
        products = torch.einsum("ylw,xrw->xylr", queries, keys) / self.options.width**0.5
        shares = products.masked_fill(~images.mask[:, None, None], float("-inf")).softmax(3)
        gathered = torch.einsum("xylr,xrw->xylw", shares, values)
        of_word = self.score(torch.relu(gathered + self.words(texts.contextual)))[..., 0]  # (X, Y, L)
        share = texts.mask / texts.mask.sum(1, keepdim=True)
        return (of_word * share).sum(2) + self.encoder.similarity(images, texts)

    def losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:
        """Cross-entropy of each match among its hardest negatives by the first stage, in both directions."""
        scores = self.similarity(images, texts).float() / self.options.temperature
        first = self.encoder.similarity(images, texts)
        allowed = negatives(first, None if self.inputs.same_image_negatives else other_image(batch.subject))
        terms = [
            among_hardest(own, stage, rows, self.options.negatives)
            for own, stage, rows in ((scores, first, allowed), (scores.T, first.T, allowed.T))
        ]
        return {"matching": torch.stack(terms).mean()}


def among_hardest(scores: Tensor, first: Tensor, allowed: Tensor, most: int) -> Tensor:
    """Cross-entropy of the diagonal among it and the `most` negatives of each row that the first stage scores highest.

    scores: (B, B) logits; first: (B, B) of the first stage; allowed: (B, B) bool, True where a pair may be a negative.
    Returns (); a row without negatives costs 0.
    """
    hardest = first.masked_fill(~allowed, float("-inf")).topk(min(most, len(first)), dim=1).indices
    chosen = torch.zeros_like(allowed).scatter(1, hardest, True) & allowed
    chosen = chosen | torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    return -scores.masked_fill(~chosen, float("-inf")).log_softmax(1).diagonal().mean()


def build(inputs: Inputs, options: Options, encoder: Retriever) -> Retriever:
    """An untrained model for these inputs, on an encoder that its row of `ROWS` names."""
    return TwoStage(inputs, options, encoder)
