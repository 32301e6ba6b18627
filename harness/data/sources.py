"""Data by name: an embedded set, one of an installed package, or a folder in the precomp layout.  No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

from harness.data import precomp, scenes
from harness.data.split import DataError, Source
from harness.spec import plugins
from harness.spec.job import Data, SpecError
from harness.spec.names import near

EMBEDDED: Mapping[str, Callable[[], Source]] = {"scenes": lambda: scenes.source(scenes.Settings())}


def embedded(name: str, own: bool) -> bool:
    """Are these data found by name alone?  own: a folder, which may be called like an embedded set."""
    return not own and _known(name)


def _known(name: str) -> bool:
    return name in EMBEDDED or name in plugins.datasets()


def find(name: str) -> Source:
    """`scenes`, the data of an installed package, or the path of a folder.  Raises DataError."""
    if name in EMBEDDED:
        return EMBEDDED[name]()
    if (point := plugins.datasets().get(name)) is not None:
        return _of_others(point)
    if not Path(name).exists() and (close := near(name, EMBEDDED)):
        raise DataError(f"no data {name!r}: not a folder; did you mean {close[0]}?")
    if not Path(name).exists() and Path(name).name == name:
        raise DataError(
            f"no data {name!r}: neither {', '.join(EMBEDDED)} nor a folder here (harness.features makes one)"
        )
    return precomp.source(Path(name))


def shows_identities(data: Data) -> bool:
    """Whether its images tell whom they show, which is a truth that nobody need ask for.  Raises DataError."""
    return bool(find(data.path or data.name).identities)


def _of_others(point: EntryPoint) -> Source:
    """Raises DataError, one line that names the package, whatever its code raises."""
    where = f"{plugins.giver(point)} brings no data {point.name!r}"
    try:
        source = plugins.loaded(point)()
    except SpecError as error:
        raise DataError(str(error)) from error
    except Exception as error:
        raise DataError(f"{where}: {type(error).__name__}: {error}") from error
    if not isinstance(source, Source):
        raise DataError(f"{where}: {point.value} returns a {type(source).__name__}, not a harness.data.split.Source")
    return replace(source, name=point.name)


def described(name: str) -> tuple[Data, frozenset[str]]:
    """Opens the data far enough to know what they are, and what they offer a method.  Raises DataError."""
    opened = find(name)
    path = "" if _known(name) else name
    return replace(Data(), name=opened.name, path=path, fingerprint=opened.fingerprint, own=bool(path)), opened.offers
