"""Words and values that a user gave, against those that are known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from harness.spec.job import SpecError

SYNONYMS = {
    "learning_rate": "lr",
    "batch_size": "batch",
    "embed_size": "dim",
    "grad_clip": "clip",
    "optimizer": "optimiser",
}


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean a, b?` or, where nothing is near, `; known: ...`."""
    known = list(known)
    found = near(word, known)
    return f"; did you mean {', '.join(found)}?" if found else f"; known: {', '.join(known)}"


def near(word: str, known: Iterable[str], cutoff: float = 0.5) -> list[str]:
    """Names that may have been meant, nearest first: the same but for case, signs and section, else three like it.

    cutoff: how like it they must be, from 0 to 1.
    """
    known = list(known)
    alike = [name for name in known if _bare(word) in (_bare(name), _bare(name.rpartition(".")[2]))]
    section, dot, last = word.rpartition(".")
    if not alike and last.lower() in SYNONYMS:
        return near(section + dot + SYNONYMS[last.lower()], known, cutoff)
    return alike or get_close_matches(word, known, n=3, cutoff=cutoff)


def _bare(name: str) -> str:
    """`VSE++` and `vsepp`, `vse-infty` and `vse_infty` are one."""
    return name.lower().replace("++", "pp").replace("∞", "infty").replace("-", "").replace("_", "")


def fitted(value: Any, default: Any, where: str) -> Any:
    """`value` as the type of `default` (an int may stand for a float).  Raises SpecError otherwise."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise SpecError(f"{where} must be {type(default).__name__} like {default!r}, got {value!r}")
    return value
