"""The two families of retrieval models, as far as all members share it: similarity and ranking loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from harness.protocol import Encoded, Inputs, PairBatch, Retriever
from models.lessons import Lesson, Seen
from models.losses import hinge, other_image
from models.pairs import PairModel, pair_scores

TILE = 2**18  # products of fragments computed at once: a few such tensors fit the cache of one core


def inner_product(images: Encoded, texts: Encoded) -> Tensor:
    """Scores of embeddings, (N, M): `<v, t>`, or `max_k <v_k, t>` over K views, plus `<c_v, c_t>` of a shared block."""
    if images.embedding is None or texts.embedding is None:
        raise ValueError("an independent model must fill `embedding` on both sides")
    views = images.embedding.unbind(1) if images.embedding.ndim == 3 else [images.embedding]  # K of (N, d)
    scores = reduce(torch.maximum, (view @ texts.embedding.T for view in views))  # (N, M), never (N, K, M)
    if images.shared is not None and texts.shared is not None:
        scores = scores + images.shared @ texts.shared.T
    return scores


class Ranked(Retriever):
    """A retriever trained by the hinge with hardest negatives, plus whatever `own_losses` adds."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.inputs = inputs
        self.lessons = nn.ModuleDict()  # of `Lesson`s, by the names of their modules

    def ranking_loss(self, scores: Tensor, batch: PairBatch) -> Tensor:
        """(): the hinge of a (B, B) block of scores, over all negatives during warm-up, then over the hardest."""
        impostors = None if self.inputs.same_image_negatives else other_image(batch.subject)
        return hinge(scores.float(), self.inputs.margin, self.hardest(batch), impostors)

    def hardest(self, batch: PairBatch) -> bool:
        """Whether the hinge looks at the hardest negatives alone at this stage of training."""
        return batch.update >= self.inputs.warmup_updates

    def own_losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:  # noqa: ARG002
        """Terms beside the ranking loss, already weighted."""
        return {}

    def losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:
        scores = self.similarity(images, texts)
        lessons: list[Lesson] = list(self.lessons.values())  # type: ignore[arg-type]
        terms = self.own_losses(images, texts, batch)
        if all(lesson.ranking for lesson in lessons):
            terms = {"hinge": self.ranking_loss(scores, batch), **terms}
        for lesson in lessons:
            terms = {**terms, **lesson(Seen(scores, images, texts, batch))}
        return terms


@dataclass(frozen=True)
class Host:
    """What a module is put on."""

    model: Ranked  # SelfAlign included, where it is on
    inputs: Inputs
    again: Callable[[], Ranked]  # another such model, with weights of its own


class Independent(Ranked):
    """Each side becomes an embedding; scores are inner products.

    To serve as a host of SelfAlign a model also fills `fragments` (after the first projection), `contextual` (after its
    context modelling) and `mask` on both sides, all of width `inputs.dim`; it may leave them out where they are not
    `fragments_read`.
    """

    family = "independent"
    fragments_read: bool = True  # whether anybody else reads `fragments` and `contextual` of what it encodes
    views: int = 1  # K of an image embedding (B, K, d); 1 = (B, d)
    embedding_parts: int = 1  # vectors of width `inputs.dim` that an embedding, or a view, is made of

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        return inner_product(images, texts)

    def indexed(self, encoded: Encoded) -> Encoded:
        return Encoded(embedding=encoded.embedding, shared=encoded.shared)


class Interactive(Ranked):
    """Scores come from the fragments of both sides, pair by pair (`models.pairs`)."""

    family = "interactive"
    padded: bool = True  # whether a small batch is one tile, its captions of several lengths padded to the longest

    compiled: bool = False  # whether compiled passes (`models.fused`) follow the products: padding then costs little

    @abstractmethod
    def tile_scores(self, images: Encoded, texts: Encoded) -> Tensor:
        """Scores (X, Y) of X images and Y captions, which are of one length and without padding unless `padded`.

        A score depends on its pair alone, in training too, and nothing random goes into it.
        """

    def tile_pairs(self, length: int) -> int:
        """How many pairs with captions of this length are computed at once."""
        return TILE // (self.inputs.regions * length)

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        return self.in_tiles(self.tile_scores, self.prepared(images), texts)

    def in_tiles(self, score: Callable[[Encoded, Encoded], Tensor], images: Encoded, texts: Encoded) -> Tensor:
        """(N, M); `score` stands in for `tile_scores`."""
        model = PairModel(score, list(self.parameters()), self.tile_pairs, self.padded, self.compiled)
        return pair_scores(model, images, texts)
