"""What can be known of scenes: for every caption the images it is true of, and those whose bag of attributes it fits.

Two rows of a table are made of it: `oracle`, which knows whether a statement is true of a scene, and `bag`, which knows
which attributes occur how often but nothing of what they are bound to, nor of places and relations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.grammar import ATTRIBUTES, PLACES, RELATIONS, Scene, Statement, Thing, related

FACTS = {
    pair: number
    for number, pair in enumerate(
        [(name, value) for name, words in ATTRIBUTES.items() for value in words] + [("place", p) for p in PLACES]
    )
}
VALUES = len(FACTS) - len(PLACES)  # the facts that are attributes
RELATION = {name: number for number, name in enumerate(RELATIONS)}
MENTIONED = 3  # most things of a statement
AT_ONCE = 256  # statements


def truths(statements: Sequence[Statement], drawn: Sequence[Scene]) -> np.ndarray:
    """(M, N) bool: is the statement true of the scene?  `grammar.holds` of all pairs."""
    facts, real = _facts(drawn)  # (N, T, F), (N, T)
    allowed = _allowed(drawn, real.shape[1])  # (K + 1, N, T, T)
    required, said, relation = _required(statements)  # (M, 3, F), (M, 3), (M,)
    found = np.zeros((len(statements), len(drawn)), dtype=bool)
    for start in range(0, len(statements), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        met = np.einsum("mif,ntf->mint", required[some], facts, optimize=True)  # (m, 3, N, T) required facts that hold
        fits = (met >= required[some].sum(2)[:, :, None, None] - 0.5) & real  # an unsaid mention fits any thing
        one, two, three = (fits[:, place] for place in range(MENTIONED))  # (m, N, T) each
        left = three.sum(2)[:, :, None, None] - three[..., None].astype(int) - three[:, :, None]  # (m, N, T, T)
        pair = one[..., None] & two[:, :, None] & allowed[relation[some]]  # (m, N, T, T)
        alone, both = said[some].sum(1) == 1, said[some].sum(1) == 2
        found[some] = np.where(
            alone[:, None],
            one.any(2),
            (pair & (both[:, None, None, None] | (left > 0))).any((2, 3)),
        )
    return found


def bags_hold(statements: Sequence[Statement], drawn: Sequence[Scene]) -> np.ndarray:
    """(M, N) bool: does each value that the statement names occur in the scene at least as often as it is named?"""
    facts, _ = _facts(drawn)
    there = facts.sum(1)[:, :VALUES]  # (N, V)
    named = _required(statements)[0].sum(1)[:, :VALUES]  # (M, V)
    return np.stack([(one <= there).all(1) for one in named])


def _facts(drawn: Sequence[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """What is true of every thing, (N, T, F) 0 or 1, and which things there are, (N, T) bool."""
    most = max(len(scene.things) for scene in drawn)
    facts = np.zeros((len(drawn), most, len(FACTS)), dtype=np.float32)
    real = np.zeros((len(drawn), most), dtype=bool)
    for image, scene in enumerate(drawn):
        for number, thing in enumerate(scene.things):
            facts[image, number, [FACTS[fact] for fact in _true_of(thing)]] = 1
            real[image, number] = True
    return facts, real


def _true_of(thing: Thing) -> list[tuple[str, str]]:
    return [*zip(ATTRIBUTES, thing.attributes, strict=True), *(("place", place) for place in thing.places)]


def _allowed(drawn: Sequence[Scene], most: int) -> np.ndarray:
    """(K + 1, N, T, T) bool: may two things of a scene be the first two of a statement with this relation, or none?"""
    allowed = np.zeros((len(RELATION) + 1, len(drawn), most, most), dtype=bool)
    for image, scene in enumerate(drawn):
        for a, first in enumerate(scene.things):
            for b, second in enumerate(scene.things):
                if a != b:
                    allowed[-1, image, a, b] = True
                    for name, number in RELATION.items():
                        allowed[number, image, a, b] = related(first, name, second)
    return allowed


def _required(statements: Sequence[Statement]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every mention what must be true (M, 3, F) 0 or 1, which mentions there are (M, 3) bool, the relation (M,)."""
    required = np.zeros((len(statements), MENTIONED, len(FACTS)), dtype=np.float32)
    said = np.zeros((len(statements), MENTIONED), dtype=bool)
    relation = np.full(len(statements), len(RELATION))  # the last: none
    for row, statement in enumerate(statements):
        for place, mention in enumerate(statement.mentions):
            said[row, place] = True
            values = {name: getattr(mention, name) for name in (*ATTRIBUTES, "place")}
            required[row, place, [FACTS[name, value] for name, value in values.items() if value]] = 1
        if statement.relation is not None:
            relation[row] = RELATION[statement.relation]
    return required, said, relation
