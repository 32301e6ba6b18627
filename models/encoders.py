"""The two encoders nearly every method starts from, and the two ways of giving a vector unit length.

Regions pass one linear map; words are looked up (or come from a pretrained text model) and are then read by a GRU.
Nothing here has unit length but the embedding of `CaptionReader`: a method says itself what it normalises.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from harness.protocol import Encoded, Inputs, TextBatch
from models import recurrent, rows
from models.recurrent import Order
from models.rows import mapped, moved

SHORTEST = 1e-12  # length by which `unit` divides


def l2(x: Tensor, eps: float = 1e-8) -> Tensor:
    """`x / (|x| + eps)` over the last axis, constant added to the norm (SCAN, Lee et al. 2018).  Same shape as x.

    A zero vector stays zero, without gradient: 1 / eps of it would drown all others.
    """
    length = x.norm(dim=-1, keepdim=True)
    if torch.is_grad_enabled():
        x = x.masked_fill(length == 0, 0.0)
    return x / (length + eps)


def unit(x: Tensor) -> Tensor:
    """`x / max(|x|, 1e-12)` over the last axis.  Same shape as x; a zero vector stays zero, without gradient."""
    return _Unit.apply(x)  # type: ignore[return-value]


class _Unit(torch.autograd.Function):
    """Backward, what points along the vector has no effect: `(g - y <g, y>) / |x|`, half of the passes of autograd."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        length = x.norm(dim=-1, keepdim=True)
        by = length.clamp(min=SHORTEST).masked_fill_(length == 0, float("inf"))
        y = x / by
        ctx.save_for_backward(y, by)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        y, by = ctx.saved_tensors
        (gradient,) = gradients
        along = (gradient * y).sum(-1, keepdim=True).masked_fill_(by == SHORTEST, 0.0)
        return torch.addcmul(gradient, y, along, value=-1).div_(by)


class RegionProjection(nn.Module):
    """One linear map per region, weights from U(-b, b) with b = sqrt(6 / (in + out)), no initial bias (VSE++, SCAN)."""

    def __init__(self, image_dim: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(image_dim, dim)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, fragments: Tensor) -> Tensor:
        """fragments: (B, R, D) -> (B, R, d)."""
        return self.linear(fragments)


class WordVectors(nn.Module):
    """A vector of width E per word: a table from U(-0.1, 0.1), or the states of `inputs.token_states`."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        if inputs.token_states is None:
            self.source = nn.Embedding(inputs.vocabulary, inputs.word_dim)
            nn.init.uniform_(self.source.weight, -0.1, 0.1)
            self.width = inputs.word_dim
        else:
            self.source = inputs.token_states()
            self.width = int(self.source.width)  # type: ignore[arg-type]

    @property
    def frozen(self) -> bool:
        """Whether the vectors never learn, so that those of a caption can be kept."""
        return not any(weight.requires_grad for weight in self.source.parameters())

    def forward(self, texts: TextBatch) -> Tensor:
        """B captions of L words -> (B, L, E)."""
        if isinstance(self.source, nn.Embedding):
            return self.source(texts.tokens)
        return self.source(texts.tokens, texts.mask)


class BiGRU(nn.Module):
    """One bidirectional layer; each word gets the mean of both directions (SCAN).  PyTorch's initialisation."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, dim, batch_first=True, bidirectional=True)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """vectors: (B, L, E), mask: (B, L) with the real words first -> (B, L, d), exactly zero where padded.

        Captions of one length are not packed, which costs a third of reading them.
        """
        if rows.here(vectors):
            return (self._read(vectors, mask) + self._read(vectors, mask, backwards=True)) / 2
        if mask.all():
            states = self.gru(vectors)[0]
        else:
            lengths = mask.sum(1).cpu()  # packing wants lengths on the CPU
            packed = pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
            states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=mask.shape[1])
        forward, backward = states.chunk(2, dim=-1)
        return (forward + backward) / 2

    def _read(self, vectors: Tensor, mask: Tensor, backwards: bool = False) -> Tensor:
        """One direction, (B, L, d)."""
        order = Order.of(mask.sum(1), mask.shape[1], backwards)
        states = recurrent.states(self.gru, vectors.flatten(0, 1), order, "_reverse" if backwards else "")
        return moved(states, order.back, order.places).view(*mask.shape, -1)


class ForwardGRU(nn.Module):
    """One layer that reads left to right (VSE++).  PyTorch's initialisation."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, dim, batch_first=True)

    def forward(self, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """vectors: (B, N, E), mask: (B, N) with the real fragments first.

        Returns states (B, N, d), exactly zero where padded, and the state at the last real fragment (B, d).  Padding is
        not read: no state would see it, but steps over it can be half of all.
        """
        if rows.here(vectors):
            return self._read(vectors, mask)
        if mask.all():
            states, last = self.gru(vectors)
            return states, last[0]
        lengths = mask.sum(1).clamp(min=1).cpu()  # packing wants lengths on the CPU, and something to read
        packed = pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
        read, last = self.gru(packed)
        states, _ = pad_packed_sequence(read, batch_first=True, total_length=mask.shape[1])
        return states * mask[..., None], last[0]

    def _read(self, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        lengths = mask.sum(1).clamp(min=1)
        order = Order.of(lengths, mask.shape[1])
        read = recurrent.states(self.gru, vectors.flatten(0, 1), order)
        states = moved(read, order.back, order.places)  # (B * N, d)
        ends = torch.arange(len(mask)) * mask.shape[1] + lengths - 1  # (B,)
        return states.view(*mask.shape, -1) * mask[..., None], states[ends]


class CaptionReader(nn.Module):
    """The text side of VSE++ and VSRN: word vectors, a forward GRU, the unit state at the last word as embedding.

    `word_projection` puts Linear(E -> d) before the GRU, as SelfAlign's hosts have it: its words are then `fragments`,
    which stay None without.  `contextual` are the GRU states.
    """

    def __init__(self, inputs: Inputs, word_projection: bool) -> None:
        super().__init__()
        self.words = WordVectors(inputs)
        self.projection = nn.Linear(self.words.width, inputs.dim) if word_projection else None
        self.gru = ForwardGRU(inputs.dim if word_projection else self.words.width, inputs.dim)

    def forward(self, texts: TextBatch) -> Encoded:
        """B captions of L words -> embedding (B, d), fragments and contextual (B, L, d)."""
        words = self.words(texts)  # (B, L, E)
        projected = None if self.projection is None else mapped(self.projection, words, texts.mask)  # (B, L, d)
        states, last = self.gru(words if projected is None else projected, texts.mask)
        return Encoded(embedding=unit(last), fragments=projected, contextual=states, mask=texts.mask)
