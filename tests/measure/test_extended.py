"""Extended ground truth against a slow twin, and against the package of ECCV Caption where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from harness.data.split import DataError, Images, Split
from harness.data.truths import read
from harness.measure.extended import evaluate, positives

RNG = np.random.default_rng(0)


def slow(items: list[int], right: set[int], count: int) -> tuple[float, float, int]:
    """Average precision at R, R-Precision, place of the first right answer."""
    hits, total = 0, 0.0
    for place, item in enumerate(items[:count], 1):
        if item in right:
            hits += 1
            total += hits / place
    first = next((place for place, item in enumerate(items) if item in right), len(items))
    return total / count, hits / count, first


def test_every_number_is_that_of_a_slow_twin():
    lists = np.array([RNG.permutation(37)[:13] for _ in range(23)])
    truth = {query: RNG.permutation(37)[: RNG.integers(1, 12)].tolist() for query in (0, 3, 4, 11, 22)}
    beyond = {3: 1}
    found = evaluate(lists, positives(truth, beyond), 37)
    for place, (query, right) in enumerate(truth.items()):
        expected = slow(lists[query].tolist(), set(right), len(right) + beyond.get(query, 0))
        assert found.average_precision[place] == pytest.approx(expected[0])
        assert found.r_precision[place] == pytest.approx(expected[1])
        assert found.rank[place] == expected[2]


def test_by_hand():
    """R = 2: right at places 1 and 3 of which only the first counts for R-Precision."""
    found = evaluate(np.arange(10)[None], positives({0: [0, 2]}), 10)
    assert found.average_precision.tolist() == [0.5]
    assert found.r_precision.tolist() == [0.5]
    assert found.summary()["r1"] == 100


def test_lists_that_are_too_short_are_refused():
    with pytest.raises(ValueError, match="lists of 10 items, 11 are needed"):
        evaluate(np.arange(10)[None], positives({0: list(range(11))}), 20)


def test_a_list_of_the_whole_gallery_may_be_short():
    found = evaluate(np.array([[2, 0, 1]]), positives({0: [0]}), 3)
    assert (found.rank.tolist(), found.average_precision.tolist()) == ([1], [0])


def split(ids: list[str], each: int) -> Split:
    images = Images(np.empty((len(ids), 1, 0), np.float32), np.arange(len(ids)), tuple(ids))
    return Split(images, ("",) * (each * len(ids)), np.repeat(np.arange(len(ids)), each))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "need a JSON object with i2t, t2i or both"),
        ('{"i2t": {"x": ["a#0"]}}', "i2t asks by 'x', which is no id of the data"),
        ('{"i2t": {"a": ["x"]}}', "i2t 'a': 'x' is no id of the data"),
        ('{"t2i": {"a#0": []}}', "must have a list of right answers"),
        ('{"i2t": {}}', "no query has a right answer"),
    ],
)
def test_a_truth_that_does_not_fit_is_refused_in_one_line(tmp_path, text, says):
    (tmp_path / "more.json").write_text(text)
    with pytest.raises(DataError) as refusal:
        read(str(tmp_path / "more.json"), split(["a", "b"], 2))
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_truth_is_told_by_the_ids_of_the_data(tmp_path):
    (tmp_path / "more.json").write_text('{"i2t": {"b": ["b#0", "a#1"]}}')
    truth = read(str(tmp_path / "more.json"), split(["a", "b"], 2))
    assert (truth.name, truth.answers) == ("more", {"i2t": {1: [2, 1]}, "t2i": {}})


@pytest.mark.slow
def test_numbers_of_coco_are_those_of_the_package():
    package = pytest.importorskip("eccv_caption")
    oracle = package.Metrics()
    captions = oracle.coco_ids.tolist()
    images = [oracle.coco_gts["t2i"][caption][0] for caption in captions[::5]]
    coco = split([str(image) for image in images], 5)
    lists = {}
    for way, queries, gallery in (("i2t", 5000, 25000), ("t2i", 25000, 5000)):
        lists[way] = np.array([RNG.choice(gallery, 50, replace=False) for _ in range(queries)])
        for name in ("eccv", "cxc"):  # some of what is right, anywhere
            for query, right in read(name, coco).answers[way].items():
                some = list(right)[: len(right) // 2 + 1]
                kept = [item for item in lists[way][query].tolist() if item not in some]
                lists[way][query] = RNG.permutation([*some, *kept][:50])
    found_by = (
        {image: [captions[c] for c in row] for image, row in zip(images, lists["i2t"], strict=True)},
        {caption: [images[i] for i in row] for caption, row in zip(captions, lists["t2i"], strict=True)},
    )
    asked = ("cxc_recalls", "eccv_map_at_r", "eccv_rprecision", "eccv_r1")
    expected = oracle.compute_all_metrics(*found_by, target_metrics=asked)
    names = {"eccv": {"eccv_map_at_r": "map_at_r", "eccv_rprecision": "r_precision", "eccv_r1": "r1"}}
    names["cxc"] = {f"cxc_r{k}": f"r{k}" for k in (1, 5, 10)}
    for name, numbers in names.items():
        truth = read(name, coco)
        for way, gallery in (("i2t", 25000), ("t2i", 5000)):
            mine = evaluate(lists[way], positives(truth.answers[way], truth.beyond[way]), gallery).summary()
            for theirs, ours in numbers.items():
                assert mine[ours] / 100 == pytest.approx(expected[theirs][way], abs=1e-6), (theirs, way)
