"""Stored records -> tables, figures and a page, without running any model.

python -m harness.report results/full-scenes            writes tables/, figures/ and index.html there
python -m harness.report --check results/full-scenes    exits 1 where those are not the records'
python -m harness.report --slides results/full-scenes   and slides/, the figures as large as a slide
python -m harness.report --retrieved vsrn,vsrn+selfalign results/full-scenes       and retrieved.html, what both found
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness import doors
from harness.commands import HELP
from harness.report import outputs
from harness.report.read.described import described
from harness.report.read.groups import collect
from harness.report.tables.comparison import left_out_lines
from harness.spec.job import SpecError

app = doors.Door()
out = Console(highlight=False, soft_wrap=True, markup=False)


@app.command(help=(__doc__ or "").partition("\n")[0], context_settings=HELP)
def main(
    folder: Annotated[Path, typer.Argument(help="A results folder, such as results/full-scenes.")],
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 where anything is stale.")] = False,
    slides: Annotated[
        bool, typer.Option("--slides", help="The figures once more, 2,000 pixels wide or so: PNGs in FOLDER/slides.")
    ] = False,
    retrieved: Annotated[
        str,
        typer.Option(help="Two rows, comma-separated: a page of what both found, such as a host and its SelfAlign."),
    ] = "",
    queries: Annotated[str, typer.Option(help="Queries that page shows, by number, such as t2i:17,i2t:3.")] = "",
    data: Annotated[str, typer.Option(help="Folder of the data, for captions and boxes; not needed for scenes.")] = "",
    images: Annotated[
        Path | None, typer.Option(help="Folder or tar of pictures to show on that page; none is read without it.")
    ] = None,
    captions: Annotated[
        Path | None, typer.Option(help="Caption file that tells a picture's file, where ids are no file names.")
    ] = None,
    no_plugins: doors.NoPlugins = False,
) -> None:
    gc.set_threshold(100_000, 20, 50)  # figures are many objects that live on; to search them for waste is in vain
    with doors.refusals():
        doors.check_names(
            folder=str(folder),
            retrieved=retrieved,
            queries=queries,
            data=data,
            images=str(images or ""),
            captions=str(captions or ""),
        )
        doors.choose_plugins(none_installed=no_plugins)
        if not retrieved and (queries or data or images or captions):
            raise SpecError("--queries, --data, --images and --captions belong to --retrieved, which is not given")
        if retrieved and check:
            raise SpecError("--check writes nothing; leave --retrieved out")
        if slides and check:
            raise SpecError("--check writes nothing; leave --slides out")
        if retrieved:  # first: the folder's page links it
            from harness.report.page import retrieved as page  # pictures and templates, which no table needs

            written = page.write(folder, retrieved, page.Sources(data, images, captions), queries)
            out.print(f"what was retrieved: {folder / written.name}")
        fresh = _check(folder) if check else _write(folder, slides)
    if not fresh:
        raise typer.Exit(1)


def _write(folder: Path, slides: bool) -> bool:
    groups = collect(folder)
    made = outputs.write(folder, groups)
    out.print(f"{len(made.tables)} tables in {folder / 'tables'}")
    if len(groups) > 1:
        out.print(f"records of {len(groups)} different settings, which never share a table:")
    for place, group in enumerate(groups, start=1):
        if group.differs:
            out.print(f"  comparison-{place}: {described(group.differs)}")
        for line in left_out_lines(group):
            out.print(line)
    out.print(f"{len(made.figures)} figures in {folder / 'figures'}")
    for line in made.absent:
        out.print(line)
    out.print(f"page: {folder / 'index.html'}")
    if slides:
        names = outputs.write_slides(folder, groups)
        out.print(f"{len(names)} figures for slides in {folder / outputs.SLIDES}")
    return True


def _check(folder: Path) -> bool:
    found = outputs.check(folder)
    for kind, names in (("stale", found.stale), ("missing", found.missing), ("surplus", found.surplus)):
        for name in names:
            out.print(f"{kind}: {name}")
    return not (found.stale or found.missing or found.surplus)


if __name__ == "__main__":
    sys.exit(app())
