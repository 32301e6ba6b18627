"""Where the pictures of a page come from: scenes are drawn, a user's own are read from `--images`, and only then."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from harness.data import karpathy, scenes
from harness.data.drawing import draw
from harness.data.pictures import Pictures
from harness.data.split import SPLITS, DataError

SIDE = 224  # pixels of the longer side


class Album(ABC):
    """Pictures of a split by their number, as data URIs."""

    @abstractmethod
    def uri(self, image: int) -> str | None:
        """None where there is no such picture.  Raises DataError where it cannot be read."""


class Empty(Album):
    """No pictures were asked for."""

    def uri(self, image: int) -> str | None:  # noqa: ARG002
        return None


class Drawn(Album):
    """The embedded scenes."""

    def __init__(self, split: str) -> None:
        self.scenes = scenes.scenes(split)

    def uri(self, image: int) -> str | None:
        picture = draw(self.scenes[image], SIDE).quantize(64)
        return _uri(picture, "PNG")


class Stored(Album):
    """A folder, tar or zip.  A picture is called as its id, with or without an ending, or as `names` has it."""

    def __init__(self, root: Path, ids: Sequence[str], names: Mapping[str, str]) -> None:
        """names: id -> file name.  Raises DataError where not one picture of the split is there."""
        self.pictures = Pictures(root)
        self.paths = [self._path(names.get(name, name)) for name in ids]
        if not any(self.paths):
            raise DataError(
                f"{root}: no picture of these data, such as {names.get(ids[0], ids[0])}; where ids are no file names, "
                "--captions names the file that tells them (dataset.json of the Karpathy splits)"
            )

    def _path(self, name: str) -> str | None:
        for ending in ("", ".jpg", ".png", ".jpeg"):
            try:
                return self.pictures.find(f"{name}{ending}")
            except DataError:
                continue
        return None

    @property
    def missing(self) -> int:
        return sum(path is None for path in self.paths)

    def uri(self, image: int) -> str | None:
        path = self.paths[image]
        if path is None:
            return None
        small = self.pictures.picture(path)
        small.thumbnail((SIDE, SIDE))
        return _uri(small, "JPEG", quality=75)


def file_names(captions: Path | None) -> dict[str, str]:
    """Id of a picture -> its file, by a caption file of the Karpathy splits; none without one.  Raises DataError."""
    if captions is None:
        return {}
    found = karpathy.read(captions)
    return {picture.id: picture.filename for split in SPLITS for picture in found.get(split, [])}


def _uri(picture: Image.Image, kind: str, **options: int) -> str:
    written = io.BytesIO()
    picture.save(written, kind, optimize=True, **options)
    return f"data:image/{kind.lower()};base64,{b64encode(written.getvalue()).decode()}"
