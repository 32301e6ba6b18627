"""Rows of the scale: not models, for they are told which images a caption fits, and break ties by chance.

A caption that fits few images says more of them: from an image, its captions come by 1 / (number of images fitted),
which is how likely each was said of this image if it was as likely said of any that it fits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.protocol import Encoded, ImageBatch, TextBatch, Untrained
from models.encoders import unit
from models.noise import noise

WIDTH = 64  # of the noise that breaks ties
TIES = 0.49  # most the noise adds or takes away: less than half of what lies between two levels


class Told(Untrained):
    """Scores are levels, 0 where a caption does not fit an image, higher the fewer images it fits, plus noise < 1/2."""

    family = "scale"
    salt: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("salt", torch.randint(2**62, (2,)))  # (2,) images, captions

    def encode_images(self, images: ImageBatch) -> Encoded:
        """Raises ValueError where nobody tells which images they are."""
        places = _told(images.places)
        return Encoded(extras={"place": places, "noise": self._noise(places, 0)})

    def encode_texts(self, texts: TextBatch) -> Encoded:
        """Raises ValueError where nobody tells what the captions fit."""
        fits, places = _told(texts.fits), _told(texts.places)
        rarity = fits.shape[1] + 1 - fits.sum(1, keepdim=True)  # (B, 1) in the order of 1 / number, and exact
        return Encoded(extras={"level": (fits * rarity).float(), "noise": self._noise(places, 1)})

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        """(N, M)"""
        levels = texts.extras["level"][:, images.extras["place"]].T
        return levels + TIES * (images.extras["noise"] @ texts.extras["noise"].T)

    def _noise(self, places: Tensor, side: int) -> Tensor:
        return unit(noise(places ^ self.salt[side], WIDTH))


def _told(value: Tensor | None) -> Tensor:
    if value is None:
        raise ValueError("a row of the scale must be told what captions fit")
    return value
