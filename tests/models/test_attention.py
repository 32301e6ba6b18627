"""Attention over all pairs at once against one pair at a time, with the attended vector formed."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.protocol import Encoded
from models.attention import (
    AGGREGATIONS,
    NORMS,
    aggregated,
    attended,
    attended_cosine,
    attended_squares,
    attention_weights,
    cross_attention,
    gram,
    normalised,
    products,
    without_padding,
)
from models.encoders import l2


def slow_normalised(row: Tensor, norm: str) -> Tensor:
    if norm == "softmax":
        return row.exp() / row.exp().sum()
    if norm.startswith("clipped"):
        row = torch.where(row > 0, row, 0.1 * row)
    if norm.endswith("l2norm"):
        return row / ((row * row).sum().sqrt() + 1e-8)
    if norm.endswith("l1norm"):
        return row / (row.abs().sum() + 1e-8)
    return row


def slow_cosines(queries: Tensor, context: Tensor, lam: float, norm: str) -> Tensor:
    """One pair.  queries: (Q, d), context: (C, d) -> (Q,)."""
    rows = [slow_normalised(torch.stack([c.dot(q) for q in queries]), norm) for c in context]
    cosines = []
    for position, query in enumerate(queries):
        exponentials = [(lam * row[position]).exp() for row in rows]
        attended = sum(e * c for e, c in zip(exponentials, context, strict=True)) / sum(exponentials)
        cosines.append(query.dot(attended) / max(query.norm() * attended.norm(), 1e-8))
    return torch.stack(cosines)


def side(items: int, lengths: list[int], dim: int, seed: int) -> Encoded:
    """Items of the given lengths whose padding is huge and NaN by turns."""
    generator = torch.Generator().manual_seed(seed)
    fragments = torch.randn(items, max(lengths), dim, generator=generator, dtype=torch.float64)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    garbage = torch.where(torch.arange(max(lengths)) % 2 == 0, torch.nan, 1e6)[:, None].expand_as(fragments)
    return Encoded(contextual=torch.where(mask[..., None], fragments, garbage).requires_grad_(), mask=mask)


def compare_with_twin(queries: Encoded, context: Encoded, lam: float, norm: str) -> None:
    """Values and gradients at the real fragments are the twin's; padding has no gradient."""
    (q, q_mask), (c, c_mask) = without_padding(queries), without_padding(context)
    fast = cross_attention(q, c, lam, norm, q_mask, c_mask)  # (X, Q, Y)
    slow_total, fast_total = torch.zeros((), dtype=q.dtype), torch.zeros((), dtype=q.dtype)
    for x in range(len(context)):
        for y in range(len(queries)):
            own_queries = queries.contextual[y, queries.mask[y]]
            slow = slow_cosines(own_queries, context.contextual[x, context.mask[x]], lam, norm)
            torch.testing.assert_close(fast[x, queries.mask[y], y], slow, atol=1e-10, rtol=0)
            weight = torch.linspace(1 + x, 2 + y, len(slow), dtype=q.dtype)  # tells the pairs apart
            slow_total = slow_total + (weight * slow).sum()
            fast_total = fast_total + (weight * fast[x, queries.mask[y], y]).sum()
    leaves = (queries.contextual, context.contextual)
    gradients = zip(*(torch.autograd.grad(total, leaves) for total in (fast_total, slow_total)), strict=True)
    for encoded, (ours, twins) in zip((queries, context), gradients, strict=True):
        torch.testing.assert_close(ours[encoded.mask], twins[encoded.mask], atol=1e-8, rtol=1e-8)
        assert (ours[~encoded.mask] == 0).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("query_lengths", "context_lengths"),
    [([7, 7], [5, 5, 5]), ([7, 2], [5, 1, 3]), ([1, 3], [5, 5, 5]), ([7, 7], [1, 1, 1])],
    ids=["full", "padded", "one query", "one context fragment"],
)
def test_all_pairs_at_once_equal_each_pair_alone(norm, query_lengths, context_lengths):
    compare_with_twin(side(2, query_lengths, 11, seed=0), side(3, context_lengths, 11, seed=1), lam=4.0, norm=norm)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from(tuple(NORMS)),
    st.floats(0.5, 12.0),
)
def test_any_lengths_equal_each_pair_alone(query_lengths, context_lengths, norm, lam):
    queries, context = side(len(query_lengths), query_lengths, 5, 2), side(len(context_lengths), context_lengths, 5, 3)
    compare_with_twin(queries, context, lam, norm)


def test_products_lie_context_first_and_turn_around():
    context, queries = torch.randn(3, 5, 11), torch.randn(2, 7, 11)
    scores = products(context, queries)
    torch.testing.assert_close(scores[2, 4, 6, 1], context[2, 4].dot(queries[1, 6]))
    torch.testing.assert_close(scores.permute(3, 2, 1, 0), products(queries, context))


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        ("clipped_l2norm", [0.6, -0.8]),  # of 3, -4
        ("l2norm", [3 / math.hypot(3, 40), -40 / math.hypot(3, 40)]),
        ("clipped_l1norm", [3 / 7, -4 / 7]),
        ("l1norm", [3 / 43, -40 / 43]),
        ("clipped", [3.0, -4.0]),
        ("softmax", [1.0, 0.0]),
        ("no_norm", [3.0, -40.0]),
    ],
)
def test_norms_act_across_the_queries_of_a_context_fragment(norm, expected):
    row = torch.tensor([3.0, -40.0]).view(1, 1, 2, 1)
    torch.testing.assert_close(normalised(row, norm).flatten(), torch.tensor(expected))


