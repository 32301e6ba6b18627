"""VSE-infinity: what the two sides pool, and how sets are thinned out in training."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from baselines.independent.vse_infty import Options, build
from harness.protocol import ImageBatch, Inputs, PairBatch, TextBatch
from models.encoders import unit

INPUTS = Inputs(image_dim=13, regions=5, vocabulary=17, dim=11, word_dim=7)
COUNTS, LENGTHS = (5, 1, 3), (2, 7, 1)
STILL = Options(size_augmentation=0.0)


def built(options=STILL, inputs=INPUTS):
    torch.manual_seed(0)
    return build(inputs, options)


def pairs(padding=0, rubbish=0.0, counts=COUNTS, lengths=LENGTHS):
    generator = torch.Generator().manual_seed(1)
    regions = torch.randn(len(counts), 5, 13, generator=generator)
    tokens = torch.randint(4, 17, (len(lengths), 7), generator=generator)
    region_mask = torch.arange(5 + padding) < torch.tensor(counts)[:, None]
    word_mask = torch.arange(7 + padding) < torch.tensor(lengths)[:, None]
    regions = nn.functional.pad(regions, (0, 0, 0, padding)).masked_fill(~region_mask[..., None], rubbish)
    tokens = nn.functional.pad(tokens, (0, padding)).masked_fill(~word_mask, 13 if rubbish else 0)
    return PairBatch(ImageBatch(regions, region_mask), TextBatch(tokens, word_mask), torch.arange(len(counts)))


def encode(model, batch):
    return model.encode_images(batch.images), model.encode_texts(batch.texts)


# The two sides


def test_an_image_is_its_regions_mapped_twice_and_pooled():
    model, batch = built().eval(), pairs()
    embedding = model.encode_images(batch.images).embedding
    mlp = model.region_mlp
    for row, count in enumerate(COUNTS):
        x = batch.images.fragments[row, :count]
        hidden = mlp.inner(x) / (1 + 1e-5) ** 0.5  # an untrained BN in evaluation
        regions = model.regions(x) + mlp.outer(hidden.relu())
        pooled = model.image_pooling(regions[None], torch.ones(1, count, dtype=torch.bool))
        torch.testing.assert_close(embedding[row], unit(pooled[0]))


@pytest.mark.parametrize(("gru", "projected"), [(True, True), (True, False), (False, True)])
def test_a_caption_is_its_words_read_and_pooled(gru, projected):
    model, batch = built(replace(STILL, word_gru=gru, word_projection=projected)), pairs()
    encoded = model.encode_texts(batch.texts)
    assert (encoded.fragments is None) == (not projected)
    for row, length in enumerate(LENGTHS):
        states = model.words.source(batch.texts.tokens[row : row + 1, :length])
        states = model.projection(states) if projected else states
        if gru:
            forward, backward = model.gru.gru(states)[0].chunk(2, dim=2)
            states = (forward + backward) / 2
        pooled = model.text_pooling(states, torch.ones(1, length, dtype=torch.bool))
        torch.testing.assert_close(encoded.embedding[row], unit(pooled[0]))


def test_the_order_of_regions_does_not_matter():
    model, batch = built().eval(), pairs()
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = ImageBatch(batch.images.fragments[:, order], batch.images.mask[:, order])
    torch.testing.assert_close(model.encode_images(moved).embedding, model.encode_images(batch.images).embedding)


@pytest.mark.parametrize("training", [True, False])
def test_padding_does_not_matter(training):
    for plain, padded in zip(
        encode(built().train(training), pairs()),
        encode(built().train(training), pairs(padding=3, rubbish=9.0)),
        strict=True,
    ):
        torch.testing.assert_close(padded.embedding, plain.embedding)


def test_gradients_reach_every_parameter():
    model, batch = built(Options()), pairs()
    model.losses(*encode(model, batch), batch)["hinge"].backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None or p.grad.norm() < 1e-7}
    assert silent <= {"region_mlp.inner.bias"}  # the BN behind it takes a constant out again


def test_a_lone_pair_of_one_region_and_one_word_is_finite():
    model = built(Options(size_augmentation=1.0)).train()
    batch = pairs(counts=(1,), lengths=(1,))
    images, texts = encode(model, batch)
    assert images.embedding.isfinite().all()
    assert texts.embedding.isfinite().all()
    assert model.losses(images, texts, batch)["hinge"].item() == 0


def test_every_option_changes_an_embedding():
    def embeddings(options):
        return torch.cat([side.embedding for side in encode(built(options).train(), pairs())], 1)

    plain = embeddings(STILL)
    for change in (
        {"size_augmentation": 0.5},
        {"position_dim": 5},
        {"position_hidden": 5},
        {"temperature": 1.0},
        {"region_mlp": False},
        {"word_gru": False},
        {"word_projection": False},
    ):
        assert not torch.allclose(embeddings(replace(STILL, **change)), plain), change


# Size augmentation


def test_evaluation_sees_everything_and_draws_nothing():
    model = built(Options(size_augmentation=0.9)).eval()
    before = torch.get_rng_state()
    images, texts = encode(model, pairs())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(images.mask, pairs().images.mask)
    assert torch.equal(texts.mask, pairs().texts.mask)


def test_training_shows_which_fragments_are_left():
    images, texts = encode(built(Options(size_augmentation=0.5)).train(), pairs())
    assert not (images.mask & ~pairs().images.mask).any()
    assert images.mask.sum() < pairs().images.mask.sum()
    assert texts.mask.any(1).all()
    assert not (texts.mask[:, 1:] & ~texts.mask[:, :-1]).any()  # real words first


def test_dropped_regions_do_not_matter():
    model = built(Options(size_augmentation=0.5)).train()
    torch.manual_seed(1)
    images = model.encode_images(pairs().images)
    spoilt = pairs().images.fragments.masked_fill(~images.mask[..., None], 9.0)
    torch.manual_seed(1)
    again = model.encode_images(ImageBatch(spoilt, pairs().images.mask))
    torch.testing.assert_close(again.embedding, images.embedding)


def test_the_same_state_of_the_generator_gives_the_same_sets():
    model = built(Options()).train()
    state = torch.get_rng_state()
    first = encode(model, pairs())
    torch.set_rng_state(state)
    for before, after in zip(first, encode(model, pairs()), strict=True):
        assert torch.equal(before.embedding, after.embedding)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size_augmentation": 1.5}, "size_augmentation=1.5 must be between 0 and 1"),
        ({"mask_word": -1}, "mask_word=-1 must be at least 0"),
        ({"position_dim": 0}, "position_dim=0 must be at least 1"),
        ({"position_hidden": 0}, "position_hidden=0 must be at least 1"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"word_gru": False, "word_projection": False}, "word_gru=False needs word_projection=True"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_a_mask_word_beyond_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match="mask_word=103 is no token of a vocabulary of 17"):
        build(INPUTS, Options(mask_word=103))
