"""SGRAF: one pair at a time from the formulas, what its batch norms count, what its options do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.interactive.sgraf import SGRAF, GlobalPooling, Options, SlotNorm, build
from harness.protocol import Encoded, ImageBatch, TextBatch
from tests.three_pairs import INPUTS, REGIONS, WORDS, batch, mask_of


def sides() -> tuple[ImageBatch, TextBatch]:
    pairs = batch(dtype=torch.float64)
    return pairs.images, pairs.texts


def model_of(**options) -> SGRAF:
    """A model in double precision whose every parameter and statistic has a value of its own."""
    torch.manual_seed(0)
    model = SGRAF(INPUTS, Options(similarity_dim=3, **options)).double().eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "norm" in name or name.endswith("bias"):
                tensor.copy_(torch.rand_like(tensor, dtype=torch.float64) + 0.5)
    return model


def l2(x: Tensor) -> Tensor:
    return x / (x.square().sum(-1, keepdim=True).sqrt() + 1e-8)


def slow_nodes(model: SGRAF, regions: Tensor, words: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """Similarity vectors of one pair.  regions: (R, d), words: (L, d), v, t: (d,) -> (1 + L, s)."""
    products = F.leaky_relu(regions @ words.T, 0.1)
    weights = (model.options.lam * l2(products)).softmax(0)  # (R, L)
    nodes = [l2(model.global_similarity((v - t) ** 2))]
    for word, share in zip(words, weights.T, strict=True):
        nodes.append(l2(model.local_similarity((l2(share @ regions) - word) ** 2)))
    return torch.stack(nodes)


def slow_score(model: SGRAF, *pair: Tensor) -> Tensor:
    nodes = slow_nodes(model, *pair)
    if model.options.module == "sgr":
        for step in model.reasoning.steps:
            edges = (step.query(nodes) @ step.key(nodes).T).softmax(1)
            nodes = step.out(edges @ nodes).relu()
        reasoned = nodes[0]
    else:
        gates = model.reasoning.norm(model.reasoning.gate(nodes)).sigmoid()  # (1 + L, 1)
        reasoned = l2((gates / gates.sum() * nodes).sum(0))
    return model.score(reasoned).sigmoid()


@pytest.mark.parametrize(
    "options", [{"module": "sgr"}, {"module": "sgr", "steps": 1}, {"module": "saf", "lam": 4.0}], ids=str
)
def test_all_pairs_at_once_equal_each_pair_alone(options):
    model = model_of(**options)
    images, texts = model.encode_images(sides()[0]), model.encode_texts(sides()[1])
    scores = model.similarity(images, texts)
    assert scores.std() > 5e-4  # far more than the tolerance, else any wrong score would pass
    for i, count in enumerate(REGIONS):
        for j, length in enumerate(WORDS):
            fragments = images.contextual[i, :count], texts.contextual[j, :length]
            slow = slow_score(model, *fragments, images.embedding[i], texts.embedding[j])
            torch.testing.assert_close(scores[i, j], slow[0].float(), atol=2e-7, rtol=0)


@pytest.mark.parametrize("module", ["sgr", "saf"])
def test_rubbish_in_padding_does_not_matter(module):
    model = model_of(module=module)
    encoded = model.encode_images(sides()[0]), model.encode_texts(sides()[1])
    spoilt = [replace(s, contextual=s.contextual.masked_fill(~s.mask[..., None], torch.nan)) for s in encoded]
    torch.testing.assert_close(model.similarity(*spoilt), model.similarity(*encoded))


@pytest.mark.parametrize("slots", [0, 5])
def test_a_global_vector_is_a_unit_mixture_of_real_fragments(slots):
    torch.manual_seed(0)
    pooling = GlobalPooling(11, 0.0, slots).eval()
    fragments, mask = torch.randn(3, 5, 11), mask_of(REGIONS, 5)
    pooled = pooling(fragments * mask[..., None], mask)
    torch.testing.assert_close(pooled.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(pooled[1], l2(fragments[1, 0]))
    local, whole = pooling.local(fragments[2, :3]), pooling.whole(fragments[2, :3].mean(0))
    if pooling.local_norm is not None:  # untrained statistics: mean 0, variance 1
        local, whole = local / (1 + 1e-5) ** 0.5, whole / (1 + 1e-5) ** 0.5
    weights = pooling.common(local.tanh() * whole.tanh()).softmax(0)
    torch.testing.assert_close(pooled[2], l2((weights * fragments[2, :3]).sum(0)))


def test_a_slot_norm_counts_real_regions_only():
    """Against torch's own batch norm on the real regions of each slot."""
    torch.manual_seed(0)
    norm, regions, mask = SlotNorm(5).train(), torch.randn(3, 5, 11), mask_of(REGIONS, 5)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    normed = norm(regions.masked_fill(~mask[..., None], 1e3), mask)
    for slot in range(5):
        twin, real = nn.BatchNorm1d(1).train(), mask[:, slot]
        with torch.no_grad():
            twin.weight.copy_(norm.weight[slot])
            twin.bias.copy_(norm.bias[slot])
        torch.testing.assert_close(normed[real, slot], twin(regions[real, None, slot])[:, 0])
        torch.testing.assert_close(norm.running_mean[slot], twin.running_mean[0])
        torch.testing.assert_close(norm.running_var[slot], twin.running_var[0])


