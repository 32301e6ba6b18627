"""Functions of one number in the form that a CPU computes fastest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

EXACT = (torch.float32, torch.float64)  # in half precision 2 s - 1 would lose the small ones


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent as `2 sigmoid(2x) - 1`, a third of the time on a CPU; within rounding of 1, not of itself.

    Same shape as x.
    """
    if x.device.type != "cpu" or x.dtype not in EXACT:
        return x.tanh()
    return _Tanh.apply(x)  # type: ignore[return-value]


def tanh_(x: Tensor) -> Tensor:
    """The same in place, outside autograd."""
    if x.device.type != "cpu" or x.dtype not in EXACT:
        return x.tanh_()
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


class _Tanh(torch.autograd.Function):
    """Backward, the slope is 1 - y^2, as torch has it."""

    generate_vmap_rule = True  # pairs are scored one by one under `vmap`

    @staticmethod
    def forward(x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.mul(x, 2).sigmoid_().mul_(2).sub_(1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(gradients[0], y)
