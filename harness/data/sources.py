"""Data by name: one of the embedded sets, or a folder in the precomp layout.  No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from harness.data import precomp, scenes
from harness.data.split import DataError, Source
from harness.spec.job import Data
from harness.spec.names import near

EMBEDDED: Mapping[str, Callable[[], Source]] = {"scenes": lambda: scenes.source(scenes.Settings())}


def embedded(name: str, own: bool) -> bool:
    """Are these data embedded?  own: a folder, which may be called like an embedded set."""
    return not own and name in EMBEDDED


def find(name: str) -> Source:
    """`scenes`, or the path of a folder.  Raises DataError."""
    if name in EMBEDDED:
        return EMBEDDED[name]()
    if not Path(name).exists() and (close := near(name, EMBEDDED)):
        raise DataError(f"no data {name!r}: not a folder; did you mean {close[0]}?")
    if not Path(name).exists() and Path(name).name == name:
        raise DataError(
            f"no data {name!r}: neither {', '.join(EMBEDDED)} nor a folder here (harness.features makes one)"
        )
    return precomp.source(Path(name))


def described(name: str) -> tuple[Data, frozenset[str]]:
    """Opens the data far enough to know what they are, and what they offer a method.  Raises DataError."""
    opened = find(name)
    path = "" if name in EMBEDDED else name
    return replace(Data(), name=opened.name, path=path, fingerprint=opened.fingerprint, own=bool(path)), opened.offers
