"""Rows from files evaluated: slow twins of every scorer and of the ranks of lists, and scores that are distances."""

from __future__ import annotations

import numpy as np
import pytest

from harness import Row, evaluate
from harness.data.split import DataError
from harness.measure.given import check_direction, list_ranks
from harness.spec.given import SCORERS

N, EACH, D = 7, 2, 5
OWNERS = np.repeat(np.arange(N), EACH)
RNG = np.random.default_rng(0)


def vectors(items: int, several: int | None) -> np.ndarray:
    return RNG.standard_normal((items, D) if several is None else (items, several, D))


def slow_score(image: np.ndarray, caption: np.ndarray, scorer: str) -> float:
    """image: (k, d), caption: (l, d), real vectors alone."""
    if scorer.endswith("cosine"):
        image, caption = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (image, caption))
    products = [[float(v @ t) for t in caption] for v in image]
    best_of_words = [max(row[word] for row in products) for word in range(len(caption))]
    match scorer.removesuffix("-cosine"):
        case "max-sum":
            return sum(best_of_words)
        case "max-mean":
            return sum(best_of_words) / len(caption)
        case "sum-max":
            return sum(max(row) for row in products)
    return best_of_words[0]  # one vector a caption


@pytest.mark.parametrize("scorer", SCORERS)
def test_every_scorer_is_that_of_its_slow_twin(scorer):
    of_images = None if scorer in ("dot", "cosine") else 3
    of_captions = None if scorer in ("dot", "cosine", "max", "max-cosine") else 4
    images, captions = vectors(N, of_images), vectors(N * EACH, of_captions)
    masks = {}
    if of_images:
        masks["image_mask"] = RNG.random((N, of_images)) < 0.6
        masks["image_mask"][:, -1] = True  # padding comes anywhere
    if of_captions:
        masks["caption_mask"] = RNG.random((N * EACH, of_captions)) < 0.6
        masks["caption_mask"][:, 0] = True
    found = evaluate(Row("mine", images=images, captions=captions, scorer=scorer, **masks))

    def real(side: str, array: np.ndarray, item: int) -> np.ndarray:
        whole = array[item] if array.ndim == 3 else array[item][None]
        return whole[masks[side][item]] if side in masks else whole

    matrix = np.array(
        [
            [
                slow_score(real("image_mask", images, i), real("caption_mask", captions, c), scorer)
                for c in range(N * EACH)
            ]
            for i in range(N)
        ]
    )
    expected = evaluate(matrix)
    assert (found.i2t == expected.i2t).all()
    assert (found.t2i == expected.t2i).all()


def test_a_matrix_for_each_direction_ranks_each_by_its_own():
    one, other = RNG.standard_normal((2, N, N * EACH))
    found = evaluate(Row("mine", scores=one, scores_t2i=other))
    assert (found.i2t == evaluate(one).i2t).all()
    assert (found.t2i == evaluate(other).t2i).all()


def test_captions_in_any_order_keep_it():
    images, captions = vectors(N, None), vectors(N * EACH, None)
    mixed = RNG.permutation(N * EACH)
    plain = evaluate((images, captions), OWNERS)
    found = evaluate(Row("mine", images=images, captions=captions[mixed], scorer="dot"), OWNERS[mixed], fold=1)
    assert (found.i2t == plain.i2t).all()
    assert (found.t2i == plain.t2i[mixed]).all()
    assert found.folds["rsum"] == 600


def test_images_that_repeat_once_per_caption_are_folded():
    images, captions = vectors(N, None), vectors(N * EACH, None)
    found = evaluate(Row("mine", images=np.repeat(images, EACH, 0), captions=captions, scorer="dot"))
    assert (found.i2t == evaluate((images, captions)).i2t).all()
    assert found.notes == (f"mine: images: images repeat once per caption, {N * EACH} rows folded to {N} images",)


def slow_list_rank(items: list[int], scores: list[float] | None, positives: set[int], gallery: int) -> int:
    """Wrong answers at or above the score of the best right one; all that is not listed ties behind."""
    value = dict(zip(items, scores or [-place for place in range(len(items))], strict=True))
    best = max((value[item] for item in positives if item in value), default=None)
    wrong = [item for item in range(gallery) if item not in positives]
    return len(wrong) if best is None else sum(value.get(item, -np.inf) >= best for item in wrong)


@pytest.mark.parametrize("scored", [True, False])
def test_ranks_of_lists_are_those_of_a_slow_twin(scored):
    gallery, k = 11, 4
    lists = np.array([RNG.permutation(gallery)[:k] for _ in range(60)])
    scores = -np.sort(-RNG.integers(0, 3, lists.shape), axis=1).astype(float) if scored else None  # many ties
    positives = [set(RNG.permutation(gallery)[:2].tolist()) for _ in lists]
    right = np.array([[item in own for item in row] for row, own in zip(lists, positives, strict=True)])
    ranks, tied = list_ranks(right, np.ones_like(right), scores, np.full(len(lists), gallery - 2))
    rows = [None] * len(lists) if scores is None else scores.tolist()
    expected = [
        slow_list_rank(row, values, own, gallery)
        for row, values, own in zip(lists.tolist(), rows, positives, strict=True)
    ]
    assert ranks.tolist() == expected
    assert tied.any() == scored


def test_lists_that_name_everything_rank_as_the_scores_they_came_from(tmp_path):
    scores = RNG.standard_normal((N, N * EACH))
    i2t, t2i = np.argsort(-scores, axis=1), np.argsort(-scores, axis=0).T
    np.savez(tmp_path / "lists.npz", i2t_ids=i2t, t2i_ids=t2i)
    found, expected = evaluate(tmp_path / "lists.npz"), evaluate(scores)
    assert found.name == "lists"
    assert (found.i2t == expected.i2t).all()
    assert (found.t2i == expected.t2i).all()
    assert evaluate(tmp_path / "lists.npz", fold=1).folds["rsum"] == 600


def test_distances_are_refused_and_noise_is_not():
    images = RNG.standard_normal((40, 8))
    captions = np.repeat(images, 2, axis=0) + 0.3 * RNG.standard_normal((80, 8))
    distances = np.linalg.norm(images[:, None] - captions, axis=2)
    with pytest.raises(DataError, match="are these distances"):
        evaluate(Row("mine", scores=distances, scores_t2i=distances))
    assert evaluate(Row("mine", scores=-distances, scores_t2i=-distances)).metrics["rsum"] > 500
    check_direction(RNG.integers(0, 40, 80), 40)
