"""NAAF: words that speak for and against a pair, and the threshold between them."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from baselines.interactive.naaf import NAAF, VARIANTS, Options, build, crossing, estimate, shortfall, word_maxima
from harness.protocol import Encoded, ImageBatch, PairBatch, TextBatch
from harness.spec import registry
from tests import fragment_checks, three_pairs
from tests.three_pairs import INPUTS, WORDS, batch, each_alone, fragments


class Way(NamedTuple):
    """How to score."""

    training: bool = False
    threshold: float = 0.3
    options: Options = Options()


def eight_pairs() -> PairBatch:
    images = ImageBatch(torch.randn(8, 3, 13), torch.full((8, 3), True))
    return PairBatch(images, TextBatch(torch.randint(1, 17, (8, 5)), torch.full((8, 5), True)), torch.arange(8))


def encoded(way: Way, width: int = 7) -> tuple[NAAF, Encoded, Encoded]:
    """A model as `way` has it, and the three pairs as it encodes them."""
    torch.manual_seed(0)
    model = NAAF(INPUTS, way.options).train(way.training)
    (model.threshold if way.training else model.safe_threshold).fill_(way.threshold)
    return model, *three_pairs.encoded(model, batch(width))


EVERY_WAY = [Way(training, threshold) for training in (True, False) for threshold in (0.0, 0.3, 1.0)]
EVERY_WAY += [Way(options=Options(lam=5.0)), Way(options=Options(smoothing=0.5))]


def slow_weights(context: Tensor, queries: Tensor, lam: float) -> Tensor:
    """(C, Q), one pair: rows over the queries made unit length, then a softmax over the context."""
    clipped = F.leaky_relu(context @ queries.T, 0.1)
    return (lam * clipped / (clipped.norm(dim=1, keepdim=True) + 1e-8)).softmax(0)


def slow_score(regions: Tensor, words: Tensor, way: Way) -> float:
    """One pair, word by word, attended vectors formed."""
    t, lam = way.threshold, way.options.lam
    products, weights = regions @ words.T, slow_weights(regions, words, lam)
    distance = [max(row).item() - t for row in products.T]
    total = 0.0
    for position, word in enumerate(words):
        if way.training:
            total += min(distance[position], 0.0)
        else:
            alike = [math.exp(way.options.smoothing * word.dot(other).item()) for other in words]
            smoothed = sum(a * x for a, x in zip(alike, distance, strict=True)) / sum(alike)
            total += distance[position] if smoothed < 0 else 0.0
        above = [
            (math.exp(lam * (p.item() - t)), region)
            for p, region in zip(products[:, position], regions, strict=True)
            if p > t
        ]
        if above:
            attended = sum(w * region for w, region in above) / sum(w for w, _ in above)
            total += (word.dot(attended) / attended.norm()).item()
        total += weights[:, position].dot(products[:, position]).item()
    return total / len(words)


# Scores


def side(rows: list[list[float]]) -> Encoded:
    return Encoded(contextual=torch.tensor([rows]), mask=torch.ones(1, len(rows), dtype=torch.bool))


def test_a_word_counts_for_and_against():
    image = side([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    model = NAAF(INPUTS, Options(lam=20.0)).train()
    model.threshold.fill_(0.25)
    named = model.similarity(image, side([[1.0, 0.0, 0.0]]))  # found 1, attended nearly 1
    torch.testing.assert_close(named, torch.tensor([[2.0]]))
    absent = model.similarity(image, side([[0.0, 0.0, 1.0]]))  # best product 0, so 0.25 below
    torch.testing.assert_close(absent, torch.tensor([[-0.25]]))


def test_in_retrieval_similar_words_decide_together():
    """One of two like words is present: on average they are missing, and the present one counts 0.1 all the same."""
    best, threshold = torch.tensor([0.6, 0.2])[None, :, None], torch.tensor(0.5)
    twins = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    expected = torch.tensor([0.1, -0.3])[None, :, None]
    torch.testing.assert_close(shortfall(best, threshold, twins, None, smoothing=5.0), expected)
    torch.testing.assert_close(shortfall(best, threshold, twins, None, smoothing=None), expected.clamp(max=0))
    strangers = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    torch.testing.assert_close(shortfall(best, threshold, strangers, None, smoothing=50.0), expected.clamp(max=0))


def test_each_mode_has_its_own_threshold():
    model, images, texts = encoded(Way(threshold=0.3))
    lower = model.similarity(images, texts)
    model.threshold.fill_(0.9)
    torch.testing.assert_close(model.similarity(images, texts), lower)
    model.safe_threshold.fill_(0.9)
    assert not torch.allclose(model.similarity(images, texts), lower)


# Thresholds


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0.4, 0.9), st.floats(0.1, 0.3), st.floats(0.1, 0.3), st.floats(0.1, 0.3), st.sampled_from([1.0, 2.0, 5.0])
)
def test_at_the_crossing_matching_is_so_many_times_as_likely(match_mean, other_mean, match_sd, other_sd, alpha):
    assume(abs(match_sd - other_sd) > 1e-3)
    at = crossing(match_mean, match_sd, other_mean, other_sd, alpha)
    if at is not None and 0 <= at <= 1:
        densities = NormalDist(match_mean, match_sd).pdf(at), NormalDist(other_mean, other_sd).pdf(at)
        assert densities[0] == pytest.approx(alpha * densities[1], rel=1e-5)


def test_crossing_by_hand():
    at = crossing(0.6, 0.1, 0.2, 0.2, alpha=0.5)  # then log(sd ratio / alpha) = log 4
    a, b, c = 0.01 - 0.04, 2 * (0.6 * 0.04 - 0.2 * 0.01), 0.04 * 0.01 - 0.36 * 0.04 + 2 * 0.01 * 0.04 * math.log(4)
    assert at == pytest.approx((-b + math.sqrt(b * b - 4 * a * c)) / (2 * a))
    assert 0.2 < at < 0.6


def test_a_stricter_alpha_is_a_higher_threshold():
    lenient, strict = (crossing(0.6, 0.12, 0.3, 0.1, alpha) for alpha in (1.0, 4.0))
    assert 0.3 < lenient < strict < 0.6


@pytest.mark.parametrize("deviations", [(0.0, 0.1), (0.1, 0.0), (math.nan, 0.1)])
def test_no_spread_no_crossing(deviations):
    assert crossing(0.6, deviations[0], 0.2, deviations[1], alpha=2.0) is None


def test_estimates_outside_the_unit_interval_become_zero():
    assert estimate(torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.0, 0.1, 0.3]), alpha=2.0)[1] == 0.0  # 0.5 - 3 * 0.4
    matching = torch.tensor([0.7, 0.8, 0.9])
    assert estimate(matching, torch.tensor([0.0, 0.2, 0.4]), alpha=2.0)[1] == pytest.approx(0.5)  # 0.8 - 3 * 0.1
    assert estimate(matching, matching, alpha=2.0) is None


def test_maxima_are_those_of_real_words_and_real_regions():
    _, images, texts = encoded(Way())
    slow = [max(v.dot(t).item() for v in fragments(images, i)) for i in range(3) for t in fragments(texts, i)]
    assert len(slow) == sum(WORDS)
    torch.testing.assert_close(word_maxima(images, texts), torch.tensor(slow))


def trained_on(model: NAAF, pairs: PairBatch) -> Tensor:
    """(B, B), the scores before the thresholds were moved."""
    images, texts = model.encode_images(pairs.images), model.encode_texts(pairs.texts)
    scores = model.similarity(images, texts)
    model.losses(images, texts, pairs)
    return scores


def test_thresholds_are_learned_from_the_captions_that_rank_their_image_first():
    torch.manual_seed(3)
    pairs = eight_pairs()
    model = build(INPUTS, Options(least_words=3))
    model.threshold.fill_(0.5)
    model.safe_threshold.fill_(0.1)
    scores = trained_on(model, pairs)
    images, texts = model.encode_images(pairs.images), model.encode_texts(pairs.texts)
    matching, other = [], []
    for j in range(8):
        if max(range(8), key=lambda i: scores[i, j]) == j:
            worst = min(range(8), key=lambda i: scores[i, j])
            for word in texts.contextual[j]:
                matching.append(max(word.dot(v).item() for v in images.contextual[j]))
                other.append(max(word.dot(v).item() for v in images.contextual[worst]))
    assert 3 < len(matching) < 8 * 5  # some captions took part
    new = crossing(fmean(matching), stdev(matching), fmean(other), stdev(other), alpha=2.0)
    assert new is not None
    new, safe = (x if 0 <= x <= 1 else 0.0 for x in (new, fmean(matching) - 3 * stdev(matching)))
    assert model.threshold.item() == pytest.approx(0.7 * new + 0.3 * 0.5, abs=1e-5)
    assert model.safe_threshold.item() == pytest.approx(0.7 * safe + 0.3 * 0.1, abs=1e-5)


def thresholds(model: NAAF) -> list[float]:
    return [model.threshold.item(), model.safe_threshold.item()]


def test_thresholds_stay_outside_training_and_with_too_few_words():
    torch.manual_seed(3)
    pairs = eight_pairs()
    for model in (build(INPUTS, Options(least_words=3)).eval(), build(INPUTS, Options(least_words=40))):
        model.threshold.fill_(0.5)
        trained_on(model, pairs)
        assert thresholds(model) == [0.5, 0.0]
    model = build(INPUTS, Options(least_words=3))
    model.similarity(model.encode_images(pairs.images), model.encode_texts(pairs.texts))
    assert thresholds(model) == [0.0, 0.0]


def test_thresholds_are_saved_without_gradient():
    model, other = build(INPUTS, Options()), build(INPUTS, Options())
    model.threshold.fill_(0.25)
    model.safe_threshold.fill_(0.125)
    other.load_state_dict(model.state_dict())
    assert thresholds(other) == [0.25, 0.125]
    assert not {"threshold", "safe_threshold"} & dict(model.named_parameters()).keys()


def test_gradients_are_those_at_the_thresholds_that_scored(monkeypatch):
    """Though the batch has moved them by the time gradients are computed."""
    monkeypatch.setattr("baselines.interactive.naaf.estimate", lambda *_: (0.9, 0.8))
    gradients = []
    for momentum in (1.0, 0.0):  # 0 leaves them
        torch.manual_seed(0)
        model, pairs = build(INPUTS, Options(momentum=momentum, least_words=1)).train(), eight_pairs()
        loss = model.losses(model.encode_images(pairs.images), model.encode_texts(pairs.texts), pairs)["hinge"]
        assert thresholds(model) == pytest.approx([0.9 * momentum, 0.8 * momentum])
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for moved, still in zip(*gradients, strict=True):
        torch.testing.assert_close(moved, still)


# As a retriever


@pytest.mark.parametrize("way", EVERY_WAY, ids=str)
def test_every_pair_scores_as_it_does_alone(way):
    model, images, texts = encoded(way)
    scores = model.similarity(images, texts)
    torch.testing.assert_close(scores, each_alone(images, texts, slow_score, way))


@pytest.mark.parametrize("way", EVERY_WAY, ids=str)
def test_blocks_equal_the_whole(way):
    fragment_checks.blocks_equal_the_whole(*encoded(way))


@pytest.mark.parametrize("way", EVERY_WAY, ids=str)
@pytest.mark.parametrize("rubbish", [1e6, torch.nan])
def test_padding_neither_matters_nor_learns(way, rubbish):
    fragment_checks.padding_neither_matters_nor_learns(lambda width: encoded(way, width=width), rubbish)


@pytest.mark.parametrize("way", EVERY_WAY, ids=str)
def test_gradients_reach_every_parameter(way):
    torch.manual_seed(0)
    fragment_checks.gradients_reach_every_parameter(build(INPUTS, way.options), batch())


@pytest.mark.parametrize("way", EVERY_WAY, ids=str)
def test_a_batch_of_one_word_and_one_region_is_finite(way):
    fragment_checks.one_word_and_one_region_are_finite(build(INPUTS, way.options))


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_learn_eight_pairs_by_heart(variant):
    torch.manual_seed(0)
    options = Options(**registry.model(f"naaf:{variant}" if variant else "naaf").options)
    model = build(replace(INPUTS, dim=16), replace(options, least_words=20))
    pairs = eight_pairs()
    images, texts = pairs.images, pairs.texts
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        loss = model.losses(model.encode_images(images), model.encode_texts(texts), pairs)["hinge"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    scores = model.eval().similarity(model.encode_images(images), model.encode_texts(texts))
    assert model.threshold > 0
    assert scores.argmax(0).tolist() == scores.argmax(1).tolist() == list(range(8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lam": 0.0}, "lam=0.0 must be above 0"),
        ({"smoothing": -1.0}, "smoothing=-1.0 must be above 0"),
        ({"alpha": 0.0}, "alpha=0.0 must be above 0"),
        ({"momentum": 1.5}, "momentum=1.5 must be between 0 and 1"),
        ({"least_words": 0}, "least_words=0 must be at least 1"),
    ],
)
def test_impossible_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Options(**changes)
