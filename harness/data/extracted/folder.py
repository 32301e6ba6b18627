"""The folder that pictures become: arrays in the field's layout, and `dataset.json` with what they were made of.

Each batch is on disk before `dataset.json` counts it; files get their names when they are whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.atomic import make_folder, write_atomically
from harness.data.captioned.picture import Picture
from harness.data.extracted.looked import Looked
from harness.data.split import DataError

STORES = {
    "img_sizes": np.float32,
    "boxes": np.float32,
    "ims": np.float16,
}  # `ims` last: it says that the split is whole
INT8_STORES = dict.fromkeys(("img_sizes", "boxes", "ims_scales"), np.float32) | {"ims": np.int8}
TRAIN = "train"
NO_DETECTOR = {"detector": "", "boxes": 0, "score": 0.0, "overlap": 0.0, "fragments": 0}
BEFORE = {"reduce": 0, "int8": False} | NO_DETECTOR  # settings that older folders do not name


class Folder:
    """The layout folder and its `dataset.json`: its settings, and `done`, the pictures stored per split.

    The setting `int8` says how features are stored.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Raises DataError where the folder was begun with other settings."""
        self.path = path
        self.settings = dict(settings)
        self.stores = INT8_STORES if self.settings.get("int8") else STORES
        self.components = ""  # digest of those that features are reduced to
        self.done: dict[str, int] = {}
        self.contents: dict[str, str] = {}  # split -> digest of its pictures
        self.broken: dict[str, dict[str, str]] = {}  # split -> pictures left out, and why
        if (marker := path / "dataset.json").exists():
            try:
                found = json.loads(marker.read_text(encoding="utf-8"))
                self.done = {split: int(count) for split, count in found["done"].items()}
                self.contents = dict(found.get("contents", {}))
                self.broken = dict(found.get("broken", {}))
                self.components = str(found.get("components", ""))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{marker}: not written by this program; choose another --out") from error
            if "weights" in self.settings and not found.get("weights"):
                raise DataError(
                    f"{marker}: begun by a version that did not keep which weights made the features, so that they "
                    "cannot be gone on with or called cached; choose another --out"
                )
            begun = {k: found.get(k, BEFORE.get(k)) for k in self.settings}
            if other := [f"{k} {begun[k]}, now {v}" for k, v in self.settings.items() if begun[k] != v]:
                raise DataError(
                    f"{marker}: begun with {'; '.join(other)}: repeat those settings or choose another --out"
                )

    def identify(self, split: str, looked: Looked) -> None:
        """Raises DataError where the split was begun with pictures of another content."""
        broken = sorted(looked.broken)
        same = self.contents.get(split) == looked.digest and sorted(self.broken.get(split, {})) == broken
        begun = self.done.get(split) or (self.components and split == TRAIN)
        if begun and not same:
            raise DataError(f"{self.path}: {split} was begun with other pictures; choose another --out")
        self.contents[split], self.broken[split] = looked.digest, looked.broken

    def mark(self, split: str, done: int) -> None:
        self.done[split] = done
        self.save()

    def save(self) -> None:
        """Writes `dataset.json`."""
        kept = {"done": self.done, "contents": self.contents, "broken": self.broken}
        if self.components:
            kept["components"] = self.components
        self._write("dataset.json", json.dumps(self.settings | kept, indent=1) + "\n")

    def write_texts(self, split: str, pictures: Sequence[Picture]) -> None:
        """`_caps.txt` and `_ids.txt`, both a line per caption: equal ids say which captions share a picture.

        `_identities.txt`, a line per picture, where these show persons.
        """
        self._write(f"{split}_caps.txt", "".join(f"{caption}\n" for p in pictures for caption in p.captions))
        self._write(f"{split}_ids.txt", "".join(f"{p.id}\n" for p in pictures for _ in p.captions))
        if any(p.identity is not None for p in pictures):
            self._write(f"{split}_identities.txt", "".join(f"{p.identity}\n" for p in pictures))

    def open(self, split: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.memmap]:
        """The unfinished arrays, begun anew if they are not all there."""
        make_folder(self.path)
        if not all(self._part(split, kind).exists() for kind in shapes):
            self.done[split] = 0
        mode = "r+" if self.done.get(split) else "w+"
        return {
            kind: np.lib.format.open_memmap(self._part(split, kind), mode, dtype=self.stores[kind], shape=shape)
            for kind, shape in shapes.items()
        }

    def stored(self, split: str, pictures: int) -> bool:
        """Whether all is on disk, under whichever name."""
        found = (self._array(split, kind).exists() or self._part(split, kind).exists() for kind in self.stores)
        return self.done.get(split) == pictures and all(found)

    def finish(self, split: str) -> None:
        """Gives the arrays their names; repeating it does no harm."""
        for kind in self.stores:
            if self._part(split, kind).exists():
                self._part(split, kind).replace(self._array(split, kind))

    def array(self, split: str, kind: str) -> np.memmap:
        """Of a split that is finished."""
        return np.load(self._array(split, kind), mmap_mode="r")

    def _write(self, name: str, text: str) -> None:
        write_atomically(self.path / name, lambda file: file.write(text.encode()))

    def _array(self, split: str, kind: str) -> Path:
        return self.path / f"{split}_{kind}.npy"

    def _part(self, split: str, kind: str) -> Path:
        return self.path / f"{split}_{kind}.npy.part"
