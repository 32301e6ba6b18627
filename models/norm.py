"""Batch normalisation that neither counts padding nor stumbles over a batch of one."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models.rows import of_real


class MaskedBatchNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d` over the real positions: one statistic per feature, plain BN where nothing is padded.

    A single position has no variance, so a training batch with only one real position uses the running statistics and
    leaves them as they are.
    """

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """input: (M, d), or (B, N, d) with mask (B, N) bool -> same shape, zero where padded."""
        if mask is None:
            return self.of_rows(input)
        if not self.training:  # a feature at a time, whatever stands beside it: padding need not be taken out first
            return super().forward(input.flatten(0, 1)).view(input.shape).masked_fill(~mask[..., None], 0.0)
        if mask.all():
            return self.of_rows(input.flatten(0, 1)).view(input.shape)
        return of_real(self.of_rows, input, mask)

    def of_rows(self, rows: Tensor) -> Tensor:
        """(M, d) real positions of a batch -> (M, d)."""
        if self.training and len(rows) < 2:
            return F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(rows)
