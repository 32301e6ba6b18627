"""A whole folder of features from pictures and their captions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence

from rich.progress import Progress as Bars

from harness.data.captioned.picture import Picture
from harness.data.extracted.components import Components
from harness.data.extracted.fill import extract
from harness.data.extracted.fitted import FULL, components_line, components_of, full_folder, project
from harness.data.extracted.folder import TRAIN, Folder
from harness.data.extracted.looked import broken_line, look_at_all
from harness.data.extracted.regions import Extractor
from harness.data.memo import Memo
from harness.data.pictures import Container


def write_all(
    folder: Folder,
    wanted: Mapping[str, Sequence[tuple[Picture, str]]],
    store: Container,
    extractor: Extractor,
    batch: int,
    memo: Memo,
    shown: Bars,
) -> Iterator[str]:
    """Stores what is not stored yet of each split's pictures, told with their paths; lines that say what was done.

    Raises DataError and OSError.
    """
    looked = look_at_all(store, {split: [path for _, path in both] for split, both in wanted.items()}, memo, shown)
    for split, found in looked.items():
        folder.identify(split, found)
    seen = {split: [one for one in both if one[1] not in looked[split].broken] for split, both in wanted.items()}
    fit = None
    if folder.settings["reduce"]:
        train = [path for _, path in seen.get(TRAIN, ())]
        fit = components_of(folder, train, looked.get(TRAIN), store, extractor, batch, shown)
        yield components_line(fit)
    for split, here in seen.items():
        yield write(folder, split, here, store, extractor, batch, shown, fit)
        if split == TRAIN and (folder.path / FULL).exists():
            shutil.rmtree(folder.path / FULL)
    if line := broken_line(looked):
        yield line


def write(
    folder: Folder,
    split: str,
    seen: Sequence[tuple[Picture, str]],
    store: Container,
    extractor: Extractor,
    batch: int,
    shown: Bars,
    found: Components | None = None,
) -> str:
    """The files of a split from its pictures and their paths, as far as they are not stored; what to say of it.

    found: what features are reduced to, None = they stay as they are.
    """
    if folder.stored(split, len(seen)):
        folder.finish(split)
        return f"{split}: {len(seen)} pictures, cached"
    folder.write_texts(split, [picture for picture, _ in seen])
    bar = shown.add_task(split, total=len(seen))
    paths = [path for _, path in seen]

    def show(done: int) -> None:
        shown.update(bar, completed=done)

    full = full_folder(folder, extractor.backbone.dim) if found and split == TRAIN else None
    if found and full and full.stored(TRAIN, len(seen)):
        project(folder, full, [f"{store.root}: {path}" for path in paths], found, batch, show)
    else:
        extract(folder, split, paths, store, extractor, batch, show, found)
    return f"{split}: {len(seen)} pictures, done"
