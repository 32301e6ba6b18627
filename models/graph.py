"""Reasoning over the regions of an image as a fully connected graph (VSRN, Li et al., ICCV 2019, eq. 2 and 3)."""

from __future__ import annotations

from torch import Tensor, nn

from models.norm import MaskedBatchNorm


class GraphReasoning(nn.Module):
    """One layer: `X + BN(W(Rel g(X)))` with `Rel = theta(X) phi(X)^T / R`, no softmax.

    Scale and shift of the BN start at 0, so an untrained layer is the identity.  Padded regions send nothing, do not
    count in R, stay out of the BN and are passed on as they came.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.theta = nn.Linear(dim, dim)
        self.phi = nn.Linear(dim, dim)
        self.g = nn.Linear(dim, dim)
        self.w = nn.Linear(dim, dim)
        self.norm = MaskedBatchNorm(dim)
        for start in (self.w.bias, self.norm.weight, self.norm.bias):
            nn.init.zeros_(start)

    def forward(self, regions: Tensor, mask: Tensor) -> Tensor:
        """regions: (B, R, d), mask: (B, R) bool -> (B, R, d)."""
        count = mask.sum(1).clamp(min=1)[:, None, None]  # (B, 1, 1)
        relation = self.theta(regions) @ self.phi(regions).transpose(1, 2) / count  # (B, R, R)
        messages = relation @ (self.g(regions) * mask[..., None])  # (B, R, d)
        return regions + self.norm(self.w(messages), mask)
