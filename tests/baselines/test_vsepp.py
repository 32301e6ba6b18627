"""VSE++: pooling of regions, reading of captions, and which negatives cost."""

from dataclasses import replace

import pytest
import torch

from baselines.independent.vsepp import Options, build
from harness.protocol import ImageBatch, Inputs, PairBatch, TextBatch
from models.encoders import unit

INPUTS = Inputs(image_dim=13, regions=5, vocabulary=17, dim=11, word_dim=7)


def pairs(counts=(5, 1, 3), lengths=(2, 7, 1), padding=0):
    """Pairs with these numbers of regions and words, and `padding` more padded positions full of rubbish."""
    generator = torch.Generator().manual_seed(1)
    regions = torch.randn(len(counts), 5, 13, generator=generator)
    tokens = torch.randint(1, 17, (len(lengths), 7), generator=generator)
    regions = torch.cat([regions, torch.full((len(counts), padding, 13), 9.0)], 1)
    tokens = torch.cat([tokens, torch.zeros(len(lengths), padding, dtype=torch.int64)], 1)
    region_mask = torch.arange(5 + padding) < torch.tensor(counts)[:, None]
    word_mask = torch.arange(7 + padding) < torch.tensor(lengths)[:, None]
    images = ImageBatch(torch.where(region_mask[..., None], regions, 9.0), region_mask)
    return PairBatch(images, TextBatch(tokens * word_mask, word_mask), torch.arange(len(counts)))


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_an_image_is_its_pooled_regions(pooling):
    model = build(INPUTS, Options(pooling=pooling))
    batch = pairs()
    embedding = model.encode_images(batch.images).embedding
    for row, count in enumerate((5, 1, 3)):
        regions = model.regions(batch.images.fragments[row, :count])
        pooled = regions.mean(0) if pooling == "mean" else regions.amax(0)
        torch.testing.assert_close(embedding[row], unit(pooled))


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_alone_it_pools_before_its_map_where_that_is_the_same(pooling):
    model, batch = build(INPUTS, Options(pooling=pooling)).double(), pairs()
    images = replace(batch.images, fragments=batch.images.fragments.double())
    found = []
    for model.fragments_read in (True, False):
        encoded = model.encode_images(images)
        grads = torch.autograd.grad(encoded.embedding.square()[:, :3].sum(), list(model.regions.parameters()))
        found.append((encoded.embedding, *grads))
    assert (encoded.fragments is None) == (pooling == "mean")
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("projected", [True, False])
def test_a_caption_is_the_state_after_its_last_word(projected):
    model = build(INPUTS, Options(word_projection=projected))
    batch = pairs()
    embedding = model.encode_texts(batch.texts).embedding
    for row, length in enumerate((2, 7, 1)):
        words = model.captions.words.source(batch.texts.tokens[row : row + 1, :length])
        _, last = model.captions.gru.gru(model.captions.projection(words) if projected else words)
        torch.testing.assert_close(embedding[row], unit(last[0, 0]))


def test_padding_does_not_matter():
    model = build(INPUTS, Options())
    short, long = pairs(), pairs(padding=3)
    for encode in (lambda batch: model.encode_images(batch.images), lambda batch: model.encode_texts(batch.texts)):
        torch.testing.assert_close(encode(short).embedding, encode(long).embedding)


def losses(options, inputs=INPUTS):
    torch.manual_seed(0)
    model = build(inputs, options)
    batch = pairs()
    with torch.no_grad():
        return model.losses(model.encode_images(batch.images), model.encode_texts(batch.texts), batch)


def test_all_negatives_cost_more_than_the_hardest():
    hardest, every = losses(Options()), losses(Options(hardest=False))
    assert set(hardest) == {"hinge"}
    assert float(every["hinge"]) > float(hardest["hinge"]) > 0


def test_captions_of_one_image_cost_nothing_where_the_inputs_say_so():
    inputs = Inputs(image_dim=13, regions=5, vocabulary=17, dim=11, word_dim=7, same_image_negatives=False)
    model = build(inputs, Options())
    batch = pairs()
    batch = PairBatch(batch.images, batch.texts, torch.zeros(3, dtype=torch.int64))
    terms = model.losses(model.encode_images(batch.images), model.encode_texts(batch.texts), batch)
    assert terms["hinge"].item() == 0


def test_images_of_one_identity_are_no_negatives_where_the_inputs_say_so():
    """Of three images the first and the last show one person: each has the second as its only rival."""
    inputs = Inputs(image_dim=13, regions=5, vocabulary=17, dim=11, word_dim=7, margin=3.0, same_image_negatives=False)
    model, batch = build(inputs, Options()), replace(pairs(), identity_index=torch.tensor([4, 2, 4]))
    images, texts = model.encode_images(batch.images), model.encode_texts(batch.texts)
    scores = model.similarity(images, texts).tolist()
    rivals = {0: [1], 1: [0, 2], 2: [1]}
    i2t = sum(3 - scores[i][i] + max(scores[i][j] for j in rivals[i]) for i in range(3))
    t2i = sum(3 - scores[j][j] + max(scores[i][j] for i in rivals[j]) for j in range(3))
    assert model.losses(images, texts, batch)["hinge"].item() == pytest.approx(i2t + t2i, rel=1e-5)
    one = replace(batch, identity_index=torch.zeros(3, dtype=torch.int64))
    assert model.losses(images, texts, one)["hinge"].item() == 0


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling='sum' is not known; choose one of mean, max"):
        Options(pooling="sum")
