"""Learning from a GRU by steps of our own: what `nn.GRU` finds, forward and backward, whatever the lengths."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models import recurrent, rows
from models.encoders import BiGRU, ForwardGRU
from models.recurrent import Order

LENGTHS = {"unlike": [3, 7, 1, 5, 5], "equal": [7] * 5, "short": [2, 1, 2, 2, 1], "alone": [4]}


def learnt(reader: nn.Module, vectors: Tensor, mask: Tensor) -> list[Tensor]:
    """Outputs, and the gradients of vectors and weights for an arbitrary loss."""
    found = reader(vectors, mask)
    outputs = found if isinstance(found, tuple) else (found,)
    drawn = [torch.randn(o.shape, generator=torch.Generator().manual_seed(n)).to(o) for n, o in enumerate(outputs)]
    loss = torch.stack([(output * by).sum() for output, by in zip(outputs, drawn, strict=True)]).sum()
    return [*(o.detach() for o in outputs), *torch.autograd.grad(loss, [vectors, *reader.parameters()])]


@pytest.mark.parametrize("kind", [BiGRU, ForwardGRU])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_steps_of_our_own_are_those_of_nn_gru(monkeypatch, kind, lengths):
    torch.manual_seed(0)
    reader = kind(3, 11).double()
    vectors = torch.randn(len(lengths), 7, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    assert rows.here(vectors)
    own = learnt(reader, vectors, mask)
    monkeypatch.setattr(rows, "here", lambda _: False)
    for found, expected in zip(own, learnt(reader, vectors, mask), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_without_gradients_nn_gru_reads(monkeypatch):
    def refused(*_: object) -> Tensor:
        raise AssertionError("nothing is learnt here")

    monkeypatch.setattr(recurrent, "states", refused)
    with torch.inference_mode():
        assert BiGRU(3, 5)(torch.ones(2, 4, 3), torch.ones(2, 4, dtype=torch.bool)).shape == (2, 4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert BiGRU(3, 5)(torch.ones(2, 4, 3), torch.ones(2, 4, dtype=torch.bool)).shape == (2, 4, 5)


def test_order_is_by_step_and_longer_first():
    lengths = torch.tensor([1, 3])
    there, back = Order.of(lengths, 3), Order.of(lengths, 3, backwards=True)
    assert there.places.tolist() == [3, 0, 4, 5]  # sequence 1 first; places of sequence 0 are 0 to 2
    assert back.places.tolist() == [5, 0, 4, 3]
    assert there.sizes == back.sizes == (2, 1, 1)
    assert there.back.tolist() == [1, 4, 4, 0, 2, 3]  # 4 is no fragment: padding
