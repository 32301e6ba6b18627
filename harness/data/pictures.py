"""Pictures in a folder or a tar, found by their names and never unpacked.  No torch here."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from PIL import Image

from harness.data.split import DataError


class Pictures:
    """A folder or an uncompressed tar of pictures: found by the end of their path, read by any thread."""

    def __init__(self, root: Path) -> None:
        """Raises DataError where `root` is neither."""
        self.root = root
        self._inside: dict[str, tuple[int, int]] = {}  # tar: path -> where its bytes start, how many
        if root.is_dir():
            paths = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
        elif root.is_file():
            paths = self._index()
        else:
            raise DataError(f"{root}: no such folder or tar file of pictures")
        self._named: dict[str, list[str]] = {}  # file name -> paths that end with it
        for path in paths:
            self._named.setdefault(path.rpartition("/")[2], []).append(path)

    def _index(self) -> list[str]:
        try:
            with tarfile.open(self.root, "r:") as tar:
                self._inside = {m.name: (m.offset_data, m.size) for m in tar if m.isfile()}
        except tarfile.TarError as error:
            raise DataError(f"{self.root}: not a tar file that can be read in place (uncompressed): {error}") from error
        return list(self._inside)

    def find(self, filename: str) -> str:
        """The path of a picture; `filename` may carry folders, of which `root` may be one.  Raises DataError."""
        same_name = self._named.get(filename.rpartition("/")[2], [])
        exact = [path for path in same_name if f"/{path}".endswith(f"/{filename}")]
        found = exact or [path for path in same_name if f"/{filename}".endswith(f"/{path}")]
        if len(found) != 1:
            raise DataError(f"{self.root}: {'several pictures are' if found else 'no picture is'} called {filename}")
        return found[0]

    def read(self, path: str) -> bytes:
        if path not in self._inside:
            return (self.root / path).read_bytes()
        start, size = self._inside[path]
        with self.root.open("rb") as tar:  # a handle of its own, so that threads do not share a position
            tar.seek(start)
            return tar.read(size)

    def squashed(self, path: str, size: int) -> tuple[tuple[int, int], Image.Image]:
        """Width and height in pixels, and the whole picture as `size` x `size` RGB.  Raises DataError."""
        try:
            with Image.open(io.BytesIO(self.read(path))) as picture:
                return picture.size, picture.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = "unknown picture format" if isinstance(error, Image.UnidentifiedImageError) else error
            raise DataError(f"{self.root}: {path} is no readable picture: {reason}") from error
