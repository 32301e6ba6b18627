"""From a split to ranks: every caption read once, every place in its gallery, folds as views of one matrix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import contract
from harness.data.prepared import Side, image_batch, text_batch
from harness.data.split import Images, Split
from harness.data.vocabulary import Tokens, Vocabulary, tokens
from harness.learn.build import build
from harness.measure import evaluator, metrics
from harness.progress import Progress
from harness.protocol import Inputs, Retriever
from harness.spec import registry
from harness.spec.job import Settings

REGIONS, DIM = 5, 7
SETTINGS = Settings(dim=8, word_dim=3)
WORDS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


def side(images: int, per_image: int = 2, seed: int = 0, **changes) -> Side:
    """Random fragments and captions of 1 to 7 words."""
    rng = np.random.default_rng(seed)
    captions = tuple(" ".join(rng.choice(WORDS, rng.integers(1, 8))) for _ in range(images * per_image))
    split = Split(
        images=Images(
            features=rng.standard_normal((images, REGIONS, DIM), dtype=np.float32),
            rows=np.arange(images),
            ids=tuple(map(str, range(images))),
            counts=rng.integers(1, REGIONS + 1, images),
        ),
        captions=captions,
        caption_to_image=np.repeat(np.arange(images), per_image),
    )
    return Side(replace(split, **changes), tokens(captions, Vocabulary(WORDS), 60))


def model_of(label: str) -> Retriever:
    inputs = Inputs(image_dim=DIM, regions=REGIONS, vocabulary=4 + len(WORDS), dim=8, word_dim=3)
    return build(registry.model(label), inputs, 0)


def at_once(model: Retriever, data: Side) -> np.ndarray:
    """All images and all captions in one padded batch, without an index."""
    everything = slice(0, None)
    with torch.inference_mode():
        images = model.eval().encode_images(image_batch(data.split.images, everything))
        return model.similarity(images, model.encode_texts(text_batch(data.tokens, everything))).numpy()


# Encoding ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 7), min_size=1, max_size=40), st.integers(1, 5), st.randoms())
@settings(max_examples=30, deadline=None)
def test_text_groups_cover_the_captions_once_in_their_order(lengths, batch, random):
    captions = [" ".join(["ant"] * length) for length in lengths]
    found = tokens(captions, Vocabulary(WORDS), 60)
    rows = np.array(random.sample(range(len(lengths)), random.randint(1, len(lengths))))
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(evaluator, "CAPTION_BATCH", batch)
        for some in (None, rows):
            groups = evaluator.encode_texts(model_of("scan:t2i-lse"), found, SETTINGS, some)
            wanted = np.arange(len(lengths)) if some is None else some
            covered = np.concatenate([group.rows for group in groups])
            assert sorted(covered) == list(range(len(wanted)))
            for group in groups:
                assert np.all(np.diff(group.rows) > 0)
                assert len(group.encoded) == len(group.rows)
                assert group.encoded.mask is not None
                assert group.encoded.mask.all()
                assert set(found.lengths[wanted[group.rows]]) == {group.encoded.mask.shape[1]}


@pytest.mark.parametrize("label", ["vsepp", "vsrn+selfalign", "scan:t2i-lse", "scan:i2t-avg"])
def test_scores_equal_those_of_one_big_batch(label, monkeypatch):
    model, data = model_of(label), side(11)
    monkeypatch.setattr(evaluator, "IMAGE_BATCH", 3)
    monkeypatch.setattr(evaluator, "CAPTION_BATCH", 2)
    found, seconds = evaluator.scores(model, data, SETTINGS)
    np.testing.assert_allclose(found, at_once(model, data), rtol=1e-5, atol=1e-5)
    assert set(seconds) == {"encode_images", "encode_texts", "score"}
    assert all(value >= 0 for value in seconds.values())


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_left_in_the_mode_it_came_in_and_otherwise_untouched(training):
    model = model_of("vsrn+selfalign").train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluator.rsum(model, side(7), SETTINGS)
    assert model.training == training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_is_left_in_its_mode_when_scoring_fails():
    model = model_of("vsepp").train()
    model.similarity = lambda *_: torch.full((7, 14), torch.nan)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="not finite"):
        evaluator.rsum(model, side(7), SETTINGS)
    assert model.training


def test_bfloat16_encodes_but_scores_stay_in_single_precision():
    model, data = model_of("vsepp"), side(11)
    half = replace(SETTINGS, precision="bf16")
    with torch.inference_mode():
        index = evaluator.in_float32(evaluator.encode_images(model.eval(), data.split.images, half))
    assert index.embedding is not None
    assert index.embedding.dtype == torch.float32
    found, _ = evaluator.scores(model, data, half)
    exact, _ = evaluator.scores(model, data, SETTINGS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, atol=0.05)
    assert not np.array_equal(found, exact)


HALF = replace(SETTINGS, score_precision="bf16")


def test_scores_in_half_precision_are_reported_beside_those_in_single():
    model, data = model_of("scan:t2i-lse"), side(40)
    exact, half = evaluator.evaluate(model, data, SETTINGS), evaluator.evaluate(model, data, HALF)
    assert exact.fp32 is None
    assert half.fp32 == {
        "rsum": metrics.summary(exact.ranks.i2t, exact.ranks.t2i)["rsum"],
        "tied_queries": exact.tied_queries,
        "changed_i2t": (half.ranks.i2t != exact.ranks.i2t).mean(),
        "changed_t2i": (half.ranks.t2i != exact.ranks.t2i).mean(),
    }
    assert half.fp32["changed_t2i"] > 0
    (found, _), (plain, _) = (evaluator.scores(model, data, settings) for settings in (HALF, SETTINGS))
    np.testing.assert_allclose(found, plain, atol=0.05)


def test_the_score_of_an_independent_model_stays_in_single_precision():
    model, data = model_of("vsepp"), side(40)
    half = evaluator.evaluate(model, data, HALF)
    assert half.fp32 is None
    assert np.array_equal(half.ranks.i2t, evaluator.evaluate(model, data, SETTINGS).ranks.i2t)


def test_weights_are_chosen_in_single_precision():
    model, data = model_of("scan:t2i-lse"), side(40)
    assert evaluator.rsum(model, data, HALF) == evaluator.rsum(model, data, SETTINGS)


def test_masks_stay_masks_in_single_precision():
    data = side(3)
    with torch.inference_mode():
        encoded = evaluator.in_float32(
            evaluator.encode_images(model_of("scan:t2i-lse").eval(), data.split.images, SETTINGS)
        )
    assert encoded.mask is not None
    assert encoded.mask.dtype == torch.bool


# Ranking -------------------------------------------------------------------------------------------------------------


def test_what_is_evaluated_is_what_is_ranked():
    model, data = model_of("vsepp"), side(7, groups={"some": np.arange(14) % 3 == 0})
    seen: list[Progress] = []
    found = evaluator.evaluate(model, data, SETTINGS, seen.append)
    i2t, t2i, tied = metrics.ranks(at_once(model, data), data.split.caption_to_image)
    np.testing.assert_array_equal(found.ranks.i2t, i2t)
    np.testing.assert_array_equal(found.ranks.t2i, t2i)
    assert found.tied_queries == tied
    assert set(found.seconds) == {"encode_images", "encode_texts", "score", "rank"}
    assert {progress.stage for progress in seen} == {"encode", "score"}
    np.testing.assert_array_equal(found.ranks.groups["some"], np.arange(14) % 3 == 0)
    assert evaluator.rsum(model, data, SETTINGS) == pytest.approx(metrics.summary(i2t, t2i)["rsum"])


def split_of(caption_to_image: list[int], **changes) -> Split:
    images = max(caption_to_image) + 1
    features = Images(np.ones((images, 1, 1), np.float32), np.arange(images), tuple(map(str, range(images))))
    return Split(features, tuple("x" for _ in caption_to_image), np.array(caption_to_image), **changes)


def test_ranks_by_hand():
    #                   own  own  other
    scores = np.array([[0.9, 0.1, 0.5], [0.8, 0.7, 0.6]], np.float32)
    ranks, tied = evaluator.rank(scores, split_of([0, 0, 1]))
    assert (ranks.i2t.tolist(), ranks.t2i.tolist(), tied) == ([0, 2], [0, 1, 0], 0)
    assert ranks.i2t_top.tolist() == [[0, 2, 1], [0, 1, 2]]
    assert ranks.t2i_top.tolist() == [[0, 1], [1, 0], [1, 0]]
    assert (ranks.caption_to_image.tolist(), ranks.caption_to_image.dtype) == ([0, 0, 1], np.int32)
    assert ranks.fold_i2t.size == ranks.fold_t2i.size == ranks.fold_of_image.size == ranks.fold_of_caption.size == 0


@given(st.integers(1, 5), st.integers(2, 4), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_folds_are_views_of_the_one_matrix(size, folds, seed):
    """As in COCO 1K, made small: ranks within a fold are those of its square cut out."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 4, size * folds)  # captions of each image
    split = split_of(np.repeat(np.arange(size * folds), counts).tolist(), fold_images=size)
    scores = rng.integers(0, 5, (size * folds, counts.sum())).astype(np.float32)  # with ties
    ranks, _ = evaluator.rank(scores, split)
    fold_of_caption = split.caption_to_image // size
    for fold in range(folds):
        rows, columns = np.arange(fold * size, (fold + 1) * size), np.flatnonzero(fold_of_caption == fold)
        cut = split_of((split.caption_to_image[columns] - rows[0]).tolist())
        alone, _ = evaluator.rank(scores[np.ix_(rows, columns)], cut)
        np.testing.assert_array_equal(ranks.fold_i2t[ranks.fold_of_image == fold], alone.i2t)
        np.testing.assert_array_equal(ranks.fold_t2i[ranks.fold_of_caption == fold], alone.t2i)
    assert ranks.fold_of_image.tolist() == np.repeat(np.arange(folds), size).tolist()
    assert ranks.fold_of_caption.tolist() == fold_of_caption.tolist()
    assert np.all(ranks.fold_t2i <= ranks.t2i)  # a smaller gallery is no harder


