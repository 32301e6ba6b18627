"""Tensors in, tensors out: the compiled passes as functions that torch can differentiate, once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.fused import blocks, cosines, maxima
from models.fused.weighing import Weighing

FOCUSES = ("", "equal", "prob", "threshold")
FEW = 2**15  # products that are not worth a second thread


def attended_cosines(
    scores: Tensor, context_gram: Tensor, query_squares: Tensor, weighing: Weighing, context_mask: Tensor | None
) -> Tensor:
    """`models.fused.attended_cosines`."""
    real = scores.new_ones(scores.shape[:2]).bool() if context_mask is None else context_mask
    return _Cosines.apply(scores.contiguous(), context_gram, query_squares, weighing, real)  # type: ignore[no-any-return]


class _Cosines(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, context_gram: Tensor, query_squares: Tensor, weighing: Weighing, real: Tensor
    ) -> Tensor:
        ctx.weighing = weighing
        ctx.save_for_backward(scores, context_gram, query_squares, real)
        found = scores.new_empty(scores.shape[0], *scores.shape[2:])
        _filled(cosines.cosines, (scores, context_gram, query_squares, real), _told(weighing), found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        scores, context_gram, query_squares, real = ctx.saved_tensors
        inputs, told = _flat(scores, context_gram, query_squares, real), _told(ctx.weighing)
        to_scores = torch.empty_like(scores, memory_format=torch.contiguous_format)
        to_gram = torch.empty_like(context_gram, memory_format=torch.contiguous_format)
        (grad,), written = _flat(grads[0]), _flat(to_scores, to_gram)

        def part(span: tuple[int, int]) -> Tensor:
            to_squares = query_squares.new_zeros(query_squares.shape)
            cosines.cosines_back(*inputs, _inner(scores), span, *told, grad, *written, *_flat(to_squares))
            return to_squares

        parts = _shared(scores, part)
        return to_scores, to_gram, torch.stack(parts).sum(0), None, None


def largest(scores: Tensor, context_mask: Tensor | None) -> Tensor:
    """`models.fused.largest`."""
    real = scores.new_ones(scores.shape[:2]).bool() if context_mask is None else context_mask
    return _Largest.apply(scores.contiguous(), real)  # type: ignore[no-any-return]


class _Largest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, real: Tensor) -> Tensor:
        found = scores.new_empty(scores.shape[0], *scores.shape[2:])
        ctx.save_for_backward(scores, real, found)
        _filled(maxima.largest, (scores, real), (), found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        scores, real, found = ctx.saved_tensors
        to_scores = torch.empty_like(scores)
        _filled(maxima.largest_back, (scores, real), (), found, grads[0], to_scores)
        return to_scores, None


def block_cosines(attended: Tensor, queries: Tensor, least: float) -> Tensor:
    """`models.fused.block_cosines`."""
    return _BlockCosines.apply(attended.contiguous(), queries.contiguous(), queries.square().sum(1), least)  # type: ignore[no-any-return]


class _BlockCosines(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, attended: Tensor, queries: Tensor, squares: Tensor, least: float) -> Tensor:
        ctx.least = least
        ctx.save_for_backward(attended, queries, squares)
        found = attended.new_empty(len(attended), *squares.shape)
        _filled(blocks.cosines, (attended, queries, squares), (least,), found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        attended, queries, squares = ctx.saved_tensors
        to_attended = torch.empty_like(attended)
        inputs, (grad, written) = _flat(attended, queries, squares), _flat(grads[0], to_attended)

        def part(span: tuple[int, int]) -> tuple[Tensor, Tensor]:
            sums = torch.zeros_like(queries), torch.zeros_like(squares)
            blocks.cosines_back(*inputs, _inner(attended), span, ctx.least, grad, written, *_flat(*sums))
            return sums

        to_queries, to_squares = (torch.stack(parts).sum(0) for parts in zip(*_shared(attended, part), strict=True))
        return to_attended, to_queries, to_squares, None


def _filled(compiled: Callable[..., Any], inputs: Sequence[Tensor], told: Sequence[Any], *out: Tensor) -> None:
    """A pass over the items of the first input.  told: what it hears before `out`, the last of which it writes."""
    read, rest = _flat(*inputs), _flat(*out)
    _shared(inputs[0], lambda span: compiled(*read, _inner(inputs[0]), span, *told, *rest))


def _inner(scores: Tensor) -> tuple[int, int, int]:
    """All sizes but the first, such as (C, Q, Y)."""
    return scores.shape[1], scores.shape[2], scores.shape[3]


def _flat(*tensors: Tensor) -> list[np.ndarray]:
    """Their numbers in one row each; of contiguous tensors no copy."""
    return [tensor.detach().contiguous().view(-1).numpy() for tensor in tensors]


def _told(weighing: Weighing) -> tuple[tuple[float, ...], tuple[int, float], bool, tuple[float, float]]:
    """A weighing as compiled passes want it."""
    return (
        (float(weighing.lam), weighing.slope, weighing.order, weighing.shifted, weighing.eps),
        (FOCUSES.index(weighing.focus), float(weighing.value)),
        weighing.mean,
        (weighing.least, weighing.endless),
    )


def _shared(scores: Tensor, call: Callable[[tuple[int, int]], Any]) -> list[Any]:
    """Calls with the first and last of some items of the context side, as many times as torch has threads."""
    items, threads = len(scores), torch.get_num_threads()
    threads = min(threads, items) if scores.numel() > FEW else 1
    if threads == 1:
        return [call((0, items))]
    ends = [items * thread // threads for thread in range(threads + 1)]
    return list(_pool(os.getpid(), threads).map(call, pairwise(ends)))


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:  # noqa: ARG001
    """Threads that wait for work; a forked process gets its own."""
    return ThreadPoolExecutor(threads, "fused")
