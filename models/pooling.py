"""From a set of fragments to one vector, looking at the real fragments only."""

from __future__ import annotations

from torch import Tensor

from models.rows import here


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of the real fragments.  x: (B, N, d), mask: (B, N) bool -> (B, d); zero for an item that has none."""
    # one pass over the fragments, forward and backward, but in half precision a sum of its own
    total = (mask.to(x)[:, None] @ x).squeeze(1) if here(x) else (x * mask[..., None]).sum(1)
    return total / mask.sum(1, keepdim=True).clamp(min=1)


def masked_max(x: Tensor, mask: Tensor) -> Tensor:
    """Largest value of each feature among the real fragments, of which each item needs one.

    x: (B, N, d), mask: (B, N) bool -> (B, d).
    """
    return x.masked_fill(~mask[..., None], float("-inf")).amax(1)
