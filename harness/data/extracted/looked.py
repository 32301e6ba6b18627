"""Pictures before the backbone looks at them: their content, once for all, and those that cannot be read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress as Bars

from harness.data.memo import Memo
from harness.data.pictures import Container
from harness.data.split import DataError
from harness.progress import counted

BROKEN_AT_MOST = 0.1  # share of the pictures that may be left out because they cannot be read; one always may
BROKEN_SAID = 3  # names of them that are said


@dataclass(frozen=True)
class Looked:
    """Pictures of a split, looked at before the backbone does."""

    digest: str  # of the content of all, in their order
    broken: dict[str, str]  # path -> why it cannot be read


def look(
    pictures: Container, paths: Sequence[str], memo: Memo, show: Callable[[int], object] = lambda _: None
) -> Looked:
    """Reads each picture that is not known yet.  `show` hears how many are looked at.  Raises OSError."""

    def one(path: str) -> tuple[str, str]:
        """sha256 and why the picture cannot be read, "" where it can."""
        digest = hashlib.sha256(pictures.read(path)).hexdigest()
        try:
            pictures.picture(path)
        except DataError as error:
            return digest, str(error)
        return digest, ""

    def known(path: str) -> tuple[str, str]:
        return memo.of(f"{pictures.root.resolve()}: {path}", pictures.stamp(path), lambda: one(path))

    found: list[tuple[str, str]] = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for digest, problem in threads.map(known, paths):
            found.append((digest, problem))
            show(len(found))
    together = hashlib.sha256("".join(digest for digest, _ in found).encode()).hexdigest()
    return Looked(together, {path: problem for path, (_, problem) in zip(paths, found, strict=True) if problem})


def check_broken(pictures: Path, looked: Mapping[str, Looked], paths: Mapping[str, Sequence[str]]) -> None:
    """Raises DataError where more pictures are broken than can be left out, or all of a split."""
    problems = [problem for found in looked.values() for problem in found.broken.values()]
    count = sum(map(len, paths.values()))
    if len(problems) > max(1, BROKEN_AT_MOST * count):
        share = f"{len(problems)} of {count} pictures cannot be read, more than {BROKEN_AT_MOST:.0%}"
        raise DataError(f"{pictures}: {share}: {problems[0]}")
    for split, found in looked.items():
        if len(found.broken) == len(paths[split]):
            raise DataError(f"no picture of {split} can be read: {next(iter(found.broken.values()))}")


def look_at_all(store: Container, paths: Mapping[str, Sequence[str]], memo: Memo, shown: Bars) -> dict[str, Looked]:
    """Of each split, with a bar; what was found is kept, also where it is stopped.  Raises DataError and OSError."""
    looked = {}
    try:
        for split, here in paths.items():
            bar = shown.add_task(f"{split}: reading", total=len(here))
            looked[split] = look(store, here, memo, lambda n, bar=bar: shown.update(bar, completed=n))
            shown.remove_task(bar)
    finally:
        memo.save()
    check_broken(store.root, looked, paths)
    return looked


def broken_line(looked: Mapping[str, Looked]) -> str:
    """How many pictures were left out, and which first; "" where none was."""
    paths = [path for found in looked.values() for path in found.broken]
    if not paths:
        return ""
    more = ", ..." if len(paths) > BROKEN_SAID else ""
    count, first = counted(len(paths), "picture"), ", ".join(paths[:BROKEN_SAID])
    return f"{count} cannot be read and left out (dataset.json says why): {first}{more}"