def test_a_padded_query_leaves_the_softmax_across_queries():
    row = torch.zeros(1, 1, 3, 1)
    shares = normalised(row, "softmax", torch.tensor([[True, True, False]]))
    assert shares.flatten().tolist() == [0.5, 0.5, 0.0]


def test_weights_sum_to_one_over_the_real_context():
    relevance = torch.tensor([0.0, math.log(3) / 2, 9.0]).view(1, 3, 1, 1)
    weights = attention_weights(relevance, 2.0, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(weights.flatten(), torch.tensor([0.25, 0.75, 0.0]))


def test_a_sharp_softmax_does_not_overflow():
    assert attention_weights(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1), 1e4).flatten().tolist() == [1.0, 0.0]


def test_attended_vectors_are_mixtures_of_the_context():
    context, weights = torch.randn(3, 5, 11), torch.rand(3, 5, 7, 2)
    vectors = attended(weights, context)
    assert vectors.shape == (3, 7, 2, 11)
    torch.testing.assert_close(vectors[2, 6, 1], sum(weights[2, c, 6, 1] * context[2, c] for c in range(5)))
    torch.testing.assert_close(attended(weights.transpose(2, 3), context), vectors.transpose(1, 2))
    torch.testing.assert_close(attended_squares(weights, gram(context)), vectors.square().sum(-1))


def test_the_scale_of_the_weights_does_not_matter():
    context, queries, weights = torch.randn(3, 5, 11), torch.randn(2, 7, 11), torch.rand(3, 5, 7, 2)
    rest = products(context, queries), gram(context), queries.square().sum(-1).T
    torch.testing.assert_close(attended_cosine(weights, *rest), attended_cosine(1000 * weights, *rest))


@pytest.mark.parametrize("norm", NORMS)
def test_zero_vectors_have_cosine_zero_and_finite_gradients(norm):
    regions = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]], requires_grad=True)
    words = torch.tensor([[[0.0, 1.0]], [[0.0, 0.0]]], requires_grad=True)  # the first attends to both regions alike
    cosines = cross_attention(words, regions, 9.0, norm)
    assert (cosines == 0).all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(cosines.sum(), (regions, words)))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("lam", [9.0, 20.0])
def test_a_dead_query_does_not_drown_the_gradients_of_others(norm, lam):
    """A grid cell of zeros passes a linear map without bias as zero, and the slope of its unit length is 1e8."""
    torch.manual_seed(0)
    raw = torch.randn(2, 3, 5)
    raw[1, 2] = 0
    raw.requires_grad_()
    cosines = cross_attention(l2(raw), l2(torch.randn(3, 4, 5)), lam, norm)  # (3, 3, 2)
    assert (cosines[:, 2, 1] == 0).all()
    (gradient,) = torch.autograd.grad(cosines[:, 2].sum(), raw)  # norms tie the queries of an item to one another
    assert gradient[1, 2].abs().max() < 1e-3 < gradient[0, 2].abs().max()


@pytest.mark.parametrize(
    ("how", "expected"),
    [("mean", 2.0), ("sum", 4.0), ("max", 3.0), ("lse", math.log(math.e**2 + math.e**6) / 2)],
)
def test_aggregations_see_the_real_queries_only(how, expected):
    values = torch.tensor([1.0, 3.0, 8.0]).view(1, 3, 1)
    padded = aggregated(values, how, torch.tensor([[True, True, False]]), mu=2.0)
    torch.testing.assert_close(padded, torch.tensor([[expected]]))
    torch.testing.assert_close(aggregated(values[:, :2], how, mu=2.0), padded)


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_aggregations_give_padded_queries_no_gradient(how):
    values = torch.tensor([1.0, 3.0, 8.0]).view(1, 3, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(aggregated(values, how, torch.tensor([[True, True, False]])).sum(), values)
    assert gradient.isfinite().all()
    assert gradient[0, 2, 0] == 0


def test_without_padding_there_is_no_mask():
    assert without_padding(side(3, [5, 5, 5], 2, seed=5))[1] is None


def test_an_encoding_without_contextual_fragments_is_refused():
    with pytest.raises(ValueError, match="contextual"):
        without_padding(Encoded(embedding=torch.zeros(2, 3)))


def test_unknown_names_raise_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'l3norm'.*clipped_l2norm, l2norm"):
        normalised(torch.zeros(1, 1, 1, 1), "l3norm")
    with pytest.raises(ValueError, match=r"'median'.*lse, mean, max, sum"):
        aggregated(torch.zeros(1, 1, 1), "median")
