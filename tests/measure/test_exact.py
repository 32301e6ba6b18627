"""The fast answer to one query is the answer of the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.learn.build import build
from harness.measure import exact
from harness.measure.exact import ExactIndex, joined, top_k
from harness.protocol import Encoded, ImageBatch, Inputs, TextBatch
from harness.spec import registry

INDEPENDENT = [label for label in registry.labels() if registry.parse(label)[0].family == "independent"]


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def encoded(label: str) -> tuple[Encoded, Encoded, torch.Tensor]:
    """17 images and 3 captions as a row keeps them, and its own scores of them, (17, 3)."""
    words = tuple("abcde")
    inputs = Inputs(
        image_dim=7, regions=5, vocabulary=5, dim=16, word_dim=3, words=words, caption_tokens=torch.ones(2, 3).long()
    )
    model = build(registry.model(label), inputs, 0).eval()
    corner = 50 * numbers(17, 5, 2).abs()
    boxes, sizes = torch.cat([corner, corner + 10], 2), torch.full((17, 2), 300.0)
    pictures = ImageBatch(numbers(17, 5, 7), torch.ones(17, 5, dtype=torch.bool), boxes, sizes)
    captions = TextBatch(torch.tensor([[1, 2], [3, 4], [4, 4]]), torch.ones(3, 2, dtype=torch.bool))
    with torch.inference_mode():
        images, texts = model.indexed(model.encode_images(pictures)), model.indexed(model.encode_texts(captions))
        return images, texts, model.similarity(images, texts)


@pytest.mark.parametrize("label", INDEPENDENT)
def test_every_independent_row_scores_as_its_model_does(label):
    images, texts, expected = encoded(label)
    index = ExactIndex(images)
    found = np.stack([index.scores(texts.select(slice(place, place + 1))) for place in range(len(texts))], 1)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("views", [None, 3])
@pytest.mark.parametrize("shared", [False, True])
def test_threads_change_nothing(monkeypatch, views, shared):
    monkeypatch.setattr(exact, "PART_BYTES", 1)
    images = Encoded(embedding=numbers(101, *([views] if views else []), 7), shared=numbers(101, 5) if shared else None)
    text = Encoded(embedding=numbers(1, 7), shared=numbers(1, 5) if shared else None)
    alone, together = ExactIndex(images), ExactIndex(images, threads=3)
    np.testing.assert_array_equal(alone.scores(text), together.scores(text))
    best, scores = together.search(text, 4)
    assert scores.tolist() == alone.scores(text)[best].tolist() == sorted(alone.scores(text), reverse=True)[:4]
    assert alone.nbytes == together.nbytes == 4 * 101 * (7 * (views or 1) + (5 if shared else 0))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=700), st.integers(1, 9))
def test_the_best_are_those_of_a_whole_sort(scores, k):
    values = np.array(scores, np.float32)
    slow = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:k]
    assert top_k(values, k).tolist() == slow


def test_the_best_of_many_are_found_by_strides():
    scores = np.random.default_rng(0).standard_normal(10 * exact.STRIDE + 7).astype(np.float32)
    assert top_k(scores, 10).tolist() == np.argsort(-scores, kind="stable")[:10].tolist()
    scores[-1] = 9  # beyond the last whole stride
    assert top_k(scores, 1).tolist() == [len(scores) - 1]


def test_one_vector_holds_embedding_and_shared_block():
    image = Encoded(embedding=torch.tensor([[1.0, 2.0]]), shared=torch.tensor([[3.0]]))
    assert joined(image).embedding is not None
    assert joined(image).tensors()["embedding"].tolist() == [[1.0, 2.0, 3.0]]
    assert joined(image).shared is None
    views = Encoded(embedding=numbers(2, 3, 5), shared=numbers(2, 7))
    assert joined(views) is views


def test_reading_sees_every_value():
    images = Encoded(embedding=numbers(5, 3, 7), shared=numbers(5, 2))
    assert ExactIndex(images).read() == max(float(tensor.max()) for tensor in images.tensors().values())


def test_what_has_no_embedding_or_other_numbers_is_refused():
    with pytest.raises(ValueError, match="have none"):
        ExactIndex(Encoded(contextual=numbers(2, 3, 5), mask=torch.ones(2, 3, dtype=torch.bool)))
    with pytest.raises(ValueError, match="must be float32 on the CPU, got torch"):
        ExactIndex(Encoded(embedding=numbers(2, 3).bfloat16()))
    with pytest.raises(ValueError, match="one embedded caption is a query, got 2"):
        ExactIndex(Encoded(embedding=numbers(2, 3))).scores(Encoded(embedding=numbers(2, 3)))


@pytest.mark.parametrize("views", [None, 3])
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("kind", ["float16", ">f4", "float32", "float64", "int8", "int8 by rows"])
def test_what_is_stored_is_searched_as_if_it_were_float32(monkeypatch, tmp_path, kind, views, unit):
    monkeypatch.setattr(exact, "DECODED_BYTES", 300)  # several parts, the last of them short
    rng = np.random.default_rng(0)
    numbers = 30 * rng.standard_normal((101, *([views] if views else []), 7))
    np.save(tmp_path / "stored.npy", numbers.astype(kind.partition(" ")[0]))
    stored = np.load(tmp_path / "stored.npy", mmap_mode="r")
    scale = {"int8": np.array(0.5), "int8 by rows": rng.uniform(0.1, 2, 101)}.get(kind)
    query = rng.standard_normal(7).astype(np.float32)

    def slow(vector: np.ndarray, item: int) -> float:
        real = vector.astype(float) * (1 if scale is None else scale if scale.ndim == 0 else scale[item])
        return float(real @ query) / (float(np.linalg.norm(real)) if unit else 1)

    expected = [max(slow(vector, item) for vector in np.atleast_2d(stored[item])) for item in range(101)]
    for threads in (1, 3):
        index = ExactIndex.stored(stored, threads, scale=scale, unit=unit)
        found = index.scores(Encoded(embedding=torch.from_numpy(query[None])))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
        assert np.isfinite(index.read())
    assert index.nbytes == stored.nbytes


def test_a_map_of_a_file_in_float32_is_not_copied(tmp_path):
    np.save(tmp_path / "stored.npy", np.ones((5, 3), np.float32))
    stored = np.load(tmp_path / "stored.npy", mmap_mode="r")
    assert np.shares_memory(ExactIndex.stored(stored).views, stored)
