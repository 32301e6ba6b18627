"""SGRAF and IMRAM as published: one caption at a time against all images, attended vectors and all.

Slow twins of the fast scorers; they read the weights of the same models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.interactive.imram import IMRAM, RecurrentMatching
from baselines.interactive.sgraf import SGRAF
from harness.protocol import Encoded

Reference = Callable[..., Tensor]


def unit(x: Tensor) -> Tensor:
    return x / (x.norm(dim=-1, keepdim=True) + 1e-8)


def attended(queries: Tensor, context: Tensor, lam: float) -> Tensor:
    """SCAN's attention of N pairs.  queries: (N, Q, d), context: (N, C, d) -> (N, Q, d)."""
    relevance = F.leaky_relu(context @ queries.mT, 0.1)  # (N, C, Q)
    return (lam * unit(relevance)).mT.softmax(-1) @ context


def captions(images: Encoded, texts: Encoded) -> Iterator[Tensor]:
    """The words of each caption, once for every image: (N, L, d)."""
    for words, mask in zip(texts.contextual, texts.mask, strict=True):
        yield words[mask].repeat(len(images), 1, 1)


def sgraf(model: SGRAF, images: Encoded, texts: Encoded) -> Tensor:
    """(N, M), of either module.  Images without padding."""
    columns = []
    for words, gist in zip(captions(images, texts), texts.embedding, strict=True):
        local = (unit(attended(words, images.contextual, model.options.lam)) - words).square()
        whole = (images.embedding - gist).square()
        nodes = unit(torch.cat([model.global_similarity(whole)[:, None], model.local_similarity(local)], 1))
        if model.options.module == "sgr":
            for step in model.reasoning.steps:
                edges = (step.query(nodes) @ step.key(nodes).mT).softmax(-1)
                nodes = step.out(edges @ nodes).relu()
            reasoned = nodes[:, 0]
        else:
            gates = model.reasoning.norm(model.reasoning.gate(nodes).flatten(0, 1)).sigmoid().view(nodes.shape[:2])
            gates = gates / gates.sum(1, keepdim=True)
            reasoned = unit((gates[:, None] @ nodes).squeeze(1))
        columns.append(model.score(reasoned).sigmoid().squeeze(1))
    return torch.stack(columns, 1)


def _steps(side: RecurrentMatching, queries: Tensor, context: Tensor) -> Tensor:
    """The scores of all steps, added.  queries: (N, Q, d), context: (N, C, d) -> (N,)."""
    memory, total = queries, torch.zeros(len(queries))
    for step in range(side.options.steps):
        seen = attended(memory, context, side.options.lam)
        total = total + F.cosine_similarity(queries, seen, dim=2).mean(1)
        if step < side.options.steps - 1:
            gate, candidate = side.update(torch.cat([memory, seen], 2)).chunk(2, dim=2)
            memory = gate.sigmoid() * memory + (1 - gate.sigmoid()) * candidate.tanh()
            memory = unit(memory) if side.options.memory_norm else memory
    return total


def imram(model: IMRAM, images: Encoded, texts: Encoded) -> Tensor:
    """(N, M), of any mode.  Images without padding.  The published loop computes the last update too, and drops it."""
    columns = []
    for words in captions(images, texts):
        total = torch.zeros(len(images))
        if "text" in model.matching:
            total = total + _steps(model.matching["text"], words, images.contextual)
        if "image" in model.matching:
            total = total + _steps(model.matching["image"], images.contextual, words)
        columns.append(total)
    return torch.stack(columns, 1)


REFERENCES: Mapping[str, Reference] = {
    "sgraf:sgr": sgraf,
    "sgraf:saf": sgraf,
    "imram:text": imram,
    "imram:image": imram,
    "imram:full": imram,
}
