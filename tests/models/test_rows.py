"""Real fragments without their padding: what is computed of them is what is computed with it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.rows import mapped, moved


def test_rows_move_and_their_gradients_move_back():
    x = torch.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    rows = moved(x, torch.tensor([2, 3, 0]), torch.tensor([2, 3, 0]))
    assert rows.tolist() == [[3.0], [0.0], [1.0]]
    rows.backward(torch.tensor([[10.0], [20.0], [30.0]]))
    assert x.grad is not None
    assert x.grad.tolist() == [[30.0], [0.0], [10.0]]


@pytest.mark.parametrize("lengths", [[3, 5, 1], [5, 5, 5]], ids=["padded", "whole"])
def test_a_linear_map_of_real_fragments_alone(lengths):
    torch.manual_seed(0)
    linear = nn.Linear(7, 11).double()
    x = torch.randn(3, 5, 7, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    by = torch.randn(3, 5, 11, dtype=torch.float64) * mask[..., None]
    learnt = [x, *linear.parameters()]
    found = torch.autograd.grad((mapped(linear, x, mask) * by).sum(), learnt)
    for one, other in zip(found, torch.autograd.grad((linear(x) * by).sum(), learnt), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    torch.testing.assert_close(mapped(linear, x, mask)[mask], linear(x)[mask], rtol=0, atol=1e-12)
