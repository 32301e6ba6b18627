"""One GRU layer (Cho et al., EMNLP 2014) learnt from on a CPU: real steps alone, with a backward pass of its own.

`nn.GRU` records every gate of every step for autograd, and adds to the gradient of its weights once a step.  Here the
states are computed outside autograd; backward, what a step needs is one product, and each weight gets its gradient from
one product over all steps.  Numbers are those of `nn.GRU` but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.activations import tanh_
from models.rows import moved

LAYER = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


@dataclass(frozen=True)
class Order:
    """The real fragments of B sequences in the order of reading: all first ones, all second ones, longer sequences
    first.  W real fragments, N places for them."""

    places: Tensor  # (W,) int64, where among B * N each lies
    back: Tensor  # (B * N,) int64, the number of each place in this order; W where padded
    sizes: tuple[int, ...]  # how many sequences have a first, second, ... fragment
    longest_first: Tensor  # (B,) int64, the sequences

    @classmethod
    def of(cls, lengths: Tensor, width: int, backwards: bool = False) -> Order:
        """lengths: (B,) int64, 0..width, real fragments come first.  backwards: the last one is read first."""
        step = torch.arange(width)
        longest_first = lengths.argsort(descending=True, stable=True)
        ordered = lengths[longest_first]
        real = step[:, None] < ordered  # (N, B)
        place = ordered - 1 - step[:, None] if backwards else step[:, None].expand(real.shape)
        places = (longest_first * width + place)[real]
        back = places.new_full((len(lengths) * width,), len(places))
        back[places] = torch.arange(len(places))
        return cls(places, back, tuple(count for count in real.sum(1).tolist() if count), longest_first)


def states(gru: nn.GRU, x: Tensor, order: Order, suffix: str = "") -> Tensor:
    """The states of one direction in its order, (W, d).  x: (B * N, E); suffix: of the names of its weights."""
    inward, within, bias, bias_within = (getattr(gru, name + suffix) for name in LAYER)
    gates = F.linear(moved(x, order.places, order.back), inward, bias)  # (W, 3d)
    return _States.apply(gates, within, bias_within, order.sizes)  # type: ignore[return-value]


class _States(torch.autograd.Function):
    """r, z = sigmoid(x + h W'), n = tanh(x + r h W'), h' = (1 - z) n + z h, from h = 0; what x gives is known."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, bias: Tensor, sizes: Sequence[int]) -> Tensor:
        """gates: (W, 3d) of r, z and n, in the order of reading; weight: (3d, d), bias: (3d,) -> (W, d)."""
        width, transposed = weight.shape[1], weight.T
        within = torch.empty_like(gates)  # (W, 3d) r, z and the state's part of n
        new = gates.new_empty(len(gates), width)  # (W, d) n
        before, after = torch.zeros_like(new), torch.empty_like(new)  # (W, d) h and h'
        start, last = 0, after
        for size in sizes:
            part = slice(start, start + size)
            h, own, given = before[part], within[part], gates[part]
            if start:
                h.copy_(last[:size])
            torch.addmm(bias, h, transposed, out=own)
            own[:, : 2 * width].add_(given[:, : 2 * width]).sigmoid_()
            r, z, n = own.chunk(3, 1)
            tanh_(torch.addcmul(given[:, 2 * width :], r, n, out=new[part]))
            last = torch.lerp(new[part], h, z, out=after[part])
            start += size
        ctx.save_for_backward(weight, within, new, before)
        ctx.sizes = sizes
        return after

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Of a step, all is linear in the gradient of its state: what this is multiplied by is known beforehand."""
        weight, within, new, before = ctx.saved_tensors
        r, z, n = within.chunk(3, 1)
        candidate = (1 - z) * (1 - new * new)  # (W, d) the gradient of n before its tanh
        factors = torch.stack(
            [candidate * n * r * (1 - r), (before - new) * z * (1 - z), candidate * r], 1
        )  # (W, 3, d)
        whole = gradients[0].clone(memory_format=torch.contiguous_format)  # (W, d) of h', with what later steps add
        start = len(whole)
        for step in range(len(ctx.sizes) - 1, -1, -1):
            size = ctx.sizes[step]
            start -= size
            part = slice(start, start + size)
            own = factors[part]
            own.mul_(whole[part, None])
            if step:
                earlier = start - ctx.sizes[step - 1]
                whole[earlier : earlier + size].addcmul_(whole[part], z[part]).addmm_(own.flatten(1), weight)
        inner = factors.flatten(1)  # (W, 3d)
        of_weight, of_bias = inner.T @ before, inner.sum(0)
        inner[:, -weight.shape[1] :] = whole * candidate
        return inner, of_weight, of_bias, None
