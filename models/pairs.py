"""How scores of all pairs of a batch are trained where a pair costs far more than its fragments do.

Nothing of a pair is kept for the backward pass.  The scores come first, tile by tile; what the loss then asks of them
says which pairs have to be computed once more, this time with gradients.  The hinge on the hardest negatives looks at
three pairs per item of a batch, all others get a gradient of exactly zero and are left out: such a step costs little
more than scoring.  Where most pairs count, tiles are computed again one after another, small enough to stay in the
processor's cache.  Gradients are those of the plain way but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.protocol import Encoded

SPARSE = 0.2  # share of pairs with a gradient up to which they are computed one by one
MATCHED = 256  # pairs that are computed one by one at a time


@dataclass(frozen=True)
class PairModel:
    """How pairs are scored.  Captions come trimmed, all of one length; scores of a pair do not depend on others."""

    every: Callable[[Encoded, Encoded], Tensor]  # X images and Y captions -> (X, Y)
    matched: Callable[[Encoded, Encoded], Tensor]  # P images and their P captions -> (P,)
    weights: Sequence[Tensor]  # the parameters both read
    pairs: Callable[[int], int]  # length of the captions -> pairs of a tile


def pair_scores(model: PairModel, images: Encoded, texts: Encoded) -> Tensor:
    """Scores (N, M) of the `embedding`, `contextual` and `mask` of both sides; words come first, padding last."""
    images, texts = (_masked(Encoded(side.embedding, None, side.contextual, side.mask)) for side in (images, texts))
    if not torch.is_grad_enabled():
        return _scores(model, images, texts)
    sides = images.embedding, images.contextual, texts.embedding, texts.contextual
    return _PairScores.apply(model, images.mask, texts.mask, *sides, *model.weights)  # type: ignore[no-any-return]


def _masked(side: Encoded) -> Encoded:
    """The side with a mask.  Raises ValueError where it has no contextual fragments."""
    if side.contextual is None:
        raise ValueError("an interactive model must fill `contextual` on both sides")
    if side.mask is None:
        return Encoded(
            side.embedding, None, side.contextual, side.contextual.new_ones(side.contextual.shape[:2]).bool()
        )
    return side


@dataclass(frozen=True)
class _Tile:
    """All pairs of some images and some captions, or matching ones; captions of one length."""

    rows: Tensor  # (X,) images
    columns: Tensor  # (Y,) captions
    length: int

    def of(self, images: Encoded, texts: Encoded) -> tuple[Encoded, Encoded]:
        return images.select(self.rows), texts.select(self.columns).trim(self.length)


def paired_products(context: Tensor, queries: Tensor) -> Tensor:
    """`models.attention.products` of matching items.  context: (P, C, d), queries: (P, Q, d) -> (P, C, Q, 1)."""
    return (context @ queries.mT)[..., None]


def lengths_of(texts: Encoded) -> Tensor:
    """(M,) words of each caption."""
    assert texts.mask is not None
    return texts.mask.sum(1)


def tiles(images: int, lengths: Tensor, pairs: Callable[[int], int]) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Images, captions and their length: every pair is in one tile, and a tile has about `pairs(length)` of them.

    lengths: (M,) words of each caption.  Tiles are about square, which reads both sides least often.
    """
    rows = torch.arange(images, device=lengths.device)
    for length in lengths.unique().tolist():
        same = (lengths == length).nonzero().squeeze(1)
        wanted = max(1, pairs(length))
        high = max(1, min(len(same), round(wanted**0.5)))
        for columns in same.split(high):
            for some in rows.split(max(1, wanted // high)):
                yield some, columns, length


def _scores(model: PairModel, images: Encoded, texts: Encoded) -> Tensor:
    scores: Tensor | None = None
    for rows, columns, length in tiles(len(images), lengths_of(texts), model.pairs):
        part = model.every(*_Tile(rows, columns, length).of(images, texts))
        if scores is None:
            scores = part.new_empty(len(images), len(texts))
        scores[rows[:, None], columns] = part
    assert scores is not None
    return scores


def _pieces(model: PairModel, grad: Tensor, lengths: Tensor) -> Iterator[tuple[_Tile, bool, Tensor]]:
    """What the backward pass has to compute: a tile, whether it is matching pairs, and their gradient."""
    chosen = grad.nonzero()  # (P, 2)
    if len(chosen) > SPARSE * grad.numel():
        for rows, columns, length in tiles(len(grad), lengths, model.pairs):
            part = grad[rows[:, None], columns]
            if part.any():
                yield _Tile(rows, columns, length), False, part
        return
    for length in lengths[chosen[:, 1]].unique().tolist():
        for some in chosen[lengths[chosen[:, 1]] == length].split(MATCHED):
            rows, columns = some.unbind(1)
            yield _Tile(rows, columns, length), True, grad[rows, columns]


class _PairScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, model: PairModel, image_mask: Tensor, text_mask: Tensor, *inputs: Tensor | None) -> Tensor:
        ctx.model = model
        ctx.save_for_backward(image_mask, text_mask, *inputs)
        kind = image_mask.device.type
        ctx.autocast = {
            "device_type": kind,
            "enabled": torch.is_autocast_enabled(kind),
            "dtype": torch.get_autocast_dtype(kind),
            "cache_enabled": False,  # a cast kept from one tile has lost its graph in the next
        }
        return _scores(model, *_sides(image_mask, text_mask, inputs))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        image_mask, text_mask, *inputs = ctx.saved_tensors
        images, texts = _sides(image_mask, text_mask, inputs)
        weights = [weight for weight in inputs[4:] if weight.requires_grad]
        totals = [None if tensor is None else torch.zeros_like(tensor) for tensor in inputs[:4]]
        of_weights = [torch.zeros_like(weight) for weight in weights]
        for tile, matching, grad in _pieces(ctx.model, grads[0], text_mask.sum(1)):
            chosen = [_leaves(side) for side in tile.of(images, texts)]
            leaves = [t for side in chosen for t in (side.embedding, side.contextual)]
            present = [place for place, leaf in enumerate(leaves) if leaf is not None]
            with torch.enable_grad(), torch.autocast(**ctx.autocast):
                scores = (ctx.model.matched if matching else ctx.model.every)(*chosen)
            wanted = [*(leaves[place] for place in present), *weights]
            found = torch.autograd.grad(scores, wanted, grad.to(scores.dtype), allow_unused=True)
            for place, part in zip(present, found[: len(present)], strict=True):
                if part is not None:
                    whole = totals[place] if place != 3 else totals[place][:, : tile.length]
                    whole.index_add_(0, tile.rows if place < 2 else tile.columns, part)
            for whole, part in zip(of_weights, found[len(present) :], strict=True):
                if part is not None:
                    whole += part
        left = iter(of_weights)
        return None, None, None, *totals, *(next(left) if weight.requires_grad else None for weight in inputs[4:])


def _sides(image_mask: Tensor, text_mask: Tensor, inputs: Sequence[Tensor | None]) -> tuple[Encoded, Encoded]:
    return (
        Encoded(embedding=inputs[0], contextual=inputs[1], mask=image_mask),
        Encoded(embedding=inputs[2], contextual=inputs[3], mask=text_mask),
    )


def _leaves(side: Encoded) -> Encoded:
    """The side, as the start of a graph of its own."""
    parts = (None if t is None else t.detach().requires_grad_() for t in (side.embedding, side.contextual))
    embedding, contextual = parts
    return Encoded(embedding=embedding, contextual=contextual, mask=side.mask)
