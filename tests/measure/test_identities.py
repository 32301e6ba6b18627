"""Are places of all right answers, and the numbers made of them, those of a slow twin and of a count by hand?"""

from __future__ import annotations

import numpy as np
import pytest

from harness.data.split import Images, Split
from harness.data.truths import of_identities
from harness.measure import extended
from harness.measure.identities import average_precision, inverse_negative_penalty, placed, places, summary
from harness.measure.metrics import ranks, recall_at, top

RNG = np.random.default_rng(0)


def slow_places(scores: list[float], right: set[int]) -> list[int]:
    """The gallery in order, wrong answers before right ones of their score."""
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], item in right))
    return [place for place, item in enumerate(order, 1) if item in right]


def slow_summary(lists: list[list[int]]) -> dict[str, float]:
    """From 1-based places of the right answers of each query, as official code walks down a list."""
    numbers = {"map": 0.0, "minp": 0.0, "r1": 0.0, "r5": 0.0, "r10": 0.0, "map_at_r": 0.0, "r_precision": 0.0}
    for found in lists:
        count = len(found)
        for k in (1, 5, 10):
            numbers[f"r{k}"] += found[0] <= k
        for place in range(1, found[-1] + 1):
            if place in found:
                precision = sum(one <= place for one in found) / place
                numbers["map"] += precision / count
                numbers["map_at_r"] += precision / count if place <= count else 0
                numbers["r_precision"] += 1 / count if place <= count else 0
        numbers["minp"] += count / found[-1]
    return {name: 100 * number / len(lists) for name, number in numbers.items()}


def split(identities: str, owner: list[int]) -> Split:
    """Images by one letter each, captions by the image of each."""
    count = len(identities)
    images = Images(np.empty((count, 1, 0), np.float32), np.arange(count), tuple(map(str, range(count))))
    return Split(images, ("",) * len(owner), np.array(owner), identities=tuple(identities))


@pytest.mark.parametrize("levels", [3, 1000], ids=["many ties", "few ties"])
def test_places_and_numbers_are_those_of_a_slow_twin(levels):
    scores = RNG.integers(levels, size=(23, 37)).astype(np.float32)
    right = [np.sort(RNG.permutation(37)[: RNG.integers(1, 12)]) for _ in range(23)]
    truth = extended.positives({query: some.tolist() for query, some in enumerate(right)})
    slow = [slow_places(row.tolist(), set(some.tolist())) for row, some in zip(scores, right, strict=True)]
    found = placed(lambda query: scores[query], truth)
    assert [some.tolist() for some in found] == slow
    assert summary(found) == pytest.approx(slow_summary(slow))


def test_by_hand():
    """Right at places 1, 3 and 6: precisions 1, 2/3 and 1/2; three right ones by place 6."""
    found = places(np.array([9, 8, 7, 6, 5, 4, 3.0]), np.array([5, 0, 2]))
    assert found.tolist() == [1, 3, 6]
    assert average_precision(found) == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    assert inverse_negative_penalty(found) == 0.5
    numbers = summary([found, np.array([2])])
    assert (numbers["r1"], numbers["r5"], numbers["minp"]) == (50, 100, 50)
    assert numbers["map_at_r"] == pytest.approx(100 * ((1 + 2 / 3) / 3 + 0) / 2)


def test_ties_count_against_the_model_and_right_ones_do_not_rival_each_other():
    assert places(np.zeros(5), np.array([1, 3])).tolist() == [4, 5]
    assert places(np.zeros(3), np.arange(3)).tolist() == [1, 2, 3]  # nothing is wrong
    perfect = summary([places(np.array([1, 1, 0.0]), np.array([0, 1]))])
    assert set(perfect.values()) == {100.0}


def test_with_an_identity_an_image_they_are_the_usual_ranks():
    scores = RNG.integers(40, size=(11, 22)).astype(np.float32)
    owner = np.repeat(np.arange(11), 2)
    truth = of_identities(split("abcdefghijk", owner.tolist()))
    assert truth is not None
    i2t, t2i, _ = ranks(scores, owner)
    for usual, way, of_query in (
        (i2t, "i2t", lambda query: scores[query]),
        (t2i, "t2i", lambda query: scores[:, query]),
    ):
        numbers = summary(placed(of_query, extended.positives(truth.answers[way])))
        for k in (1, 5, 10):
            assert numbers[f"r{k}"] == pytest.approx(recall_at(usual, k))


def test_without_ties_the_first_r_places_are_those_of_lists():
    scores = RNG.permutation(13 * 17).reshape(13, 17).astype(np.float32)
    truth = extended.positives({query: RNG.permutation(17)[: 1 + query % 5].tolist() for query in range(13)})
    mine = summary(placed(lambda query: scores[query], truth))
    for name, number in extended.evaluate(top(scores, 17, 1), truth, 17).summary().items():
        assert mine[name] == pytest.approx(number)


def test_every_caption_of_an_identity_fits_every_image_of_it():
    truth = of_identities(split("aba", [0, 1, 1, 2]))
    assert truth is not None
    assert (truth.name, truth.whole) == ("identities", True)
    assert truth.answers == {"i2t": {0: [0, 3], 1: [1, 2], 2: [0, 3]}, "t2i": {0: [0, 2], 1: [1], 2: [1], 3: [0, 2]}}
    assert of_identities(split("xyx", [0, 1, 1, 2])) == truth  # names are not looked at
    assert of_identities(split("abb", [0, 1, 1, 2])).digest != truth.digest
    plain = split("aba", [0, 1, 1, 2])
    assert of_identities(Split(plain.images, plain.captions, plain.caption_to_image)) is None
