"""CHAN: one partner per fragment, and how the partners become a score."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from baselines.interactive.chan import ASSIGNMENTS, CHAN, POOLINGS, Options, build, pooled
from harness.protocol import Encoded, ImageBatch
from tests import fragment_checks, three_pairs
from tests.three_pairs import REGIONS, WORDS, batch, each_alone, fragments

INPUTS = replace(three_pairs.INPUTS, dim=14)  # which 7 heads divide


def encoded(options: Options, width: int = 7) -> tuple[CHAN, Encoded, Encoded]:
    """An untrained model, and the three pairs as it encodes them."""
    torch.manual_seed(0)
    model = CHAN(INPUTS, options)
    return model, *three_pairs.encoded(model, batch(width))


EVERY_WAY = [Options(assignment, pooling) for assignment in ASSIGNMENTS for pooling in POOLINGS]
EVERY_WAY += [Options(temperature=0.5), Options("vsa", mixture_temperature=0.5), Options(self_attention_heads=7)]


def slow_pooled(values: list[float], how: str, temperature: float) -> float:
    if how in ("max", "sum"):
        return max(values) if how == "max" else sum(values)
    if how == "mean":
        return sum(values) / len(values)
    weights = [math.exp(v / temperature) for v in values]
    if how == "lse":
        return math.log(sum(weights))
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def slow_score(regions: Tensor, words: Tensor, options: Options) -> float:
    if options.assignment == "vha":
        values = [max(region.dot(word).item() for region in regions) for word in words]
    elif options.assignment == "tha":
        values = [max(region.dot(word).item() for word in words) for region in regions]
    else:
        values = []
        for region in regions:
            attended = (words @ region / options.mixture_temperature).softmax(0) @ words
            values.append((region.dot(attended) / (attended.norm() + 1e-8)).item())
    return slow_pooled(values, options.pooling, options.temperature)


def test_a_word_counts_with_its_best_region():
    regions = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    words = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])  # best products 0.8, 1 and -0.6
    sides = [Encoded(contextual=x[None], mask=torch.ones(1, len(x), dtype=torch.bool)) for x in (regions, words)]
    by_words = CHAN(INPUTS, Options("vha", "sum")).similarity(*sides)
    torch.testing.assert_close(by_words, torch.tensor([[1.2]]))
    by_regions = CHAN(INPUTS, Options("tha", "sum")).similarity(*sides)
    torch.testing.assert_close(by_regions, torch.tensor([[1.8]]))  # 1 and 0.8


def test_logsumexp_is_not_multiplied_back_and_favours_longer_captions():
    values = torch.full((1, 4, 1), 0.5)
    torch.testing.assert_close(pooled(values, "lse", 0.1), torch.tensor([[5.0 + math.log(4)]]))


def test_a_mixture_of_words_falls_back_on_their_mean():
    """At a temperature without end all words count alike."""
    region, words = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    sides = [Encoded(contextual=x[None], mask=torch.ones(1, len(x), dtype=torch.bool)) for x in (region, words)]
    for temperature, cosine in ((1e4, math.sqrt(0.5)), (1e-2, 1.0)):
        options = Options("vsa", "mean", mixture_temperature=temperature)
        torch.testing.assert_close(
            CHAN(INPUTS, options).similarity(*sides), torch.tensor([[cosine]]), atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("training", [True, False])
def test_regions_attend_to_real_regions_only(training):
    torch.manual_seed(0)
    model, images = CHAN(INPUTS, Options(self_attention_heads=2)).train(training), batch().images
    whole = model.encode_images(images)
    filled = torch.where(images.mask[..., None], images.fragments, 7.0)
    torch.testing.assert_close(
        model.encode_images(replace(images, fragments=filled)).contextual[whole.mask], whole.contextual[whole.mask]
    )
    for row, count in enumerate(REGIONS):
        alone = ImageBatch(images.fragments[row : row + 1, :count], images.mask[row : row + 1, :count])
        torch.testing.assert_close(model.encode_images(alone).contextual[0], fragments(whole, row))
    plain = CHAN(INPUTS, Options())
    plain.load_state_dict(model.state_dict(), strict=False)
    assert not torch.allclose(plain.encode_images(images).contextual, whole.contextual)


def test_heads_have_to_divide_the_width():
    with pytest.raises(ValueError, match="self_attention_heads=3 must divide the embedding width 14"):
        build(INPUTS, Options(self_attention_heads=3))


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_every_pair_scores_as_it_does_alone(options):
    model, images, texts = encoded(options)
    scores = model.similarity(images, texts)
    torch.testing.assert_close(scores, each_alone(images, texts, slow_score, options))


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_blocks_equal_the_whole(options):
    fragment_checks.blocks_equal_the_whole(*encoded(options))


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
@pytest.mark.parametrize("rubbish", [1e6, torch.nan])
def test_padding_neither_matters_nor_learns(options, rubbish):
    fragment_checks.padding_neither_matters_nor_learns(lambda width: encoded(options, width=width), rubbish)


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_gradients_reach_every_parameter(options):
    torch.manual_seed(0)
    fragment_checks.gradients_reach_every_parameter(build(INPUTS, options), batch())


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_a_batch_of_one_word_and_one_region_is_finite(options):
    fragment_checks.one_word_and_one_region_are_finite(build(INPUTS, options))


def test_sets_are_thinned_out_in_training_alone():
    model = build(INPUTS, Options(size_augmentation=0.5))
    pairs = batch()
    left = []
    for seed in range(7):
        torch.manual_seed(seed)
        images, texts = model.train().encode_images(pairs.images), model.encode_texts(pairs.texts)
        assert not (images.mask & ~pairs.images.mask).any()
        assert texts.mask.any(1).all()
        assert model.losses(images, texts, pairs)["hinge"].isfinite()
        left.append([int(side.mask.sum()) for side in (images, texts)])
    regions, words = torch.tensor(left).float().mean(0).tolist()
    assert regions < 0.9 * sum(REGIONS)
    assert words < sum(WORDS)
    images, texts = model.eval().encode_images(pairs.images), model.encode_texts(pairs.texts)
    assert torch.equal(images.mask, pairs.images.mask)
    assert torch.equal(texts.mask, pairs.texts.mask)


def test_nothing_is_drawn_unless_asked():
    model, before = build(INPUTS, Options()).train(), torch.get_rng_state()
    model.encode_images(batch().images)
    model.encode_texts(batch().texts)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_mask_word_has_to_be_a_word():
    with pytest.raises(ValueError, match="mask_word=17 is no token of a vocabulary of 17"):
        build(INPUTS, Options(mask_word=17))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size_augmentation": 1.5}, "size_augmentation=1.5 must be between 0 and 1"),
        ({"mask_word": -1}, "mask_word=-1 must be at least 0"),
        ({"assignment": "vta"}, r"assignment='vta'.*vha, tha, vsa"),
        ({"pooling": "avg"}, r"pooling='avg'.*lse, mean, max, sum, softmax"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"mixture_temperature": -1.0}, "mixture_temperature=-1.0 must be above 0"),
        ({"self_attention_heads": -1}, "self_attention_heads=-1 must be at least 0"),
    ],
)
def test_impossible_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Options(**changes)


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_its_score_is_a_late_interaction_where_words_choose_regions(options):
    model, images, texts = encoded(options)
    assert (model.late_interaction is None) == (options.assignment != "vha")
    if model.late_interaction is None:
        return
    regions, words = ([own[real] for own, real in zip(s.contextual, s.mask, strict=True)] for s in (images, texts))
    scores = model.similarity(images, texts)
    for column, caption in enumerate(words):
        best = torch.stack([(caption @ own.T).amax(1) for own in regions], 1)  # (L, images)
        torch.testing.assert_close(model.late_interaction(best), scores[:, column])
