"""Gated self-attention learnt from on a CPU is that of torch's own kernel."""

from __future__ import annotations

import torch

from models import agsa
from models.agsa import GatedSelfAttention


def test_plain_products_are_torchs_attention(monkeypatch):
    torch.manual_seed(0)
    layer = GatedSelfAttention(6, heads=2).double()
    x = torch.randn(3, 5, 6, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(5) < torch.tensor([5, 1, 3])[:, None]
    by, learnt = torch.randn(3, 5, 6, dtype=torch.float64), [x, *layer.parameters()]

    def found() -> list[torch.Tensor]:
        y = layer(x, mask)
        return [y.detach(), *torch.autograd.grad((y * by).sum(), learnt)]

    own = found()
    monkeypatch.setattr(agsa, "here", lambda _: False)
    for one, other in zip(own, found(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
