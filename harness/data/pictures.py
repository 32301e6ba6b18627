"""Pictures in a folder, a tar (also compressed) or a zip, found by their names and never unpacked.  No torch here.

What a backbone or a reader of a page sees is `upright`: RGB of 8 bits, turned as EXIF says, transparency
over white, the first frame of several; grey of 16 bits divided by 257, grey of 32 bits or floats stretched from its
smallest to its largest value.  Only the formats of `FORMATS` are opened, as Pillow hands others to outside programs.
"""

from __future__ import annotations

import io
import os
import tarfile
import threading
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from harness.data.memo import Stamp, stamp
from harness.data.split import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning)

warnings.simplefilter("error", Image.DecompressionBombWarning)  # too many pixels are refused, not warned of


def upright(picture: Image.Image) -> Image.Image:
    """The whole picture as RGB of 8 bits, by the rules above.  Raises one of `UNREADABLE`."""
    turned = ImageOps.exif_transpose(picture)
    if turned.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(turned) // 257).astype(np.uint8)).convert("RGB")
    if turned.mode in ("I", "F"):
        return Image.fromarray(_stretched(np.asarray(turned, dtype=np.float64))).convert("RGB")
    if turned.has_transparency_data:
        over = turned.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return turned.convert("RGB")


def squashed(picture: Image.Image, size: int) -> Image.Image:
    """The whole picture as a square of `size` x `size` pixels."""
    return picture.resize((size, size), Image.Resampling.BICUBIC)


def _stretched(grey: np.ndarray) -> np.ndarray:
    """(H, W) uint8, 0 the smallest value and 255 the largest; all 0 where there is but one."""
    if not np.isfinite(grey).all():
        raise ValueError("some of its pixels are NaN or infinite")
    least, range_ = grey.min(), np.ptp(grey)
    return np.rint((grey - least) / (range_ or 1) * 255).astype(np.uint8)


def _files(root: Path) -> Iterator[str]:
    """Files below a folder, links followed; a folder that links to one above itself is not entered again."""
    seen: set[str] = set()
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        yield from ((Path(folder) / name).relative_to(root).as_posix() for name in names)


class Container:
    """Pictures known by a path, read by any thread."""

    root: Path

    def find(self, filename: str) -> str:
        """The path of a picture that captions name.  Raises DataError."""
        return filename

    def read(self, path: str) -> bytes:
        """The file as it is.  Raises OSError where it cannot be read."""
        raise NotImplementedError

    def stamp(self, path: str) -> Stamp:
        """Of the file that holds the picture: itself, or the archive.  Raises OSError."""
        raise NotImplementedError

    def picture(self, path: str) -> Image.Image:
        """The whole picture, `upright`.  Raises DataError, also for one of more pixels than Pillow's limit."""
        try:
            with Image.open(io.BytesIO(self.read(path)), formats=FORMATS) as picture:
                return upright(picture)
        except UNREADABLE as error:
            reason = "unknown picture format" if isinstance(error, Image.UnidentifiedImageError) else error
            raise DataError(f"{self.root}: {path} is no readable picture: {reason}") from error


class Pictures(Container):
    """A folder, tar or zip of pictures: found by the end of their path, read by any thread."""

    def __init__(self, root: Path) -> None:
        """Raises DataError where `root` is none of them."""
        self.root = root
        self._inside: dict[str, tuple[int, int]] = {}  # plain tar: path -> where its bytes start, how many
        self._archive: tarfile.TarFile | zipfile.ZipFile | None = None  # compressed
        self._turn = threading.Lock()  # a compressed archive has one position, which threads take turns at
        if root.is_dir():
            paths = list(_files(root))
        elif root.is_file():
            paths = self._index()
        else:
            raise DataError(f"{root}: no such folder, tar or zip of pictures")
        self._named: dict[str, list[str]] = {}  # file name -> paths that end with it
        for path in paths:
            self._named.setdefault(path.rpartition("/")[2], []).append(path)

    def _index(self) -> list[str]:
        try:
            if zipfile.is_zipfile(self.root):
                self._archive = zipfile.ZipFile(self.root)
                return [member.filename for member in self._archive.infolist() if not member.is_dir()]
            with tarfile.open(self.root) as tar:
                members = [member for member in tar if member.isfile()]
            if not _is_plain(self.root):
                self._archive = tarfile.open(self.root)  # noqa: SIM115
                return [member.name for member in members]
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
            raise DataError(f"{self.root}: no tar or zip of pictures that can be read: {error}") from error
        self._inside = {member.name: (member.offset_data, member.size) for member in members}
        return list(self._inside)

    @property
    def paths(self) -> list[str]:
        """Of all files, whatever they hold."""
        return [path for same_name in self._named.values() for path in same_name]

    def find(self, filename: str) -> str:
        """The path of a picture; `filename` may carry folders, of which `root` may be one.  Raises DataError."""
        same_name = self._named.get(filename.rpartition("/")[2], [])
        exact = [path for path in same_name if f"/{path}".endswith(f"/{filename}")]
        found = exact or [path for path in same_name if f"/{filename}".endswith(f"/{path}")]
        if len(found) != 1:
            raise DataError(f"{self.root}: {'several pictures are' if found else 'no picture is'} called {filename}")
        return found[0]

    def read(self, path: str) -> bytes:
        """The file as it is.  Raises OSError where it cannot be read."""
        if self._archive is not None:
            return self._unpacked(self._archive, path)
        if path not in self._inside:
            return (self.root / path).read_bytes()
        start, size = self._inside[path]
        with self.root.open("rb") as tar:  # a handle of its own, so that threads do not share a position
            tar.seek(start)
            return tar.read(size)

    def _unpacked(self, archive: tarfile.TarFile | zipfile.ZipFile, path: str) -> bytes:
        try:
            with self._turn:
                file = archive.open(path) if isinstance(archive, zipfile.ZipFile) else archive.extractfile(path)
                assert file is not None  # only files were listed
                with file:
                    return file.read()
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, RuntimeError, NotImplementedError) as error:
            raise OSError(f"it cannot be unpacked: {error}") from error

    def stamp(self, path: str) -> Stamp:
        """Of the file that holds the picture: itself, or the archive.  Raises OSError."""
        return stamp(self.root / path if self.root.is_dir() else self.root)


def _is_plain(path: Path) -> bool:
    """Whether a tar is uncompressed."""
    try:
        with tarfile.open(path, "r:"):
            return True
    except tarfile.ReadError:
        return False
