"""Captions -> numbers: words of a vocabulary built from the training captions alone, or a text model's word pieces.

Tokenizer of words: lower-case, then every run of letters, digits or underscores, with an inner apostrophe allowed
(`don't` is one word); punctuation is dropped.  The field's NLTK tokenizer keeps punctuation as words of its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")
_WORD = re.compile(r"\w+(?:'\w+)*")


class Tokenizer(Protocol):
    """Whatever turns a caption into numbers.  0 is padding."""

    @property
    def size(self) -> int:
        """How many numbers there are."""
        ...

    def encode(self, caption: str) -> list[int]: ...


def words(caption: str) -> list[str]:
    """`A man's dog.` -> ["a", "man's", "dog"]"""
    return _WORD.findall(caption.lower())


@dataclass(frozen=True)
class Vocabulary:
    """Words seen at least `min_count` times in the captions it was built from, after the four specials."""

    known: tuple[str, ...]

    @classmethod
    def build(cls, captions: Iterable[str], min_count: int) -> Vocabulary:
        """captions: of the training split only.  Most frequent first, ties in alphabetical order."""
        counts = Counter(word for caption in captions for word in words(caption))
        kept = [word for word, count in counts.items() if count >= min_count]
        return cls(tuple(sorted(kept, key=lambda word: (-counts[word], word))))

    @property
    def size(self) -> int:
        return len(SPECIALS) + len(self.known)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.known, start=len(SPECIALS))}

    def encode(self, caption: str) -> list[int]:
        """`<start>` words `<end>`; a word it does not know becomes `<unk>`."""
        return [START, *(self._numbers.get(word, UNKNOWN) for word in words(caption)), END]


@dataclass(frozen=True)
class Tokens:
    """Encoded captions, padded."""

    ids: np.ndarray  # (M, L) int32, 0 where padded
    lengths: np.ndarray  # (M,) int64
    cut: int = 0  # captions that were longer than allowed

    def take(self, index: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Token ids (B, L) int64 and mask (B, L), no wider than the longest caption taken."""
        lengths = self.lengths[index]
        width = int(lengths.max())
        return self.ids[index, :width].astype(np.int64), np.arange(width) < lengths[:, None]


def tokens(captions: Sequence[str], tokenizer: Tokenizer, max_words: int) -> Tokens:
    """All captions as numbers.  One with more than `max_words` tokens is cut; its last (`<end>`, [SEP]) stays."""
    encoded = [tokenizer.encode(caption) for caption in captions]
    cut = sum(len(ids) > max_words for ids in encoded)
    encoded = [ids if len(ids) <= max_words else [*ids[: max_words - 1], ids[-1]] for ids in encoded]
    lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
    table = np.zeros((len(encoded), int(lengths.max(initial=1))), dtype=np.int32)
    for row, ids in zip(table, encoded, strict=True):
        row[: len(ids)] = ids
    return Tokens(table, lengths, cut)
