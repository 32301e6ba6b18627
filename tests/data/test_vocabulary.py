"""Captions as numbers: which words are known, where a caption is cut, what a batch of them looks like."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.vocabulary import END, PAD, SPECIALS, START, UNKNOWN, Vocabulary, tokens, words


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A man's dog.", ["a", "man's", "dog"]),
        ("Two cats, a T-shirt!", ["two", "cats", "a", "t", "shirt"]),
        ("'quoted' words'", ["quoted", "words"]),
        ("Ein Hündchen, 3 m", ["ein", "hündchen", "3", "m"]),
        ("don't_ask", ["don't_ask"]),
        ("...", []),
    ],
)
def test_words(caption, expected):
    assert words(caption) == expected


def test_frequent_words_come_first_and_ties_by_the_alphabet():
    vocabulary = Vocabulary.build(["b a", "c a", "a b", "d"], min_count=1)
    assert vocabulary.known == ("a", "b", "c", "d")
    assert vocabulary.size == 8
    assert vocabulary.encode("A d b") == [START, 4, 7, 5, END]


@pytest.mark.parametrize(("least", "known"), [(1, ("a", "b", "c")), (2, ("a", "b")), (3, ("a",)), (4, ())])
def test_rare_words_are_unknown(least, known):
    vocabulary = Vocabulary.build(["a b", "a b", "a c"], least)
    assert vocabulary.known == known
    assert vocabulary.encode("c")[1] == (6 if least == 1 else UNKNOWN)


def test_a_word_that_is_not_known_is_no_padding():
    assert Vocabulary(("ant",)).encode("bee") == [START, UNKNOWN, END]
    assert len({PAD, START, END, UNKNOWN}) == len(SPECIALS) == 4
    assert PAD == 0


def test_a_caption_without_words_still_has_two_tokens():
    found = tokens(["!", "ant"], Vocabulary(("ant",)), 60)
    assert found.lengths.tolist() == [2, 3]


def test_long_captions_are_cut_before_their_end_and_counted():
    vocabulary = Vocabulary(("a", "b", "c", "d"))
    found = tokens(["a b c d", "a b", "a b c"], vocabulary, max_words=4)
    assert found.cut == 2
    assert found.ids.tolist() == [[START, 4, 5, END], [START, 4, 5, END], [START, 4, 5, END]]
    assert tokens(["a b c d"], vocabulary, max_words=6).cut == 0
    assert tokens(["a b c d"], vocabulary, max_words=1).ids.tolist() == [[END]]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=7), st.data())
def test_a_batch_is_as_wide_as_its_longest_caption(counts, data):
    found = tokens([" ".join(["ant"] * count) for count in counts], Vocabulary(("ant",)), 60)
    rows = data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=5))
    ids, mask = found.take(np.array(rows))
    lengths = [counts[row] + 2 for row in rows]
    assert ids.dtype == np.int64
    assert ids.shape == mask.shape == (len(rows), max(lengths))
    assert mask.sum(1).tolist() == lengths
    for row, length in zip(ids.tolist(), lengths, strict=True):
        assert row == [START, *[4] * (length - 2), END, *[PAD] * (max(lengths) - length)]


def test_no_captions_make_an_empty_table():
    found = tokens([], Vocabulary(()), 60)
    assert (len(found.ids), len(found.lengths), found.cut) == (0, 0, 0)


# Scripts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("cafe\u0301 Ha\u0308user", ["caf\u00e9", "h\u00e4user"]),  # decomposed as a Mac's files are
        ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया"]),
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("一只狗。T恤3", ["一", "只", "狗", "t", "恤", "3"]),
        ("コーヒーです", ["コ", "ー", "ヒ", "ー", "で", "す"]),
        ("น้ำดี", ["น้ำ", "ดี"]),  # tone mark and vowel stay with their letter
        ("강아지 한 마리", ["강아지", "한", "마리"]),  # Korean has blanks
    ],
)
def test_words_of_other_scripts(caption, expected):
    assert words(caption) == expected


@given(st.text(st.characters(max_codepoint=0x24F), max_size=40))
def test_latin_captions_have_the_words_they_always_had(caption):
    composed = unicodedata.normalize("NFC", caption.lower())
    if not any(unicodedata.combining(character) for character in composed):
        assert words(caption) == re.findall(r"\w+(?:'\w+)*", composed)


def test_the_share_of_unknown_words_leaves_start_and_end_out():
    assert tokens(["ant bee", "ant ant"], Vocabulary(("ant",)), 60).unknown == 0.25
    assert tokens(["...", ""], Vocabulary(("ant",)), 60).unknown == 0


def test_captions_without_a_word_are_counted():
    assert tokens(["...", "ant", "", "gnu"], Vocabulary(("ant",)), 60).wordless == 2
