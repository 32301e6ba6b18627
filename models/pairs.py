"""How scores of all pairs of a batch are computed and learnt from, where a pair costs far more than its fragments do.

A batch of a few tiles is one padded block under plain autograd: there what a tile costs whatever its size, for each
length of caption and twice over, outweighs the work on padding.

Of a larger batch nothing of a pair is kept for the backward pass.  The scores come first, tile by tile; what the loss
then asks of them says which pairs have to be computed once more, this time with gradients.  The hinge on the hardest
negatives looks at three pairs per item of a batch, all others get a gradient of exactly zero and are left out: such a
step costs little more than scoring.  Where most pairs count, tiles are computed again one after another, small enough
to stay in the processor's cache.  Gradients are those of the plain way but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.func import vmap

from harness.protocol import Encoded, from_tensors
from models import fused

SPARSE = 0.2  # share of pairs with a gradient up to which they are computed one by one
PIECES = 1.0  # pieces that computing them one by one may take for each tile of all pairs
BLOCK = 2.0  # tiles as large as a batch may be to be learnt from at once: at three, few hard negatives cost less apart
FUSED_BLOCK = 4.0  # likewise, of scores by compiled passes, which keep nothing but products
SIDE = 2**22  # bytes of images that a tile reads: those of a single caption's would leave the cache otherwise
TOGETHER = 256  # pairs that are computed one by one at a time
ON_GPU = 64  # times a processor's tile, which its cache holds: a GPU would wait for small ones to be handed to it


@dataclass(frozen=True)
class PairModel:
    """How pairs are scored.  A score depends on its pair and `weights` alone and nothing random goes into it.

    What else `score` reads must not change until gradients are computed, for they come from scoring again.
    """

    score: Callable[[Encoded, Encoded], Tensor]  # X images and Y captions of one length, trimmed -> (X, Y)
    weights: Sequence[Tensor]  # all parameters that `score` reads; others do no harm
    pairs: Callable[[int], int]  # length of the captions -> pairs of a tile
    padded: bool = False  # whether `score` takes captions of several lengths too, padded to the longest
    compiled: bool = False  # whether compiled passes follow the products of fragments: padding then costs little


def pair_scores(model: PairModel, images: Encoded, texts: Encoded) -> Tensor:
    """Scores (N, M) of all images and captions; words come first, padding last.

    With gradients a small batch is one padded block, scored once; a larger one goes tile by tile and is scored again.

    Raises ValueError where a side has no contextual fragments.
    """
    images, texts = _masked(images), _masked(texts)
    if not torch.is_grad_enabled():
        return _scores(model, images, texts)
    if _is_one_block(model, images, texts):
        return _block(model, images, texts)
    sides = images.tensors(), texts.tensors()
    weights = [weight for weight in model.weights if weight.requires_grad]
    names = tuple(tuple(side) for side in sides)
    return _PairScores.apply(model, names, *sides[0].values(), *sides[1].values(), *weights)  # type: ignore[no-any-return]


def _is_one_block(model: PairModel, images: Encoded, texts: Encoded) -> bool:
    """Whether all pairs are learnt from at once, padded and with all that autograd keeps of them."""
    longest = int(lengths_of(texts).max())
    most = FUSED_BLOCK if _are_mixed(model, images) else BLOCK
    return model.padded and len(images) * len(texts) <= most * model.pairs(longest)


def _block(model: PairModel, images: Encoded, texts: Encoded) -> Tensor:
    """Scores of all pairs at once; captions in order of their lengths, so that passes skip what is padding."""
    lengths = lengths_of(texts)
    texts = texts.trim(int(lengths.max()))
    if not _are_mixed(model, images) or len(texts) <= fused.WIDTH:
        return model.score(images, texts)
    order = lengths.argsort(stable=True)
    return model.score(images, texts.select(order))[:, order.argsort()]


def _masked(side: Encoded) -> Encoded:
    """The side with a mask.  Raises ValueError where it has no contextual fragments."""
    if side.contextual is None:
        raise ValueError("an interactive model must fill `contextual` on both sides")
    if side.mask is not None:
        return side
    return from_tensors(side.tensors() | {"mask": side.contextual.new_ones(side.contextual.shape[:2]).bool()})


def lengths_of(texts: Encoded) -> Tensor:
    """(M,) words of each caption."""
    assert texts.mask is not None
    return texts.mask.sum(1)


def tiles(
    images: int, lengths: Tensor, pairs: Callable[[int], int], mixed: bool = False, most: int | None = None
) -> Iterator[tuple[slice, Tensor, int]]:
    """Images, captions and their length: every pair is in one tile, and a tile has about `pairs(length)` of them.

    lengths: (M,) words of each caption.  most: images of a tile, None = as many as there are.  Tiles are about square,
    which reads both sides least often.  Where they are `mixed`, for compiled passes, captions of neighbouring lengths
    share a tile, the longest tells, and sides are multiples of what is computed at once.
    """
    larger = ON_GPU if lengths.is_cuda else 1
    order = lengths.argsort(stable=True)
    for group in [order] if mixed else order.split(lengths.unique(return_counts=True)[1].tolist()):
        wanted = max(1, larger * pairs(int(lengths[group].max())))
        high = max(1, min(len(group), round(wanted**0.5)))
        high = min(len(group), _rounded(high)) if mixed else high
        step = max(1, wanted // high)
        step = min(_rounded(step) if mixed else step, most or images)
        for columns in group.split(high):
            length = int(lengths[columns].max())
            for start in range(0, images, step):
                yield slice(start, min(start + step, images)), columns, length


def _rounded(count: int) -> int:
    """Up to a multiple of `fused.WIDTH`."""
    return -(-count // fused.WIDTH) * fused.WIDTH


def _cached(images: Encoded) -> int | None:
    """How many of these images fit into a processor's cache; None on a GPU."""
    assert images.contextual is not None
    if images.contextual.is_cuda:
        return None
    one = images.contextual[0]
    return max(2 * fused.WIDTH, SIDE // (one.numel() * one.element_size()))


def _are_mixed(model: PairModel, images: Encoded) -> bool:
    """Whether tiles hold captions of several lengths."""
    assert images.contextual is not None
    return model.padded and model.compiled and fused.serves(images.contextual)


@dataclass(frozen=True)
class _Piece:
    """What is computed at once: all pairs of some images and some captions, or `paired` ones.

    Captions are of one length, and the images of paired ones all have the same mask, unless the score takes padding.
    """

    rows: slice | Tensor  # images; a slice copies none of their tensors, (X,) numbers where paired
    columns: Tensor  # (Y,) captions
    length: int
    paired: bool

    def of(self, images: Encoded, texts: Encoded) -> tuple[Encoded, Encoded]:
        return images.select(self.rows), texts.select(self.columns).trim(self.length)


def _split(model: PairModel, images: Encoded, texts: Encoded) -> Iterator[tuple[slice, Tensor, int]]:
    """All pairs in tiles, the same forward and back."""
    return tiles(len(images), lengths_of(texts), model.pairs, _are_mixed(model, images), _cached(images))


def _scores(model: PairModel, images: Encoded, texts: Encoded) -> Tensor:
    scores: Tensor | None = None
    for rows, columns, length in _split(model, images, texts):
        part = model.score(*_Piece(rows, columns, length, False).of(images, texts))
        if scores is None:
            scores = part.new_empty(len(images), len(texts))
        scores[rows, columns] = part
    assert scores is not None
    return scores


def _one_by_one(model: PairModel, images: Encoded, texts: Encoded) -> Tensor:
    """Scores (P,) of image p with caption p: P tiles of one pair, side by side.

    Where masks differ each pair has its own, and the score has to take padding; else all have that of the first.
    """
    sides = images.tensors(), texts.tensors()
    shared = [{} if _differ(side["mask"]) else {"mask": side.pop("mask")[:1]} for side in sides]

    def one(*sides: Mapping[str, Tensor]) -> Tensor:
        tensors = [{name: tensor[None] for name, tensor in side.items()} for side in sides]
        return model.score(*(from_tensors(own | same) for own, same in zip(tensors, shared, strict=True))).view(())

    return vmap(one)(*sides)


def _differ(masks: Tensor) -> bool:
    """Whether not all rows are equal."""
    return bool((masks != masks[:1]).any())


def _pieces(model: PairModel, grad: Tensor, images: Encoded, texts: Encoded) -> list[tuple[_Piece, Tensor]]:
    """What the backward pass has to compute, and the gradient of its scores.

    Few pairs are computed one by one, unless that takes more pieces than all of them would: what a piece costs
    whatever its size outweighs the pairs then, as in small batches of images with many different masks.
    """
    whole = [
        (_Piece(rows, columns, length, False), grad[rows, columns])
        for rows, columns, length in _split(model, images, texts)
    ]
    chosen = grad.nonzero()  # (P, 2)
    if len(chosen) <= SPARSE * grad.numel():
        paired = list(_together(chosen, texts) if model.padded else _paired(chosen, images, texts))
        if len(paired) <= PIECES * len(whole):
            return [(piece, grad[piece.rows, piece.columns]) for piece in paired]
    return [(piece, part) for piece, part in whole if part.any()]


def _together(chosen: Tensor, texts: Encoded) -> Iterator[_Piece]:
    """Pairs (P, 2) in pieces of neighbouring lengths, padded to the longest."""
    lengths = lengths_of(texts)[chosen[:, 1]]
    for some in chosen[lengths.argsort()].split(TOGETHER):
        rows, columns = some.unbind(1)
        yield _Piece(rows, columns, int(lengths_of(texts)[columns].max()), True)


def _paired(chosen: Tensor, images: Encoded, texts: Encoded) -> Iterator[_Piece]:
    """Pairs (P, 2) in pieces of one length and one mask each."""
    assert images.mask is not None
    shapes = images.mask.unique(dim=0, return_inverse=True)[1]  # (N,), equal where masks are
    kinds = torch.stack([shapes[chosen[:, 0]], lengths_of(texts)[chosen[:, 1]]], 1)  # (P, 2)
    for kind in kinds.unique(dim=0):
        for some in chosen[(kinds == kind).all(1)].split(TOGETHER):
            rows, columns = some.unbind(1)
            yield _Piece(rows, columns, int(kind[1]), True)


class _PairScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, model: PairModel, names: tuple[tuple[str, ...], ...], *inputs: Tensor) -> Tensor:
        """names: of the tensors of both sides, which the weights follow."""
        ctx.model, ctx.names = model, names
        ctx.save_for_backward(*inputs)
        kind = inputs[0].device.type
        ctx.autocast = {
            "device_type": kind,
            "enabled": torch.is_autocast_enabled(kind),
            "dtype": torch.get_autocast_dtype(kind),
            "cache_enabled": False,  # a cast kept from one tile has lost its graph in the next
        }
        scores = _scores(model, *_sides(names, inputs))
        torch.clear_autocast_cache()  # which would hand out weights that were cast without a graph
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        inputs, model, (of_images, of_texts) = ctx.saved_tensors, ctx.model, ctx.names
        images, texts = _sides(ctx.names, inputs)
        wanted = [place for place, needed in enumerate(ctx.needs_input_grad[2:]) if needed]
        if not grads[0].any():  # zeros then, not None, as the plain way has it: an optimiser tells them apart
            return (
                None,
                None,
                *(torch.zeros_like(inputs[place]) if place in wanted else None for place in range(len(inputs))),
            )
        first_weight = len(of_images) + len(of_texts)
        totals = {place: torch.zeros_like(inputs[place]) for place in wanted if place < first_weight}
        for piece, grad in _pieces(model, grads[0], images, texts):
            parts = [part for side in piece.of(images, texts) for part in side.tensors().values()]
            leaves = [part.detach().requires_grad_() if place in totals else part for place, part in enumerate(parts)]
            leaves += inputs[len(leaves) :]  # the weights
            score = partial(_one_by_one, model) if piece.paired else model.score
            with torch.enable_grad(), torch.autocast(**ctx.autocast):
                scores = score(*_sides(ctx.names, leaves))
            asked = [leaves[place] for place in wanted]
            found = torch.autograd.grad(scores, asked, grad.to(scores.dtype), allow_unused=True)
            for place, part in zip(wanted, found, strict=True):
                if part is None:
                    continue
                if place >= first_weight:
                    totals[place] = totals[place] + part if place in totals else part
                elif place < len(of_images):
                    _add(totals[place], piece.rows, part)
                else:  # whose words are trimmed
                    whole = totals[place] if part.ndim == 1 else totals[place][:, : part.shape[1]]
                    _add(whole, piece.columns, part)
        return None, None, *(totals.get(place) for place in range(len(inputs)))


def _add(total: Tensor, rows: slice | Tensor, part: Tensor) -> None:
    """Adds `part` to some rows, in place; a row that is named twice gets both."""
    if isinstance(rows, slice):
        total[rows].add_(part)
    else:
        total.index_add_(0, rows, part)


def _sides(names: tuple[tuple[str, ...], ...], inputs: Sequence[Tensor]) -> tuple[Encoded, Encoded]:
    """Both sides, whose tensors come first among `inputs`."""
    of_images, of_texts = names
    after = inputs[len(of_images) :]
    return from_tensors(dict(zip(of_images, inputs, strict=False))), from_tensors(
        dict(zip(of_texts, after, strict=False))
    )
