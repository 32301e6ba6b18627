"""Filters over runs of words and their strongest answers, learnt from on a CPU: real runs alone.

A convolution of padded captions computes, keeps and differentiates an answer at every padded place, half of all as a
rule.  Here each real run of words is a row, filters are one product, and a caption's answers are compared run by run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.recurrent import Order
from models.rows import moved


def strongest(filters: nn.Conv1d, vectors: Tensor, runs: Tensor) -> Tensor:
    """The largest answer of each of F filters of k words in each caption.

    vectors: (B, L, E), zero where padded; runs: (B,) int64, 1..L, in how many places of a caption a run begins, its
    first ones -> (B, F).
    """
    count, width = vectors.shape[:2]
    order = Order.of(runs, width)
    flat, rest = vectors.flatten(0, 1), count * width  # `rest`: behind all, zeros
    parts = []
    for offset in range(filters.kernel_size[0]):
        inside = order.places % width + offset < width
        places = (order.places + offset).masked_fill(~inside, rest)  # (W,)
        back = torch.full((rest + 1,), len(places))
        back[places] = torch.arange(len(places))
        parts.append(moved(flat, places, back[:rest]))
    weight = filters.weight.transpose(1, 2).flatten(1)  # (F, k * E)
    answers = nn.functional.linear(torch.cat(parts, 1), weight, filters.bias)  # (W, F)
    found: Tensor = _Largest.apply(answers, order.sizes)  # type: ignore[assignment]
    return moved(found, order.longest_first.argsort(), order.longest_first)


class _Largest(torch.autograd.Function):
    """Of a caption's answers the largest, a run after the other; the first of equal ones learns."""

    @staticmethod
    def forward(ctx: Any, answers: Tensor, sizes: Sequence[int]) -> Tensor:
        """answers: (W, F) in the order of reading, first runs of all captions first -> (B, F)."""
        largest, start = answers[: sizes[0]].clone(), sizes[0]
        for size in sizes[1:]:
            torch.maximum(largest[:size], answers[start : start + size], out=largest[:size])
            start += size
        ctx.save_for_backward(answers, largest)
        ctx.sizes = sizes
        return largest

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        answers, largest = ctx.saved_tensors
        left, found, start = gradients[0].clone(), torch.empty_like(answers), 0  # what no run has taken
        for size in ctx.sizes:
            part = slice(start, start + size)
            torch.mul(left[:size], answers[part] == largest[:size], out=found[part])
            left[:size].sub_(found[part])
            start += size
        return found, None