@pytest.mark.parametrize("axis", [0, 1])
def test_the_top_of_many_ties_is_the_same_each_time(axis):
    scores = np.zeros((37, 41), np.float32)
    scores[:, ::3] = scores[::5] = 1.0
    top = metrics.top(scores, 7, axis)
    best = np.sort(scores if axis == 1 else scores.T, 1)[:, ::-1][:, :7]
    np.testing.assert_array_equal(np.take_along_axis(scores if axis == 1 else scores.T, top, 1), best)
    assert all(len(set(row)) == 7 for row in top.tolist())
    np.testing.assert_array_equal(top, metrics.top(scores.copy(), 7, axis))


@pytest.mark.parametrize("label", ["vsepp", "scan:t2i-lse"])
def test_a_gallery_of_one(label):
    found = evaluator.evaluate(model_of(label), side(1, per_image=1), SETTINGS)
    assert found.ranks.caption_to_image.tolist() == [0]  # streamed or not
    assert (found.ranks.i2t.tolist(), found.ranks.t2i.tolist(), found.tied_queries) == ([0], [0], 0)
    assert (found.ranks.i2t_top.tolist(), found.ranks.t2i_top.tolist()) == ([[0]], [[0]])
    assert evaluator.rsum(model_of(label), side(1, per_image=1), SETTINGS) == 600.0


def test_a_constant_scorer_comes_out_last_and_every_query_ties():
    ranks, tied = evaluator.rank(np.zeros((5, 10), np.float32), split_of(np.repeat(np.arange(5), 2).tolist()))
    assert ranks.i2t.tolist() == [8] * 5
    assert ranks.t2i.tolist() == [4] * 10
    assert tied == 15


def test_ranked_captions_have_no_padding_that_selfalign_could_count():
    captions = Tokens(np.array([[3, 5, 0], [7, 0, 0], [2, 4, 6]], np.int32), np.array([2, 1, 3]))
    masked, official = (
        build(registry.model("vsepp+selfalign", selfalign_options={"official_padding": on}), contract.INPUTS, 0).eval()
        for on in (False, True)
    )
    groups = [evaluator.encode_texts(model, captions, Settings()) for model in (masked, official)]
    for own, other in zip(*groups, strict=True):
        assert torch.equal(own.encoded.embedding, other.encoded.embedding)
    batch = contract.pairs("vsepp")
    assert not torch.equal(*(model.train().encode_texts(batch.texts).embedding for model in (masked, official)))
