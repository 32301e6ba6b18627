"""Results behind a URI that every node of a cluster reaches: what a job leaves is put there, and fetched from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.atomic import atomic_path
from harness.spec.job import SpecError


@dataclass(frozen=True)
class Shared:
    """Files of jobs under a URI, laid out as in a results folder."""

    uri: str  # any that pyarrow or fsspec knows
    folder: str  # name of the results folder

    def push(self, local: Path, names: Sequence[str]) -> None:
        """Puts files of a local results folder there, each whole or not at all; those that are gone here go there too.

        Raises OSError.
        """
        system, root = self._opened()
        for name in names:
            target = f"{root}/{name}"
            if not (local / name).exists():
                if _there(system, target):
                    system.delete_file(target)
                continue
            system.create_dir(target.rpartition("/")[0], recursive=True)
            with (local / name).open("rb") as source, system.open_output_stream(f"{target}.part") as sink:
                while block := source.read(1 << 20):
                    sink.write(block)
            system.move(f"{target}.part", target)

    def fetch(self, local: Path, names: Sequence[str]) -> None:
        """Brings those that are there into a local results folder, whole or not at all.  Raises OSError."""
        system, root = self._opened()
        for name in names:
            if not _there(system, f"{root}/{name}"):
                continue
            with (
                atomic_path(local / name) as temporary,
                temporary.open("wb") as sink,
                system.open_input_stream(f"{root}/{name}") as source,
            ):
                while block := source.read(1 << 20):
                    sink.write(block)

    def discard(self, names: Sequence[str]) -> None:
        """Raises OSError."""
        system, root = self._opened()
        for name in names:
            if _there(system, f"{root}/{name}"):
                system.delete_file(f"{root}/{name}")

    def _opened(self) -> tuple[Any, str]:
        """The file system and the folder in it.  Raises SpecError for a URI that nothing here can open."""
        system, path = opened(self.uri)
        return system, f"{path.rstrip('/')}/{self.folder}"


def opened(uri: str) -> tuple[Any, str]:
    """The pyarrow file system of a URI, and the path in it.  Raises SpecError."""
    from pyarrow import ArrowException, fs

    try:
        return fs.FileSystem.from_uri(uri)
    except (ArrowException, OSError, ValueError, TypeError) as error:
        try:
            import fsspec

            system, path = fsspec.core.url_to_fs(uri)
        except (ImportError, ValueError, OSError):
            raise SpecError(f"--storage {uri!r} cannot be opened: {' '.join(str(error).split())}") from None
        return fs.PyFileSystem(fs.FSSpecHandler(system)), path


def check_storage(uri: str) -> None:
    """Before anything runs.  Raises SpecError."""
    if uri:
        opened(uri)


def _there(system: Any, path: str) -> bool:
    from pyarrow import fs

    return system.get_file_info(path).type == fs.FileType.File


def checkpoint_files(key: str) -> list[str]:
    """The best weights before the state, which is never there without those it was saved after."""
    return [f"checkpoints/{key}/{name}" for name in ("vocabulary.npz", "best.safetensors", "last.pt")]


def result_files(key: str) -> list[str]:
    """The record last, so that one that is there has the others."""
    return [f"scores/{key}.npy", f"concepts/{key}.npz", f"ranks/{key}.npz", f"records/{key}.json"]
