"""The table of agreement is made of what is stored: marks, intervals, means over seeds; what cannot be is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.measure.judged import agreement
from harness.record import Judged, RecordError
from harness.report import outputs
from harness.report.read.groups import collect
from tests.report.conftest import Maker


def judged(seed: int, better: float = 0) -> Judged:
    """Five images with a caption each: every image with every caption, some of them judged by noise and the truth."""
    rng = np.random.default_rng(seed)
    images, captions = np.divmod(np.arange(25), 5)
    own = images == captions
    experts = np.where(own, 0, 3 + (images * 7 + captions * 3) % 10)
    votes = np.where(own, 0, 3)
    scores = rng.standard_normal((1, 25)) * (better == 0) + better * (experts + 20 * own)
    above = np.array([sum(scores[0, captions == c] >= s) - 1 for c, s in zip(captions, scores[0], strict=True)])
    found = Judged(
        images, captions, own, experts, votes * (experts > 9), votes, scores, above, above,
        np.array([5, 5]), np.array([0, 65]), np.array([0, 2]), np.array(""),
    )  # fmt: skip
    return replace(found, digest=np.array(found.said()))


@pytest.fixture
def made(stored: Maker) -> Maker:
    for label, seed, better in (("vsepp", 0, 0.0), ("vsepp", 1, 0.0), ("vsepp+selfalign", 0, 9.0)):
        stored.store.save_judged(stored.job(label, seed).key, judged(seed, better))
    stored.settle()
    return stored


def test_a_line_a_row_with_means_over_seeds_and_the_best_marked(made):
    texts = outputs.texts(made.folder, collect(made.folder))
    head, *lines = [line.split(",") for line in texts["judged.csv"].splitlines()]
    cells = {line[0]: dict(zip(head, line, strict=True)) for line in lines}
    assert list(cells) == ["vsepp", "vsepp+selfalign"]
    runs = [judged(seed) for seed in (0, 1)]
    asked = ~runs[0].own
    scores = np.concatenate([run.scores[:, asked] for run in runs])
    expected = agreement(scores, runs[0].experts[asked], runs[0].captions[asked])
    low, high = expected.over_all.interval or (None, None)
    told = [float(cells["vsepp"][name]) for name in ("tau", "tau low", "tau high", "tau within")]
    assert told == pytest.approx([expected.over_all.value, low, high, expected.within.value], abs=5e-4)
    assert cells["vsepp+selfalign"]["tau"] == "1.000"
    assert cells["vsepp+selfalign"]["t2i whole mAP@R"] == "100.0"
    shown = texts["judged.md"]
    (line,) = [line for line in shown.splitlines() if line.startswith("| vsepp+selfalign")]
    assert "**1.000**" in line
    assert "20 pairs of 5 captions by experts, 20 by the crowd" in shown
    assert "Left out: 65 damaged lines, 2 judgements of what was not ranked." in shown


def test_other_judgements_are_told_apart(made):
    other = judged(0)
    other = replace(other, damaged=np.array([0, 0]))
    other = replace(other, digest=np.array(other.said()))
    made.store.save_judged(made.job("scan:t2i-lse").key, other)
    texts = outputs.texts(made.folder, collect(made.folder))
    lines = [line.split(",")[:2] for line in texts["judged.csv"].splitlines()]
    assert lines == [
        ["method", "judgements"],
        ["vsepp", judged(0).said()[:6]],
        ["vsepp+selfalign", judged(0).said()[:6]],
        ["scan:t2i-lse", other.said()[:6]],
    ]
    assert f"{other.said()[:6]}: Judged beyond" in texts["judged.md"]


def test_no_table_where_nobody_was_asked(stored):
    assert "judged.md" not in outputs.texts(stored.folder, collect(stored.folder))


def test_they_come_back_as_they_were_and_go_with_the_weights(made):
    key = made.job("vsepp").key
    back, first = made.store.judged(key), judged(0)
    assert back is not None
    for name in ("images", "captions", "own", "experts", "yes", "votes", "scores", "t2i_above", "digest"):
        assert np.array_equal(getattr(back, name), getattr(first, name))
    made.add(made.job("vsepp"), None)  # trained again
    assert made.store.judged(key) is None
    assert made.store.judged(made.job("vsepp", 1).key) is not None
    made.store.remove(made.job("vsepp", 1).key)
    assert made.store.judged(made.job("vsepp", 1).key) is None


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"experts": np.full(25, 2)}, "experts must be 0 or from 3 to 12, and yes no more than votes"),
        ({"yes": np.full(25, 4)}, "experts must be 0 or from 3 to 12, and yes no more than votes"),
        ({"images": np.zeros(25, int)}, "images and captions name a pair twice"),
        ({"captions": np.full(25, 5)}, "captions has 5, counted from 0, in a gallery of 5"),
        ({"t2i_above": np.full(25, 9)}, "t2i_above has 9, counted from 0, in a gallery of 5"),
        ({"scores": np.ones((3, 25))}, "scores must be of one or two directions, got 3"),
        ({"scores": np.full((1, 25), np.nan)}, "scores holds numbers that are not finite"),
        ({"scores": np.ones((1, 24))}, "scores must be \\(K, P\\) where P is 25, got \\(1, 24\\)"),
        ({"votes": np.full(25, 4)}, "digest is not that of the judgements"),
    ],
)
def test_judgements_that_cannot_be_are_refused_by_name(made, changed, says):
    key = made.job("vsepp").key
    made.store.save_judged(key, replace(judged(0), **changed))
    with pytest.raises(RecordError, match=f"judged/{key}.npz: {says}"):
        outputs.texts(made.folder, collect(made.folder))
