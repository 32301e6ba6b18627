"""Words and values that a user gave, against those that are known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from harness.spec.job import SpecError


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean a, b?` or, where nothing is near, `; known: ...`."""
    known = list(known)
    near = get_close_matches(word, known, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(near)}?" if near else f"; known: {', '.join(known)}"


def fitted(value: Any, default: Any, where: str) -> Any:
    """`value` as the type of `default` (an int may stand for a float).  Raises SpecError otherwise."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise SpecError(f"{where} must be {type(default).__name__} like {default!r}, got {value!r}")
    return value
