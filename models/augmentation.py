"""Sets thinned out in training: the size augmentation of VSE-infinity (Chen et al. 2021), which CHAN takes over.

Draws token by token from torch's global generators, whose state a checkpoint keeps.  A set that would lose all its
members keeps them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.protocol import Inputs, TextBatch
from models.encoders import WordVectors

MASKED, REPLACED = 0.5, 0.1  # share of the touched words that become the mask word, another word; the rest is removed


def never_empty(kept: Tensor, mask: Tensor) -> Tensor:
    """`kept`, and all of `mask` for an item that would keep nothing.  (B, N) bool each -> (B, N) bool."""
    return torch.where(kept.any(1, keepdim=True), kept, mask)


def thinned(mask: Tensor, probability: float) -> Tensor:
    """Each real region is dropped with this probability.  mask: (B, R) bool -> (B, R) bool."""
    return never_empty(mask & (torch.rand(mask.shape, device=mask.device) >= probability), mask)


def altered(texts: TextBatch, probability: float, vocabulary: int, mask_word: int, spare_ends: bool) -> TextBatch:
    """Each word is touched with this probability: masked, replaced by any word, or removed.

    texts: B captions of L words -> the same shape; the words that are left come first, in their order.
    """
    shape, device = texts.mask.shape, texts.mask.device
    touched = texts.mask & (torch.rand(shape, device=device) < probability)
    fate = torch.rand(shape, device=device)
    any_word = torch.randint_like(texts.tokens, 1, vocabulary)  # 0 is padding
    if spare_ends:
        touched = touched & _inner(texts)
    masked, removed = touched & (fate < MASKED), touched & (fate >= MASKED + REPLACED)
    tokens = texts.tokens.masked_fill(masked, mask_word)
    tokens = torch.where(touched & ~masked & ~removed, any_word, tokens)
    order, mask = _first(never_empty(texts.mask & ~removed, texts.mask))
    return TextBatch(tokens.gather(1, order) * mask, mask)


def _inner(texts: TextBatch) -> Tensor:
    """All words but the first and the last.  (B, L) bool."""
    places = torch.arange(texts.mask.shape[1], device=texts.mask.device)
    return (places > 0) & (places < texts.lengths[:, None] - 1)


def _first(kept: Tensor) -> tuple[Tensor, Tensor]:
    """The order that brings what is kept to the front, and the mask it then has.  (B, L) bool -> (B, L) each."""
    order = (~kept).byte().argsort(dim=1, stable=True)
    return order, kept.gather(1, order)


def _in_order(x: Tensor, order: Tensor) -> Tensor:
    """Whole rows of each item.  x: (B, L, E), order: (B, L) -> (B, L, E)."""
    first = torch.arange(len(order), device=order.device)[:, None] * order.shape[1]
    return x.flatten(0, 1).index_select(0, (first + order).flatten()).view(x.shape)


def read_thinned(
    words: WordVectors, texts: TextBatch, probability: float, mask_word: int, inputs: Inputs
) -> tuple[Tensor, TextBatch]:
    """Word vectors (B, L, E) of captions in which words are touched with this probability, and these captions.

    Words are `altered` before they are looked up.  A frozen text model reads whole captions, once for all epochs; of
    its states those touched are dropped, as regions are.  The first and last token of a text model are spared.
    """
    pretrained = inputs.token_states is not None
    if not words.frozen:
        texts = altered(texts, probability, inputs.vocabulary, mask_word, spare_ends=pretrained)
        return words(texts), texts
    touched = _inner(texts) & (torch.rand(texts.mask.shape, device=texts.mask.device) < probability)
    order, mask = _first(texts.mask & ~touched)
    vectors = _in_order(words(texts), order) * mask[..., None]
    return vectors, TextBatch(texts.tokens.gather(1, order) * mask, mask)


def check_mask_word(mask_word: int, inputs: Inputs) -> None:
    """Raises ValueError where the vocabulary has no such word."""
    if mask_word >= inputs.vocabulary:
        raise ValueError(f"mask_word={mask_word} is no token of a vocabulary of {inputs.vocabulary}")
