"""The two families of retrieval models, as far as all members share it: similarity and ranking loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import vmap

from harness.protocol import Encoded, Inputs, PairBatch, Retriever
from models.losses import decisive_pairs, hinge, other_image

ENCODED = {f.name for f in fields(Encoded)}


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

    def ranking_loss(self, scores: Tensor, batch: PairBatch) -> Tensor:
        """(): the hinge of a (B, B) block of scores, over all negatives during warm-up, then over the hardest."""
        impostors = None if self.inputs.same_image_negatives else other_image(batch.image_index)
        return hinge(scores.float(), self.inputs.margin, self.hardest(batch), impostors)

    def hardest(self, batch: PairBatch) -> bool:
        """Whether the hinge looks at the hardest negatives alone at this stage of training."""
        return batch.epoch >= self.inputs.warmup_epochs

    def own_losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:  # noqa: ARG002
        """Terms beside the ranking loss, already weighted."""
        return {}

    def losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:
        ranking = self.ranking_loss(self.similarity(images, texts), batch)
        return {"hinge": ranking, **self.own_losses(images, texts, batch)}


class Independent(Ranked):
    """Each side becomes an embedding; scores are inner products.

    To serve as a host of SelfAlign a model also fills `fragments` (after the first projection), `contextual` (after its
    context modelling) and `mask` on both sides, all of width `inputs.dim`.
    """

    family = "independent"
    views: int = 1  # K of an image embedding (B, K, d); 1 = (B, d)

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        return inner_product(images, texts)

    def indexed(self, encoded: Encoded) -> Encoded:
        return Encoded(embedding=encoded.embedding, shared=encoded.shared)


class Interactive(Ranked):
    """Scores come from the fragments of both sides, pair by pair."""

    family = "interactive"
    pairs_stand_alone: ClassVar[bool] = False  # a pair's score depends on nothing but the pair, in training too

    def losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:
        ranking = self.ranking_loss(self.scores_to_learn_from(images, texts, batch)[0], batch)
        return {"hinge": ranking, **self.own_losses(images, texts, batch)}

    def scores_to_learn_from(self, images: Encoded, texts: Encoded, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """What the ranking loss of a batch needs, and all its scores without gradient, (B, B) each.

        A loss on hardest negatives has no gradient but at the decisive pairs, B to 3 B of B^2.  Where pairs stand
        alone, all are scored without keeping anything for a backward pass, and those few once more with gradient; the
        others count as -inf.  Loss and gradient are those of all scores, up to rounding; of equally hard negatives one
        gets the whole gradient, where `amax` shares it out.
        """
        if not (self.pairs_stand_alone and self.hardest(batch) and torch.is_grad_enabled()):
            scores = self.similarity(images, texts)
            return scores, scores.detach()
        with torch.no_grad():
            scores = self.similarity(images, texts)
        torch.clear_autocast_cache()  # which would hand out the weights it cast without gradient
        impostors = None if self.inputs.same_image_negatives else other_image(batch.image_index)
        rows, columns = decisive_pairs(scores, impostors)
        found = pair_scores(self.similarity, images.select(rows), texts.select(columns))
        nothing = torch.full_like(scores, float("-inf"), dtype=found.dtype)
        return nothing.index_put((rows, columns), found), scores


def pair_scores(similarity: Callable[[Encoded, Encoded], Tensor], images: Encoded, texts: Encoded) -> Tensor:
    """Scores of P pairs, (P,), image p with caption p, all pairs of the same sizes at once.

    `similarity` is that of a retriever in which pairs stand alone; it sees one image, one caption and no mask.
    """
    sizes = torch.stack([_counts(images), _counts(texts)], 1)  # (P, 2)
    scores, places = [], []
    for regions, words in sizes.unique(dim=0).tolist():
        rows = (sizes == sizes.new_tensor([regions, words])).all(1).nonzero().squeeze(1)
        sides = (_unmasked(side.select(rows), size) for side, size in ((images, regions), (texts, words)))
        scores.append(vmap(lambda image, text: similarity(_one(image), _one(text)).squeeze())(*sides))
        places.append(rows)
    return torch.cat(scores)[torch.cat(places).argsort()]


def _counts(side: Encoded) -> Tensor:
    """(P,), real fragments of every item."""
    if side.mask is None:
        raise ValueError("an interactive model must fill `mask` on both sides")
    return side.mask.sum(1)


def _unmasked(side: Encoded, size: int) -> dict[str, Tensor]:
    """The tensors of items that all have `size` fragments, real ones first."""
    tensors = side.trim(size).tensors()
    del tensors["mask"]
    return tensors


def _one(tensors: Mapping[str, Tensor]) -> Encoded:
    """A side of one item."""
    own = {name: tensor[None] for name, tensor in tensors.items() if name in ENCODED}
    return Encoded(**own, extras={name: tensor[None] for name, tensor in tensors.items() if name not in ENCODED})
