"""Noise that is a function of what it belongs to: the same in every batch, on every device."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def mixed(x: Tensor) -> Tensor:
    """A bijection of int64 where each output bit depends on all of the input (splitmix64, Steele 2014).  Any shape."""
    x = x + -0x61C8864680B583EB  # 64-bit constants as signed numbers; products wrap around
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * -0x40A7B892E31B1A47  # masks: `>>` copies the sign, the mixer wants zeros
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * -0x6B2FB644ECCEEE15
    return x ^ (x >> 31 & (1 << 33) - 1)


def noise(keys: Tensor, dim: int) -> Tensor:
    """Gaussian numbers that depend on the keys alone.  keys: (B,) int64 -> (B, dim) float32, by Box and Muller."""
    counter = torch.arange(2 * dim, device=keys.device)
    bits = mixed(mixed(keys)[:, None] + counter)  # (B, 2 dim)
    uniform = ((bits >> 40 & (1 << 24) - 1) + 0.5) * 2.0**-24  # (B, 2 dim) in (0, 1)
    radius, angle = uniform.chunk(2, dim=1)
    return (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()
