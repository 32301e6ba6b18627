"""Filters over real runs of words alone give the answers, and teach what, a convolution over all places does."""

from __future__ import annotations

import torch
from torch import nn

from models.pooling import masked_max
from models.windows import strongest


def slow(filters: nn.Conv1d, vectors: torch.Tensor, runs: torch.Tensor) -> torch.Tensor:
    words = filters.kernel_size[0]
    padded = nn.functional.pad(vectors.mT, (0, words - 1))
    return masked_max(filters(padded).mT, torch.arange(vectors.shape[1]) < runs[:, None])


def test_strongest_answers_are_those_of_a_convolution():
    torch.manual_seed(0)
    lengths = torch.tensor([2, 7, 1, 5, 5])
    for words in (1, 2, 3):
        filters = nn.Conv1d(3, 11, words).double()
        mask = torch.arange(7) < lengths[:, None]
        vectors = (torch.randn(5, 7, 3, dtype=torch.float64) * mask[..., None]).requires_grad_()
        runs = (lengths - words + 1).clamp(min=1)
        by, learnt = torch.randn(5, 11, dtype=torch.float64), [vectors, *filters.parameters()]
        expected, found = slow(filters, vectors, runs), strongest(filters, vectors, runs)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        gradients = (torch.autograd.grad((answers * by).sum(), learnt) for answers in (expected, found))
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_of_equal_answers_one_learns():
    filters = nn.Conv1d(1, 1, 1, bias=False)
    vectors = torch.ones(1, 3, 1, requires_grad=True)
    strongest(filters, vectors, torch.tensor([3])).sum().backward()
    assert vectors.grad is not None
    assert vectors.grad.count_nonzero() == 1
