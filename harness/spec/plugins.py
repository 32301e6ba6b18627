"""Methods by others: installed packages that name an entry point, and files given on the command line.

An entry point of group `selfalign_harness.methods` names a module of the shape a built-in method has, and says its
`FAMILY` as a literal; so does a file.  Neither is imported here: what they say is read, as it is of built-in ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from harness.spec.job import SpecError

GROUP = "selfalign_harness.methods"


@dataclass(frozen=True)
class Plugin:
    """Where a method by others lies."""

    name: str  # of the method
    path: Path
    module: str = ""  # importable name; "" = the file alone
    distribution: str = ""  # "" = no package, a file
    version: str = ""

    @property
    def giver(self) -> str:
        """Who brings it, for people."""
        return f"{self.distribution} {self.version}" if self.distribution else self.path.name

    @property
    def origin(self) -> str:
        """Who brings it and a hash of the source, for the identity of a job."""
        digest = hashlib.sha256()
        for file in _sources(self):
            digest.update(file.read_bytes() + b"\0")
        return f"{self.giver} {digest.hexdigest()[:12]}"


@dataclass(frozen=True)
class Chosen:
    """Which plugins a run looks at."""

    files: tuple[Path, ...] = ()
    installed: bool = True


_chosen = [Chosen()]


def chosen() -> Chosen:
    return _chosen[0]


def choose(files: Sequence[Path] = (), installed: bool = True) -> None:
    """Which plugins this process looks at from now on.  Raises SpecError where a file is not there."""
    for file in files:
        if file.suffix != ".py" or not file.is_file():
            raise SpecError(f"--plugin {file}: no such Python file")
    _chosen[0] = Chosen(tuple(dict.fromkeys(file.resolve() for file in files)), installed)


def found(among: Chosen) -> dict[str, Plugin]:
    """Every method by others by its name.  Raises SpecError where two bring one of the same name."""
    by_name: dict[str, Plugin] = {}
    for plugin in (*(Plugin(file.stem, file) for file in among.files), *(_installed() if among.installed else ())):
        other = by_name.setdefault(plugin.name, plugin)
        if other.path != plugin.path:
            raise SpecError(f"{other.giver} and {plugin.giver} both bring a method {plugin.name!r}")
    return by_name


def _installed() -> Iterator[Plugin]:
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        dist = point.dist
        name, version = (dist.name, dist.version) if dist else (point.module, "")
        path = _located(point.module)
        if path is None:
            raise SpecError(f"{name} {version}: no file of module {point.module}; --no-plugins goes without")
        yield Plugin(point.name, path, point.module, name, version)


def _located(module: str) -> Path | None:
    """The file of a module, found without importing it or a package it is in."""
    top, *below = module.split(".")
    spec = find_spec(top)
    if spec is None or spec.origin is None:
        return None
    bases = [Path(place).joinpath(*below) for place in spec.submodule_search_locations or ()] if below else []
    files = [Path(spec.origin)] if not below else [f for b in bases for f in (b.with_suffix(".py"), b / "__init__.py")]
    return next((file for file in files if file.is_file()), None)


def _sources(plugin: Plugin) -> list[Path]:
    """What the hash is of: all of a package's Python files, or the one file."""
    depth = plugin.module.count(".") + (plugin.path.name == "__init__.py")
    return sorted(plugin.path.parents[depth - 1].rglob("*.py")) if plugin.module and depth else [plugin.path]
