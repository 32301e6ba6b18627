"""What the tests of interactive methods ask of every combination of options; the contract tests ask it of the defaults.

An interactive method here compares `contextual` fragments under `mask`, and its loss is the hinge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from harness.protocol import Encoded, ImageBatch, PairBatch, Retriever, TextBatch

Encodings = tuple[Retriever, Encoded, Encoded]  # a model, three images of its, three captions of its


def blocks_equal_the_whole(model: Retriever, images: Encoded, texts: Encoded) -> None:
    whole = model.similarity(images, texts)
    blocks = [model.similarity(images.select(slice(i, i + 2)), texts.select(slice(1, None))) for i in (0, 2)]
    torch.testing.assert_close(torch.cat(blocks), whole[:, 1:])


def padding_neither_matters_nor_learns(encoded: Callable[[int], Encodings], rubbish: float) -> None:
    """encoded: words to which captions are padded -> the same model, images and captions."""
    model, images, texts = encoded(7)
    whole = model.similarity(images, texts)
    _, _, wider = encoded(11)
    torch.testing.assert_close(model.similarity(images, wider), whole)
    spoilt = [s.contextual.detach().masked_fill(~s.mask[..., None], rubbish).requires_grad_() for s in (images, texts)]
    scores = model.similarity(*(replace(s, contextual=c) for s, c in zip((images, texts), spoilt, strict=True)))
    torch.testing.assert_close(scores, whole)
    scores.sum().backward()
    for side, leaf in zip((images, texts), spoilt, strict=True):
        assert leaf.grad.isfinite().all()
        assert not leaf.grad[~side.mask].any()


def gradients_reach_every_parameter(model: Retriever, pairs: PairBatch) -> None:
    """In one step, and the hinge is all there is to lose."""
    losses = model.losses(model.encode_images(pairs.images), model.encode_texts(pairs.texts), pairs)
    assert list(losses) == ["hinge"]
    losses["hinge"].backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [name for name, g in gradients.items() if g is None or not g.isfinite().all() or not g.any()] == []


def one_word_and_one_region_are_finite(model: Retriever, image_dim: int = 13) -> None:
    one = torch.ones(1, 1, dtype=torch.bool)
    images = ImageBatch(torch.ones(1, 1, image_dim), one)
    pair = PairBatch(images, TextBatch(one.long(), one), torch.zeros(1, dtype=torch.long))
    sides = model.encode_images(pair.images), model.encode_texts(pair.texts)
    assert model.similarity(*sides).isfinite().all()
    model.losses(*sides, pair)["hinge"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
