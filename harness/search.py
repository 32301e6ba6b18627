"""Ask a row: which pictures does a sentence find, which captions a picture?

python -m harness.search results/full-scenes:vsepp "a red ball"           a stored row before its test gallery
python -m harness.search models/clip "a dog on a beach" --gallery photos  a pretrained model before your own pictures
python -m harness.search models/clip photos/dog.jpg --gallery photos      a picture as the query
python -m harness.search mine=images.npy,captions.npy caption:17          embeddings from files, which have no encoder

A page with what was found is written beside the answer.
"""

from __future__ import annotations

import re
import sys
import webbrowser
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console

from harness import doors
from harness.atomic import write_atomically
from harness.commands import HELP
from harness.data import sources
from harness.run import choose_models
from harness.spec import given, needs, pretrained, registry, suites
from harness.spec.job import Job, SpecError
from harness.spec.names import nearest
from harness.spec.override import checked_settings
from harness.spec.runs import run_of
from harness.store import Store

if TYPE_CHECKING:
    from harness.searching import Found, Searcher
    from harness.searching_given import GivenSearcher

PRETRAINED = "model"  # what the row of a pretrained folder is called
PAGE = Path("found.html")
out = Console(highlight=False, soft_wrap=True, markup=False)
app = doors.Door()


@app.command(help=(__doc__ or "").partition("\n")[0], context_settings=HELP)
def main(
    row: Annotated[
        str,
        typer.Argument(
            help="RESULTS:ROW, a row of a results folder with its weights; or a pretrained folder or name; or "
            "NAME=FILE[,FILE][,OPTION=VALUE], embeddings as `run --row` takes them."
        ),
    ],
    query: Annotated[
        str,
        typer.Argument(
            help="A sentence, the file of a picture, or the id of one in the gallery.  Of embeddings: caption:ID or "
            "image:ID of their own (without ids the number of the row, from 0), or a .npy file of one vector."
        ),
    ],
    top: Annotated[int, typer.Option(min=1, max=1000, help="Items to show.")] = 5,
    gallery: Annotated[
        Path | None, typer.Option(help="Folder, tar or zip of pictures, for rows that read pixels.")
    ] = None,
    data: Annotated[
        str, typer.Option(help="`scenes`, or the folder of the data whose test split is the gallery; files need none.")
    ] = "",
    page: Annotated[Path, typer.Option(help="The page to write.")] = PAGE,
    show: Annotated[bool, typer.Option("--show/--no-show", help="Open the page in a browser.")] = True,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, max=1024, help="CPU threads.")] = 1,
    plugin: doors.Plugins = None,
    no_plugins: doors.NoPlugins = False,
) -> None:
    with doors.refusals():
        doors.check_names(row=row, query=query, data=data, device=device, gallery=str(gallery or ""), page=str(page))
        doors.check_names(plugin="".join(plugin or ()))
        if not query.strip():
            raise SpecError("the query is empty")
        doors.choose_plugins(plugin or (), none_installed=no_plugins)
        settings = {"device": device, "threads": threads}
        searcher = _opened(row, data, gallery, settings)
        found = searcher.ask(query, top)
        _say(found, searcher)
        html = _page(found, searcher, query)
        write_atomically(page, lambda file: file.write(html.encode()))
        out.print(f"page: {page}")
    if show:
        webbrowser.open(page.resolve().as_uri())


def _opened(row: str, data: str, gallery: Path | None, place: dict[str, Any]) -> Searcher | GivenSearcher:
    """What answers.  Raises SpecError, DataError and RecordError."""
    if re.match(f"{given.NAME}=", row) and not Path(row.partition(":")[0]).is_dir():
        if gallery is not None:
            raise SpecError("--gallery is of rows that read pixels; embeddings from files bring their own")
        request = given.parsed(row)
        from harness import searching_given  # torch takes seconds to import; bad input is told at once

        return searching_given.opened(request, data, checked_settings(place))
    if (Path(row) / "records").is_dir():
        labels = [record.label for record in Store(Path(row)).rows()] or ["ROW"]
        raise SpecError(f"{row} is a folder of results: name one of its rows, {row}:{labels[0]}")
    if pretrained.is_model(f"{PRETRAINED}={row}"):
        job, store = _pretrained(row, data or "scenes", place), None
    else:
        job, store = _stored(row, data, place)
    from harness import searching  # likewise

    return searching.opened(job, store, gallery)