@pytest.mark.parametrize("training", [True, False])
def test_a_slot_norm_is_a_batch_norm_where_all_is_real(training):
    ours, plain = SlotNorm(5).train(training), nn.BatchNorm1d(5).train(training)
    regions = torch.randn(3, 5, 11)
    torch.testing.assert_close(ours(regions, torch.ones(3, 5, dtype=torch.bool)), plain(regions))


def test_an_empty_slot_keeps_its_statistics():
    norm, regions = SlotNorm(3).train(), torch.randn(2, 3, 11)
    normed = norm(regions, mask_of([2, 2], 3))
    assert norm.running_mean.tolist()[2] == 0.0
    assert norm.running_var.tolist()[2] == 1.0
    torch.testing.assert_close(normed[:, 2], regions[:, 2] / (1 + 1e-5) ** 0.5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("width", [2, 7])
def test_a_slot_norm_takes_any_padding(width, training):
    regions, mask = torch.randn(3, 7, 11), mask_of([1, 2, 2], 7)
    whole = SlotNorm(5).train(training)(regions[:, :5], mask[:, :5])
    some = SlotNorm(5).train(training)(regions[:, :width], mask[:, :width])
    assert some.shape == (3, width, 11)
    torch.testing.assert_close(some[:, :2], whole[:, :2])


def test_more_regions_than_slots_are_refused():
    with pytest.raises(ValueError, match="more than 5 regions"):
        SlotNorm(5)(torch.randn(2, 7, 11), mask_of([5, 6], 7))


def test_the_filter_normalises_over_the_nodes_of_all_pairs():
    model = model_of(module="saf")
    images, texts = model.encode_images(sides()[0]), model.encode_texts(sides()[1])
    logits = [
        model.reasoning.gate(
            slow_nodes(
                model, images.contextual[i, :r], texts.contextual[j, :n], images.embedding[i], texts.embedding[j]
            )
        )
        for i, r in enumerate(REGIONS)
        for j, n in enumerate(WORDS)
    ]
    model.reasoning.norm.reset_running_stats()
    model.reasoning.train()
    model.similarity(images, texts)
    mean, var = torch.cat(logits).mean(), torch.cat(logits).var()
    torch.testing.assert_close(model.reasoning.norm.running_mean[0], 0.1 * mean)
    torch.testing.assert_close(model.reasoning.norm.running_var[0], 0.9 + 0.1 * var)


def test_scoring_by_groups_of_captions_changes_nothing_in_training():
    """More captions than one length group holds, the filter's statistics included."""
    torch.manual_seed(0)
    model = build(INPUTS, Options(module="saf", similarity_dim=3)).train()
    lengths = torch.arange(70) % 7 + 1
    mask = torch.arange(7) < lengths[:, None]
    texts = model.encode_texts(TextBatch(torch.ones(70, 7, dtype=torch.int64), mask))
    images = model.encode_images(ImageBatch(torch.randn(3, 5, 13), mask_of(REGIONS, 5)))
    grouped = model.similarity(images, texts)
    order = torch.arange(69, -1, -1)
    torch.testing.assert_close(model.similarity(images, texts.select(order)), grouped[:, order])


def test_dropout_is_for_training_alone():
    def embeddings(model: SGRAF) -> list[Tensor]:
        images, texts = sides()
        return [e.embedding for e in (model.encode_images(images), model.encode_texts(texts)) for _ in (1, 2)]

    model = model_of(dropout=0.4)
    first, again = (torch.cat(embeddings(model)) for _ in "ab")
    torch.testing.assert_close(first, again)
    model.train()
    assert not torch.allclose(*(torch.cat(embeddings(model)) for _ in "ab"))
    still = model_of(dropout=0.0).train()
    torch.testing.assert_close(*(still.encode_texts(sides()[1]).embedding for _ in "ab"))


def test_the_global_vector_is_part_of_the_score():
    model = model_of()
    images, texts = model.encode_images(sides()[0]), model.encode_texts(sides()[1])
    other = Encoded(embedding=images.embedding.flip(0), contextual=images.contextual, mask=images.mask)
    assert not torch.allclose(model.similarity(images, texts), model.similarity(other, texts))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"module": "sgraf"}, r"'sgraf'.*sgr, saf"),
        ({"similarity_dim": -1}, "similarity_dim=-1"),
        ({"steps": 0}, "steps=0"),
        ({"lam": 0.0}, r"lam=0\.0"),
        ({"dropout": 1.0}, r"dropout=1\.0"),
    ],
)
def test_impossible_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Options(**changes)
