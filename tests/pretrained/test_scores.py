"""Scores of every class are those of the library's own forward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from harness.pretrained import rows
from harness.pretrained.embedders import pooled
from harness.pretrained.reading import cleaned
from harness.pretrained.staged import MATCH
from harness.protocol import Encoded, ImageBatch, Staged, TextBatch
from tests.pretrained import tiny
from tests.pretrained.conftest import chosen

CAPTIONS = ("a red ball", "the heart is on a box", "blue moon")
IMAGES = 5
DUAL = ("clip", "siglip", "siglip2", "chinese_clip", "altclip")

pytestmark = pytest.mark.usefixtures("same_torch_after")


def row(folder, options=""):
    return rows.build(chosen(folder, options), None)


@torch.inference_mode()
def encoded(model, images=IMAGES, captions=CAPTIONS):
    nothing = torch.zeros(len(captions), 1)
    return (
        model.encode_images(ImageBatch(pixels=tuple(tiny.pictures(images)))),
        model.encode_texts(TextBatch(nothing, nothing, strings=tuple(captions))),
    )


def inputs(model, images=IMAGES, captions=CAPTIONS):
    """What the library's own processor and tokenizer make of the same."""
    return model.loaded.pictures.read(tiny.pictures(images)), model.loaded.captions.read(captions)


@pytest.mark.parametrize("kind", DUAL)
@torch.inference_mode()
def test_two_towers_score_as_their_forward(kind, folder_of):
    model = row(folder_of(kind))
    pictures, texts = inputs(model)
    forward = model.model(**pictures, **texts).logits_per_image
    bias = getattr(model.model, "logit_bias", torch.zeros(()))
    ours = model.similarity(*encoded(model)) * model.model.logit_scale.exp() + bias
    torch.testing.assert_close(ours, forward, rtol=1e-5, atol=1e-5)
    assert model.family == "independent"


def test_an_embedding_is_told_from_the_output_that_holds_it():
    embedding = torch.ones(2, 3)

    class Output:
        pooler_output = embedding
        last_hidden_state = torch.zeros(2, 5, 3)

    assert pooled(embedding) is embedding is pooled(Output())


@torch.inference_mode()
def test_siglip_reads_captions_padded_to_its_length(folder_of):
    model = row(folder_of("siglip"))
    read = model.loaded.captions.read(CAPTIONS)
    assert set(read) == {"input_ids"}
    assert read["input_ids"].shape == (len(CAPTIONS), tiny.POSITIONS)


@pytest.mark.parametrize("kind", ["clip", "altclip", "blip", "vilt"])
def test_a_caption_is_cut_where_the_model_ends_and_keeps_its_last_mark(kind, folder_of):
    model = row(folder_of(kind), "mark=cls" if kind == "blip" else "")
    ids = model.loaded.captions.read(["ball " * 29, "a"])["input_ids"]
    assert ids.shape[1] == tiny.POSITIONS
    assert ids[0, -1] == tiny.MARKS["eos_token_id"]


@torch.inference_mode()
def test_a_prompt_is_put_before_every_caption(folder_of):
    plain, prompted = row(folder_of("clip")), row(folder_of("clip"), "prompt=a picture of")
    expected = encoded(plain, captions=[f"a picture of {caption}" for caption in CAPTIONS])[1].embedding
    torch.testing.assert_close(encoded(prompted)[1].embedding, expected)


# Two stages ----------------------------------------------------------------------------------------------------------


def aligned(images, texts):
    """Every image with every caption."""
    i, t = (grid.ravel() for grid in torch.meshgrid(torch.arange(images), torch.arange(texts), indexing="ij"))
    return i, t


@pytest.mark.parametrize("mark", ["cls", "enc"])
@torch.inference_mode()
def test_blip_is_the_forwards_of_both_heads_added(mark, folder_of):
    model = row(folder_of("blip"), f"mark={mark},k=2")
    pictures, texts = inputs(model)
    i, t = aligned(IMAGES, len(CAPTIONS))
    cosine = model.model(**pictures, **texts, use_itm_head=False).itm_score
    ids = texts["input_ids"].clone()
    if mark == "enc":
        ids[:, 0] = tiny.VOCABULARY.index("[ENC]")
    match = model.model(
        pixel_values=pictures["pixel_values"][i], input_ids=ids[t], attention_mask=texts["attention_mask"][t]
    ).itm_score[:, MATCH]
    images, captions = encoded(model)
    torch.testing.assert_close(model.first(images, captions), cosine, rtol=1e-5, atol=1e-5)
    expected = match.view(IMAGES, -1) + cosine
    torch.testing.assert_close(model.similarity(images, captions), expected, rtol=1e-5, atol=1e-5)
    assert isinstance(model, Staged)
    assert model.shortlist == (2, 2)


