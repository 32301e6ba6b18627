"""Chance (no paper): unit noise drawn from a hash of each item, the floor that every method must beat.

The same item always gets the same vector, whatever batch it comes in, and images know nothing of captions.  Another
seed of the run gives other vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.protocol import Encoded, ImageBatch, Inputs, Retriever, TextBatch, Untrained
from models.encoders import unit
from models.noise import mixed, noise
from models.retrievers import inner_product

RECIPE = 1
PAPER = ""
HOSTS = False  # there is no encoder for SelfAlign to stand on
FLOOR = True
VARIANTS: dict[str, dict] = {"": {}}


@dataclass(frozen=True)
class Options:
    """Nothing to choose."""


class Chance(Untrained):
    """A hash in place of a model; there is nothing to train."""

    family = "independent"
    salt: Tensor

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.inputs = inputs
        self.register_buffer("salt", torch.randint(2**62, (2,)))  # (2,) images, captions

    def encode_images(self, images: ImageBatch) -> Encoded:
        bits = (
            images.fragments.float().contiguous().view(torch.int32).long()
        )  # (B, R, D); integer sums have no rounding
        columns = mixed(torch.arange(bits.shape[2], device=bits.device))
        keys = (bits * columns * images.mask[..., None]).sum((1, 2))
        return Encoded(embedding=unit(noise(keys ^ self.salt[0], self.inputs.dim)))

    def encode_texts(self, texts: TextBatch) -> Encoded:
        places = mixed(torch.arange(texts.tokens.shape[1], device=texts.tokens.device))
        keys = (mixed(texts.tokens + places) * texts.mask).sum(1)
        return Encoded(embedding=unit(noise(keys ^ self.salt[1], self.inputs.dim)))

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        """Inner products, (N, M)."""
        return inner_product(images, texts)


def build(inputs: Inputs, options: Options) -> Retriever:  # noqa: ARG001
    """A model that cannot learn."""
    return Chance(inputs)
