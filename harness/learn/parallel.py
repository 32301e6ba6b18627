"""One training step by several processes of torch.distributed; the loss is that of the whole batch, on each of them.

Each encodes its part of the batch; encodings are gathered, and everybody computes the whole loss, with all negatives.
The scores of pairs, where most of an interactive model's time goes, are shared out by rows of images and gathered too.
What is minimised is the mean of the processes' losses, which are equal: the gradient of a gathered tensor is the sum
over processes, that of the weights their mean, and both are those of one process with the whole batch.

Batch normalisation (`models.norm`) gathers its rows, so that statistics are of the whole batch.  What is drawn at
random while encoding (dropout, words left out) each process draws for its part: equally likely, but other numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.protocol import Encoded, PairBatch, Retriever, from_tensors
from harness.spec.job import SpecError
from models.norm import MaskedBatchNorm

T = TypeVar("T")
ALIGNED = ("fragments", "contextual", "mask")  # fields of an encoded side whose second axis is as long as its mask's


class ProcessLost(RuntimeError):
    """Another process of the group is gone, or does not answer in time."""


class Alone:
    """One process: the step as it stands."""

    first = True  # whether this process evaluates, stores and tells

    def encoded(self, model: Retriever, batch: PairBatch, seed: int) -> tuple[Encoded, Encoded]:  # noqa: ARG002
        """Both sides of the whole batch."""
        return model.encode_images(batch.images), model.encode_texts(batch.texts)

    def losses(self, model: Retriever, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:
        return model.losses(images, texts, batch)

    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Makes their gradients those of the whole batch."""

    def agreed(self, find: Callable[[], float]) -> float:
        """What the first process finds."""
        return find()

    def wait(self) -> None:
        """Until all are here."""


ALONE = Alone()


class Together(Alone):
    """A process of a group; `torch.distributed` is initialised."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.first = self.rank == 0

    def encoded(self, model: Retriever, batch: PairBatch, seed: int) -> tuple[Encoded, Encoded]:
        """Raises SpecError where there are fewer pairs than processes."""
        if len(batch.image_index) < self.count:
            raise SpecError(f"a batch of {len(batch.image_index)} pairs cannot be shared by {self.count} processes")
        torch.manual_seed(_drawn(seed, batch.update, self.rank + 1))
        own = self._own(len(batch.image_index))
        with self._whole_batches(model):
            images, texts = model.encode_images(_part(batch.images, own)), model.encode_texts(_part(batch.texts, own))
        torch.manual_seed(_drawn(seed, batch.update, 0))  # what losses draw is the same everywhere
        return self._gathered(images), self._gathered(texts)

    def losses(self, model: Retriever, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:
        if model.family != "interactive":
            return model.losses(images, texts, batch)
        with _standing_in(model, "similarity", partial(self._similarity, model.similarity)):
            return model.losses(images, texts, batch)

    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        answered(lambda: dist.all_reduce(flat))
        for gradient, whole in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(whole.view_as(gradient) / self.count)

    def agreed(self, find: Callable[[], float]) -> float:
        found = torch.tensor(find() if self.first else 0.0, dtype=torch.float64, device=self._device())
        answered(lambda: dist.broadcast(found, 0))
        return float(found)

    def wait(self) -> None:
        answered(dist.barrier)

    def _device(self) -> str:
        return "cuda" if dist.get_backend() == "nccl" else "cpu"

    def _own(self, length: int) -> slice:
        """The part of this process, one more for some where it does not divide."""
        return slice(self.rank * length // self.count, (self.rank + 1) * length // self.count)

    def _similarity(self, score: Callable[[Encoded, Encoded], Tensor], images: Encoded, texts: Encoded) -> Tensor:
        """(N, M), each process having computed some rows."""
        if len(images) < self.count:
            return score(images, texts)
        return self.gather(score(images.select(self._own(len(images))), texts))

    def _gathered(self, side: Encoded) -> Encoded:
        """The whole batch, fragments padded to the longest of all."""
        tensors = side.tensors()
        if side.mask is not None:
            longest = torch.tensor(side.mask.shape[1], device=side.mask.device)
            answered(lambda: dist.all_reduce(longest, dist.ReduceOp.MAX))
            missing = int(longest) - side.mask.shape[1]
            for name in set(ALIGNED) & set(tensors):
                tensors[name] = F.pad(tensors[name], (0, 0) * (tensors[name].ndim - 2) + (0, missing))
        return from_tensors({name: self.gather(tensors[name]) for name in sorted(tensors)})

    def gather(self, part: Tensor) -> Tensor:
        """Parts of all processes after one another, with a gradient.  Raises ValueError where their shapes differ."""
        shape = torch.tensor([*part.shape], device=part.device)
        shapes = [torch.empty_like(shape) for _ in range(self.count)]
        answered(lambda: dist.all_gather(shapes, shape))
        told = [tuple(s.tolist()) for s in shapes]
        if len({s[1:] for s in told}) > 1:
            raise ValueError(f"processes encode parts of a batch to unlike shapes: {', '.join(map(str, told))}")
        sizes = [s[0] for s in told]
        if part.is_floating_point():
            return _Gather.apply(part, sizes, self.rank)  # type: ignore[return-value]
        whole = _all(part.to(torch.int64), sizes)
        return whole.to(part.dtype)

    @contextmanager
    def _whole_batches(self, model: nn.Module) -> Iterator[None]:
        """Meanwhile batch normalisation sees the rows of all processes."""
        norms = [module for module in model.modules() if isinstance(module, MaskedBatchNorm)]
        for norm in norms:
            norm.of_rows = partial(self._normalised, norm)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for norm in norms:
                del norm.of_rows

    def _normalised(self, norm: MaskedBatchNorm, rows: Tensor) -> Tensor:
        """(M, d) of this process, by statistics of all."""
        if not norm.training:
            return MaskedBatchNorm.of_rows(norm, rows)
        here = torch.tensor(len(rows), device=rows.device)
        counts = [torch.empty_like(here) for _ in range(self.count)]
        answered(lambda: dist.all_gather(counts, here))
        before = int(sum(counts[: self.rank]))
        return MaskedBatchNorm.of_rows(norm, self.gather(rows))[before : before + len(rows)]


def check(model: nn.Module) -> None:
    """Raises SpecError where a model cannot be trained by several processes and stay what it is."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, MaskedBatchNorm):
            raise SpecError(
                f"--processes: {type(model).__name__} normalises by statistics of its batch in {name}, a "
                f"{type(module).__name__}, which several processes do not share: train it in one"
            )


