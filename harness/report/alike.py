"""Do two drawings look the same?  Their text and shapes are compared, coordinates as far as an eye sees.

The last bit of a coordinate depends on the processor that computed it; nobody sees it, so it makes no figure stale.
"""

from __future__ import annotations

import re

import numpy as np

EYE = 0.05  # points; a hair line is ten times as wide
NUMBER = re.compile(r"(?<![\w#.-])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.])")
IDENTIFIER = re.compile(r"\b[a-zA-Z][0-9a-f]{10}\b")  # matplotlib's: a hash of coordinates, last bits and all


def alike(one: bytes, other: bytes) -> bool:
    """Whether two SVG files differ by less than can be seen."""
    if one == other:
        return True
    try:
        (words, numbers), (other_words, other_numbers) = (_read(svg.decode()) for svg in (one, other))
    except UnicodeDecodeError:
        return False
    return words == other_words and bool(np.allclose(numbers, other_numbers, rtol=0, atol=EYE))


def _read(svg: str) -> tuple[str, np.ndarray]:
    """All but the numbers, and the numbers; identifiers by the order in which they come."""
    named = {name: f"id {place}" for place, name in enumerate(dict.fromkeys(IDENTIFIER.findall(svg)))}
    text = IDENTIFIER.sub(lambda found: named[found[0]], svg)
    return NUMBER.sub("0", text), np.array(NUMBER.findall(text), dtype=float)
