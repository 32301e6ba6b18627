"""Compiled passes over all pairs: what follows products of fragments, in one pass forward and one back.

The equations are those of `models.attention` and of the methods, which compute them one tensor after another wherever
a pass does not serve: without numba, on a GPU, in half precision, under autocast, `vmap` or `torch.compile`, or where
the environment says `HARNESS_KERNELS=plain`.  Results are equal but for rounding.  numba is imported, and a pass
compiled or read from the user's cache, where pairs are first scored.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

if TYPE_CHECKING:
    from models.fused.weighing import Weighing

SWITCH = "HARNESS_KERNELS"  # "plain" leaves everything to torch
SERVED = (torch.float32, torch.float64)
WIDTH = 16  # numbers that a pass computes at once, such as those of pairs side by side
FEWEST = 4  # numbers side by side, of `WIDTH` computed at once: with fewer, as of a single caption, torch is faster


def installed() -> bool:
    """Whether passes can be compiled here and nobody has switched them off."""
    return os.environ.get(SWITCH) != "plain" and find_spec("numba") is not None


def compiler() -> str | None:
    """Version of what compiles passes here; None where torch computes everything."""
    return f"numba {version('numba')}" if installed() else None


def serves(*tensors: Tensor) -> bool:
    """Whether a compiled pass may compute with these tensors, here and now."""
    first = tensors[0]
    return (
        first.dtype in SERVED
        and all(x.device.type == "cpu" and x.dtype == first.dtype and x.numel() > 0 for x in tensors)
        and not _is_watched()
        and installed()
    )


def pays(numbers: Tensor, *others: Tensor) -> bool:
    """Whether a compiled pass may compute with numbers of which enough lie side by side, such as those of pairs."""
    return numbers.shape[-1] >= FEWEST and serves(numbers, *others)


def _is_watched() -> bool:
    """Whether torch does something else with what is called than compute it, or in another precision."""
    return (
        torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore[reportAttributeAccessIssue]
        or _get_current_dispatch_mode() is not None  # such as one that counts operations
    )


def attended_cosines(
    scores: Tensor, context_gram: Tensor, query_squares: Tensor, weighing: Weighing, context_mask: Tensor | None = None
) -> Tensor:
    """Cosine of every query with what it attends to: `attended_cosine` of `unscaled_weights` in one pass.

    scores: (X, C, Q, Y), context_gram: (X, C, C), query_squares: (Q, Y), context_mask: (X, C) -> (X, Q, Y).
    """
    from models.fused import passes

    return passes.attended_cosines(scores, context_gram, query_squares, weighing, context_mask)


def largest(scores: Tensor, context_mask: Tensor | None = None) -> Tensor:
    """The largest product of every query with a real context fragment; equal ones share its gradient.

    scores: (X, C, Q, Y), context_mask: (X, C) -> (X, Q, Y).
    """
    from models.fused import passes

    return passes.largest(scores, context_mask)


def block_cosines(attended: Tensor, queries: Tensor, least: float) -> Tensor:
    """Cosines of what every query attends to with the query, a block of features at a time, in one pass.

    attended: (X, B, E, N) of X items, B blocks of E features and N queries, queries: (B, E, N), least: the product of
    both squared lengths is no smaller -> (X, B, N).
    """
    from models.fused import passes

    return passes.block_cosines(attended, queries, least)
