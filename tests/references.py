"""Scores as papers compute them: one caption at a time against all images, every attended vector formed.

Slow and plain on purpose: what the harness's scorers must agree with, and what `make bench` sets them against.
Images have no padded regions here.  A reference takes a model, N encoded images and M encoded captions -> (N, M).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.protocol import Encoded

Reference = Callable[[Any, Encoded, Encoded], Tensor]
OneCaption = Callable[[Any, Tensor, Tensor, Encoded], Tensor]


def per_caption(score: OneCaption) -> Reference:
    """`score(model, regions (N, R, d), words (N, L, d), images) -> (N,)`, caption by caption."""

    def scores(model: Any, images: Encoded, texts: Encoded) -> Tensor:
        columns = []
        for words, mask in zip(texts.contextual, texts.mask, strict=True):
            repeated = words[mask].expand(len(images), -1, -1)
            columns.append(score(model, images.contextual, repeated, images))
        return torch.stack(columns, 1)

    return scores


def attention(queries: Tensor, context: Tensor, lam: float) -> Tensor:
    """Weights (N, Q, C) of stacked cross attention.  queries: (N, Q, d), context: (N, C, d)."""
    relevance = F.leaky_relu(context @ queries.mT, 0.1)  # (N, C, Q)
    relevance = relevance / (relevance.norm(dim=2, keepdim=True) + 1e-8)
    return (lam * relevance).softmax(1).mT.contiguous()


def scan(model: Any, regions: Tensor, words: Tensor, _: Encoded) -> Tensor:
    options = model.options
    queries, context = (words, regions) if options.direction == "t2i" else (regions, words)
    cosines = F.cosine_similarity(queries, attention(queries, context, options.lam) @ context, dim=2)
    if options.aggregation == "mean":
        return cosines.mean(1)
    return (options.mu * cosines).logsumexp(1) / options.mu


def focused(queries: Tensor, context: Tensor, lam: float, focus: str) -> Tensor:
    """BFAN in one direction: mean cosine with what stays of the attention, (N,)."""
    p = attention(queries, context, lam)  # (N, Q, C)
    if focus == "equal":
        keep = p.shape[2] * p - p.sum(2, keepdim=True) > 0
    else:
        keep = ((p[..., :, None] - p[..., None, :]) * p.sqrt()[..., None, :]).sum(3) > 0
    kept = p * (keep | ~keep.any(2, keepdim=True))
    attended = (kept / kept.sum(2, keepdim=True)) @ context
    return F.cosine_similarity(queries, attended, dim=2).mean(1)


def bfan(model: Any, regions: Tensor, words: Tensor, _: Encoded) -> Tensor:
    lam, focus = model.options.lam, model.options.focus
    return focused(words, regions, lam, focus) + focused(regions, words, lam, focus)


def chan(model: Any, images: Encoded, texts: Encoded) -> Tensor:
    """As published all captions at once, padded to the longest."""
    scores = torch.einsum("ird,jld->ijrl", images.contextual, texts.contextual)
    best = scores.amax(2).masked_fill(~texts.mask, float("-inf"))  # (N, M, L)
    return (best / model.options.temperature).logsumexp(2)


def naaf(model: Any, regions: Tensor, words: Tensor, _: Encoded) -> Tensor:
    """At test time."""
    options, threshold = model.options, model.safe_threshold
    scores = words @ regions.mT  # (N, L, R)
    distance = scores.amax(2) - threshold  # (N, L)
    smoothed = (options.smoothing * words @ words.mT).softmax(2) @ distance[..., None]
    missing = distance * (smoothed.squeeze(2) < 0)
    above = (options.lam * (scores - threshold)).exp() * (scores > threshold)
    attended = above / (above.sum(2, keepdim=True) + 1e-8) @ regions
    found = (words * attended).sum(2) / attended.norm(dim=2).clamp(min=1e-8)
    seen = (attention(words, regions, options.lam) * scores).sum(2)
    return (missing + found + seen).mean(1)


def gsmn(model: Any, regions: Tensor, words: Tensor, images: Encoded) -> Tensor:
    options = model.options

    def matches(queries: Tensor, context: Tensor) -> Tensor:
        attended = attention(queries, context, options.lam) @ context
        blocks = [x.unflatten(2, (options.blocks, -1)) for x in (queries, attended)]
        return F.cosine_similarity(*blocks, dim=3)  # (N, Q, blocks)

    def graph(convolution: Any, nodes: Tensor, edges: Tensor) -> Tensor:
        """nodes: (N, Q, blocks), edges: (N, Q, Q, K) -> (N,)."""
        read = torch.einsum("nijk,njb->nikb", edges, nodes)
        maps = convolution.project.weight.unflatten(0, (edges.shape[3], -1))  # (K, h, blocks)
        hidden = torch.einsum("nikb,khb->nikh", read, maps).flatten(2)
        if convolution.project.bias is not None:
            hidden = hidden + convolution.project.bias
        return convolution.out(convolution.hidden(hidden).tanh()).mean((1, 2))

    relations = (options.lam * words @ words.mT).softmax(2)[..., None]
    image = graph(model.image_graph, matches(regions, words), model.kernels(images.extras["centres"]))
    return image + graph(model.text_graph, matches(words, regions), relations)


def camp(model: Any, regions: Tensor, words: Tensor, _: Encoded) -> Tensor:
    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return (query @ key.mT / key.shape[2] ** 0.5).softmax(2) @ value

    def unit(x: Tensor) -> Tensor:
        return x / (x.norm(dim=-1, keepdim=True) + 1e-8)

    def gathered(side: Any, queries: Tensor, context: Tensor) -> Tensor:
        messages = attend(side.query(queries), side.key(context), context)
        messages = unit(attend(side.hop_query(messages), side.hop_key(messages), messages))
        gates = (queries * messages).sum(2, keepdim=True).sigmoid()
        fused = queries + side.fusion(torch.cat([queries, messages], 2) * gates).relu()
        weights = side.heads(side.hidden(fused).relu()).softmax(1)  # (N, Q, heads)
        return unit((weights.mT @ fused).mean(1))

    pair = gathered(model.region_side, regions, words), gathered(model.word_side, words, regions)
    return model.match(torch.cat(pair, 1)).squeeze(1).sigmoid()


REFERENCES: dict[str, Reference] = {
    "scan": per_caption(scan),
    "bfan": per_caption(bfan),
    "chan": chan,
    "naaf": per_caption(naaf),
    "gsmn": per_caption(gsmn),
    "camp": per_caption(camp),
}
