"""Judgements of people: every line is read, counted as damaged or refused by number, and put where the data have it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from harness import ROOT
from harness.data import karpathy
from harness.data.judgements import CROWD, EXPERTS, by_captions, parse_crowd, parse_experts, placed, read
from harness.data.split import DataError, Images, Split
from harness.measure.judged import right

REAL = Path(os.environ.get("FLICKR8K_DIR") or ROOT.parent / "shared" / "data" / "flickr8k")


def split(ids: list[str], captions: list[str]) -> Split:
    """As many captions each, in a row."""
    images = Images(np.empty((len(ids), 1, 0), np.float32), np.arange(len(ids)), tuple(ids))
    return Split(images, tuple(captions), np.repeat(np.arange(len(ids)), len(captions) // len(ids)))


def test_experts_by_hand():
    said = parse_experts(b"a.jpg\tb.jpg#2\t1\t2\t4\r\na.jpg\ta.jpg#2\t4\t4\t4\n", "e.txt")
    assert said.of == {("a.jpg", "b.jpg#2"): 7, ("a.jpg", "a.jpg#2"): 12}
    assert (said.damaged, said.lines) == (0, 2)


def test_the_crowd_by_hand_with_a_damaged_block():
    lines = [
        b"a.jpg\tb.jpg#2\t0.333333333333333\t1\t2",
        b"a.jpg\tc.jp\xff\xfe\x00",
        b"",
        b"plain\x07",
        b"\xff\t1\t0",
        b"b.jpg\ta.jpg#2\t1\t3\t0",
        b"c.jpg\ta.jpg#2\t0\t0\t3",
        b"d.jpg\ta.jpg#2\t0.75\t3\t1",
    ]
    said = parse_crowd(b"\n".join(lines), "c.txt")
    expected = [("a.jpg", "b.jpg#2", 1, 3), ("b.jpg", "a.jpg#2", 3, 3), ("c.jpg", "a.jpg#2", 0, 3)]
    assert said.of == {(i, c): (yes, votes) for i, c, yes, votes in (*expected, ("d.jpg", "a.jpg#2", 3, 4))}
    assert (said.damaged, said.lines) == (3, 7)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"a.jpg\tb.jpg#2\t1\t2\t5", "line 2: need an image, its caption#k and three scores from 1 to 4"),
        (b"a.jpg\tb.jpg#2\t1\t2", "line 2: need"),
        (b"a.jpg\tb.jpg\t1\t2\t3", "line 2: need"),
        (b"a.jpg b.jpg#2 1 2 3", "line 2: need"),
        ("a.jpg\tb.jpg#2\t1\t2\t\N{ARABIC-INDIC DIGIT THREE}".encode(), "line 2: need"),
        (b"x.jpg\tb.jpg#2\t4\t4\t4", "line 2: the pair of line 1 once more"),
        (b"\xff\n\xfe", "e.txt: 2 of 3 lines are damaged"),
    ],
)
def test_what_experts_cannot_have_said_is_refused_by_its_line(line, says):
    with pytest.raises(DataError) as refusal:
        parse_experts(b"x.jpg\tb.jpg#2\t1\t1\t1\n" + line, "e.txt")
    assert says in str(refusal.value)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"a.jpg\tb.jpg#2\t0.5\t1\t2", "line 1: the share of yes is said to be 0.5, of 1 yes and 2 no"),
        (b"a.jpg\tb.jpg#2\t0\t0\t0", "line 1: the share of yes is said to be 0, of 0 yes and 0 no"),
        (b"a.jpg\tb.jpg#2\t1\t-1\t0", "line 1: need an image, its caption#k, the share of yes, yes and no"),
        (b"a.jpg\tb.jpg#2\tnan\t1\t2", "line 1: need"),
        (b"", "c.txt: no judgement in it"),
        (b"\xff", "c.txt: 1 of 1 lines are damaged"),
    ],
)
def test_what_a_crowd_cannot_have_said_is_refused_by_its_line(line, says):
    with pytest.raises(DataError, match=says):
        parse_crowd(line, "c.txt")


def written(folder: Path, experts: str, crowd: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / EXPERTS).write_text(experts)
    (folder / CROWD).write_text(crowd)
    return folder


def test_a_file_that_is_not_there_is_named(tmp_path):
    (tmp_path / EXPERTS).write_text("a\tb#0\t1\t1\t1\n")
    with pytest.raises(DataError, match=f"{CROWD}: no such file"):
        read(tmp_path)


def test_pairs_lie_where_the_data_have_them_with_what_is_right_anyway(tmp_path):
    """Images a, b, c of two captions each; judged are a with b's second, by both, b with its own, c with nobody's."""
    experts = "a\tb#1\t2\t3\t4\nb\tb#0\t4\t4\t4\nz\tb#0\t1\t1\t1\n"
    crowd = "a\tb#1\t0.25\t1\t3\na\tb#9\t0\t0\t3\nz\tz#0\t0\t0\t3\n"
    found = placed(read(written(tmp_path, experts, crowd)), split(["a", "b", "c"], list("uvwxyz")))
    rows = zip(found.captions, found.images, found.own, found.experts, found.yes, found.votes, strict=True)
    assert [tuple(map(int, row)) for row in rows] == [
        (0, 0, 1, 0, 0, 0),
        (1, 0, 1, 0, 0, 0),
        (2, 1, 1, 12, 0, 0),
        (3, 0, 0, 9, 1, 4),
        (3, 1, 1, 0, 0, 0),
    ]
    assert found.outside == (1, 2)


CAPTIONS = ["a dog", "it barks", "a cat", "a cat", "two birds", "they sing"]


def names_file(folder: Path) -> None:
    sentences = {"one.jpg": ["it barks", "a dog"], "two.jpg": ["a cat", "a cat"], "far.jpg": ["a fish", "it swims"]}
    images = [
        {"filename": name, "imgid": number, "split": "test", "sentences": [{"raw": said} for said in own]}
        for number, (name, own) in enumerate(sentences.items())
    ]
    (folder / "dataset_flickr8k.json").write_text(json.dumps({"images": images}))


def test_images_of_other_ids_are_found_by_their_captions_in_whatever_order(tmp_path):
    folder = written(tmp_path, "one.jpg\ttwo.jpg#1\t1\t1\t1\n", "two.jpg\tone.jpg#0\t0\t0\t3\n")
    data = split(["17", "4", "9"], CAPTIONS)
    with pytest.raises(DataError, match=r"none of 2 judged images is one of the data, first 'one\.jpg'"):
        placed(read(folder), data)
    names_file(folder)
    found = placed(read(folder), data)
    judged = (found.experts > 0) | (found.votes > 0)
    assert list(zip(found.captions[judged], found.images[judged], strict=True)) == [(1, 1), (3, 0)]


def test_images_with_the_same_captions_are_told_apart_by_nobody():
    twins = split(["1", "2", "3"], ["a cat", "a cat", "a cat", "a cat", "a dog", "it barks"])
    pictures = [
        karpathy.Picture("two.jpg", "2", ("a cat", "a cat")),
        karpathy.Picture("one.jpg", "1", ("it barks", "a dog")),
    ]
    assert by_captions(pictures, twins) == ({"one.jpg": 2}, {"one.jpg#0": 5, "one.jpg#1": 4})


def test_data_that_were_never_judged_are_refused(tmp_path):
    folder = written(tmp_path, "one.jpg\tone.jpg#1\t1\t1\t1\n", "one.jpg\tone.jpg#0\t0\t0\t3\n")
    names_file(folder)
    with pytest.raises(DataError, match="no judged image has the captions of an image of the data"):
        placed(read(folder), split(["17"], ["a horse", "it runs"]))
    folder = written(tmp_path, "one.jpg\tx#0\t1\t1\t1\n", "one.jpg\tx#1\t0\t0\t3\n")
    with pytest.raises(DataError, match="no judged pair has its image and its caption in the data"):
        placed(read(folder), split(["one.jpg"], ["it runs"]))


@pytest.mark.skipif(not (REAL / CROWD).is_file(), reason="no Flickr8k here (FLICKR8K_DIR)")
def test_the_files_of_flickr8k_are_read_whole():
    found = read(REAL)
    assert (len(found.experts.of), found.experts.damaged) == (5_822, 0)
    assert (len(found.crowd.of), found.crowd.damaged) == (47_288, 65)
    pictures = karpathy.read(REAL / "dataset_flickr8k.json.gz")["test"]
    captions = [caption for picture in pictures for caption in picture.captions]
    pairs = placed(found, split([picture.id for picture in pictures], captions))
    by_name = placed(found, split([picture.filename for picture in pictures], captions))
    assert all(np.array_equal(getattr(pairs, name), getattr(by_name, name)) for name in ("experts", "votes", "own"))
    cross = ~pairs.own
    assert pairs.outside == (0, 0)
    assert int((cross & (pairs.experts > 0)).sum()) == 5_664
    assert int((cross & (pairs.experts >= 9)).sum()) == 465
    assert int((cross & (pairs.votes > 0) & (3 * pairs.yes >= 2 * pairs.votes)).sum()) == 1_977
    assert int(((pairs.experts > 0) | (pairs.votes > 0)).sum()) == 50_803
    more = cross & right(pairs.own, pairs.experts, pairs.yes, pairs.votes)
    counts = int(more.sum()), len(np.unique(pairs.captions[more])), len(np.unique(pairs.images[more]))
    assert counts == (2_216, 571, 686)
