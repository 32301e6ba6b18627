"""Real fragments without their padding, where a model learns on a CPU: half of a batch of captions is padding.

Rows are selected, forward and backward: torch adds gradients at an index row by row, several times slower.  A GPU
would have to wait for the number of real fragments; there padding is computed along.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def here(x: Tensor) -> bool:
    """Whether padding is left out: where fragments are learnt from, on a CPU, in full precision."""
    kind = x.device.type
    return kind == "cpu" and torch.is_grad_enabled() and not torch.is_autocast_enabled(kind)


def moved(x: Tensor, places: Tensor, back: Tensor) -> Tensor:
    """Rows of x at `places`, each at most once, zero where a place is len(x).

    x: (M, d), places: (P,), back: (M,) its inverse, P for a row that is left out -> (P, d).
    """
    return _Moved.apply(x, places, back)  # type: ignore[return-value]


class _Moved(torch.autograd.Function):
    """Backward, rows move back: selecting is several times quicker than adding at an index."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(places, back)
        return _selected(x, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        _, back = ctx.saved_tensors
        return _selected(gradients[0], back), None, None


def _selected(x: Tensor, places: Tensor) -> Tensor:
    """Rows of x, and one of zeros behind them."""
    return F.pad(x, (0, 0, 0, 1)).index_select(0, places)


def real(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Where the W real fragments lie, and the number of each place among them, W where padded: for `moved`.

    mask: (B, N) bool -> (W,), (B * N,) int64.
    """
    places = mask.flatten().nonzero().squeeze(1)
    back = places.new_full((mask.numel(),), len(places))
    back[places] = torch.arange(len(places), device=mask.device)
    return places, back


def of_real(function: Callable[[Tensor], Tensor], x: Tensor, mask: Tensor) -> Tensor:
    """What a function makes of the real fragments, row by row; zeros where padded.

    function: (W, E) -> (W, d); x: (B, N, E), mask: (B, N) bool -> (B, N, d).
    """
    places, back = real(mask)
    return moved(function(moved(x.flatten(0, 1), places, back)), back, places).view(*mask.shape, -1)


def mapped(linear: nn.Linear, x: Tensor, mask: Tensor) -> Tensor:
    """A linear map of real fragments; what padding becomes has no meaning.

    x: (B, N, E), mask: (B, N) bool -> (B, N, d).
    """
    return of_real(linear, x, mask) if here(x) and not mask.all() else linear(x)
