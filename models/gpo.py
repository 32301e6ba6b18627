"""Generalised pooling operator (GPO): a learned mixture of sorted features (Chen et al., CVPR 2021, section 4).

Each feature is sorted by itself, largest first, and the places are mixed with weights that depend on the size of the
set alone: mean, max and k-max pooling are special cases.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.encoders import BiGRU
from models.kept import kept


def position_codes(places: int, dim: int) -> Tensor:
    """Sine and cosine codes of the places 0, 1, ...: `sin(p w_k)`, `cos(p w_k)` in turn with `w_k = 10000^(-2k / dim)`.

    Returns (places, dim) float32.
    """
    rates = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))  # (dim / 2,), rounded up
    angles = torch.arange(places)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :dim]


class GPO(nn.Module):
    """A bidirectional GRU reads the codes of the places and says how much each counts (eq. 5 to 7)."""

    def __init__(self, position_dim: int = 32, hidden: int = 32, temperature: float = 0.1) -> None:
        super().__init__()
        self.position_dim = position_dim
        self.temperature = temperature
        self.reader = BiGRU(position_dim, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def weights(self, lengths: Tensor, width: int) -> Tensor:
        """lengths: (B,) int64, 1..width -> (B, width), rows sum to 1 and are zero from the length on."""
        if len(lengths) == 1:  # a query: no more than a size that was seen before
            return kept(self, (int(lengths), width), lambda: self._weights(lengths, width))
        distinct, which = lengths.unique(return_inverse=True)  # (U,), (B,): equal sizes share their weights
        return self._weights(distinct, width)[which]

    def _weights(self, distinct: Tensor, width: int) -> Tensor:
        """distinct: (U,) -> (U, width)."""
        real = torch.arange(width, device=distinct.device) < distinct[:, None]  # (U, width)
        codes = position_codes(width, self.position_dim).to(self.score.weight)
        states = self.reader(codes.expand(len(distinct), -1, -1), real)  # (U, width, hidden)
        scores = self.score(states).squeeze(2).masked_fill(~real, float("-inf"))
        return (scores / self.temperature).softmax(1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (B, N, d), mask: (B, N) bool, real fragments anywhere -> (B, d); zero for an item that has none."""
        lengths = mask.sum(1)
        ordered = x.masked_fill(~mask[..., None], float("-inf")).sort(1, descending=True).values  # padding comes last
        real = torch.arange(x.shape[1], device=x.device) < lengths[:, None]  # (B, N)
        weights = self.weights(lengths.clamp(min=1), x.shape[1])
        return (weights[..., None] * ordered.masked_fill(~real[..., None], 0.0)).sum(1)
