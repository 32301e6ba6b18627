"""Captions -> numbers: words of a vocabulary built from the training captions alone, or a text model's word pieces.

Tokenizer of words: lower-case and composed (Unicode NFC), then every run of letters, digits or underscores with the
marks that belong to them, with an inner apostrophe allowed (`don't` is one word); punctuation is dropped.  The field's
NLTK tokenizer keeps punctuation as words of its own.  In scripts written without blanks between words (`UNSPACED`)
every character is a word of its own, together with its vowel signs and tone marks (a grapheme cluster).
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Protocol

import numpy as np
import regex

PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")
UNSPACED = ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar")  # Unicode scripts
UNKNOWN_AT_MOST = 0.95  # of the training captions' words; with more there is nothing to learn from


def _pattern() -> regex.Pattern[str]:
    unspaced = "".join(rf"\p{{Script={script}}}" for script in UNSPACED) + "\u30fc\uff70"  # and the long vowel marks
    letter = rf"[[\p{{L}}\p{{N}}_]--[{unspaced}]]"
    run = rf"(?:{letter}[\p{{M}}\u200c\u200d]*)+"  # a joiner shapes the letters of a word and ends none
    return regex.compile(rf"{run}(?:'{run})*|(?=[[\p{{L}}\p{{N}}]&&[{unspaced}]])\X", regex.VERSION1)


_WORD = _pattern()


class Tokenizer(Protocol):
    """Whatever turns a caption into numbers.  0 is padding."""

    @property
    def size(self) -> int:
        """How many numbers there are."""
        ...

    @property
    def unknown(self) -> int | None:
        """The number of every word it does not know; None where it knows all."""
        ...

    @property
    def longest(self) -> int | None:
        """The most tokens of a caption that its model can read; None where there is no limit."""
        ...

    @property
    def spelled(self) -> tuple[str, ...]:
        """How each number is written; a piece that does not begin a word is `##piece`."""
        ...

    def encode(self, caption: str) -> list[int]: ...


def words(caption: str) -> list[str]:
    """`A man's dog.` -> ["a", "man's", "dog"]; `\u4e00\u53ea\u72d7` -> its three characters"""
    return _WORD.findall(unicodedata.normalize("NFC", caption.lower()))


@dataclass(frozen=True)
class Vocabulary:
    """Words seen at least `min_count` times in the captions it was built from, after the four specials."""

    known: tuple[str, ...]
    unknown = UNKNOWN
    longest = None

    @classmethod
    def build(cls, captions: Iterable[str], min_count: int) -> Vocabulary:
        """captions: of the training split only.  Most frequent first, ties in alphabetical order."""
        counts = Counter(word for caption in captions for word in words(caption))
        kept = [word for word, count in counts.items() if count >= min_count]
        return cls(tuple(sorted(kept, key=lambda word: (-counts[word], word))))

    @property
    def size(self) -> int:
        return len(SPECIALS) + len(self.known)

    @property
    def spelled(self) -> tuple[str, ...]:
        return (*SPECIALS, *self.known)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.known, start=len(SPECIALS))}

    def encode(self, caption: str) -> list[int]:
        """`<start>` words `<end>`; a word it does not know becomes `<unk>`."""
        return [START, *(self._numbers.get(word, UNKNOWN) for word in words(caption)), END]


def picked(values: tuple[str, ...], index: np.ndarray | slice) -> tuple[str, ...]:
    """Those that `index` names, in that order."""
    return values[index] if isinstance(index, slice) else tuple(values[place] for place in index.tolist())


@dataclass(frozen=True)
class Tokens:
    """Encoded captions, padded."""

    ids: np.ndarray  # (M, L) int32, 0 where padded
    lengths: np.ndarray  # (M,) int64
    cut: int = 0  # captions that were longer than allowed
    most: int = 0  # tokens that a caption was allowed
    unknown: float = 0.0  # share of unknown words, start and end not counted
    wordless: int = 0  # captions without a word
    strings: tuple[str, ...] = ()  # (M,) as they were written
    names: tuple[str, ...] = ()  # (M,) of the captions; () where nobody named them
    # need -> () -> (M, N) bool, which images of the split a caption fits
    fits: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict)

    def some(self, index: np.ndarray) -> Tokens:
        """The captions that `index` names, positions or a (M,) bool, in that order."""
        places = np.arange(len(self.lengths))[index]
        strings, names = (picked(values, places) if values else () for values in (self.strings, self.names))
        fits = {name: partial(_rows, found, places) for name, found in self.fits.items()}
        return replace(
            self, ids=self.ids[places], lengths=self.lengths[places], strings=strings, names=names, fits=fits
        )

    def take(self, index: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Token ids (B, L) int64 and mask (B, L), no wider than the longest caption taken."""
        lengths = self.lengths[index]
        width = int(lengths.max())
        return self.ids[index, :width].astype(np.int64), np.arange(width) < lengths[:, None]


def _rows(found: Callable[[], np.ndarray], places: np.ndarray) -> np.ndarray:
    return found()[places]


def tokens(captions: Sequence[str], tokenizer: Tokenizer, max_words: int) -> Tokens:
    """All captions as numbers.

    One with more tokens than `max_words`, or than the tokenizer's model reads, is cut; its last (`<end>`, [SEP]) stays.
    """
    most = min(max_words, tokenizer.longest or max_words)
    encoded = [tokenizer.encode(caption) for caption in captions]
    unknown = sum(number == tokenizer.unknown for ids in encoded for number in ids)
    share = unknown / max(1, sum(len(ids) - 2 for ids in encoded))
    wordless = sum(len(ids) <= 2 for ids in encoded)
    cut = sum(len(ids) > most for ids in encoded)
    encoded = [shortened(ids, most) for ids in encoded]
    lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
    table = np.zeros((len(encoded), int(lengths.max(initial=1))), dtype=np.int32)
    for row, ids in zip(table, encoded, strict=True):
        row[: len(ids)] = ids
    return Tokens(table, lengths, cut, most, share, wordless, tuple(captions))


def shortened(ids: list[int], most: int) -> list[int]:
    """At most so many tokens of a caption, the last of which stays."""
    return ids if len(ids) <= most else [*ids[: most - 1], ids[-1]]
