"""Blocks are a matter of memory: whatever the budget, scores are those of scoring at once, and finite."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.learn.build import build
from harness.measure import scoring
from harness.measure.scoring import Group, ScoreError, all_pairs, block_shape
from harness.progress import Progress
from harness.protocol import Encoded, ImageBatch, Inputs, Retriever, TextBatch, concatenate
from harness.spec import registry
from tests.places import needs_gpu

INPUTS = Inputs(image_dim=7, regions=5, vocabulary=17, dim=8, word_dim=3)
IMAGES = 11
LABELS = ("vsepp", "vsepp+selfalign", "scan:t2i-lse", "scan:i2t-avg", "bfan:prob", "naaf")


def model_of(label: str) -> Retriever:
    return build(registry.model(label), INPUTS, 0).eval()


def sides(model: Retriever, lengths: list[int]) -> tuple[Encoded, list[Group], Encoded]:
    """Encoded images of 1 to 5 regions, captions of these lengths in groups, and the same captions together, padded."""
    generator = torch.Generator().manual_seed(0)
    regions = torch.arange(5) < torch.arange(IMAGES)[:, None] % 5 + 1
    tokens = torch.randint(1, 17, (len(lengths), max(lengths)), generator=generator)
    words = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]

    def texts(rows: np.ndarray, width: int) -> Encoded:
        return model.indexed(model.encode_texts(TextBatch((tokens * words)[rows, :width], words[rows, :width])))

    groups = []
    for length in sorted(set(lengths)):
        rows = np.flatnonzero(np.array(lengths) == length)
        groups.append(Group(rows, texts(rows, length)))
    images = ImageBatch(torch.randn(IMAGES, 5, 7, generator=generator), regions)
    return model.indexed(model.encode_images(images)), groups, texts(np.arange(len(lengths)), max(lengths))


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("block", [(1, 1), (3, 2), (2, 100), (100, 100)])
@pytest.mark.parametrize("lengths", [[1], [3, 1, 7, 3, 1, 2, 7, 7, 5, 3, 3, 1, 4]], ids=["one", "ragged"])
@pytest.mark.usefixtures("double")  # a method may drop what is below a mean: no last bit may tip it
def test_blocks_of_any_shape_give_the_scores_of_all_at_once(label, block, lengths, monkeypatch):
    monkeypatch.setattr(scoring, "block_shape", lambda *_: block)
    model = model_of(label)
    with torch.inference_mode():
        images, groups, together = sides(model, lengths)
        whole = model.similarity(images, together).numpy()
        found = all_pairs(model, images, groups, 64)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, whole, rtol=1e-6, atol=1e-6)  # stored in single precision


@needs_gpu
@pytest.mark.parametrize("label", LABELS)
def test_a_gpu_gives_the_scores_of_the_processor(label):
    model = model_of(label)
    with torch.inference_mode():
        images, groups, _ = sides(model, [3, 1, 7, 3, 1, 2, 7, 7, 5, 3, 3, 1, 4])
        here = all_pairs(model, images, groups, 64)
        moved = [Group(group.rows, group.encoded.to("cuda")) for group in groups]
        there = all_pairs(model.to("cuda"), images.to("cuda"), moved, 64)
    np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-5)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 2), st.sampled_from(["vsepp", "scan:t2i-lse"]))
@settings(max_examples=50, deadline=None)
def test_a_block_stays_within_the_budget(regions, words, memory_mib, label):
    images = Encoded(contextual=torch.zeros(1, regions, 1), mask=torch.ones(1, regions, dtype=torch.bool)).select(
        torch.zeros(500, dtype=torch.int64)
    )
    texts = Encoded(contextual=torch.zeros(1, words, 1), mask=torch.ones(1, words, dtype=torch.bool))
    rows, columns = block_shape(model_of(label), images, texts, memory_mib)
    assert 1 <= rows <= 500
    assert columns >= 1
    per_pair = 4 * (regions * words * scoring.PAIR_ARRAYS if label.startswith("scan") else 1)
    assert rows * columns * per_pair <= memory_mib * 2**20


def test_a_budget_that_holds_no_pair_is_refused():
    wide = Encoded(contextual=torch.zeros(1, 400, 1), mask=torch.ones(1, 400, dtype=torch.bool))
    with pytest.raises(
        ScoreError, match=r"^one image-caption pair needs 4.9 MiB, the budget is 1 MiB: --score-memory 5 at least$"
    ):
        block_shape(model_of("scan:t2i-lse"), wide, wide, 1)
    assert block_shape(model_of("scan:t2i-lse"), wide, wide, 5) == (1, 1)


@pytest.mark.parametrize(("captions", "block"), [(1, (2000, 1)), (4, (500, 4)), (2000, (45, 44))])
def test_few_captions_are_scored_with_as_many_images_as_fit(captions, block, monkeypatch):
    """In square blocks a single caption would meet its gallery a few images at a time."""
    monkeypatch.setattr(scoring, "CACHE_BYTES", 4 * 5 * 7 * 2000)  # 2,000 pairs of 5 regions and 7 words
    images, texts = (
        Encoded(contextual=torch.zeros(items, fragments, 1), mask=torch.ones(items, fragments, dtype=torch.bool))
        for items, fragments in ((5000, 5), (captions, 7))
    )
    assert block_shape(model_of("scan:t2i-lse"), images, texts, 64) == block


def scored(label: str, similarity) -> np.ndarray:
    """All pairs by a method whose similarity is another one."""
    model = model_of(label)
    images, groups, _ = sides(model, [2, 3, 2])
    model.similarity = similarity  # type: ignore[method-assign]
    return all_pairs(model, images, groups, 64)


@pytest.mark.parametrize(
    ("label", "name"), [("vsepp", "VSEpp"), ("scan:t2i-lse", "SCAN"), ("vsepp+selfalign", "SelfAlign")]
)
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_scores_that_are_no_numbers_name_the_method_and_the_block(label, name, wrong):
    def similarity(images: Encoded, texts: Encoded) -> Tensor:
        scores = torch.zeros(len(images), len(texts))
        scores[-1, 0] = wrong
        return scores

    captions, scores = ("0, 2", 22) if label.startswith("scan") else ("0 to 3", 33)  # two of them have two words
    message = rf"^{name}, images 0 to 11, captions {captions}: 1 of {scores} scores are not finite$"
    with pytest.raises(ScoreError, match=message):
        scored(label, similarity)


def test_scores_of_the_wrong_shape_are_refused():
    with pytest.raises(
        ScoreError,
        match=r"^VSEpp, images 0 to 11, captions 0 to 3: similarity has shape \(3, 11\), expected \(11, 3\)$",
    ):
        scored("vsepp", lambda images, texts: torch.zeros(len(texts), len(images)))


def test_many_captions_that_do_not_follow_one_another_are_counted():
    images, texts = Encoded(embedding=torch.ones(2, 8)), Encoded(embedding=torch.full((5, 8), torch.nan))
    with pytest.raises(ScoreError, match=r"^VSEpp, images 3 to 5, captions 1, 4, 9 and 2 more: 10 of 10 scores are"):
        scoring.score_block(model_of("vsepp"), images, texts, slice(3, 5), np.array([1, 4, 9, 16, 25]))


@pytest.mark.parametrize("label", ["vsepp", "scan:t2i-lse"])
def test_an_empty_gallery_is_refused_and_one_item_is_enough(label):
    model = model_of(label)
    with torch.inference_mode():
        images, groups, _ = sides(model, [3])
        for none in ((images.select(slice(0)), groups), (images, [])):
            with pytest.raises(ScoreError, match=r"nothing to score, there are no images or no captions$"):
                all_pairs(model, *none, 64)
        assert all_pairs(model, images.select(slice(1)), groups, 64).shape == (1, 1)


def test_every_pair_is_scored_once_and_lands_in_its_place():
    asked: list[tuple[float, float]] = []

    def similarity(images: Encoded, texts: Encoded) -> Tensor:
        assert images.contextual is not None
        assert texts.contextual is not None
        image, text = images.contextual[:, 0, 0], texts.contextual[:, 0, 0]
        asked.extend((i, t) for i in image.tolist() for t in text.tolist())
        return 100 * image[:, None] + text

    model = model_of("scan:t2i-lse")
    model.similarity = similarity  # type: ignore[method-assign]
    images = Encoded(contextual=torch.arange(11.0).view(11, 1, 1), mask=torch.ones(11, 1, dtype=torch.bool))
    rows = [np.array([4, 0, 2]), np.array([1, 3])]
    groups = [
        Group(
            r, Encoded(contextual=torch.tensor(r).float().view(-1, 1, 1), mask=torch.ones(len(r), 1, dtype=torch.bool))
        )
        for r in rows
    ]
    seen: list[Progress] = []
    found = all_pairs(model, images, groups, 1, seen.append)
    np.testing.assert_array_equal(found, 100 * np.arange(11)[:, None] + np.arange(5))
    assert sorted(asked) == [(i, t) for i in range(11) for t in range(5)]
    assert [(p.stage, p.total) for p in seen] == [("score", 5)] * len(seen)
    assert seen[-1].done == 5


def test_groups_of_independent_methods_are_scored_together():
    """Their index is one array of vectors; lengths no longer matter."""
    model = model_of("vsepp")
    images, groups, _ = sides(model, [2, 3, 5, 2])
    calls: list[int] = []
    inner = model.similarity
    model.similarity = lambda i, t: calls.append(len(t)) or inner(i, t)  # type: ignore[method-assign,func-returns-value]
    with torch.inference_mode():
        all_pairs(model, images, groups, 64)
    assert calls == [4]
    assert len(concatenate([group.encoded for group in groups])) == 4
