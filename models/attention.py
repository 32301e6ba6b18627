"""Stacked cross attention (SCAN, Lee et al., ECCV 2018, section 3) for all image-caption pairs of a block at once.

The fragments of one side are *queries*, those of the other their *context*: words query regions, or regions query
words.  What most methods want of the vector a query attends to is its cosine with the query, and that needs no
d-dimensional vector per pair.  With products S_c = <V_c, q> and weights P_c over the context fragments V_c,

    <q, sum_c P_c V_c> = sum_c P_c S_c        |sum_c P_c V_c|^2 = P^T (V V^T) P

so one matrix product for all pairs and a small Gram matrix per context item say everything.

Letters in shapes: X items of the context side with C fragments each, Y items of the query side with Q fragments each.
Tensors over pairs are (X, C, Q, Y): whatever is reduced runs over an outer axis, the innermost one stays contiguous.
Padded fragments are zero vectors, `without_padding` sees to it, and every item has at least one real fragment.  A mask
is None where nothing is padded, which spares the passes over all pairs that masking costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.protocol import Encoded
from models import fused
from models.fused.weighing import Weighing
from models.options import one_of

SLOPE = 0.1  # of negative products that are clipped
EPS = 1e-8  # added to a norm, and the least product of two lengths in a cosine
ENDLESS = 1e30  # squared length that stands for that of a zero query
MOST = 25.0  # largest `lam` of unscaled weights: their squares then stay clear of EPS and of overflow


def without_padding(encoded: Encoded) -> tuple[Tensor, Tensor | None]:
    """What a side brings to attention: `contextual` (B, N, d), zero where padded, and its mask (B, N) or None.

    Raises ValueError where the side has no contextual fragments.
    """
    if encoded.contextual is None:
        raise ValueError("an interactive model must fill `contextual` on both sides")
    if encoded.mask is None or is_full(encoded.mask):
        return encoded.contextual, None
    return encoded.contextual.masked_fill(~encoded.mask[..., None], 0.0), encoded.mask


def is_full(mask: Tensor) -> bool:
    """Whether a mask hides nothing.  Of pairs side by side (`vmap`) nobody can tell: then it may."""
    batched = torch._C._functorch.is_batchedtensor(mask)  # pyright: ignore[reportAttributeAccessIssue]
    return not batched and bool(mask.all())


def products(context: Tensor, queries: Tensor) -> Tensor:
    """Inner products of all fragments; `.permute(3, 2, 1, 0)` of the result is the opposite direction.

    context: (X, C, d), queries: (Y, Q, d) -> (X, C, Q, Y).
    """
    packed = queries.transpose(0, 1).flatten(0, 1)  # (Q * Y, d)
    scores = context.flatten(0, 1) @ packed.T  # (X * C, Q * Y)
    return scores.view(*context.shape[:2], queries.shape[1], len(queries))


def _clip(rows: Tensor) -> Tensor:
    return F.leaky_relu(rows, SLOPE)


def _over_l1(rows: Tensor) -> Tensor:
    return rows / (rows.abs().sum(2, keepdim=True) + EPS)


def _over_l2(rows: Tensor) -> Tensor:
    squares = rows.square().sum(2, keepdim=True)
    return rows / (squares.clamp(min=1e-30).sqrt() + EPS)  # clamped, for the root has no slope at zero


NORMS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "clipped_l2norm": lambda rows: _over_l2(_clip(rows)),
    "l2norm": _over_l2,
    "clipped_l1norm": lambda rows: _over_l1(_clip(rows)),
    "l1norm": _over_l1,
    "clipped": _clip,
    "softmax": lambda rows: rows.softmax(2),
    "no_norm": lambda rows: rows,
}


def normalised(scores: Tensor, norm: str, query_mask: Tensor | None = None) -> Tensor:
    """The products of each context fragment, normalised across the queries of a pair (SCAN, eq. 1).

    scores: (X, C, Q, Y), query_mask: (Y, Q) -> (X, C, Q, Y).  Raises ValueError where `norm` is not one of `NORMS`.
    """
    one_of("norm", norm, tuple(NORMS))
    if norm == "softmax" and query_mask is not None:  # the other norms do not see a product that is zero
        scores = scores.masked_fill(~query_mask.T, float("-inf"))
    return NORMS[norm](scores)


def attention_weights(relevance: Tensor, lam: float, context_mask: Tensor | None = None) -> Tensor:
    """What each query attends to: the softmax of `lam * relevance` over the context (SCAN, eq. 3).

    relevance: (X, C, Q, Y), context_mask: (X, C) -> (X, C, Q, Y), zero on padded context, summing to 1 over C.
    """
    logits = lam * relevance
    if context_mask is not None:
        logits = logits.masked_fill(~context_mask[:, :, None, None], float("-inf"))
    return logits.softmax(1)


def unscaled_weights(
    scores: Tensor,
    lam: float,
    norm: str,
    query_mask: Tensor | None = None,
    context_mask: Tensor | None = None,
) -> Tensor:
    """`attention_weights(normalised(scores))` up to a positive factor per query, which a cosine does not see.

    A norm that bounds the products bounds the exponents by `lam`: the softmax then needs neither its shift nor its sum.
    Half of `lam` is added to them, so that the square of an attended vector lies between e^-lam and e^(3 lam).
    Shapes as there; in float32 at least.  Raises ValueError where `norm` is not one of `NORMS`.
    """
    scores = scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
    if lam > MOST or norm not in ("clipped_l2norm", "l2norm", "clipped_l1norm", "l1norm"):
        return attention_weights(normalised(scores, norm, query_mask), lam, context_mask)
    rows = _clip(scores) if norm.startswith("clipped") else scores
    if norm.endswith("l2norm"):
        lengths = rows.square().sum(2, keepdim=True).clamp(min=1e-30).sqrt()  # the root has no slope at zero
    else:
        lengths = rows.abs().sum(2, keepdim=True)
    scale = 1 / math.log(2)  # torch computes exp2 thrice as fast as exp
    weights = torch.addcmul(rows.new_tensor(scale * lam / 2), rows, scale * lam / (lengths + EPS)).exp2_()
    return weights if context_mask is None else weights * context_mask[:, :, None, None]


def weighed(lam: float, norm: str, focus: str = "", value: float = 0.0, mean: bool = False) -> Weighing | None:
    """`unscaled_weights` as a compiled pass is told of them, and what it makes of them; None where none serves.

    Raises ValueError where `norm` is not one of `NORMS`.
    """
    one_of("norm", norm, tuple(NORMS))
    if norm == "softmax":
        return None
    slope = SLOPE if norm.startswith("clipped") else 1.0
    order = next((order for order in (1, 2) if f"l{order}" in norm), 0)
    shifted = lam > MOST or not order
    return Weighing(lam, slope, order, shifted, EPS, EPS**2, ENDLESS, focus, value, mean)


def gram(context: Tensor) -> Tensor:
    """Inner products of the fragments of each item.  context: (X, C, d) -> (X, C, C)."""
    return context @ context.mT


def attended_squares(weights: Tensor, context_gram: Tensor) -> Tensor:
    """Squared lengths of the attended vectors, which need not be formed for that.

    weights: (X, C, Q, Y), context_gram: (X, C, C) -> (X, Q, Y).
    """
    flat = weights.flatten(2)  # (X, C, Q * Y)
    return (flat * (context_gram @ flat)).sum(1).unflatten(1, weights.shape[2:])


def attended(weights: Tensor, context: Tensor) -> Tensor:
    """The vectors that the queries of all pairs attend to, mixtures of context fragments by `weights` (SCAN, eq. 2).

    weights: (X, C, Q, Y), context: (X, C, d) -> (X, Q, Y, d); with weights (X, C, Y, Q) -> (X, Y, Q, d).
    """
    return (weights.flatten(2).mT @ context).unflatten(1, weights.shape[2:])


def attended_cosine(weights: Tensor, scores: Tensor, context_gram: Tensor, query_squares: Tensor) -> Tensor:
    """Cosine of every query with its attended vector, the mixture of context fragments by `weights` (SCAN, eq. 2, 4).

    weights, scores: (X, C, Q, Y), weights of any scale and inner products; context_gram: (X, C, C);
    query_squares: (Q, Y), squared lengths of the queries -> (X, Q, Y).  The product of both lengths counts as 1e-8 at
    least, so a zero vector has cosine 0.  A zero query has no direction to learn either: without that, its gradient
    would be 1e8 times that of others, and the slope of a unit length at zero 1e8 times more.
    """
    query_squares = query_squares.masked_fill(query_squares == 0, ENDLESS)
    lengths = (attended_squares(weights, context_gram) * query_squares).clamp(min=EPS**2).sqrt()
    return (weights * scores).sum(1) / lengths


def cross_attention(
    queries: Tensor,
    context: Tensor,
    lam: float,
    norm: str,
    query_mask: Tensor | None = None,
    context_mask: Tensor | None = None,
    context_gram: Tensor | None = None,
) -> Tensor:
    """How well every query fits what it attends to: the cosines of stacked cross attention.

    queries: (Y, Q, d), context: (X, C, d), query_mask: (Y, Q), context_mask: (X, C) -> (X, Q, Y), of no meaning where
    the query is padding.  context_gram: (X, C, C) where it is known already.  Raises ValueError where `norm` is not
    one of `NORMS`.
    """
    scores = products(context, queries)
    context_gram = gram(context) if context_gram is None else context_gram
    squares = queries.square().sum(-1).T
    weighing = weighed(lam, norm)
    if weighing is not None and fused.pays(scores, context_gram, squares):
        return fused.attended_cosines(scores, context_gram, squares, weighing, context_mask)
    weights = unscaled_weights(scores, lam, norm, query_mask, context_mask)
    return attended_cosine(weights, scores, context_gram, squares)


def largest(scores: Tensor, context_mask: Tensor | None = None) -> Tensor:
    """The largest product of every query with a real context fragment.

    scores: (X, C, Q, Y), context_mask: (X, C) -> (X, Q, Y).
    """
    if fused.pays(scores):
        return fused.largest(scores, context_mask)
    if context_mask is not None:
        scores = scores.masked_fill(~context_mask[:, :, None, None], float("-inf"))
    return scores.amax(1)


AGGREGATIONS = ("lse", "mean", "max", "sum")


def aggregated(values: Tensor, how: str, query_mask: Tensor | None = None, mu: float = 1.0) -> Tensor:
    """One score per pair from one value per query; "lse" is `log(sum exp(mu x)) / mu` (SCAN, eq. 5 and 6).

    values: (X, Q, Y), query_mask: (Y, Q) -> (X, Y).  Raises ValueError where `how` is not one of `AGGREGATIONS`.
    """
    one_of("aggregation", how, AGGREGATIONS)
    if query_mask is not None:
        nothing = 0.0 if how in ("mean", "sum") else float("-inf")
        values = values.masked_fill(~query_mask.T, nothing)
    if how == "max":
        return values.amax(1)
    if how == "lse":
        return (mu * values).logsumexp(1) / mu
    total = values.sum(1)
    if how == "sum":
        return total
    return total / (values.shape[1] if query_mask is None else query_mask.sum(1))
