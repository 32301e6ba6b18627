"""Methods by others: installed packages that name an entry point, and files given on the command line.

An entry point of group `selfalign_harness.methods` names a module of the shape a built-in method has, and says its
`FAMILY` as a literal; so does a file.  Neither is imported here: what they say is read, as it is of built-in ones.
Installed packages may bring data sets and metrics too.  What is broken is left out in a line and stops nothing else.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.spec.job import SpecError

GROUP = "selfalign_harness.methods"
DATASETS = "selfalign_harness.datasets"  # name = module:function, which returns a `harness.data.split.Source`
METRICS = "selfalign_harness.metrics"  # name = module:function of 0-based ranks, (N,) i2t and (M,) t2i, to a number


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


def found(among: Chosen) -> tuple[dict[str, Plugin], list[str]]:
    """Every method by others by its name, and a line for every installed one that cannot be taken.

    Raises SpecError where a file given by hand has the name of another method.
    """
    by_name: dict[str, Plugin] = {}
    for plugin in (Plugin(file.stem, file) for file in among.files):
        other = by_name.setdefault(plugin.name, plugin)
        if other.path != plugin.path:
            raise SpecError(f"{other.giver} and {plugin.giver} both bring a method {plugin.name!r}")
    installed, lines = _installed() if among.installed else ({}, [])
    for name, plugin in installed.items():
        if name in by_name:
            raise SpecError(f"{by_name[name].giver} and {plugin.giver} both bring a method {name!r}")
    return {**by_name, **installed}, lines


def _installed() -> tuple[dict[str, Plugin], list[str]]:
    points, lines = _once(GROUP, "method")
    taken = {}
    for name, point in points.items():
        path = _located(point.module)
        if path is None:
            lines.append(f"{giver(point)} brings no method {name!r}: there is no file of module {point.module}")
            continue
        dist = point.dist
        of, version = (dist.name, dist.version) if dist else (point.module, "")
        taken[name] = Plugin(name, path, point.module, of, version)
    return taken, lines


def _once(group: str, what: str) -> tuple[dict[str, EntryPoint], list[str]]:
    """Entry points by name, and a line for every name that two bring: neither is taken, no order is the right one."""
    by_name: dict[str, dict[str, EntryPoint]] = {}
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        by_name.setdefault(point.name, {})[point.value] = point
    twice = {name: points for name, points in by_name.items() if len(points) > 1}
    lines = [
        f"{' and '.join(map(giver, points.values()))} both bring a {what} {name!r}: neither is taken"
        for name, points in twice.items()
    ]
    return {name: next(iter(points.values())) for name, points in by_name.items() if name not in twice}, lines


def giver(point: EntryPoint) -> str:
    """Who brings it, for people."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.module


def datasets() -> dict[str, EntryPoint]:
    """Data sets of installed packages by name, as far as this process looks at them; nothing is imported."""
    return _once(DATASETS, "data set")[0] if chosen().installed else {}


def metrics() -> tuple[dict[str, EntryPoint], list[str]]:
    """Metrics of installed packages, likewise, and a line for each that cannot be taken."""
    return _once(METRICS, "metric") if chosen().installed else ({}, [])


def loaded(point: EntryPoint) -> Any:
    """What an entry point names; what its import prints goes to stderr.

    Raises SpecError, one line that names the distribution, whatever the import raises.
    """
    try:
        with redirect_stdout(sys.stderr):
            return point.load()
    except (Exception, SystemExit) as error:
        raise SpecError(f"{giver(point)} brings no {point.name!r}: {type(error).__name__}: {error}") from error


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