def _pretrained(model: str, data: str, place: dict[str, Any]) -> Job:
    """The job of a pretrained model as a row on these data.  Raises SpecError and DataError."""
    choose_models([f"{PRETRAINED}={model}"], place["device"])
    opened, offers = sources.described(data)
    settings = checked_settings(place)
    asked = suites.asked("full", opened, only=[PRETRAINED], rows=[PRETRAINED], seeds=[0], settings=settings)
    return needs.served(asked, offers)[0].jobs[0]


def _stored(told: str, data: str, place: dict[str, Any]) -> tuple[Job, Store]:
    """The first well-ended job of a row and where its weights lie.  Raises SpecError, DataError and RecordError."""
    folder, colon, label = told.partition(":")
    store = Store(Path(folder))
    if not colon or not label or not store.folder.is_dir():
        raise SpecError(
            f"{told}: neither RESULTS:ROW with a results folder, nor a folder with a {pretrained.CONFIG}, "
            "nor owner/name of a model on the hub"
        )
    records = store.rows()
    known = list(dict.fromkeys(record.label for record in records))
    if label not in (*known, *(record.key for record in records)):
        raise SpecError(f"{folder}: no row {label!r}{nearest(label, known)}")
    job = Job.from_dict(run_of(records, label).job)
    if job.model.given:
        raise SpecError(f"{label} is from files: name them in place of {told}, as in {label}=FILE")
    if not registry.current(job.model):
        raise SpecError(f"{label} is stale: its recipe or its source has changed since, run it again")
    if not data and not sources.embedded(job.data.name, job.data.own):
        raise SpecError(f"{label} was run on {job.data.name}: say where that lies by --data")
    if job.model.pretrained:
        raise SpecError(f"{label} is a pretrained model: name its folder in place of {told}")
    settings = replace(job.settings, **place)
    return replace(job, data=replace(job.data, path=data), settings=settings), store


def _say(found: Found, searcher: Searcher | GivenSearcher) -> None:
    texts = found.texts or ("",) * len(found.ids)
    for number, (name, score, text) in enumerate(zip(found.ids, found.scores, texts, strict=True), 1):
        out.print(f"{number:>3}  {score:9.4f}  {doors.printable(name)}  {doors.printable(text)}".rstrip())
    out.print(_times(found, searcher))


def _times(found: Found, searcher: Searcher | GivenSearcher) -> str:
    stages = ", ".join(f"{stage} {ms:.3g} ms" for stage, ms in found.ms.items())
    gallery = f"; encode gallery {searcher.encode_gallery_ms:.3g} ms" if searcher.encode_gallery_ms else ""
    return f"{found.gallery} {'captions' if found.texts else 'pictures'}: {stages}{gallery}"


def _page(found: Found, searcher: Searcher | GivenSearcher, query: str) -> str:
    """The page, with pictures wherever the gallery has them."""
    from harness.report.page.found import found_page, uri

    pixels = searcher.gallery.pixels
    texts = found.texts or ("",) * len(found.ids)
    shown = [uri(pixels(name)) if pixels and not found.texts else "" for name in found.ids]
    items = [
        {"id": name, "score": f"{score:.4f}", "text": text, "picture": picture}
        for name, score, text, picture in zip(found.ids, found.scores, texts, shown, strict=True)
    ]
    asked: np.ndarray | None = None
    if pixels and query in searcher.gallery.ids:
        asked = pixels(query)
    return found_page(query, items, _times(found, searcher), asked)


class _Callable(ModuleType):
    """This module, which has the name that `from harness import search` promises a function."""

    def __call__(self, *given: Any, **choices: Any) -> Any:
        """As `harness.api.search`."""
        from harness.api import search

        return search(*given, **choices)


sys.modules[__name__].__class__ = _Callable


if __name__ == "__main__":
    sys.exit(app())
