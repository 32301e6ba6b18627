"""Data by name: one of the embedded sets, or a folder in the precomp layout.  No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path

from harness.data import precomp, scenes
from harness.data.split import DataError, Source

EMBEDDED: Mapping[str, Callable[[], Source]] = {"scenes": lambda: scenes.source(scenes.Settings())}


def embedded(name: str, own: bool) -> bool:
    """Are these data embedded?  own: a folder, which may be called like an embedded set."""
    return not own and name in EMBEDDED


def find(name: str) -> Source:
    """`scenes`, or the path of a folder.  Raises DataError."""
    if name in EMBEDDED:
        return EMBEDDED[name]()
    if not Path(name).exists() and (near := get_close_matches(name, EMBEDDED, n=1)):
        raise DataError(f"no data {name!r}: not a folder; did you mean {near[0]}?")
    return precomp.source(Path(name))
