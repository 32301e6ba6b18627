"""SAEM: regions in context of one another, runs of words, and the two losses beside the hinge."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from baselines.independent.saem import Options, WordConvolution, angular, build, decay, weight_lengths
from harness.protocol import ImageBatch, Inputs, PairBatch, TextBatch
from models.encoders import unit

INPUTS = Inputs(image_dim=13, regions=5, vocabulary=17, dim=10, word_dim=7)
COUNTS, LENGTHS = (5, 1, 3), (2, 7, 1)
SMALL = Options(heads=2, feed_forward=19, filters=11)


def built(options=SMALL, inputs=INPUTS):
    torch.manual_seed(0)
    return build(inputs, options)


def pairs(padding=0, rubbish=0.0, counts=COUNTS, lengths=LENGTHS, epoch=0):
    generator = torch.Generator().manual_seed(1)
    regions = torch.randn(len(counts), 5, 13, generator=generator)
    tokens = torch.randint(1, 17, (len(lengths), 7), generator=generator)
    region_mask = torch.arange(5 + padding) < torch.tensor(counts)[:, None]
    word_mask = torch.arange(7 + padding) < torch.tensor(lengths)[:, None]
    regions = nn.functional.pad(regions, (0, 0, 0, padding)).masked_fill(~region_mask[..., None], rubbish)
    tokens = nn.functional.pad(tokens, (0, padding)).masked_fill(~word_mask, 13 if rubbish else 0)
    images, texts = ImageBatch(regions, region_mask), TextBatch(tokens, word_mask)
    return PairBatch(images, texts, torch.arange(len(counts)), epoch)


def encode(model, batch):
    return model.encode_images(batch.images), model.encode_texts(batch.texts)


def losses(model, batch):
    return model.losses(*encode(model, batch), batch)


# The two sides


def test_an_image_is_the_mean_of_a_standard_transformer_layer():
    model, batch = built().eval(), pairs()
    layer, theirs = model.images.layer, nn.TransformerEncoderLayer(10, 2, 19, activation="gelu", layer_norm_eps=1e-12)
    attention = layer.attention
    parts = (attention.query, attention.key, attention.value)
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.self_attn.out_proj.load_state_dict(attention.out.state_dict())
    theirs.linear1.load_state_dict(layer.perceptron[0].state_dict())
    theirs.linear2.load_state_dict(layer.perceptron[2].state_dict())
    embedding = model.encode_images(batch.images).embedding
    for row, count in enumerate(COUNTS):
        regions = model.images.regions(batch.images.fragments[row, :count])
        torch.testing.assert_close(embedding[row], unit(theirs.eval()(regions).mean(0)))


def slow_answers(convolution, words):
    """words: (n, E), one caption -> (filters,), run by run."""
    width = convolution.words
    words = torch.cat([words, torch.zeros(max(0, width - len(words)), words.shape[1])])
    weight, bias = convolution.filters.weight, convolution.filters.bias  # (filters, E, width), (filters,)
    runs = [words[start : start + width] for start in range(len(words) - width + 1)]
    return torch.stack([(weight * run.T).sum((1, 2)) + bias for run in runs]).relu().amax(0)


@pytest.mark.parametrize("words", [1, 2, 3])
def test_filters_answer_to_runs_within_a_caption(words):
    torch.manual_seed(0)
    convolution, vectors = WordConvolution(7, 11, words), torch.randn(3, 7, 7)
    mask = torch.arange(7) < torch.tensor(LENGTHS)[:, None]
    answers = convolution(vectors * mask[..., None], mask)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(answers[row], slow_answers(convolution, vectors[row, :length]))


@pytest.mark.parametrize("projected", [True, False])
def test_a_caption_is_a_map_of_the_strongest_answers(projected):
    model, batch = built(replace(SMALL, word_projection=projected)).eval(), pairs()
    encoded = model.encode_texts(batch.texts)
    assert encoded.contextual is encoded.fragments
    assert (encoded.fragments is None) == (not projected)
    for row, length in enumerate(LENGTHS):
        words = model.texts.words.source(batch.texts.tokens[row, :length])
        words = model.texts.projection(words) if projected else words
        answers = torch.cat([slow_answers(convolution, words) for convolution in model.texts.convolutions])
        torch.testing.assert_close(encoded.embedding[row], unit(model.texts.out(answers)))


@pytest.mark.parametrize("training", [True, False])
def test_padding_does_not_matter(training):
    options = replace(SMALL, dropout=0.0)
    for plain, padded in zip(
        encode(built(options).train(training), pairs()),
        encode(built(options).train(training), pairs(padding=3, rubbish=9.0)),
        strict=True,
    ):
        torch.testing.assert_close(padded.embedding, plain.embedding)


# Losses


def slow_angular(anchors, positives, negatives):
    total = 0.0
    for i, (a, p) in enumerate(zip(anchors, positives, strict=True)):
        others = [positives[j] for j in range(len(positives)) if negatives[i][j]]
        if others:
            total += math.log1p(math.exp(max(float(4 * (a + p) @ n - 4 * a @ p) for n in others)))
    return total


def test_the_angular_loss_equals_its_slow_twin():
    torch.manual_seed(0)
    anchors, positives = (unit(torch.randn(5, 11)) for _ in range(2))
    negatives = ~torch.eye(5, dtype=torch.bool)
    negatives[3, 4] = False
    negatives[1] = False
    expected = slow_angular(anchors, positives, negatives.tolist())
    assert float(angular(anchors, positives, negatives)) == pytest.approx(expected, rel=1e-5)


def test_an_angle_by_hand():
    anchors = positives = torch.eye(2)
    # one negative each, at a right angle to anchor and positive: 0 - 4
    assert float(angular(anchors, positives, ~torch.eye(2, dtype=torch.bool))) == pytest.approx(
        2 * math.log1p(math.exp(-4))
    )


def test_both_sides_are_anchors():
    model, batch = built().eval(), pairs()
    images, texts = encode(model, batch)
    negatives = ~torch.eye(3, dtype=torch.bool)
    v, t = images.embedding, texts.embedding
    expected = 0.5 * (angular(v, t, negatives) + angular(t, v, negatives))
    torch.testing.assert_close(model.losses(images, texts, batch)["angular"], expected)


def test_captions_of_one_image_are_no_negatives_where_the_inputs_say_so():
    model = built(inputs=replace(INPUTS, same_image_negatives=False)).eval()
    terms = losses(model, replace(pairs(), image_index=torch.zeros(3, dtype=torch.int64)))
    assert terms["angular"].item() == 0


def test_the_angular_loss_fades():
    assert [decay(epoch) for epoch in (0, 4, 5, 14, 20, 21, 30)] == pytest.approx([1, 1, 0.1, 0.01, 1e-4, 0, 0])
    model = built().eval()
    early, later, late = (losses(model, pairs(epoch=epoch))["angular"] for epoch in (0, 5, 21))
    torch.testing.assert_close(later, 0.1 * early)
    assert late == 0


def test_the_penalty_is_the_lengths_of_the_image_sides_matrices():
    linear = nn.Linear(2, 1)
    linear.weight.data = torch.tensor([[3.0, 4.0]])
    assert weight_lengths(nn.Sequential(linear, nn.LayerNorm(2))).item() == pytest.approx(5.0)
    model = built().eval()
    names = [n for n, p in model.images.named_parameters() if p.ndim == 2]
    assert len(names) == 7  # regions; query, key, value, out; two of the perceptron
    expected = 0.01 * sum(model.images.get_parameter(name).norm() for name in names)
    torch.testing.assert_close(losses(model, pairs())["weight_norm"], expected)


def test_gradients_reach_every_parameter():
    model = built()
    sum(losses(model, pairs()).values()).backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None or p.grad.norm() < 1e-7}
    assert silent <= {"images.layer.attention.key.bias"}  # the same for all keys, so the softmax takes it out again


def test_a_lone_pair_of_one_region_and_one_word_is_finite():
    model = built().train()
    terms = losses(model, pairs(counts=(1,), lengths=(1,)))
    assert all(value.isfinite() for value in terms.values())
    sum(terms.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_every_option_changes_a_loss():
    def total(options, training=False):
        torch.manual_seed(0)
        return sum(losses(build(INPUTS, options).train(training), pairs()).values())

    plain = total(SMALL)
    for change in (
        {"heads": 5},
        {"feed_forward": 23},
        {"filters": 7},
        {"widest": 2},
        {"angular_weight": 1.0},
        {"norm_weight": 1.0},
        {"word_projection": False},
    ):
        assert not torch.allclose(total(replace(SMALL, **change)), plain), change
    assert not torch.allclose(total(replace(SMALL, dropout=0.5), training=True), plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 0}, "heads=0 must be at least 1"),
        ({"feed_forward": 0}, "feed_forward=0 must be at least 1"),
        ({"filters": 0}, "filters=0 must be at least 1"),
        ({"widest": 0}, "widest=0 must be at least 1"),
        ({"dropout": -0.1}, "dropout=-0.1 must be between 0 and 1"),
        ({"angular_weight": -1.0}, "angular_weight=-1.0 must be at least 0"),
        ({"norm_weight": -1.0}, "norm_weight=-1.0 must be at least 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="heads=16 must divide the embedding width 10"):
        build(INPUTS, Options())