def answered(call: Callable[[], T]) -> T:
    """What a collective gives.  Raises ProcessLost where not all processes take part."""
    try:
        return call()
    except RuntimeError as error:
        raise ProcessLost(" ".join(str(error).split())[:200]) from None


class _Gather(torch.autograd.Function):
    """Parts of all processes after one another; backward, every process gets the sum of all gradients of its part."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, sizes: list[int], rank: int) -> Tensor:
        ctx.start, ctx.length = sum(sizes[:rank]), sizes[rank]
        return _all(part, sizes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        whole = (
            gradient.float().contiguous()
            if gradient.dtype.itemsize < 4
            else gradient.clone(memory_format=torch.contiguous_format)
        )
        answered(lambda: dist.all_reduce(whole))
        return whole[ctx.start : ctx.start + ctx.length].to(gradient.dtype), None, None


def _all(part: Tensor, sizes: Sequence[int]) -> Tensor:
    """Padded to the largest part and cut again: collectives take equal shapes alone."""
    padded = part.new_zeros((max(sizes), *part.shape[1:]))
    padded[: len(part)] = part.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    answered(lambda: dist.all_gather(parts, padded))
    return torch.cat([one[:size] for one, size in zip(parts, sizes, strict=True)])


def _part(value: T, own: slice) -> T:
    """A batch cut to some of its items, whatever it holds."""
    if isinstance(value, Tensor | tuple):
        return value[own]  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _part(getattr(value, f.name), own) for f in fields(value)})
    return value


def _drawn(*numbers: int) -> int:
    """A seed made of several."""
    return int(np.random.default_rng(numbers).integers(2**62))


@contextmanager
def _standing_in(model: nn.Module, name: str, other: Callable[..., Any]) -> Iterator[None]:
    """Meanwhile an instance has another method of that name."""
    setattr(model, name, other)
    try:
        yield
    finally:
        delattr(model, name)
