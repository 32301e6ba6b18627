"""Which queries are worth a look: where two methods disagree most, where both fail worst, and some of no account.

Pure: 0-based ranks of one direction in, query numbers out, ties in the order of the queries.
"""

from __future__ import annotations

import re

import numpy as np

from harness.spec.job import SpecError

WAYS = ("t2i", "i2t")


def disagreements(better: np.ndarray, worse: np.ndarray, owner: np.ndarray, count: int) -> list[int]:
    """Queries whose answer `better` places most times further up than `worse` does; those alone where it does so.

    owner: (Q,) which image a query belongs to; the captions of one image count once.
    """
    gain = (worse + 1) / (better + 1)
    return _first(np.argsort(-gain, kind="stable"), gain > 1, owner, count)


def failures(a: np.ndarray, b: np.ndarray, owner: np.ndarray, count: int) -> list[int]:
    """Queries whose answer lies deepest even for the better of the two, from rank 2 on, one an image."""
    best = np.minimum(a, b)
    return _first(np.argsort(-best, kind="stable"), best > 0, owner, count)


def _first(order: np.ndarray, fits: np.ndarray, owner: np.ndarray, count: int) -> list[int]:
    found: dict[int, int] = {}  # image -> query
    for query in order[fits[order]].tolist():
        found.setdefault(int(owner[query]), query)
        if len(found) == count:
            break
    return list(found.values())


def spread(queries: int, count: int) -> list[int]:
    """So many query numbers, evenly spread from the first to the last."""
    return np.unique(np.linspace(0, queries - 1, min(count, queries)).round().astype(int)).tolist()


def chosen(text: str, sizes: dict[str, int]) -> dict[str, list[int]]:
    """`t2i:17,i2t:3` -> numbers by direction.  sizes: queries of each.  Raises SpecError."""
    found: dict[str, list[int]] = {way: [] for way in WAYS}
    for word in filter(None, (part.strip() for part in text.split(","))):
        matched = re.fullmatch(rf"({'|'.join(WAYS)}):(\d+)", word)
        if matched is None:
            raise SpecError(f"--queries takes numbers such as t2i:17,i2t:3, got {word!r}")
        way, number = matched[1], int(matched[2])
        if number >= sizes[way]:
            raise SpecError(f"there is no query {word}: {way} has {sizes[way]}, from 0")
        found[way].append(number)
    return found