@torch.inference_mode()
def test_the_two_marks_of_blip_score_otherwise(folder_of):
    enc, cls = (row(folder_of("blip"), f"mark={mark}") for mark in ("enc", "cls"))
    both = encoded(enc)
    assert not torch.allclose(enc.similarity(*both), cls.similarity(*both), atol=1e-3)
    torch.testing.assert_close(enc.first(*both), cls.first(*both))


@torch.inference_mode()
def test_blip2_is_the_forwards_of_both_heads_added(folder_of):
    model = row(folder_of("blip-2"))
    pictures, texts = inputs(model)
    i, t = aligned(IMAGES, len(CAPTIONS))
    cosine = model.model(**pictures, **texts, use_image_text_matching_head=False).logits_per_image
    match = model.model(
        pixel_values=pictures["pixel_values"][i],
        input_ids=texts["input_ids"][t],
        attention_mask=texts["attention_mask"][t],
        use_image_text_matching_head=True,
    ).logits_per_image[:, MATCH]
    images, captions = encoded(model)
    torch.testing.assert_close(model.first(images, captions), cosine, rtol=1e-5, atol=1e-5)
    expected = match.view(IMAGES, -1) + cosine
    torch.testing.assert_close(model.similarity(images, captions), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["blip", "blip-2"])
@torch.inference_mode()
def test_the_first_stage_alone_is_an_independent_row(kind, folder_of):
    staged, alone = row(folder_of(kind)), row(folder_of(kind), "score=itc")
    assert alone.family == "independent"
    torch.testing.assert_close(alone.similarity(*encoded(alone)), staged.first(*encoded(staged)))


@torch.inference_mode()
def test_vilt_scores_a_pair_as_its_forward_does_on_that_pair_alone(folder_of):
    model = row(folder_of("vilt"))
    images, captions = encoded(model)
    found = model.similarity(images, captions)
    for image, picture in enumerate(tiny.pictures(IMAGES)):
        for caption, text in enumerate(CAPTIONS):
            one = model.loaded.pictures.read([picture]) | model.loaded.captions.read([text])
            torch.testing.assert_close(found[image, caption], model.model(**one).logits[0, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["blip", "blip-2", "vilt"])
@torch.inference_mode()
def test_a_pair_does_not_depend_on_those_beside_it(kind, folder_of):
    model = row(folder_of(kind))
    images, captions = encoded(model)
    whole = model.similarity(images, captions)
    for i, t in zip(*aligned(IMAGES, len(CAPTIONS)), strict=True):
        one = model.pairs(images.select(i[None]), captions.select(t[None]))
        torch.testing.assert_close(one[0], whole[i, t], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", tiny.KINDS)
@torch.inference_mode()
def test_a_batch_may_be_cut_anywhere(kind, folder_of):
    model = row(folder_of(kind))
    whole = encoded(model)
    pictures, nothing = tiny.pictures(IMAGES), torch.zeros(1, 1)
    images = [model.encode_images(ImageBatch(pixels=(picture,))) for picture in pictures]
    texts = [model.encode_texts(TextBatch(nothing, nothing, strings=(caption,))) for caption in CAPTIONS]
    apart = torch.stack([torch.cat([model.similarity(i, t)[0] for t in texts]) for i in images])
    torch.testing.assert_close(apart, model.similarity(*whole), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_tokens_of_an_image_are_made_once_for_all_its_pairs(folder_of, monkeypatch):
    model = row(folder_of("blip"))
    images, captions = encoded(model)
    monkeypatch.setattr(model.model.vision_model, "forward", lambda *_, **__: pytest.fail("sees a picture again"))
    assert model.similarity(images, captions).shape == (IMAGES, len(CAPTIONS))


def test_the_model_is_no_part_of_the_weights_of_its_row(folder_of):
    model = row(folder_of("clip"))
    assert not model.state_dict()
    assert not list(model.parameters())
    assert model.train().model.training is False


@torch.inference_mode()
def test_half_precision_gives_nearly_the_same(folder_of):
    single, half = row(folder_of("clip")), row(folder_of("clip"), "precision=bf16")
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.similarity(*encoded(half)), single.similarity(*encoded(single)), rtol=0, atol=0.05)


def test_captions_are_cleaned_as_by_blips_scripts():
    assert cleaned(' A "red" ball; (on)  the box!') == "a red ball on the box"
    assert cleaned("ball " * 31) == " ".join(["ball"] * 30)


def test_embeddings_have_unit_length(folder_of):
    images, texts = encoded(row(folder_of("siglip")))
    for side in (images, texts):
        assert isinstance(side, Encoded)
        assert side.embedding is not None
        torch.testing.assert_close(side.embedding, F.normalize(side.embedding, dim=-1))
