"""The principal components that a folder's features are reduced to: fitted once, on training features of full width."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from rich.progress import Progress as Bars

from harness.atomic import remove_leftovers
from harness.data.extracted import components
from harness.data.extracted.components import Components
from harness.data.extracted.fill import extract, fill
from harness.data.extracted.folder import BEFORE, TRAIN, Folder
from harness.data.extracted.looked import Looked
from harness.data.extracted.regions import Extractor
from harness.data.pictures import Container
from harness.data.split import DataError

COMPONENTS = "components.npz"  # in the folder written
FULL = ".full"  # in the folder written: training features of full width, as long as they are needed


def project(
    folder: Folder,
    full: Folder,
    paths: Sequence[str],
    found: Components,
    batch: int,
    show: Callable[[int], object] = lambda _: None,
) -> None:
    """`fill` the training split from its features of full width."""
    features, sizes, boxes = (full.array(TRAIN, kind) for kind in ("ims", "img_sizes", "boxes"))

    def read(rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return found.reduced(features[rows]), sizes[rows], boxes[rows]

    fill(folder, TRAIN, paths, (features.shape[1], len(found)), read, batch, show)


def full_folder(folder: Folder, dim: int) -> Folder:
    """Where training features of full width lie until they are stored reduced."""
    return Folder(folder.path / FULL, folder.settings | BEFORE | {"dim": dim})


def components_of(
    folder: Folder,
    paths: Sequence[str],
    looked: Looked | None,
    store: Container,
    extractor: Extractor,
    batch: int,
    shown: Bars,
) -> Components:
    """Those of the folder; where it has none yet, fitted on the training pictures `paths`, and stored.

    looked: None where the training pictures are not among those asked for.
    Raises DataError where there is nothing to fit on, and where stored components are not those the folder was begun
    with.
    """
    path = folder.path / COMPONENTS
    if folder.components:
        found = components.load(path)
        if found.digest != folder.components:
            raise DataError(f"{path}: not the components that dataset.json names; choose another --out")
        return found
    if looked is None:
        raise DataError("--reduce is fitted on train, which is not among the splits and not in the folder yet")
    folder.save()
    full = full_folder(folder, extractor.backbone.dim)
    remove_leftovers(full.path)
    full.identify(TRAIN, looked)
    if not full.stored(TRAIN, len(paths)):
        bar = shown.add_task(f"{TRAIN}: full width", total=len(paths))
        extract(full, TRAIN, paths, store, extractor, batch, lambda n: shown.update(bar, completed=n))
        shown.remove_task(bar)
    full.finish(TRAIN)
    bar = shown.add_task("components")
    number = folder.settings["reduce"]
    features = full.array(TRAIN, "ims")
    found = components.fit(features, number, show=lambda n, all_: shown.update(bar, completed=n, total=all_))
    shown.remove_task(bar)
    found.save(path)
    folder.components = found.digest
    folder.save()
    return found


def components_line(found: Components) -> str:
    """What they keep."""
    number, width = found.directions.shape
    kept = f"{number} of {width} dimensions keep {found.explained.sum():.1%} of the variance"
    return f"components: {kept} of {int(found.fragments):,} training fragments"
