"""Operations as one would count them by hand, whatever fused kernel does the work."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.measure.flops import flops

B, L, D, H = 3, 5, 7, 11


def attention() -> nn.Module:
    return nn.MultiheadAttention(8, 2, batch_first=True).eval()


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_a_product_counts_twice_its_multiplications(mode):
    with mode():
        assert flops(lambda: nn.Linear(D, H)(torch.randn(B, D))) == 2 * B * D * H
        assert flops(lambda: torch.randn(B, D) + 1) == 0


@pytest.mark.parametrize(("layer", "gates"), [(nn.GRU, 3), (nn.LSTM, 4)])
@torch.inference_mode()
def test_recurrent_layers_are_seen_into(layer, gates):
    steps = B * L
    assert flops(lambda: layer(D, H, batch_first=True)(torch.randn(B, L, D))) == 2 * steps * gates * (D * H + H * H)


@torch.inference_mode()
def test_attention_is_seen_into():
    projections, products = 4 * 2 * B * L * 8 * 8, 2 * 2 * B * L * L * 8
    x = torch.randn(B, L, 8)
    assert flops(lambda: attention()(x, x, x, need_weights=False)) == projections + products


def test_torch_is_left_as_it_was():
    def state() -> tuple:
        libraries = (torch.backends.cudnn, torch.backends.mkldnn)
        return torch.backends.mha.get_fastpath_enabled(), [library.enabled for library in libraries]

    before = state()
    with pytest.raises(ZeroDivisionError):
        flops(lambda: 1 // 0)
    assert state() == before


def test_weight_normalised_maps_are_counted_in_inference_mode_too():
    mapped = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(5, 3, bias=False))
    with torch.inference_mode():
        assert flops(lambda: mapped(torch.ones(2, 5))) == 2 * 2 * 5 * 3
