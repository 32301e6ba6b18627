"""Adaptive gated self-attention among the fragments of one item (CAMERA, Qu et al., ACM MM 2020)."""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.norm import MaskedBatchNorm
from models.rows import here


class GatedSelfAttention(nn.Module):
    """One layer: `X + dropout(BN(heads))`; a head gates the features of queries and keys by what both share.

    Queries, keys and values are three linear maps of `X * position`, equal before training (copies of one map, as in
    the official code).  The gate's maps are shared by all heads, and there is no projection after them.  Padding is no
    key, stays out of the BN and comes out as zero.  Raises ValueError unless `heads` divides `dim`.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads={heads} must divide the embedding width {dim}")
        width = dim // heads  # of a head
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = deepcopy(self.query)
        self.value = deepcopy(self.query)
        self.gate_query = nn.Linear(width, width)
        self.gate_key = nn.Linear(width, width)
        self.gate = nn.Linear(width, 2 * width)
        self.norm = MaskedBatchNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, position: Tensor | None = None) -> Tensor:
        """x: (B, N, d), mask: (B, N) bool, position: (B, N, d) factors that attention sees and the residual does not.

        Returns (B, N, d).  Every item needs a real fragment.
        """
        x = x.masked_fill(~mask[..., None], 0.0)
        attended = self._attended(x if position is None else x * position, mask)
        return x + self.dropout(self.norm(attended, mask))

    def _attended(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, N, d) heads side by side; H heads of width w = d / H."""
        query, key, value = (self._split(part(x)) for part in (self.query, self.key, self.value))  # (B, H, N, w)
        gates = self.gate(self.gate_query(query) * self.gate_key(key)).sigmoid()  # (B, H, N, 2w)
        query_gate, key_gate = gates.chunk(2, dim=-1)
        heads = _mixed(query * query_gate, key * key_gate, value, mask)
        return heads.transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        """(B, N, d) -> (B, H, N, w)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


def _mixed(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Scaled dot product attention.  query, key, value: (B, H, N, w), mask: (B, N) bool -> (B, H, N, w).

    The few fragments of an item are learnt from by plain products: torch's kernel for a CPU works in larger blocks.
    """
    if not here(value):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
    items, heads, length, width = value.shape
    shut = value.new_zeros(mask.shape).masked_fill(~mask, float("-inf"))
    shut = shut[:, None, None].expand(items, heads, length, length).flatten(0, 1)  # (B * H, N, N)
    query, key, value = (x.flatten(0, 1) for x in (query, key, value))
    weights = torch.baddbmm(shut, query, key.mT, alpha=width**-0.5).softmax(2)
    return (weights @ value).unflatten(0, (items, heads))
