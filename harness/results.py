"""A results folder while a run writes to it: one run at a time, then its tables and page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import Timeout
from rich.console import Console

from harness import ROOT, locks, report
from harness.atomic import make_folder, remove_leftovers
from harness.data.split import DataError
from harness.spec.job import SpecError


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """One run at a time writes to a results folder, which goes again where all was refused.

    Raises OSError where it cannot be written at all.
    """
    made = [path for path in (folder, folder.parent) if not path.exists()]
    make_folder(folder)
    try:
        with locks.held(folder):
            inside = [path for path in folder.rglob("*") if path.is_dir()]
            remove_leftovers(folder, *inside)
            locks.remove_free(inside)
            yield
    except Timeout:
        raise OSError(f"another run is writing to {folder}") from None
    except (SpecError, DataError):
        if folder in made and not any(_files(folder / name) for name in ("records", "checkpoints")):
            shutil.rmtree(folder)  # nothing came of it
            with suppress(OSError):  # others' results lie beside it
                made[-1].rmdir()
        raise


def _files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))


def show(folder: Path, out: Console) -> None:
    """Writes tables, figures and the page, and says where they are."""
    out.print(report.write_and_tell(folder))
    out.print(f"tables: {_shown(folder / 'tables')}", highlight=False, soft_wrap=True)
    out.print(f"page: {_shown(folder / 'index.html')}", highlight=False, soft_wrap=True)


def agree(folder: Path, out: Console) -> None:
    """Says which rows agree with the repository's reference of this suite and these data, where there is one."""
    reference = ROOT / "results" / "reference" / folder.name
    if not (reference / "records").is_dir() or folder.resolve() == reference.resolve():
        return
    if line := report.agreement(folder, reference):
        out.print(f"agreement: {line}: {_shown(folder / report.AGREEMENT)}", highlight=False, soft_wrap=True)


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
