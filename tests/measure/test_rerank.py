"""A shortlist of k put in order by another model: the slow obvious twin, the two ends, ties and ceilings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.measure import metrics
from harness.measure.rerank import curve, rerank, sizes
from harness.progress import Progress

OWNER = np.array([0, 0, 1, 2, 2, 2, 3])  # captions of 4 images
KS = (1, 2, 3, 4, 5, 6, 7, 9)


def slow_rank(first: list[float], second: list[float], positive: list[bool], k: int) -> int:
    """Both orders by sorting, negatives first among equals; a shortlist's last places go to its worst case."""
    worst = [s if good else -s for s, good in zip(second, positive, strict=True)]
    order = sorted(range(len(first)), key=lambda c: (-first[c], positive[c], worst[c]))
    shortlist = sorted(order[:k], key=lambda c: (-second[c], positive[c]))
    return next(place for place, c in enumerate([*shortlist, *order[k:]]) if positive[c])


def few_values(seed: int, shape: tuple[int, int] = (4, 7)) -> np.ndarray:
    """Scores with many ties."""
    return np.random.default_rng(seed).integers(0, 4, shape).astype(np.float32)


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_it_is_the_slow_obvious_twin(seed):
    first, second = few_values(seed), few_values(seed + 1)
    found = rerank(first, second, OWNER, KS)
    for place, k in enumerate(KS):
        for image in range(4):
            slow = slow_rank(first[image].tolist(), second[image].tolist(), (image == OWNER).tolist(), k)
            assert found.i2t[place, image] == slow
        for caption in range(7):
            right = [image == OWNER[caption] for image in range(4)]
            slow = slow_rank(first[:, caption].tolist(), second[:, caption].tolist(), right, k)
            assert found.t2i[place, caption] == slow


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_one_place_is_the_retriever_and_the_whole_gallery_the_reranker(seed):
    first, second = few_values(seed), few_values(seed + 1)
    found = rerank(first, second, OWNER, (1, 7))
    for place, scores in ((0, first), (-1, second)):
        i2t, t2i, _ = metrics.ranks(scores, OWNER)
        assert found.i2t[place].tolist() == i2t.tolist()
        assert found.t2i[place].tolist() == t2i.tolist()


def test_a_case_to_work_out_by_hand():
    """One caption, five images; the retriever puts the right one (image 3) third, the reranker second."""
    first = np.array([[5, 4, 1, 3, 2]], np.float32).T  # order 0 1 3 4 2
    second = np.array([[0, 9, 4, 5, 8]], np.float32).T  # order 1 4 3 2 0
    owner = np.array([3])
    ks = (1, 2, 3, 4, 5)
    ranks = np.concatenate([rerank(first, second, owner, [k]).t2i[:, 0] for k in ks])
    assert ranks.tolist() == [2, 2, 1, 2, 2]


def test_a_reranker_that_knows_nothing_puts_the_right_one_last_in_the_shortlist():
    first = np.diag([1.0, 1.0, 1.0, 1.0]).astype(np.float32)
    owner = np.arange(4)
    found = rerank(first, np.zeros_like(first), owner, (1, 2, 4))
    assert found.t2i.tolist() == [[0] * 4, [1] * 4, [3] * 4]


def test_a_retriever_that_knows_nothing_finds_nothing_before_the_whole_gallery():
    second = np.diag([1.0, 1.0, 1.0, 1.0]).astype(np.float32)
    found = rerank(np.zeros_like(second), second, np.arange(4), (1, 3, 4))
    assert found.t2i.tolist() == [[3] * 4, [3] * 4, [0] * 4]
    assert curve(found)["t2i_ceiling"] == [0.0, 0.0, 100.0]


def test_equals_at_the_shortlist_s_end_are_the_ones_the_reranker_likes_best():
    """Two negatives tie for the second place; the one that beats the right image there gets it, wherever it stands."""
    first = np.array([[2, 1, 1]], np.float32).T
    for second in ([5, 9, 1], [5, 1, 9]):
        assert rerank(first, np.array([second], np.float32).T, np.array([0]), [2]).t2i.tolist() == [[1]]


def test_the_ceilings_are_what_an_oracle_reaches():
    first = few_values(3)
    oracle = (np.arange(4)[:, None] == OWNER).astype(np.float32)
    found = curve(rerank(first, oracle, OWNER, KS))
    assert found["t2i_ceiling"] == found["t2i_r1"]
    assert found["i2t_ceiling"] == found["i2t_r1"]
    sums = [
        sum(found[f"{way}_r{at}"][place] for way in ("i2t", "t2i") for at in (1, 5, 10)) for place in range(len(KS))
    ]
    assert found["rsum_ceiling"] == pytest.approx(sums)
    assert found["rsum_ceiling"][-1] == 600


def test_no_reranker_beats_the_ceiling():
    found = curve(rerank(few_values(3), few_values(4), OWNER, KS))
    for way in ("i2t", "t2i"):
        assert all(np.array(found[f"{way}_r1"]) <= np.array(found[f"{way}_ceiling"]))


@pytest.mark.parametrize(
    ("images", "captions", "expected"),
    [
        (40, 200, (1, 2, 5, 10, 20, 40, 50, 100, 200)),
        (1000, 5000, (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)),
        (7, 13, (1, 2, 5, 7, 10, 13)),
        (1, 1, (1,)),
        (1, 5, (1, 2, 5)),
    ],
)
def test_sizes_go_from_one_to_both_galleries_on_a_log_grid(images, captions, expected):
    assert sizes(images, captions) == expected


def test_a_gallery_of_one_is_always_right():
    one = np.zeros((1, 1), np.float32)
    found = rerank(one, one, np.array([0]), sizes(1, 1))
    assert (found.i2t.tolist(), found.t2i.tolist()) == ([[0]], [[0]])


def test_stored_scores_give_the_same_and_blocks_do_not_matter(tmp_path, monkeypatch):
    first, second = few_values(5), few_values(6)
    whole = rerank(first, second, OWNER, KS)
    np.save(tmp_path / "a.npy", first)
    seen: list[Progress] = []
    monkeypatch.setattr("harness.measure.rerank.BLOCK_ROWS", 2)
    blocked = rerank(np.load(tmp_path / "a.npy", mmap_mode="r"), second, OWNER, KS, seen.append)
    assert blocked.i2t.tolist() == whole.i2t.tolist()
    assert blocked.t2i.tolist() == whole.t2i.tolist()
    assert [p.done for p in seen] == [2, 4, 6, 8, 10, 11]
    assert {p.total for p in seen} == {11}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"reranker": few_values(0, (4, 6))}, r"scores of shapes \(4, 7\) and \(4, 6\) and 7 captions do not fit"),
        ({"caption_to_image": OWNER[:-1]}, "6 captions do not fit"),
        ({"ks": (0, 1)}, r"at least one place, got \[0, 1\]"),
        ({"ks": ()}, r"at least one place, got \[\]"),
        ({"retriever": np.full((4, 7), np.nan, np.float32)}, "28 of 28 scores of the retriever are not finite"),
        ({"reranker": np.where(np.eye(4, 7) > 0, np.inf, 0.0)}, "4 of 28 scores of the reranker are not finite"),
    ],
)
def test_what_does_not_fit_is_refused(change, says):
    given_ = {"retriever": few_values(0), "reranker": few_values(1), "caption_to_image": OWNER, "ks": KS} | change
    with pytest.raises(ValueError, match=says):
        rerank(**given_)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_an_empty_gallery_is_refused(shape):
    with pytest.raises(ValueError, match="nothing to retrieve from"):
        sizes(*shape)
