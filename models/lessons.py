"""What a model is taught beside its own losses: terms that exist in training alone, and leave retrieval as it was.

A lesson is attached to a finished model (`Ranked.lessons`), sees what a training step computes anyway, and adds terms.
Without any, training is that of the model, bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from harness.protocol import Encoded, PairBatch


@dataclass(frozen=True)
class Seen:
    """One training step, as the model has it."""

    scores: Tensor  # (B, B) images x captions, as in retrieval; matching pairs on the diagonal
    images: Encoded
    texts: Encoded
    batch: PairBatch


class Lesson(nn.Module, ABC):
    """Terms of a training step, already weighted."""

    ranking: bool = True  # whether the model's own ranking loss stays beside it

    @abstractmethod
    def forward(self, seen: Seen) -> dict[str, Tensor]:
        """Named scalars."""


def lifted(x: Tensor) -> Tensor:
    """Half precision as float32, anything wider as it is."""
    return x.float() if x.dtype.itemsize < 4 else x


def required(encoded: Encoded, side: str, field: str, dim: int, reader: str) -> tuple[Tensor, Tensor]:
    """A field (B, N, d) that a module reads off its host, and its mask (B, N).  Raises ValueError where missing."""
    value = getattr(encoded, field)
    if value is None or encoded.mask is None:
        missing = field if value is None else "mask"
        raise ValueError(f"{reader} reads `{missing}` of the {side}, which its host does not fill")
    if value.shape[-1] != dim:
        raise ValueError(f"{reader} needs `{field}` of the {side} of width {dim}, its host gives {value.shape[-1]}")
    return value, encoded.mask
