"""Embeddings are kept by content while a row is evaluated, and never while it is timed."""

from __future__ import annotations

import pytest
import torch

from harness.data.kept import keeping
from harness.pretrained import rows
from harness.protocol import ImageBatch, TextBatch
from tests.pretrained import tiny
from tests.pretrained.conftest import chosen

pytestmark = pytest.mark.usefixtures("same_torch_after")
KINDS = {"clip": "", "blip": "score=itc", "blip-2": "score=itc"}


def images(count):
    return ImageBatch(pixels=tuple(tiny.pictures(5)[:count]))


def texts(*strings):
    return TextBatch(torch.zeros(len(strings), 1), torch.zeros(len(strings), 1), strings=strings)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_what_is_kept_is_what_is_computed(kind, folder_of, own_cache, monkeypatch):
    model = rows.build(chosen(folder_of(kind), KINDS[kind]), None)
    fresh = model.encode_images(images(5)).embedding, model.encode_texts(texts("a ball", "moon")).embedding
    assert not own_cache.exists()
    with keeping(model):
        for _ in "ab":
            torch.testing.assert_close(model.encode_images(images(5)).embedding, fresh[0])
            torch.testing.assert_close(model.encode_texts(texts("a ball", "moon")).embedding, fresh[1])
    again = rows.build(chosen(folder_of(kind), KINDS[kind]), None)
    monkeypatch.setattr(again.model, "forward", None)
    monkeypatch.setattr(type(again), "embedded_images", lambda *_: pytest.fail("embeds again"))
    monkeypatch.setattr(type(again), "embedded_texts", lambda *_: pytest.fail("embeds again"))
    with keeping(again):
        torch.testing.assert_close(again.encode_images(images(3)).embedding, fresh[0][:3])
        torch.testing.assert_close(again.encode_texts(texts("moon")).embedding, fresh[1][1:])
    with pytest.raises(pytest.fail.Exception):
        again.encode_images(images(1))


@torch.inference_mode()
def test_under_autocast_nothing_is_kept_or_found(folder_of, own_cache):
    def embedded(model, autocast):
        with keeping(model), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return model.encode_images(images(5)).embedding, model.encode_texts(texts("a ball")).embedding

    model = rows.build(chosen(folder_of("clip")), None)
    half = embedded(model, autocast=True)
    assert not own_cache.exists()
    whole = embedded(model, autocast=False)
    assert not any(torch.equal(one, other) for one, other in zip(half, whole, strict=True))
    again = embedded(model, autocast=True)
    assert all(torch.equal(one, other) for one, other in zip(half, again, strict=True))


@torch.inference_mode()
def test_another_model_prompt_or_precision_finds_nothing(folder_of, tmp_path):
    def made(folder, options=""):
        model = rows.build(chosen(folder, options), None)
        with keeping(model):
            return model.encode_texts(texts("a ball")).embedding

    first = made(folder_of("clip"))
    other = tiny.save("clip", tmp_path / "other", seed=1)
    for different in (made(other), made(folder_of("clip"), "prompt=the")):
        assert not torch.allclose(first, different, atol=1e-3)
    half = made(folder_of("clip"), "precision=bf16")
    assert not torch.equal(first, half)
