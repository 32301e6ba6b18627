"""Chance (no paper): unit noise drawn from a hash of each item, the floor that every method must beat.

The same item always gets the same vector, whatever batch it comes in, and images know nothing of captions.  Another
seed of the run gives other vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.protocol import Encoded, ImageBatch, Inputs, Retriever, TextBatch, Untrained
from models.encoders import unit
from models.retrievers import inner_product

RECIPE = 1
PAPER = ""
HOSTS = False  # there is no encoder for SelfAlign to stand on
FLOOR = True
VARIANTS: dict[str, dict] = {"": {}}


@dataclass(frozen=True)
class Options:
    """Nothing to choose."""


def mixed(x: Tensor) -> Tensor:
    """A bijection of int64 where each output bit depends on all of the input (splitmix64, Steele 2014).  Any shape."""
    x = x + -0x61C8864680B583EB  # 64-bit constants as signed numbers; products wrap around
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * -0x40A7B892E31B1A47  # masks: `>>` copies the sign, the mixer wants zeros
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * -0x6B2FB644ECCEEE15
    return x ^ (x >> 31 & (1 << 33) - 1)


def noise(keys: Tensor, dim: int) -> Tensor:
    """Gaussian numbers that depend on the keys alone.  keys: (B,) int64 -> (B, dim) float32, by Box and Muller."""
    counter = torch.arange(2 * dim, device=keys.device)
    bits = mixed(mixed(keys)[:, None] + counter)  # (B, 2 dim)
    uniform = ((bits >> 40 & (1 << 24) - 1) + 0.5) * 2.0**-24  # (B, 2 dim) in (0, 1)
    radius, angle = uniform.chunk(2, dim=1)
    return (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()


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
