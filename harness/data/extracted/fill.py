"""Features of a split into a folder, batch by batch, from where it was stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL.Image import Image

from harness.data.extracted.components import Components
from harness.data.extracted.folder import Folder
from harness.data.extracted.regions import Extractor, in_pixels
from harness.data.int8 import encoded
from harness.data.pictures import Container, squashed
from harness.data.split import DataError

# rows -> (B, R, D) float16 fragments, (B, 2) width, height, (B, R, 4) boxes in pixels
Read = Callable[[slice], tuple[np.ndarray, np.ndarray, np.ndarray]]


def fill(
    folder: Folder,
    split: str,
    names: Sequence[str],
    shape: tuple[int, int],
    read: Read,
    batch: int,
    show: Callable[[int], object],
) -> None:
    """Stores what is not stored yet of the pictures called `names`, `batch` at a time, and names the split's arrays.

    shape: fragments R and width D.  `show` hears how many are stored.  Raises DataError for features beyond float16.
    """
    count, (regions, dim) = len(names), shape
    shapes = {"img_sizes": (count, 2), "boxes": (count, regions, 4), "ims_scales": (count, regions)}
    shapes["ims"] = (count, regions, dim)
    stores = folder.open(split, {kind: shapes[kind] for kind in folder.stores})
    show(begun := folder.done.get(split, 0))
    for start in range(begun, count, batch):
        rows = slice(start, min(start + batch, count))
        fragments, sizes, boxes = read(rows)
        if not (finite := np.isfinite(fragments).all((1, 2))).all():
            raise DataError(f"{names[start + int(finite.argmin())]} gives features beyond float16")
        if "ims_scales" in stores:
            stores["ims"][rows], stores["ims_scales"][rows] = encoded(fragments)
        else:
            stores["ims"][rows] = fragments
        stores["img_sizes"][rows] = sizes
        stores["boxes"][rows] = boxes
        for store in stores.values():
            store.flush()
        folder.mark(split, rows.stop)
        show(rows.stop)
    folder.finish(split)


def extract(
    folder: Folder,
    split: str,
    paths: Sequence[str],
    pictures: Container,
    extractor: Extractor,
    batch: int,
    show: Callable[[int], object] = lambda _: None,
    found: Components | None = None,
) -> None:
    """`fill` from the pictures `paths`.  Raises DataError, also for an unreadable picture.

    found: what features are reduced to, once rounded as if they had been stored whole; None = they stay as they are.
    """
    with ThreadPoolExecutor(os.cpu_count()) as threads:

        def one(path: str) -> tuple[tuple[int, int], Image, np.ndarray]:
            picture = pictures.picture(path)
            try:
                places = extractor.places(picture)
            except DataError as error:
                raise DataError(f"{pictures.root}: {path}: {error}") from error
            return picture.size, squashed(picture, extractor.backbone.size), places

        def read(rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            sizes, squares, places = zip(*threads.map(one, paths[rows]), strict=True)
            shares, sizes = np.stack(places), np.array(sizes)
            fragments = extractor.fragments(squares, shares)
            return found.reduced(fragments) if found else fragments, sizes, in_pixels(shares, sizes)

        names = [f"{pictures.root}: {path}" for path in paths]
        shape = (extractor.regions, len(found) if found else extractor.backbone.dim)
        fill(folder, split, names, shape, read, batch, show)
