"""Generalised pooling: codes of the places, weights that know only how many there are, and features that are sorted."""

import math

import pytest
import torch
from torch import nn

from models.gpo import GPO, position_codes

LENGTHS = torch.tensor([5, 1, 3, 5])
MASK = torch.arange(5) < LENGTHS[:, None]  # (4, 5)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pooling():
    torch.manual_seed(0)
    return GPO(position_dim=7, hidden=3)


@torch.no_grad()
def slow_gpo(model, fragments):
    """One set at a time.  fragments: (n, d) -> (d,)."""
    codes = [
        [(math.cos if k % 2 else math.sin)(p / 10000 ** ((k - k % 2) / 7)) for k in range(7)]
        for p in range(len(fragments))
    ]
    states = model.reader.gru(torch.tensor([codes]))[0][0]  # (n, 2 * 3)
    scores = [float(model.score((state[:3] + state[3:]) / 2)) for state in states]
    weights = torch.tensor([math.exp(score / 0.1) for score in scores])
    weights = weights / weights.sum()
    columns = [sorted(column, reverse=True) for column in fragments.T.tolist()]
    return torch.tensor([sum(w * x for w, x in zip(weights.tolist(), column, strict=True)) for column in columns])


def test_codes_alternate_sine_and_cosine():
    codes = position_codes(3, 4)
    assert codes.shape == (3, 4)
    torch.testing.assert_close(codes[0], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(codes[2], torch.tensor([math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)]))
    assert position_codes(3, 5).shape == (3, 5)


def test_pooling_equals_its_slow_twin():
    model, x = pooling(), noise(4, 5, 11)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(model(x, MASK)[row], slow_gpo(model, x[row, :length]))


def test_weights_sum_to_one_and_depend_on_the_size_alone():
    weights = pooling().weights(LENGTHS, 5)
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    assert not weights[~MASK].any()
    assert torch.equal(weights[0], weights[3])
    torch.testing.assert_close(pooling().weights(torch.tensor([3]), 3)[0], weights[2, :3])


def test_equal_scores_give_the_mean_and_a_set_of_one_is_itself():
    model, x = pooling(), noise(4, 5, 11)
    assert torch.equal(model(x, MASK)[1], x[1, 0])
    nn.init.zeros_(model.score.weight)
    torch.testing.assert_close(model(x, MASK)[2], x[2, :3].mean(0))


def test_neither_order_nor_place_nor_padding_matters():
    model, x = pooling(), noise(4, 5, 11)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(model(x[:, order], MASK[:, order]), model(x, MASK))
    wider = torch.cat([x.masked_fill(~MASK[..., None], 9.0), torch.full((4, 3, 11), -7.0)], 1)
    mask = torch.cat([MASK, torch.zeros(4, 3, dtype=torch.bool)], 1)
    torch.testing.assert_close(model(wider, mask), model(x, MASK))


def test_an_empty_set_gives_zero_with_finite_gradients():
    model, x = pooling(), noise(1, 5, 11).requires_grad_()
    pooled = model(x, torch.zeros(1, 5, dtype=torch.bool))
    assert not pooled.any()
    pooled.sum().backward()
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize("name", ["reader.gru.weight_ih_l0", "reader.gru.weight_hh_l0_reverse", "score.weight"])
def test_the_weights_are_learnt(name):
    model = pooling()
    model(noise(4, 5, 11), MASK).square().sum().backward()
    assert model.get_parameter(name).grad.norm() > 0
